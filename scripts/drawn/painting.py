"""Painted scenes for the drawn cards: a sky, a land, a subject in the light. The same seed paints the same picture.

Art is what tells one card from another, for people and for a model. So pictures differ here as art does: in subject,
composition, colours, light and depth; and none is mere noise.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from drawn.brush import Brush, Colour, Field, Light, Pixels, as_image, grid, hsv, mix
from drawn.patterns import finish, paint_pattern
from drawn.subjects import SUBJECTS
from helpers.recognise.camera import smooth_noise

# hues of the sky and of the land, in turns of the colour wheel, and how bright and saturated it all is
MOODS = {
    "day": ((0.52, 0.62), (0.18, 0.40), 0.95, 0.55),
    "dawn": ((0.95, 1.10), (0.05, 0.15), 0.90, 0.60),
    "dusk": ((0.70, 0.90), (0.60, 0.75), 0.70, 0.65),
    "night": ((0.58, 0.72), (0.55, 0.70), 0.42, 0.60),
    "inferno": ((0.00, 0.08), (0.95, 1.08), 0.70, 0.95),
    "arctic": ((0.48, 0.58), (0.50, 0.62), 1.00, 0.22),
    "swamp": ((0.18, 0.33), (0.22, 0.35), 0.55, 0.60),
    "desert": ((0.08, 0.14), (0.06, 0.12), 0.98, 0.55),
    "arcane": ((0.74, 0.92), (0.40, 0.55), 0.65, 0.90),
    "deep": ((0.45, 0.56), (0.48, 0.60), 0.62, 0.85),
}


def paint(subject: str, mood: str, seed: int, size: tuple[int, int] = (480, 352)) -> Image.Image:
    """Return a picture of `subject` (of SUBJECTS, or of LANDS: a landscape) in `mood` (of MOODS), `size` in pixels.

    Without a subject it is a pattern in colours of its own.
    """
    rng = np.random.default_rng(seed)
    after = np.random.default_rng((seed, 1))  # the finish is the same in any size
    if not subject:
        return finish(after, paint_pattern(rng, size))
    sky_hues, land_hues, brightness, saturation = MOODS[mood]
    light = Light(rng, size, sky_hues, brightness, saturation)
    pixels = _sky(rng, size, light)
    land_hue = rng.uniform(*land_hues)
    if subject not in SUBJECTS and subject not in LANDS:
        raise KeyError(subject)
    land = subject if subject in LANDS else str(rng.choice(list(LANDS)))
    pixels = LANDS[land](rng, pixels, light, land_hue)
    if subject in SUBJECTS:
        brush = Brush(pixels, rng, light)
        SUBJECTS[subject](brush, rng)
        pixels = brush.pixels
    pixels = _air(rng, pixels, light)
    return finish(after, ImageOps.autocontrast(as_image(pixels), cutoff=0.5, preserve_tone=True))


def _fractal(rng: np.random.Generator, size: tuple[int, int], across: float, down: float, octaves: int = 4) -> Field:
    """Clouds, rock, water: noise of several sizes on top of each other, 0..1."""
    half = (size[0] // 2, size[1] // 2)  # nobody sees the difference
    total = np.zeros(half[::-1], np.float32)
    for octave in range(octaves):
        cells = (max(1, round(across * 2**octave)), max(1, round(down * 2**octave)))
        total += smooth_noise(rng, half, cells) / 2**octave
    total -= total.min()
    total /= max(float(total.max()), 1e-6)
    return np.asarray(Image.fromarray(total).resize(size, Image.Resampling.BILINEAR))


def _ridge(rng: np.random.Generator, width: int, bumps: float, roughness: float) -> NDArray[np.float32]:
    """A skyline: `width` heights 0..1, made of bumps of several sizes."""
    line = np.zeros(width, np.float32)
    for octave in range(6):
        knots = rng.random(max(2, round(bumps * 2**octave) + 1))
        line += np.interp(np.linspace(0, len(knots) - 1, width), np.arange(len(knots)), knots) * roughness**octave
    return np.asarray((line - line.min()) / max(float(np.ptp(line)), 1e-6), np.float32)


# ------------------------------------------------------------------------------------------------------------- the sky


def _sky(rng: np.random.Generator, size: tuple[int, int], light: Light) -> Pixels:
    height = np.linspace(0, 1, size[1], dtype=np.float32)[:, None, None] ** rng.uniform(0.6, 1.6)
    pixels: Pixels = np.asarray(np.broadcast_to(light.top * (1 - height) + light.horizon * height, (*size[::-1], 3)))
    y, x = grid(pixels)
    distance = np.hypot(x - light.at[0], y - light.at[1])
    kind = rng.integers(5)
    if light.value < 0.6 and kind != 1:
        stars = (rng.spawn(1)[0].random((size[1], size[0])) > 0.9985).astype(np.float32)
        pixels = mix(pixels, hsv(0, 0, 1), np.asarray(stars * rng.random(), np.float32))
    if kind in (0, 1):  # sun or moon, with its glow
        radius = rng.uniform(0.04, 0.16) * size[1]
        pixels = mix(pixels, light.colour, np.exp(-((distance / (radius * 3.2)) ** 2)) * 0.6)
        pixels = mix(pixels, light.colour, np.clip(radius - distance, 0, 1))
    elif kind == 2:  # rays
        angle = np.arctan2(y - light.at[1], x - light.at[0])
        rays = (np.sin(angle * rng.integers(7, 19) + rng.uniform(0, 6)) > 0.3) * np.exp(-distance / size[0] * 1.5)
        pixels = mix(pixels, light.colour, np.asarray(rays * 0.5, np.float32))
    elif kind == 3:  # bands of coloured light
        wave = np.sin(y / size[1] * rng.uniform(6, 16) + smooth_noise(rng, size, (3, 2)) * 9)
        pixels = mix(pixels, hsv(light.hue + rng.uniform(0.2, 0.6), 0.8, 0.9), np.clip(wave, 0, 1) * 0.45)
    clouds = np.clip((_fractal(rng, size, 2.5, 4) - rng.uniform(0.4, 0.7)) * 3, 0, 1) * rng.uniform(0.2, 0.9)
    tint = hsv(light.hue, light.saturation * 0.25, light.value * rng.choice((0.35, 1.15)))
    return mix(pixels, tint, np.asarray(clouds, np.float32))


# ------------------------------------------------------------------------------------------------------------ the land


def _layer(
    rng: np.random.Generator, pixels: Pixels, line: NDArray[np.float32], colour: Colour, texture: tuple[float, float]
) -> Pixels:
    """Fill all below `line` (pixels from the top, one a column) with textured `colour`, lighter at its edge."""
    y, _ = grid(pixels)
    below = np.clip(y - line[None, :], 0, 1)
    relief = _fractal(rng, (pixels.shape[1], pixels.shape[0]), *texture, octaves=3)
    edge = np.exp(-np.clip(y - line[None, :], 0, None) / (pixels.shape[0] * 0.08))
    return mix(pixels, colour * (0.55 + 0.6 * relief + 0.35 * edge)[..., None], np.asarray(below, np.float32))


def _mountains(rng: np.random.Generator, pixels: Pixels, light: Light, hue: float) -> Pixels:
    height, width = pixels.shape[:2]
    ranges = rng.integers(2, 5)
    top, rough = rng.uniform(0.3, 0.5), rng.uniform(0.45, 0.65)
    for i in range(ranges):
        near = (i + 1) / ranges
        line = (top + (0.88 - top) * near - _ridge(rng, width, rng.uniform(1, 4), rough) * 0.38 * (1.1 - near)) * height
        colour = light.haze(hsv(hue, light.saturation * 0.8, light.value * rng.uniform(0.35, 0.6)), 0.75 * (1 - near))
        pixels = _layer(rng, pixels, np.asarray(line, np.float32), colour, (5, 9))
    return pixels


def _hills(rng: np.random.Generator, pixels: Pixels, light: Light, hue: float) -> Pixels:
    height, width = pixels.shape[:2]
    for i, top in enumerate(np.sort(rng.uniform(0.5, 0.85, 3))):
        line = (top - _ridge(rng, width, rng.uniform(0.6, 2), 0.15) * 0.16) * height
        colour = hsv(hue + rng.uniform(-0.05, 0.05), light.saturation, light.value * (0.75 - 0.18 * i))
        pixels = _layer(rng, pixels, np.asarray(line, np.float32), light.haze(colour, 0.4 - 0.2 * i), (3, 14))
    return pixels


def _sea(rng: np.random.Generator, pixels: Pixels, light: Light, hue: float) -> Pixels:
    height, width = pixels.shape[:2]
    horizon = rng.uniform(0.5, 0.7) * height
    y, x = grid(pixels)
    depth = np.clip((y - horizon) / (height - horizon), 0, 1)
    wave = np.clip(y - horizon, 0, None) ** 0.6 * rng.uniform(1.2, 3)
    swell = np.sin(wave + _fractal(rng, (width, height), 5, 20, octaves=2) * 8)
    water = hsv(hue, light.saturation, light.value * 0.6) * (0.7 + 0.3 * swell[..., None]) + light.horizon * 0.2
    glitter = np.exp(-((x - light.at[0]) ** 2) / (2 * (20 + 90 * depth) ** 2)) * np.clip(swell, 0, 1)
    pixels = mix(pixels, np.asarray(water, np.float32), np.asarray(np.clip(y - horizon, 0, 1), np.float32))
    return mix(pixels, light.colour, np.asarray(glitter * np.clip(y - horizon, 0, 1) * 0.7, np.float32))


def _tree(
    brush: Brush, rng: np.random.Generator, foot: tuple[float, float], tall: float, colour: Colour, *, conifer: bool
) -> None:
    x, y = foot
    trunk = np.array((70, 50, 38), np.float32) * brush.light.value
    brush.canvas_polygon(
        [(x - tall * 0.04, y), (x - tall * 0.02, y - tall), (x + tall * 0.02, y - tall), (x + tall * 0.04, y)], trunk
    )
    for i in range(3 if conifer else 4):
        if conifer:
            top, wide = y - tall * (1.1 - 0.25 * i), tall * (0.12 + 0.08 * i)
            brush.canvas_polygon([(x, top), (x + wide, top + tall * 0.4), (x - wide, top + tall * 0.4)], colour)
        else:
            at, radius = (
                (x + tall * rng.uniform(-0.18, 0.18), y - tall * rng.uniform(0.7, 1.05)),
                tall * rng.uniform(0.12, 0.24),
            )
            angles = np.linspace(0, 2 * math.pi, 14, endpoint=False)
            brush.canvas_polygon([(at[0] + radius * math.cos(a), at[1] + radius * math.sin(a)) for a in angles], colour)


def _woods(rng: np.random.Generator, pixels: Pixels, light: Light, hue: float) -> Pixels:
    pixels = _hills(rng, pixels, light, hue)
    height, width = pixels.shape[:2]
    conifers = rng.random() < 0.5
    for depth in range(2):
        brush = Brush(pixels, rng, light)
        colour = light.haze(
            hsv(hue + rng.uniform(-0.06, 0.06), light.saturation, light.value * 0.42), 0.45 * (1 - depth)
        )
        for x in rng.uniform(-0.05, 1.05, rng.integers(6, 15)):
            foot = (x * width, height * rng.uniform(0.68 + 0.14 * depth, 0.8 + 0.2 * depth))
            tall = height * rng.uniform(0.25, 0.5) * (0.7 + 0.5 * depth)
            _tree(brush, rng, foot, tall, colour, conifer=conifers)
        pixels = brush.pixels
    return pixels


def _city(rng: np.random.Generator, pixels: Pixels, light: Light, hue: float) -> Pixels:
    height, width = pixels.shape[:2]
    for depth in range(3):
        brush = Brush(pixels, rng, light)
        colour = light.haze(hsv(hue + rng.uniform(-0.1, 0.1), 0.3, light.value * 0.55), 0.6 - 0.25 * depth)
        for x in rng.uniform(0, width, rng.integers(4, 9)):
            wide, tall = width * rng.uniform(0.03, 0.1), height * rng.uniform(0.2, 0.62)
            base = height * (0.75 + 0.12 * depth)
            roof = rng.uniform(0, 2.5) * wide
            brush.canvas_polygon(
                [
                    (x - wide, base),
                    (x - wide, base - tall),
                    (x, base - tall - roof),
                    (x + wide, base - tall),
                    (x + wide, base),
                ],
                colour,
            )
        pixels = brush.pixels
        pixels = _layer(rng, pixels, np.full(width, height * (0.74 + 0.12 * depth), np.float32), colour * 0.8, (6, 12))
    return pixels


def _cave(rng: np.random.Generator, pixels: Pixels, light: Light, hue: float) -> Pixels:
    height, width = pixels.shape[:2]
    y, x = grid(pixels)
    rim = _fractal(rng, (width, height), 4, 3, 4) * 0.5
    hole = np.hypot((x / width - rng.uniform(0.35, 0.65)) / rng.uniform(0.3, 0.45), (y / height - 0.45) / 0.42) + rim
    rock = (
        hsv(hue, light.saturation * 0.5, light.value * 0.35)
        * (0.4 + _fractal(rng, (width, height), 6, 8, 3))[..., None]
    )
    glow = np.exp(-(np.clip(hole - 1, 0, None) * 3)) * 0.4
    rock = np.asarray(rock + light.horizon * glow[..., None], np.float32)
    pixels = mix(pixels, rock, np.asarray(np.clip((hole - 1.1) * 12, 0, 1), np.float32))
    return _layer(
        rng, pixels, (0.86 - 0.08 * _ridge(rng, width, 3, 0.5)) * height, hsv(hue, 0.3, light.value * 0.3), (4, 9)
    )


def _hall(rng: np.random.Generator, pixels: Pixels, light: Light, hue: float) -> Pixels:
    height, width = pixels.shape[:2]
    brush = Brush(pixels, rng, light)
    stone = hsv(hue, light.saturation * 0.35, light.value * 0.7)
    vanishing = (width * rng.uniform(0.3, 0.7), height * rng.uniform(0.4, 0.55))
    for depth in np.linspace(0.25, 1.0, rng.integers(3, 6)):
        for side in (-1, 1):
            x = vanishing[0] + side * width * 0.62 * depth
            wide = width * 0.055 * depth
            top, foot = vanishing[1] - height * 0.75 * depth, vanishing[1] + height * 0.55 * depth
            brush.canvas_polygon(
                [(x - wide, top), (x + wide, top), (x + wide, foot), (x - wide, foot)], light.haze(stone, 1 - depth)
            )
    pixels = brush.pixels
    y, x = grid(pixels)
    tiles = (
        np.floor((x - vanishing[0]) / np.clip(y - vanishing[1], 4, None) * 3)
        + np.floor(900 / np.clip(y - vanishing[1] + 30, 4, None))
    ) % 2
    floor = stone * (0.45 + 0.3 * tiles)[..., None]
    return mix(
        pixels, np.asarray(floor, np.float32), np.asarray(np.clip(y - vanishing[1] - height * 0.14, 0, 1), np.float32)
    )


def _void(rng: np.random.Generator, pixels: Pixels, light: Light, hue: float) -> Pixels:
    """No land at all: clouds of colour, as behind spells and spirits."""
    size = (pixels.shape[1], pixels.shape[0])
    warp = _fractal(rng, size, 3, 3)
    bands = np.sin(warp * rng.uniform(6, 20))
    pixels = mix(pixels, hsv(hue, light.saturation, light.value), np.asarray(np.clip(bands, 0, 1) * 0.8, np.float32))
    return mix(
        pixels, hsv(hue + rng.uniform(0.2, 0.5), light.saturation, light.value * 0.5), _fractal(rng, size, 2, 2) * 0.6
    )


LANDS: dict[str, Callable[[np.random.Generator, Pixels, Light, float], Pixels]] = {
    "mountains": _mountains,
    "hills": _hills,
    "sea": _sea,
    "woods": _woods,
    "city": _city,
    "cave": _cave,
    "hall": _hall,
    "void": _void,
}


def _air(rng: np.random.Generator, pixels: Pixels, light: Light) -> Pixels:
    """What lies over everything: mist, sparks, a darker rim, strokes of the brush."""
    height, width = pixels.shape[:2]
    y, x = grid(pixels)
    if rng.random() < 0.4:
        mist = _fractal(rng, (width, height), 2, 5, 3) * np.exp(-(((y / height - rng.uniform(0.5, 0.9)) / 0.15) ** 2))
        pixels = mix(pixels, light.horizon, np.asarray(mist * 0.7, np.float32))
    if rng.random() < 0.3:
        for _ in range(rng.integers(8, 40)):
            at, radius = (rng.uniform(0, width), rng.uniform(0, height)), rng.uniform(1, 3.5)
            box = np.s_[max(0, int(at[1]) - 9) : int(at[1]) + 10, max(0, int(at[0]) - 9) : int(at[0]) + 10]
            spark = np.exp(-((x[box] - at[0]) ** 2 + (y[box] - at[1]) ** 2) / (2 * radius**2))
            pixels[box] = mix(pixels[box], light.colour, np.asarray(spark, np.float32))
    strokes = 1 + 0.12 * (_fractal(rng, (width, height), 40, 25, 2) - 0.5)
    rim = 1 - 0.35 * ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) * 2
    return np.asarray(pixels * (strokes * rim)[..., None], np.float32)
