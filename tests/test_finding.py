"""Which parts of a picture are taken for cards, seen from outside: pictures in, corners out."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from helpers.recognise.finding import MAX_QUADS, Pyramid, area, find_quads, iou, overlap
from tests.tables import SIZE, Quad, a_card, cluttered, lay, lay_all, plain, where, wooden

MIDDLE = (500, 375)
TABLES = {"plain": plain, "wooden": wooden, "cluttered": cluttered}


def found(picture: Image.Image) -> NDArray[np.float64]:
    return find_quads(Pyramid(np.asarray(picture)))


def nearest(quads: NDArray[np.float64], quad: Quad) -> float:
    """How well the best of the quadrilaterals found matches `quad`: intersection over union."""
    return max((iou(one, quad) for one in quads), default=0.0)


# ------------------------------------------------------------------------------------------------- cards that lie free


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("first", [0, 90])
def test_a_card_is_found_whichever_way_it_is_turned(table: str, first: int) -> None:
    turns = (first, first + 30, first + 60)
    quads = [where((175 + 325 * i, 375), 290, turn, tilt=10, towards=3 * turn) for i, turn in enumerate(turns)]
    seen = found(lay_all(TABLES[table](), quads, map(a_card, turns)))
    assert [nearest(seen, quad) >= 0.95 for quad in quads] == [True] * 3


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("tilt", [0, 25, 50])
def test_a_card_is_found_however_it_is_tilted(table: str, tilt: float) -> None:
    quads = [where((250 + 500 * i, 375), 450, 15, tilt, towards) for i, towards in enumerate((0, 60))]
    seen = found(lay_all(TABLES[table](), quads))
    assert [nearest(seen, quad) >= 0.9 for quad in quads] == [True] * 2


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("height", [90, 160, 300, 700])
def test_a_card_is_found_however_large_it_is(table: str, height: float) -> None:
    quad = where(MIDDLE, height, 7, 5)
    least = 0.8 if table == "cluttered" else 0.9  # its inner frame, 0.83, where lines run into all of its border
    assert nearest(found(lay(TABLES[table](), a_card(4), quad)), quad) >= least


@pytest.mark.parametrize("scale", [0.3, 2.5])
def test_corners_are_given_in_the_pixels_of_the_picture_whatever_its_size(scale: float) -> None:
    quad = where(MIDDLE, 450, 15, 20)
    picture = lay(plain(), a_card(), quad).resize((round(1000 * scale), round(750 * scale)))
    assert nearest(found(picture), quad * scale) >= 0.95


def test_round_corners_do_not_shorten_a_card() -> None:
    quad = where(MIDDLE, 600, 20)
    best = max(found(lay(plain(), a_card(), quad)), key=lambda one: iou(one, quad))
    off = min(np.abs(np.roll(best, turn, axis=0) - quad).max() for turn in range(4))
    assert off < 3  # an inscribed quadrilateral's corners are off by 0.29 of the radius, here 5.6 pixels


def test_the_first_side_is_a_short_one_however_a_card_is_turned() -> None:
    for turn in range(0, 180, 30):
        quad = where(MIDDLE, 450, turn)
        best = max(found(lay(plain(), a_card(), quad)), key=lambda one: iou(one, quad))
        assert min(np.abs(np.roll(best, 2 * half, axis=0) - quad).max() for half in range(2)) < 5


def test_a_white_card_is_found_on_a_white_table_by_its_faint_shadow() -> None:
    quad = where(MIDDLE, 450, 12, 8)
    blank = Image.new("RGB", (252, 352), (240, 240, 240))
    assert nearest(found(lay(plain(grey=240), blank, quad, shadow=0.12)), quad) >= 0.9


@pytest.mark.parametrize("table", [25, 35])
def test_a_black_card_is_found_on_a_dark_table(table: int) -> None:
    quad = where(MIDDLE, 450, 12, 8)
    assert nearest(found(lay(plain(grey=table), a_card(border=10), quad)), quad) >= 0.9


def test_a_card_of_the_table_s_lightness_is_found_by_its_hue() -> None:
    table = Image.new("RGB", SIZE, (150, 112, 90))
    card = Image.new("RGB", (252, 352), (92, 130, 140))
    assert np.ptp([int(np.asarray(one.convert("L"))[0, 0]) for one in (table, card)]) <= 1
    quad = where(MIDDLE, 450, 12, 8)
    assert nearest(found(lay(table, card, quad)), quad) >= 0.95


def test_a_blurred_and_noisy_card_is_found() -> None:
    quad = where(MIDDLE, 450, 25, 15)
    blurred = np.asarray(lay(wooden(), a_card(), quad).filter(ImageFilter.GaussianBlur(3)), np.float32)
    noisy = blurred + np.random.default_rng(0).normal(0, 10, blurred.shape)
    assert nearest(found(Image.fromarray(noisy.clip(0, 255).astype(np.uint8))), quad) >= 0.9


# --------------------------------------------------------------------------------- cards that touch, overlap or are cut


@pytest.mark.parametrize("table", TABLES)
def test_cards_that_touch_are_found_each(table: str) -> None:
    quads = [where((350 + 215 * i, 375), 300, 0) for i in range(2)]  # 300 high is 214.8 wide
    seen = found(lay_all(TABLES[table](), quads))
    assert [nearest(seen, quad) >= 0.9 for quad in quads] == [True, True]


@pytest.mark.parametrize("table", TABLES)
def test_cards_that_overlap_are_found_each(table: str) -> None:
    quads = [where((340, 340), 380, -10), where((530, 430), 380, 25)]
    assert overlap(*quads) / area(quads[0]) > 0.2
    seen = found(lay_all(TABLES[table](), quads))
    assert [nearest(seen, quad) >= 0.9 for quad in quads] == [True, True]


@pytest.mark.parametrize("table", ["plain", "wooden"])
def test_a_card_that_a_hand_half_covers_is_found(table: str) -> None:
    quad = where(MIDDLE, 450, 8, 10)
    picture = lay(TABLES[table](), a_card(), quad)
    skin, pen = (205, 160, 135), ImageDraw.Draw(picture)
    for finger in range(4):  # from below, over the lower half of the card, to its two sides' upper halves
        pen.rounded_rectangle((360 + 75 * finger, 400 - 20 * (finger % 2), 420 + 75 * finger, 900), 30, skin)
    pen.ellipse((300, 560, 720, 1100), skin)
    assert nearest(found(picture), quad) >= 0.9


def test_a_card_cut_by_the_picture_s_edge_is_found_if_some_of_each_side_is_seen() -> None:
    for centre in ((110, 375), (890, 300), (500, 120), (400, 630)):
        quad = where(centre, 400, 45)
        best = max(found(lay(plain(), a_card(), quad)), key=lambda one: iou(one, quad))
        assert iou(best, quad) >= 0.9
        assert ((best < 0) | (best > SIZE)).any()


def test_a_card_that_fills_the_picture_almost_is_found() -> None:
    quad = where((375, 525), 1000, 0)
    assert nearest(found(lay(plain((750, 1050)), a_card(), quad)), quad) >= 0.95


def test_a_card_that_is_the_picture_is_not_found_but_parts_of_it_may_be() -> None:
    picture = a_card().resize((630, 880))
    frame = np.array([(0, 0), (630, 0), (630, 880), (0, 880)])
    assert not any(np.abs(one - frame).max() < 3 for one in found(picture))


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_card_that_has_a_whole_side_outside_the_picture_is_found(side: str) -> None:
    quad = where(MIDDLE, 450, 0)
    picture = lay(wooden(), a_card(), quad)
    (left, top), (right, bottom) = quad.min(axis=0), quad.max(axis=0)
    cut = 0.1 * np.array([right - left, bottom - top])
    box = {
        "left": (int(left + cut[0]), 0, *SIZE),
        "right": (0, 0, int(right - cut[0]), SIZE[1]),
        "top": (0, int(top + cut[1]), *SIZE),
        "bottom": (0, 0, SIZE[0], int(bottom - cut[1])),
    }[side]
    assert nearest(found(picture.crop(box)), quad - box[:2]) >= 0.9


def test_forty_cards_in_a_grid_are_found_all() -> None:
    quads = [where((62 + 125 * column, 75 + 150 * row), 135, 0) for row in range(5) for column in range(8)]
    seen = found(lay_all(wooden(), quads))
    assert [i for i, quad in enumerate(quads) if nearest(seen, quad) < 0.9] == []


# ------------------------------------------------------------------------------------------------------ what is no card

SHAPES: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {
    "triangle": lambda pen: pen.polygon(((300, 600), (700, 600), (500, 150)), "white"),
    "circle": lambda pen: pen.ellipse((300, 175, 700, 575), "white"),
    "strip": lambda pen: pen.rectangle((100, 350, 900, 400), "white"),
    "line": lambda pen: pen.line((100, 100, 900, 600), "white", 5),
    "speck": lambda pen: pen.rectangle((500, 375, 510, 389), "white"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes_are_no_cards(shape: str) -> None:
    picture = plain(grey=40)
    SHAPES[shape](ImageDraw.Draw(picture))
    assert len(found(picture)) == 0


@pytest.mark.parametrize("box", [(300, 175, 700, 575), (250, 225, 850, 525)], ids=["square", "1:2"])
def test_another_rectangle_is_no_card_but_may_be_the_seen_part_of_one(box: tuple[int, int, int, int]) -> None:
    picture = plain(grey=40)
    ImageDraw.Draw(picture).rectangle(box, "white")
    left, top, right, bottom = box
    itself = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    seen = found(picture)
    assert len(seen) <= 8
    assert nearest(seen, itself) < 0.8


def test_a_gradient_has_no_cards() -> None:
    y, x = np.mgrid[0:600, 0:600] / 600  # a half of it is not shaped as a card
    for levels in (x * 255, y * 255, (x + y) * 127, np.hypot(x - 0.5, y - 0.5) * 255):
        picture = np.repeat(levels.astype(np.uint8)[..., None], 3, axis=2)
        assert len(found(Image.fromarray(picture))) == 0


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_empty_picture_has_no_cards(grey: int) -> None:
    assert len(found(plain(grey=grey))) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (47, 47), (2, 3), (48, 47), (20000, 50)])
def test_a_picture_too_small_for_a_card_has_none(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    quads = found(Image.fromarray(noise))
    assert quads.shape == (0, 4, 2)


# ------------------------------------------------------------------------------------------------ whatever is asked

sides = st.integers(1, 400)


def scribble(size: tuple[int, int], seed: int) -> Image.Image:
    """Polygons, lines and patches of noise anywhere."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", size, tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 25))):
        colour = tuple(rng.integers(0, 256, 3).tolist())
        corners = [tuple(point) for point in (rng.uniform(-0.3, 1.3, (int(rng.integers(2, 6)), 2)) * size).tolist()]
        if rng.random() < 0.5:
            pen.polygon(corners, colour)
        else:
            pen.line(corners, colour, int(rng.integers(1, 9)))
    if rng.random() < 0.3:
        noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        picture = Image.blend(picture, Image.fromarray(noise), 0.3)
    return picture


