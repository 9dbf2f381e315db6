"""A card as a camera sees it: simulated photographs, reproducible from a seed.

For the demo's queries and for measuring recognition rates. A card is a plane in front of a pinhole camera: rotated in
its own plane, tilted away from the camera, lying on a table, unevenly lit, with a reflection, out of focus, noisy, and
saved as a JPEG. Where its corners end up is known, so that detectors can be measured too.
"""

from __future__ import annotations

import functools
import math
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
_FINE = 2  # the card is projected at this multiple of the photograph's pixels, then downsampled: no jagged edges

Quad = tuple[tuple[float, float], ...]  # top left, top right, bottom right, bottom left; pixels of the photograph
Pixels = NDArray[np.floating[Any]]  # [height, width, 3], 0..255


@dataclass(frozen=True, slots=True)
class Conditions:
    """How bad a photograph may be: each draws its own values up to these; noise and quality are fixed."""

    width: int = 720  # pixels
    height: int = 960
    fill: float = 0.95  # share of the frame that the card spans in its tighter direction, down to 0.93 of that
    rotation_degrees: float = 5.0  # in the plane, either way
    tilt_degrees: float = 10.0  # of the card away from the camera's plane, about a random axis: the perspective
    blur_pixels: float = 1.5  # sigma
    light: float = 0.25  # how uneven the light is, 0..1: up to this between sides, less for corners and exposure
    glare: float = 0.35  # white that a reflection adds at its brightest
    noise: float = 4.0  # sigma, of 255
    jpeg_quality: int = 60


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph of one card: the JPEG file's bytes, and the card's corners."""

    jpeg: bytes
    quad: Quad

    def cut_out(self, size: tuple[int, int] = CUT_OUT_PIXELS) -> Image.Image:
        """The card alone, rectified: what a detector that finds its corners exactly would return."""
        flat = _rectangle(*size)
        seen = Image.open(BytesIO(self.jpeg))
        return seen.transform(
            size, Image.Transform.PERSPECTIVE, homography(self.quad, flat).tolist(), Image.Resampling.BICUBIC
        )


def photograph(card: Image.Image, rng: np.random.Generator, conditions: Conditions | None = None) -> Photograph:
    """Return `card` (upright, any mode and size) as photographed under `conditions`.

    The same card and state of `rng` give the same photograph.
    """
    wanted = conditions or Conditions()
    size = (wanted.width, wanted.height)
    quad = _projected(rng, wanted)
    scene = _table(rng, size)
    scene = _laid_down(scene, card, quad)
    pixels = np.asarray(scene, dtype=np.float32)
    pixels = _lit(pixels, rng, wanted.light)
    pixels = _with_glare(pixels, quad, rng, wanted.glare)
    blurred = _image(pixels).filter(ImageFilter.GaussianBlur(wanted.blur_pixels * rng.uniform(0.5, 1.0)))
    pixels = np.asarray(blurred, dtype=np.float32)
    pixels = pixels + wanted.noise * rng.standard_normal(pixels.shape, dtype=np.float32)
    file = BytesIO()
    _image(pixels).save(file, "JPEG", quality=wanted.jpeg_quality)
    return Photograph(file.getvalue(), quad)


def _projected(rng: np.random.Generator, wanted: Conditions) -> Quad:
    """Where the corners of a card land: rotated, tilted, seen through a pinhole, then scaled and shifted to fit."""
    roll = math.radians(rng.uniform(-wanted.rotation_degrees, wanted.rotation_degrees))
    tilt = math.radians(rng.uniform(0.3, 1.0) * wanted.tilt_degrees)
    axis = rng.uniform(0.0, 2 * math.pi)
    half_width = CARD_ASPECT / 2
    flat = np.array([(-half_width, -0.5, 0), (half_width, -0.5, 0), (half_width, 0.5, 0), (-half_width, 0.5, 0)])
    corners = flat @ _turn(np.array([0.0, 0.0, 1.0]), roll).T
    corners = corners @ _turn(np.array([math.cos(axis), math.sin(axis), 0.0]), tilt).T
    depth = corners[:, 2] + FOCAL_LENGTHS
    seen = corners[:, :2] / depth[:, None]
    extent = seen.max(axis=0) - seen.min(axis=0)
    scale = wanted.fill * rng.uniform(0.93, 1.0) * min(wanted.width / extent[0], wanted.height / extent[1])
    placed = (seen - (seen.max(axis=0) + seen.min(axis=0)) / 2) * scale
    room = (np.array([wanted.width, wanted.height]) - extent * scale) / 2
    centre = np.array([wanted.width, wanted.height]) / 2 + rng.uniform(-0.5, 0.5, 2) * room
    return tuple((float(x), float(y)) for x, y in placed + centre)


def _turn(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rotation matrix [3, 3] about a unit axis (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([(0, -z, y), (z, 0, -x), (-y, x, 0)])
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)


@functools.lru_cache(maxsize=8)
def card_mask(size: tuple[int, int]) -> Image.Image:
    """Mask of a card that fills a picture of `size` (width, height): mode L, 255 except at its rounded corners."""
    fine = Image.new("L", (size[0] * _FINE, size[1] * _FINE), 0)
    box = (0, 0, fine.width - 1, fine.height - 1)
    ImageDraw.Draw(fine).rounded_rectangle(box, CORNER_SHARE * fine.width, fill=255)
    return fine.reduce(_FINE)


def _rectangle(width: float, height: float) -> Quad:
    return ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))


def homography(source: Quad, target: Quad) -> NDArray[np.float64]:
    """The eight coefficients for Pillow's PERSPECTIVE, which map points of `target` to points of `source`."""
    rows, values = [], []
    for (u, v), (x, y) in zip(source, target, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return np.asarray(np.linalg.solve(np.array(rows), np.array(values)))


def _laid_down(scene: Image.Image, card: Image.Image, quad: Quad) -> Image.Image:
    """The card on the scene, with its rounded corners and its shadow."""
    flat = card.convert("RGBA")
    flat.putalpha(card_mask(card.size))
    fine = (scene.width * _FINE, scene.height * _FINE)
    fine_quad = tuple((x * _FINE, y * _FINE) for x, y in quad)
    laid = flat.transform(
        fine,
        Image.Transform.PERSPECTIVE,
        homography(_rectangle(*card.size), fine_quad).tolist(),
        Image.Resampling.BICUBIC,
    ).reduce(_FINE)
    shadow = laid.getchannel("A").filter(ImageFilter.GaussianBlur(scene.height / 90)).point(lambda a: int(a * 0.55))
    offset = scene.height // 110
    scene.paste((0, 0, 0), (offset, offset), shadow)
    scene.paste(laid.convert("RGB"), (0, 0), laid.getchannel("A"))
    return scene


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
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
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
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    side = 1 - strength * rng.random() * (1 + x * math.cos(angle) + y * math.sin(angle)) / 2
    vignette = 1 - 0.4 * strength * (x * x + y * y) / 2
    warmth = 1 + 0.3 * strength * rng.uniform(-1, 1) * np.array((1, 0, -1), np.float32)
    exposure = 1 + 0.5 * strength * rng.uniform(-1, 0.6)
    return np.asarray(pixels * (side * vignette * exposure)[..., None] * warmth, dtype=np.float32)


def _with_glare(pixels: Pixels, quad: Quad, rng: np.random.Generator, strength: float) -> Pixels:
    """A lamp's reflection somewhere on the card: a soft ellipse that washes out what is under it."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    at = np.average(np.array(quad), axis=0, weights=rng.dirichlet(np.ones(4)))
    angle, long, short = rng.uniform(0, math.pi), rng.uniform(0.15, 0.35) * height, rng.uniform(0.04, 0.12) * height
    along = (x - at[0]) * math.cos(angle) + (y - at[1]) * math.sin(angle)
    across = (y - at[1]) * math.cos(angle) - (x - at[0]) * math.sin(angle)
    share = strength * rng.random() * np.exp(-((along / long) ** 2) - (across / short) ** 2)[..., None]
    return np.asarray(pixels * (1 - share) + 255 * share, dtype=np.float32)


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB")
