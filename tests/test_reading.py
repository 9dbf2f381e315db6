"""What is printed on a card: when it is read, what it changes, and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from helpers.cards.faces import CardFace
from helpers.embed.preprocess import as_seen
from helpers.embed.vectors import unit_rows
from helpers.index.faiss_index import CardIndex
from helpers.index.manifest import Recognition
from helpers.recognise.collector import NO_LINE, CollectorLine
from helpers.recognise.printed import Print, most_said, printings
from helpers.recognise.query import Card, QueryEngine
from helpers.recognise.ranking import CutOut, Ranker, Ranking
from helpers.recognise.reading import Reader, Text
from helpers.recognise.regions import Photo
from helpers.recognise.seen import Printed, Seen
from helpers.recognise.titles import TITLE_READ_FROM, Titles, normalised
from tests.conftest import Built
from tests.faces import face_with, records_of
from tests.test_query import picture_of

SETTINGS = Recognition(hash_weight=0.0, sure_above=0.5, conditions="", read_weight=1.0, printing_reach=0.1)
PHOTO = Photo(Image.new("RGB", (63, 88)))
NAMES = ["Holy Strength", "Unholy Strength", "Shatter", "Holy Strength", "Forest", "Island", "Swamp"]
SETS = ["lea", "lea", "lea", "ima", "lea", "lea", "lea"]
FACES = [
    face_with(name=name, card_name=name, set=code, collector_number=str(100 + row), face_id=f"face {row}")
    for row, (name, code) in enumerate(zip(NAMES, SETS, strict=True))
]
ALIKE = unit_rows(np.eye(7, 8, dtype=np.float32) + 4)  # cosines of about 0.99: no look tells them apart
APART = np.eye(7, 8, dtype=np.float32)


class FakeReader(Reader):
    """Reads what it is told is there, and counts."""

    def __init__(self, title: str = "", line: Sequence[str] = (), anywhere: str = "") -> None:
        self._title, self._line, self._anywhere = title, line, anywhere
        self.read: list[str] = []

    def titles(self, *_: object) -> list[Text]:
        self.read.append("title")
        return [Text(self._title, 0.9)] if self._title else []

    def collector_lines(self, *_: object) -> list[Text]:
        self.read.append("line")
        return [Text(text, 0.9) for text in self._line]

    def anywhere(self, *_: object) -> list[Text]:
        self.read.append("anywhere")
        return [Text(self._anywhere, 0.9)] if self._anywhere else []


class Asked:
    """A toy index that is asked with the vector of one row."""

    def __init__(self, folder: Path, rows: NDArray[np.float32], faces: Sequence[CardFace] = FACES) -> None:
        records = records_of(folder / "mtg_meta.jsonl", list(faces))
        self.ranker = Ranker(CardIndex.build(rows, 16, 100), None, records, SETTINGS)
        self.faces = records
        self.rows = rows

    def card(self, vector: int, reader: Reader, *, always: bool = False, masked: Sequence[int] = ()) -> Card:
        hidden = np.array(masked, np.int64)
        (ranking,) = self.ranker.rank(self.rows[vector : vector + 1], np.zeros((1, 32), np.uint8), hidden)
        seen = Seen(PHOTO.whole(), CutOut(ranking, self.rows[vector], np.zeros(32, np.uint8)), hidden)
        (again,) = Print(reader, self.ranker, self.faces, always=always).look_again(PHOTO, [seen], "auto")
        return QueryEngine(cast(Any, None), self.ranker, cast(Any, None)).card(again, 400)


def first(card: Card) -> tuple[str, str]:
    return card.matches[0].face.name, card.matches[0].face.set


def test_a_title_that_is_read_tells_cards_apart_that_look_alike(tmp_path: Path) -> None:
    asked = Asked(tmp_path, ALIKE)
    blind, read = asked.card(0, FakeReader()), asked.card(0, FakeReader("Shatter2"))
    assert first(blind)[0] == "Holy Strength"
    assert not blind.sure
    assert first(read)[0] == "Shatter"
    assert read.sure
    assert read.confidence is not None and blind.confidence is not None
    assert read.confidence > 0.9 > blind.confidence
    assert read.read is not None and read.read.title == "Shatter"


def test_a_name_that_no_signature_proposes_is_found_by_its_title(tmp_path: Path) -> None:
    count = 300  # more than the candidates of a vector
    rows = unit_rows(np.random.default_rng(0).standard_normal((count, 16)).astype(np.float32) + 1)
    faces = [face_with(name=f"Card {row}", card_name=f"Card {row}", face_id=f"face {row}") for row in range(count)]
    far = int((rows @ rows[0]).argmin())
    faces[far] = replace(faces[far], name="Orcish Artillery", card_name="Orcish Artillery")
    card = Asked(tmp_path, rows, faces).card(0, FakeReader("Orcich Artillery"), always=True)
    assert "Orcish Artillery" in {match.face.name for names in card.names for match in names}
    assert "Orcish Artillery" not in {
        match.face.name for names in Asked(tmp_path, rows, faces).card(0, FakeReader()).names for match in names
    }


def test_a_title_that_fits_no_name_changes_nothing(tmp_path: Path) -> None:
    asked = Asked(tmp_path, ALIKE)
    blind, read = asked.card(0, FakeReader()), asked.card(0, FakeReader("Lim-Dûl's Vault"))
    assert [match.score for match in read.matches] == [match.score for match in blind.matches]
    assert read.read is not None and read.read.title is None


def test_what_is_sure_is_not_read_unless_always(tmp_path: Path) -> None:
    asked, reader = Asked(tmp_path, APART), FakeReader("Shatter", ["103/249"])
    card = asked.card(2, reader)
    assert (first(card)[0], card.sure, card.read, card.printing_sure) == ("Shatter", True, None, True)
    assert reader.read == []
    assert asked.card(2, reader, always=True).read is not None
    assert sorted(reader.read) == ["line", "title"]


def test_only_the_collector_line_is_read_where_only_the_printing_is_not_sure(tmp_path: Path) -> None:
    rows = APART.copy()
    rows[3] = unit_rows((rows[0] + 0.1 * rows[3])[None])[0]
    asked = Asked(tmp_path, rows)
    blind = asked.card(0, FakeReader())
    assert (blind.sure, blind.printing_sure) == (True, False)
    assert [match.face.set for match in blind.printings] == ["lea", "ima"]
    reader = FakeReader("Shatter", ["103/249 C", "IMA • EN"])
    card = asked.card(0, reader)
    assert reader.read == ["line"]
    assert (first(card), card.printing_sure) == (("Holy Strength", "ima"), True)
    assert card.read is not None and (card.read.line.set, card.read.line.number) == ("ima", "103")


def test_a_line_that_no_printing_has_picks_none(tmp_path: Path) -> None:
    rows = APART.copy()
    rows[3] = unit_rows((rows[0] + 0.1 * rows[3])[None])[0]
    card = Asked(tmp_path, rows).card(0, FakeReader("", ["077/249 C", "M13 • EN"]))
    assert (first(card)[0], card.sure, card.printing_sure) == ("Holy Strength", True, False)
    assert [match.face.set for match in card.printings] == ["lea", "ima"]


def test_all_over_a_card_text_is_looked_for_only_if_its_title_is_not_in_its_place(tmp_path: Path) -> None:
    asked, sideways, plain = Asked(tmp_path, ALIKE), FakeReader(anywhere="Shatter"), FakeReader("Shatter")
    assert first(asked.card(0, sideways))[0] == first(asked.card(0, plain))[0] == "Shatter"
    assert "anywhere" in sideways.read
    assert "anywhere" not in plain.read


def test_a_masked_card_s_title_names_no_other(tmp_path: Path) -> None:
    asked = Asked(tmp_path, ALIKE)
    card = asked.card(0, FakeReader("Shatter"), masked=[2])
    assert "Shatter" not in {match.face.name for names in card.names for match in names}
    assert not card.sure


LINE_CASES = [
    (NO_LINE, [0.5, 0.45, 0.3], [0, 1], False),
    (NO_LINE, [0.5, 0.3, 0.2], [0], True),
    (CollectorLine(number="103"), [0.5, 0.45, 0.3], [1], True),
    (CollectorLine(set="lea"), [0.5, 0.45, 0.3], [0], True),
    (CollectorLine(number="999"), [0.5, 0.45, 0.3], [0, 1], False),
    (CollectorLine(number="999"), [0.5, 0.3, 0.2], [0], False),
    (CollectorLine(number="107"), [0.5, 0.3, 0.2], [2], True),
]


@pytest.mark.parametrize(("line", "scores", "expected", "sure"), LINE_CASES)
def test_printings_are_those_that_agree_and_of_these_all_within_reach(
    tmp_path: Path, line: CollectorLine, scores: list[float], expected: list[int], sure: bool
) -> None:
    third = replace(FACES[0], set="m13", collector_number="107", face_id="face 7")
    ranker = Asked(tmp_path, APART[:4], [FACES[0], FACES[3], third, FACES[2]]).ranker
    found = printings(ranker, Ranking(np.arange(4), np.array([*scores, 0.1], np.float32), 0.1, 0.1, True, True), line)
    assert found == (expected, sure)


def test_the_printing_that_a_number_alone_picks_is_shown_first(tmp_path: Path) -> None:
    rows = APART.copy()
    rows[3] = unit_rows((rows[0] + 0.1 * rows[3])[None])[0]
    card = Asked(tmp_path, rows).card(0, FakeReader("", ["103/249 C"]))
    assert (first(card), card.printing_sure, card.matches[0].rank) == (("Holy Strength", "ima"), True, 1)
    assert [match.face.set for match in card.names[0]] == ["ima", "lea"]


def test_most_frames_say_what_a_vote_has_read() -> None:
    lines = [CollectorLine("103", "ima"), CollectorLine("108", "ima"), CollectorLine("103", "ima"), NO_LINE]
    titles = ["Shatter", None, "Shatter", "Island"]
    read = most_said([*map(Printed, titles, lines), None])
    assert read is not None
    assert (read.title, read.line) == ("Shatter", CollectorLine("103", "ima"))
    assert most_said([None, None]) is None


def test_a_drawn_card_is_read(built: Built) -> None:
    """By the real models: the title in its place, the collector line, and large lines only all over the card."""
    record = next(one for one in built.records() if one["frame"] == "2015" and one["layout"] == "normal")
    photo, reader = Photo(as_seen(Image.open(picture_of(built, built.records().index(record))))), Reader()
    (best,) = Titles([face_with(name=one["name"], card_name=one["card_name"]) for one in built.records()]).search(
        reader.titles(photo, photo.whole()), 1
    )
    assert (best.name, best.evidence > TITLE_READ_FROM) == (record["name"], True)
    line = CollectorLine.parse(reader.collector_lines(photo, photo.whole()))
    assert (line.set, line.number, line.lang) == (record["set"], record["collector_number"], "en")
    for turned in (photo.picture, photo.picture.rotate(180)):
        everywhere = {normalised(text) for text, _ in reader.anywhere(Photo(turned), photo.whole())}
        assert normalised(record["name"]) in everywhere
        assert normalised(record["type_line"]) not in everywhere


@pytest.mark.parametrize("package", ["onnxruntime", "rapidfuzz", "rapidocr"])
def test_without_a_package_nothing_is_read_and_it_says_so_once(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "helpers.recognise.reading.find_spec", lambda name: None if name == package else find_spec(name)
    )
    assert Reader.load() is None
    assert capsys.readouterr().err.count(f"there is no package {package}") == 1
