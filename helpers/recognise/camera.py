"""Cards as a camera sees them: simulated photographs and cut-outs, reproducible from a seed.

For the demo's queries, for measuring how well cards are found and recognised, and for tuning an encoder.

`photograph` and `scene`: cards lie on a table, one plane in front of a pinhole camera: each rotated in that plane, the
table tilted away from the camera, unevenly lit, with a reflection, out of focus, noisy, and saved as a JPEG. Where
their corners end up is known, and how much of each is seen.

`view`: a card as it was cut out of such a photograph, with imperfect corners; small and quick, for many of them.

`distorted`: a cut-out with one kind of damage at a known amount, see DISTORTIONS: to measure what it costs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

CORNER_SHARE = 0.045  # radius of a card's corners, as a share of its width
CARD_ASPECT = 63 / 88  # width to height of a Magic card, mm
CUT_OUT_PIXELS = (488, 680)  # width, height: as Scryfall's `normal`
FOCAL_LENGTHS = 1.2  # focal length, as a multiple of the sensor's longer side: a phone's main camera
USUAL_MIN_FILL = 0.93  # of `fill`
VIEW_HEIGHT = 246  # pixels of a cut-out for a model that looks at 224
_MIN_VIEW_HEIGHT = 90  # pixels that a card in a photograph may have
MAX_COVERED = 1 / 3  # of a card in a scene, by those that lie on it
_FULL = 0.88  # share of the frame at which a card is as near as FOCAL_LENGTHS; smaller, it is as much farther away
# points [P, 2] all over a card whose corners are (0, 0) and (1, 1)
_GRID = np.stack(np.meshgrid(np.arange(0.5, 22) / 22, np.arange(0.5, 30) / 30), axis=-1).reshape(-1, 2)
_SHRUNK = Image.Resampling.BOX  # each pixel of a sensor has all the light of its square
_TILT_DISTANCE = 2.0  # card heights from which a tilted cut-out is seen
_FINE = 2  # the card is projected at this multiple of the photograph's pixels, then downsampled: no jagged edges

Quad = tuple[tuple[float, float], ...]  # top left, top right, bottom right, bottom left; pixels of the photograph
Pixels = NDArray[np.floating[Any]]  # [height, width, 3], 0..255


@dataclass(frozen=True, slots=True)
class Conditions:
    """How bad a photograph may be: each draws its own values up to these; noise and quality are fixed."""

    width: int = 720  # pixels
    height: int = 960
    # share of the frame that the cards together span in its tighter direction, at most; over 1, the frame cuts them
    fill: float = 0.95
    min_fill: float | None = None  # the same, at least; None: 0.93 of `fill`
    rotation_degrees: float = 5.0  # in the plane, either way
    tilt_degrees: float = 10.0  # of the card away from the camera's plane, about a random axis: the perspective
    blur_pixels: float = 1.5  # sigma
    light: float = 0.25  # how uneven the light is, 0..1: up to this between sides, less for corners and exposure
    glare: float = 0.35  # white that a reflection adds at its brightest
    noise: float = 4.0  # sigma, of 255
    jpeg_quality: int = 60


SCENE = Conditions(width=1600, height=1200)


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph of one card: the JPEG file's bytes, and the card's corners."""

    jpeg: bytes
    quad: Quad

    def cut_out(self, size: tuple[int, int] = CUT_OUT_PIXELS) -> Image.Image:
        """The card alone, rectified: what a detector that finds its corners exactly would return."""
        flat = rectangle(*size)
        seen = Image.open(BytesIO(self.jpeg))
        return seen.transform(
            size, Image.Transform.PERSPECTIVE, homography(self.quad, flat).tolist(), Image.Resampling.BICUBIC
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """A card of a scene."""

    quad: Quad
    visible: float  # share of the card, 0..1, that is inside the frame and not under other cards


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph of a table: the JPEG file's bytes, and its cards, each lying on those before it."""

    jpeg: bytes
    cards: tuple[Seen, ...]

    def cut_out(self, i: int, size: tuple[int, int] = CUT_OUT_PIXELS) -> Image.Image:
        """Card `i` rectified, with what lies on it."""
        return Photograph(self.jpeg, self.cards[i].quad).cut_out(size)


def photograph(card: Image.Image, rng: np.random.Generator, conditions: Conditions | None = None) -> Photograph:
    """Return `card` (upright, any mode and size) as photographed under `conditions`.

    The same card and state of `rng` give the same photograph.
    """
    taken = scene([card], rng, conditions or Conditions())
    return Photograph(taken.jpeg, taken.cards[0].quad)


def scene(cards: Sequence[Image.Image], rng: np.random.Generator, conditions: Conditions = SCENE) -> Scene:
    """Return a table with `cards` (upright, any modes and sizes; or none) as photographed under `conditions`.

    Each lies on those before it, which stay visible by two thirds or more. The same cards and state of `rng` give the
    same scene.
    """
    size = (conditions.width, conditions.height)
    quads, card_height = _projected(_laid_out(rng, len(cards), conditions), rng, conditions) if cards else ((), 0.0)
    table = _table(rng, size)
    for card, quad in zip(cards, quads, strict=True):
        _lay_down(table, card, quad, card_height)
    pixels = np.asarray(table, dtype=np.float32)
    pixels = _lit(pixels, rng, conditions.light)
    pixels = _with_glare(pixels, quads[0] if len(quads) == 1 else rectangle(*size), rng, conditions.glare)
    blurred = _image(pixels).filter(ImageFilter.GaussianBlur(conditions.blur_pixels * rng.uniform(0.5, 1.0)))
    pixels = np.asarray(blurred, dtype=np.float32)
    pixels = pixels + conditions.noise * rng.standard_normal(pixels.shape, dtype=np.float32)
    file = BytesIO()
    _image(pixels).save(file, "JPEG", quality=conditions.jpeg_quality)
    return Scene(file.getvalue(), tuple(map(Seen, quads, _visible_shares(quads, size))))


# --------------------------------------------------------------------------------------------- where the cards lie


def _laid_out(rng: np.random.Generator, count: int, wanted: Conditions) -> NDArray[np.float64]:
    """Corners [count, 4, 3] of cards of height 1 on the plane z = 0, none covered by more than MAX_COVERED."""
    half_width, aspect = CARD_ASPECT / 2, wanted.width / wanted.height
    upright = np.array([(-half_width, -0.5, 0), (half_width, -0.5, 0), (half_width, 0.5, 0), (-half_width, 0.5, 0)])
    box = math.sqrt(count * CARD_ASPECT) * np.array([math.sqrt(aspect), 1 / math.sqrt(aspect), 0])  # of the centres
    laid: list[NDArray[np.float64]] = []
    points, free = np.empty((0, len(_GRID), 2)), np.empty((0, len(_GRID)), bool)  # of each card laid; not yet covered
    while len(laid) < count:
        roll = math.radians(rng.uniform(-wanted.rotation_degrees, wanted.rotation_degrees))
        card = upright @ _turn(np.array([0.0, 0.0, 1.0]), roll).T
        if count > 1:
            card += rng.uniform(-0.5, 0.5, 3) * box
        still_free = free & ~_inside(points, card[:, :2])
        if (still_free.mean(axis=1) < 1 - MAX_COVERED).any():
            box *= 1.01  # so that there is room in the end
            continue
        laid.append(card)
        points = np.concatenate([points, [_GRID @ (card[[1, 3], :2] - card[0, :2]) + card[0, :2]]])
        free = np.concatenate([still_free, np.ones((1, len(_GRID)), bool)])
    return np.array(laid)


def _projected(
    flat: NDArray[np.float64], rng: np.random.Generator, wanted: Conditions
) -> tuple[tuple[Quad, ...], float]:
    """Where the corners `flat` [N, 4, 3] of cards of height 1 land, and how high about a card is, in pixels.

    Their plane is tilted and seen through a pinhole, then scaled and shifted to fit.
    """
    tilt = math.radians(rng.uniform(0.3, 1.0) * wanted.tilt_degrees)
    axis = rng.uniform(0.0, 2 * math.pi)
    share = wanted.fill * rng.uniform(_least_share(wanted), 1.0)
    across = 1 + float(np.ptp(flat.mean(axis=1), axis=0).max())  # what they span, about: exactly 1 for one card
    corners = flat.reshape(-1, 3) / across
    if len(flat) > 1:
        corners -= (corners.max(axis=0) + corners.min(axis=0)) / 2
    corners = corners @ _turn(np.array([math.cos(axis), math.sin(axis), 0.0]), tilt).T
    farther = max(1.0, _FULL / share)
    depth = corners[:, 2] + FOCAL_LENGTHS * farther
    seen = corners[:, :2] / depth[:, None]
    extent = seen.max(axis=0) - seen.min(axis=0)
    scale = share * min(wanted.width / extent[0], wanted.height / extent[1])
    placed = (seen - (seen.max(axis=0) + seen.min(axis=0)) / 2) * scale
    room = (np.array([wanted.width, wanted.height]) - extent * scale) / 2
    centre = np.array([wanted.width, wanted.height]) / 2 + rng.uniform(-0.5, 0.5, 2) * room
    quads = (placed + centre).reshape(-1, 4, 2)
    return tuple(tuple((float(x), float(y)) for x, y in quad) for quad in quads), wanted.height / farther / across


def _least_share(wanted: Conditions) -> float:
    """`min_fill` as a share of `fill`."""
    return USUAL_MIN_FILL if wanted.min_fill is None else wanted.min_fill / wanted.fill


def _turn(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rotation matrix [3, 3] about a unit axis (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([(0, -z, y), (z, 0, -x), (-y, x, 0)])
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)


@functools.lru_cache(maxsize=256)
def card_mask(size: tuple[int, int]) -> Image.Image:
    """Mask of a card that fills a picture of `size` (width, height): mode L, 255 except at its rounded corners."""
    fine = Image.new("L", (size[0] * _FINE, size[1] * _FINE), 0)
    box = (0, 0, fine.width - 1, fine.height - 1)
    ImageDraw.Draw(fine).rounded_rectangle(box, CORNER_SHARE * fine.width, fill=255)
    return fine.reduce(_FINE)


def rectangle(width: float, height: float) -> Quad:
    """The corners of an upright rectangle at 0, 0."""
    return ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))


