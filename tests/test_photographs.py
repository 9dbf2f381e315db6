"""evaluate_index.py --photos: known answers on pictures of the index, then photographs, drawn and real."""

import csv
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_index import parse_args
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image

from helpers.artifacts import IndexFolder
from helpers.cards.image_cache import ImageCache
from helpers.errors import PipelineError
from helpers.evaluate import stage
from helpers.evaluate.findings import Findings
from helpers.evaluate.labelled import TURNED, read_photos, turned, with_corner_error
from helpers.evaluate.report import report
from helpers.evaluate.request import SECTIONS, Options, Request
from helpers.index.store import StoredIndex
from helpers.recognise.camera import scene
from helpers.recognise.query import embedder_of, open_ranker
from helpers.recognise.ranking import Ranker
from tests.conftest import Built, run_script, run_well
from tests.test_verifying import blurred

QUAD = "10,20 60,20 60,90 10,90"
ALL_OF_IT = "0,0 488,0 488,680 0,680"


def evaluate(built: Built, table: Path, *more: object) -> tuple[str, list[dict[str, Any]]]:
    out = table.parent / "out"
    words = ("--photos", table, "--index", built.index, "--sections", "photographs", "--out", out)
    said = run_well("scripts/evaluate_index.py", *words, *more)
    found = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert [name for name in ("search", "camera", "baselines", "strangers", "size", "reading") if found[name]] == []
    return said, found["photographs"]["answers"]


