"""Show the whole pipeline on a small built-in sample, without Scryfall and without a model hub.

Reads:  nothing
Writes: demo/ - the drawn cards, the offline model, image_cache/, index_out/
Next:   the same commands without --api-url and --model, for the real thing

Each command is printed as a user would type it.

Exit codes: 0 the photograph was recognised; 1 it was not, or a step failed.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.cli_validation import Parser, path, run
from helpers.errors import EXIT_ERROR, EXIT_OK, Category, PipelineError

ROOT = Path(__file__).resolve().parent.parent  # where the commands run, so that their lines can be copied


class DemoArgs(argparse.Namespace):
    """The command line."""

    out: Path


def parse_args(argv: Sequence[str] | None) -> DemoArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--out", path, default=ROOT / "demo", metavar="DIR", help="directory of everything that is made")
    args = parser.parse(argv, DemoArgs())
    args.out = args.out.absolute()
    if args.out.is_relative_to(ROOT):
        args.out = args.out.relative_to(ROOT)  # as a user in the project's directory would type it
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, serve, download, build, export, ask."""
    demo = parse_args(argv).out
    cards, model, cache, index = demo / "cards", demo / "model", demo / "image_cache", demo / "index_out"
    photo = cards / "photo.jpg"
    command("scripts/draw_cards.py", "--out", cards)
    command("scripts/make_offline_model.py", "--out", model)
    with stand_in(cards / "cards.csv") as address:
        # --refresh: the list of an earlier demo names another port
        command("download_images.py", "--cache", cache, "--api-url", address, "--refresh")
    command("build_embeddings.py", "--cache", cache, "--out", index, "--model", f"local-dir:{model}", "--offline")
    command("export_for_browser.py", "--input-dir", index, "--output-dir", index)
    command("query_index.py", photo, "--index", index, "--k", "3")
    return judge(command("query_index.py", photo, "--index", index, "--k", "1", "--json"), cards / "photo.txt")


def command(script: str, *arguments: str | Path) -> str:
    """Run a script of this project as a user would, show its line and its output; return its stdout."""
    words = [script, *map(str, arguments)]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise PipelineError.of(
            Category.BUILD,
            f"a step of the demo failed: {script}",
            details=f"exit code {done.returncode}",
            suggestion="see its own message above",
        )
    return done.stdout


@contextmanager
def stand_in(table: Path) -> Iterator[str]:
    """Serve the cards of `table` as Scryfall would, for as long as the block lasts; yields the address."""
    words = ["scripts/standin_scryfall.py", "--table", str(table)]
    print(f"\n$ python {shlex.join(words)} &", flush=True)
    with subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().strip() if server.stdout else ""
            if not address:
                raise PipelineError.of(
                    Category.BUILD,
                    "the stand-in for Scryfall did not start",
                    details=f"exit code {server.wait()}",
                    suggestion="see its own message above",
                )
            print(address, flush=True)
            yield address
        finally:
            server.kill()


def judge(answer: str, truth_file: Path) -> int:
    """Compare the first match with what was photographed."""
    truth = (ROOT / truth_file).read_text(encoding="utf-8").strip()
    answered = json.loads(answer)
    best = answered["cards"][0]["matches"][0]
    right = best["name"] == truth
    print(f"\n{answered['image']} shows {truth}; recognised as {best['name']} (cosine {best['score']:.3f}):", end=" ")
    print("right." if right else "WRONG.")
    return EXIT_OK if right else EXIT_ERROR


if __name__ == "__main__":
    raise SystemExit(run(main))
