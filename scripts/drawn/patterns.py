"""Art that shows no scene: fields of colour, cells, clouds, strokes, shapes, masses; and finishes for any art.

Real art differs in its statistics more than in its subjects: soft or hard, dark or bright, lines or flats, few large
shapes or many small ones. Here each is a few lines, and palettes, grounds, what lies on them and finishes combine.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from drawn.brush import Brush, Field, Light, as_image, hsv
from drawn.subjects import SUBJECTS
from helpers.recognise.camera import smooth_noise

Palette = NDArray[np.uint8]  # [256, 3]
Rng = np.random.Generator
Size = tuple[int, int]


def paint_pattern(rng: Rng, size: Size) -> Image.Image:
    """A ground in a palette of its own and, mostly, something on it."""
    tones = palette(rng)
    count = rng.choice((0, 1, 1, 2, 2, 3))
    image = _ground(rng, size, tones, GROUNDS if count else GROUNDS[:-1])
    if rng.random() < 0.4:  # another one shows here and there
        hard = rng.choice((1.0, 8.0, 60.0))
        share = (128 + hard * (_levels(_blobs(rng, size)).astype(np.float32) - 128)).clip(0, 255)
        image.paste(_ground(rng, size, palette(rng), GROUNDS), (0, 0), Image.fromarray(share.astype(np.uint8)))
    for thing in rng.choice(len(THINGS), count, replace=False):
        image = THINGS[thing](rng, image, palette(rng) if rng.random() < 0.6 else tones)
    return image


def _ground(rng: Rng, size: Size, tones: Palette, kinds: Sequence[Callable[[Rng, Size], Field]]) -> Image.Image:
    return Image.fromarray(tones[_levels(kinds[int(rng.integers(len(kinds)))](rng, size))], "RGB")


def palette(rng: Rng) -> Palette:
    """From one end of a few random colours to the other, softly or in steps; some are nearly grey, some garish."""
    count = int(rng.integers(2, 7))
    hues = rng.random() + rng.choice((0.03, 0.1, 0.25, 1.0)) * rng.uniform(-0.5, 0.5, count)
    values = np.sort(rng.beta(1.1, 1.1, count)) if rng.random() < 0.6 else rng.uniform(0.1, 1, count)
    vivid = rng.choice((0.15, 0.5, 0.8, 1.0))
    colours = np.stack([hsv(h, vivid * rng.uniform(0.4, 1), v) for h, v in zip(hues, values, strict=True)])
    place = np.linspace(0, count - 1, 256)
    if rng.random() < 0.25:
        place = np.floor(place * 0.999 + 0.5 / count)
    return np.stack([np.interp(place, np.arange(count), colours[:, c]) for c in range(3)], axis=1).astype(np.uint8)


def _levels(field: Field) -> NDArray[np.uint8]:
    """`field` as places in a palette: all of it is used."""
    low, high = float(field.min()), float(field.max())
    return np.asarray((field - low) * (255 / max(high - low, 1e-6)), np.uint8)


def _places(size: Size) -> tuple[Field, Field]:
    """Each pixel's x and y, in heights of the picture from its middle."""
    x = (np.arange(size[0], dtype=np.float32) - size[0] / 2) / size[1]
    y = np.arange(size[1], dtype=np.float32) / size[1] - 0.5
    return x[None, :], y[:, None]


# ------------------------------------------------------------------------------------------------------------ grounds


def _blobs(rng: Rng, size: Size) -> Field:
    x, y = _places(size)
    field: Field = rng.uniform(-1, 1) * x + rng.uniform(-1.5, 1.5) * y
    for _ in range(rng.integers(0, 7)):
        reach = rng.uniform(0.05, 0.45)
        far = (x - rng.uniform(-0.7, 0.7)) ** 2 + (y - rng.uniform(-0.5, 0.5)) ** 2
        field = field + rng.uniform(-1, 1) * np.exp(-far / reach**2)
    return field