def homography(source: Quad, target: Quad) -> NDArray[np.float64]:
    """The eight coefficients for Pillow's PERSPECTIVE, which map points of `target` to points of `source`."""
    rows, values = [], []
    for (u, v), (x, y) in zip(source, target, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return np.asarray(np.linalg.solve(np.array(rows), np.array(values)))


def _lay_down(table: Image.Image, card: Image.Image, quad: Quad, card_height: float) -> None:
    """Draw the card onto the table, with its rounded corners and its shadow; `card_height` in pixels, about."""
    flat = card.convert("RGBA")
    flat = flat.reduce(max(1, int(card.height / card_height / _FINE)))  # what is projected much smaller would flicker
    flat.putalpha(card_mask(flat.size))
    blur = card_height / 90
    (left, top), size = _around(quad, math.ceil(4 * blur), table.size)  # the rest of the table stays as it is
    fine_quad = tuple(((x - left) * _FINE, (y - top) * _FINE) for x, y in quad)
    laid = flat.transform(
        (size[0] * _FINE, size[1] * _FINE),
        Image.Transform.PERSPECTIVE,
        homography(rectangle(*flat.size), fine_quad).tolist(),
        Image.Resampling.BICUBIC,
    ).reduce(_FINE)
    shadow = laid.getchannel("A").filter(ImageFilter.GaussianBlur(blur)).point(lambda a: int(a * 0.55))
    offset = int(card_height / 110)
    table.paste((0, 0, 0), (left + offset, top + offset), shadow)
    table.paste(laid.convert("RGB"), (left, top), laid.getchannel("A"))


def _around(quad: Quad, margin: int, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Left and top, width and height of the part of a picture of `size` that holds `quad` with a margin; >= 1 pixel."""
    corners, most = np.array(quad), np.array(size)
    first = np.clip(np.floor(corners.min(axis=0)).astype(int) - margin, 0, most - 1)
    end = np.clip(np.ceil(corners.max(axis=0)).astype(int) + margin, first + 1, most)
    return (int(first[0]), int(first[1])), (int(end[0] - first[0]), int(end[1] - first[1]))


def _visible_shares(quads: Sequence[Quad], size: tuple[int, int]) -> list[float]:
    """The share of each card, on a grid of its points, that is in the frame and not under one of those after it."""
    shares = []
    for i, quad in enumerate(quads):
        a, b, c, d, e, f, g, h = homography(quad, rectangle(1, 1))
        u, v = _GRID.T
        points = np.stack([a * u + b * v + c, d * u + e * v + f], axis=1) / (g * u + h * v + 1)[:, None]
        visible = _inside(points, np.array(rectangle(*size)))
        for other in quads[i + 1 :]:
            visible &= ~_inside(points, np.array(other))
        shares.append(float(visible.mean()))
    return shares


def _inside(points: NDArray[np.float64], quad: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of `points` [..., 2] lie inside a convex `quad` [4, 2] that runs clockwise as seen: bool [...]."""
    sides = np.roll(quad, -1, axis=0) - quad
    away = points[..., None, :] - quad
    return np.asarray((sides[:, 0] * away[..., 1] - sides[:, 1] * away[..., 0] >= 0).all(axis=-1))


# ------------------------------------------------------------------------------------------------ the table, the light


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth random values 0..1, float32 [height, width], with about `cells` (across, down) bumps."""
    coarse = rng.random((cells[1] + 1, cells[0] + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)


def _table(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """What a card lies on: wood, a playmat, cloth, or a plain desk."""
    return (_wood, _playmat, _cloth, _desk)[rng.integers(4)](rng, size)


def _wood(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    base = np.array((105, 72, 45), np.float32) * rng.uniform(0.6, 1.6)
    grain = smooth_noise(rng, size, (60, 2)) * 0.5 + smooth_noise(rng, size, (14, 3)) * 0.5
    return _image(base * (0.65 + 0.6 * grain[..., None]))


def _playmat(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    one, other = rng.uniform(15, 170, (2, 3)).astype(np.float32)
    share = smooth_noise(rng, size, (4, 5))[..., None]
    return _image(one * share + other * (1 - share))


def _cloth(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    y, x = np.arange(size[1], dtype=np.float32)[:, None], np.arange(size[0], dtype=np.float32)
    weave = np.sin(x * 1.3) * 6 + np.sin(y * 1.3) * 6
    folds = smooth_noise(rng, size, (5, 4)) * 40
    return _image(rng.uniform(20, 170, 3).astype(np.float32) + (weave + folds)[..., None])


def _desk(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    return _image(
        rng.uniform(60, 225) + (smooth_noise(rng, size, (6, 6))[..., None] - 0.5) * 12 * np.ones(3, np.float32)
    )


def _lit(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Lit from one side, darker towards the corners, in warm or cold light."""
    height, width = pixels.shape[:2]
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    side = 1 - strength * rng.random() * (1 + x * math.cos(angle) + y * math.sin(angle)) / 2
    vignette = 1 - 0.4 * strength * (x * x + y * y) / 2
    warmth = 1 + 0.3 * strength * rng.uniform(-1, 1) * np.array((1, 0, -1), np.float32)
    exposure = 1 + 0.5 * strength * rng.uniform(-1, 0.6)
    return np.asarray(pixels * (side * vignette * exposure)[..., None] * warmth, dtype=np.float32)


def _with_glare(pixels: Pixels, quad: Quad, rng: np.random.Generator, strength: float) -> Pixels:
    """A lamp's reflection somewhere on the card: a soft ellipse that washes out what is under it."""
    lamp = _lamp(pixels.shape[:2], quad, rng)
    return _washed_out(pixels, strength * rng.random() * lamp)


def _lamp(shape: tuple[int, ...], quad: Quad, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """How bright a reflection on the card is, 0..1, for each pixel of `shape` (height, width)."""
    height, width = shape
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    at = np.average(np.array(quad), axis=0, weights=rng.dirichlet(np.ones(4)))
    angle, long, short = rng.uniform(0, math.pi), rng.uniform(0.15, 0.35) * height, rng.uniform(0.04, 0.12) * height
    along = (x - at[0]) * math.cos(angle) + (y - at[1]) * math.sin(angle)
    across = (y - at[1]) * math.cos(angle) - (x - at[0]) * math.sin(angle)
    return np.asarray(np.exp(-((along / long) ** 2) - (across / short) ** 2))


def _washed_out(pixels: Pixels, light: NDArray[np.floating[Any]]) -> Pixels:
    """Mixed with white by `light` 0..1, [height, width]."""
    share = light[..., None]
    return np.asarray(pixels * (1 - share) + 255 * share, dtype=np.float32)


# ------------------------------------------------------------------------------------------------------------ cut-outs


def view(
    card: Image.Image,
    rng: np.random.Generator,
    strength: float = 1.0,
    behind: Image.Image | None = None,
    height: int = VIEW_HEIGHT,
) -> Image.Image:
    """Return `card` (upright, any mode and size) as an imperfect cut-out of a photograph: RGB, at most `height` pixels.

    Each kind of damage is drawn on its own and grows with `strength`, 0 to 1: corners off, a sleeve, a finger, few
    pixels, blur, motion, exposure, contrast, colour, uneven light, reflections, noise, JPEG. Around the card is a
    table, or `behind`, another card. The same card and state of `rng` give the same view.
    """
    import cv2  # a third of a second, which the demo's --help need not wait for

    seen_height = math.exp(rng.uniform(math.log(_MIN_VIEW_HEIGHT), math.log(2 * height)))
    size = view_size(round(min(height, max(seen_height, height * (1 - strength)))))
    pixels = np.asarray(_cut_badly(card, size, rng, strength, behind), dtype=np.float32)
    if rng.random() < 0.6:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), max(0.1, strength * rng.uniform(0, 1.3))), np.float32)
    if rng.random() < 0.25:
        pixels = _moved(pixels, rng, strength)
    pixels = _exposed(pixels, rng, strength)
    pixels = _lit(pixels, rng, 0.8 * strength)
    for _ in range(rng.integers(3)):
        pixels = _with_glare(pixels, rectangle(*size), rng, 0.9 * strength)
    pixels += strength * rng.uniform(0, 12) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return _as_jpeg(_image(pixels), int(rng.uniform(95 - 70 * strength, 96)))


