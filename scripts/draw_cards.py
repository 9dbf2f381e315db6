"""Draw a small catalogue of cards that look a little like cards, and one photograph to ask about.

Reads:  nothing; the same --seed draws the same pictures
Writes: demo/cards/ - cards.csv and a JPEG a side, as standin_scryfall.py wants them; photo.jpg, photo.txt (its truth)
Next:   standin_scryfall.py --table demo/cards/cards.csv
"""

import argparse
import csv
import math
import random
import uuid
from collections.abc import Sequence
from pathlib import Path

import _path  # noqa: F401  # must come before helpers
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from helpers.atomic_io import atomic_path, atomic_write_bytes, writable_folder
from helpers.cli_validation import Parser, number, path, run
from helpers.errors import EXIT_OK

CARD_SIZE = (488, 680)
ART_BOX = (38, 76, 450, 376)
FRAMES = {
    "white": (236, 228, 200),
    "blue": (112, 160, 205),
    "black": (84, 78, 84),
    "red": (205, 104, 76),
    "green": (104, 150, 102),
    "gold": (214, 182, 92),
}
OWNERS = (
    *("Ash", "Bramble", "Cinder", "Dusk", "Ember", "Frost", "Gale", "Hollow"),
    *("Iron", "Jade", "Karst", "Lantern", "Mire", "Night", "Opal", "Pyre"),
)
THINGS = (
    *("Warden", "Serpent", "Oracle", "Golem", "Raider", "Sprite"),
    *("Colossus", "Hermit", "Drake", "Weaver", "Titan", "Scout"),
)
TWO_SIDED_EVERY = 10  # every tenth card has a back of its own
TABLE_COLUMNS = ("file", "name", "set", "collector_number", "scryfall_id", "layout")
PHOTO_TABLE, PHOTO_TILT_DEGREES, PHOTO_SHIFT, PHOTO_BLUR, PHOTO_QUALITY = (96, 78, 62), 0.5, (4, -3), 1.2, 60

Colour = tuple[int, ...]


class DrawArgs(argparse.Namespace):
    """The command line."""

    out: Path
    count: int
    seed: int


def parse_args(argv: Sequence[str] | None) -> DrawArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    default = Path(__file__).resolve().parent.parent / "demo" / "cards"
    parser.option("--out", path, default=default, metavar="DIR", help="directory of the pictures and their table")
    parser.option(
        "--count",
        number(int, 1, len(OWNERS) * len(THINGS), suggest=40),
        default=40,
        metavar="N",
        help="cards to draw",
    )
    parser.option("--seed", number(int, 0, suggest=1), default=1, metavar="N", help="what the drawing depends on")
    return parser.parse(argv, DrawArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the cards, their table and the photograph."""
    args = parse_args(argv)
    folder = writable_folder(args.out, "--out")
    rng = random.Random(args.seed)
    rows = draw_catalogue(folder, args.count, rng)
    write_table(folder / "cards.csv", rows)
    photographed = rng.choice(rows)
    save(photograph(folder / photographed["file"]), folder / "photo.jpg", quality=PHOTO_QUALITY)
    atomic_write_bytes(folder / "photo.txt", f"{photographed['name']}\n".encode())
    print(f"{args.count} cards with {len(rows)} sides and a photograph are in {folder}")
    return EXIT_OK


def draw_catalogue(folder: Path, count: int, rng: random.Random) -> list[dict[str, str]]:
    """Draw `count` cards into `folder` and return their rows of the table, one a side."""
    names = [f"{owner} {thing}" for owner in OWNERS for thing in THINGS]
    rng.shuffle(names)
    rows = []
    for card, name in enumerate(names[:count], 1):
        two_sided = card % TWO_SIDED_EVERY == 0
        card_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        for side, title in enumerate((name, f"{name}, Unbound") if two_sided else (name,)):
            file = f"{card:03}{'ab'[side]}.jpg"
            save(draw_card(title, card, rng), folder / file, quality=92)
            layout = "transform" if two_sided else "normal"
            rows.append(dict(zip(TABLE_COLUMNS, (file, title, "drw", str(card), card_id, layout), strict=True)))
    return rows


def save(image: Image.Image, path: Path, quality: int) -> None:
    """Write `image` as a JPEG."""
    with atomic_path(path) as part:
        image.save(part, "JPEG", quality=quality)


def write_table(table: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write the rows as CSV."""
    with atomic_path(table) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, TABLE_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def draw_card(title: str, collector_number: int, rng: random.Random) -> Image.Image:
    """Return a card's face, 488 x 680: border, frame, title, art, type line, text, collector line."""
    card = Image.new("RGB", CARD_SIZE, (18, 16, 16))
    draw = ImageDraw.Draw(card)
    colour = rng.choice(list(FRAMES.values()))
    light = _towards(colour, (255, 255, 255), 0.55)
    draw.rounded_rectangle((18, 18, 470, 640), 14, fill=colour)
    for box in ((30, 28, 458, 68), (30, 386, 458, 422)):
        draw.rounded_rectangle(box, 8, fill=light, outline=(30, 28, 28))
    draw.rectangle((38, 430, 450, 622), fill=light, outline=(30, 28, 28))
    card.paste(paint_art(rng), ART_BOX[:2])
    draw.rectangle(ART_BOX, outline=(20, 20, 20), width=3)
    draw.text((42, 34), title, (10, 10, 10), ImageFont.load_default(26))
    draw.text((430, 34), str(rng.randint(1, 7)), (10, 10, 10), ImageFont.load_default(26))
    draw.text((42, 391), rng.choice(("Creature", "Artifact Creature", "Legendary Creature")), (10, 10, 10), _small())
    for line in range(rng.randint(2, 6)):
        words = " ".join(rng.choice(OWNERS + THINGS).lower() for _ in range(rng.randint(2, 4)))
        draw.text((48, 440 + 28 * line), words, (30, 30, 30), _small())
    draw.text((30, 648), f"{collector_number:03}/300  DRW - EN", (210, 210, 210), ImageFont.load_default(14))
    return card


def paint_art(rng: random.Random) -> Image.Image:
    """Return a scene of the art's size: a sky, a sun or moon, ranges of hills, and a subject before them."""
    left, top, right, bottom = ART_BOX
    width, height = right - left, bottom - top
    sky_top, sky_bottom, ground, subject = (tuple(rng.randint(10, 245) for _ in range(3)) for _ in range(4))
    art = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(art)
    for y in range(height):
        draw.line((0, y, width, y), fill=_towards(sky_top, sky_bottom, y / height))
    x, y, radius = rng.randint(40, width - 40), rng.randint(30, 120), rng.randint(18, 60)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_towards(sky_top, (255, 255, 230), 0.8))
    for ridge in range(rng.randint(1, 4)):
        base, ruggedness = height * (0.45 + 0.15 * ridge), rng.randint(5, 110)
        shade = _towards(sky_bottom, ground, 0.4 + 0.2 * ridge)
        peaks = [(px, base - rng.randint(0, ruggedness)) for px in range(0, width + 60, 60)]
        draw.polygon([(0, height), *peaks, (width, height)], fill=shade)
    rng.choice((_towers, _forest, _beast, _stones, _star))(draw, subject, (width, height), rng)
    return art.filter(ImageFilter.GaussianBlur(0.8))


