"""Photograph a table's cards as a phone would: rotated, tilted, badly lit, blurred, saved as a JPEG.

Reads:  a table of cards with their pictures, in either format that standin_scryfall.py reads
Writes: demo/photos/ - NNN.jpg, the photographs; NNN_cut.jpg, the card cut out of each along its true corners, as a
        perfect card detector would return it; photos.csv: which card each shows and where its corners are
Next:   query_index.py demo/photos/000.jpg

Each photograph draws its own rotation, tilt, fill, blur, light and glare, up to what the flags allow; the same --seed
takes the same photographs.
"""

import argparse
import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import _path  # noqa: F401  # must come before helpers
import numpy as np
from _table import CardObject, read_table, sides
from PIL import Image

from helpers.atomic_io import atomic_path, atomic_write_bytes, writable_folder
from helpers.cards.faces import PLACEHOLDER_STATUS
from helpers.cli_validation import Parser, number, path
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError
from helpers.recognise.camera import Conditions, Photograph, photograph
from helpers.talk import Progress
from helpers.validation import BrokenImage, read_image

TABLE = "photos.csv"
COLUMNS = ("photo", "crop", "name", "set", "collector_number", "scryfall_id", "reference", "quad_tl_tr_br_bl")
CUT_OUT_QUALITY = 95


class PhotographArgs(argparse.Namespace):
    """The command line."""

    table: Path
    out: Path
    count: int
    seed: int
    rotation: float
    tilt: float
    fill: float
    blur: float
    light: float
    glare: float
    noise: float
    quality: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A card side to photograph."""

    picture: Path
    name: str
    card: CardObject


def parse_args(argv: Sequence[str] | None) -> PhotographArgs:
    """Read the command line."""
    demo = Path(__file__).resolve().parent.parent / "demo"
    parser = Parser(__doc__)
    parser.option("--table", path, demo / "cards" / "cards.jsonl", "FILE", "card table")
    parser.option("--out", path, demo / "photos", "DIR", "directory for the photographs")
    parser.option("--count", number(int, 1, 9999, suggest=20), 20, "N", "photographs to take")
    parser.option("--seed", number(int, 0, suggest=1), 1, "N", "random seed")
    usual = Conditions()
    for flag, rule, default, metavar, text in (
        ("--rotation", (0, 180), usual.rotation_degrees, "DEGREES", "maximum rotation, either way"),
        ("--tilt", (0, 60), usual.tilt_degrees, "DEGREES", "maximum tilt away from the camera"),
        ("--fill", (0.1, 1), usual.fill, "SHARE", "maximum share of the frame that the card spans"),
        ("--blur", (0, 20), usual.blur_pixels, "PIXELS", "maximum sigma of the blur"),
        ("--light", (0, 1), usual.light, "SHARE", "maximum unevenness of the light"),
        ("--glare", (0, 1), usual.glare, "SHARE", "maximum white that a reflection adds"),
        ("--noise", (0, 50), usual.noise, "LEVELS", "sigma of the sensor's noise, of 255"),
    ):
        parser.option(flag, number(float, *rule, suggest=default), default, metavar, text)
    quality = usual.jpeg_quality
    parser.option("--quality", number(int, 1, 95, suggest=quality), quality, "N", "JPEG quality, 1 to 95")
    return parser.parse(argv, PhotographArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Choose cards, photograph them, record which photograph shows which."""
    args = parse_args(argv)
    folder = writable_folder(args.out, "--out")
    chosen = choose(read_table(args.table), args)
    rows = take(chosen, folder, args)
    write_truth(folder / TABLE, rows)
    print(f"{len(rows)} photographs are in {folder}; {TABLE} says what they show")
    return ExitCode.OK


def choose(cards: Sequence[CardObject], args: PhotographArgs) -> list[Subject]:
    """`--count` different card sides, drawn at random; PipelineError if there are not enough."""
    there = [
        Subject(side["picture"], side["name"], card)
        for card in cards
        for side in sides(card)
        if side["picture"] and card.get("image_status") not in PLACEHOLDER_STATUS
    ]
    if len(there) < args.count:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "there are not enough cards to photograph",
            details=f"received --count {args.count}; {args.table} has {len(there)} pictures",
            suggestion=f"use --count {len(there)} or less" if there else "pass a table with pictures",
        )
    return random.Random(args.seed).sample(there, args.count)


def take(chosen: Sequence[Subject], folder: Path, args: PhotographArgs) -> list[dict[str, str]]:
    """Photograph each card; return the rows of the table."""
    conditions, rows = _conditions(args), []
    with Progress("Photographing", len(chosen), "cards") as progress:
        for i, subject in enumerate(chosen):
            taken = photograph(_opened(subject.picture), np.random.default_rng((args.seed, i)), conditions)
            rows.append(_row(i, subject, taken))
            atomic_write_bytes(folder / rows[-1]["photo"], taken.jpeg)
            with atomic_path(folder / rows[-1]["crop"]) as part:
                taken.cut_out().save(part, "JPEG", quality=CUT_OUT_QUALITY)
            progress.advance()
    return rows


def _opened(picture: Path) -> Image.Image:
    try:
        return read_image(picture)
    except BrokenImage as error:
        raise PipelineError.of(
            Category.VALIDATION,
            "a picture can't be photographed",
            details=f"{picture}: {error}",
            suggestion="remove it from the table, or replace it with one that opens",
        ) from error


def _conditions(args: PhotographArgs) -> Conditions:
    return Conditions(
        fill=args.fill,
        rotation_degrees=args.rotation,
        tilt_degrees=args.tilt,
        blur_pixels=args.blur,
        light=args.light,
        glare=args.glare,
        noise=args.noise,
        jpeg_quality=args.quality,
    )


def _row(i: int, subject: Subject, taken: Photograph) -> dict[str, str]:
    card, corners = subject.card, ",".join(f"{value:.1f}" for corner in taken.quad for value in corner)
    printed = (str(card.get("set", "")), str(card.get("collector_number", "")), card["id"])
    values = (f"{i:03}.jpg", f"{i:03}_cut.jpg", subject.name, *printed)
    return dict(zip(COLUMNS, (*values, subject.picture.name, corners), strict=True))


def write_truth(table: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write the rows as CSV."""
    with atomic_path(table) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    raise SystemExit(run(main))
