"""Cards on tables, drawn so that it is known where each is: pictures for finding and recognising them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from helpers.recognise.camera import CARD_ASPECT, card_mask, homography, smooth_noise

SIZE = (1000, 750)  # width, height of a table
Quad = NDArray[np.float64]  # [4, 2], the card's own top left corner first, clockwise


def plain(size: tuple[int, int] = SIZE, grey: int = 150) -> Image.Image:
    return Image.new("RGB", size, (grey, grey, grey))


def wooden(size: tuple[int, int] = SIZE) -> Image.Image:
    rng = np.random.default_rng(0)
    grain = smooth_noise(rng, size, (60, 2)) * 0.5 + smooth_noise(rng, size, (14, 3)) * 0.5
    pixels = np.array((135, 95, 60)) * (0.65 + 0.6 * grain[..., None])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def cluttered(size: tuple[int, int] = SIZE) -> Image.Image:
    """Ellipses and lines in many colours."""
    table, rng = plain(size), np.random.default_rng(1)
    pen = ImageDraw.Draw(table)
    for _ in range(80):
        left, top, right, bottom = rng.uniform(-0.1, 1, 4) * (*size, *size)
        colour = tuple(rng.integers(0, 256, 3).tolist())
        pen.line((left, top, right, bottom), colour, int(rng.integers(1, 6)))
        pen.ellipse((left, top, left + rng.uniform(20, 160), top + rng.uniform(20, 160)), colour)
    return table


def a_card(seed: int = 0, border: int = 15) -> Image.Image:
    """A black or white card with a coloured frame, noise for art, and lines of text."""
    rng = np.random.default_rng(seed)
    card = Image.new("RGB", (252, 352), (border, border, border))
    pen = ImageDraw.Draw(card)
    pen.rectangle((10, 10, 241, 341), tuple(rng.integers(60, 230, 3).tolist()))
    art = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((212, 156), Image.Resampling.BICUBIC)
    card.paste(art, (20, 40))
    pen.rectangle((20, 208, 231, 324), (235, 230, 215))
    for y in range(218, 300, 14):
        pen.line((28, y, int(rng.integers(120, 224)), y), (40, 40, 40), 4)
    return card


def where(centre: tuple[float, float], height: float, turn: float = 0, tilt: float = 0, towards: float = 0) -> Quad:
    """The corners of a card of `height` pixels, turned clockwise, then tilted about an axis; all angles in degrees."""
    half = CARD_ASPECT / 2
    corners = np.array([(-half, -0.5, 0), (half, -0.5, 0), (half, 0.5, 0), (-half, 0.5, 0)])
    corners = corners @ rotation(2, turn).T @ rotation(2, -towards).T @ rotation(0, tilt).T @ rotation(2, towards).T
    distance = 1200 / height  # in heights of the card: a focal length of 1,200 pixels
    return np.asarray(corners[:, :2] * 1200 / (corners[:, 2:] + distance) + centre)


def rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    one, other = (i for i in range(3) if i != axis)
    turned = np.eye(3)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned[one, one] = turned[other, other] = cos
    turned[one, other], turned[other, one] = -sin, sin
    return turned


def lay(table: Image.Image, card: Image.Image, quad: Quad, shadow: float = 0) -> Image.Image:
    """Draw the card onto the table, with round corners, and a soft shadow around it that darkens by that share."""
    flat = card.convert("RGBA")
    flat.putalpha(card_mask(flat.size))
    width, height = flat.size
    frame = ((0.0, 0.0), (float(width), 0.0), (float(width), float(height)), (0.0, float(height)))
    corners = tuple((x, y) for x, y in (quad * 2).tolist())
    fine = (table.width * 2, table.height * 2)
    laid = flat.transform(
        fine, Image.Transform.PERSPECTIVE, homography(frame, corners).tolist(), Image.Resampling.BICUBIC
    ).reduce(2)
    if shadow:
        dark = laid.getchannel("A").filter(ImageFilter.GaussianBlur(5)).point(lambda a: int(a * shadow))
        table.paste((0, 0, 0), (1, 2), dark)
    table.paste(laid, (0, 0), laid)
    return table


def lay_all(table: Image.Image, quads: Iterable[Quad], cards: Iterable[Image.Image] | None = None) -> Image.Image:
    """Lay a card into each quad, each another one, each on those before it."""
    quads = list(quads)
    for quad, card in zip(quads, cards or map(a_card, range(len(quads))), strict=True):
        lay(table, card, quad)
    return table
