"""Which cards are in this picture? Finds them and shows the nearest faces of the index, best first.

It also says which card several pictures show (--vote), and finds cards that look as words say (--text) or like a card
that you name (--name).

Reads:  index_out/ - as build_embeddings.py wrote it; the given pictures (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF; HEIC
        with pillow-heif), those in the given directories, or with - the paths on stdin, each answered at once
Writes: the answers to stdout: a table per picture, or with --json one object per line; with --html a page, too

The model and preprocessing come from the index's manifest.

Exit codes: 0 done; 1 bad arguments or no usable index; 2 some pictures could not be answered (the others were).
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import helpers.interrupts  # noqa: F401  # our first import, see there
from helpers.cli_validation import Parser, file_name, number, one_of, path, weighted_words, words
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError, Problem
from helpers.index.store import StoredIndex
from helpers.options import add_device_option
from helpers.recognise.inputs import known_pictures, pictures
from helpers.recognise.page import page_at
from helpers.recognise.printed import READ
from helpers.recognise.query import DETECT, SEARCH, VERIFY, Answer, QueryEngine, how_searched, open_index, pictures_of
from helpers.recognise.showing import (
    Asked,
    Searched,
    at_least,
    faces_line,
    faces_table,
    good_enough,
    json_line,
    table,
)
from helpers.recognise.where import BEGINNINGS, FIELDS, PARTS, Where, all_of, where
from helpers.recognise.words import find_name, search_text
from helpers.talk import Progress, say, tell, text_of

K = 5

Given = list[str | Answer]  # pictures, and what is known to be none


class QueryArgs(argparse.Namespace):
    """The command line."""

    image: list[str]
    detect: str | None
    vote: bool
    text: list[tuple[str, float]]
    name: str | None
    index: Path
    k: int | None
    min_score: float | None
    where: list[Where]
    ef_search: int | None
    search: str
    raw: bool
    read: str | None
    verify: str | None
    sure_above: float | None
    device: str
    json: bool
    html: Path | None
    cache: Path | None
    remote_images: bool


def parse_args(argv: Sequence[str] | None) -> QueryArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    what = "picture, or directory of pictures; - reads paths from stdin"
    parser.words_or_more("IMAGE", file_name, what, instead=("--text", "--name"))
    add_question_options(parser)
    add_search_options(parser)
    parser.section("output")
    parser.flag("--json", "print one JSON object per line instead of tables")
    parser.option("--html", path, None, "FILE", "also write a page that shows the cards beside their matches")
    where = "where --verify and --html find the matches' pictures (default: where the index says)"
    parser.option("--cache", path, None, "DIR", where)
    parser.flag("--remote-images", "in --html, link to pictures that the cache lacks: a browser fetches them")
    parser.cross_rule(("html", "remote_images"), _links_need_a_page)
    return parser.parse(argv, QueryArgs())


def add_question_options(parser: Parser) -> None:
    """What is asked."""
    parser.option(
        "--detect",
        one_of(DETECT, suggest="auto"),
        None,
        "WHICH",
        "cards to look for: auto, those that are clear, or else one best guess; all, every region that may be a card; "
        "off, none: the whole picture is one card (default: auto)",
    )
    parser.flag("--vote", "give one answer for all pictures, which show the same card, as frames of a video do")
    weighted = "cards that look as the words say; several add up, each times its WEIGHT (1), which may be negative"
    parser.repeated_option("--text", weighted_words, "WORDS[:WEIGHT]", weighted)
    parser.option("--name", words, None, "NAME", "the card's faces in the index, each with the faces that look like it")
    parser.cross_rule(("image", "text", "name"), _one_question)
    of_pictures = ("detect", "vote", "ef_search", "html", "raw", "read", "verify", "search", "sure_above")
    parser.cross_rule(("image", "text", "name", *of_pictures), _flags_fit_the_question)


def add_search_options(parser: Parser) -> None:
    """How it is searched, and when a match is sure."""
    parser.section("searching")
    parser.option("--index", path, Path("index_out"), "DIR", "index directory")
    several = (
        "names per card, each with its printings, or with --json matches per card; at most about 100 "
        f"(default: {K}; 1 in the table of a picture with several cards)"
    )
    parser.option("--k", number(int, 1, suggest=K), None, "N", several)
    add_where_option(parser)
    least = "leave out matches with a lower score (-4 to 1), and cards that have no other match"
    parser.option("--min-score", number(float, -4, 1, suggest=0.5), None, "S", least)
    parser.option(
        "--ef-search",
        number(int, 1, suggest=1),
        None,
        "N",
        "candidates per HNSW search: more is slower and more accurate (default: the index's own, measured)",
    )
    how = "exact: compare with every row; hnsw: walk the graph; auto: exact unless that is slow or --ef-search is given"
    parser.option("--search", one_of(SEARCH, suggest=SEARCH[0]), SEARCH[0], "HOW", how)
    parser.cross_rule(("search", "ef_search"), _ef_search_needs_a_graph)
    read = (
        "read titles and collector lines: auto, where the name or the printing is not sure; always; off "
        f"(default: {READ[0]})"
    )
    parser.option("--read", one_of(READ, suggest=READ[0]), None, "WHEN", read)
    verify = f"compare cards that are not sure with the best names' own pictures: auto; off (default: {VERIFY[0]})"
    parser.option("--verify", one_of(VERIFY, suggest=VERIFY[0]), None, "WHEN", verify)
    parser.flag("--raw", "compare vectors as the model makes them, not whitened ones")
    sure = "margin + gap from which a match is sure (default: the index's own; evaluate_index.py suggests one)"
    parser.option("--sure-above", number(float, 0, 8, suggest=0.5), None, "S", sure)
    add_device_option(parser)


def add_where_option(parser: Parser) -> None:
    """Which rows may be the answer."""
    help = (
        "search only the faces that pass, exactly: set=lea,lang=en. Several values of a field are alternatives "
        "(set=lea,set=leb, or 'set=lea|leb'), several fields must all pass, in one --where or several. Case does not "
        f"matter; of {' and '.join(PARTS)} a part is enough, of {BEGINNINGS[0]} the beginning; a list passes if it has "
        "the value; nothing after = means empty. Whether a match is sure is still judged against the names of all "
        f"faces. Fields: {', '.join(FIELDS)}"
    )
    parser.repeated_option("--where", where, "FIELD=VALUE[,...]", help)


def main(argv: Sequence[str] | None = None) -> int:
    """Answer what is asked, in order."""
    args = parse_args(argv)
    if args.name is not None:
        return show_faces(args.name, args)
    complete = True
    with page_of(args) as add_to_page:
        for asked, answer, searched in answers(args):
            show(asked, answer, searched, args)
            add_to_page(asked, answer)
            complete &= answer.error is None and not answer.left_out
    return ExitCode.OK if complete else ExitCode.UNANSWERED


# ---------------------------------------------------------------------------------------------------- what is asked


def answers(args: QueryArgs) -> Iterator[tuple[Asked, Answer, Searched]]:
    """What is asked and its answer, as they come, without matches that are not good enough."""
    if args.text:
        found = described(args)
    else:
        given = None if "-" in args.image else known_pictures(args.image)
        passing = all_of(args.where)
        if given is not None and not any(isinstance(one, str) for one in given):
            yield from unanswered([one for one in given if isinstance(one, Answer)], passing, args)
            return
        engine = load_engine(args, passing)
        searched = searched_in(engine.stored, passing, args)
        found = ((*each, searched) for each in (voted if args.vote else recognised)(engine, given, args))
    for asked, answer, searched in found:
        yield asked, answer if args.min_score is None else at_least(answer, args.min_score), searched


def load_engine(args: QueryArgs, passing: Where | None) -> QueryEngine:
    """The index with its model."""
    how = {name: getattr(args, name) for name in ("ef_search", "device", "raw", "search", "sure_above", "cache")}
    read, verify = args.read or READ[0], args.verify or VERIFY[0]
    return QueryEngine.load(args.index, where=passing, read=read, verify=verify, **how)


def described(args: QueryArgs) -> Iterator[tuple[Asked, Answer, Searched]]:
    """The faces that look as words say."""
    texts: dict[str, float] = {}
    for text, weight in args.text:
        texts[text] = texts.get(text, 0.0) + weight
    passing = all_of(args.where)
    searched = searched_in(open_index(args.index), passing, args)
    how = {name: getattr(args, name) for name in ("ef_search", "device", "search")}
    answer = search_text(args.index, texts, args.k or K, where=passing, **how)
    yield Asked.words(texts), answer, searched


def searched_in(stored: StoredIndex, passing: Where | None, args: QueryArgs) -> Searched:
    """What is searched, and how; PipelineError (Invalid Arguments) if no row passes."""
    rows = stored.count if passing is None else len(passing.rows(stored.records()))
    whitened = not (args.raw or args.text)
    return Searched(
        rows, *how_searched(stored, args.search, args.ef_search, whitened=whitened), where=str(passing or "")
    )


def unanswered(
    given: Sequence[Answer], passing: Where | None, args: QueryArgs
) -> Iterator[tuple[Asked, Answer, Searched]]:
    """Why none of the pictures is answered: no model is needed to say that."""
    searched = searched_in(open_index(args.index), passing, args)
    if args.vote:
        error = "none of the pictures could be answered"
        yield Asked.vote([one.image for one in given]), Answer("", error=error, left_out=tuple(given)), searched
    else:
        yield from ((Asked.picture(one.image), one, searched) for one in given)


def voted(engine: QueryEngine, known: Given | None, args: QueryArgs) -> Iterator[tuple[Asked, Answer]]:
    """The one card that all pictures show."""
    given = known or [*pictures(args.image)]
    paths, nothing = [one for one in given if isinstance(one, str)], [one for one in given if isinstance(one, Answer)]
    with progress(len(paths)) as advance:
        answer = engine.vote(advance_after_each(paths, advance), args.k or K, detect=args.detect or DETECT[0])
    names = [one if isinstance(one, str) else one.image for one in given]
    yield Asked.vote(names), replace(answer, left_out=(*nothing, *answer.left_out))


def advance_after_each(paths: Sequence[str], advance: Callable[[], None]) -> Iterator[str]:
    """The paths; `advance` is called when each is done."""
    for one in paths:
        yield one
        advance()


def recognised(engine: QueryEngine, known: Given | None, args: QueryArgs) -> Iterator[tuple[Asked, Answer]]:
    """The cards in each picture."""
    with progress(None if known is None else len(known)) as advance:
        for one in known or pictures(args.image):
            answer = one if isinstance(one, Answer) else engine.ask(one, args.k or K, detect=args.detect or DETECT[0])
            yield Asked.picture(answer.image), answer
            advance()


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
    say(f"{done:,} pictures in {seconds:.1f} s, {done / max(seconds, 1e-9):.2g} pictures/s")


# --------------------------------------------------------------------------------------------------- what is shown


def show(asked: Asked, answer: Answer, searched: Searched, args: QueryArgs) -> None:
    """Print a line of JSON or a table; in tables, why a picture could not be answered goes to stderr."""
    if args.json:
        print(json_line(asked, answer, searched), flush=True)
        return
    for one in (*answer.left_out, answer):
        if one.error is not None:
            tell(_unanswered(text_of(one.image) or asked.title, one.error))
    if answer.error is None:
        detected = args.detect != "off"
        print(table(asked, answer, searched, briefly=args.k is None, detected=detected), flush=True)


def show_faces(name: str, args: QueryArgs) -> int:
    """Print the faces of a name, each with those that look like it."""
    least = -math.inf if args.min_score is None else args.min_score
    found = find_name(args.index, name, args.k or K, where=all_of(args.where))
    faces = [(face, good_enough(nearest, least)) for face, nearest in found]
    print(faces_line(name, faces) if args.json else faces_table(name, faces))
    return ExitCode.OK


def page_of(args: QueryArgs) -> AbstractContextManager[Callable[[Asked, Answer], None]]:
    """What adds an answer to the page, if one is wanted."""
    if args.html is None:
        return nullcontext(lambda asked, answer: None)
    return page_at(args.html, pictures_of(open_index(args.index), args.cache), remote=args.remote_images)


def _unanswered(what: str, reason: str) -> str:
    return PipelineError.of(
        Category.VALIDATION,
        "a picture could not be answered",
        details=f"{what}: {reason}",
        suggestion="pass a picture that opens: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC",
    ).render()


# ------------------------------------------------------------------------------------------------------------ rules


def _one_question(args: QueryArgs) -> Problem | None:
    given = [name for name in ("image", "text", "name") if getattr(args, name)]
    if len(given) < 2:
        return None
    flags = [_flag(name) for name in given]
    return Problem(f"{' and '.join(flags)} are mutually exclusive", f"received {' '.join(flags)}", f"keep {flags[0]}")


def _flags_fit_the_question(args: QueryArgs) -> Problem | None:
    if args.image or not (args.text or args.name):
        return None
    unfit = ["detect", "vote", "raw", "read", "verify", "sure_above", *([] if args.text else ["ef_search", "html"])]
    given = [_flag(name) for name in unfit if getattr(args, name) is not None and getattr(args, name) is not False]
    given += ["--search"] if args.name and args.search != SEARCH[0] else []
    if not given:
        return None
    asked = "--text" if args.text else "--name"
    return Problem(
        f"{' and '.join(given)} can't be used with {asked}", f"received {asked} {' '.join(given)}", "leave one out"
    )


def _ef_search_needs_a_graph(args: QueryArgs) -> Problem | None:
    if args.ef_search is None or args.search != "exact":
        return None
    received = f"received --search exact --ef-search {args.ef_search}"
    return Problem("--ef-search can't be used with --search exact", received, "leave one of them out")


def _flag(name: str) -> str:
    return "IMAGE" if name == "image" else f"--{name.replace('_', '-')}"


def _links_need_a_page(args: QueryArgs) -> Problem | None:
    if args.html or not args.remote_images:
        return None
    return Problem("--remote-images needs --html", "received --remote-images", "add --html FILE, or leave it out")


if __name__ == "__main__":
    raise SystemExit(run(main))
