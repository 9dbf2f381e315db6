"""A second look by geometry: what becomes sure, what does not, and what happens without pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from helpers.cards.faces import CardFace
from helpers.cards.image_cache import ImageCache
from helpers.embed.vectors import unit_rows
from helpers.index.faiss_index import CardIndex
from helpers.index.manifest import Recognition
from helpers.recognise import query
from helpers.recognise.camera import Conditions, photograph
from helpers.recognise.query import Card, QueryEngine, verifier_of
from helpers.recognise.ranking import CutOut, Evidence, Ranker
from helpers.recognise.regions import Photo
from helpers.recognise.seen import LEAST_INLIERS, Seen
from helpers.recognise.showing import how_sure
from helpers.recognise.verifying import Verifier, name_shown
from tests.conftest import Built
from tests.faces import face_with, records_of

SETTINGS = Recognition(hash_weight=0.0, sure_above=0.5, conditions="")
COUNT = 8  # rows; the pictures that are drawn after these are strangers
ALIKE = unit_rows(np.eye(COUNT, COUNT + 1, dtype=np.float32) + 4)  # cosines of about 0.99: no look tells them apart
THIRD = 2  # the row that the picture shows, and the third best by its vector
BLURRED = Conditions(360, 480, blur_pixels=2)


@pytest.fixture(scope="module")
def files(drawn: Path) -> list[Path]:
    return sorted(drawn.glob("[0-9]*.jpg"))


@pytest.fixture(scope="module")
def shot(files: list[Path]) -> Image.Image:
    return blurred(files[THIRD])


def blurred(file: Path) -> Image.Image:
    return photograph(Image.open(file), np.random.default_rng(0), BLURRED).cut_out((244, 340))


class Asked:
    """A toy index of drawn cards: their own pictures, vectors that are nearly alike."""

    def __init__(
        self, folder: Path, files: Sequence[Path], rows: np.ndarray[Any, Any] = ALIKE, *, names: str = "ABCDEFGH"
    ) -> None:
        faces = [self.face(name, row, file) for row, (name, file) in enumerate(zip(names, files, strict=False))]
        records = records_of(folder / "mtg_meta.jsonl", faces)
        self.rows = rows
        self.ranker = Ranker(CardIndex.build(rows, 16, 100), None, records, SETTINGS)
        self.verifier = Verifier(self.ranker, ImageCache(files[0].parent))

    @staticmethod
    def face(name: str, row: int, file: Path) -> CardFace:
        return face_with(name=name, card_name=name, face_id=f"face {row}", image_url=file.name)

    def seen(self, photo: Photo, *, turned: int = 0, masked: Sequence[int] = ()) -> Seen:
        """The picture, as the ranker sees it: rows 0, 1 and 2 are its best."""
        vector = unit_rows((self.rows[0] + 0.9 * self.rows[1] + 0.8 * self.rows[2])[None])
        hidden = np.array(masked, np.int64)
        (ranking,) = self.ranker.rank(vector, np.zeros((1, 32), np.uint8), hidden)
        return Seen(photo.whole(turned), CutOut(ranking, vector[0], np.zeros(32, np.uint8)), hidden)

    def card(self, picture: Image.Image, *, masked: Sequence[int] = (), verified: bool = True) -> Card:
        photo = Photo(picture)
        seen = self.seen(photo, masked=masked)
        (again,) = self.verifier.look_again(photo, [seen], "off") if verified else [seen]
        return self.as_card(again)

    def as_card(self, seen: Seen) -> Card:
        return QueryEngine(cast(Any, None), self.ranker, cast(Any, None)).card(seen, 400)


def first(card: Card) -> str:
    return card.matches[0].face.name


def test_a_blurred_card_that_looks_like_others_becomes_sure(
    tmp_path: Path, files: list[Path], shot: Image.Image
) -> None:
    asked = Asked(tmp_path, files)
    before, after = asked.card(shot, verified=False), asked.card(shot)
    assert (first(before), before.sure, before.verified) == ("A", False, None)
    assert (first(after), after.sure) == ("C", True)
    assert after.verified is not None and after.verified >= LEAST_INLIERS
    assert before.confidence is not None and after.confidence is not None
    assert after.confidence > 0.9 > before.confidence
    assert "verified" in how_sure(after) and "verified" not in how_sure(before)


def test_a_stranger_stays_what_it_was(tmp_path: Path, files: list[Path], shot: Image.Image) -> None:
    asked = Asked(tmp_path, files)
    for picture in [blurred(file) for file in files[COUNT : COUNT + 2]]:
        before, after = asked.card(picture, verified=False), asked.card(picture)
        assert after.verified is not None and after.verified < LEAST_INLIERS
        assert (after.matches, after.sure) == (before.matches, False)
        assert "verified" not in how_sure(after)
    masked = asked.card(shot, masked=[THIRD])
    assert "C" not in {match.face.name for match in masked.matches}
    assert not masked.sure


def test_the_frame_of_a_card_around_other_art_is_not_enough(tmp_path: Path, files: list[Path]) -> None:
    card, stranger = Image.open(files[THIRD]), Image.open(files[COUNT])
    left, top, right, bottom = (
        round(share * side) for share, side in zip((0.05, 0.1, 0.95, 0.58), card.size * 2, strict=True)
    )
    art = (left, top, right, bottom)
    card.paste(stranger.crop(art), art)
    changed = Asked(tmp_path, files).card(card)
    assert (changed.verified or 0) < LEAST_INLIERS
    assert not changed.sure


def test_of_two_ways_up_only_the_right_one_is_verified(tmp_path: Path, files: list[Path], shot: Image.Image) -> None:
    asked, photo = Asked(tmp_path, files), Photo(shot.rotate(180))
    seen = asked.verifier.look_again(photo, [asked.seen(photo), asked.seen(photo, turned=180)], "all")
    assert sorted((one.region.orientation, bool(one.sure)) for one in seen) == [(0, False), (180, True)]


def test_two_names_with_the_same_art_are_not_told_apart(tmp_path: Path, files: list[Path], shot: Image.Image) -> None:
    same = [files[THIRD], *files[1:]]
    card = Asked(tmp_path, same).card(shot)
    assert card.verified is not None and card.verified >= LEAST_INLIERS
    assert not card.sure


def test_all_faces_of_the_name_gain_alike(tmp_path: Path, files: list[Path], shot: Image.Image) -> None:
    asked = Asked(tmp_path, files, names="ABCDEFGC")
    before, after = asked.card(shot, verified=False), asked.card(shot)
    gains = [
        after.names[0][i].score - next(m.score for m in before.matches if m.face == face) for i, face in faces(after)
    ]
    assert gains == pytest.approx([SETTINGS.read_weight] * 2, abs=1e-5)


def faces(card: Card) -> list[tuple[int, CardFace]]:
    return [(i, match.face) for i, match in enumerate(card.names[0])]


def test_what_is_sure_is_not_compared(tmp_path: Path, files: list[Path], shot: Image.Image) -> None:
    apart = np.eye(COUNT, COUNT + 1, dtype=np.float32)
    card = Asked(tmp_path, files, apart, names="AAADEFGH").card(shot)
    assert (card.sure, card.verified) == (True, None)


def test_a_picture_that_is_missing_or_damaged_is_skipped(tmp_path: Path, files: list[Path], shot: Image.Image) -> None:
    copies = [Path(shutil.copy(file, tmp_path / file.name)) for file in files[:COUNT]]
    copies[0].unlink()
    copies[1].write_bytes(b"no picture")
    assert Asked(tmp_path, copies).card(shot).sure
    copies[2].unlink()
    card = Asked(tmp_path, copies).card(shot)
    assert (card.sure, card.verified) == (False, None)


@pytest.mark.parametrize(
    ("inliers", "name"),
    [
        ({}, None),
        ({"a": 9}, None),
        ({"a": 10}, "a"),
        ({"a": 4, "b": 10, "c": 5}, "b"),
        ({"a": 12, "b": 7}, None),
        ({"a": 40, "b": 40}, None),
    ],
)
def test_a_name_needs_ten_inliers_and_twice_those_of_any_other(inliers: dict[str, int], name: str | None) -> None:
    assert name_shown(inliers) == name


def test_kinds_of_evidence_add_up() -> None:
    read = Evidence(np.array([1, 4]), np.array([0.5, 0.25], np.float32))
    both = read + Evidence(np.array([4, 9]), np.ones(2, np.float32))
    assert both.of(np.array([1, 4, 9, 2])).tolist() == [0.5, 1.25, 1.0, 0.0]


def test_an_engine_compares_unless_told_not_to_or_without_pictures(
    recognised: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    how: dict[str, Any] = {"device": "cpu", "read": "off", "sure_above": 3.0}  # more than a blurred picture reaches
    engine = QueryEngine.load(recognised.index, **how)
    monkeypatch.setattr(query, "embedder_of", lambda *_: engine._embedder)
    record = recognised.records()[1]
    picture = blurred(ImageCache(recognised.cache).path_for(record["image_url"]))
    answer = engine.ask(picture, detect="off")
    assert (first(answer.cards[0]), answer.cards[0].sure) == (record["name"], True)
    assert answer.seconds.verify > 0
    assert not engine.ask(picture, detect="off", without=[record["name"]]).cards[0].sure
    assert "no directory" not in capsys.readouterr().err
    for more in ({"verify": "off"}, {"cache": tmp_path / "none"}):
        other = QueryEngine.load(recognised.index, **how, **more)
        cards = [other.ask(picture, detect="off").cards[0] for _ in range(2)]
        assert [(first(card), card.sure, card.verified) for card in cards] == [(record["name"], False, None)] * 2
    said = capsys.readouterr().err
    assert said.count(f"no directory {tmp_path / 'none'}") == 1
    assert "WARNING" not in said


def test_an_index_whose_pictures_are_gone_is_no_error(tmp_path: Path, files: list[Path]) -> None:
    ranker = Asked(tmp_path, files).ranker
    assert verifier_of(ranker, ImageCache(tmp_path / "none")) is None
    assert verifier_of(ranker, ImageCache(tmp_path)) is not None
