"""How a card looks in print: borders, frames of four eras, title, cost, type line, text box, collector line.

Everything is drawn at the size of Scryfall's `png`, 745 x 1040; smaller pictures are scaled down from that.
"""

import functools
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

from drawn.catalogue import Card, Side
from drawn.painting import paint
from helpers.recognise.camera import card_mask, smooth_noise

SIZE = (745, 1040)
BLACK, INK, WHITE = (14, 13, 13), (18, 16, 16), (246, 244, 240)
FRAME_COLOURS = {
    "W": (236, 226, 190),
    "U": (70, 132, 190),
    "B": (74, 68, 72),
    "R": (200, 84, 56),
    "G": (74, 128, 84),
    "": (152, 158, 166),
    "gold": (206, 172, 84),
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
_SYMBOL = re.compile(r"\{(\w)\}")

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Style:
    """Where an era prints what; boxes are left, top, right, bottom."""

    art: Box
    title: Box
    type_line: Box
    text: Box
    bars: bool  # title and type line have bars of their own
    power_box: bool
    collector_line: bool  # in the border, else the artist in the frame


_STYLES = {
    "1993": _Style(
        (78, 92, 667, 552), (66, 42, 680, 88), (66, 556, 680, 600), (84, 610, 661, 920), False, False, False
    ),
    "1997": _Style(
        (70, 92, 675, 548), (60, 42, 686, 88), (60, 552, 686, 596), (70, 602, 675, 926), False, False, False
    ),
    "2003": _Style(
        (60, 108, 685, 566), (46, 46, 699, 104), (46, 570, 699, 626), (58, 632, 687, 936), True, True, False
    ),
    "2015": _Style((56, 114, 689, 576), (42, 48, 703, 110), (42, 580, 703, 638), (54, 644, 691, 948), True, True, True),
}


def draw_side(card: Card, index: int) -> Image.Image:
    """The picture of the side with `index` (0 if all parts share one): RGB, 745 x 1040, with rounded corners."""
    side = card.sides[index]
    if card.image_status == "placeholder":
        drawn = _placeholder(card)
    else:
        drawn = _LAYOUTS.get(card.layout, _plain)(card, side, index)
    finished = Image.new("RGB", SIZE, BLACK if card.set.border == "black" else WHITE)
    finished.paste(_printed(drawn, side), (0, 0), card_mask(SIZE))
    return finished


def _printed(image: Image.Image, side: Side) -> Image.Image:
    """As ink on paper, scanned: nothing is quite flat, so that camera noise matters no more than on real cards."""
    paper = _paper()
    rng = random.Random(side.art_seed + 1)
    left, top = rng.randrange(paper.width - SIZE[0]), rng.randrange(paper.height - SIZE[1])
    return ImageChops.add(image, paper.crop((left, top, left + SIZE[0], top + SIZE[1])), offset=-128)


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
    if card.treatment == "borderless":
        return _on_full_art(card, side)
    image = _blank(card, side)
    style = _STYLES[card.set.frame]
    if card.treatment == "extendedart":
        style = replace(style, art=(0, 114, 745, 576))
    _paste_art(image, side, style.art)
    _print(image, card, side, style)
    return image


def _two_sided(card: Card, side: Side, index: int) -> Image.Image:
    image = _plain(card, side, index)
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 54, 62, 106), fill=INK, outline=WHITE, width=3)
    draw.pieslice((20, 64, 52, 96), 90 if index else 270, 270 if index else 450, fill=WHITE)
    return image


def _side_by_side(card: Card, _side: Side, _index: int) -> Image.Image:
    """Two small cards, to be read sideways."""
    lying = Image.new("RGB", (SIZE[1], SIZE[0]), BLACK)
    for i, part in enumerate(card.sides):
        half = _plain(replace(card, treatment=""), part, 0).resize((500, 697), Image.Resampling.LANCZOS)
        lying.paste(half.crop((18, 18, 482, 679)), (34 + i * 508, 40))
    return lying.transpose(Image.Transpose.ROTATE_90)


def _upside_down(card: Card, _side: Side, _index: int) -> Image.Image:
    """One part above the art, the other below it, upside down."""
    side = card.sides[0]
    image = _blank(card, side)
    style = replace(_STYLES["2003"], text=(58, 110, 687, 262), type_line=(46, 266, 699, 318))
    for part in card.sides:
        _print(image, card, part, style, power_at=(560, 208), small_print=False)
        image = image.transpose(Image.Transpose.ROTATE_180)
    _paste_art(image, side, (58, 326, 687, 714))
    _write(image, (72, 684, 600, 710), _credit(card, side), 20, colour=WHITE)
    return image