def view_size(height: int) -> tuple[int, int]:
    """Width and height of a card of `height` pixels."""
    return round(height * CARD_ASPECT), height


def _cut_badly(
    card: Image.Image, size: tuple[int, int], rng: np.random.Generator, strength: float, behind: Image.Image | None
) -> Image.Image:
    """The card on what is behind it, cut at corners that are off by up to 9 % of its width and height.

    A third of that is common to all corners: too tight or too loose all around, as finders often are.
    """
    worst = strength * rng.uniform(0, 0.09)
    outwards = np.sign(np.array(rectangle(1, 1)) - 0.5)
    off = (2 * rng.uniform(-worst, worst, (4, 2)) + outwards * rng.uniform(-worst, worst)) / 3
    corners = np.array(rectangle(*size)) + off * size
    seen = _table(rng, size) if behind is None else behind.convert("RGB").resize(size)
    if rng.random() < 0.3 * strength:
        _put_sleeve(seen, corners, rng.uniform(0.02, 0.1), rng)
    _put_card(seen, card, corners)
    if rng.random() < 0.2 * strength:
        angle, thickness = rng.uniform(0, 2 * math.pi), size[0] * rng.uniform(0.1, 0.22)
        _put_finger(seen, angle, thickness, rng)
    return seen


def _put_sleeve(seen: Image.Image, corners: NDArray[np.float64], border: float, rng: np.random.Generator) -> None:
    """The back of a sleeve, of one colour, larger than a card with `corners` [4, 2] by a share of `border`."""
    middle = corners.mean(axis=0)
    sleeve = (corners - middle) * (1 + border) + middle
    ImageDraw.Draw(seen).polygon(
        [tuple(point) for point in sleeve.tolist()], fill=tuple(int(c) for c in rng.uniform(0, 255, 3))
    )


