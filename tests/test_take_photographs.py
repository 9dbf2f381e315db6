"""Photographs of a table's cards: what is on them is written down, and the index recognises them cut out."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import Built, run_script, run_well
from tests.pictures import encoded, write

HEADER = "photo,crop,kind,name,set,collector_number,scryfall_id,reference,quad_tl_tr_br_bl,visible,source"


def truth(folder: Path) -> list[dict[str, str]]:
    with open(folder / "photos.csv", newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert ",".join(reader.fieldnames or []) == HEADER
        return list(reader)


def corners(row: dict[str, str]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (corner.split(",") for corner in row["quad_tl_tr_br_bl"].split(" "))]


@pytest.fixture(scope="module")
def photos(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    run_well("scripts/take_photographs.py", "--table", drawn / "cards.jsonl", "--out", folder, "--count", 5)
    return folder


def test_each_photograph_is_told_with_its_card_and_corners(photos: Path, drawn: Path) -> None:
    rows = truth(photos)
    listed = {card["id"]: card for card in map(json.loads, (drawn / "cards.jsonl").read_text("utf-8").splitlines())}
    assert len(rows) == len({row["reference"] for row in rows}) == 5
    for row in rows:
        card = listed[row["scryfall_id"]]
        assert row["name"] in (card["name"], *(face["name"] for face in card.get("card_faces", [])))
        assert (row["set"], row["collector_number"]) == (card["set"], card["collector_number"])
        assert (row["kind"], row["visible"], row["source"]) == ("one card", "1.00", "drawn")
        quad = corners(row)
        assert len(quad) == 4
        with Image.open(photos / row["photo"]) as photo, Image.open(photos / row["crop"]) as crop:
            assert (photo.size, crop.size, photo.format) == ((720, 960), (488, 680), "JPEG")
            assert all(0 <= x <= 720 and 0 <= y <= 960 for x, y in quad)


def test_what_is_written_down_has_the_form_of_the_real_photographs(photos: Path, real: Path) -> None:
    with open(real / "photos.csv", newline="", encoding="utf-8") as file:
        theirs = list(csv.DictReader(file))
    ours, only_real = truth(photos), {"printing_match"}
    assert [name for name in theirs[0] if name not in only_real] == [name for name in ours[0] if name in theirs[0]]
    form = re.compile(r"-?\d+\.\d,-?\d+\.\d( -?\d+\.\d,-?\d+\.\d){3}")
    for rows in (theirs, ours):
        assert all(form.fullmatch(row["quad_tl_tr_br_bl"]) for row in rows if row["quad_tl_tr_br_bl"])


@pytest.mark.slow
def test_cut_out_they_are_recognised(photos: Path, recognised: Built) -> None:
    rows = truth(photos)
    done = run_script("query_index.py", *(photos / row["crop"] for row in rows), "--index", recognised.index, "--json")
    answers: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    named = [answer["cards"][0]["matches"][0]["name"] for answer in answers]
    assert named == [row["name"] for row in rows]


@pytest.mark.slow
def test_the_same_seed_takes_the_same_ones(photos: Path, drawn: Path, tmp_path: Path) -> None:
    table = ("--table", drawn / "cards.jsonl", "--count", 5)
    run_well("scripts/take_photographs.py", *table, "--out", tmp_path / "again")
    run_well("scripts/take_photographs.py", *table, "--out", tmp_path / "other", "--seed", 2)
    assert truth(tmp_path / "again") == truth(photos) != truth(tmp_path / "other")
    assert (tmp_path / "again" / "000.jpg").read_bytes() == (photos / "000.jpg").read_bytes()


@pytest.mark.slow
def test_several_cards_lie_on_a_table_and_on_some_none(drawn: Path, tmp_path: Path) -> None:
    words = ("--table", drawn / "cards.jsonl", "--count", 5, "--cards-per-photo", "0-4", "--rotation", 180)
    said = run_well("scripts/take_photographs.py", *words, "--out", tmp_path / "one", "--seed", 12)
    rows = truth(tmp_path / "one")
    assert said.startswith("5 photographs are in ")
    by_photo = {f"{i:03}.jpg": [row for row in rows if row["photo"] == f"{i:03}.jpg"] for i in range(5)}
    assert sum(map(len, by_photo.values())) == len(rows)
    assert {row["kind"] for row in rows} == {"no card", "one card", "table scene"}
    named = [row["reference"] for row in rows if row["reference"]]
    assert len(named) == len(set(named))
    for photo, of_photo in by_photo.items():
        number, kind = photo.removesuffix(".jpg"), of_photo[0]["kind"]
        with Image.open(tmp_path / "one" / photo) as image:
            assert image.size == ((720, 960) if kind == "one card" else (1600, 1200))
        assert {row["source"] for row in of_photo} == {"drawn"}
        if kind == "no card":
            (row,) = of_photo
            assert {name for name, value in row.items() if value} == {"photo", "kind", "source"}
            assert not list((tmp_path / "one").glob(f"{number}_*"))
            continue
        several = [f"{number}_{k}_cut.jpg" for k in range(len(of_photo))]
        assert [row["crop"] for row in of_photo] == ([f"{number}_cut.jpg"] if kind == "one card" else several)
        for row in of_photo:
            assert row["kind"] == kind
            assert len(corners(row)) == 4
            assert re.fullmatch(r"0\.\d\d|1\.00", row["visible"])
            assert (tmp_path / "one" / row["crop"]).is_file()
    run_well("scripts/take_photographs.py", *words, "--out", tmp_path / "again", "--seed", 12)
    assert {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()
    }


def test_photographs_may_have_more_pixels(drawn: Path, tmp_path: Path) -> None:
    run_well(
        "scripts/take_photographs.py", "--table", drawn / "cards.jsonl", "--out", tmp_path, "--count", 1, "--scale", 1.5
    )
    (row,) = truth(tmp_path)
    with Image.open(tmp_path / row["photo"]) as photo:
        assert photo.size == (1080, 1440)
    assert max(y for _, y in corners(row)) > 1000


def test_cards_may_be_small(drawn: Path, tmp_path: Path) -> None:
    words = ("--table", drawn / "cards.jsonl", "--count", 6, "--min-fill", 0.2, "--fill", 0.4)
    run_well("scripts/take_photographs.py", *words, "--out", tmp_path)
    for row in truth(tmp_path):
        xs, ys = zip(*corners(row), strict=True)
        assert 0.199 < max((max(xs) - min(xs)) / 720, (max(ys) - min(ys)) / 960) < 0.401


def test_the_smallest_share_is_not_above_the_largest(tmp_path: Path) -> None:
    done = run_script("scripts/take_photographs.py", "--min-fill", 0.5, "--fill", 0.4, "--out", tmp_path / "none")
    assert (done.returncode, (tmp_path / "none").exists()) == (1, False)
    assert done.stderr == (
        "ERROR: Invalid Arguments: --min-fill must be <= --fill\n"
        "  Details: received --min-fill 0.5 --fill 0.4\n"
        "  Suggestion: use --min-fill 0.4 or lower\n"
    )


def test_a_csv_of_one_s_own_pictures_will_do(many: Path, tmp_path: Path) -> None:
    run_well("scripts/take_photographs.py", "--table", many, "--out", tmp_path, "--count", 2, "--quality", 20)
    assert len(truth(tmp_path)) == 2


def test_what_can_not_be_photographed_is_named(drawn: Path, tmp_path: Path) -> None:
    done = run_script("scripts/take_photographs.py", "--table", drawn / "cards.jsonl", "--count", 99, "--out", tmp_path)
    assert (done.returncode, "has 13 pictures" in done.stderr) == (1, True)
    several = ("--count", 5, "--cards-per-photo", 3)
    done = run_script("scripts/take_photographs.py", "--table", drawn / "cards.jsonl", *several, "--out", tmp_path)
    assert (done.returncode, "for 15 cards" in done.stderr, "use --count 4 or less" in done.stderr) == (1, True, True)
    write(tmp_path / "a.jpg", encoded()[:300])
    write(tmp_path / "t.csv", b"file,name,set,collector_number,scryfall_id\na.jpg,A,s,1,id-1\n")
    done = run_script("scripts/take_photographs.py", "--table", tmp_path / "t.csv", "--count", 1, "--out", tmp_path)
    assert (done.returncode, "a picture can't be photographed" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
