"""How good is an index? Queries it with damaged pictures of its own cards, and with labelled photographs.

Reads:  index_out/, and the pictures that it was built from; with --photos a CSV of photographs, in the format of
        take_photographs.py's photos.csv, and its pictures
Writes: tables to stdout; evaluation.json and evaluation.html, beside the index or in --out; nothing else needs them

Index: HNSW against exact search, int8 against float, near-identical rows. Camera: recall by name and by illustration
under each kind of damage; the same queries by pHash, dHash, raw, centred and whitened vectors. Strangers: the same with
each card's own rows masked. Size: recall by the number of rows. Reading: names and printings with and without what is
printed on the card, and the weights that fit. The sample is as large as --minutes allow.

Photographs: a labelled card counts as named if the answer has a card of its name in its place; each card of the answer
counts for one label. Otherwise the table says where the label was lost: no region of the picture fits it (detection);
one does, but was not embedded (not asked); one ranks the right name first, but another was chosen (choice); none ranks
it first (recognition). Photographs of which the index knows no card must not be sure of anything; with --strangers all
others are asked once more as if they were such. A threshold is chosen so that 2 % of these strangers pass, on other
photographs than it is measured on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_write_bytes, atomic_write_json, require_replaceable, writable_folder
from helpers.cli_validation import Parser, codes, number, numbers, one_of, path
from helpers.ending import run
from helpers.errors import ExitCode, Problem
from helpers.evaluate.labelled import read_photos
from helpers.evaluate.request import SECTIONS, Options, Request
from helpers.index.store import StoredIndex
from helpers.options import add_device_option
from helpers.recognise.printed import READ
from helpers.recognise.query import VERIFY

TURNS = {"0": (0,), "90": (90,), "180": (180,), "270": (270,), "all": (0, 90, 180, 270)}
OF_PHOTOS = ("turn", "crops", "corner_error", "seeds", "strangers", "read", "verify", "min_visible")


class EvaluateArgs(argparse.Namespace):
    """The command line."""

    index: Path
    cache: Path | None
    sections: tuple[str, ...]
    minutes: float
    seed: int
    hash_weight: float | None
    device: str
    out: Path | None
    html: Path | None
    photos: Path | None
    turn: str
    crops: bool
    corner_error: tuple[float, ...]
    seeds: int
    strangers: bool
    read: str
    verify: str
    min_visible: float
    given: frozenset[str]

    @property
    def options(self) -> Options:
        """In which ways photographs are asked."""
        return Options(
            turns=TURNS[self.turn],
            crops=self.crops,
            corner_error=self.corner_error,
            seeds=self.seeds,
            strangers=self.strangers,
            read=self.read,
            verify=self.verify,
            min_visible=self.min_visible,
        )


def parse_args(argv: Sequence[str] | None) -> EvaluateArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--index", path, Path("index_out"), "DIR", "index directory")
    parser.option("--cache", path, None, "DIR", "directory of its pictures (default: where the index says)")
    sections = f"what to measure: {','.join(SECTIONS)} (default: all; photographs only with --photos)"
    parser.option("--sections", codes(SECTIONS), SECTIONS, "NAME,...", sections)
    parser.option(
        "--minutes", number(float, 0.01, 1440, suggest=4), 4.0, "MINUTES", "how long to measure; sizes the sample"
    )
    parser.option(
        "--seed",
        number(int, 0, 2**32 - 1, suggest=0),
        0,
        "N",
        "random seed; another one draws other cards and other damage",
    )
    weight = "weight of the hash in a score (default: the index's); 0: by the vectors alone"
    parser.option("--hash-weight", number(float, 0, 10, suggest=1.5), None, "W", weight)
    add_device_option(parser)
    parser.option("--out", path, None, "DIR", "directory of evaluation.json (default: the index directory)")
    parser.option("--html", path, None, "FILE", "the page (default: evaluation.html beside evaluation.json)")
    _add_photo_options(parser)
    return parser.parse(argv, EvaluateArgs())


def _add_photo_options(parser: Parser) -> None:
    parser.section("photographs")
    parser.option("--photos", path, None, "CSV", "labelled photographs")
    turn = f"degrees by which photographs are turned clockwise before the query: {', '.join(TURNS)}"
    parser.option("--turn", one_of([*TURNS], suggest="all"), "0", "DEGREES", turn)
    parser.flag("--crops", "also query with each card cut out")
    error = "most that corners of cut-outs are off, in percent of the card's width and height; for example 0,3,6"
    parser.option("--corner-error", numbers(float, 0, 30, suggest="0,3,6"), (0.0,), "PERCENT,...", error)
    parser.option("--seeds", number(int, 1, 100, suggest=5), 1, "N", "cut-outs of each card, where corners are off")
    parser.flag("--strangers", "query everything once more as if the index lacked the cards in the photographs")
    read = "read cards: auto, where the name or the printing is not sure; always; off"
    parser.option("--read", one_of(READ, suggest=READ[0]), READ[0], "WHEN", read)
    verify = "compare cards that are not sure with the best names' own pictures: auto; off"
    parser.option("--verify", one_of(VERIFY, suggest=VERIFY[0]), VERIFY[0], "WHEN", verify)
    visible = "least visible share of a card that counts (column `visible`)"
    parser.option("--min-visible", number(float, 0, 1, suggest=0.6), 0.6, "SHARE", visible)
    parser.cross_rule(("photos", "sections", *OF_PHOTOS), _photographs_are_named)


def _photographs_are_named(args: EvaluateArgs) -> Problem | None:
    """Photographs are asked if there are any, and flags about them need some."""
    wanted = "photographs" in args.sections
    if args.photos is not None:
        problem = Problem(
            "--photos needs the section photographs",
            f"received --sections {','.join(args.sections)}",
            "add photographs to --sections, or leave --photos out",
        )
        return None if wanted else problem
    flags = [f"--{name.replace('_', '-')}" for name in OF_PHOTOS if name in args.given]
    if flags or ("sections" in args.given and wanted):
        what = flags[0] if flags else "--sections photographs"
        return Problem(f"{what} needs --photos", f"received {what} without it", "add --photos CSV")
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    args = parse_args(argv)
    photos = () if args.photos is None else tuple(read_photos(args.photos))
    file, html = output_files(args)
    from helpers.evaluate.page import page_of  # numpy and all that it needs
    from helpers.evaluate.report import headline, report
    from helpers.evaluate.stage import evaluate  # torch: seconds

    findings = evaluate(
        Request(
            index=args.index,
            cache=args.cache,
            minutes=args.minutes,
            seed=args.seed,
            device=args.device,
            hash_weight=args.hash_weight,
            sections=args.sections,
            photos=photos,
            options=args.options,
        )
    )
    print("\n\n".join(filter(None, (report(findings), headline(findings)))))  # first: minutes of work must not be lost
    atomic_write_json(file, findings)
    atomic_write_bytes(html, page_of(findings, StoredIndex(IndexFolder(args.index)), args.cache).encode())
    return ExitCode.OK


def output_files(args: EvaluateArgs) -> tuple[Path, Path]:
    """Where evaluation.json and the page go; PipelineError if there is no index, or they could not be written later."""
    StoredIndex(IndexFolder(args.index))
    folder = IndexFolder(writable_folder(args.out or args.index, "--out"))
    require_replaceable(folder.evaluation, "evaluation.json", "pass another directory: --out DIR")
    html = args.html or folder.evaluation_page
    writable_folder(html.parent, "--html")
    require_replaceable(html, "the --html file", "pass a file, new or existing: --html FILE")
    return folder.evaluation, html


if __name__ == "__main__":
    raise SystemExit(run(main, stopped="what was measured so far is lost, nothing is half-written."))
