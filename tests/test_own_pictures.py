"""A folder of one's own pictures: no server, no list, nothing invented, and built like any cache."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Built, run_script
from tests.pictures import encoded, write

NAMES = ["a/Island", "b c/Ætherling #1 50%", "Sol Ring"]


def own(folder: Path) -> Path:
    """A folder with the pictures of NAMES, and what is none."""
    for inner in ("a", "b c", ".thumbs"):
        (folder / inner).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        write(folder / f"{name}.JPEG", encoded(seed=number))
    write(folder / "a/._Island.JPEG", b"Mac OS X")  # beside each file, on exFAT and SMB
    write(folder / ".thumbs/Island.jpg", encoded(seed=9))
    write(folder / "notes.txt", b"words")
    return folder


def records(index: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (index / "mtg_meta.jsonl").read_text().splitlines()]


def test_names_come_from_files_and_a_second_build_embeds_what_is_new(tmp_path: Path, tiny: Path) -> None:
    pictures, out = own(tmp_path / "my cards"), tmp_path / "out"
    write(pictures / "broken.png", b"<html>")
    words = ("--pictures", pictures, "--out", out, "--model", f"local-dir:{tiny}")
    done = run_script("build_embeddings.py", *words)
    assert done.returncode == 0, done.stderr
    assert "Total faces: 4\n  missing from the cache: 0\n  validation failures: 1\n  embedded: 3 (3 now" in done.stdout
    assert "left out broken.png (broken)" in done.stderr
    found = records(out)
    assert [record["name"] for record in found] == ["Sol Ring", "Island", "Ætherling #1 50%"]
    for record in found:
        assert {record[name] for name in ("scryfall_id", "set", "collector_number")} == {""}
        assert {record[name] for name in ("oracle_id", "illustration_id", "lang", "scryfall_uri")} == {None}
    assert found[2]["image_url"] == found[2]["card_url"] == "b%20c/%C3%86therling%20%231%2050%25.JPEG"

    page = tmp_path / "page.html"
    asked = (
        pictures / f"{NAMES[1]}.JPEG",
        "--index",
        out,
        "--json",
        "--detect",
        "off",
        "--read",
        "off",
        "--html",
        page,
    )
    done = run_script("query_index.py", *asked, cwd=tmp_path)
    assert page.read_text().count("data:image") == 2 + 3  # the photograph, the cut-out, its matches
    (card,) = json.loads(done.stdout)["cards"]
    assert card["matches"][0]["name"] == "Ætherling #1 50%"
    write(pictures / "new.webp", encoded("WEBP", seed=7))
    done = run_script("build_embeddings.py", "--out", out)  # the rest as before
    assert f"As the index in {out}: --pictures" in done.stderr
    assert re.search(r"embedded: 4 \(1 now.*, 3 reused", done.stdout)
    assert "Since the last build: 1 new, 0 changed, 0 gone (no set: +1)" in done.stdout


def test_a_table_names_pictures_and_says_what_it_knows(tmp_path: Path, tiny: Path) -> None:
    pictures, out = own(tmp_path / "cards"), tmp_path / "out"
    table = tmp_path / "cards.csv"
    rows = [
        "\ufefffile,name,set,collector_number,colors,note",
        f"{NAMES[1]}.JPEG,Ætherling,dgm,,U W,mine",
        ",,,,,",
        f"{NAMES[2]}.JPEG,Sol Ring,,1,",
        f"{NAMES[2]}.JPEG,Sol Ring,,1,",
        "lost.jpg,Black Lotus,lea,232,,",
    ]
    table.write_text("\n".join(rows), encoding="utf-8")
    words = ("--pictures", pictures, "--table", table, "--out", out, "--model", f"local-dir:{tiny}", "--export")
    done = run_script("build_mtg_faiss.py", *words)
    assert done.returncode == 0, done.stderr
    assert "3 pictures; left out: 1 repeated" in done.stderr
    assert "missing from the cache: 1" in done.stdout
    first, second = records(out)
    assert [first[name] for name in ("name", "set", "collector_number", "colors")] == [
        "Ætherling",
        "dgm",
        "",
        ["U", "W"],
    ]
    assert [second[name] for name in ("name", "set", "collector_number", "colors")] == ["Sol Ring", "", "1", []]
    assert len(json.loads((out / "meta.json").read_text())["records"]) == 2


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["file", "a.jpg"], "has no column name"),
        (["file,name", "a.jpg,A", ",B"], "line 3: it has no file"),
        (["file,name", "a.jpg,"], "line 2: it has no name"),
        (["file,name", "/etc/a.jpg,A"], "line 2: /etc/a.jpg is not a path in the folder"),
        (["file,name", "a/../../b.jpg,A"], "line 2: a/../../b.jpg is not a path in the folder"),
        (["file,name", "a.jpg,A,lea"], "line 2: it has more fields than columns"),
    ],
)
def test_a_bad_table_is_named_with_its_line(rows: list[str], reason: str, tmp_path: Path, tiny: Path) -> None:
    table = write(tmp_path / "cards.csv", "\n".join(rows).encode())
    words = ("--pictures", tmp_path, "--table", table, "--out", tmp_path / "out", "--model", f"local-dir:{tiny}")
    done = run_script("build_embeddings.py", *words)
    assert done.returncode == 1
    assert reason in done.stderr.replace(str(table), "cards.csv")
    assert "ERROR: Configuration Error: the table of pictures can't be used" in done.stderr


@pytest.mark.parametrize("script", ["build_embeddings.py", "build_mtg_faiss.py"])
def test_pictures_that_are_not_there_end_the_run(script: str, tmp_path: Path, built: Built) -> None:
    words = ("--out", tmp_path / "out", "--model", f"local-dir:{built.model}", "--pictures")
    done = run_script(script, *words, tmp_path / "nowhere")
    assert (done.returncode, f"no directory {tmp_path / 'nowhere'}" in done.stderr) == (3, True)
    (tmp_path / "empty").mkdir()
    done = run_script(script, *words, tmp_path / "empty")
    assert (done.returncode, "No valid images to embed" in done.stderr) == (2, True)
    done = run_script(script, *words, built.cache, "--cache", built.cache, "--set", "lea")
    assert done.returncode == 1
    assert "--pictures and --cache are mutually exclusive" in done.stderr


def test_an_index_of_own_pictures_gives_way_to_a_cache_that_is_named(tmp_path: Path, built: Built) -> None:
    out = tmp_path / "out"
    words = ("--out", out, "--model", f"local-dir:{built.model}", "--offline")
    assert run_script("build_embeddings.py", "--pictures", own(tmp_path / "own"), *words[:4]).returncode == 0
    shutil.rmtree(tmp_path / "own")
    assert run_script("build_embeddings.py", "--out", out).returncode == 3
    done = run_script("build_embeddings.py", "--cache", built.cache, *words)
    assert (done.returncode, len(records(out))) == (0, len(built.records()))
