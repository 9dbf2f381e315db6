"""Answers as text: tables for people, a JSON line each for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.cards.faces import CardFace
from helpers.embed.vectors import METRIC
from helpers.recognise.query import Answer, Card, Match
from helpers.recognise.seen import LEAST_INLIERS, Printed
from helpers.talk import as_json_line, printable, text_of

MAX_OTHERS = 6  # faces of a name in a table, besides the best
_DIGITS = 6  # of scores: more than two machines agree on


@dataclass(frozen=True, slots=True)
class Searched:
    """What was searched, and how."""

    rows: int
    search: str  # "exact" or "hnsw"
    ef_search: int  # which counts for the latter
    where: str = ""  # what the rows that could be the answer had to pass

    def __str__(self) -> str:
        where = f" where {self.where}" if self.where else ""
        how = f"efSearch {self.ef_search}" if self.search == "hnsw" else f"{self.search} search"
        return f"metric {METRIC} (cosine), {how}, {self.rows:,} rows{where}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: how its JSON line begins, its title, and its pictures' paths."""

    fields: dict[str, Any]
    title: str
    pictures: tuple[str, ...] = ()

    @classmethod
    def picture(cls, image: str) -> Asked:
        """Which cards are in this picture?"""
        return cls({"image": text_of(image)}, text_of(image), (image,))

    @classmethod
    def vote(cls, images: Sequence[str]) -> Asked:
        """Which card is in all of these?"""
        title = f"{len(images)} pictures of one card" if len(images) > 1 else " ".join(map(text_of, images))
        return cls({"images": [*map(text_of, images)]}, title, tuple(images))

    @classmethod
    def words(cls, texts: Mapping[str, float]) -> Asked:
        """Which cards look like this?"""
        parts = (text if weight == 1 else f"{text} x {weight:g}" for text, weight in texts.items())
        return cls({"text": dict(texts)}, " + ".join(parts))

    @property
    def is_picture(self) -> bool:
        """Whether it is one picture, in which cards have a place."""
        return "image" in self.fields


def at_least(answer: Answer, score: float) -> Answer:
    """The answer without matches below `score`, and without the cards that have no other."""
    cards = []
    for card in answer.cards:
        names = tuple(filter(None, (good_enough(faces, score) for faces in card.names)))
        cards.append(dataclasses.replace(card, matches=good_enough(card.matches, score), names=names))
    return dataclasses.replace(answer, cards=tuple(card for card in cards if card.matches))


def good_enough(matches: Sequence[Match], score: float) -> tuple[Match, ...]:
    """The matches whose score is `score` or more."""
    return tuple(match for match in matches if match.score >= score)


def json_line(asked: Asked, answer: Answer, searched: Searched) -> str:
    """One object: with `cards`, or `error` if there is no answer; `left_out` are pictures that had no vote."""
    line: dict[str, Any] = {**asked.fields, "metric": METRIC, "ef_search": searched.ef_search}
    line["search"] = searched.search
    if answer.error is None:
        line["cards"] = [_card_fields(card) for card in answer.cards]
    else:
        line["error"] = answer.error
    if answer.left_out:
        line["left_out"] = [{"image": text_of(one.image), "error": one.error} for one in answer.left_out]
    return as_json_line(line)


def table(asked: Asked, answer: Answer, searched: Searched, *, briefly: bool, detected: bool) -> str:
    """The cards of an answer without error; `briefly`: where there are several, a line each.

    `detected`: cards were looked for, so it says if none was found.
    """
    lines = [printable(asked.title), f"  {printable(str(searched))}"]
    if not answer.cards:
        lines.append("  no card")
    elif detected and asked.is_picture and not answer.found:
        lines.append("  no card found: the whole picture was asked")
    if len(answer.cards) > 1:
        sure = sum(card.sure is True for card in answer.cards)
        lines.append(f"  {len(answer.cards)} cards, {sure} of them sure")
    if briefly and len(answer.cards) > 1:
        lines += _brief_lines(answer.cards)
    else:
        for card in answer.cards:
            heading = _heading(asked, card)
            lines += [f"  {heading}"] if heading else []
            lines += _name_lines(card)
    return "\n".join(lines)


def _heading(asked: Asked, card: Card) -> str:
    """Where a card is in a picture, and how clear its best match is; of words that says nothing."""
    return f"{where(card)}: {how_sure(card)}" if asked.is_picture else how_sure(card) if asked.pictures else ""


