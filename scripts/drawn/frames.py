"""How a card looks in print: borders, frames of five eras, treatments, title, cost, type line, text, collector line.

Everything is drawn at the size of Scryfall's `png`, 745 x 1040; smaller pictures are scaled down from that.
"""

import colorsys
import functools
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

from drawn.brush import Field
from drawn.catalogue import BASIC_LANDS, EFFECTS, SHOWCASES, Card, Side
from drawn.painting import paint
from helpers.recognise.camera import card_mask, smooth_noise

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
SIZE = (745, 1040)
BLACK, INK, WHITE = (14, 13, 13), (18, 16, 16), (246, 244, 240)
BORDERS = {"black": BLACK, "white": WHITE, "silver": (168, 172, 178), "gold": (196, 160, 70)}
KINDS = ("W", "U", "B", "R", "G", "", "gold", "land")  # of frames


def _inks(colours: str) -> dict[str, Colour]:
    return {kind: (r, g, b) for kind, (r, g, b) in zip(KINDS, map(bytes.fromhex, colours.split()), strict=True)}


FRAME_COLOURS = _inks("ece2be 4684be 4a4448 c85438 4a8054 989ea6 ceac54 9e8c7a")
OLD_COLOURS = _inks("cec6b8 246a9e 302a2c 982e34 224834 74563e b29448 746e6e")  # before 2003: deeper
# texture -> bumps across and down, and into how many veins they are folded (0: none; -1: sparks)
TEXTURES = {
    "flat": (2, 3, 0),
    "smoke": (3, 12, 0),
    "stone": (24, 30, 0),
    "cloth": (150, 190, 0),
    "brushed": (3, 240, 0),
    "marble": (3, 5, 16),
    "water": (5, 24, 12),
    "leaves": (26, 36, 9),
    "wood": (40, 2, 12),
    "frost": (16, 20, 24),
    "sparks": (110, 150, -1),
}
_GRAINS = {  # of each era, for KINDS
    "1993": ("cloth", "water", "marble", "stone", "leaves", "wood", "cloth", "stone"),
    "1997": ("stone", "water", "stone", "leaves", "leaves", "wood", "marble", "stone"),
    "2003": ("smoke", "water", "smoke", "stone", "wood", "brushed", "marble", "stone"),
    "2015": ("flat", "smoke", "marble", "smoke", "wood", "brushed", "flat", "stone"),
    "future": ("smoke", "water", "smoke", "flat", "leaves", "brushed", "smoke", "wood"),
}
PIP_COLOURS = {
    "W": (248, 240, 200),
    "U": (150, 200, 235),
    "B": (120, 112, 116),
    "R": (236, 150, 120),
    "G": (150, 205, 160),
}
RARITY_COLOURS = {"common": (30, 30, 30), "uncommon": (150, 170, 185), "rare": (200, 165, 70), "mythic": (215, 95, 30)}
FIBRES, GRAIN = 26.0, 8.0  # of paper and its scan: by how many levels of 255 they lighten or darken the ink
MARGIN = 34  # pixels of border
_SYMBOL = re.compile(r"\{(\w+)\}")
_SIGNS = {name: colour for colour, (name, _) in BASIC_LANDS.items()}


@dataclass(frozen=True, slots=True)
class _Style:
    """Where an era prints what; boxes are left, top, right, bottom."""

    art: Box
    title: Box
    type_line: Box
    text: Box
    bars: str = ""  # tone of the bars of title and type line, if they have some
    panel: str = "paper"  # tone of the text box
    power_box: bool = True
    collector_line: bool = False  # in the border, else the artist in the frame
    frame: str = "own"  # tone of the frame
    texture: str = ""  # of TEXTURES; without one, as the colour has it
    window: str = "rect"  # what the art is seen through: rect, arch, oval, hexagon
    full: float = 0  # the share of art that shines through the frame: 0, or art is all over the card
    solid: float = 1  # how solid bars and text box are
    radius: int = 14
    outline: str = "black"  # tone of all edges
    edge: int = 3
    ornament: str = ""  # in the frame: lines, dots, corners
    cut: str = "Bold"  # of the title's typeface
    caps: bool = False
    centred: bool = False
    size: int = 38  # of text, at most
    seed: int = 0  # of textures and shades: of the printing, not of its art
    middle: bool = False  # text stands in the middle of its box
    centred_text: bool = False


