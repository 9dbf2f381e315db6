"""Run the whole pipeline on a built-in sample, without Scryfall and without a model hub.

Reads:  nothing
Writes: demo/ - cards/, image_cache/, index_out/, photos/, report.html
Next:   the same commands without --api-url and --model, for the real thing

Each command is printed as a user would type it. The cards are drawn, served as Scryfall would serve them, downloaded,
embedded and exported; then the index is queried with photographs of some of them, and evaluated.

Exit codes: 0 most cards were named; 1 too few were, or a step failed.
"""

import argparse
import csv
import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _path  # noqa: F401  # must come before helpers
from drawn.page import Shown, page
from PIL import Image

from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_write_bytes, writable_folder
from helpers.cards.image_cache import ImageCache
from helpers.cli_validation import Parser, number, path
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError, Problem
from helpers.index.store import StoredIndex
from helpers.locks import sole_holder
from helpers.recognise.camera import Conditions
from helpers.talk import human_bytes

ROOT = Path(__file__).resolve().parent.parent  # where the commands run, so that they can be copied
SHOWN_MATCHES = 4
USUAL_PORT = 8765
LOCK = ".demo.lock"
PARAGRAPH = "\n\n"
ENOUGH = 0.75  # of the cards named: with less, something is broken


class DemoArgs(argparse.Namespace):
    """The command line."""

    out: Path
    count: int
    photographs: int
    minutes: float


def parse_args(argv: Sequence[str] | None) -> DemoArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--out", path, ROOT / "demo", "DIR", "output directory")
    parser.option("--count", number(int, 1, 2000, suggest=300), 300, "N", "cards to draw")
    parser.option("--photographs", number(int, 1, 2000, suggest=20), 20, "N", "photographs to query")
    minutes = "how long scripts/evaluate_index.py measures the index"
    parser.option("--minutes", number(float, 0.01, 60, suggest=1), 1.0, "N", minutes)
    parser.cross_rule(("count", "photographs"), _enough_cards)
    args = parser.parse(argv, DemoArgs())
    args.out = args.out.absolute()
    if args.out.is_relative_to(ROOT):
        args.out = args.out.relative_to(ROOT)  # as a user in the project's directory would type it
    return args


def _enough_cards(args: DemoArgs) -> Problem | None:
    if 2 * args.photographs <= args.count:
        return None
    return Problem(
        "--photographs must be at most half of --count: some cards have no picture",
        f"received --photographs {args.photographs} --count {args.count}",
        f"use --count {2 * args.photographs} or more",
    )


@dataclass(slots=True)
class Show:
    """Runs and prints commands as a user would type them, and records how long each took."""

    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, stage: str, script: str, *arguments: str | Path, quietly: bool = False) -> str:
        """Run a script of this project; return its stdout, also printed unless `quietly`."""
        words = [_python(), script, *map(str, arguments)]
        print(f"\n$ {_shortened(words)}", flush=True)
        started = time.monotonic()
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                said = process.communicate()[0]
            except BaseException:  # Ctrl-C, SIGTERM: it should end as it does for a user
                process.terminate()
                raise
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - started
        if said and not quietly:
            print(said, end="", flush=True)
        if process.returncode:
            raise _failed(script, process.returncode)
        return said

    @contextmanager
    def stand_in(self, table: Path) -> Iterator[str]:
        """Serve the cards of `table` as Scryfall would, within the block; yield the address."""
        words = [_python(), "scripts/standin_scryfall.py", "--table", str(table), "--port", str(_port())]
        print(f"\n$ {shlex.join(words)} &", flush=True)
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            try:
                address = server.stdout.readline().strip() if server.stdout else ""
                if not address:
                    raise _failed(words[1], server.wait())
                print(address, flush=True)
                yield address
            finally:
                server.kill()


def _port() -> int:
    """The usual port if it is free, so that a second demo finds its pictures in the cache; otherwise any."""
    try:
        socket.create_server(("127.0.0.1", USUAL_PORT)).close()
    except OSError:
        return 0
    return USUAL_PORT


def _shortened(words: Sequence[str]) -> str:
    """A command line with only the first and the last of many pictures."""
    pictures = [i for i, word in enumerate(words) if word.endswith(".jpg")]
    if len(pictures) > 3:
        first, last = pictures[0], pictures[-1]
        return f"{shlex.join(words[: first + 1])} … {shlex.join(words[last:])}"
    return shlex.join(words)


def _python() -> str:
    """The running interpreter, as one would type it in the project's directory."""
    here = Path(sys.executable)  # not resolved: an environment's python is a link to another one
    return str(here.relative_to(ROOT) if here.is_relative_to(ROOT) else here)