def listed(folder: Path, rows: list[dict[str, object]]) -> Path:
    with open(folder / "photos.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, sorted({key for row in rows for key in row}))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "photos.csv"


def line_of(said: str, start: str) -> list[list[str]]:
    """The cells of the lines that begin with `start`."""
    return [re.split(r"  +", line) for line in said.splitlines() if line.startswith(f"{start}  ")]


@pytest.mark.slow
def test_every_label_is_counted_where_it_belongs(recognised: Built, tmp_path: Path) -> None:
    records = recognised.records()
    pictures = [ImageCache(recognised.cache).path_for(record["image_url"]) for record in records]
    names = [record["name"] for record in records]
    faces = [record["face_id"] for record in records]
    rows: list[dict[str, object]] = [
        {"photo": pictures[i], "name": names[i], "source": "shelf", "face_id": faces[i] if i < 3 else ""}
        for i in range(4)
    ]
    rows += [
        # a wrong label: never recognised
        {"photo": pictures[4], "name": names[9], "source": "drawer", "quad_tl_tr_br_bl": ALL_OF_IT},
        {"photo": pictures[5], "name": "No Such Card", "source": "drawer"},
        {"photo": pictures[6], "name": "", "source": "drawer"},  # no card, it says, and yet there is one
        {"photo": pictures[7], "name": names[7], "visible": 0.3, "source": "drawer"},
    ]
    said, asked = evaluate(recognised, listed(tmp_path, rows), "--strangers")
    assert said.startswith("Index of 13 faces, ")
    assert "\nModel local-dir:cards, " in said
    assert "; hash weight 2; " in said
    assert "PHOTOGRAPHS: as they are, among 13 rows; " in said
    counted, lost, _ = line_of(said, "all")
    assert counted[1:5] == ["5", "5", "1/1 100.0 % [20.7, 100.0]", "1.000"]
    assert counted[5].startswith("4/5 80.0 % [")
    assert lost[1:3] == ["0", "0"]
    assert sum(map(int, lost[3:5])) == 1  # among 13 faces some region may rank any name first
    assert line_of(said, "shelf")[0][5].startswith("4/4 100.0 % [51.0, 100.0]")
    assert line_of(said, "no card")[0][1].startswith("1/1 ")
    assert line_of(said, "unknown cards")[0][1].startswith("1/1 ")
    assert line_of(said, "known cards, masked")[0][1].startswith("1/6 ")  # the one labelled wrong
    assert [one["kind"] for one in asked] == ["one card"] * 5 + ["unknown cards", "no card", "one card"]
    assert [label["lost"] for one in asked for label in one["scored"]][:4] == [None] * 4
    assert [label["printing"] for one in asked for label in one["scored"]][:4] == [True] * 3 + [None]
    assert re.search(r"^shelf .*  3/3 100.0 % \[\S+ \S+\]  3/3 ", said, re.MULTILINE)
    page = unescape((tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8"))
    assert "What was missed on photographs: 3 of 8 pictures" in page
    assert f"{names[9]}, lost: " in page


@pytest.mark.slow
def test_drawn_photographs_are_found_whichever_way_up_and_cut_out(
    recognised: Built, drawn: Path, tmp_path: Path
) -> None:
    words = ("--table", drawn / "cards.jsonl", "--out", tmp_path, "--count", 5, "--cards-per-photo", "0-3")
    run_well("scripts/take_photographs.py", *words, "--fill", 0.8, "--min-fill", 0.7)
    with open(tmp_path / "photos.csv", newline="", encoding="utf-8") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    labels = sum(map(bool, names))
    assert 3 < labels < len(names)
    asking = ("--turn", "all", "--min-visible", 0.5, "--read", "off")
    more = (*asking, "--strangers", "--crops", "--corner-error", "0,3", "--seeds", 2)
    said, asked = evaluate(recognised, tmp_path / "photos.csv", *more)
    assert len(asked) == 5 * 4 + labels * (1 + 2)
    assert [title for title in said.splitlines() if title.isupper()] == [
        *("WHOLE PHOTOGRAPHS", "CUT OUT, CORNERS OFF BY 0 %", "CUT OUT, CORNERS OFF BY 3 %")
    ]
    whole = [label for one in asked if one["way"] == "whole photographs" for label in one["scored"]]
    assert len(whole) == labels * 4
    assert np.mean([label["rank"] == 1 for label in whole]) > 0.8
    assert np.mean([label["overlap"] >= 0.8 for label in whole]) > 0.8
    counts = [cells[1:3] for cells in line_of(said, "turned by 90")]
    assert counts[0] == [str(len({one["photo"] for one in asked if one["scored"]})), str(labels)]
    for one in asked:  # outlines are in the photograph as it lies on the disk, whichever way it was asked
        for label in one["scored"]:
            if label["rank"] == 1 and one["cards"][label["card"]]["quad"]:
                apart = np.array(label["quad"]) - np.array(one["cards"][label["card"]]["quad"])
                assert np.abs(apart).max() < 150  # of a covered card a corner is a guess; another turn is far off
    assert "regions embedded" in said


@pytest.mark.slow
def test_real_photographs(real: Path, real_built: Built, tmp_path: Path) -> None:
    rows = (real / "photos.csv").read_text(encoding="utf-8").splitlines()
    few = [line.replace("photos/", f"{real}/photos/").replace("crops/", f"{real}/crops/") for line in rows[1:6]]
    (tmp_path / "photos.csv").write_text("\n".join([rows[0], *few]), encoding="utf-8")
    said, asked = evaluate(real_built, tmp_path / "photos.csv", "--crops")
    assert len(asked) == 10
    found = line_of(said, "all")[0]
    assert found[1:4] == ["5", "5", "5/5 100.0 % [56.6, 100.0]"]
    assert int(found[5].partition("/")[0]) >= 4


def test_cards_that_are_not_sure_are_compared_unless_told_not_to_or_without_pictures(
    recognised: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = recognised.records()[1]
    blurred(ImageCache(recognised.cache).path_for(record["image_url"])).save(tmp_path / "blurred.png")
    photos = tuple(read_photos(listed(tmp_path, [{"photo": "blurred.png", "name": record["name"]}])))
    embedder = embedder_of(StoredIndex(IndexFolder(recognised.index)), "cpu")
    monkeypatch.setattr(stage, "embedder_of", lambda *_: embedder)
    monkeypatch.setattr(stage, "open_ranker", doubting)

    def asked(cache: Path | None, verify: str) -> Findings:
        options = Options(read="off", verify=verify)
        only = ("photographs",)
        return stage.evaluate(
            Request(recognised.index, cache, 1, 0, "cpu", sections=only, photos=photos, options=options)
        )

    compared = asked(None, "auto")
    assert sure_of(compared) == [True]
    assert compared.conditions.left_out == ()
    assert re.search(r"^verify +\d", report(compared), re.MULTILINE)
    assert sure_of(asked(None, "off")) == [False]
    without = asked(tmp_path / "none", "auto")
    assert sure_of(without) == [False]
    assert without.conditions.left_out == (f"comparing photographs with pictures: no directory {tmp_path / 'none'}",)


def doubting(*words: Any) -> Ranker:
    """A ranker that is sure of nothing that it did not compare."""
    ranker = open_ranker(*words)
    ranker.settings = replace(ranker.settings, sure_above=3.0)
    return ranker


def sure_of(found: Findings) -> list[bool]:
    assert found.photographs
    return [card.sure for one in found.photographs.answers for card in one.cards]


def test_what_can_not_be_read_is_named(recognised: Built, tmp_path: Path) -> None:
    for row, words in (
        ({"photo": "none.jpg", "name": "Ox"}, "none.jpg: no such file"),
        ({"photo": "none.jpg", "name": "Ox", "quad_tl_tr_br_bl": "1,2 3,4"}, "line 2: not four corners x,y: 1,2 3,4"),
        ({"photo": "none.jpg", "name": "Ox", "visible": "half"}, "line 2: could not convert string to float: 'half'"),
        ({"photo": "none.jpg"}, "has no column name"),
    ):
        table = listed(tmp_path, [row])  # type: ignore[list-item]
        done = run_script("scripts/evaluate_index.py", "--photos", table, "--index", recognised.index)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert "ERROR: Validation Error: " in done.stderr
    with pytest.raises(PipelineError, match="can't be read"):
        read_photos(tmp_path / "no.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,photo\nOx\n", "line 2: it names no photograph"),
        (
            'photo,name,quad_tl_tr_br_bl\na.jpg,Ox,"0,0 9,0 9,nan 0,9"\n',
            "line 2: not four corners x,y: 0,0 9,0 9,nan 0,9",
        ),
        ("photo,name,visible\na.jpg,Ox,nan\n", "line 2: not a share, 0 to 1: nan"),
    ],
)
def test_a_row_that_says_nothing_usable_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "photos.csv").write_text(text)
    with pytest.raises(PipelineError) as caught:
        read_photos(tmp_path / "photos.csv")
    assert caught.value.render().splitlines()[1].endswith(f"photos.csv, {words}")


def test_rows_of_one_photograph_come_together_in_order(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"photo": "a.jpg", "name": "Ox", "quad_tl_tr_br_bl": QUAD, "crop": "a_cut.jpg", "more": "ignored"},
        {"photo": "b.jpg", "name": ""},
        {"photo": "a.jpg", "name": "Elk", "visible": "0.25"},
    ]
    one, other = read_photos(listed(tmp_path, rows))
    assert (one.path, one.names, other.labels) == (tmp_path / "a.jpg", {"Ox", "Elk"}, ())
    ox, elk = one.labels
    assert ox.quad is not None
    assert (ox.crop, ox.visible, ox.quad.tolist()) == (
        *(tmp_path / "a_cut.jpg", 1.0),
        [[10, 20], [60, 20], [60, 90], [10, 90]],
    )
    assert (elk.crop, elk.visible, elk.quad) == (None, 0.25, None)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_outlines_turn_with_their_picture(degrees: int) -> None:
    taken = scene([Image.new("RGB", (126, 176), "white")], np.random.default_rng(1))
    quad = np.array(taken.cards[0].quad)
    mask = Image.new("L", (1600, 1200))
    for x, y in quad.astype(int).tolist():
        mask.putpixel((x, y), 255)
    pixels = np.asarray(mask.transpose(TURNED[degrees]))
    for x, y in turned(quad, mask.size, degrees):
        assert pixels[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].any()
    size = mask.size if degrees == 180 else mask.size[::-1]
    assert turned(turned(quad, mask.size, degrees), size, 360 - degrees) == pytest.approx(quad)


