"""What of a picture is asked, which way up, and what is cut out of it."""

import numpy as np
import pytest
from PIL import Image

from helpers.embed.dhash import dhash
from helpers.recognise.finding import iou
from helpers.recognise.regions import Photo, Region
from tests.tables import Quad, a_card, lay, plain, where

UPRIGHT = where((400, 300), 300)


def turned(quad: Quad, quarters: int) -> Quad:
    """The same corners, beginning as if the card were turned clockwise by so many quarters."""
    return np.roll(quad, -quarters, axis=0)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("more", [-40, 0, 40])
def test_a_region_says_to_a_quarter_how_a_card_is_turned(degrees: int, more: int) -> None:
    assert Region(where((400, 300), 300, degrees + more)).orientation == degrees


@pytest.mark.parametrize("quarters", range(4))
def test_the_corners_of_the_picture_say_how_the_card_in_it_is_turned(quarters: int) -> None:
    frame = Photo(a_card()).whole().quad
    assert Region(turned(frame, quarters), whole=True).orientation == 90 * quarters


def test_the_whole_picture_comes_first_as_it_is() -> None:
    for picture in (a_card(), lay(plain(), a_card(), UPRIGHT)):
        photo = Photo(picture)
        regions = photo.regions()
        assert regions[0].whole
        assert regions[0].orientation == 0
        assert photo.cut_out(regions[0], 384) is picture
        assert np.array_equal(regions[0].quad, photo.whole().quad)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((252, 352), {0, 180}), ((352, 252), {0, 90, 180, 270}), ((300, 300), {0, 90, 180, 270})],
)
def test_a_whole_picture_is_asked_each_way_up_that_a_card_can_lie_in_it(
    size: tuple[int, int], expected: set[int]
) -> None:
    whole = [region for region in Photo(Image.new("RGB", size)).regions() if region.whole]
    assert {region.orientation for region in whole} == expected
    assert len(whole) == len(expected)


@pytest.mark.parametrize("quarters", range(4))
def test_the_turned_whole_picture_is_cut_out_upright(quarters: int) -> None:
    card = a_card()
    photo = Photo(card.rotate(-90 * quarters, expand=True))  # Pillow turns counterclockwise
    region = next(one for one in photo.regions() if one.whole and one.orientation == 90 * quarters)
    assert np.array_equal(np.asarray(photo.cut_out(region, 384)), np.asarray(card))
    assert np.array_equal(photo.hashed([region])[1][0], dhash(card))
    assert region.card_shaped


def test_what_is_found_is_asked_both_ways_up() -> None:
    regions = [region for region in Photo(lay(plain(), a_card(), UPRIGHT)).regions() if not region.whole]
    assert regions
    for one, other in zip(regions[::2], regions[1::2], strict=True):
        assert np.array_equal(one.quad, turned(other.quad, 2))
    assert max(iou(region.quad, UPRIGHT) for region in regions) > 0.95


@pytest.mark.parametrize("turn", [0, 90, 180, 270, 33])
def test_the_card_is_cut_out_upright_of_one_of_the_regions(turn: float) -> None:
    card, quad = a_card(), where((500, 375), 420, turn)
    photo = Photo(lay(plain(), card, quad))
    small = np.asarray(card.resize((126, 176), Image.Resampling.BOX), np.float32)[8:-8, 8:-8]
    region = min(photo.regions(), key=lambda one: float(np.abs(one.quad - quad).max()))
    cut = photo.cut_out(region, 176)
    assert cut.size == (126, 176)
    assert np.abs(np.asarray(cut)[8:-8, 8:-8] - small).mean() < 15
    differing = np.unpackbits(photo.hashed([region])[1][0] ^ dhash(card)).sum()
    assert differing < 40  # of 256; half of them for another card


def test_hashes_come_in_the_order_of_the_regions_one_each() -> None:
    photo = Photo(lay(plain(), a_card(), UPRIGHT))
    regions, hashes = photo.hashed(photo.regions())
    assert hashes.shape == (len(regions), 32)
    assert hashes.dtype == np.uint8
    assert np.array_equal(photo.hashed(regions[::-1])[1], hashes[::-1])


def test_a_blank_region_is_left_out_but_for_the_whole_picture() -> None:
    photo = Photo(lay(plain(), a_card(), UPRIGHT))
    card, table = Region(UPRIGHT), Region(np.array([(5, 5), (68, 5), (68, 93), (5, 93)], np.float64))
    kept, hashes = photo.hashed([photo.whole(), card, table])
    assert (kept[1:], len(hashes)) == ([card], 2)
    assert photo.hashed([table])[0] == [table]


def test_only_a_whole_picture_may_have_another_shape_than_a_card_s() -> None:
    shapes = {(630, 880): True, (600, 880): True, (880, 630): False, (1000, 750): False, (700, 700): False}
    assert {size: Photo(Image.new("RGB", size)).whole().card_shaped for size in shapes} == shapes
    assert Region(where((0, 0), 300, tilt=40)).card_shaped
    lying = [region for region in Photo(Image.new("RGB", (880, 630))).regions() if region.card_shaped]
    assert [region.orientation for region in lying if region.whole] == [90, 270]
    assert {region.orientation for region in lying} == {90, 270}  # and as the inner part of a card


def test_what_two_regions_share_is_measured_by_the_smaller() -> None:
    large = np.array([(0, 0), (100, 0), (100, 100), (0, 100)], np.float64)
    cases = {(0.5, 0, 0): 1.0, (0.5, 75, 0): 0.5, (1.0, 50, 0): 0.5, (0.5, 75, 75): 0.25, (0.5, 200, 0): 0.0}
    for (scale, right, down), expected in cases.items():
        other = large * scale + (right, down)
        assert Region(large).covers(Region(other)) == pytest.approx(expected, abs=1e-6)
        assert Region(other).covers(Region(turned(large, 1))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (47, 47)])
def test_a_tiny_picture_is_asked_as_a_whole(size: tuple[int, int]) -> None:
    photo = Photo(Image.new("RGB", size))
    regions = photo.regions()
    assert all(region.whole for region in regions)
    assert photo.hashed(regions)[1].shape[1] == 32
    assert all(min(photo.cut_out(region, 384).size) >= 1 for region in regions)
