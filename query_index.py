"""Which cards are in this picture? Finds them and shows the nearest faces of the index, best first.

Reads:  index_out/ - as build_embeddings.py wrote it; the given pictures (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF; HEIC
        with pillow-heif), those in the given directories, or with - the paths on stdin, each answered at once
Writes: the answers to stdout: a table per picture, or with --json one object per line; with --html a page, too

The model and preprocessing come from the index's manifest.

Exit codes: 0 done; 1 bad arguments or no usable index; 2 some pictures could not be answered (the others were).
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import helpers.interrupts  # noqa: F401  # our first import, see there
from helpers.artifacts import IndexFolder
from helpers.cards.image_cache import ImageCache
from helpers.cli_validation import Parser, file_name, number, one_of, path
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError, Problem
from helpers.options import add_device_option
from helpers.recognise.page import page_at
from helpers.recognise.query import DETECT, Answer, QueryEngine
from helpers.recognise.showing import Asked, Searched, at_least, json_line, shown, table
from helpers.talk import Progress, say, tell
from helpers.validation import is_named_as_photo

K = 5


class QueryArgs(argparse.Namespace):
    """The command line."""

    image: list[str]
    detect: str
    index: Path
    k: int | None
    min_score: float | None
    ef_search: int | None
    device: str
    json: bool
    html: Path | None
    cache: Path
    remote_images: bool


def parse_args(argv: Sequence[str] | None) -> QueryArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.words_or_more("IMAGE", file_name, "picture, or directory of pictures; - reads paths from stdin")
    detect = one_of(DETECT, suggest="auto")
    parser.option(
        "--detect",
        detect,
        "auto",
        "WHICH",
        "cards to look for: auto, those that are clear, else the best guess; all, every region that may be a card; "
        "off, none: the whole picture is one",
    )
    parser.section("searching")
    parser.option("--index", path, Path("index_out"), "DIR", "index directory")
    several = f"matches per card (default: {K}; 1 in the table of a picture with several cards)"
    parser.option("--k", number(int, 1, suggest=K), None, "N", several)
    least = "leave out matches with a lower score, -3 to 1, and cards without any other"
    parser.option("--min-score", number(float, -3, 1, suggest=0.5), None, "S", least)
    parser.option(
        "--ef-search",
        number(int, 1, suggest=1),
        None,
        "N",
        "candidates per search: more is slower and more accurate (default: the index's own, measured)",
    )
    add_device_option(parser)
    parser.section("output")
    parser.flag("--json", "print one JSON object per line instead of tables")
    parser.option("--html", path, None, "FILE", "also write a page that shows the cards beside their matches")
    parser.option("--cache", path, Path("image_cache"), "DIR", "where --html finds the matches' pictures")
    parser.flag("--remote-images", "in --html, link to pictures that the cache lacks: a browser fetches them")
    parser.cross_rule(("html", "remote_images"), _links_need_a_page)
    return parser.parse(argv, QueryArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Answer every picture, in order."""
    args = parse_args(argv)
    unanswered = 0
    with page_of(args) as add_to_page:
        engine = QueryEngine.load(IndexFolder(args.index), ef_search=args.ef_search, device=args.device)
        for answer in answers(engine, args):
            show(answer, engine, args)
            add_to_page(answer)
            unanswered += answer.error is not None
    return ExitCode.UNANSWERED if unanswered else ExitCode.OK


# ---------------------------------------------------------------------------------------------------- what is asked


def answers(engine: QueryEngine, args: QueryArgs) -> Iterator[Answer]:
    """The answer for each picture, as they come."""
    given = pictures(args.image)
    total = None
    if "-" not in args.image:
        paths = list(given)
        given, total = iter(paths), len(paths)
    with progress(total) as advance:
        for one in given:
            answer = one if isinstance(one, Answer) else engine.ask(one, args.k or K, detect=args.detect)
            yield at_least(answer, args.min_score)
            advance()


def pictures(images: Sequence[str]) -> Iterator[str | Answer]:
    """The pictures that are meant, as they come, and an error for each directory that has none."""
    for image in images:
        for name in filter(None, (line.rstrip("\r\n") for line in sys.stdin)) if image == "-" else [image]:
            if os.path.isdir(name):  # noqa: PTH112  # pathlib's raises if a name is too long or forbidden
                yield from pictures_in(name) or [Answer(name, error="no pictures in it")]
            else:
                yield name


def pictures_in(folder: str) -> list[str | Answer]:
    """The pictures in a directory and those below it, by name, without hidden ones; and what can't be read."""
    found: list[str | Answer] = []

    def unreadable(error: OSError) -> None:
        found.append(Answer(error.filename, error=f"can't be read: {error.strerror}"))

    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith(".") and is_named_as_photo(name))
        found += [os.path.join(root, name) for name in names]  # noqa: PTH118  # its bytes may not be UTF-8
    return found


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[], None]]:
    """Yield what to call after each of `total` pictures (None: not known): says how far it is, and at last the rate."""
    if total == 1:
        yield lambda: None
        return
    done, started = 0, time.monotonic()
    # The answers on a terminal show how far it is, and a bar would come between them
    with nullcontext() if sys.stdout.isatty() else Progress("Answering", total or 0, "pictures") as bar:

        def advance() -> None:
            nonlocal done
            done += 1
            if bar:
                bar.advance()

        yield advance
    seconds = time.monotonic() - started
    say(f"{done:,} pictures in {seconds:.1f} s, {done / max(seconds, 1e-9):.1f} pictures/s")


# --------------------------------------------------------------------------------------------------- what is shown


def show(answer: Answer, engine: QueryEngine, args: QueryArgs) -> None:
    """Print a line of JSON or a table; in tables, why a picture could not be answered goes to stderr."""
    asked, searched = Asked.picture(answer.image), Searched(len(engine), engine.ef_search)
    if args.json:
        print(json_line(asked, answer, searched), flush=True)
    elif answer.error is None:
        print(table(asked, answer, searched, briefly=args.k is None, detected=args.detect != "off"), flush=True)
    else:
        tell(
            PipelineError.of(
                Category.VALIDATION,
                "a picture could not be answered",
                details=f"{shown(answer.image)}: {answer.error}",
                suggestion="pass a picture that opens: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC",
            ).render()
        )


def page_of(args: QueryArgs) -> AbstractContextManager[Callable[[Answer], None]]:
    """What adds an answer to the page, if one is wanted."""
    if args.html is None:
        return nullcontext(lambda answer: None)
    return page_at(args.html, ImageCache(args.cache), remote=args.remote_images)


def _links_need_a_page(args: QueryArgs) -> Problem | None:
    if args.html or not args.remote_images:
        return None
    return Problem("--remote-images needs --html", "received --remote-images", "add --html FILE, or leave it out")


if __name__ == "__main__":
    raise SystemExit(run(main))