_OLD: dict[str, Any] = {"power_box": False, "panel": "textured", "middle": True}
_NEW: dict[str, Any] = {"bars": "pale", "panel": "pale"}
_STYLES = {
    "1993": _Style((78, 92, 667, 552), (66, 42, 680, 88), (66, 556, 680, 600), (84, 610, 661, 920), **_OLD),
    "1997": _Style((70, 92, 675, 548), (60, 42, 686, 88), (60, 552, 686, 596), (70, 602, 675, 926), **_OLD),
    "2003": _Style((60, 108, 685, 566), (46, 46, 699, 104), (46, 570, 699, 626), (58, 632, 687, 936), **_NEW),
    "2015": _Style(
        *((56, 114, 689, 576), (42, 48, 703, 110), (42, 580, 703, 638), (54, 644, 691, 948)),
        **_NEW,
        collector_line=True,
        radius=22,
    ),
    "future": _Style(
        *((96, 100, 700, 590), (150, 44, 700, 96), (60, 610, 700, 660), (70, 668, 690, 940)),
        **_NEW,
        window="arch",
        radius=26,
        ornament="lines",
    ),
}
# what a treatment changes in the newest frame, or in any ("snow", "nyxtouched"), or in that of 1997 ("retro")
_CHANGES: dict[str, dict[str, Any]] = {
    "borderless": {"full": 1, "solid": 0.65, "bars": "black", "panel": "black"},
    "extendedart": {"art": (0, 114, 745, 576)},
    "fullart": {"full": 1, "solid": 0.85, "type_line": (42, 880, 703, 938), "text": (54, 640, 691, 870)},
    "snow": {"texture": "frost", "frame": "pale", "outline": "white"},
    "devoid": {"full": 0.55, "solid": 0.7},
    "nyxtouched": {"texture": "sparks", "frame": "deep"},
    "glass": {"full": 1, "solid": 0.8, "bars": "deep", "panel": "deep", "outline": "own", "radius": 4},
    "parchment": {"frame": "paper", "texture": "stone", "bars": "", "panel": "", "outline": "brown", "window": "oval"},
    "ink": {"frame": "white", "texture": "frost", "bars": "white", "panel": "white", "edge": 5, "radius": 0},
    "deco": {"frame": "black", "texture": "brushed", "bars": "deep", "panel": "deep", "outline": "gold", "caps": True},
    "comic": {"frame": "bright", "bars": "white", "panel": "white", "edge": 6, "radius": 0, "cut": "Sans"},
    "retro": {"collector_line": True},
    "neon": {"frame": "black", "bars": "black", "panel": "black", "outline": "bright", "cut": "Sans", "radius": 30},
    "storybook": {"frame": "deep", "texture": "leaves", "bars": "paper", "panel": "paper", "outline": "gold"},
}
_PLACINGS: tuple[tuple[Box, ...], ...] = (  # title, art, type line and text of showcases
    ((42, 48, 703, 110), (56, 114, 689, 576), (42, 580, 703, 638), (54, 644, 691, 948)),
    ((42, 48, 703, 110), (56, 114, 689, 690), (42, 694, 703, 746), (54, 750, 691, 948)),
    ((42, 600, 703, 660), (48, 48, 697, 640), (60, 664, 685, 712), (54, 718, 691, 948)),
    ((90, 60, 655, 112), (80, 118, 665, 560), (90, 566, 655, 614), (84, 622, 661, 930)),
    ((42, 48, 703, 110), (42, 160, 703, 640), (42, 112, 703, 156), (42, 644, 703, 948)),
)


def _style(card: Card, side: Side) -> _Style:
    """The style of a printing: of its era and treatment, with details that no other printing need have."""
    rng, kind = random.Random(f"{card.look or card.id} {side.name}"), card.treatment
    newest = kind not in ("", "snow", "nyxtouched", "retro")
    style = _STYLES["2015" if newest else "1997" if kind == "retro" else card.set.frame]
    style = replace(style, seed=rng.getrandbits(32), caps=rng.random() < 0.06)
    style = replace(style, size=rng.choice((26, 30, 34, 38, 44)), middle=style.middle or rng.random() < 0.5)
    style = replace(style, **_CHANGES.get(kind, {}), centred_text=style.middle and rng.random() < 0.3)
    if kind in SHOWCASES and kind != "retro":
        ornament, window = rng.choice(("", "lines", "dots", "corners")), rng.choice(("rect", "arch", "oval", "hexagon"))
        style = replace(style, ornament=ornament, window=style.window if style.window != "rect" else window)
        title, art, type_line, text = rng.choice(_PLACINGS)
        style = replace(style, title=title, art=art, type_line=type_line, text=text, centred=rng.random() < 0.4)
        style = replace(style, texture=style.texture or rng.choice(list(TEXTURES)))
    return style


def draw_side(card: Card, index: int) -> Image.Image:
    """The picture of the side with `index` (0 if all parts share one): RGB, 745 x 1040, with rounded corners."""
    side = card.sides[index]
    if card.image_status == "placeholder":
        drawn = _placeholder(card)
    else:
        drawn = _LAYOUTS.get(card.layout, _plain)(card, side, index)
    if card.foil:
        drawn = _foil(drawn, random.Random(card.id))
    finished = Image.new("RGB", SIZE, BLACK if card.set.border == "black" else WHITE)
    finished.paste(_printed(drawn, random.Random(f"{card.id} {index}")), (0, 0), card_mask(SIZE))
    return finished


def _foil(image: Image.Image, rng: random.Random) -> Image.Image:
    """A faint rainbow over all of it."""
    hues, turn, start = rng.uniform(150, 700), rng.uniform(-1, 1), rng.random() * 256
    y, x = np.mgrid[0:52, 0:37] / 52
    hue = np.asarray((start + hues * (x * turn + y) + 20 * np.sin(9 * x)) % 256, np.uint8)
    bands = [Image.fromarray(hue), Image.new("L", hue.shape[::-1], 200), Image.new("L", hue.shape[::-1], 255)]
    shine = Image.merge("HSV", bands).convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
    return Image.blend(image, ImageChops.soft_light(image, shine), rng.uniform(0.15, 0.55))


