"""docs/ tells the truth: its Python runs as written, and its tables name every field."""

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.recognise.query import Answer, Card, Match, Seconds
from tests.conftest import ROOT, Built
from tests.test_query import picture_of

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_blocks_run_in_order(reading: Built, tmp_path: Path) -> None:
    assert len(BLOCKS) == PAGE.count("```") / 2 >= 9
    (tmp_path / "index_out").symlink_to(reading.index)
    (tmp_path / "frames").mkdir()
    shutil.copy(picture_of(reading, 0), tmp_path / "photo.jpg")
    for number in range(2):
        shutil.copy(picture_of(reading, 0), tmp_path / "frames" / f"{number}.jpg")
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n" + "\n".join(BLOCKS)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name = reading.records()[0]["name"]
    lines = done.stdout.splitlines()
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
