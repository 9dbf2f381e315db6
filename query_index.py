"""Identify the card in a picture: the nearest faces of the index, best first.

Reads:  index_out/ - as build_embeddings.py wrote it; the given pictures (JPEG, PNG, WebP), or with - their paths from
        stdin, one per line, each answered at once
Writes: the answers to stdout: a table per picture, or with --json one object per line

The model and preprocessing come from the index's manifest.

Exit codes: 0 done; 1 bad arguments or no usable index; 2 some pictures could not be answered (the others were).
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import helpers.interrupts  # noqa: F401  # our first import, see there
from helpers.artifacts import IndexFolder
from helpers.cli_validation import Parser, file_name, number, path
from helpers.embed.vectors import METRIC
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError
from helpers.options import add_device_option
from helpers.recognise.query import Answer, Card, Match, QueryEngine
from helpers.talk import printable


class QueryArgs(argparse.Namespace):
    """The command line."""

    image: list[str]
    index: Path
    k: int
    ef_search: int | None
    json: bool
    device: str


def parse_args(argv: Sequence[str] | None) -> QueryArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.words_or_more("IMAGE", file_name, "picture to identify; - reads paths from stdin")
    parser.option("--index", path, Path("index_out"), "DIR", "index directory")
    parser.option("--k", number(int, 1, suggest=5), 5, "N", "matches per picture")
    parser.option(
        "--ef-search",
        number(int, 1, suggest=1),
        None,
        "N",
        "candidates per search: more is slower and more accurate (default: the index's own, measured)",
    )
    parser.flag("--json", "print one JSON object per line instead of tables")
    add_device_option(parser)
    return parser.parse(argv, QueryArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Answer every picture, in order."""
    args = parse_args(argv)
    engine = QueryEngine.load(IndexFolder(args.index), ef_search=args.ef_search, device=args.device)
    show = show_json if args.json else show_table
    unanswered = 0
    for answer in engine.ask_each(image_paths(args.image), args.k):
        show(answer, engine)
        unanswered += answer.error is not None
    return ExitCode.UNANSWERED if unanswered else ExitCode.OK


def image_paths(images: Sequence[str]) -> Iterator[str]:
    """The given paths; `-` stands for the lines of stdin, as they come."""
    for image in images:
        if image == "-":
            yield from filter(None, (line.rstrip("\r\n") for line in sys.stdin))
        else:
            yield image


def show_json(answer: Answer, engine: QueryEngine) -> None:
    """One line: `cards`, or `error` if the picture could not be answered."""
    line: dict[str, Any] = {"image": shown(answer.image), "metric": METRIC, "ef_search": engine.ef_search}
    if answer.error is None:
        line["cards"] = [_card_fields(card) for card in answer.cards]
    else:
        line["error"] = answer.error
    print(json.dumps(line, ensure_ascii=False), flush=True)


def show_table(answer: Answer, engine: QueryEngine) -> None:
    """The matches in columns; the reason a picture could not be answered goes to stderr."""
    if answer.error is not None:
        sys.stdout.flush()
        print(
            PipelineError.of(
                Category.VALIDATION,
                "a picture could not be answered",
                details=f"{shown(answer.image)}: {answer.error}",
                suggestion="pass a JPEG, PNG or WebP picture that opens",
            ).render(),
            file=sys.stderr,
        )
        return
    print(shown(answer.image))
    print(f"  metric {METRIC} (cosine), efSearch {engine.ef_search}, {len(engine):,} rows")
    for card in answer.cards:
        print(f"  {where(card)}: {how_sure(card)}")
        for match in card.matches:
            face = match.face
            name = printable(f"{face.name}  [{face.set.upper()} {face.collector_number}]")
            print(f"  {match.rank:>3}. {match.score:7.4f}  {name}")
            print(f"       {printable(face.scryfall_uri or face.card_url)}")
    sys.stdout.flush()


def where(card: Card) -> str:
    """Where the card is in the picture."""
    turned = f", turned by {card.orientation} degrees" if card.orientation else ""
    if card.quad is None:
        return f"the whole picture{turned}"
    corners = " ".join(f"{x:.0f},{y:.0f}" for x, y in card.quad)
    return f"card at {corners}{turned}"


def how_sure(card: Card) -> str:
    """How clear the best match is."""
    if card.margin is None or card.gap is None:
        return "nothing to compare it with"
    return f"{'sure' if card.sure else 'NOT sure'} (margin {card.margin:.2f}, gap {card.gap:.2f})"


def shown(image: str) -> str:
    """A path as text, with replacement characters for bytes that are not UTF-8."""
    return image.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _card_fields(card: Card) -> dict[str, Any]:
    return {
        "quad": card.quad and [[round(x, 1), round(y, 1)] for x, y in card.quad],
        "orientation": card.orientation,
        "margin": card.margin,
        "gap": card.gap,
        "sure": card.sure,
        "matches": [_match_fields(match) for match in card.matches],
    }


def _match_fields(match: Match) -> dict[str, Any]:
    face = match.face
    return {
        "rank": match.rank,
        "score": match.score,
        "name": face.name,
        "set": face.set,
        "collector_number": face.collector_number,
        "scryfall_id": face.scryfall_id,
        "face_id": face.face_id,
        "image_url": face.image_url,
        "scryfall_uri": face.scryfall_uri,
        "card_name": face.card_name,
        "oracle_id": face.oracle_id,
        "illustration_id": face.illustration_id,
        "lang": face.lang,
    }


if __name__ == "__main__":
    raise SystemExit(run(main))
