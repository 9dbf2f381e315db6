"""Photographs of a table's cards: what is on them is written down, and the index recognises them cut out."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import Built, run_script, run_well
from tests.pictures import encoded, write


def truth(folder: Path) -> list[dict[str, str]]:
    with open(folder / "photos.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def photos(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    run_well("scripts/take_photographs.py", "--table", drawn / "cards.jsonl", "--out", folder, "--count", 10)
    return folder


def test_each_photograph_is_told_with_its_card_and_corners(photos: Path, drawn: Path) -> None:
    rows = truth(photos)
    listed = {card["id"]: card for card in map(json.loads, (drawn / "cards.jsonl").read_text("utf-8").splitlines())}
    assert len(rows) == len({row["reference"] for row in rows}) == 10
    for row in rows:
        card = listed[row["scryfall_id"]]
        assert row["name"] in (card["name"], *(face["name"] for face in card.get("card_faces", [])))
        assert (row["set"], row["collector_number"]) == (card["set"], card["collector_number"])
        quad = [float(value) for value in row["quad_tl_tr_br_bl"].split(",")]
        assert len(quad) == 8
        with Image.open(photos / row["photo"]) as photo, Image.open(photos / row["crop"]) as crop:
            assert (photo.size, crop.size, photo.format) == ((720, 960), (488, 680), "JPEG")
            assert max(quad[::2]) <= 720
            assert max(quad[1::2]) <= 960


def test_cut_out_they_are_recognised(photos: Path, recognised: Built) -> None:
    rows = truth(photos)
    done = run_script("query_index.py", *(photos / row["crop"] for row in rows), "--index", recognised.index, "--json")
    answers: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    named = [answer["cards"][0]["matches"][0]["name"] for answer in answers]
    assert named == [row["name"] for row in rows]


def test_the_same_seed_takes_the_same_ones(photos: Path, drawn: Path, tmp_path: Path) -> None:
    table = ("--table", drawn / "cards.jsonl", "--count", 10)
    run_well("scripts/take_photographs.py", *table, "--out", tmp_path / "again")
    run_well("scripts/take_photographs.py", *table, "--out", tmp_path / "other", "--seed", 2)
    assert truth(tmp_path / "again") == truth(photos) != truth(tmp_path / "other")
    assert (tmp_path / "again" / "000.jpg").read_bytes() == (photos / "000.jpg").read_bytes()


def test_a_csv_of_one_s_own_pictures_will_do(many: Path, tmp_path: Path) -> None:
    run_well("scripts/take_photographs.py", "--table", many, "--out", tmp_path, "--count", 2, "--quality", 20)
    assert len(truth(tmp_path)) == 2


def test_what_can_not_be_photographed_is_named(drawn: Path, tmp_path: Path) -> None:
    done = run_script("scripts/take_photographs.py", "--table", drawn / "cards.jsonl", "--count", 99, "--out", tmp_path)
    assert (done.returncode, "has 13 pictures" in done.stderr) == (1, True)
    write(tmp_path / "a.jpg", encoded()[:300])
    write(tmp_path / "t.csv", b"file,name,set,collector_number,scryfall_id\na.jpg,A,s,1,id-1\n")
    done = run_script("scripts/take_photographs.py", "--table", tmp_path / "t.csv", "--count", 1, "--out", tmp_path)
    assert (done.returncode, "a picture can't be photographed" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