def _with_page(card: Card, side: Side, _index: int) -> Image.Image:
    """A creature with a small spell in the left half of its text box."""
    image = _plain(card, replace(side, flavour="", text=""), 0)
    style = _STYLES[card.set.frame]
    left, top, right, bottom = style.text
    middle, page = (left + right) // 2, card.sides[1]
    _panel(image, (left, top, middle - 4, bottom), (225, 205, 170))
    width = _cost(image, page.mana_cost, middle - 10, top + 22, 12)
    _write(image, (left + 12, top + 4, middle - width - 18, top + 40), page.name, 28, "Bold")
    _write(image, (left + 12, top + 40, middle - 12, top + 66), page.type_line, 22)
    _text_block(image, (left + 12, top + 70, middle - 14, bottom - 10), page.shown[2], "")
    _text_block(image, (middle + 8, top + 10, right - 10, bottom - 40), side.shown[2], "")
    return image


def _token(card: Card, side: Side, _index: int) -> Image.Image:
    style = replace(_STYLES["2015"], art=(48, 60, 697, 742), type_line=(42, 746, 703, 804), text=(54, 810, 691, 948))
    image = _blank(card, side)
    _paste_art(image, side, style.art)
    _print(image, card, replace(side, flavour=""), style, centred=True)
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
    """Text on the left, tall art on the right."""
    image = _blank(card, side)
    style = replace(_STYLES["2015"], art=(380, 114, 689, 880), text=(54, 114, 374, 880), type_line=(42, 886, 703, 944))
    _paste_art(image, side, style.art)
    _print(image, card, side, style)
    return image


def _lying(card: Card, side: Side, _index: int) -> Image.Image:
    """A card to be read sideways."""
    image = Image.new("RGB", (SIZE[1], SIZE[0]), BLACK)
    image.paste(_art(side, (SIZE[1] - 60, 520)), (30, 30))
    _panel(image, (30, 560, SIZE[1] - 30, SIZE[0] - 30), (222, 210, 190))
    _write(image, (60, 562, 560, 610), side.name, 40, "Bold")
    _write(image, (580, 562, 900, 610), side.type_line, 30, "Bold")
    _set_symbol(image, card, (960, 586))
    _text_block(image, (60, 614, 980, 680), side.shown[2], side.flavour)
    _write(image, (60, 684, 980, 712), _credit(card, side), 22, "Italic")
    return image.transpose(Image.Transpose.ROTATE_90)


def _facets(card: Card, side: Side, _index: int) -> Image.Image:
    """The unknown layout: art in a six-sided window, turned about itself."""
    image = _blank(card, side)
    style = _STYLES[card.set.frame]
    art = _art(side, (620, 620))
    window = Image.new("L", (620, 620))
    ImageDraw.Draw(window).regular_polygon((310, 310, 308), 6, fill=255)
    image.paste(ImageOps.mirror(art), (62, 110), window)
    _print(image, card, side, replace(style, type_line=(42, 700, 703, 756), text=(54, 762, 691, 948)))
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


def _blank(card: Card, side: Side) -> Image.Image:
    """Border and frame, the frame in the card's colour and with the grain of its day."""
    old = card.set.frame < "2000"
    image = Image.new("RGB", SIZE, WHITE if card.set.border == "white" else BLACK)
    size = (SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN - (40 if card.set.frame == "2015" else 0))
    across, down = {"1993": (60, 80), "1997": (24, 30), "2003": (7, 9), "2015": (3, 12)}[card.set.frame]
    bumps = np.random.default_rng(side.art_seed).integers(0, 256, (down + 1, across + 1), np.uint8)
    grain = Image.fromarray(bumps).resize(size, Image.Resampling.BICUBIC)
    dark, light = (
        tuple(min(255, round(c * share)) for c in _frame_colour(side)) for share in (0.75, 1.25 if old else 1)
    )
    shape = Image.new("L", size, 0)
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), 8 if old else 26, fill=255)
    image.paste(ImageOps.colorize(grain, dark, light), (MARGIN, MARGIN), shape)
    return image


def _frame_colour(side: Side) -> Colour:
    """The card's colour, as the ink of that day came out."""
    r, g, b = FRAME_COLOURS["gold" if len(side.colours) > 1 else side.colours]
    rng = random.Random(side.art_seed)
    return r + rng.randint(-28, 18), g + rng.randint(-28, 18), b + rng.randint(-28, 18)