def faces_line(name: str, faces: Sequence[tuple[CardFace, Sequence[Match]]]) -> str:
    """One object: the faces of a name, each with those that look like it."""
    found = [{**_face_fields(face), "nearest": _match_fields(nearest)} for face, nearest in faces]
    return as_json_line({"name": name, "faces": found})


def faces_table(name: str, faces: Sequence[tuple[CardFace, Sequence[Match]]]) -> str:
    """The same for people."""
    lines = [printable(name)]
    for face, nearest in faces:
        lines += [f"  {title(face)}", f"       {_link(face)}", *_match_lines(nearest)]
    return "\n".join(lines)


def _match_lines(matches: Sequence[Match]) -> list[str]:
    return [
        line
        for match in matches
        for line in (f"  {match.rank:>3}. {match.score:7.4f}  {title(match.face)}", f"       {_link(match.face)}")
    ]


def _name_lines(card: Card) -> list[str]:
    """Each name with its best face, and the other faces of that name."""
    lines = []
    for number, (best, *others) in enumerate(card.names, 1):
        lines += [f"  {number:>3}. {best.score:7.4f}  {title(best.face)}", f"       {_link(best.face)}"]
        if others:
            more = f" and {len(others) - MAX_OTHERS} more" if len(others) > MAX_OTHERS else ""
            shown = [f"{printable(match.face.printing or match.face.face_id)} {match.score:.4f}" for match in others]
            lines.append(f"       also {', '.join(shown[:MAX_OTHERS])}{more}")
        if number == 1:
            lines += _print_lines(card)
    return lines


def _print_lines(card: Card) -> list[str]:
    """What was read on a card, and whether that or its look says which printing it is."""
    lines = []
    if card.read is not None:
        lines.append(f"       {printable(str(card.read))}")
    if len(card.printings) > 1:
        codes = [match.face.printing or match.face.face_id for match in card.printings[:MAX_OTHERS]]
        more = f" and {len(card.printings) - MAX_OTHERS} more" if len(card.printings) > MAX_OTHERS else ""
        lines.append(f"       printing NOT sure: {printable(', '.join(codes))}{more}")
    return lines


def _link(face: CardFace) -> str:
    return printable(face.scryfall_uri or face.card_url)


def _brief_lines(cards: Sequence[Card]) -> list[str]:
    titles = [title(card.matches[0].face) if card.matches else "" for card in cards]
    width = max(map(len, titles))
    return [
        f"  {number:>3}. {card.matches[0].score if card.matches else 0:7.4f}  {name:<{width}}  {how_sure(card)}, "
        f"{_about_where(card)}"
        for number, (card, name) in enumerate(zip(cards, titles, strict=True), 1)
    ]


def title(face: CardFace) -> str:
    """The face's name and what is printed on the card to tell printings apart."""
    return printable(f"{face.name}  [{face.printing}]" if face.printing else face.name)


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
    confidence = "" if card.confidence is None else f"confidence {card.confidence:.2f}, "
    verified = ", verified" if card.sure and (card.verified or 0) >= LEAST_INLIERS else ""
    return f"{'sure' if card.sure else 'NOT sure'} ({confidence}margin {card.margin:.2f}, gap {card.gap:.2f}{verified})"


def _card_fields(card: Card) -> dict[str, Any]:
    return {
        "quad": card.quad and [[round(x, 1), round(y, 1)] for x, y in card.quad],
        "orientation": card.orientation,
        "margin": card.margin and round(card.margin, _DIGITS),
        "gap": card.gap and round(card.gap, _DIGITS),
        "sure": card.sure,
        "confidence": card.confidence and round(card.confidence, _DIGITS),
        "matches": _match_fields(card.matches),
        "printings": _match_fields(card.printings),
        "printing_sure": card.printing_sure,
        "read": card.read and _read_fields(card.read),
        "verified": card.verified,
    }


def _read_fields(read: Printed) -> dict[str, Any]:
    line = read.line
    return {"title": read.title, "set": line.set, "collector_number": line.number, "lang": line.lang}


def _match_fields(matches: Sequence[Match]) -> list[dict[str, Any]]:
    """Matches as JSON has them."""
    return [{"rank": match.rank, "score": round(match.score, _DIGITS), **_face_fields(match.face)} for match in matches]


def _face_fields(face: CardFace) -> dict[str, Any]:
    return {
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
        "card_url": face.card_url,
        "artist": face.artist,
    }
