"""The engine as a library: what it takes, several threads, several pictures of one card."""

import dataclasses
import shutil
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.recognise.camera import Conditions, photograph
from helpers.recognise.query import Answer, Picture, QueryEngine
from helpers.validation import BrokenImage
from tests.conftest import Built, without_hashes
from tests.pictures import BROKEN, write
from tests.test_query import picture_of

THREADS = 8


def copy_of(built: Built, folder: Path) -> Path:
    """The index, to be changed."""
    return Path(shutil.copytree(built.index, folder / "index"))


@pytest.fixture(scope="module")
def engine(recognised: Built) -> QueryEngine:
    return QueryEngine.load(recognised.index, read="off")


def best(answer: Answer) -> str:
    assert answer.error is None, answer.error
    return answer.cards[0].matches[0].face.name


def unnamed(answer: Answer) -> Answer:
    return dataclasses.replace(answer, image="")


def test_a_path_an_image_and_an_array_are_answered_alike(engine: QueryEngine, recognised: Built) -> None:
    path = picture_of(recognised, 2)
    image = Image.open(path)
    answers = [engine.ask(picture) for picture in (path, str(path), image, np.asarray(image.convert("RGB")))]
    assert [answer.image for answer in answers] == [str(path), str(path), "", ""]
    assert all(unnamed(answer) == unnamed(answers[0]) for answer in answers)
    assert best(answers[0]) == recognised.records()[2]["name"]


MODES = ["RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "L", "LA", "La", "P", "PA", "I", "I;16", "F"]


@pytest.mark.parametrize("mode", [*MODES, "1"])
def test_an_image_of_any_mode_is_answered(engine: QueryEngine, recognised: Built, mode: str) -> None:
    image = Image.open(picture_of(recognised, 4)).convert("RGB")
    if mode.startswith("I"):
        made = Image.fromarray(np.asarray(image.convert("L")).astype(np.int32 if mode == "I" else np.uint16) << 8)
    elif mode in ("LAB", "La", "RGBa", "PA"):
        made = _converted(image, mode)
    else:
        made = image.convert(mode)
    assert made.mode == mode
    assert best(engine.ask(made, 1, detect="off")) == recognised.records()[4]["name"]


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """To a mode that Pillow reaches only by another one."""
    if mode == "LAB":
        from PIL import ImageCms

        return ImageCms.profileToProfile(  # type: ignore[return-value]
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    return image.convert({"La": "LA", "RGBa": "RGBA", "PA": "P"}[mode]).convert(mode)


def test_an_image_is_turned_as_its_exif_data_say(engine: QueryEngine, recognised: Built) -> None:
    image = Image.open(picture_of(recognised, 5)).convert("RGB")
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by 90 degrees
    file = BytesIO()
    turned.save(file, "PNG", exif=exif)
    answer = engine.ask(Image.open(file), 1, detect="off")
    assert answer == engine.ask(image, 1, detect="off")


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((1, 9, 9, 3), np.uint8),
        np.zeros((9, 9, 3), np.float32),
        np.zeros((0, 9, 3), np.uint8),
        Image.new("RGB", (0, 0)),
        Image.open(BytesIO(BROKEN["decodes only half"])),
        Path("nothing.jpg"),
    ],
    ids=["grey", "alpha", "batch", "float", "empty array", "empty image", "truncated", "missing"],
)
def test_what_is_no_picture_is_answered_with_an_error(engine: QueryEngine, picture: Any) -> None:
    answer = engine.ask(picture)
    assert answer.error
    assert not answer.cards
    with pytest.raises((BrokenImage, FileNotFoundError)):
        engine.embed([picture])


def test_the_index_s_own_pictures_get_its_own_rows(engine: QueryEngine, recognised: Built) -> None:
    pictures: list[Picture] = [picture_of(recognised, row) for row in range(13)]
    rows = engine.embed(pictures)
    assert rows.dtype == np.float32
    assert rows.shape == (13, 512)
    cosines = (rows * np.load(recognised.index / "mtg_embeddings.npy")).sum(axis=1)
    assert cosines.min() >= 0.9999
    assert engine.embed([]).shape == (0, 512)


@pytest.mark.slow
def test_threads_get_the_answers_that_come_one_by_one(engine: QueryEngine, recognised: Built) -> None:
    pictures = [Image.open(picture_of(recognised, row)).resize((200, 280)) for row in (0, 1)]
    expected = [engine.ask(picture, 3) for picture in pictures]

    def ask(first: int) -> list[tuple[int, Answer]]:
        order = [(first + step) % len(pictures) for step in range(len(pictures))]
        return [(row, engine.ask(pictures[row], 3)) for row in order]

    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(ask, range(THREADS)):
            for row, answer in found:
                assert_same(answer, expected[row])


