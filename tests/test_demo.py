"""The demo, small: what it says is so, and its page shows what there is."""

import csv
import json
import re
from html import unescape
from pathlib import Path

import pytest
from demo import missing_on_purpose

from tests.conftest import ROOT, Built, run_well

CARDS, PHOTOGRAPHS = 15, 3
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("demo") / "a demo"
    words = ("--count", CARDS, "--photographs", PHOTOGRAPHS, "--minutes", 0.02)
    return run_well("scripts/demo.py", "--out", folder, *words), folder


def test_it_ends_with_how_many_were_right_how_long_it_took_what_is_where_and_what_is_next(
    shown: tuple[str, Path],
) -> None:
    said, folder = shown
    end = said[said.index("photographs queried") :]
    assert f"  {PHOTOGRAPHS} of {PHOTOGRAPHS} named in the whole photograph\n" in end
    for stage in ("draw the cards", "download", "embed and index", "export", "photograph", "total"):
        assert re.search(rf"^  {stage} +\d+\.\d$", end, re.MULTILINE)
    written = end.partition("Written to")[2].partition("Next")[0]
    for name in re.findall(r"^  (\S+) +[\d.]+ [KMG]?B  ", written, re.MULTILINE):
        assert (folder / name).exists()
    assert len(re.findall(r"^  \S+\.?\w* ", written, re.MULTILINE)) == len(list(folder.iterdir()))
    assert "query_index.py PICTURE" in end
    assert (folder / "index_out" / "evaluation.html").is_file()
    assert re.search(r"^Named first among \d+ faces: \d+/\d+ .* with corners up to 6 % off$", end, re.MULTILINE)
    assert said.endswith("]\n")  # of the headline's last share
    assert "build_mtg_faiss.py --limit 200" in end


def test_it_says_that_what_is_missing_is_so_on_purpose(built: Built, shown: tuple[str, Path], tmp_path: Path) -> None:
    assert "on purpose" not in shown[0]  # none of the first 15 cards
    manifest = built.manifest()
    manifest["statistics"] |= {"missing_from_cache": 2, "total_records": 312}
    (tmp_path / "build_manifest.json").write_text(json.dumps(manifest))
    assert "2 of 312 are missing on purpose" in missing_on_purpose(tmp_path)


def test_the_commands_it_shows_are_those_of_the_readme(shown: tuple[str, Path]) -> None:
    commands = re.findall(r"^\$ \S+ (\S+\.py)", shown[0], re.MULTILINE)
    assert commands[:2] == ["scripts/draw_cards.py", "scripts/standin_scryfall.py"]
    assert {"download_images.py", "build_embeddings.py", "export_for_browser.py", "query_index.py"} <= set(commands)
    assert all((ROOT / command).is_file() for command in commands)


def test_its_page_shows_each_photograph_with_its_outline_beside_its_matches(shown: tuple[str, Path]) -> None:
    _, folder = shown
    page = (folder / "report.html").read_text(encoding="utf-8")
    pictures = [unescape(name) for name in re.findall(r'<img src="([^"]+)"', page)]
    assert len(pictures) == PHOTOGRAPHS * (1 + 4)
    assert all((folder / name).is_file() for name in pictures)
    with open(folder / "photos" / "photos.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert f"photos/{row['photo']}" in pictures
            assert row["name"] in unescape(page)
    assert f"{PHOTOGRAPHS} of {PHOTOGRAPHS} named in the whole photograph." in page
    assert page.count('<polygon points="') <= PHOTOGRAPHS
    assert len(re.findall('<img [^>]* class="right">', page)) == PHOTOGRAPHS
    assert 'class="wrong"' not in page
