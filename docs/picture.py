"""Draw docs/result.jpg, the picture in the README, from the demo's index: drawn cards alone, so nobody's rights.

    make demo
    .venv/bin/python docs/picture.py

It photographs a table of cards, asks query_index.py which they are, and writes each name on its card.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
DEMO, OUT = ROOT / "demo", ROOT / "docs" / "result.jpg"
WIDTH, LINE, PADDING = 1200, 6, 9  # pixels
GREEN, ORANGE, INK = "#19c24a", "#ff9d00", "#10331b"  # the outlines' as in --html
TABLE = ("--count", "1", "--cards-per-photo", "9", "--seed", "5", "--rotation", "180", "--scale", "1.2", "--fill", "1")


def script(name: str, *arguments: str) -> str:
    """Run a script of ours; its stdout."""
    words = [sys.executable, str(ROOT / name), *arguments]
    return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def named(photo: Image.Image, cards: list[dict[str, Any]], scale: float) -> Image.Image:
    """The photograph, each card outlined and named; its corners times `scale` are pixels of `photo`."""
    draw = ImageDraw.Draw(photo)
    outlines = [[(x * scale, y * scale) for x, y in card["quad"]] for card in cards]
    for corners, card in zip(outlines, cards, strict=True):
        draw.line([*corners, corners[0]], GREEN if card["sure"] else ORANGE, LINE, joint="curve")
    for corners, card in zip(outlines, cards, strict=True):
        middle = tuple(sum(axis) / 4 for axis in zip(*corners, strict=True))
        words = f"{card['matches'][0]['name']}  {card['confidence']:.0%}"
        font = ImageFont.load_default(22)
        left, top, right, bottom = draw.textbbox(middle, words, font, anchor="mm")
        box = (left - PADDING, top - PADDING, right + PADDING, bottom + PADDING)
        draw.rounded_rectangle(box, PADDING, GREEN if card["sure"] else ORANGE)
        draw.text(middle, words, INK, font, anchor="mm")
    return photo


def main() -> None:
    """Photograph, ask, draw."""
    script("scripts/take_photographs.py", "--out", str(DEMO / "table"), *TABLE)
    photo = DEMO / "table" / "000.jpg"
    cards = json.loads(script("query_index.py", str(photo), "--index", str(DEMO / "index_out"), "--json"))["cards"]
    whole = Image.open(photo).convert("RGB")
    scale = WIDTH / whole.width
    shown = whole.resize((WIDTH, round(whole.height * scale)), Image.Resampling.LANCZOS)
    named(shown, cards, scale).save(OUT, quality=82, optimize=True)
    print(f"{OUT}: {len(cards)} cards, {shown.width} x {shown.height}, {OUT.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