def _printed(image: Image.Image, rng: random.Random) -> Image.Image:
    """As ink on paper, scanned: nothing is quite flat, so that camera noise matters no more than on real cards."""
    paper = _paper()
    left, top = rng.randrange(paper.width - SIZE[0]), rng.randrange(paper.height - SIZE[1])
    sheet = paper.crop((left, top, left + SIZE[0], top + SIZE[1]))
    sheet = Image.blend(Image.new("RGB", SIZE, (128, 128, 128)), sheet, rng.uniform(0.2, 1))
    return ImageChops.add(image, sheet, offset=-128)


@functools.cache
def _paper() -> Image.Image:
    """Fibres and grain of a sheet from which cards are cut: 128 where it is as bright as its ink."""
    rng = np.random.default_rng(0)
    size = (SIZE[0] * 2, SIZE[1] * 2)
    fibres = smooth_noise(rng, size, (140, 200)) + smooth_noise(rng, size, (24, 34)) - 1
    grain = rng.standard_normal((size[1], size[0]), dtype=np.float32)
    levels = 128 + FIBRES * fibres + GRAIN * grain
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")


# ------------------------------------------------------------------------------------------------------------ layouts


def _plain(card: Card, side: Side, _index: int) -> Image.Image:
    style = _style(card, side)
    if "Planeswalker" in side.type_line:
        lower = {"art": (48, 114, 697, 600), "type_line": (42, 604, 703, 656), "text": (48, 662, 697, 954)}
        style = replace(style, **lower, power_box=True)  # type: ignore[arg-type]
    image = _framed(card, side, style)
    _print(image, card, side, style)
    return image


def _two_sided(card: Card, side: Side, index: int) -> Image.Image:
    image = _plain(card, side, index)
    draw = ImageDraw.Draw(image)
    draw.ellipse((4, 56, 52, 104), fill=INK, outline=WHITE, width=3)  # clear of the title
    draw.pieslice((13, 65, 43, 95), 90 if index else 270, 270 if index else 450, fill=WHITE)
    return image


def _side_by_side(card: Card, _side: Side, _index: int) -> Image.Image:
    """Two small cards, to be read sideways."""
    lying = Image.new("RGB", (SIZE[1], SIZE[0]), BLACK)
    for i, part in enumerate(card.sides):
        half = _plain(replace(card, treatment=""), part, i).resize((500, 697), Image.Resampling.LANCZOS)
        lying.paste(half.crop((18, 18, 482, 679)), (34 + i * 508, 40))
    return lying.transpose(Image.Transpose.ROTATE_90)


def _upside_down(card: Card, _side: Side, _index: int) -> Image.Image:
    """One part above the art, the other below it, upside down."""
    side = card.sides[0]
    style = replace(
        _style(card, side), text=(58, 110, 687, 262), type_line=(46, 266, 699, 318), art=(58, 326, 687, 714)
    )
    image = _framed(card, side, style)
    for part in card.sides:
        _print(image, card, part, style, power_at=(560, 208), small_print=False)
        image = image.transpose(Image.Transpose.ROTATE_180)
    line = "   ".join(_collector_lines(card, side, style))
    _write(image, (72, 682, 680, 710), line, 22, "Bold", WHITE, halo=BLACK)
    return image


def _with_page(card: Card, side: Side, _index: int) -> Image.Image:
    """A creature with a small spell in the left half of its text box."""
    image = _plain(card, replace(side, flavour="", text=""), 0)
    left, top, right, bottom = _style(card, side).text
    middle, page = (left + right) // 2, card.sides[1]
    for box in ((left, top, middle - 4, bottom), (middle - 3, top, right, bottom)):
        ImageDraw.Draw(image).rectangle(box, (225, 205, 170), INK, 3)
    _write(image, (left + 12, top + 4, middle - 12, top + 40), page.name, 28, "Bold")
    width = _cost(image, page.mana_cost, middle - 10, top + 53, 10)  # below the name, which may be long
    _write(image, (left + 12, top + 40, middle - width - 18, top + 66), page.type_line, 22)
    _text_block(image, (left + 12, top + 70, middle - 14, bottom - 10), page.shown[2], "")
    _text_block(image, (middle + 8, top + 10, right - 10, bottom - 50), side.shown[2], "")
    _power(image, side, _style(card, side), None)
    return image


def _token(card: Card, side: Side, _index: int) -> Image.Image:
    full, wide = {"full": 1.0, "solid": 0.75}, {"art": (48, 60, 697, 742)}
    change = random.Random(card.id).choice(({}, full, wide, {**wide, "window": "arch"}, {**wide, "window": "oval"}))
    style = replace(_style(card, side), type_line=(42, 746, 703, 804), text=(54, 810, 691, 948), centred=True)
    style = replace(style, **change)
    image = _framed(card, side, style)
    _print(image, card, replace(side, flavour=""), style)
    return image


