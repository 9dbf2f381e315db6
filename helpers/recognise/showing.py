"""Answers as text: tables for people, a JSON line each for programs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from helpers.embed.vectors import METRIC
from helpers.recognise.query import Answer, Card, Match
from helpers.talk import printable

_DIGITS = 6  # of scores: more than two machines agree on


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: how its JSON line begins, and its title."""

    fields: dict[str, Any]
    title: str

    @classmethod
    def picture(cls, image: str) -> Asked:
        """What is in this picture?"""
        return cls({"image": shown(image)}, shown(image))


@dataclass(frozen=True, slots=True)
class Searched:
    """What was searched, and how."""

    rows: int
    ef_search: int

    def __str__(self) -> str:
        return f"metric {METRIC} (cosine), efSearch {self.ef_search}, {self.rows:,} rows"


def at_least(answer: Answer, score: float | None) -> Answer:
    """The answer without matches below `score`, and without the cards that have no other."""
    if score is None:
        return answer
    cards = (
        dataclasses.replace(card, matches=tuple(m for m in card.matches if m.score >= score)) for card in answer.cards
    )
    return dataclasses.replace(answer, cards=tuple(card for card in cards if card.matches))


def json_line(asked: Asked, answer: Answer, searched: Searched) -> str:
    """One object: with `cards`, or `error` if there is no answer."""
    line: dict[str, Any] = {**asked.fields, "metric": METRIC, "ef_search": searched.ef_search}
    if answer.error is None:
        line["cards"] = [_card_fields(card) for card in answer.cards]
    else:
        line["error"] = answer.error
    return json.dumps(line, ensure_ascii=False)


def table(asked: Asked, answer: Answer, searched: Searched, *, briefly: bool, detected: bool) -> str:
    """The cards of an answer without error; `briefly`: where there are several, a line each.

    `detected`: cards were looked for, so it says if none was found.
    """
    lines = [printable(asked.title), f"  {searched}"]
    if not answer.cards:
        lines.append("  no card")
    elif detected and not answer.found:
        lines.append("  no card found: the whole picture was asked")
    if len(answer.cards) > 1:
        sure = sum(card.sure is True for card in answer.cards)
        lines.append(f"  {len(answer.cards)} cards, {sure} of them sure")
    if briefly and len(answer.cards) > 1:
        lines += _brief_lines(answer.cards)
    else:
        for card in answer.cards:
            lines.append(f"  {where(card)}: {how_sure(card)}")
            for match in card.matches:
                lines.append(f"  {match.rank:>3}. {match.score:7.4f}  {title(match)}")
                lines.append(f"       {printable(match.face.scryfall_uri or match.face.card_url)}")
    return "\n".join(lines)


def _brief_lines(cards: Sequence[Card]) -> list[str]:
    titles = [title(card.matches[0]) if card.matches else "" for card in cards]
    width = max(map(len, titles))
    return [
        f"  {number:>3}. {card.matches[0].score if card.matches else 0:7.4f}  {name:<{width}}  {how_sure(card)}, "
        f"{_about_where(card)}"
        for number, (card, name) in enumerate(zip(cards, titles, strict=True), 1)
    ]


def title(match: Match) -> str:
    """The face's name and what is printed on the card to tell printings apart."""
    return printable(f"{match.face.name}  [{match.face.set.upper()} {match.face.collector_number}]")


def where(card: Card) -> str:
    """Where the card is in the picture: its corners."""
    if card.quad is None:
        return f"the whole picture{_turned(card)}"
    corners = " ".join(f"{x:.0f},{y:.0f}" for x, y in card.quad)
    return f"card at {corners}{_turned(card)}"


def _about_where(card: Card) -> str:
    """Where the card's centre is."""
    if card.quad is None:
        return f"the whole picture{_turned(card)}"
    x, y = (sum(corner[axis] for corner in card.quad) / 4 for axis in (0, 1))
    return f"at {x:.0f},{y:.0f}{_turned(card)}"


def _turned(card: Card) -> str:
    return f", turned by {card.orientation} degrees" if card.orientation else ""


def how_sure(card: Card) -> str:
    """How clear the best match is."""
    if card.margin is None or card.gap is None:
        return "nothing to compare it with"
    return f"{'sure' if card.sure else 'NOT sure'} (margin {card.margin:.2f}, gap {card.gap:.2f})"


def shown(image: str | os.PathLike[str]) -> str:
    """A path as text, with replacement characters for bytes that are not UTF-8."""
    return os.fspath(image).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _card_fields(card: Card) -> dict[str, Any]:
    return {
        "quad": card.quad and [[round(x, 1), round(y, 1)] for x, y in card.quad],
        "orientation": card.orientation,
        "margin": card.margin and round(card.margin, _DIGITS),
        "gap": card.gap and round(card.gap, _DIGITS),
        "sure": card.sure,
        "matches": match_fields(card.matches),
    }


def match_fields(matches: Sequence[Match]) -> list[dict[str, Any]]:
    """Matches as JSON has them."""
    return [
        {
            "rank": match.rank,
            "score": round(match.score, _DIGITS),
            "name": match.face.name,
            "set": match.face.set,
            "collector_number": match.face.collector_number,
            "scryfall_id": match.face.scryfall_id,
            "face_id": match.face.face_id,
            "image_url": match.face.image_url,
            "scryfall_uri": match.face.scryfall_uri,
            "card_name": match.face.card_name,
            "oracle_id": match.face.oracle_id,
            "illustration_id": match.face.illustration_id,
            "lang": match.face.lang,
        }
        for match in matches
    ]
