"""The section `reading`: what a stub of a reader says of toy cards, counted by hand; and labels that say a printing."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from helpers.embed.vectors import unit_rows
from helpers.evaluate import reading, stage
from helpers.evaluate.answers import Answers, Catalogue, answers
from helpers.evaluate.asking import WHOLE, AskedPhoto, Named, Scored
from helpers.evaluate.dense import Dense, Way
from helpers.evaluate.findings import Findings, Reading
from helpers.evaluate.labelled import read_photos
from helpers.evaluate.page import page
from helpers.evaluate.photographs import found_in
from helpers.evaluate.queries import ROUNDS, Queries, Source
from helpers.evaluate.reading import CONDITIONS_READ, Reads
from helpers.evaluate.report import report
from helpers.evaluate.request import Options, Request
from helpers.index.faiss_index import CardIndex
from helpers.index.manifest import Recognition
from helpers.recognise.printed import Print, Texts
from helpers.recognise.ranking import Ranker
from helpers.recognise.reading import Reader, Text
from helpers.talk import Progress
from tests.conftest import Built
from tests.faces import face_with, records_of
from tests.made_findings import made_findings

COUNT, REPRINTED = 40, 10  # names, and how many of them have a second printing, which looks the same
NAMES = ["".join(np.random.default_rng(i).choice([*"abcdefghijklmnoprstuvw"], 12)) for i in range(COUNT)]
NAMES += NAMES[:REPRINTED]
SETS = ["aaa"] * COUNT + ["bbb"] * REPRINTED
LOOKS_WRONG = {3, 13, 23, 33}  # rows whose pictures look like the next row's
UNREAD, MISREAD, NOWHERE_ELSE = {5, 15}, {7}, {9}
SETTINGS = Recognition(0.0, 0.5, "", read_weight=3.0, printing_reach=0.1)
EACH = len(CONDITIONS_READ)


class StubReader(Reader):
    """Reads the row from the picture's one colour, and says what is printed there."""

    def __init__(self) -> None:
        self.anywhere_read = 0

    def titles(self, photo: Any, *_: object) -> list[Text]:
        row = row_of(photo)
        title = NAMES[row + 1] if row in MISREAD else NAMES[row]
        return [] if row in UNREAD | NOWHERE_ELSE else [Text(title, 0.9)]

    def collector_lines(self, photo: Any, *_: object) -> list[Text]:
        row = row_of(photo)
        lines = f"{100 + row % COUNT}/249 C", f"{SETS[row].upper()} • EN"
        return [] if row in UNREAD | MISREAD else [Text(line, 0.9) for line in lines]

    def anywhere(self, photo: Any, *_: object) -> list[Text]:
        self.anywhere_read += 1
        return [Text(NAMES[row_of(photo)], 0.9)] if row_of(photo) in NOWHERE_ELSE else []


class BlankReader(StubReader):
    """Finds no text."""

    def titles(self, photo: Any, *_: object) -> list[Text]:
        return []

    collector_lines = anywhere = titles


def row_of(photo: Any) -> int:
    return int(np.asarray(photo.picture)[0, 0, 0])