def _art_card(_card: Card, side: Side, index: int) -> Image.Image:
    if index == 0:
        return _art(side, SIZE)
    image = Image.new("RGB", SIZE, WHITE)
    _write(image, (90, 420, 655, 500), side.name, 52, "Bold", centred=True)
    _write(image, (90, 520, 655, 570), f"Illustrated by {side.artist}", 34, "Italic", centred=True)
    ImageDraw.Draw(image).line((180, 508, 565, 508), fill=(120, 110, 100), width=3)
    return image


def _chapters(card: Card, side: Side, _index: int) -> Image.Image:
    """Text in chapters or levels on one side, tall art on the other."""
    flipped = card.layout == "class"
    style = replace(
        _style(card, side), art=(380, 114, 689, 880), text=(54, 114, 374, 880), type_line=(42, 886, 703, 944)
    )
    if flipped:
        style = replace(style, art=(54, 114, 363, 880), text=(370, 114, 689, 880))
    image = _framed(card, side, style)
    _print(image, card, replace(side, text="", flavour=""), style)
    lines = [*side.shown[2].split("\n"), side.flavour, *EFFECTS][:3]
    _rows(image, side, style, list(zip(("", "2", "3") if flipped else ("I", "II", "III"), lines, strict=True)))
    return image


def _rows(image: Image.Image, side: Side, style: _Style, rows: Sequence[tuple[str, str]]) -> None:
    """One ability above the other, each with its mark: chapters, levels, loyalty."""
    left, top, right, bottom = style.text
    high, colour = (bottom - top) // len(rows), _frame_colour(side, style)
    for i, (mark, text) in enumerate(rows):
        box = (left, top + i * high, right, top + (i + 1) * high)
        shade = _light(colour, 0.85 if i % 2 else 0.65)
        _panel(image, box, shade, 4, solid=max(style.solid, 0.6))
        if mark:
            middle = (box[1] + box[3]) // 2
            ImageDraw.Draw(image).regular_polygon((left + 34, middle, 34), 6, fill=INK, outline=WHITE)
            _write(image, (left + 6, middle - 20, left + 62, middle + 20), mark, 28, "Bold", WHITE, centred=True)
        _text_block(
            image, (left + 78 if mark else left + 14, box[1] + 6, right - 12, box[3] - 6), text, "", middle=True
        )


def _lying(card: Card, side: Side, _index: int) -> Image.Image:
    """A card to be read sideways."""
    image = Image.new("RGB", (SIZE[1], SIZE[0]), BLACK)
    image.paste(_art(side, (SIZE[1] - 60, 520)), (30, 30))
    _panel(image, (30, 560, SIZE[1] - 30, SIZE[0] - 30), (222, 210, 190))
    _write(image, (60, 562, 560, 610), side.name, 40, "Bold")
    _write(image, (580, 562, 900, 610), side.type_line, 30, "Bold")
    _set_symbol(image, card, (960, 586))
    _text_block(image, (60, 614, 980, 680), side.shown[2], side.flavour)
    line = "   ".join(_collector_lines(card, side, replace(_style(card, side), collector_line=True)))
    _write(image, (60, 684, 980, 712), line, 22, "Bold")
    return image.transpose(Image.Transpose.ROTATE_90)


def _facets(card: Card, side: Side, _index: int) -> Image.Image:
    """The unknown layout: art in a six-sided window, turned about itself."""
    below = {"type_line": (42, 700, 703, 756), "text": (54, 762, 691, 948)}
    style = replace(_style(card, side), art=(62, 110, 682, 690), window="hexagon", **below)  # type: ignore[arg-type]
    image = _framed(card, side, style)
    _print(image, card, side, style)
    return image


_LAYOUTS: dict[str, Callable[[Card, Side, int], Image.Image]] = {
    "transform": _two_sided,
    "modal_dfc": _two_sided,
    "split": _side_by_side,
    "flip": _upside_down,
    "adventure": _with_page,
    "prepare": _with_page,
    "token": _token,
    "double_faced_token": _token,
    "emblem": _token,
    "art_series": _art_card,
    "saga": _chapters,
    "class": _chapters,
    "planar": _lying,
    "kaleidoscope": _facets,
}


def _placeholder(card: Card) -> Image.Image:
    """What Scryfall shows until there is a scan: a grey card with its name."""
    image = Image.new("RGB", SIZE, (120, 118, 124))
    _write(image, (60, 440, 685, 510), card.sides[0].name, 44, "Bold", centred=True)
    _write(image, (60, 530, 685, 580), "not available yet", 34, "Italic", centred=True)
    return image


# ------------------------------------------------------------------------------------------------------------- pieces