def _clouds(rng: Rng, size: Size) -> Field:
    """Noise of several sizes, stretched any way; some of it folded into veins."""
    across, down, rough = rng.uniform(1, 7), rng.uniform(1, 9), rng.uniform(0.4, 0.85)
    total = np.zeros(size[::-1], np.float32)
    for octave in range(6):
        cells = (min(200, round(across * 2**octave)), min(280, round(down * 2**octave)))
        total += smooth_noise(rng, size, cells) * rough**octave
    folded = [total, np.abs(total - total.mean()), np.sin(total * rng.uniform(4, 14))]
    return np.asarray(folded[rng.integers(3)])


def _cells(rng: Rng, size: Size) -> Field:
    """Stained glass: the nearest of some points, with or without lead between."""
    small = (size[0] // 2, size[1] // 2)
    points = rng.uniform(-0.75, 0.75, (rng.integers(8, 90), 2)).astype(np.float32)
    x, y = _places(small)
    nearest = np.stack([(x - px) ** 2 + (y - py) ** 2 for px, py in points]).argmin(axis=0)
    tone = rng.uniform(0.15, 1, len(points)).astype(np.float32)[nearest] + rng.uniform(0, 0.4) * y
    if rng.random() < 0.7:
        seam = (nearest != np.roll(nearest, 1, axis=0)) | (nearest != np.roll(nearest, 1, axis=1))
        tone = np.where(seam, np.float32(0), tone)
    return np.asarray(Image.fromarray(tone).resize(size, Image.Resampling.NEAREST))


def _waves(rng: Rng, size: Size) -> Field:
    """Rings, rays and stripes about somewhere, shaken."""
    x, y = _places(size)
    x, y = x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.4, 0.4)
    shaken = smooth_noise(rng, size, (4, 4)) * rng.choice((0.0, 1.0, 4.0))
    rays, rings, stripes = rng.integers(0, 14), rng.choice((0, 0, 20, 60)), rng.choice((0, 9, 30))
    field = np.sin(np.arctan2(y, x) * rays + np.hypot(x, y) * rings + shaken) + np.sin(
        (x + y * rng.uniform(-2, 2)) * stripes
    )
    return np.asarray(field + rng.uniform(-2, 2) * y + shaken * 0.3)


def _layers(rng: Rng, size: Size) -> Field:
    """Cut paper: one skyline before the other."""
    count, (_, y) = int(rng.integers(3, 9)), _places(size)
    field: Field = 0.3 * smooth_noise(rng, size, (30, 40))
    for i in range(count):
        knots = rng.random(rng.integers(3, 24)) * rng.uniform(0.05, 0.5)
        line = np.interp(np.linspace(0, len(knots) - 1, size[0]), np.arange(len(knots)), knots)
        field = np.asarray(field + (y > (i + 0.5) / count - 0.5 - line[None, :]))
    return field


def _flat(rng: Rng, size: Size) -> Field:
    """Almost nothing: an empty sky, a wall."""
    return _places(size)[1] * rng.uniform(-1, 1) + rng.uniform(0.1, 1) * smooth_noise(rng, size, (3, 3))


GROUNDS: tuple[Callable[[Rng, Size], Field], ...] = (_blobs, _clouds, _clouds, _cells, _waves, _layers, _flat)


# ----------------------------------------------------------------------------------------------------- what is on them