class Toy:
    """An index of 50 rows, and every row asked once under each condition."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(1)
        rows = unit_rows(rng.standard_normal((COUNT, 16)).astype(np.float32))
        rows = np.concatenate([rows, rows[:REPRINTED]])
        self.records = records = records_of(
            folder / "mtg_meta.jsonl",
            [
                face_with(
                    name=name, card_name=name, set=code, collector_number=str(100 + row % COUNT), face_id=f"face {row}"
                )
                for row, (name, code) in enumerate(zip(NAMES, SETS, strict=True))
            ],
        )
        self.ranker = Ranker(CardIndex.build(rows, 16, 100), None, records, SETTINGS, exact=True)
        self.catalogue, self.reader = Catalogue.of(records), StubReader()
        row = np.repeat(np.arange(len(rows)), EACH)
        shown = np.array([one + 1 if one in LOOKS_WRONG else one for one in row.tolist()])
        vectors = unit_rows(rows[shown] + 0.02 * rng.standard_normal((len(row), 16)).astype(np.float32))
        hashes, numbers = np.zeros((len(row), 32), np.uint8), np.tile(CONDITIONS_READ, len(rows))
        self.asked = Queries(row, numbers.astype(np.int64), row % ROUNDS, vectors, hashes, hashes)
        source = SimpleNamespace(records=records, cache=None, seed=0)
        self.reads = Reads(
            ranker=self.ranker,
            reader=self.reader,
            print=Print(self.reader, self.ranker, records, always=True),
            catalogue=self.catalogue,
            source=cast("Source", source),
            dense=Dense.of(rows, None, {}, {"raw": 1.0, "centred": 1.0}),
            way=Way("raw", None),
        )

    @property
    def given(self) -> Answers:
        return answers(self.ranker, self.asked, self.catalogue)

    def found(self, seconds: float) -> Reading:
        with Progress("Reading", 0, "pictures") as progress:
            return self.reads.all(self.asked, self.given, seconds, progress)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "picture_of", lambda face, _: picture_of(int(face.face_id.split()[1])))
        patch.setattr(reading, "render", lambda card, *_: card)
        yield Toy(tmp_path_factory.mktemp("toy"))


def picture_of(row: int) -> Image.Image:
    return Image.new("RGB", (63, 88), (row, 0, 0))


@pytest.fixture(scope="module")
def found(toy: Toy) -> Reading:
    return toy.found(600)


def counts(*shares: Any) -> list[tuple[int, int]]:
    return [(share.hits, share.total) for share in shares]


def test_reading_names_what_looks_like_another_card(found: Reading) -> None:
    rows = len(NAMES)
    read = rows - len(UNREAD)
    assert (found.rows, found.queries) == (rows, rows * EACH)
    for at in found.at:
        assert counts(at.without, at.with_print) == [(rows - len(LOOKS_WRONG), rows), (rows - len(MISREAD), rows)]
        assert counts(at.titles, at.titles_right) == [(read, rows), (read - len(MISREAD), read)]
        lines = read - len(MISREAD)
        assert counts(at.lines, at.lines_right) == [(lines, rows), (lines, lines)]
    assert found.overall.titles.total == rows * EACH
    assert found.overall.titles.low < found.overall.titles.hits / found.overall.titles.total  # by card


def test_only_a_collector_line_tells_printings_apart_that_look_the_same(found: Reading) -> None:
    several, every = found.printings
    total = 2 * (REPRINTED - len({3, 5, 7})) * EACH  # see the sets above; row 9's title is not where most have it
    assert several.cards == "with more than one printing"
    assert several.with_print.total == several.without.total >= total
    assert several.sure_without.hits == 0
    assert several.without.hits < several.with_print.hits
    assert counts(several.sure_right) == [(several.sure.hits, several.sure.hits)]
    assert every.sure.hits - several.sure.hits == every.sure.total - several.sure.total  # one printing is sure


def test_all_names_together_are_the_index(found: Reading) -> None:
    assert [at.names for at in found.by_size] == [2, 10, 40]
    last = found.by_size[-1]
    assert (last.rows, last.without, last.with_print) == (50, found.overall.without, found.overall.with_print)
    few = found.by_size[0]
    assert few.without.hits > last.without.hits  # fewer look-alikes
    assert few.with_print.hits >= last.with_print.hits


def test_text_is_looked_for_elsewhere_only_where_no_title_fits(found: Reading, toy: Toy) -> None:
    assert toy.reads.took.keys() == {*reading.TIMED}
    assert len(toy.reads.took["titles"]) == len(toy.reads.took["collector line"]) >= found.queries
    strangers = found.fusion.strangers if found.fusion else 0  # whose own title fits no more
    unread = len(UNREAD | NOWHERE_ELSE) * EACH
    assert unread < toy.reader.anywhere_read <= unread + strangers


def test_fitted_weights_fit_better_than_looks_alone(found: Reading) -> None:
    assert found.fusion
    fitted, own, looks = found.fusion.choices
    assert fitted.log_loss < looks.log_loss
    assert own.read_weight == pytest.approx(SETTINGS.read_weight)
    assert looks.read_weight == 0.0
    assert fitted.read_weight is not None
    assert fitted.read_weight > 0
    assert found.fusion.queries <= found.queries == found.fusion.known + found.fusion.strangers
    assert found.strangers_read.total == found.fusion.strangers
    assert found.strangers_read.hits == len(MISREAD) * EACH  # no name is like another
    made, recorded = found.fusion.confidence
    assert (recorded.slope, recorded.even) == (SETTINGS.slope, SETTINGS.even)
    assert made.log_loss < recorded.log_loss
    assert made.slope > 0


def test_where_nothing_is_read_the_weight_is_none_at_all_and_not_the_index_s(toy: Toy) -> None:
    blank = BlankReader()
    reads = replace(toy.reads, reader=blank, print=Print(blank, toy.ranker, toy.records, always=True), took={})
    with Progress("Reading", 0, "pictures") as progress:
        found = reads.all(toy.asked, toy.given, 600, progress)
    assert found.fusion
    assert found.fusion.choices[0].read_weight == 0.0
    assert [one.read_weight for one in found.fusion.confidence] == [0.0, SETTINGS.read_weight]


def test_it_stops_when_its_time_is_over_but_not_within_a_card(toy: Toy) -> None:
    found = toy.found(0)
    assert found.queries == EACH
    assert found.fusion is None
    text = report(Findings(conditions=made_findings().conditions, reading=found))
    assert "READING: 3 queries among 50 rows" in text
    assert "Too few queries to fit weights" in text


def test_a_title_that_is_half_legible_counts_though_it_is_not_read(toy: Toy) -> None:
    half = Text(NAMES[20][:8] + "zzzz", 0.9)
    for texts in (Texts([half], []), Texts([], [], [half]), Texts([half], [], [Text("zzzzzz", 0.9)])):
        printed = toy.reads.print.compared(texts)
        assert printed.title is None
        assert printed.evidence.rows.tolist() == [20]
        assert 0 < printed.evidence.strength[0] < 1


def test_what_was_found_is_in_the_tables_and_on_the_page(found: Reading) -> None:
    findings = Findings(conditions=made_findings().conditions, reading=found)
    html = page(findings, asked=lambda _: None, card=lambda _: None)
    for shown in (report(findings), html):
        assert str(found.overall.with_print) in shown
        assert str(found.printings[0].sure_right) in shown
        assert str(found.by_size[0].with_print) in shown
        assert "read_weight" in shown


def test_without_a_reader_the_section_is_left_out(
    built: Built, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> Reader:
        raise ImportError("No module named 'rapidocr'")

    monkeypatch.setattr(stage, "Reader", missing)
    request = Request(built.index, built.cache, 0.01, 0, "cpu", sections=("reading",))
    found = stage.evaluate(request)
    assert found.reading is None
    assert found.conditions.left_out == ("reading: No module named 'rapidocr'",)
    assert f"under {EACH} conditions" in capsys.readouterr().err  # and no more


# --------------------------------------------------------------------------------------------------------- photographs


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ({"set": "IMA", "collector_number": "158"}, [True, False, False]),
        ({"face_id": "b"}, [False, True, False]),
        ({"set": "ima"}, [None, None, None]),
        ({}, [None, None, None]),
    ],
)
def test_a_label_may_say_which_printing_it_is(
    label: dict[str, str], expected: Sequence[object], tmp_path: Path
) -> None:
    with open(tmp_path / "photos.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["photo", "name", "set", "collector_number", "face_id"], restval="")
        writer.writeheader()
        writer.writerow({"photo": "a.jpg", "name": "Ox", **label})
    ((one,),) = (photo.labels for photo in read_photos(tmp_path / "photos.csv"))
    faces = [
        face_with(name="Ox", set="ima", collector_number="158", face_id="a"),
        face_with(name="Ox", set="ima", collector_number="159", face_id="b"),
        face_with(name="Elk", set="ima", collector_number="158", face_id="c"),
    ]
    assert [one.is_of(face) for face in faces] == expected


def test_titles_and_printings_of_photographs_are_counted() -> None:
    asked = [
        photo("a.jpg", Named("Ox", None, True, 1.0, "Ox", True), printing=True, sure=True),
        photo("b.jpg", Named("Ox", None, True, 1.0, "Elk", False), printing=False, sure=True),
        photo("c.jpg", Named("Ox", None, True, 1.0), printing=True, sure=False),
        photo("d.jpg", Named("Ox", None, True, 1.0), printing=None, sure=None),  # the label does not say
    ]
    found = found_in(asked, 9, Options(read="always"))
    ((group,),) = (way.groups for way in found.ways)
    assert counts(group.read, group.read_right) == [(2, 4), (1, 2)]
    assert counts(group.printing, group.printing_sure, group.printing_sure_right) == [(2, 3), (2, 3), (1, 2)]
    (strangers,) = found.ways[0].strangers
    assert counts(strangers.read) == [(4, 4)]
    findings = Findings(conditions=made_findings().conditions, photographs=found)
    for shown in (report(findings), page(findings, asked=lambda _: None, card=lambda _: None)):
        assert str(group.printing_sure_right) in shown
        assert "read: always" in shown


def photo(name: str, card: Named, *, printing: bool | None, sure: bool | None) -> AskedPhoto:
    return AskedPhoto(
        photo=name,
        source="",
        kind="one card",
        way=WHOLE,
        turn=0,
        photo_size=(240, 320),
        scored=(Scored("Ox", None, None, 1, 0, None, printing, sure),),
        cards=(card,),
        extra=(),
        strangers=(Named("Elk", None, False, 0.1, "Elk", False),),
        seconds={"read": 0.1, "ocr": 0.2, "total": 1.0},
        embedded=3,
    )