def _failed(script: str, code: int) -> PipelineError:
    return PipelineError.of(
        Category.BUILD,
        f"a step of the demo failed: {script}",
        details=f"exit code {code}",
        suggestion="see its error message above",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, serve, download, build, export, photograph, query, sum up; one demo at a time per --out."""
    args = parse_args(argv)
    with sole_demo(args.out):
        return run_demo(args)


@contextmanager
def sole_demo(demo: Path) -> Iterator[None]:
    """Hold the lock of `demo`; PipelineError if another demo is writing into it."""
    lock = writable_folder(ROOT / demo, "--out") / LOCK
    with sole_holder(lock, f"another demo is writing into {demo}", "wait until it finishes, or use another --out"):
        yield


def run_demo(args: DemoArgs) -> int:
    """Run all steps in order; return the exit code."""
    demo, show = args.out, Show()
    cards, cache, index, photos = (demo / name for name in ("cards", "image_cache", "index_out", "photos"))
    table = cards / "cards.jsonl"
    show.run("draw the cards", "scripts/draw_cards.py", "--out", cards, "--count", str(args.count))
    list_flags = ("--kind", "all_cards", "--cache", cache)
    with show.stand_in(table) as address:
        # --refresh: the list of an earlier demo may have other cards
        show.run("download", "download_images.py", *list_flags, "--api-url", address, "--refresh")
    show.run("embed and index", "build_embeddings.py", *list_flags, "--out", index, "--model", "cards", "--offline")
    print(missing_on_purpose(ROOT / index), end="")
    show.run("export", "export_for_browser.py", "--input-dir", index, "--output-dir", index, "--encoder", "fp16")
    wanted = ("--count", str(args.photographs))
    show.run("photograph", "scripts/take_photographs.py", "--table", table, "--out", photos, *wanted)
    with open(ROOT / photos / "photos.csv", newline="", encoding="utf-8") as file:
        truth = list(csv.DictReader(file))
    show.run("query one", "query_index.py", photos / truth[0]["photo"], "--index", index, "--k", "3")
    found = ask(show, index, [photos / row["photo"] for row in truth])
    named = sum(map(is_right, found, truth))
    write_page(demo, truth, found, f"{named} of {len(truth)} named in the whole photograph.")
    words = ("--index", index, "--minutes", f"{args.minutes:g}")
    evaluation = show.run("evaluate", "scripts/evaluate_index.py", *words, quietly=True)
    sum_up(demo, show, named, len(truth))
    print(f"\nHow good the index is: {index}/evaluation.html\n{evaluation.rpartition(PARAGRAPH)[2]}", end="")
    return ExitCode.OK if named >= ENOUGH * len(truth) else ExitCode.NOT_RECOGNISED


def missing_on_purpose(index: Path) -> str:
    """What to say of cards without a picture, which would otherwise seem a fault; nothing if there are none."""
    counts = StoredIndex(IndexFolder(index)).manifest.statistics
    if not counts.missing_from_cache:
        return ""
    missing = f"{counts.missing_from_cache} of {counts.total_records} are missing on purpose"
    return f"\n{missing}: Scryfall's list, too, has cards whose pictures are not there\n"


def ask(show: Show, index: Path, photos: Sequence[Path]) -> list[dict[str, Any]]:
    """The clearest card in each photograph."""
    flags = ("--index", index, "--k", str(SHOWN_MATCHES), "--json")
    answers = show.run(f"query {len(photos)}", "query_index.py", *photos, *flags, quietly=True)
    return [json.loads(line)["cards"][0] for line in answers.splitlines()]


def is_right(card: dict[str, Any], row: dict[str, str]) -> bool:
    """Whether its first match has the photographed card's name: its printing can't always be seen."""
    return bool(card["matches"][0]["name"] == row["name"])


def write_page(demo: Path, truth: Sequence[dict[str, str]], cards: Sequence[dict[str, Any]], rate: str) -> None:
    """report.html: each photograph, the card outlined, beside its matches."""
    cache = ImageCache(demo / "image_cache")
    rows = []
    for row, card in zip(truth, cards, strict=True):
        right = is_right(card, row)
        matches = [
            Shown(cache.path_for(match["image_url"]), f"{match['score']:.3f} {match['name']}", None if place else right)
            for place, match in enumerate(card["matches"])
        ]
        rows.append((row["name"], [_photograph(demo / "photos" / row["photo"], card["quad"], right), *matches]))
    legend = "The outline is where the card was found. Below each match: its score; green is right, red is wrong."
    html = page("What was recognised", f"{rate} {legend}", rows, demo)
    atomic_write_bytes(ROOT / demo / "report.html", html.encode())


def _photograph(photo: Path, quad: list[tuple[float, float]] | None, right: bool) -> Shown:
    with Image.open(ROOT / photo) as picture:
        return Shown(photo, "as photographed", size=picture.size, outlines=[(quad, right)] if quad else [])


def sum_up(demo: Path, show: Show, named: int, asked: int) -> None:
    """Print the summary: how many were right, how long it took, what is where, what to do next."""
    rows = len(IndexFolder(ROOT / demo / "index_out").metadata.read_bytes().splitlines())
    usual = Conditions()
    print(f"\n{asked} photographs queried against an index of {rows}: rotated by up to {usual.rotation_degrees:g},")
    print(f"  tilted by up to {usual.tilt_degrees:g} degrees, with blur, uneven light, glare and noise, as JPEGs of")
    print(f"  quality {usual.jpeg_quality}.")
    print(f"  {named} of {asked} named in the whole photograph")
    print("\nSeconds")
    for stage, seconds in {**show.seconds, "total": sum(show.seconds.values())}.items():
        print(f"  {stage:<22}{seconds:6.1f}")
    print(f"\nWritten to {demo}/")
    for name, what in (
        ("cards", "the drawn cards; contact_sheet.jpg shows them all"),
        ("image_cache", "what was downloaded"),
        ("index_out", "vectors, hashes, metadata, FAISS index, manifest; for a browser: bundle.json and what it lists"),
        ("photos", "the photographs, and photos.csv: what they show"),
        ("report.html", "open it: every photograph beside its matches"),
    ):
        print(f"  {name:<13}{human_bytes(_size(ROOT / demo / name)):>9}  {what}")
    index, python = demo / "index_out", _python()
    print("\nNext")
    print(f"  {python} query_index.py PICTURE --index {index}    # query a picture of your own")
    print(f"  make serve OUT={index}    # recognise cards in a browser, with a camera: http://127.0.0.1:8000/")
    print(f"  {python} build_mtg_faiss.py --limit 200 --model cards    # the real thing, small: Scryfall's cards")


def _size(place: Path) -> int:
    return sum(file.stat().st_size for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file())


if __name__ == "__main__":
    raise SystemExit(run(main))
