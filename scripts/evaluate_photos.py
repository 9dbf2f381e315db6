"""How well does an index recognise labelled photographs?

Reads:  a CSV of photographs, in the format of take_photographs.py's photos.csv, and its pictures; index_out/
Writes: a table to stdout; with --json every answer; with --html a page of what went wrong

A card counts as named if an answered card that lies where it does has its name; one answered card serves one label.
Where that fails, the table says where the card was lost: no region of the picture fits it (detection); one does, but
was not embedded (not asked); one ranks the right name first, but another was chosen (choice); none does (recognition).

Photographs of which the index knows no card, and with --strangers all others asked once more as if the index lacked
their cards, must not be sure of anything. A threshold is chosen so that 2 % of them pass, on other photographs than it
is then measured on. Intervals are 95 %, by photograph.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import _path  # noqa: F401  # must come before helpers
from drawn.page import Shown, page
from msgspec.structs import replace

from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_write_bytes, atomic_write_json, require_replaceable, writable_folder
from helpers.cli_validation import Parser, number, numbers, one_of, path
from helpers.ending import run
from helpers.errors import ExitCode
from helpers.evaluate.asking import Asked, Points, names_of
from helpers.evaluate.labelled import read_photos
from helpers.evaluate.photograph_tables import report
from helpers.evaluate.photographs import Options, measure
from helpers.index.manifest import Manifest, Recognition
from helpers.index.store import StoredIndex
from helpers.options import add_device_option
from helpers.recognise.query import QueryEngine
from helpers.talk import text_of

TURNS = {"0": (0,), "90": (90,), "180": (180,), "270": (270,), "all": (0, 90, 180, 270)}


class EvaluateArgs(argparse.Namespace):
    """The command line."""

    photos: Path
    index: Path
    turn: str
    crops: bool
    corner_error: tuple[float, ...]
    seeds: int
    strangers: bool
    hash_weight: float | None
    min_visible: float
    html: Path | None
    json: Path | None
    device: str


def parse_args(argv: Sequence[str] | None) -> EvaluateArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.required_option("--photos", path, "CSV", "labelled photographs")
    parser.option("--index", path, Path("index_out"), "DIR", "index directory")
    turn = f"degrees by which photographs are turned clockwise before they are asked: {', '.join(TURNS)}"
    parser.option("--turn", one_of([*TURNS], suggest="all"), "0", "DEGREES", turn)
    parser.flag("--crops", "ask each card cut out, too")
    error = "how far the corners of cut-outs are off, at most, in percent of the card's width and height: 0,3,6"
    parser.option("--corner-error", numbers(float, 0, 30, suggest="0,3,6"), (0.0,), "PERCENT,...", error)
    parser.option("--seeds", number(int, 1, 100, suggest=5), 1, "N", "cut-outs of each card, where corners are off")
    parser.flag("--strangers", "ask everything once more as if the index lacked the cards that are on it")
    weight = "weight of the hash in a score (default: the index's); 0: by the vectors alone"
    parser.option("--hash-weight", number(float, 0, 10, suggest=1.5), None, "W", weight)
    visible = "least visible share of a card that counts (column `visible`)"
    parser.option("--min-visible", number(float, 0, 1, suggest=0.6), 0.6, "SHARE", visible)
    parser.option("--html", path, None, "FILE", "page of what went wrong")
    parser.option("--json", path, None, "FILE", "every answer")
    add_device_option(parser)
    return parser.parse(argv, EvaluateArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Ask every photograph, compare the answers with the labels, write what was found."""
    args = parse_args(argv)
    photos = read_photos(args.photos)
    for flag, file in (("--html", args.html), ("--json", args.json)):
        require_writable(flag, file)
    manifest = StoredIndex(IndexFolder(args.index)).manifest
    settings = manifest.recognition
    if args.hash_weight is not None:
        settings = replace(settings, hash_weight=args.hash_weight)
    engine = QueryEngine.load(args.index, device=args.device, recognition=settings)
    options = Options(
        turns=TURNS[args.turn],
        crops=args.crops,
        corner_error=args.corner_error,
        seeds=args.seeds,
        strangers=args.strangers,
        min_visible=args.min_visible,
    )
    found = measure(engine, photos, options)
    asked = found.answers
    print(f"{conditions(manifest, settings, args)}\n\n{report(found)}")
    if args.json:
        atomic_write_json(args.json, asked)
    if args.html:
        atomic_write_bytes(args.html, misses(asked, args.html.parent).encode())
    return ExitCode.OK


def require_writable(flag: str, file: Path | None) -> None:
    """PipelineError if `file` could not be written later."""
    if file is not None:
        writable_folder(file.parent, flag)
        require_replaceable(file, f"the {flag} file", f"pass a file, new or existing: {flag} FILE")


def conditions(manifest: Manifest, settings: Recognition, args: EvaluateArgs) -> str:
    """What was measured, and on what."""
    rows = manifest.statistics.successful_embeddings
    chosen = f" ({settings.conditions})" if settings.conditions else ""
    turn = "as they are" if args.turn == "0" else f"turned by {', '.join(map(str, TURNS[args.turn]))} degrees"
    return (
        f"Index of {rows:,} faces, model {manifest.source}, hash weight {settings.hash_weight:g}\n"
        f"Sure from margin + gap {settings.sure_above:g}{chosen}\n"
        f"Photographs of {args.photos}, {turn}; cards that are visible to {args.min_visible:g} or more"
    )


def misses(asked: Sequence[Asked], folder: Path) -> str:
    """A page of the pictures with a card that was not named first, or a sure card too many."""
    rows = []
    for one in asked:
        wrong = [one.cards[card] for card in one.extra if one.cards[card].sure and one.scored]
        strangers = [card for card in one.strangers or () if card.sure]
        lost = [label for label in one.scored if label.lost]
        if lost or wrong or strangers:
            said = [f"{label.name}, lost: {label.lost}" for label in lost]
            said += [f"sure, but not on it: {names_of(wrong)}"] * bool(wrong)
            said += [f"sure of a stranger: {names_of(strangers)}"] * bool(strangers)
            rows.append(
                (f"{text_of(Path(one.photo).name)}, {one.way}, turned by {one.turn}: {'; '.join(said)}", [_shown(one)])
            )
    legend = "Blue: where cards are; green: a right answer; red: another. In brackets: margin + gap."
    return page("What was missed", f"{len(rows)} of {len(asked)} pictures. {legend}", rows, folder)


def _shown(one: Asked) -> Shown:
    outlines: list[tuple[Points, bool | None]] = [(label.quad, None) for label in one.scored if label.quad]
    outlines += [(card.quad, place not in one.extra) for place, card in enumerate(one.cards) if card.quad]
    caption = f"answered: {names_of(one.cards)}"
    return Shown(Path(one.photo), caption, size=one.photo_size, outlines=outlines, large=True)


if __name__ == "__main__":
    raise SystemExit(run(main))