@settings(max_examples=60)
@given(st.tuples(sides, sides), st.integers(0, 9999))
def test_quads_are_always_convex_clockwise_finite_near_the_picture_distinct_and_few(
    size: tuple[int, int], seed: int
) -> None:
    quads = found(scribble(size, seed))
    assert len(quads) <= MAX_QUADS
    assert np.isfinite(quads).all()
    room = 0.15 * np.array(size) + 1e-6
    assert (quads >= -room).all()
    assert (quads <= size + room).all()
    sides = np.roll(quads, -1, axis=1) - quads
    following = np.roll(sides, -1, axis=1)
    assert (sides[..., 0] * following[..., 1] - sides[..., 1] * following[..., 0] > 0).all()  # y runs down
    for i, one in enumerate(quads):
        for other in quads[:i]:
            apart = min(np.abs(np.roll(one, 2 * half, axis=0) - other).max() for half in range(2))
            assert apart > 0.01 * np.sqrt(area(other))


@settings(max_examples=10)
@given(st.integers(0, 9999))
def test_the_same_picture_has_the_same_quads(seed: int) -> None:
    picture = scribble((300, 300), seed)
    assert np.array_equal(found(picture), found(picture))


# -------------------------------------------------------------------------------------------------- cutting a card out


@pytest.mark.parametrize("height", [100, 200, 400, 700])
@pytest.mark.parametrize("turn", [0, 75, 180, 290])
def test_what_is_cut_out_is_the_card_upright(height: float, turn: float) -> None:
    card = a_card(7)
    quad = where(MIDDLE, height, turn, 25, 30)
    cut = Pyramid(np.asarray(lay(plain(), card, quad))).straighten(quad, 126, 176)
    assert cut.shape == (176, 126, 3)
    assert cut.dtype == np.uint8
    small = np.asarray(card.resize((126, 176), Image.Resampling.BOX), np.float32)
    inside = np.s_[8:-8, 8:-8]
    assert np.abs(cut - small)[inside].mean() < (25 if height < 150 else 12)
    assert np.abs(cut[::-1, ::-1] - small)[inside].mean() > 40


