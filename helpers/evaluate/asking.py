"""Asking an index about labelled photographs, and what became of each label."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.cards.faces import CardFace
from helpers.embed.preprocess import as_seen
from helpers.errors import Category, PipelineError
from helpers.evaluate.labelled import TURNED, Label, Labelled, Quad, turned, with_corner_error
from helpers.recognise.evaluation import lost_at, served
from helpers.recognise.query import Card, QueryEngine, View
from helpers.recognise.seen import Seen
from helpers.validation import BrokenImage, read_photo

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.recognise.ranking import Ranking
    from helpers.recognise.regions import Region

FIRST = 5  # matches among which a name is looked for
CUT_OUT_HEIGHT = 680  # pixels, as Scryfall's `normal`
WHOLE = "whole photographs"
STRANGERS = ("no card", "unknown cards")  # kinds of photographs on which the index knows nothing

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A card that was answered."""

    name: str
    quad: Points | None  # in the photograph as it is on the disk; None: the whole picture
    sure: bool
    clear: float | None  # margin + gap; None if there is none, or the picture has not the shape of a card
    read: str | None = None  # the title that was read; None: it was not looked for, or none fits the index
    read_right: bool | None = None  # whether it is a label's of the picture; None: none was read


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a label that the index knows."""

    name: str
    quad: Points | None
    overlap: float | None  # IoU with the region that fits best; None without an outline
    rank: int | None  # of its name in the card that serves it; None: none does
    card: int | None  # that card's place in the answer
    lost: str | None  # where, one of `evaluation.LOST`; None: named first
    printing: bool | None = None  # whether the first is the label's; None: not named first, or the index lacks that
    printing_sure: bool | None = None


@dataclass(frozen=True, slots=True)
class AskedPhoto:
    """A picture that was asked, and with `strangers` once more without the cards on it."""

    photo: str
    source: str
    kind: str
    way: str  # the whole photograph, or cut out, and how
    turn: int
    photo_size: tuple[int, int]  # width, height of the photograph as it is on the disk
    scored: tuple[Scored, ...]
    cards: tuple[Named, ...]
    extra: tuple[int, ...]  # places of the cards that serve no label
    strangers: tuple[Named, ...] | None  # what was answered with nothing known on it; None: not asked
    seconds: dict[str, float]
    embedded: int  # regions


@dataclass(frozen=True, slots=True)
class _Shot:
    """A picture to ask."""

    photo: Labelled
    way: str
    turn: int
    size: tuple[int, int]  # of the photograph
    picture: Image.Image
    labels: Sequence[Label]
    quads: Sequence[Quad | None]  # of the labels in the picture
    read: float = 0.0  # seconds


class Asker:
    """Asks a loaded index."""

    def __init__(self, engine: QueryEngine, *, min_visible: float, strangers: bool) -> None:
        """Labels of which less is visible than `min_visible` count neither as missed nor as extra."""
        self._engine = engine
        self._min_visible = min_visible
        self._strangers = strangers

    def kind(self, photo: Labelled) -> str:
        """The kind of photograph, for a table."""
        if not photo.labels:
            return STRANGERS[0]
        if not any(self._engine.knows(label.name) for label in photo.labels):
            return STRANGERS[1]
        count = len(photo.labels)
        return "one card" if count == 1 else "several cards" if count <= 10 else "more than 10 cards"

    def whole(self, photo: Labelled, turn: int) -> AskedPhoto:
        """Ask the photograph, turned clockwise."""
        started = time.monotonic()
        picture = opened(photo.path)
        size = picture.size
        if turn:
            picture = picture.transpose(TURNED[turn])
        read = time.monotonic() - started
        quads = [None if label.quad is None else turned(label.quad, size, turn) for label in photo.labels]
        return self._ask(_Shot(photo, WHOLE, turn, size, picture, photo.labels, quads, read))

    def cut_outs(self, photo: Labelled, percent: float, seed: int) -> list[AskedPhoto]:
        """Ask each card cut out, its corners off by up to `percent` of its width and height.

        Without an error that is its own crop, where there is one.
        """
        from helpers.recognise.regions import Photo, Region  # cv2

        whole = Photo(opened(photo.path))
        asked = []
        for number, label in enumerate(photo.labels):
            if label.crop and not percent:
                cut = opened(label.crop)
            elif label.quad is not None:
                quad = with_corner_error(label.quad, percent / 100, np.random.default_rng((seed, number)))
                cut = whole.cut_out(Region(quad), CUT_OUT_HEIGHT)
            else:
                continue
            way = f"cut out, corners off by {percent:g} %"
            asked.append(self._ask(_Shot(photo, way, 0, whole.picture.size, cut, [label], [None])))
        return asked

    def _ask(self, shot: _Shot) -> AskedPhoto:
        detect = "auto" if shot.way == WHOLE else "off"
        view = self._engine.look(shot.picture, detect=detect)
        cards = view.cards(detect)
        kind, named = self.kind(shot.photo), partial(self._named, shot=shot, size=view.size)
        strangers = None
        if kind in STRANGERS:
            strangers = cards
        elif self._strangers:
            strangers = self._engine.look(shot.picture, detect=detect, without=shot.photo.names).cards(detect)
        scored, extra = self._score(shot, view, cards)
        took = asdict(view.seconds)
        took["read"] += shot.read
        return AskedPhoto(
            photo=str(shot.photo.path),
            source=shot.photo.source,
            kind=kind,
            way=shot.way,
            turn=shot.turn,
            photo_size=shot.size,
            scored=scored,
            cards=tuple(map(named, cards)),
            extra=extra,
            strangers=None if strangers is None else tuple(map(named, strangers)),
            seconds=took | {"total": sum(took.values())},
            embedded=len(view.seen),
        )

    def _score(self, shot: _Shot, view: View, cards: Sequence[Seen]) -> tuple[tuple[Scored, ...], tuple[int, ...]]:
        labels, quads = shot.labels, shot.quads
        answered = [self._engine.card(card, FIRST) for card in cards]
        names = [[match.face.name for match in card.matches] for card in answered]
        ranks = [[found.index(label.name) + 1 if label.name in found else 0 for found in names] for label in labels]
        places = [[math.nan if card.region.whole else _iou(card.region, quad) for card in cards] for quad in quads]
        shape = (len(labels), len(cards))
        serving = served(np.array(ranks, np.int64).reshape(shape), np.array(places).reshape(shape))
        scored = tuple(
            self._of(label, quad, card, None if card is None else answered[card], view)
            for label, quad, card in zip(labels, quads, serving, strict=True)
            if label.visible >= self._min_visible and self._engine.knows(label.name)
        )
        return scored, tuple(card for card in range(len(cards)) if card not in serving)

    def _of(self, label: Label, quad: Quad | None, place: int | None, card: Card | None, view: View) -> Scored:
        overlaps = np.array([_iou(region, quad) for region in view.regions])
        names = [match.face.name for match in card.matches] if card else []
        rank = names.index(label.name) + 1 if label.name in names else None
        lost = printing = sure = None
        if card is None or rank != 1:
            seen = {id(one.region): one for one in view.seen}
            ones = [seen.get(id(region)) for region in view.regions]
            first = [one is not None and self._first_name(one) == label.name for one in ones]
            lost = lost_at(overlaps, np.array([one is not None for one in ones]), np.array(first))
        elif any(map(label.is_of, self._faces(self._engine.ranker.rows_of([label.name])))):
            printing, sure = bool(label.is_of(card.printings[0].face)), card.printing_sure
        own = None if label.quad is None else _points(label.quad)
        overlap = None if quad is None else float(overlaps.max())
        return Scored(label.name, own, overlap, rank, place, lost, printing, sure)

    def _faces(self, rows: NDArray[np.int64]) -> Sequence[CardFace]:
        return self._engine.ranker.faces(rows)

    def _named(self, seen: Seen, shot: _Shot, size: tuple[int, int]) -> Named:
        region, ranking, printed = seen.region, seen.ranking, seen.printed
        clear = clearness(ranking) if region.card_shaped else None
        quad = None if region.whole else _points(turned(region.quad, size, -shot.turn % 360))
        title, right = None, None
        if printed is not None and printed.title is not None:
            names = {face.name for face in self._faces(printed.evidence.rows)}
            title, right = printed.title, not names.isdisjoint(label.name for label in shot.labels)
        return Named(self._first_name(seen), quad, bool(seen.sure), clear, title, right)

    def _first_name(self, seen: Seen) -> str:
        return self._engine.card(seen, 1).matches[0].face.name


def clearness(ranking: Ranking) -> float | None:
    """Give margin + gap, which says how clear the best name is; None if there is no other."""
    return None if ranking.margin is None or ranking.gap is None else ranking.margin + ranking.gap


def opened(path: Path) -> Image.Image:
    """The picture, upright; PipelineError if it can't be read."""
    try:
        return as_seen(read_photo(path))
    except (FileNotFoundError, BrokenImage) as error:
        raise PipelineError.of(
            Category.VALIDATION,
            "a labelled photograph can't be read",
            details=f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error}",
            suggestion="restore it, or remove its rows from the CSV",
        ) from error


def _iou(region: Region, quad: Quad | None) -> float:
    """Intersection over union; nan without an outline."""
    from helpers.recognise.finding import iou  # cv2

    return math.nan if quad is None else iou(region.quad, quad)


def _points(quad: Quad) -> Points:
    return tuple((round(float(x), 1), round(float(y), 1)) for x, y in quad)


def names_of(cards: Collection[Named]) -> str:
    """The cards in words."""
    clear = ["-inf" if card.clear is None else f"{card.clear:.2f}" for card in cards]
    return ", ".join(
        f"{card.name} ({value}{', sure' if card.sure else ''})" for card, value in zip(cards, clear, strict=True)
    )