def _put_card(seen: Image.Image, card: Image.Image, corners: NDArray[np.float64]) -> None:
    """The card, so that its corners come to lie at `corners` [4, 2]."""
    import cv2

    size = seen.size
    flat = card.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    flat.putalpha(card_mask(size))
    placed = cv2.getPerspectiveTransform(np.array(rectangle(*size), np.float32), corners.astype(np.float32))
    laid = Image.fromarray(cv2.warpPerspective(np.asarray(flat), placed, size, flags=cv2.INTER_LINEAR))
    seen.paste(laid.convert("RGB"), (0, 0), laid.getchannel("A"))


def _put_finger(seen: Image.Image, angle: float, thickness: float, rng: np.random.Generator) -> None:
    """A finger of `thickness` pixels that comes in from an edge of the picture."""
    width, height = seen.size
    out = np.array((math.cos(angle), math.sin(angle)))
    tip = np.array((width, height)) / 2 * (1 + out * rng.uniform(0.6, 0.95))
    red = rng.uniform(70, 240)
    skin = (int(red), int(red * rng.uniform(0.65, 0.85)), int(red * rng.uniform(0.45, 0.75)))
    draw = ImageDraw.Draw(seen)
    draw.line([tuple(tip), tuple(tip + out * height)], fill=skin, width=int(thickness))
    draw.ellipse([*(tip - thickness / 2), *(tip + thickness / 2)], fill=skin)


