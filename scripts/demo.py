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
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.cli_validation import Parser, run
from helpers.errors import EXIT_ERROR, EXIT_OK, Category, PipelineError

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path("demo")  # below ROOT, where the commands run: their lines can be copied
CARDS, MODEL, CACHE, INDEX = DEMO / "cards", DEMO / "model", DEMO / "image_cache", DEMO / "index_out"
PHOTO = CARDS / "photo.jpg"


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, serve, download, build, export, ask."""
    Parser(__doc__).parse(argv, argparse.Namespace())
    start_afresh()
    command("scripts/draw_cards.py", "--out", CARDS)
    command("scripts/make_offline_model.py", "--out", MODEL)
    with stand_in() as address:
        command("download_images.py", "--cache", CACHE, "--api-url", address)
    command("build_embeddings.py", "--cache", CACHE, "--out", INDEX, "--model", f"local-dir:{MODEL}", "--offline")
    command("export_for_browser.py", "--input-dir", INDEX, "--output-dir", INDEX)
    command("query_index.py", PHOTO, "--index", INDEX, "--k", "3")
    return judge(command("query_index.py", PHOTO, "--index", INDEX, "--k", "1", "--json"))


def start_afresh() -> None:
    """Remove what an earlier demo left: the stand-in's port, and with it every picture's URL, is another each time."""
    for folder in (CARDS, CACHE, INDEX):
        shutil.rmtree(ROOT / folder, ignore_errors=True)


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
def stand_in() -> Iterator[str]:
    """Serve the drawn cards as Scryfall would, for as long as the block lasts; yields the address."""
    words = ["scripts/standin_scryfall.py", "--table", str(CARDS / "cards.csv")]
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


def judge(answer: str) -> int:
    """Compare the first match with what was photographed."""
    truth = (ROOT / CARDS / "photo.txt").read_text(encoding="utf-8").strip()
    best = json.loads(answer)["cards"][0]["matches"][0]
    right = best["name"] == truth
    print(f"\n{PHOTO} shows {truth}; recognised as {best['name']} (cosine {best['score']:.3f}):", end=" ")
    print("right." if right else "WRONG.")
    return EXIT_OK if right else EXIT_ERROR


if __name__ == "__main__":
    raise SystemExit(run(main))
