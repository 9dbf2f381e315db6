"""Draw docs/result.jpg, the picture in the README, from the demo's index: drawn cards alone, so nobody's rights.

    make demo
    .venv/bin/python docs/picture.py

It photographs a table of cards, asks query_index.py which they are, and puts each match beside its outline's number.
"""

import json
import subprocess
import sys
from hashlib import sha1
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
DEMO, OUT = ROOT / "demo", ROOT / "docs" / "result.jpg"
PHOTO_WIDTH, CARD_HEIGHT, MARGIN, LINE = 760, 232, 14, 19  # pixels
GREEN, ORANGE, INK = "#19c24a", "#ff9d00", "#222222"  # the outlines' as in --html


def script(name: str, *arguments: str) -> str:
    """Run a script of ours; its stdout."""
    words = [sys.executable, str(ROOT / name), *arguments]
    return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def font(size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    """Pillow's own typeface."""
    return ImageFont.load_default(size)


def outlined(photo: Image.Image, cards: list[dict[str, Any]]) -> Image.Image:
    """The photograph, each card outlined and numbered."""
    draw = ImageDraw.Draw(photo)
    for number, card in enumerate(cards, 1):
        corners = [tuple(corner) for corner in card["quad"]]
        draw.line([*corners, corners[0]], GREEN if card["sure"] else ORANGE, 6, joint="curve")
        middle = tuple(sum(axis) / 4 for axis in zip(*corners, strict=True))
        draw.text(middle, str(number), "white", font(64), anchor="mm", stroke_width=6, stroke_fill="black")
    return photo.resize((PHOTO_WIDTH, photo.height * PHOTO_WIDTH // photo.width), Image.Resampling.LANCZOS)


def labelled(number: int, card: dict[str, Any]) -> Image.Image:
    """The best match of a card, with its name and score."""
    best = card["matches"][0]
    picture = Image.open(DEMO / "image_cache" / f"{sha1(best['image_url'].encode()).hexdigest()}.jpg").convert("RGB")
    picture = picture.resize((picture.width * CARD_HEIGHT // picture.height, CARD_HEIGHT), Image.Resampling.LANCZOS)
    tile = Image.new("RGB", (picture.width + 2 * MARGIN, CARD_HEIGHT + 2 * LINE + MARGIN), "white")
    tile.paste(picture, (MARGIN, 0))
    draw = ImageDraw.Draw(tile)
    for line, text in enumerate((f"{number}. {best['name']}", f"{best['score']:.2f} {'sure' if card['sure'] else ''}")):
        shown = text
        while draw.textlength(shown, font(14)) > picture.width:
            shown = shown.rstrip("…")[:-1] + "…"
        draw.text((MARGIN, CARD_HEIGHT + 3 + line * LINE), shown, INK, font(14))
    return tile


def main() -> None:
    """Photograph, ask, draw."""
    flags = ("--count", "1", "--cards-per-photo", "4", "--seed", "11", "--rotation", "180")
    script("scripts/take_photographs.py", "--out", str(DEMO / "table"), *flags)
    photo = DEMO / "table" / "000.jpg"
    cards = json.loads(script("query_index.py", str(photo), "--index", str(DEMO / "index_out"), "--json"))["cards"]
    left = outlined(Image.open(photo).convert("RGB"), cards)
    tiles = [labelled(number, card) for number, card in enumerate(cards, 1)]
    columns = (len(tiles) + 1) // 2
    width = max(tile.width for tile in tiles)
    page = Image.new("RGB", (left.width + columns * width, max(left.height, 2 * tiles[0].height)), "white")
    page.paste(left, (0, (page.height - left.height) // 2))
    for place, tile in enumerate(tiles):
        page.paste(tile, (left.width + place % columns * width, place // columns * tile.height))
    page.save(OUT, quality=82, optimize=True)
    print(f"{OUT}: {page.width} x {page.height}, {OUT.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
