"""What a photograph does to a card, and that it is known where the card went."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.recognise.camera import (
    CUT_OUT_PIXELS,
    DISTORTIONS,
    SCENE,
    Conditions,
    Photograph,
    Scene,
    card_mask,
    distorted,
    homography,
    photograph,
    scene,
)

PLAIN = Conditions(rotation_degrees=0, tilt_degrees=0, blur_pixels=0, light=0, glare=0, noise=0, jpeg_quality=95)
SMALL = {"width": 240, "height": 320}  # pixels: for what does not depend on them
# Corners of known colours, so that it can be seen where they went.
QUARTERS = Image.new("RGB", (400, 560))
for _i, _colour in enumerate(("red", "lime", "blue", "yellow")):
    QUARTERS.paste(Image.new("RGB", (200, 280), _colour), (200 * (_i % 2), 280 * (_i // 2)))


def taken(seed: int = 0, conditions: Conditions | None = None, card: Image.Image = QUARTERS) -> Photograph:
    return photograph(card, np.random.default_rng(seed), conditions)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.float32)


def opened(photo: Photograph) -> Image.Image:
    return Image.open(BytesIO(photo.jpeg))


def test_the_same_seed_takes_the_same_photograph() -> None:
    one, other = taken(3), taken(4)
    assert one == taken(3)
    assert one.jpeg != other.jpeg
    assert one.quad != other.quad


def test_a_seed_s_photograph_is_still_the_one_it_was() -> None:
    was = ((65.43, 78.26), (685.78, 88.33), (645.44, 927.47), (66.74, 908.58))
    assert np.allclose(taken(0, card=Image.new("RGB", (63, 88))).quad, was, atol=0.01)


@settings(max_examples=25)
@given(st.integers(0, 999), st.floats(0, 180), st.floats(0, 60), st.floats(0.1, 1))
def test_the_card_is_in_the_frame_and_its_corners_are_where_the_quad_says(
    seed: int, rotation: float, tilt: float, fill: float
) -> None:
    view = Conditions(**SMALL, rotation_degrees=rotation, tilt_degrees=tilt, fill=fill, blur_pixels=0, noise=0, glare=0)
    photo = taken(seed, view)
    quad = np.array(photo.quad)
    assert (quad > -0.01).all()
    assert (quad[:, 0] < view.width + 0.01).all()
    assert (quad[:, 1] < view.height + 0.01).all()
    centre = quad.mean(axis=0)
    seen = pixels(opened(photo))
    for corner, strongest in zip(quad, ((0,), (1,), (0, 1), (2,)), strict=True):  # clockwise: red, lime, yellow, blue
        x, y = (0.5 * corner + 0.5 * centre).astype(int)
        colour = seen[y, x]
        weakest_of_strong, others = min(colour[list(strongest)]), np.delete(colour, strongest)
        assert weakest_of_strong > others.max()


@pytest.mark.parametrize("degrees", [0, 5, 30])
def test_it_is_turned_by_no_more_than_allowed(degrees: float) -> None:
    conditions = Conditions(**SMALL, rotation_degrees=degrees, tilt_degrees=0)
    angles = []
    for seed in range(30):
        (x0, y0), (x1, y1) = taken(seed, conditions, Image.new("RGB", (63, 88))).quad[:2]
        angles.append(abs(np.degrees(np.arctan2(y1 - y0, x1 - x0))))
    assert max(angles) <= degrees + 1e-6
    assert max(angles) >= 0.7 * degrees


def test_tilt_makes_a_perspective() -> None:
    level, *tilted = (
        unevenness(np.array(taken(1, Conditions(rotation_degrees=0, tilt_degrees=tilt)).quad))
        for tilt in (0, 5, 15, 40)
    )
    assert level < 1e-9
    assert tilted == sorted(tilted)


def unevenness(quad: np.ndarray) -> float:
    """How far opposite sides are from being equally long, as a share: 0 without perspective."""
    sides = np.hypot(*(np.roll(quad, -1, axis=0) - quad).T)
    return float(max(abs(sides[0] / sides[2] - 1), abs(sides[1] / sides[3] - 1)))


def test_a_card_may_be_small_anywhere_and_far_away() -> None:
    card, tilted = Image.new("RGB", (63, 88)), Conditions(**SMALL, fill=0.8, min_fill=0.2, tilt_degrees=40)
    quads = [np.array(taken(seed, tilted, card).quad) for seed in range(40)]
    shares = [max(np.ptp(quad, axis=0) / (tilted.width, tilted.height)) for quad in quads]
    assert 0.2 <= min(shares) < 0.3
    assert 0.7 < max(shares) <= 0.8
    centres = np.array([quad.mean(axis=0) for quad in quads])
    assert (np.ptp(centres, axis=0) > (0.3 * tilted.width, 0.2 * tilted.height)).all()
    near, far = (np.array(taken(0, replace(tilted, fill=share, min_fill=share), card).quad) for share in (0.9, 0.3))
    assert 2 < unevenness(near) / unevenness(far) < 4  # a third as large is three times as far


def test_under_the_best_of_conditions_the_cut_out_is_the_card(drawn: Path) -> None:
    card = Image.open(drawn / "001a.jpg")
    small = card.resize((488, 680), Image.Resampling.LANCZOS)
    inside = np.s_[20:-20, 20:-20]
    for conditions, least, most in ((PLAIN, 0, 7), (Conditions(), 7, 60)):
        difference = np.abs(pixels(taken(0, conditions, card).cut_out()) - pixels(small))[inside].mean()
        assert least < difference < most


def test_each_condition_changes_the_picture_as_it_says() -> None:
    grey = Image.new("RGB", (400, 560), (120, 120, 120))

    def card_pixels(**changes: float) -> np.ndarray:
        changed = {name: getattr(PLAIN, name) for name in PLAIN.__slots__} | changes
        return pixels(taken(2, Conditions(**changed), grey).cut_out())[40:-40, 40:-40]

    plain = card_pixels()
    assert plain.std() < 2
    assert card_pixels(noise=10).std() > 3
    lit = card_pixels(light=0.8)
    assert np.ptp(lit[::50, ::50].mean(axis=2)) > 10
    assert card_pixels(glare=1.0).max() > plain.max() + 20
    sharp, soft = (pixels(opened(taken(2, Conditions(noise=0, blur_pixels=blur)))) for blur in (0.0, 4.0))
    assert np.abs(np.diff(soft, axis=1)).max() < 0.5 * np.abs(np.diff(sharp, axis=1)).max()
    sizes = [len(taken(2, Conditions(jpeg_quality=quality)).jpeg) for quality in (20, 60, 95)]
    assert sizes == sorted(sizes)


# ------------------------------------------------------------------------------------------------ several, or none

TABLE = replace(PLAIN, width=800, height=600, rotation_degrees=180, tilt_degrees=30)


def laid(cards: list[Image.Image], seed: int = 0, conditions: Conditions = TABLE) -> Scene:
    return scene(cards, np.random.default_rng(seed), conditions)


def opened_scene(taken: Scene) -> Image.Image:
    return Image.open(BytesIO(taken.jpeg))


def test_the_same_seed_lays_the_same_scene() -> None:
    cards = [QUARTERS] * 4
    assert laid(cards, 3) == laid(cards, 3)
    assert laid(cards, 3).jpeg != laid(cards, 4).jpeg
    assert laid(cards, 3).cards != laid(cards, 4).cards


def test_a_photograph_is_a_scene_of_one_card() -> None:
    one = laid([QUARTERS], 5)
    assert (taken(5, TABLE).jpeg, taken(5, TABLE).quad) == (one.jpeg, one.cards[0].quad)
    assert one.cards[0].visible == 1


def test_a_table_may_have_no_card() -> None:
    empty = scene([], np.random.default_rng(0))
    assert empty.cards == ()
    assert opened_scene(empty).size == (SCENE.width, SCENE.height) == (1600, 1200)


def test_each_card_of_a_scene_lies_upright_in_its_quad(drawn: Path) -> None:
    cards = [Image.open(path).convert("RGB") for path in sorted(drawn.glob("0*.jpg"))[:9]]
    small = [pixels(card.resize((122, 170), Image.Resampling.BOX))[5:-5, 5:-5] for card in cards]
    seen, uncovered = laid(cards, 1, replace(TABLE, width=1600, height=1200)), 0
    for i, card in enumerate(seen.cards):
        found = pixels(seen.cut_out(i).resize((122, 170), Image.Resampling.BOX))[5:-5, 5:-5]
        differences = [np.abs(found - other).mean() for other in small]
        assert np.argmin(differences) == i
        if card.visible == 1:
            uncovered += 1
            assert differences[i] < 8
            assert differences[i] < 0.4 * np.abs(found - small[i][::-1, ::-1]).mean()
    assert 1 <= uncovered < len(cards)


def test_it_is_known_how_much_of_a_card_others_cover() -> None:
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)])
    cards, shares = [Image.new("RGB", (126, 176), tuple(colour)) for colour in colours.tolist()], []
    for seed in range(8):
        seen = laid(cards, seed)
        for i, card in enumerate(seen.cards):
            found = pixels(seen.cut_out(i, (126, 176)))
            own = np.linalg.norm(found[..., None, :] - colours, axis=-1).argmin(axis=-1) == i
            assert card.visible == pytest.approx(own.mean(), abs=0.04)  # round corners, shadows
            shares.append(card.visible)
        assert seen.cards[-1].visible == 1  # it lies on all others
    assert 0.64 < min(shares) < 0.9  # two thirds as laid; in perspective, the near part of a card is larger


def test_it_is_known_how_much_of_a_card_the_frame_cuts() -> None:
    white = Image.new("RGB", (126, 176), "white")
    seen = laid([white], 0, replace(TABLE, tilt_degrees=0, fill=1.6, min_fill=1.5))
    white_share = (pixels(seen.cut_out(0, (126, 176)))[..., 0] > 128).mean()  # what is outside is black
    assert seen.cards[0].visible == pytest.approx(white_share, abs=0.03)
    assert 0.3 < white_share < 0.95


def test_all_cards_are_in_the_frame_each_turned_its_own_way() -> None:
    seen = laid([Image.new("RGB", (63, 88))] * 40, 2)
    quads = np.array([card.quad for card in seen.cards])
    assert (quads > -0.01).all()
    assert (quads < (TABLE.width + 0.01, TABLE.height + 0.01)).all()
    dx, dy = (quads[:, 1] - quads[:, 0]).T
    assert np.histogram(np.arctan2(dy, dx), 4, (-np.pi, np.pi))[0].min() >= 4
    upright = laid([Image.new("RGB", (63, 88))] * 9, 2, replace(TABLE, rotation_degrees=0, tilt_degrees=0))
    assert all(abs(card.quad[0][1] - card.quad[1][1]) < 1e-6 for card in upright.cards)


def test_a_picture_of_any_mode_can_be_photographed() -> None:
    for mode in ("L", "RGBA", "P", "CMYK"):
        assert opened(taken(0, PLAIN, QUARTERS.convert(mode))).size == (PLAIN.width, PLAIN.height)


corners = st.tuples(st.floats(-40, 40), st.floats(-40, 40))


@given(st.tuples(corners, corners, corners, corners))
def test_the_homography_takes_corners_to_corners(moved: tuple[tuple[float, float], ...]) -> None:
    source = ((0.0, 0.0), (200.0, 0.0), (200.0, 300.0), (0.0, 300.0))
    target = tuple((x + dx, y + dy) for (x, y), (dx, dy) in zip(source, moved, strict=True))
    a, b, c, d, e, f, g, h = homography(source, target)
    for (u, v), (x, y) in zip(source, target, strict=True):
        scale = g * x + h * y + 1
        assert (a * x + b * y + c) / scale == pytest.approx(u, abs=1e-4)
        assert (d * x + e * y + f) / scale == pytest.approx(v, abs=1e-4)


def test_a_card_has_round_corners() -> None:
    mask = np.asarray(card_mask((200, 280)))
    assert mask[0, 0] == mask[0, -1] == mask[-1, 0] == mask[-1, -1] == 0
    assert mask[140, 100] == mask[0, 100] == mask[140, 0] == 255
    assert 0.99 < (mask / 255).mean() < 1


# -------------------------------------------------------------------------------------------- one kind of damage alone


@pytest.mark.parametrize("kind", [kind for kind in DISTORTIONS if kind not in ("exposure", "mixed")])
def test_more_of_a_kind_of_damage_changes_more(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (34, 24, 3), np.uint8)
    card = Image.fromarray(noise).resize(CUT_OUT_PIXELS)
    apart = []
    for amount in DISTORTIONS[kind].amounts:
        seen = [distorted(card, kind, amount, np.random.default_rng(seed)).resize(card.size) for seed in range(3)]
        apart.append(np.mean([np.abs(pixels(each) - pixels(card)).mean() for each in seen]))
    assert apart == sorted(apart)
    assert apart[0] < apart[-1]


def test_corners_that_are_not_off_leave_the_card_as_it_is_but_for_its_rounded_corners() -> None:
    card = QUARTERS.resize(CUT_OUT_PIXELS)
    seen = distorted(card, "corners", 0, np.random.default_rng(0))
    inside = np.asarray(card_mask(card.size)) == 255
    assert np.array_equal(np.asarray(seen)[inside], np.asarray(card)[inside])
    assert not np.array_equal(np.asarray(seen), np.asarray(card))


@given(st.sampled_from([0, 2, 4, 6, 15]), st.integers(0, 50))
@settings(max_examples=8)
def test_corners_are_off_by_so_much_at_most_and_a_turn_keeps_the_middle(percent: int, seed: int) -> None:
    width, height = CUT_OUT_PIXELS
    white = Image.new("RGB", CUT_OUT_PIXELS, (255, 0, 255))
    seen = pixels(distorted(white, "corners", percent, np.random.default_rng(seed)))
    down, across = (round(side * percent / 100) + 24 for side in (height, width))
    assert (seen[down:-down, across:-across] == (255, 0, 255)).all()  # the table shows nowhere farther in
    turned = pixels(distorted(white, "rotation", percent, np.random.default_rng(seed)))
    assert (turned[height // 2, width // 2] == (255, 0, 255)).all()


def test_amounts_are_what_they_say() -> None:
    grey = Image.new("RGB", CUT_OUT_PIXELS, (60, 60, 60))
    rng = np.random.default_rng(0)
    assert pixels(distorted(grey, "exposure", 1, rng)).mean() == 120
    assert pixels(distorted(grey, "exposure", -1, rng)).mean() == 30
    assert distorted(grey, "height", 150, rng).size == (107, 150)
    red, green, blue = pixels(distorted(grey, "colour cast", 35, rng))[0, 0]
    assert (sorted((red, blue)), green) == ([39, 81], 60)
    assert pixels(distorted(grey, "noise", 15, rng)).std() == pytest.approx(15, rel=0.02)
    sleeved = pixels(distorted(grey, "sleeve", 6, rng))
    assert (sleeved[340, 40:448] == 60).all()
    assert not (sleeved[340, :25] == 60).all()
    with pytest.raises(KeyError):
        distorted(grey, "rain", 1, rng)
