"""docs/ tells the truth: its Python runs as written, and its tables name every field."""

import ast
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.artifacts import IndexFolder
from helpers.index.store import StoredIndex
from helpers.index.table_format import write_table
from helpers.recognise.query import Answer, Card, Match, Seconds
from tests.conftest import ROOT, Built, Share, run_well
from tests.test_export_table import NEEDS
from tests.test_query import picture_of

PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = PYTHON.findall(PAGE)
OTHER_TOOLS = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8")
RECIPES = {  # by heading
    part.partition("\n")[0]: block for part in OTHER_TOOLS.split("\n## ")[1:] for block in PYTHON.findall(part)
}


def test_the_blocks_run_in_order(reading: Built, tmp_path: Path) -> None:
    assert len(BLOCKS) == PAGE.count("```") / 2 >= 9
    (tmp_path / "index_out").symlink_to(reading.index)
    (tmp_path / "frames").mkdir()
    shutil.copy(picture_of(reading, 0), tmp_path / "photo.jpg")
    for number in range(2):
        shutil.copy(picture_of(reading, 0), tmp_path / "frames" / f"{number}.jpg")
    (tmp_path / "blocks.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n" + "\n".join(BLOCKS))
    name = reading.records()[0]["name"]
    lines = run_well(tmp_path / "blocks.py", cwd=tmp_path).splitlines()
    assert lines[0].startswith(name)
    assert any(line.startswith(name) and line.endswith(" 0") for line in lines)  # the vote
    assert "no such file" in lines
    assert lines[-1].startswith(f"13 512 {name}")


@pytest.mark.parametrize("record", [Answer, Card, Match])
def test_each_table_names_the_fields_of_its_record(record: type) -> None:
    table = PAGE.partition(f"| `{record.__name__}` | |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    properties = [name for name, value in vars(record).items() if isinstance(value, property)]
    assert named == [*(field.name for field in dataclasses.fields(record)), *properties]


def test_the_seconds_are_named() -> None:
    assert ", ".join(f"`{field.name}`" for field in dataclasses.fields(Seconds)) in PAGE


FIRST = "A query vector"  # makes what the others read


@pytest.fixture(scope="session")
def asked(recognised: Built, share: Share) -> Path:
    """A folder with an index, a picture of one of its cards, its vector by the page, and query_index.py's answer."""

    def fill(folder: Path) -> None:
        shutil.copytree(recognised.index, folder / "index_out")
        Image.open(picture_of(recognised, 5)).convert("RGB").resize((200, 280)).save(folder / "photo.jpg", quality=50)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            exec(RECIPES[FIRST], {})
        words = ("photo.jpg", "--json", "--detect", "off", "--read", "off")
        (folder / "answer.json").write_text(run_well("query_index.py", *words, cwd=folder))

    return share("other_tools", fill)


def packages(block: str) -> set[str]:
    """The packages that a block of Python imports."""
    nodes = list(ast.walk(ast.parse(block)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("tool", [name for name in RECIPES if name != FIRST])
def test_each_tool_finds_the_card_that_query_index_finds(
    tool: str, asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    form = {"safetensors": "safetensors", "LanceDB": "lance"}.get(tool, "parquet")
    for package in packages(RECIPES[tool]) | set(NEEDS[form]):
        pytest.importorskip(package)
    folder = IndexFolder(asked / "index_out")
    write_table(StoredIndex(folder), folder.table(form), form)
    monkeypatch.chdir(asked)
    exec(RECIPES[tool], {})
    lines = capsys.readouterr().out.splitlines()
    best = json.loads((asked / "answer.json").read_text())["cards"][0]["matches"][0]
    stored = StoredIndex(folder)
    whitening = stored.whitening()
    assert whitening is not None
    score = (whitening(stored.vectors()) @ np.load("query.npy")).max()
    assert 0.5 < score < 0.99
    assert lines[0] == f"{score:.3f} {best['name']} [{best['set']} {best['collector_number']}]"
    assert len(lines) == 3