def assert_same(one: Answer, other: Answer) -> None:
    """Equal but for the last bits of floats: a matrix product's depend on how many threads share it."""
    assert [card.quad for card in one.cards] == [card.quad for card in other.cards]
    for ours, theirs in zip(one.cards, other.cards, strict=True):
        assert [m.face for m in ours.matches] == [m.face for m in theirs.matches]
        assert np.allclose([m.score for m in ours.matches], [m.score for m in theirs.matches], atol=1e-5)
        assert (ours.orientation, ours.sure) == (theirs.orientation, theirs.sure)


def test_engines_load_at_the_same_time_and_leave_warnings_as_they_were(built: Built) -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        engines = list(pool.map(lambda _: QueryEngine.load(built.index, read="off"), range(4)))
    assert list(warnings.filters) == before
    assert len({best(engine.ask(picture_of(built, 1), 1, detect="off")) for engine in engines}) == 1


def test_an_index_without_hashes_answers_and_says_so_once(
    recognised: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = copy_of(recognised, tmp_path)
    without_hashes(index)
    old = QueryEngine.load(index, read="off")
    assert best(old.ask(picture_of(recognised, 4))) == recognised.records()[4]["name"]
    assert best(old.vote([picture_of(recognised, 4)])) == recognised.records()[4]["name"]
    assert capsys.readouterr().err.count("no hashes") == 1


NOISY = Conditions(240, 320, blur_pixels=10, noise=250, jpeg_quality=40)
FRAMES = 5


def frames_of(card: Path, row: int) -> list[Picture]:
    """Cut-outs of noisy photographs, by their row's seed."""
    image = Image.open(card)
    return [photograph(image, np.random.default_rng([row, i]), NOISY).cut_out((244, 340)) for i in range(FRAMES)]


@pytest.mark.slow
def test_several_noisy_frames_are_right_more_often_than_one(engine: QueryEngine, recognised: Built) -> None:
    voted, right = 0, np.zeros(FRAMES, np.int64)  # of the first frames of all cards, of the second, …
    for row, record in enumerate(recognised.records()):
        frames = frames_of(picture_of(recognised, row), row)
        right += [best(answer) == record["name"] for answer in engine.ask_each(frames, 1, detect="off")]
        voted += best(engine.vote(frames, 1, detect="off")) == record["name"]
    print(f"\nright, of 13: single frames {right.tolist()}, votes {voted}")  # [11, 10, 10, 12, 8], 13
    assert voted >= 12
    assert voted > right.max()


def test_a_vote_of_one_is_its_answer(engine: QueryEngine, recognised: Built) -> None:
    picture = picture_of(recognised, 1)
    (asked,) = engine.ask(picture, 3).cards
    answer = engine.vote([picture], 3)
    (voted,) = answer.cards
    assert [m.face for m in voted.matches] == [m.face for m in asked.matches]
    assert np.allclose([m.score for m in voted.matches], [m.score for m in asked.matches], atol=1e-5)
    assert voted.margin == pytest.approx(asked.margin, abs=1e-5)
    assert (voted.quad, voted.sure, answer.left_out) == (None, asked.sure, ())


def test_scores_of_a_vote_are_means_over_all_frames(engine: QueryEngine, recognised: Built) -> None:
    pictures: Sequence[Picture] = [picture_of(recognised, row) for row in (0, 1, 0)]
    scores = [
        {match.face.face_id: match.score for match in engine.ask(picture, 13, detect="off").cards[0].matches}
        for picture in pictures
    ]
    (card,) = engine.vote(iter(pictures), 13, detect="off").cards
    assert len(card.matches) == 13
    assert best(engine.vote(pictures, 1, detect="off")) == recognised.records()[0]["name"]
    for match in card.matches:
        assert match.score == pytest.approx(np.mean([one[match.face.face_id] for one in scores]), abs=1e-5)


def test_frames_that_can_not_be_read_are_left_out(engine: QueryEngine, recognised: Built, tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.jpg", BROKEN["HTML page"])
    answer = engine.vote([broken, picture_of(recognised, 3), tmp_path / "nothing.jpg"], 1, detect="off")
    assert best(answer) == recognised.records()[3]["name"]
    assert [left.image for left in answer.left_out] == [str(broken), str(tmp_path / "nothing.jpg")]
    assert all(left.error for left in answer.left_out)
    none = engine.vote([broken, broken])
    assert (none.error, none.cards, len(none.left_out)) == ("none of the pictures could be answered", (), 2)
    assert engine.vote([]).error == "no picture"