def _shapes(rng: Rng, image: Image.Image, tones: Palette) -> Image.Image:
    """A few large shapes, or a crowd of small ones that grow towards the foot."""
    draw, (width, height) = ImageDraw.Draw(image), image.size
    crowd = rng.random() < 0.5
    count, kind = int(rng.integers(60, 420)) if crowd else int(rng.integers(3, 28)), int(rng.integers(4))
    rows = np.sort(rng.random(count))
    for row in rows:
        colour = tuple(int(c) for c in tones[rng.integers(256)])
        radius = height * (0.008 + 0.05 * row * rng.random() if crowd else rng.uniform(0.04, 0.3))
        x, y = rng.random() * width, height * row
        edge = (10, 8, 8) if kind % 2 else None
        if kind == 0:
            draw.ellipse((x - radius, y - radius * 1.7, x + radius, y + radius), colour)
        elif kind == 1:
            draw.rectangle((x - radius * rng.uniform(0.2, 2), y - radius, x + radius, y + radius), colour, edge)
        elif kind == 2:
            corners, turn = int(rng.integers(3, 8)), int(rng.integers(360))
            draw.regular_polygon((x, y, max(radius, 2)), corners, turn, colour, edge)
        else:
            draw.line((x, y, x + rng.normal() * radius * 4, y + rng.normal() * radius * 4), colour, int(radius / 3) + 1)
    return image


def _strokes(rng: Rng, image: Image.Image, _tones: Palette) -> Image.Image:
    """The picture again in strokes of a brush, along a flow."""
    count, long, wide = int(rng.integers(500, 1600)), rng.uniform(6, 34), int(rng.integers(2, 9))
    at = (rng.random((count, 2)) * image.size).astype(np.int32)
    flow = smooth_noise(rng, image.size, (3, 3)) * rng.uniform(4, 14)
    angle = flow[at[:, 1], at[:, 0]] + rng.normal(0, 0.2, count)
    colours = np.asarray(image)[at[:, 1], at[:, 0]] * rng.uniform(0.75, 1.2, (count, 1)) + rng.normal(0, 9, (count, 3))
    ways = np.stack([np.cos(angle), np.sin(angle)], axis=1) * long
    draw = ImageDraw.Draw(image)
    inks = colours.clip(0, 255).astype(int).tolist()
    for ends, ink in zip(np.concatenate([at - ways, at + ways], axis=1).tolist(), inks, strict=True):
        draw.line(ends, tuple(ink), wide)
    return image


def _mass(rng: Rng, image: Image.Image, tones: Palette) -> Image.Image:
    """One thing in the middle, the same on both sides: shoulders and a head, a bust, a beast from the front."""
    brush = _brush(rng, image)
    for _ in range(rng.integers(2, 6)):
        knots = int(rng.integers(4, 9))
        heights = np.sort(rng.uniform(-1.1, 1.2, knots))
        widths = rng.uniform(0.05, 0.9, knots) * rng.uniform(0.3, 1)
        outline = list(zip(widths.tolist(), heights.tolist(), strict=True))
        colour = tones[rng.integers(256)].astype(np.float32)
        brush.polygon([*outline, *((-w, h) for w, h in reversed(outline))], colour, smooth=int(rng.integers(3)))
    if rng.random() < 0.6:
        top = rng.uniform(-0.8, -0.3)
        brush.blob(0, top, 0.22, 0.28, brush.skin)
        for side in (-0.09, 0.09):
            brush.blob(side, top - 0.04, 0.04, 0.03, brush.glow * rng.uniform(0.1, 1))
    return as_image(brush.pixels)


def _subject(rng: Rng, image: Image.Image, _tones: Palette) -> Image.Image:
    """Something that is painted in scenes too."""
    brush = _brush(rng, image)
    SUBJECTS[str(rng.choice(list(SUBJECTS)))](brush, rng)
    return as_image(brush.pixels)


def _brush(rng: Rng, image: Image.Image) -> Brush:
    light = Light(rng, image.size, (0, 1), rng.uniform(0.3, 1), rng.uniform(0.1, 1))
    return Brush(np.asarray(image, np.float32), rng, light)


THINGS: tuple[Callable[[Rng, Image.Image, Palette], Image.Image], ...] = (_shapes, _strokes, _mass, _subject)


# ----------------------------------------------------------------------------------------------------------- finishes