def _framed(card: Card, side: Side, style: _Style) -> Image.Image:
    """Border, frame and art: the frame in the card's colour, with the grain of its day."""
    old = not style.power_box
    if style.full == 1:
        return _art(side, SIZE)
    size = (SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN - (40 if style.collector_line else 0))
    shape = Image.new("L", size, 0)
    ImageDraw.Draw(shape).rounded_rectangle(
        (0, 0, size[0] - 1, size[1] - 1), 8 if old else 26, fill=round(255 * (1 - style.full))
    )
    ground = _ground(card, side, style, size)
    if style.full:
        image = _art(side, SIZE)
        image.paste(ground, (MARGIN, MARGIN), shape)
        return image
    image = Image.new("RGB", SIZE, BORDERS[card.set.border])
    image.paste(ground, (MARGIN, MARGIN), shape)
    _ornament(image, side, style)
    _paste_art(image, side, style)
    return image


def _ground(card: Card, side: Side, style: _Style, size: tuple[int, int]) -> Image.Image:
    """What the frame is made of; some frames of two colours are split, the others are gold."""
    rng = np.random.default_rng(style.seed)
    kind = _GRAINS[card.set.frame][KINDS.index(_kind(side))]
    grain = _texture(rng, size, style.texture or kind)

    def inked(colour: Colour) -> Image.Image:
        return ImageOps.colorize(grain, _dark(colour, 0.72), _light(colour, 0.2))

    ground = inked(_frame_colour(side, style))
    if len(side.colours) == 2 and style.frame == "own" and rng.random() < 0.5:
        halves = [inked(_frame_colour(replace(side, colours=letter), style)) for letter in side.colours]
        ramp = Image.linear_gradient("L").rotate(90).point(lambda level: min(max(level * 4 - 384, 0), 255))
        ground = Image.composite(halves[1], halves[0], ramp.resize(size))
    return ground