def test_a_cut_out_of_the_whole_picture_is_the_picture() -> None:
    pixels = np.asarray(a_card(2))
    height, width = pixels.shape[:2]
    quad = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    assert np.array_equal(Pyramid(pixels).straighten(quad, width, height), pixels)


def test_what_is_cut_out_much_smaller_does_not_flicker() -> None:
    noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (1600, 1120, 1)).repeat(3, axis=2)
    quad = np.array([(0, 0), (1120, 0), (1120, 1600), (0, 1600)], np.float64)
    assert Pyramid(noise).straighten(quad, 70, 100).std() < 20  # of 127: each pixel is the mean of many


def test_a_corner_outside_the_picture_continues_its_edge() -> None:
    quad = np.array([(-20, -20), (80, -20), (80, 120), (-20, 120)], np.float64)
    assert (Pyramid(np.full((100, 100, 3), 77, np.uint8)).straighten(quad, 50, 70) == 77).all()


@settings(max_examples=40)
@given(st.tuples(st.integers(1, 900), st.integers(1, 900)), st.integers(1, 1200))
def test_a_picture_is_reduced_to_at_most_a_side_and_never_enlarged(size: tuple[int, int], side: int) -> None:
    width, height = size
    pyramid = Pyramid(np.full((height, width, 3), 9, np.uint8))
    small = pyramid.reduced(side)
    assert max(small.shape[:2]) == min(side, max(size))
    assert min(small.shape[:2]) == max(1, round(min(size) * min(1, side / max(size))))
    assert (small == 9).all()


# ------------------------------------------------------------------------------------------------------------ geometry


def test_areas_overlaps_and_unions_are_as_computed_by_hand() -> None:
    one = np.array([(0, 0), (10, 0), (10, 20), (0, 20)], np.float64)
    other = one + np.array((5, 10))
    assert area(one) == 200
    assert overlap(one, other) == pytest.approx(50)
    assert iou(one, other) == pytest.approx(50 / 350)
    assert iou(one, one) == pytest.approx(1)
    assert iou(one, one + 100) == 0
    assert overlap(one, one / 2) == pytest.approx(50)  # one within the other