def _towers(draw: ImageDraw.ImageDraw, colour: Colour, size: tuple[int, int], rng: random.Random) -> None:
    for _ in range(rng.randint(2, 7)):
        x, tall, wide = rng.randint(0, size[0]), rng.randint(70, 250), rng.randint(14, 50)
        shade, top = _towards(colour, (0, 0, 0), rng.uniform(0.2, 0.7)), size[1] - tall
        draw.rectangle((x, top, x + wide, size[1]), fill=shade)
        draw.polygon(((x, top), (x + wide / 2, top - wide), (x + wide, top)), fill=shade)


def _forest(draw: ImageDraw.ImageDraw, colour: Colour, size: tuple[int, int], rng: random.Random) -> None:
    for _ in range(rng.randint(6, 30)):
        x, y, radius = rng.randint(0, size[0]), rng.randint(size[1] // 2, size[1]), rng.randint(14, 46)
        shade = _towards(colour, (10, 30, 10), rng.uniform(0, 0.6))
        draw.rectangle((x - 4, y, x + 4, size[1]), fill=(60, 40, 30))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)


def _beast(draw: ImageDraw.ImageDraw, colour: Colour, size: tuple[int, int], rng: random.Random) -> None:
    x, y, wide, tall = rng.randint(120, 290), rng.randint(130, 210), rng.randint(60, 130), rng.randint(30, 90)
    for leg in range(rng.randint(2, 6)):
        foot = x - wide * 0.8 + leg * wide * 0.35
        draw.line((foot, y, foot + rng.randint(-30, 30), size[1] - 10), fill=colour, width=rng.randint(8, 20))
    draw.ellipse((x - wide, y - tall, x + wide, y + tall), fill=colour)
    head = rng.randint(20, 55)
    draw.ellipse((x + wide - head, y - tall - head, x + wide + head, y - tall + head), fill=colour)
    draw.ellipse((x + wide, y - tall - 8, x + wide + 12, y - tall + 4), fill=(250, 240, 120))
    draw.polygon(((x - wide, y), (x - wide - 80, y - rng.randint(-60, 120)), (x - wide + 30, y + 20)), fill=colour)


def _stones(draw: ImageDraw.ImageDraw, colour: Colour, size: tuple[int, int], rng: random.Random) -> None:
    for _ in range(rng.randint(3, 9)):
        x, y, reach = rng.randint(0, size[0]), rng.randint(80, size[1]), rng.randint(25, 80)
        corners = [(x + rng.randint(-reach, reach), y + rng.randint(-reach, reach)) for _ in range(5)]
        draw.polygon(corners, fill=_towards(colour, (255, 255, 255), rng.uniform(0, 0.6)), outline=(20, 20, 20))


def _star(draw: ImageDraw.ImageDraw, colour: Colour, size: tuple[int, int], rng: random.Random) -> None:
    x, y, rays = size[0] / 2 + rng.randint(-80, 80), size[1] / 2 + rng.randint(-40, 40), rng.randint(3, 14)
    outer = rng.randint(80, 160)
    inner = outer * rng.uniform(0.2, 0.7)
    angles = [(math.pi * i / rays, outer if i % 2 else inner) for i in range(2 * rays)]
    draw.polygon([(x + r * math.cos(a), y + r * math.sin(a)) for a, r in angles], fill=colour, outline=(250, 250, 250))


def photograph(file: Path) -> Image.Image:
    """Return the card in `file` as a detector cuts it out of a photograph: a little tilted, shifted and blurred."""
    photo = Image.open(file).convert("RGB").rotate(PHOTO_TILT_DEGREES, Image.Resampling.BICUBIC, fillcolor=PHOTO_TABLE)
    left, top = PHOTO_SHIFT
    photo = photo.crop((left, top, left + CARD_SIZE[0], top + CARD_SIZE[1]))
    return photo.filter(ImageFilter.GaussianBlur(PHOTO_BLUR))


def _small() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(20)


def _towards(a: Sequence[int], b: Sequence[int], share: float) -> Colour:
    """The colour `share` of the way from `a` to `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    raise SystemExit(run(main))
