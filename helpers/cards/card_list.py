"""A card list, read as a stream of card faces (its text: see list_text).

Rules: https://scryfall.com/docs/api/layouts. A list comes from the network, so its addresses are checked.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import msgspec

from helpers.cards.faces import PLACEHOLDER_STATUS, SHOWN_KEY, CardFace, Filters, Selection, image_key_order
from helpers.cards.list_text import BadText, iter_decoded
from helpers.errors import Category, PipelineError
from helpers.talk import printable, say, warn

PLACEHOLDER_NAME = "soon.jpg"  # https://errors.scryfall.com/soon.jpg
MAX_ADDRESS_LENGTH = 2000
_SHOWN_KEYS = image_key_order(SHOWN_KEY)
_PRINTINGS = ("lang", "set", "games", "exclude_digital")
_ONE_OF: dict[str, tuple[str, Sequence[str]]] = {  # what a list has only one of, and the filters that tell these apart
    "unique_artwork": ("printing of each artwork", _PRINTINGS),
    "oracle_cards": ("printing of each card", _PRINTINGS),
    "default_cards": ("language of each printing", ("lang",)),
}


# --------------------------------------------------------------------------------------- the shape of Scryfall's JSON
# Only what is read is declared, and nearly all of it may be missing or null: no new layout must stop us.


class _Face(msgspec.Struct, gc=False):
    name: str | None = None
    printed_name: str | None = None
    flavor_name: str | None = None
    oracle_id: str | None = None
    illustration_id: str | None = None
    colors: list[str] | None = None
    artist: str | None = None
    type_line: str | None = None
    oracle_text: str | None = None
    image_uris: dict[str, Any] | None = None


class _Card(msgspec.Struct, gc=False):
    id: str
    name: str
    printed_name: str | None = None
    flavor_name: str | None = None
    oracle_id: str | None = None
    illustration_id: str | None = None
    set: str | None = None
    collector_number: str | None = None
    frame: str | None = None
    layout: str | None = None
    lang: str | None = None
    games: list[str] | None = None
    digital: bool | None = None
    colors: list[str] | None = None
    artist: str | None = None
    type_line: str | None = None
    oracle_text: str | None = None
    set_name: str | None = None
    rarity: str | None = None
    released_at: str | None = None
    promo: bool | None = None
    promo_types: tuple[str, ...] | None = None
    variation: bool | None = None
    finishes: tuple[str, ...] | None = None
    border_color: str | None = None
    frame_effects: tuple[str, ...] | None = None
    scryfall_uri: str | None = None
    image_status: str | None = None
    image_uris: dict[str, Any] | None = None
    card_faces: list[_Face] | None = None


@dataclass(slots=True)
class FaceTally:
    """What a pass over a list found."""

    cards: int = 0
    faces: int = 0
    placeholders: int = 0
    without_picture: int = 0
    repeated_urls: int = 0
    filtered_out: int = 0  # cards
    refused: int = 0  # addresses that are never requested
    refused_example: str = ""
    unreadable: int = 0  # objects that can't be decoded or don't have the shape of a card
    unreadable_example: str = ""

    def __str__(self) -> str:
        text = (
            f"{self.cards:,} cards, {self.faces:,} faces; left out: {self.placeholders:,} placeholders, "
            f"{self.without_picture:,} without a picture, {self.repeated_urls:,} repeated pictures"
        )
        if self.filtered_out:
            text += f", {self.filtered_out:,} cards that don't match the filters"
        if self.refused:
            text += f", {self.refused:,} refused addresses (the first: {self.refused_example})"
        if self.unreadable:
            text += f", {self.unreadable:,} unreadable cards (the first: {self.unreadable_example})"
        return text


def iter_faces(path: Path, selection: Selection, tally: FaceTally) -> Iterator[CardFace]:
    """Yield the selected faces of the list at `path`, in its order; `tally` counts what is left out.

    One picture is one face: repeated URLs are left out. So are cards of an unknown shape: one oddity must not cost the
    other 100,000. Raises PipelineError (Validation Error) with the line number if the list is damaged or no card can be
    read.
    """
    return islice(_distinct_faces(path, selection, tally), selection.limit)


def logged_faces(path: Path, selection: Selection) -> Iterator[CardFace]:
    """Like `iter_faces`; logs at the end what the list held and what was left out.

    Raises PipelineError if the list is empty or no card passes the filters.
    """
    tally = FaceTally()
    yield from iter_faces(path, selection, tally)
    (warn if tally.unreadable else say)(f"{path.name}: {tally}")
    if tally.filtered_out:
        _warn_of_lost_printings(selection, tally)
    if not tally.cards:
        raise PipelineError.of(
            Category.VALIDATION,
            "the card list is empty",
            details=f"{path} holds no cards",
            suggestion="fetch it again: download_images.py --refresh",
        )
    if selection.filters and not tally.faces:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "no card of the list passes the filters",
            details=f"received {selection.filters}; {path.name}: {tally}",
            suggestion="use Scryfall's codes (--set lea, --lang en, --layout normal), or another --kind: "
            "only all_cards has every language",
        )


def _warn_of_lost_printings(selection: Selection, tally: FaceTally) -> None:
    """A list that has chosen one printing of a card may have chosen one that the filters leave out."""
    one, by = _ONE_OF.get(selection.kind, ("", ()))
    if any(getattr(selection.filters, name) for name in by):
        better = "all_cards" if selection.filters.lang not in ((), ("en",)) else "default_cards"
        warn(
            f"{selection.kind} has only one {one}: where that one does not match, the others are missing too "
            f"({tally.faces:,} faces match {selection.filters}, {tally.filtered_out:,} cards do not); "
            f"--kind {better} has every one"
        )


def all_addresses(path: Path, expected_cards: int | None) -> Iterator[str]:
    """Every picture address in the list at `path`, of any key, usable or not.

    Raises PipelineError (Validation Error) at the end if it has no cards, not `expected_cards`, or unreadable ones.
    """
    tally = FaceTally()
    for card in _read_cards(path, tally, shown_as=str(path)):
        tally.cards += 1
        for uris in (card.image_uris, *(face.image_uris for face in card.card_faces or [])):
            yield from (url for url in (uris or {}).values() if isinstance(url, str))
    if tally.unreadable or tally.cards != (tally.cards or 1 if expected_cards is None else expected_cards):
        known = "" if expected_cards is None else f" of {expected_cards:,}"
        raise PipelineError.of(
            Category.VALIDATION,
            "the card list is incomplete, so it may not name all its pictures",
            details=f"{path.name}: {tally.cards:,}{known} cards, {tally.unreadable:,} unreadable",
            suggestion="fetch it again: download_images.py --refresh",
        )


def count_cards(path: Path, shown_as: str) -> int:
    """Count the cards in the list at `path`, all read; PipelineError (Validation Error) if it is damaged."""
    return sum(1 for _ in _read_cards(path, FaceTally(), shown_as))


def _distinct_faces(path: Path, selection: Selection, tally: FaceTally) -> Iterator[CardFace]:
    seen: set[bytes] = set()  # digests: 540,000 URLs would take three times the memory
    keys = image_key_order(selection.image_key)
    for card in _read_cards(path, tally, shown_as=str(path)):
        tally.cards += 1
        if selection.filters and not _passes(card, selection.filters):
            tally.filtered_out += 1
            continue
        for face in _faces_of(card, keys, tally):
            digest = hashlib.sha1(face.image_url.encode()).digest()
            if digest in seen:
                tally.repeated_urls += 1
                continue
            seen.add(digest)
            tally.faces += 1
            yield face


def _passes(card: _Card, filters: Filters) -> bool:
    """Whether `card` passes all the filters; a card lacking the field does not."""
    return (
        (not filters.lang or card.lang in filters.lang)
        and (not filters.set or card.set in filters.set)
        and (not filters.layout or card.layout in filters.layout)
        and (not filters.games or not set(filters.games).isdisjoint(card.games or ()))
        and not (filters.exclude_digital and card.digital)
    )


def _faces_of(card: _Card, keys: tuple[str, ...], tally: FaceTally) -> Iterator[CardFace]:
    """One face for each side that has pictures of its own; if none has, one for the card."""
    sides = [(i, face) for i, face in enumerate(card.card_faces or []) if face.image_uris]
    if not sides:
        yield from _face_of(card, None, card.card_faces or [], keys, tally)
        return
    tally.without_picture += len(card.card_faces or []) - len(sides)
    for i, side in sides:
        yield from _face_of(card, i, [side], keys, tally)


def _face_of(
    card: _Card, side: int | None, faces: list[_Face], keys: tuple[str, ...], tally: FaceTally
) -> Iterator[CardFace]:
    """The face with index `side` (None: the whole card, whose `faces` share its picture), if it has a picture."""
    own = faces[0] if side is not None else None
    uris = (own.image_uris if own else card.image_uris) or {}
    image_url = _pick(uris, keys, tally, card.name)
    if image_url is None:
        tally.without_picture += 1
        return
    if card.image_status in PLACEHOLDER_STATUS or image_url.partition("?")[0].endswith("/" + PLACEHOLDER_NAME):
        tally.placeholders += 1
        return
    first = faces[0] if faces else _Face()
    colors = own.colors if own and own.colors is not None else card.colors
    yield CardFace(
        name=(own and own.name) or card.name,
        scryfall_id=card.id,
        face_id=card.id if side is None else f"{card.id}:face:{side}",
        oracle_id=card.oracle_id or first.oracle_id,
        illustration_id=first.illustration_id if own else card.illustration_id or first.illustration_id,
        set=card.set or "",
        collector_number=card.collector_number or "",
        frame=card.frame,
        layout=card.layout,
        lang=card.lang,
        colors=colors or [],
        image_url=image_url,
        card_url=_pick(uris, _SHOWN_KEYS) or image_url,
        scryfall_uri=card.scryfall_uri,
        card_name=card.name,
        artist=(own and own.artist) or card.artist,
        printed_name=_printed_name(own or card, faces),
        **_filterable(card, own or card, faces),
    )


def _printed_name(side: _Card | _Face, faces: list[_Face]) -> str | None:
    """What is printed on `side` in place of its name; of a card whose `faces` share a picture theirs, joined."""

    def printed(one: _Card | _Face) -> str | None:
        return one.printed_name or one.flavor_name

    joined = " // ".join(filter(None, (printed(face) or face.name for face in faces)))
    found = printed(side) or (joined if any(map(printed, faces)) else None)
    return None if found == side.name else found


def _filterable(card: _Card, side: _Card | _Face, faces: list[_Face]) -> dict[str, Any]:
    """What people filter by: of the `side` that is a face if it has its own; `faces` share a picture."""
    types, texts = [face.type_line or "" for face in faces], [face.oracle_text or "" for face in faces]
    return {
        "type_line": side.type_line or card.type_line or " // ".join(types) or None,
        "oracle_text": "\n//\n".join(texts) if side.oracle_text is None and any(texts) else side.oracle_text,
        "set_name": card.set_name,
        "rarity": card.rarity,
        "released_at": card.released_at,
        "promo": card.promo,
        "promo_types": card.promo_types or (),
        "variation": card.variation,
        "finishes": card.finishes or (),
        "border_color": card.border_color,
        "frame_effects": card.frame_effects or (),
    }


def _pick(uris: dict[str, Any], keys: tuple[str, ...], tally: FaceTally | None = None, card: str = "") -> str | None:
    """The address for the best of `keys`; `tally` counts refused ones."""
    for key in keys:
        url = uris.get(key)
        if not isinstance(url, str):
            continue
        if may_be_asked(url):
            return url
        if tally is not None:
            tally.refused += 1
            tally.refused_example = tally.refused_example or f"{printable(card)}: {url[:200]!r}"
    return None


def may_be_asked(url: str) -> bool:
    """Whether `url` may be requested: http(s), no `..` in its path, not too long, and urlsplit can parse it."""
    if not url.startswith(("https://", "http://")) or "/.." in url or "\\" in url:
        return False
    if not url.isprintable() or " " in url or len(url) > MAX_ADDRESS_LENGTH:
        return False
    if url.isascii() and "[" not in url and "]" not in url:  # others may make urlsplit fail; this keeps it fast
        return True
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _read_cards(path: Path, tally: FaceTally, shown_as: str) -> Iterator[_Card]:
    """Decode the list card by card; `tally` counts unreadable ones."""
    number = read = 0
    try:
        for number, card in iter_decoded(path, msgspec.json.Decoder(_Card).decode):
            if isinstance(card, _Card):
                read += 1
                yield card
            else:
                tally.unreadable += 1
                tally.unreadable_example = tally.unreadable_example or f"line {number:,}: {card}"
    except BadText as error:
        _damaged(shown_as, error.line, str(error))
    if tally.unreadable and not read:
        _damaged(shown_as, number, f"no card can be read; {tally.unreadable_example}")


def _damaged(shown_as: str, line: int, reason: str) -> NoReturn:
    raise PipelineError.of(
        Category.VALIDATION,
        "the card list is damaged",
        details=f"{shown_as}, line {line:,}: {reason}",
        suggestion="fetch it again with --refresh",
    )
