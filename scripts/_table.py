"""Tables of cards with their pictures: what the stand-in serves and the camera photographs.

A card is Scryfall's object with `picture` in place of `image_uris`, on the card or on each of its faces.
"""

import json
import re
import stat
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from helpers.errors import Category, PipelineError
from helpers.tables import read_rows

SIDES = ("front", "back")
TABLE_COLUMNS = ("file", "name", "set", "collector_number", "scryfall_id")

CardObject = dict[str, Any]


def read_table(table: Path) -> list[CardObject]:
    """The cards of a table, in its order; PipelineError if it or one of its pictures can't be read."""
    try:
        cards = _read_objects(table) if table.suffix == ".jsonl" else _read_csv(table)
        seen: set[str] = set()
        for card in cards:
            _check_card(card, seen)
            for side in sides(card):
                if side["picture"] is not None:
                    side["picture"] = table.parent / side["picture"]
                    _check_picture(side["picture"])
        return cards
    except (OSError, ValueError) as error:
        raise _bad_table(str(error)) from error


def _read_objects(table: Path) -> list[CardObject]:
    cards = []
    with open(table, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                cards.append(dict(json.loads(line)))
                json.dumps(cards[-1], ensure_ascii=False).encode()  # what is served must be text
            except (ValueError, TypeError, RecursionError) as error:
                raise _bad_table(f"{table}, line {number}: {error}") from error
    return cards


def _read_csv(table: Path) -> list[CardObject]:
    cards: dict[str, list[dict[str, str]]] = {}
    for line, row in read_rows(table, TABLE_COLUMNS):
        if not row["file"]:
            raise _bad_table(f"{table}, line {line}: it names no file")
        cards.setdefault(row["scryfall_id"] or made_up_id(row["file"]), []).append(row)
    return [_object_of_rows(card_id, rows) for card_id, rows in cards.items()]


def _object_of_rows(card_id: str, rows: Sequence[dict[str, str]]) -> CardObject:
    first = rows[0]
    number = first["collector_number"]
    faces = [
        {
            "object": "card_face",
            "name": row["name"],
            "artist": "Nobody",
            "illustration_id": made_up_id("art " + row["file"]),
            "colors": [],
            "picture": row["file"],
        }
        for row in rows
    ]
    fields = {
        "object": "card",
        "id": card_id,
        "oracle_id": made_up_id(first["name"]),
        "name": " // ".join(row["name"] for row in rows),
        "lang": "en",
        "scryfall_uri": f"https://scryfall.com/card/{quote(first['set'])}/{quote(number)}" if number else None,
        "layout": first.get("layout") or ("transform" if len(rows) > 1 else "normal"),
        "image_status": "highres_scan",
        "games": ["paper"],
        "set": first["set"],
        "collector_number": number,
        "digital": False,
        "frame": "2015",
    }
    if len(rows) > 1:
        return fields | {"card_faces": faces}
    return fields | {key: faces[0][key] for key in ("artist", "illustration_id", "colors", "picture")}


def _check_card(card: CardObject, seen: set[str]) -> None:
    card_id = card.get("id")
    if not isinstance(card_id, str) or not re.fullmatch(r"[\w-]{2,}", card_id, re.ASCII):
        raise _bad_table(f"{card_id!r} can't be part of a URL: use letters, digits, - and _, at least two")
    if card_id in seen:
        raise _bad_table(f"card {card_id} is listed twice")
    seen.add(card_id)
    if not isinstance(card.get("card_faces") or [], list) or not all(isinstance(part, dict) for part in parts(card)):
        raise _bad_table(f"the faces of card {card_id} are not a list of objects")
    for part in parts(card):
        if not isinstance(part.get("name"), str):
            raise _bad_table(f"card {card_id}, or a face of it, has no name")
        for field in ("picture", "oracle_id", "illustration_id"):
            if not isinstance(part.get(field), str | None) or "\0" in (part.get(field) or ""):
                raise _bad_table(f"{field} of card {card_id} must be text without NUL characters")
    if len(sides(card)) > len(SIDES):
        raise _bad_table(f"card {card_id} has {len(sides(card))} sides; a card has one or two")


def _check_picture(picture: Path) -> None:
    """PipelineError, or OSError, if it can't be read."""
    if not stat.S_ISREG(picture.stat().st_mode):
        raise _bad_table(f"{picture} is not a regular file")
    picture.open("rb").close()


def parts(card: CardObject) -> list[dict[str, Any]]:
    """The card object itself, and its faces if it has any."""
    return [card, *(card.get("card_faces") or [])]


def sides(card: CardObject) -> list[dict[str, Any]]:
    """The parts of a card object that have a picture of their own: its faces, or itself."""
    return [part for part in parts(card) if "picture" in part]


def _bad_table(details: str) -> PipelineError:
    return PipelineError.of(
        Category.CONFIGURATION,
        "the card table can't be used",
        details=details,
        suggestion="pass --table a file as --help describes it, with its pictures in place",
    )


def made_up_id(text: str) -> str:
    """An id in Scryfall's format, the same for the same text."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))