@given(st.floats(0, 0.3), st.integers(0, 99))
def test_corners_are_off_by_so_much_at_most(share: float, seed: int) -> None:
    card = np.array([(0.0, 0.0), (63.0, 0.0), (63.0, 88.0), (0.0, 88.0)])
    off = np.abs(with_corner_error(card, share, np.random.default_rng(seed)) - card)
    assert (off <= np.array([63, 88]) * share + 1e-9).all()
    assert off.any() == (share > 1e-15) or share < 1e-12


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--sections photographs", "--sections photographs needs --photos"),
        ("--crops", "--crops needs --photos"),
        ("--read off", "--read needs --photos"),
        ("--verify off", "--verify needs --photos"),
        ("--sections index --photos photos.csv", "--photos needs the section photographs"),
        ("--sections index,paint", "--sections must be one of index, camera, strangers, size, reading, photographs"),
    ],
)
def test_flags_that_would_do_nothing_are_bad_arguments(flags: str, words: str) -> None:
    with pytest.raises(PipelineError) as caught:
        parse_args(flags.split())
    assert caught.value.render().startswith(f"ERROR: Invalid Arguments: {words}\n")


def test_only_what_can_be_asked_is_asked_by_default() -> None:
    assert set(parse_args([]).sections) == set(SECTIONS)
    assert set(parse_args(["--photos", "photos.csv"]).sections) == set(SECTIONS)
    assert parse_args(["--photos", "photos.csv", "--turn", "all"]).options.turns == (0, 90, 180, 270)
    assert parse_args(["--photos", "photos.csv"]).options.read == "auto"
    assert parse_args(["--photos", "photos.csv", "--read", "always"]).options.read == "always"
    assert parse_args(["--photos", "photos.csv"]).options.verify == "auto"
    assert parse_args(["--photos", "photos.csv", "--verify", "off"]).options.verify == "off"