def _moved(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Blurred along a line, as by a hand that moves: by up to 3 % of the height."""
    steps = 1 + int(strength * rng.uniform(0, 0.03) * pixels.shape[0])
    return _streaked(pixels, steps, rng.uniform(0, math.pi))


def _streaked(pixels: Pixels, steps: int, angle: float) -> Pixels:
    """Blurred along a line of `steps` pixels."""
    import cv2

    line = np.zeros((2 * steps + 1, 2 * steps + 1), np.float32)
    for step in range(steps):
        line[steps + round(step * math.sin(angle)), steps + round(step * math.cos(angle))] = 1 / steps
    return np.asarray(cv2.filter2D(pixels, -1, line / line.sum()), np.float32)


def _exposed(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """By a camera with another gamma, contrast, exposure, white balance and saturation."""
    gamma, contrast, gain, saturation = np.exp(strength * rng.uniform(-1, 1, 4) * (0.5, 0.35, 0.35, 0.6)).tolist()
    balance = np.exp(strength * rng.uniform(-0.2, 0.2, 3)).astype(np.float32)
    curve = (255 * (np.arange(256, dtype=np.float32) / 255) ** gamma).astype(np.float32)
    pixels = curve[pixels.astype(np.uint8)]
    middle = float(pixels.mean())
    # towards grey, and towards the middle: one linear map
    mixed = pixels @ (contrast * (saturation * np.eye(3) + (1 - saturation) / 3)).astype(np.float32)
    return np.asarray((mixed + middle * (1 - contrast)) * (gain * balance), dtype=np.float32).clip(0, 255)


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB")


def _as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """What is left of it after JPEG."""
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


# ------------------------------------------------------------------------------------------------- one kind at a time


@dataclass(frozen=True, slots=True)
class Distortion:
    """A kind of damage: amounts of it, their unit, and what does it to a card of CUT_OUT_PIXELS."""

    amounts: tuple[float, ...]
    unit: str
    apply: Callable[[Image.Image, float, np.random.Generator], Image.Image]


def distorted(card: Image.Image, kind: str, amount: float, rng: np.random.Generator) -> Image.Image:
    """Return `card` (upright, any mode and size) as a cut-out with one kind of damage, a key of DISTORTIONS: RGB.

    The amount is exact; where there is a direction, a place or a colour, `rng` draws it. The same card and state of
    `rng` give the same picture. KeyError for an unknown kind.
    """
    apply = DISTORTIONS[kind].apply
    return apply(card.convert("RGB").resize(CUT_OUT_PIXELS, Image.Resampling.BICUBIC, reducing_gap=2.0), amount, rng)


def _cut_at(card: Image.Image, corners: NDArray[np.float64], rng: np.random.Generator) -> Image.Image:
    """On a table, with its corners at `corners` [4, 2] of a picture of the same size."""
    seen = _table(rng, card.size)
    _put_card(seen, card, corners)
    return seen


def _corners_off(card: Image.Image, percent: float, rng: np.random.Generator) -> Image.Image:
    """Each corner off by up to so much of the card's width and height; 0: only what is behind its corners differs."""
    off = rng.uniform(-percent / 100, percent / 100, (4, 2)) * card.size
    return _cut_at(card, np.array(rectangle(*card.size)) + off, rng)


def _turned(card: Image.Image, degrees: float, rng: np.random.Generator) -> Image.Image:
    """Turned in its plane, one way or the other, and cut out upright."""
    angle = math.radians(degrees) * rng.choice((-1, 1))
    middle = np.array(card.size) / 2
    turn = _turn(np.array([0.0, 0.0, 1.0]), angle)[:2, :2]
    return _cut_at(card, (np.array(rectangle(*card.size)) - middle) @ turn.T + middle, rng)


def _tilted(card: Image.Image, degrees: float, rng: np.random.Generator) -> Image.Image:
    """Tilted about a random axis, and cut out by the upright rectangle around it."""
    axis, middle = rng.uniform(0, 2 * math.pi), np.array(card.size) / 2
    flat = np.column_stack([np.array(rectangle(*card.size)) - middle, np.zeros(4)]) / card.height
    x, y, z = (flat @ _turn(np.array([math.cos(axis), math.sin(axis), 0.0]), math.radians(degrees)).T).T
    seen = np.stack([x, y], axis=1) / (1 + z / _TILT_DISTANCE)[:, None]
    low, high = seen.min(axis=0), seen.max(axis=0)
    scale = (np.array(card.size) / (high - low)).min()
    return _cut_at(card, (seen - (low + high) / 2) * scale + middle, rng)


def _sleeved(card: Image.Image, percent: float, rng: np.random.Generator) -> Image.Image:
    """Cut out along the edge of a sleeve, whose border of one colour takes so much of the width at each side."""
    border = percent / 100 * card.width
    seen = Image.new("RGB", card.size, tuple(int(c) for c in rng.uniform(0, 255, 3)))
    inwards = np.sign(0.5 - np.array(rectangle(1, 1)))
    _put_card(seen, card, np.array(rectangle(*card.size)) + border * inwards)
    return seen


def _held(card: Image.Image, percent: float, rng: np.random.Generator) -> Image.Image:
    """With a finger on it, as thick as so much of the card's width."""
    _put_finger(card, rng.uniform(0, 2 * math.pi), percent / 100 * card.width, rng)
    return card


def _out_of_focus(card: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    import cv2

    return Image.fromarray(cv2.GaussianBlur(np.asarray(card), (0, 0), sigma))


def _shaken(card: Image.Image, steps: float, rng: np.random.Generator) -> Image.Image:
    return _image(_streaked(np.asarray(card, np.float32), round(steps), rng.uniform(0, math.pi)))


def _over_exposed(card: Image.Image, stops: float, rng: np.random.Generator) -> Image.Image:
    return _image(np.asarray(card, np.float32) * 2**stops)


def _tinted(card: Image.Image, percent: float, rng: np.random.Generator) -> Image.Image:
    """Red up and blue down by so much, or the other way round."""
    warmth = percent / 100 * float(rng.choice((-1, 1)))
    return _image(np.asarray(card, np.float32) * (1 + warmth * np.array((1, 0, -1), np.float32)))


def _reflecting(card: Image.Image, percent: float, rng: np.random.Generator) -> Image.Image:
    lamp = _lamp(card.size[::-1], rectangle(*card.size), rng)
    return _image(_washed_out(np.asarray(card, np.float32), (percent / 100 * lamp).astype(np.float32)))


def _noisy(card: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(card, np.float32)
    return _image(pixels + sigma * rng.standard_normal(pixels.shape, dtype=np.float32))


DISTORTIONS = {  # of a card of 680 pixels' height, where there are pixels
    "corners": Distortion((0, 2, 4, 6), "% off", _corners_off),
    "rotation": Distortion((3, 8), "degrees", _turned),
    "perspective": Distortion((15, 30), "degrees", _tilted),
    "blur": Distortion((2, 4, 8), "px sigma", _out_of_focus),
    "motion": Distortion((10, 25), "px", _shaken),
    "exposure": Distortion((-1.5, 1), "stops", _over_exposed),
    "colour cast": Distortion((15, 35), "%", _tinted),
    "glare": Distortion((60, 95), "% white", _reflecting),
    "noise": Distortion((15, 40), "of 255, sigma", _noisy),
    "jpeg": Distortion((30, 10), "quality", lambda card, quality, rng: _as_jpeg(card, round(quality))),
    "height": Distortion((150, 90), "px", lambda card, pixels, rng: card.resize(view_size(round(pixels)), _SHRUNK)),
    "sleeve": Distortion((3, 6), "% border", _sleeved),
    "finger": Distortion((12, 22), "% of the width", _held),
    "mixed": Distortion((0.5, 1), "strength", lambda card, strength, rng: view(card, rng, strength)),
}
