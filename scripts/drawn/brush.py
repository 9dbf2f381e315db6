"""The painter's tools: light, colours, and a brush whose shapes look round."""

import colorsys
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from helpers.recognise.camera import smooth_noise

Field = NDArray[np.floating[Any]]  # [height, width], mostly 0..1
Pixels = NDArray[np.floating[Any]]  # [height, width, 3], 0..255
Colour = NDArray[np.floating[Any]]  # [3], 0..255
Points = Sequence[tuple[float, float]]
_FINE = 2  # shapes are drawn at this multiple and downsampled: no jagged edges


def hsv(hue: float, saturation: float, value: float) -> Colour:
    return np.array(colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1)), np.float32) * 255


def mix(pixels: Pixels, colour: Colour | Pixels, share: Field) -> Pixels:
    return np.asarray(pixels + (colour - pixels) * share[..., None], np.float32)


def grid(pixels: Pixels) -> tuple[Field, Field]:
    """Each pixel's y and x."""
    return _pixel_numbers(pixels.shape[0], pixels.shape[1])


@functools.lru_cache(maxsize=4)
def _pixel_numbers(height: int, width: int) -> tuple[Field, Field]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return y, x


def as_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB")


class Light:
    """Where light comes from and which colours it has."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        hues: tuple[float, float],
        brightness: float,
        saturation: float,
    ) -> None:
        self.value, self.saturation = brightness, saturation
        self.hue = rng.uniform(*hues)
        self.top = hsv(self.hue + rng.uniform(-0.04, 0.04), saturation, brightness * rng.uniform(0.45, 0.9))
        self.horizon = hsv(self.hue + rng.uniform(-0.14, 0.14), saturation * rng.uniform(0.3, 1), brightness)
        self.at = (rng.uniform(0.1, 0.9) * size[0], rng.uniform(0.08, 0.4) * size[1])
        self.colour = hsv(self.hue + rng.uniform(-0.5, 0.5) * 0.3, saturation * 0.3, 1.0)
        angle = rng.uniform(math.pi * 1.1, math.pi * 1.9)
        self.direction = (math.cos(angle), math.sin(angle))

    def haze(self, colour: Colour, far: float) -> Colour:
        """`colour` as seen from afar (0 near, 1 at the horizon)."""
        return np.asarray(colour * (1 - far) + self.horizon * far, np.float32)


class Brush:
    """Paints shapes into a picture so that they look round: lit from one side, dark on the other.

    Subjects have coordinates of their own, about -1 to 1 with y downwards; position, size, mirroring and lean in the
    picture are random, so that no two of a kind look alike.
    """

    def __init__(self, pixels: Pixels, rng: np.random.Generator, light: Light) -> None:
        self.pixels = np.array(pixels, np.float32)
        self.light = light
        self._rng = rng
        height, width = pixels.shape[:2]
        self._scale = min(height, width) * rng.uniform(0.4, 0.6)
        self._origin = (width * rng.uniform(0.36, 0.64), height * rng.uniform(0.46, 0.58))
        lean = rng.uniform(-0.16, 0.16)
        self._turn = (math.cos(lean), math.sin(lean), rng.choice((-1.0, 1.0)))
        self.body = hsv(rng.random(), rng.uniform(0.15, 0.8), rng.uniform(0.35, 0.95))
        self.second = hsv(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.3, 0.95))
        self.metal = hsv(rng.choice((0.12, 0.58, 0.08)), rng.uniform(0.05, 0.6), rng.uniform(0.7, 0.95))
        self.skin = hsv(rng.uniform(0.04, 0.1), rng.uniform(0.25, 0.6), rng.uniform(0.35, 0.95))
        self.glow = hsv(rng.random(), rng.uniform(0.2, 0.9), 1.0)
        self._pattern = rng.integers(5)  # of hides, cloth and stone: plain, stripes, spots, scales, veins
        self._pattern_size = rng.uniform(0.35, 1.1) * self._scale / 12
        self._pattern_strength = rng.uniform(0.25, 0.6)

    def polygon(self, points: Points, colour: Colour, *, smooth: int = 0, glows: bool = False) -> None:
        """A filled shape; its corners are cut `smooth` times; one that `glows` has no dark side."""
        self.canvas_polygon([self._at(x, y) for x, y in _cut_corners(points, smooth)], colour, glows=glows)

    def blob(self, x: float, y: float, across: float, down: float, colour: Colour) -> None:
        """A filled ellipse."""
        angles = np.linspace(0, 2 * math.pi, 28, endpoint=False)
        self.polygon([(x + across * math.cos(a), y + down * math.sin(a)) for a in angles], colour)

    def limb(self, points: Points, thick: float, thin: float, colour: Colour, *, glows: bool = False) -> None:
        """A bent, tapering limb along `points`."""
        path = np.array(_cut_corners(points, 3, closed=False))
        along = np.gradient(path, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(np.hypot(*along.T), 1e-6)[:, None]
        half = np.linspace(thick, thin, len(path))[:, None] / 2
        outline = np.concatenate([path + across * half, (path - across * half)[::-1]])
        self.polygon([(float(x), float(y)) for x, y in outline], colour, glows=glows)

    def light_up(self, x: float, y: float, radius: float, colour: Colour, strength: float = 0.9) -> None:
        """A soft light."""
        at, reach = self._at(x, y), radius * self._scale
        far = math.ceil(reach * 3)  # beyond that it can't be seen
        box = np.s_[max(0, int(at[1]) - far) : int(at[1]) + far + 1, max(0, int(at[0]) - far) : int(at[0]) + far + 1]
        yy, xx = (numbers[box] for numbers in grid(self.pixels))
        share = strength * np.exp(-((xx - at[0]) ** 2 + (yy - at[1]) ** 2) / (2 * reach**2))
        self.pixels[box] = mix(self.pixels[box], colour, np.asarray(share, np.float32))

    def canvas_polygon(self, points: Points, colour: Colour, *, glows: bool = False) -> None:
        """A filled shape in pixels of the picture."""
        height, width = self.pixels.shape[:2]
        xs, ys = zip(*points, strict=True)
        left, top = max(0, math.floor(min(xs)) - 2), max(0, math.floor(min(ys)) - 2)
        right, bottom = min(width, math.ceil(max(xs)) + 3), min(height, math.ceil(max(ys)) + 3)
        if right - left < 2 or bottom - top < 2:
            return
        fine = Image.new("L", ((right - left) * _FINE, (bottom - top) * _FINE))
        ImageDraw.Draw(fine).polygon([((x - left) * _FINE, (y - top) * _FINE) for x, y in points], fill=255)
        mask = fine.reduce(_FINE)
        share = np.asarray(mask, np.float32) / 255
        box = np.s_[top:bottom, left:right]
        if glows:
            self.pixels[box] = mix(self.pixels[box], colour, share * 0.9)
            return
        roundness = max(1.5, min(right - left, bottom - top) / 9)
        relief = np.asarray(mask.filter(ImageFilter.GaussianBlur(roundness)), np.float32) / 255
        slope_y, slope_x = np.gradient(relief)
        lit = (slope_x * -self.light.direction[0] + slope_y * -self.light.direction[1]) * roundness * 1.6
        grain = smooth_noise(self._rng, mask.size, (max(2, mask.width // 9), max(2, mask.height // 9)))
        if min(mask.size) > 12:
            share_of_pattern = self._pattern_at(left, top, grain) * self._pattern_strength
            colour = colour + (colour * 0.35 - colour) * share_of_pattern[..., None]
        shade = np.clip(0.72 + lit + 0.22 * (grain - 0.5), 0.12, 1.5)
        ambient = colour * (0.45 + 0.55 * self.light.value) + self.light.horizon * 0.08
        self.pixels[box] = mix(self.pixels[box], np.asarray(ambient * shade[..., None], np.float32), share)

    def _pattern_at(self, left: int, top: int, grain: Field) -> Field:
        """How dark the pattern makes each pixel of a shape, 0..1; it continues from shape to shape."""
        y, x = np.mgrid[top : top + grain.shape[0], left : left + grain.shape[1]] / self._pattern_size
        wobble = grain * 2
        if self._pattern == 0:
            return np.zeros_like(grain)
        if self._pattern == 1:
            return np.asarray(np.sin(x + 0.4 * y + wobble) > 0.2)
        if self._pattern == 2:
            return np.asarray(np.sin(x) * np.sin(y) > 0.45)
        if self._pattern == 3:
            return np.asarray(np.abs(np.sin(y + np.abs(np.sin(x)))) < 0.35)
        return np.asarray(np.abs(np.sin(x * 0.6 + 4 * grain) + np.sin(y * 0.5 - 4 * grain)) < 0.3)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        cos, sin, mirror = self._turn
        return (
            self._origin[0] + self._scale * mirror * (x * cos - y * sin),
            self._origin[1] + self._scale * (x * sin + y * cos),
        )


def _cut_corners(points: Points, times: int, *, closed: bool = True) -> list[tuple[float, float]]:
    """Chaikin's corner cutting: a polygon becomes a curve."""
    path = np.array(points, np.float64)
    for _ in range(times):
        after = np.roll(path, -1, axis=0) if closed else path[1:]
        before = path if closed else path[:-1]
        cut = np.stack([before * 0.75 + after * 0.25, before * 0.25 + after * 0.75], axis=1).reshape(-1, 2)
        path = cut if closed else np.concatenate([path[:1], cut, path[-1:]])
    return [(float(x), float(y)) for x, y in path]