def _readable_on(colour: Colour) -> Colour:
    return INK if sum(colour) > 420 else WHITE


def _light(colour: Colour, share: float) -> Colour:
    r, g, b = (round(c + (255 - c) * share) for c in colour)
    return r, g, b


def _print(
    image: Image.Image,
    card: Card,
    side: Side,
    style: _Style,
    *,
    power_at: tuple[int, int] | None = None,
    centred: bool = False,
    small_print: bool = True,
) -> None:
    """Title, cost, type line, set symbol, text, power and toughness, artist."""
    name, type_line, text = side.shown
    pale = _light(_frame_colour(side), 0.62)
    ink = INK if style.bars else _readable_on(_frame_colour(side))
    if style.bars:
        for box in (style.title, style.type_line):
            _panel(image, box, pale, radius=22 if style.collector_line else 14)
    _panel(image, style.text, _light(_frame_colour(side), 0.75) if style.bars else (228, 214, 184))
    left, top, right, bottom = style.title
    width = _cost(image, side.mana_cost, right - 14, (top + bottom) // 2, 19)
    _write(image, (left + 18, top, right - width - 22, bottom), name, 40, "Bold", ink, centred=centred)
    left, top, right, bottom = style.type_line
    _write(image, (left + 18, top, right - 70, bottom), type_line, 34, "Bold", ink)
    _set_symbol(image, card, (right - 38, (top + bottom) // 2))
    _watermark(image, side, style.text)
    left, top, right, bottom = style.text
    _text_block(image, (left + 14, top + 12, right - 14, bottom - (40 if style.power_box else 12)), text, side.flavour)
    _power(image, side, style, power_at)
    if small_print:
        _small_print(image, card, side, style)


def _panel(image: Image.Image, box: Box, colour: Colour, radius: int = 6) -> None:
    ImageDraw.Draw(image).rounded_rectangle(box, radius, fill=colour, outline=(30, 28, 28), width=3)


def _watermark(image: Image.Image, side: Side, box: Box) -> None:
    """A pale sign behind the text, different on each card."""
    rng = random.Random(side.art_seed + 2)
    left, top, right, bottom = box
    mark = Image.new("L", (right - left, bottom - top))
    draw, centre = ImageDraw.Draw(mark), (mark.width * rng.uniform(0.3, 0.7), mark.height * rng.uniform(0.35, 0.65))
    for _ in range(rng.randint(1, 3)):
        radius = mark.height * rng.uniform(0.15, 0.48)
        draw.regular_polygon((*centre, radius), rng.randint(3, 9), rng.randint(0, 90), fill=rng.choice((0, 50, 90)))
    image.paste(_frame_colour(side), (left, top), mark)


def _power(image: Image.Image, side: Side, style: _Style, at: tuple[int, int] | None) -> None:
    if not side.power_toughness:
        return
    if style.power_box:
        left, top = at or (566, 912)
        _panel(image, (left, top, left + 136, top + 52), _light(_frame_colour(side), 0.55), radius=16)
        _write(image, (left, top, left + 136, top + 52), side.power_toughness, 40, "Bold", centred=True)
    else:
        ink = _readable_on(_frame_colour(side))
        _write(image, (590, 944, 690, 1000), side.power_toughness, 46, "Bold", ink, centred=True)


def _small_print(image: Image.Image, card: Card, side: Side, style: _Style) -> None:
    if style.collector_line:
        line = f"{card.collector_number:0>4} {card.rarity[0].upper()}  {card.set.code.upper()} • {card.lang.upper()}"
        _write(image, (48, 966, 420, 992), line, 22, colour=(220, 216, 210))
        _write(image, (48, 990, 420, 1014), side.artist, 20, "Italic", (220, 216, 210))
    elif not style.bars:
        ink = _readable_on(_frame_colour(side))
        _write(image, (70, 944, 580, 990), f"Illus. © {side.artist}", 26, colour=ink)
    else:
        _write(image, (60, 956, 560, 996), _credit(card, side), 24)


def _credit(card: Card, side: Side) -> str:
    return f"{side.artist}   {card.collector_number}/{card.set.code.upper()}"


def _set_symbol(image: Image.Image, card: Card, centre: tuple[int, int]) -> None:
    corners = 3 + sum(map(ord, card.set.code)) % 5
    ImageDraw.Draw(image).regular_polygon(
        (*centre, 19), corners, fill=RARITY_COLOURS[card.rarity], outline=WHITE, width=2
    )


def _on_full_art(card: Card, side: Side) -> Image.Image:
    """Art from edge to edge, everything else on it in dark glass."""
    image = _art(side, SIZE)
    style = replace(_STYLES["2015"], text=(54, 764, 691, 948), type_line=(42, 700, 703, 758))
    glass = Image.new("L", SIZE, 0)
    for box in (style.title, style.type_line, style.text):
        ImageDraw.Draw(glass).rounded_rectangle(box, 20, fill=165)
    ImageDraw.Draw(glass).rectangle((0, 958, *SIZE), fill=200)
    image.paste(BLACK, (0, 0), glass)
    name, type_line, text = side.shown
    width = _cost(image, side.mana_cost, 690, 79, 19)
    _write(image, (62, 48, 680 - width, 110), name, 40, "Bold", WHITE)
    _write(image, (62, 700, 640, 758), type_line, 34, "Bold", WHITE)
    _set_symbol(image, card, (665, 729))
    _text_block(image, (70, 776, 677, 908), text, side.flavour, WHITE)
    _power(image, side, style, None)
    _small_print(image, card, side, style)
    return image


@functools.lru_cache(maxsize=4)
def _painted(subject: str, mood: str, seed: int, tall: bool) -> Image.Image:
    return paint(subject, mood, seed, (440, 588) if tall else (440, 322))


def _art(side: Side, size: tuple[int, int]) -> Image.Image:
    """The side's art, cut to `size`."""
    return ImageOps.fit(
        _painted(side.subject, side.mood, side.art_seed, size[1] > size[0]), size, Image.Resampling.BICUBIC
    )


def _paste_art(image: Image.Image, side: Side, box: Box) -> None:
    left, top, right, bottom = box
    image.paste(_art(side, (right - left, bottom - top)), (left, top))
    ImageDraw.Draw(image).rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=(24, 22, 22), width=4)


# --------------------------------------------------------------------------------------------------------------- text


@functools.cache
def _font(size: int, cut: str = "") -> ImageFont.FreeTypeFont:
    import font_caladea

    # Raqm, if installed, would set the same text a little narrower: cards would differ between machines
    return ImageFont.truetype(font_caladea.font_files["Caladea" + cut], size, layout_engine=ImageFont.Layout.BASIC)


def _write(
    image: Image.Image,
    box: Box,
    text: str,
    size: int,
    cut: str = "",
    colour: Colour = INK,
    *,
    centred: bool = False,
) -> None:
    """One line in `box`, vertically centred, shrunk to fit."""
    draw = ImageDraw.Draw(image)
    width = draw.textlength(text, _font(size, cut))
    size = max(10, min(size, int(size * (box[2] - box[0]) / max(width, 1))))
    x = (box[0] + box[2]) // 2 if centred else box[0]
    draw.text((x, (box[1] + box[3]) // 2), text, colour, _font(size, cut), anchor="mm" if centred else "lm")


def _text_block(image: Image.Image, box: Box, text: str, flavour: str, colour: Colour = INK) -> None:
    """Rules text and, in italics, flavour text, in the largest size that fits."""
    draw = ImageDraw.Draw(image)
    for size in range(38, 11, -2):
        lines = [(line, "") for part in text.split("\n") for line in _wrapped(draw, part, _font(size), box[2] - box[0])]
        lines += [(line, "Italic") for line in _wrapped(draw, flavour, _font(size, "Italic"), box[2] - box[0])]
        if len(lines) * size * 1.2 <= box[3] - box[1]:
            break
    for i, (line, cut) in enumerate(lines):
        _line_with_symbols(image, (box[0], round(box[1] + i * size * 1.2)), line, size, cut, colour)


def _wrapped(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and draw.textlength(f"{lines[-1]} {word}", font) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def _line_with_symbols(image: Image.Image, at: tuple[int, int], line: str, size: int, cut: str, colour: Colour) -> None:
    draw, x = ImageDraw.Draw(image), float(at[0])
    for i, piece in enumerate(_SYMBOL.split(line)):
        if i % 2:
            _pip(image, piece, (round(x + size * 0.45), round(at[1] + size * 0.5)), round(size * 0.4))
            x += size * 0.95
        else:
            draw.text((x, at[1]), piece, colour, _font(size, cut))
            x += draw.textlength(piece, _font(size, cut))


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