def finish(rng: Rng, image: Image.Image) -> Image.Image:
    """Every other picture as another hand or printer would have it; all of them with fine detail, most less garish."""
    if rng.random() < 0.5:
        image = FINISHES[rng.integers(len(FINISHES))](rng, image)
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.25, 1.1))
    fine, strength = rng.uniform(0.08, 0.4), rng.uniform(0, 0.9)
    cells = (round(image.width * fine), round(image.height * fine))
    detail = 1 + strength * (smooth_noise(rng, image.size, cells) - 0.5)
    return as_image(np.asarray(image, np.float32) * detail[..., None])


def _toned(rng: Rng, image: Image.Image) -> Image.Image:
    """In the tones of one palette."""
    toned = Image.fromarray(palette(rng)[np.asarray(image.convert("L"))], "RGB")
    return Image.blend(image, toned, rng.uniform(0.5, 1))


def _dim(rng: Rng, image: Image.Image) -> Image.Image:
    """Dark and of low contrast, or bright and washed out."""
    if rng.random() < 0.6:
        return image.point(lambda level: 10 + level * (0.25 + 0.3 * level / 255))
    veil = Image.new("RGB", image.size, tuple(int(c) for c in hsv(rng.random(), 0.25, 1)))
    return Image.blend(image, veil, rng.uniform(0.35, 0.65))


def _screen(rng: Rng, size: Size, pitch: float) -> Field:
    """Dots or lines of a printer's screen, 0..255, in any direction."""
    x, y = (place * size[1] / pitch * math.tau for place in _places(size))
    cos, sin = math.cos(turn := rng.uniform(0, 3)), math.sin(turn)
    lines = np.sin(x * cos + y * sin)
    dots = lines * np.sin(y * cos - x * sin) if rng.random() < 0.5 else lines
    return np.asarray(128 + 120 * dots)


def _hatched(rng: Rng, image: Image.Image) -> Image.Image:
    """Ink on paper: lines where it is dark, one way, then the other."""
    level = np.asarray(ImageOps.equalize(image.convert("L")), np.float32)
    ink = level < 0.8 * _screen(rng, image.size, rng.uniform(4, 9))
    ink |= level < 0.5 * _screen(rng, image.size, rng.uniform(4, 9))
    tones = palette(rng)
    paper, dark = (tuple(int(c) for c in tones[tones.sum(axis=1).argsort()[at]]) for at in (250, 5))
    drawn = Image.new("RGB", image.size, paper)
    drawn.paste(dark, (0, 0), Image.fromarray(np.asarray(ink * 255, np.uint8)).filter(ImageFilter.GaussianBlur(0.6)))
    return drawn if rng.random() < 0.5 else ImageChops.multiply(drawn, image)


def _comic(rng: Rng, image: Image.Image) -> Image.Image:
    """Flats with outlines, some with a screen of dots."""
    soft = image.filter(ImageFilter.GaussianBlur(2.5))
    flats = ImageOps.posterize(ImageOps.autocontrast(soft), int(rng.integers(2, 4)))
    if rng.random() < 0.5:
        pixels: NDArray[Any] = (
            np.asarray(flats, np.float32) + (_screen(rng, image.size, rng.uniform(4, 8)) * 0.5 - 64)[..., None]
        )
        flats = as_image(pixels)
    edges = ImageOps.autocontrast(soft.convert("L").filter(ImageFilter.FIND_EDGES)).point(
        lambda v: 255 if v > 60 else 0
    )
    flats.paste((12, 10, 14), (0, 0), edges)
    return flats


def _turned(rng: Rng, image: Image.Image) -> Image.Image:
    """In quite other colours: its channels change places, or one is upside down."""
    bands = list(image.split())
    rng.shuffle(bands)
    if rng.random() < 0.4:
        bands[0] = ImageOps.invert(bands[0])
    return Image.merge("RGB", bands)


def _brushed(rng: Rng, image: Image.Image) -> Image.Image:
    return _strokes(rng, image, palette(rng))


FINISHES: tuple[Callable[[Rng, Image.Image], Image.Image], ...] = (_toned, _dim, _hatched, _comic, _turned, _brushed)
