"""Photograph a table's cards as a phone would: rotated, tilted, badly lit, blurred, saved as a JPEG.

Reads:  a table of cards with their pictures, in either format that standin_scryfall.py reads
Writes: demo/photos/ - NNN.jpg, the photographs; NNN_cut.jpg, the card cut out of each along its true corners, as a
        perfect card detector would return it, or NNN_K_cut.jpg for each of several cards; photos.csv: which cards each
        photograph shows, where their corners are and what share of each card is visible
Next:   query_index.py demo/photos/000.jpg

Each photograph draws its own rotation, tilt, fill, blur, light and glare, up to what the flags allow; the same --seed
takes the same photographs. A photograph of one card is in portrait, 720x960 pixels. One of several cards, later ones
lying on earlier ones, or of none, is in landscape, 1600x1200. --scale multiplies both sides. photos.csv names the exact
printing, by its set and number; its scryfall_id is the `id` in cards.jsonl.
"""

import argparse
import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import _path  # noqa: F401  # must come before helpers
import numpy as np
from _table import CardObject, read_table, sides
from PIL import Image

from helpers.atomic_io import atomic_path, atomic_write_bytes, writable_folder
from helpers.cards.faces import PLACEHOLDER_STATUS
from helpers.cli_validation import Parser, number, number_or_range, path
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError, Problem
from helpers.recognise.camera import SCENE, USUAL_MIN_FILL, Conditions, Quad, Scene, scene
from helpers.talk import Progress
from helpers.validation import BrokenImage, read_image

TABLE = "photos.csv"
COLUMNS = (
    *("photo", "crop", "kind", "name", "set", "collector_number", "scryfall_id", "reference"),
    *("quad_tl_tr_br_bl", "visible", "source"),
)
CUT_OUT_QUALITY = 95
MAX_CARDS_PER_PHOTO = 40


class PhotographArgs(argparse.Namespace):
    """The command line."""

    table: Path
    out: Path
    count: int
    cards_per_photo: tuple[int, int]  # at least, at most
    seed: int
    rotation: float
    tilt: float
    fill: float
    min_fill: float | None
    blur: float
    light: float
    glare: float
    noise: float
    quality: int
    scale: float


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
    several = number_or_range(0, MAX_CARDS_PER_PHOTO, suggest="3-12")
    text = "cards on each photograph, N or MIN-MAX; 0: none (default: 1)"
    parser.option("--cards-per-photo", several, (1, 1), "CARDS", text)
    parser.option("--seed", number(int, 0, suggest=1), 1, "N", "random seed")
    usual = Conditions()
    for flag, rule, default, metavar, text in (
        ("--rotation", (0, 180), usual.rotation_degrees, "DEGREES", "maximum rotation, either way"),
        ("--tilt", (0, 60), usual.tilt_degrees, "DEGREES", "maximum tilt away from the camera"),
        ("--fill", (0.1, 1), usual.fill, "SHARE", "maximum share of the frame that the cards span"),
        ("--blur", (0, 20), usual.blur_pixels, "PIXELS", "maximum sigma of the blur"),
        ("--light", (0, 1), usual.light, "SHARE", "maximum unevenness of the light"),
        ("--glare", (0, 1), usual.glare, "SHARE", "maximum white that a reflection adds"),
        ("--noise", (0, 50), usual.noise, "LEVELS", "sigma of the sensor's noise, of 255"),
    ):
        parser.option(flag, number(float, *rule, suggest=default), default, metavar, text)
    text = f"minimum share of the frame that the cards span (default: {USUAL_MIN_FILL:g} of --fill)"
    parser.option("--min-fill", number(float, 0.1, 1, suggest=0.5), None, "SHARE", text)
    parser.cross_rule(("min_fill", "fill"), _least_is_not_above_most)
    quality = usual.jpeg_quality
    parser.option("--quality", number(int, 1, 95, suggest=quality), quality, "N", "JPEG quality, 1 to 95")
    text = "factor on the photographs' width and height; blur and noise stay the same in pixels"
    parser.option("--scale", number(float, 0.25, 4, suggest=2), 1.0, "FACTOR", text)
    return parser.parse(argv, PhotographArgs())