def _texture(rng: np.random.Generator, size: tuple[int, int], kind: str) -> Image.Image:
    across, down, folds = TEXTURES[kind]
    half = (size[0] // 2, size[1] // 2)
    bumps: Field = smooth_noise(rng, half, (across, down))
    bumps += 0.4 * smooth_noise(rng, half, (min(across * 4, 300), min(down * 4, 400)))
    if folds > 0:
        bumps = np.asarray(np.sin(bumps * folds) / 2 + 0.5)
    elif folds < 0:
        bumps = np.asarray((bumps / bumps.max()) ** 12 * 3)
    return Image.fromarray((bumps * 200).clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


def _ornament(image: Image.Image, side: Side, style: _Style) -> None:
    draw, rng, colour = ImageDraw.Draw(image), random.Random(style.seed + 4), _tone(side, style, style.outline)
    right, bottom = SIZE[0] - MARGIN, SIZE[1] - MARGIN - (40 if style.collector_line else 0)
    step = rng.randint(7, 26)
    if style.ornament == "lines":
        for inset in range(4, 4 + step * rng.randint(2, 5), step):
            box = (MARGIN + inset, MARGIN + inset, right - inset, bottom - inset)
            draw.rounded_rectangle(box, step, outline=colour, width=2)
    elif style.ornament == "dots":
        for y in range(MARGIN + 10, bottom, step):
            for x in (MARGIN + 9, right - 9, SIZE[0] // 2 + (y - SIZE[1] // 2) * 2 // 3):
                draw.ellipse((x - step / 4, y - step / 4, x + step / 4, y + step / 4), colour)
    elif style.ornament == "corners":
        sides, turn = rng.randint(3, 8), rng.randrange(90)
        for x in (MARGIN + 30, right - 30):
            for y in (MARGIN + 30, bottom - 30, 600):
                for radius in range(90, 10, -step - 6):
                    draw.regular_polygon((x, y, radius), sides, turn, outline=colour)


def _kind(side: Side) -> str:
    """Which of KINDS a side has."""
    colourless = "land" if "Land" in side.type_line else ""
    return "gold" if len(side.colours) > 1 else side.colours or _SIGNS.get(side.name, colourless)


def _frame_colour(side: Side, style: _Style) -> Colour:
    """The colour of the card's frame, as the ink of that day came out."""
    return _tone(side, style, style.frame)


def _tone(side: Side, style: _Style, tone: str) -> Colour:
    """A colour of the style: one of its own, or one that the card's colour gives."""
    rng = random.Random(style.seed)
    table = OLD_COLOURS if style.panel == "textured" else FRAME_COLOURS
    r, g, b = (max(0, channel + rng.randint(-28, 18)) for channel in table[_kind(side)])
    own = (r, g, b)
    hue = rng.random()
    tones: dict[str, Colour] = {
        "own": own,
        "pale": _light(own, 0.66),
        "deep": _dark(own, 0.38),
        "textured": _light(own, 0.5) if sum(own) > 240 else (206, 180, 150),
        "black": BLACK,
        "white": WHITE,
        "paper": (228, 214, 184),
        "brown": (84, 56, 34),
        "gold": (206, 172, 84),
        "bright": tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.8, 1)),  # type: ignore[dict-item]
    }
    return tones[tone]


def _readable_on(colour: Colour) -> Colour:
    return INK if sum(colour) > 360 else WHITE


def _light(colour: Colour, share: float) -> Colour:
    r, g, b = (round(c + (255 - c) * share) for c in colour)
    return r, g, b


def _dark(colour: Colour, share: float) -> Colour:
    r, g, b = (round(c * share) for c in colour)
    return r, g, b


def _print(
    image: Image.Image,
    card: Card,
    side: Side,
    style: _Style,
    *,
    power_at: tuple[int, int] | None = None,
    small_print: bool = True,
) -> None:
    """Title, cost, type line, set symbol, text, power and toughness, artist."""
    name, type_line, text = side.shown
    ink = _boxes(image, side, style)
    left, top, right, bottom = style.title
    pip = 19 if len(_SYMBOL.findall(side.mana_cost)) < 6 else 14  # leaves a long name its room
    width = _cost(image, side.mana_cost, right - 14, (top + bottom) // 2, pip)
    title = (left + 18, top, right - width - 22, bottom)
    _write(image, title, name.upper() if style.caps else name, 40, style.cut, ink, centred=style.centred)
    left, top, right, bottom = style.type_line
    _write(image, (left + 18, top, right - 70, bottom), type_line, 34, style.cut, ink)
    _set_symbol(image, card, (right - 38, (top + bottom) // 2))
    left, top, right, bottom = style.text
    if "Planeswalker" in side.type_line:
        rows = [line.partition(": ") for line in text.split("\n")]
        _rows(image, side, style, [(mark if mark[0] in "+−" else "", words or mark) for mark, _, words in rows])
    else:
        if "Basic" in side.type_line and not style.full:
            _pip(image, _SIGNS[side.name], ((left + right) // 2, (top + bottom) // 2), 90)
        box = (left + 14, top + 12, right - 14, bottom - (40 if style.power_box else 12))
        words = _readable_on(_tone(side, style, style.panel or style.frame))
        _text_block(image, box, text, side.flavour, words, style)
    _power(image, side, style, power_at)
    if small_print:
        _small_print(image, card, side, style)


def _boxes(image: Image.Image, side: Side, style: _Style) -> Colour:
    """Bars and text box; returns the ink for what stands on the bars."""
    edge = _tone(side, style, style.outline)
    if style.bars:
        for box in (style.title, style.type_line):
            _panel(image, box, _tone(side, style, style.bars), style.radius, edge, style.edge, style.solid)
    if style.panel and (side.text or side.flavour or not style.full):
        fill = _tone(side, style, style.panel)
        _panel(image, style.text, fill, min(style.radius, 12), edge, style.edge, style.solid)
        if style.panel == "textured":
            left, top, right, bottom = (at + step for at, step in zip(style.text, (3, 3, -2, -2), strict=True))
            grain = _texture(np.random.default_rng(style.seed), (right - left, bottom - top), "stone")
            image.paste(ImageOps.colorize(grain, _dark(fill, 0.85), _light(fill, 0.12)), (left, top))
        if style.solid == 1:
            _watermark(image, side, style)
    if style.full and style.collector_line:
        _panel(image, (-9, 958, SIZE[0] + 9, SIZE[1] + 9), BLACK, 0, solid=0.8)
    return _readable_on(_tone(side, style, style.bars or style.frame))


def _panel(
    image: Image.Image, box: Box, colour: Colour, radius: int = 6, edge: Colour = INK, width: int = 3, solid: float = 1
) -> None:
    """A filled box with an edge; what is below shines through one that is not `solid`."""
    if solid < 1:
        glass = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(glass).rounded_rectangle((0, 0, glass.width - 1, glass.height - 1), radius, round(255 * solid))
        image.paste(colour, box[:2], glass)
    fill = colour if solid == 1 else None
    ImageDraw.Draw(image).rounded_rectangle(box, radius, fill=fill, outline=edge, width=width)


def _watermark(image: Image.Image, side: Side, style: _Style) -> None:
    """A pale sign behind the text, different on each card."""
    rng = random.Random(style.seed + 2)
    left, top, right, bottom = style.text
    mark = Image.new("L", (right - left, bottom - top))
    draw, centre = ImageDraw.Draw(mark), (mark.width * rng.uniform(0.3, 0.7), mark.height * rng.uniform(0.35, 0.65))
    for _ in range(rng.randint(1, 3)):
        radius = mark.height * rng.uniform(0.15, 0.48)
        draw.regular_polygon((*centre, radius), rng.randint(3, 9), rng.randint(0, 90), fill=rng.choice((0, 50, 90)))
    image.paste(_frame_colour(side, style), (left, top), mark)


def _power(image: Image.Image, side: Side, style: _Style, at: tuple[int, int] | None) -> None:
    if not side.power_toughness:
        return
    if style.power_box:
        left, top = at or (566, 912)
        fill, edge = _tone(side, style, style.bars or style.frame), _tone(side, style, style.outline)
        if "Vehicle" in side.type_line:
            fill = (112, 70, 44)
        radius = 16 if "/" in side.power_toughness else 26
        _panel(image, (left, top, left + 136, top + 52), fill, radius, edge, style.edge)
        box = (left, top, left + 136, top + 52)
        _write(image, box, side.power_toughness, 40, "Bold", _readable_on(fill), centred=True)
    else:
        ink = _readable_on(_frame_colour(side, style))
        _write(image, (590, 944, 690, 1000), side.power_toughness, 46, "Bold", ink, centred=True)


def _small_print(image: Image.Image, card: Card, side: Side, style: _Style) -> None:
    """Artist and collector line: at the left of the border, or at the foot of the frame, as the day had it."""
    first, second = _collector_lines(card, side, style)
    if style.collector_line:
        ink = WHITE if style.full else _readable_on(BORDERS[card.set.border])
        _write(image, (48, 966, 540, 992), first, 22, "Bold", ink)
        _write(image, (48, 990, 540, 1014), second, 20, "Bold", ink)
        return
    frame = _frame_colour(side, style)
    ink = _readable_on(frame)
    paint: dict[str, Any] = {"colour": ink, "halo": _light(frame, 0.6) if ink == INK else _dark(frame, 0.4)}
    if not second:
        _write(image, (70, 944, 580, 990), first, 26, **paint)
        return
    left, right, centred = (160, 585, True) if not style.bars else (60, 560, False)
    if style.ornament:  # nothing runs through the letters
        _panel(image, (left - 8, 953, right - 70, 1001), frame, 8, frame, 0)
    _write(image, (left, 952, right, 978), first, 24, "Bold", **paint, centred=centred)
    _write(image, (left, 976, right, 1000), second, 22, "Bold", **paint, centred=centred)


def _collector_lines(card: Card, side: Side, style: _Style) -> tuple[str, str]:
    """What a printing of its day says at its foot, in two lines; the second is "" before 1998, when none had a number.

    In the border: `158/249 C`, since 2023 `C 0158`, over set, language and artist. A token has T for its rarity, and
    its set's code without the t that Scryfall puts before it.
    """
    year, number, token = int(card.set.released[:4]), card.collector_number, "token" in card.layout
    if style.collector_line:
        rarity = "T" if token else card.rarity[0].upper()
        code = card.set.code.removeprefix("t") if token else card.set.code
        first = f"{rarity} {number:0>4}" if year >= 2023 else f"{number:0>3}/{card.set.size} {rarity}"
        return first, f"{code.upper()} • {card.lang.upper()}   {side.artist}"
    if year < 1998:
        return f"Illus. © {side.artist}", ""
    return f"Illus. {side.artist}", f"© {year} Drawn Cards, Inc. {number}/{card.set.size}"


def _set_symbol(image: Image.Image, card: Card, centre: tuple[int, int]) -> None:
    corners = 3 + sum(map(ord, card.set.code)) % 5
    ImageDraw.Draw(image).regular_polygon(
        (*centre, 19), corners, fill=RARITY_COLOURS[card.rarity], outline=WHITE, width=2
    )


@functools.lru_cache(maxsize=4)
def _painted(subject: str, mood: str, seed: int, tall: bool) -> Image.Image:
    return paint(subject, mood, seed, (440, 588) if tall else (440, 322))


def _art(side: Side, size: tuple[int, int]) -> Image.Image:
    """The side's art, cut to `size`."""
    return ImageOps.fit(
        _painted(side.subject, side.mood, side.art_seed, size[1] > size[0]), size, Image.Resampling.BICUBIC
    )


def _paste_art(image: Image.Image, side: Side, style: _Style) -> None:
    """The art in the frame's window."""
    left, top, right, bottom = style.art
    size = (right - left, bottom - top)
    shape = Image.new("L", size)
    draw, box = ImageDraw.Draw(shape), (0, 0, size[0] - 1, size[1] - 1)
    edge = _tone(side, style, style.outline)
    if style.window == "rect":
        ImageDraw.Draw(image).rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=edge, width=style.edge + 1)
        draw.rectangle(box, 255)
    elif style.window == "oval":
        draw.ellipse(box, 255)
    elif style.window == "arch":
        draw.rounded_rectangle(box, min(size) // 3, 255, corners=(True, True, False, False))
    else:
        w, h = size
        draw.polygon([(w / 4, 0), (w * 3 / 4, 0), (w, h / 2), (w * 3 / 4, h), (w / 4, h), (0, h / 2)], 255)
    if style.window != "rect":
        ring = shape.resize((size[0] + 2 * style.edge + 4, size[1] + 2 * style.edge + 4))
        image.paste(edge, (left - style.edge - 2, top - style.edge - 2), ring)
    image.paste(_art(side, size), (left, top), shape)


# --------------------------------------------------------------------------------------------------------------- text


@functools.cache
def _font(size: int, cut: str = "") -> ImageFont.FreeTypeFont:
    import font_caladea

    # Raqm, if installed, would set the same text a little narrower: cards would differ between machines
    basic = ImageFont.Layout.BASIC
    if cut == "Sans":
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size)).font_variant(layout_engine=basic)
    return ImageFont.truetype(font_caladea.font_files["Caladea" + cut], size, layout_engine=basic)


@functools.lru_cache(maxsize=10_000)
def _word_width(word: str, cut: str) -> float:
    """In letters' heights; measured once in a size for all: the typefaces have nearly the same shape in each."""
    return _font(50, cut).getlength(word) / 50


def _width(text: str, size: int, cut: str) -> float:
    return size * sum(_word_width(word, cut) + 0.25 for word in text.split(" ")) - size * 0.25


def _write(
    image: Image.Image,
    box: Box,
    text: str,
    size: int,
    cut: str = "",
    colour: Colour = INK,
    *,
    centred: bool = False,
    halo: Colour | None = None,
) -> None:
    """One line in `box`, vertically centred, shrunk to fit; with a halo, so that it can be read on any ground."""
    wide = box[2] - box[0]
    text = text.replace("—", "-") if cut == "Sans" else text  # which has no dash
    cut = "Bold" if cut == "Sans" and not text.isascii() else cut  # nor accents
    size = max(10, min(size, int(size * wide / max(_width(text, size, cut), 1))))
    x = box[0] + (wide - _width(text, size, cut)) / 2 if centred else box[0]
    at, stroke = (x, (box[1] + box[3]) // 2), 0 if halo is None else 2
    draw = ImageDraw.Draw(image)
    draw.text(at, text, colour, _font(size, cut), anchor="lm", stroke_width=stroke, stroke_fill=halo)


def _text_block(
    image: Image.Image,
    box: Box,
    text: str,
    flavour: str,
    colour: Colour = INK,
    style: _Style | None = None,
    *,
    middle: bool = False,
) -> None:
    """Rules text and, in italics, flavour text, in the largest size that fits, but none larger than the style's."""
    wide, largest = box[2] - box[0], style.size if style else 38
    for size in range(largest, 11, -2):
        lines = [(line, "") for part in text.split("\n") for line in _wrapped(part, size, "", wide)]
        lines += [(line, "Italic") for line in _wrapped(flavour, size, "Italic", wide)]
        if len(lines) * size * 1.2 <= box[3] - box[1]:
            break
    free = box[3] - box[1] - len(lines) * size * 1.2
    top = box[1] + (max(0, free) / 2 if middle or (style and style.middle) else 0)
    for i, (line, cut) in enumerate(lines):
        left = box[0] + ((wide - _width(line, size, cut)) / 2 if style and style.centred_text else 0)
        _line_with_symbols(image, (round(left), round(top + (i + 0.5) * size * 1.2)), line, size, cut, colour)


def _wrapped(text: str, size: int, cut: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and _width(f"{lines[-1]} {word}", size, cut) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def _line_with_symbols(image: Image.Image, at: tuple[int, int], line: str, size: int, cut: str, colour: Colour) -> None:
    x = float(at[0])
    for i, piece in enumerate(_SYMBOL.split(line)):
        if i % 2:
            _pip(image, piece, (round(x + size * 0.45), at[1]), round(size * 0.4))
            x += size * 0.95
        elif piece:
            ImageDraw.Draw(image).text((x, at[1]), piece, colour, _font(size, cut), anchor="lm")
            x += _width(piece, size, cut)


def _cost(image: Image.Image, cost: str, right: int, middle: int, radius: int) -> int:
    """Mana symbols that end at `right`; returns their width."""
    symbols = _SYMBOL.findall(cost)
    step = round(radius * 2.2)
    for i, symbol in enumerate(reversed(symbols)):
        _pip(image, symbol, (right - radius - i * step, middle), radius)
    return len(symbols) * step


def _pip(image: Image.Image, symbol: str, centre: tuple[int, int], radius: int) -> None:
    """A mana symbol: a disc in its colour with a sign, or with a number."""
    x, y = centre
    draw = ImageDraw.Draw(image)
    draw.ellipse(
        (x - radius, y - radius, x + radius, y + radius), fill=PIP_COLOURS.get(symbol, (205, 200, 195)), outline=INK
    )
    inner = radius * 0.55
    if symbol == "W":
        draw.regular_polygon((x, y, inner * 1.2), 8, fill=(120, 95, 30))
    elif symbol == "U":
        draw.polygon(
            [(x, y - inner * 1.2), (x + inner, y + inner * 0.5), (x, y + inner * 1.1), (x - inner, y + inner * 0.5)],
            fill=(20, 60, 120),
        )
    elif symbol == "B":
        draw.ellipse((x - inner, y - inner, x + inner, y + inner * 0.7), fill=(20, 18, 18))
        draw.rectangle((x - inner * 0.5, y, x + inner * 0.5, y + inner), fill=(20, 18, 18))
    elif symbol == "R":
        draw.polygon(
            [
                (x - inner, y + inner),
                (x - inner * 0.6, y - inner * 0.4),
                (x, y + inner * 0.2),
                (x + inner * 0.4, y - inner * 1.2),
                (x + inner, y + inner),
            ],
            fill=(140, 30, 15),
        )
    elif symbol == "G":
        draw.regular_polygon((x, y - inner * 0.3, inner), 3, fill=(20, 80, 40))
        draw.rectangle((x - inner * 0.2, y, x + inner * 0.2, y + inner * 1.1), fill=(20, 80, 40))
    else:
        draw.text((x, y), symbol, INK, _font(max(8, round(radius * 1.7)), "Bold"), anchor="mm")
