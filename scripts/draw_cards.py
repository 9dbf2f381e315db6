"""Draw a catalogue of invented cards, as lifelike as a program can, for the demo, tests and experiments.

Reads:  nothing; the same --seed draws the same cards, and a larger --count begins with the same ones
Writes: demo/cards/ - cards.jsonl (Scryfall's card objects, with `picture` in place of `image_uris`), a JPEG per side of
        745 x 1040 pixels, contact_sheet.jpg that shows them all, and pictures.csv: a row for each picture that is a
        scan (no placeholder, none that is missing or lost), with the columns file (in that directory), name (the whole
        card's), illustration_id (the side's; equal for the same art), layout, frame, treatment, lang
Next:   standin_scryfall.py --table demo/cards/cards.jsonl; take_photographs.py --table demo/cards/cards.jsonl;
        tune_model.py --table demo/cards/pictures.csv

300 cards have frames of five eras and over a dozen treatments, every family of layouts (and an unknown one), reprints
with the same art in another frame, translations, tokens, placeholders, a card without a picture, and one whose picture
is lost. About half of the art shows scenes, the other half patterns of many kinds. --reprints adds printings of the
plain cards, of three kinds in turn: in another set but otherwise the same, so that only the collector line and the set
symbol tell them apart; with the same art in another frame; with other art.
"""

import argparse
import csv
import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import _path  # noqa: F401  # must come before helpers
from drawn.catalogue import MAX_CARDS, Card, card_object, make_catalogue
from PIL import Image

from helpers.atomic_io import atomic_path, atomic_write_bytes, disk_errors_named, writable_folder
from helpers.cli_validation import Parser, number, path
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError
from helpers.machine_limits import usable_cores
from helpers.talk import Progress

TABLE, PICTURES = "cards.jsonl", "pictures.csv"
PICTURE_COLUMNS = ("file", "name", "illustration_id", "layout", "frame", "treatment", "lang")
SHEET, SHEET_COLUMNS, SHEET_PIXELS = "contact_sheet.jpg", 20, (122, 170)
JPEG_QUALITY = 88


class DrawArgs(argparse.Namespace):
    """The command line."""

    out: Path
    count: int
    seed: int
    reprints: int


def parse_args(argv: Sequence[str] | None) -> DrawArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    default = Path(__file__).resolve().parent.parent / "demo" / "cards"
    parser.option("--out", path, default, "DIR", "directory for the pictures and their table")
    parser.option("--count", number(int, 1, MAX_CARDS, suggest=300), 300, "N", f"cards to draw, 1 to {MAX_CARDS}")
    parser.option("--seed", number(int, 0, suggest=1), 1, "N", "random seed")
    text = "further printings to draw, of the plain ones among the cards"
    parser.option("--reprints", number(int, 0, MAX_CARDS, suggest=300), 0, "N", text)
    return parser.parse(argv, DrawArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the cards, their table and a contact sheet."""
    args = parse_args(argv)
    folder = writable_folder(args.out, "--out")
    require_fonts()
    cards = make_catalogue(args.count, args.seed, args.reprints)
    pictures = draw(cards, folder)
    write_table(folder / TABLE, cards)
    write_pictures_table(folder / PICTURES, cards)
    write_contact_sheet(pictures, folder / SHEET)
    print(f"{len(cards)} cards with {len(pictures)} pictures are in {folder}; {SHEET} shows them all")
    return ExitCode.OK


def require_fonts() -> None:
    """PipelineError if the package with the cards' typeface is not installed."""
    try:
        import font_caladea  # noqa: F401
    except ImportError as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the package with the cards' typeface is not installed",
            details=str(error),
            suggestion="pip install -r requirements-dev.txt",
        ) from error


def picture_name(place: int, side: int) -> str:
    """File name of a side of the card at `place` (from 0)."""
    return f"{place + 1:03}{'ab'[side]}.jpg"


def draw(cards: Sequence[Card], folder: Path) -> list[Path]:
    """Draw every side that has a picture, on all cores; return the files in the cards' order."""
    pool = ProcessPoolExecutor(min(len(cards), usable_cores()), initializer=become_a_worker)
    try:
        with Progress("Drawing", len(cards), "cards") as progress:
            drawn: list[Path] = []
            for files in pool.map(draw_card, range(len(cards)), cards, [folder] * len(cards)):
                drawn += files
                progress.advance()
            return drawn
    except BrokenProcessPool as error:
        raise PipelineError.of(
            Category.BUILD,
            "a drawing process was killed",
            details=str(error),
            suggestion="check that the machine has enough memory, then run the same command again",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def become_a_worker() -> None:
    """Leave signals to the parent (Ctrl-C reaches all processes of a terminal), and don't outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def drawn_sides(card: Card) -> range:
    """The sides of a card that are drawn."""
    return range(0 if card.lost or card.image_status == "missing" else card.pictures)


def draw_card(place: int, card: Card, folder: Path) -> list[Path]:
    """Draw the sides of the card at `place` and return their files."""
    from drawn.frames import draw_side  # numpy, needed by each worker but not for --help

    files = []
    for side in drawn_sides(card):
        files.append(folder / picture_name(place, side))
        with atomic_path(files[-1]) as part:
            draw_side(card, side).save(part, "JPEG", quality=JPEG_QUALITY)
    return files


def write_table(table: Path, cards: Sequence[Card]) -> None:
    """Write the card objects, one per line; a lost picture is null."""

    def line(place: int, card: Card) -> str:
        listed = card_object(card, lambda side: None if card.lost else picture_name(place, side))
        return json.dumps(listed, ensure_ascii=False) + "\n"

    atomic_write_bytes(table, "".join(line(place, card) for place, card in enumerate(cards)).encode())


def write_pictures_table(table: Path, cards: Sequence[Card]) -> None:
    """Write a row for each picture that shows a card."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PICTURE_COLUMNS)
    for place, card in enumerate(cards):
        for side in drawn_sides(card) if card.image_status == "highres_scan" else ():
            art = card.sides[side].illustration_id
            row = (picture_name(place, side), card.name, art, card.layout, card.set.frame, card.treatment, card.lang)
            writer.writerow(row)
    atomic_write_bytes(table, text.getvalue().encode())


def write_contact_sheet(pictures: Sequence[Path], sheet: Path) -> None:
    """Write thumbnails of all pictures, side by side."""
    shrink = 1 if len(pictures) <= 1000 else 2
    (width, height), columns = (pixels // shrink for pixels in SHEET_PIXELS), SHEET_COLUMNS * shrink
    rows = -(-len(pictures) // columns)
    image = Image.new("RGB", (min(len(pictures), columns) * width, rows * height), (90, 90, 90))
    for i, picture in enumerate(pictures):
        with disk_errors_named(picture), Image.open(picture) as opened:
            opened.draft("RGB", (2 * width, 2 * height))
            small = opened.resize((width - 4, height - 4), Image.Resampling.LANCZOS)
        image.paste(small, (i % columns * width + 2, i // columns * height + 2))
    with atomic_path(sheet) as part:
        image.save(part, "JPEG", quality=85)


if __name__ == "__main__":
    raise SystemExit(run(main))