def _least_is_not_above_most(args: PhotographArgs) -> Problem | None:
    if args.min_fill is None or args.min_fill <= args.fill:
        return None
    return Problem(
        "--min-fill must be <= --fill",
        f"received --min-fill {args.min_fill:g} --fill {args.fill:g}",
        f"use --min-fill {args.fill:g} or lower",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Choose cards, photograph them, record which photograph shows which."""
    args = parse_args(argv)
    folder = writable_folder(args.out, "--out")
    chosen = choose(read_table(args.table), args)
    rows = take(chosen, folder, args)
    write_truth(folder / TABLE, rows)
    print(f"{len(chosen)} photographs are in {folder}; {TABLE} says what they show")
    return ExitCode.OK


def choose(cards: Sequence[CardObject], args: PhotographArgs) -> list[list[Subject]]:
    """The card sides of each photograph, all different, drawn at random; PipelineError if there are not enough."""
    there = [
        Subject(side["picture"], side["name"], card)
        for card in cards
        for side in sides(card)
        if side["picture"] and card.get("image_status") not in PLACEHOLDER_STATUS
    ]
    numbers = random.Random(f"cards per photograph {args.seed}")  # apart from which cards: those don't depend on it
    counts = [numbers.randint(*args.cards_per_photo) for _ in range(args.count)]
    if len(there) < sum(counts):
        enough_for = len(there) // args.cards_per_photo[1]
        raise PipelineError.of(
            Category.CONFIGURATION,
            "there are not enough cards to photograph",
            details=f"received --count {args.count}, for {sum(counts)} cards; {args.table} has {len(there)} pictures",
            suggestion=f"use --count {enough_for} or less" if enough_for else "pass a table with more pictures",
        )
    drawn = iter(random.Random(args.seed).sample(there, sum(counts)))
    return [list(islice(drawn, count)) for count in counts]


def take(chosen: Sequence[Sequence[Subject]], folder: Path, args: PhotographArgs) -> list[dict[str, str]]:
    """Take each photograph; return the rows of the table."""
    rows = []
    with Progress("Photographing", len(chosen), "photographs") as progress:
        for i, subjects in enumerate(chosen):
            pictures = [_opened(subject.picture) for subject in subjects]
            taken = scene(pictures, np.random.default_rng((args.seed, i)), _conditions(args, len(subjects)))
            of_photo = _rows(i, subjects, taken)
            atomic_write_bytes(folder / of_photo[0]["photo"], taken.jpeg)
            for k in range(len(subjects)):
                with atomic_path(folder / of_photo[k]["crop"]) as part:
                    taken.cut_out(k).save(part, "JPEG", quality=CUT_OUT_QUALITY)
            rows += of_photo
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


def _conditions(args: PhotographArgs, cards: int) -> Conditions:
    usual = Conditions() if cards == 1 else SCENE
    return replace(
        usual,
        width=round(args.scale * usual.width),
        height=round(args.scale * usual.height),
        fill=args.fill,
        min_fill=args.min_fill,
        rotation_degrees=args.rotation,
        tilt_degrees=args.tilt,
        blur_pixels=args.blur,
        light=args.light,
        glare=args.glare,
        noise=args.noise,
        jpeg_quality=args.quality,
    )


def _rows(i: int, subjects: Sequence[Subject], taken: Scene) -> list[dict[str, str]]:
    """The rows of photograph `i`: one a card; or one that names none, so that it is listed too."""
    common = {"photo": f"{i:03}.jpg", "source": "drawn"}
    if not subjects:
        return [dict.fromkeys(COLUMNS, "") | common | {"kind": "no card"}]
    one = len(subjects) == 1
    return [
        common
        | {
            "crop": f"{i:03}_cut.jpg" if one else f"{i:03}_{k}_cut.jpg",
            "kind": "one card" if one else "table scene",
            "name": subject.name,
            "set": str(subject.card.get("set", "")),
            "collector_number": str(subject.card.get("collector_number", "")),
            "scryfall_id": subject.card["id"],
            "reference": subject.picture.name,
            "quad_tl_tr_br_bl": _spelled(seen.quad),
            "visible": f"{seen.visible:.2f}",
        }
        for k, (subject, seen) in enumerate(zip(subjects, taken.cards, strict=True))
    ]


def _spelled(quad: Quad) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in quad)


def write_truth(table: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write the rows as CSV."""
    with atomic_path(table) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    raise SystemExit(run(main))
