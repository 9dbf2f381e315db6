"""How well does an index recognise labelled photographs?

A card counts as named if an answered card that lies where it does has its name; one answered card serves one label.
Where that fails, the findings say where the card was lost: no region of the picture fits it (detection); one does, but
was not embedded (not asked); one ranks the right name first, but another was chosen (choice); none does (recognition).

Photographs of which the index knows no card, and with `strangers` all others asked once more as if the index lacked
their cards, must not be sure of anything. A threshold is chosen so that 2 % of them pass, on other photographs than it
is then measured on. Intervals are 95 %, by photograph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median

import msgspec
import numpy as np

from helpers.evaluate.asking import STRANGERS, WHOLE, AskedPhoto, Asker, Named, Scored
from helpers.evaluate.labelled import Labelled
from helpers.evaluate.request import Options
from helpers.recognise.evaluation import FOUND, LOST, Share, held_out
from helpers.recognise.query import QueryEngine
from helpers.talk import Progress

MASKED = "known cards, masked"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the known cards of some photographs."""

    by: str  # "all", "kind", "source" or "turn"
    title: str
    photos: int
    cards: int
    outlined: Share  # of the cards with an outline: a region's overlap is FOUND or more
    median_overlap: float | None  # IoU; None without outlines
    named: Share  # first
    in_first: Share  # among the first asking.FIRST matches
    lost: dict[str, int]  # where -> cards, one of evaluation.LOST
    beside: int  # cards answered that serve no label
    beside_sure: int
    sure: Share  # of the cards named first
    read: Share  # cards answered of which a title was read that fits the index
    read_right: Share  # of these: it is that of a card on the picture
    printing: Share  # right first, of the cards named first whose printing the label says and the index has
    printing_sure: Share  # of the same
    printing_sure_right: Share  # of those that were sure


class StrangerPictures(msgspec.Struct, frozen=True):
    """Pictures of which nothing is in the index, or is masked."""

    title: str
    sure: Share  # pictures with something sure
    read: Share  # pictures with a title that was read, and wrongly: the index has none of them


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold of margin + gap, chosen on other photographs than those that it is measured on (folds)."""

    least: float | None  # of the folds' thresholds; None: a fold has no strangers to choose by, all pass
    most: float | None
    known: Share  # cards named and accepted
    strangers: Share  # pictures accepted


class Took(msgspec.Struct, frozen=True):
    """Of one picture."""

    median: float
    max: float


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was asked in one way: whole photographs, or cut-outs whose corners are off by so much."""

    way: str
    pictures: int
    groups: tuple[Group, ...]  # none if the index knows no card on them
    strangers: tuple[StrangerPictures, ...]
    threshold: Threshold | None  # None without known cards or without strangers
    seconds: dict[str, Took]  # by step
    embedded: Took  # regions


class Photographs(msgspec.Struct, frozen=True, kw_only=True):
    """The findings, with every answer."""

    rows: int  # N of the index
    options: Options
    ways: tuple[Way, ...]
    answers: tuple[AskedPhoto, ...]


def measure(engine: QueryEngine, photos: Sequence[Labelled], options: Options) -> Photographs:
    """Ask an index about each of `photos` in every way of `options`; PipelineError if one can't be read."""
    asker = Asker(engine, min_visible=options.min_visible, strangers=options.strangers)
    return found_in(_ask(asker, photos, options), len(engine), options)


def found_in(asked: Sequence[AskedPhoto], rows: int, options: Options) -> Photographs:
    """What the answers of an index of `rows` show."""
    ways = sorted(asked, key=lambda one: (one.way != WHOLE, one.way))
    found = tuple(_of_way(way, list(some)) for way, some in groupby(ways, lambda one: one.way))
    return Photographs(rows=rows, options=options, ways=found, answers=tuple(asked))


def _ask(asker: Asker, photos: Sequence[Labelled], options: Options) -> list[AskedPhoto]:
    asked = []
    with Progress("Asking", len(photos), "photographs") as progress:
        for photo in photos:
            asked += [asker.whole(photo, turn) for turn in options.turns]
            if options.crops:
                asked += _cut_outs(asker, photo, options)
            progress.advance()
    return asked


def _cut_outs(asker: Asker, photo: Labelled, options: Options) -> Iterator[AskedPhoto]:
    for percent in options.corner_error:
        for seed in range(options.seeds if percent else 1):
            yield from asker.cut_outs(photo, percent, seed)


def _of_way(way: str, asked: list[AskedPhoto]) -> Way:
    return Way(
        way=way,
        pictures=len(asked),
        groups=tuple(_groups(asked)),
        strangers=tuple(_strangers(asked)),
        threshold=_threshold(asked),
        seconds={step: _took([one.seconds[step] for one in asked]) for step in asked[0].seconds},
        embedded=_took([one.embedded for one in asked]),
    )


def _took(each: Sequence[float]) -> Took:
    return Took(median(each), max(each))


def _groups(asked: list[AskedPhoto]) -> Iterator[Group]:
    """All, then by kind, by source and by turn, where there are several."""
    known = [one for one in asked if one.scored]
    if not known:
        return
    yield _group("all", "all", known)
    by: dict[str, Callable[[AskedPhoto], str]] = {
        "kind": lambda one: one.kind,
        "source": lambda one: one.source,
        "turn": lambda one: f"turned by {one.turn}",
    }
    for name, key in by.items():
        values = sorted({key(one) for one in known})
        if len(values) > 1:
            for value in values:
                yield _group(name, value or "no source", [one for one in known if key(one) == value])


def _group(by: str, title: str, some: list[AskedPhoto]) -> Group:
    labels = list(_labels(some))
    overlaps = [(one, label.overlap) for one, label in labels if label.overlap is not None]
    lost = [label.lost for _, label in labels]
    printed = [(one, label) for one, label in labels if label.printing is not None]
    extra = [one.cards[card] for one in some for card in one.extra]
    return Group(
        by=by,
        title=title,
        photos=len({one.photo for one in some}),
        cards=len(labels),
        outlined=_share((one, overlap >= FOUND) for one, overlap in overlaps),
        median_overlap=median(overlap for _, overlap in overlaps) if overlaps else None,
        named=_share((one, label.rank == 1) for one, label in labels),
        in_first=_share((one, label.rank is not None) for one, label in labels),
        lost={where: lost.count(where) for where in LOST},
        beside=len(extra),
        beside_sure=sum(card.sure for card in extra),
        sure=_share((one, one.cards[label.card or 0].sure) for one, label in labels if label.rank == 1),
        read=_share((one, card.read is not None) for one in some for card in one.cards),
        read_right=_share((one, bool(card.read_right)) for one in some for card in one.cards if card.read is not None),
        printing=_share((one, bool(label.printing)) for one, label in printed),
        printing_sure=_share((one, bool(label.printing_sure)) for one, label in printed),
        printing_sure_right=_share((one, bool(label.printing)) for one, label in printed if label.printing_sure),
    )


def _strangers(asked: Sequence[AskedPhoto]) -> Iterator[StrangerPictures]:
    """How many pictures of strangers something was sure of."""
    for title in (*STRANGERS, MASKED):
        some = [one for one in asked if one.strangers is not None and _title(one) == title]
        if some:
            sure = _share((one, any(card.sure for card in one.strangers or ())) for one in some)
            read = _share((one, any(card.read is not None for card in one.strangers or ())) for one in some)
            yield StrangerPictures(title, sure, read)


def _title(one: AskedPhoto) -> str:
    return one.kind if one.kind in STRANGERS else MASKED


def _threshold(asked: Sequence[AskedPhoto]) -> Threshold | None:
    """What a threshold accepts that was chosen on other photographs."""
    known, strangers = list(_labels(asked)), [one for one in asked if one.strangers is not None]
    if not known or not strangers:
        return None
    found = held_out(
        np.array([clearest([one.cards[label.card or 0]] if label.rank == 1 else []) for one, label in known]),
        [one.photo for one, _ in known],
        np.array([clearest(one.strangers or ()) for one in strangers]),
        [one.photo for one in strangers],
    )
    least, most = (value if math.isfinite(value) else None for value in (min(found.thresholds), max(found.thresholds)))
    return Threshold(
        least=least,
        most=most,
        known=Share.of([one.photo for one, _ in known], found.known.tolist()),
        strangers=Share.of([one.photo for one in strangers], found.strangers.tolist()),
    )


def clearest(cards: Sequence[Named]) -> float:
    """The margin + gap of the clearest card; -inf without any."""
    return max((card.clear for card in cards if card.clear is not None), default=-math.inf)


def _labels(asked: Iterable[AskedPhoto]) -> Iterator[tuple[AskedPhoto, Scored]]:
    return ((one, label) for one in asked for label in one.scored)


def _share(pairs: Iterable[tuple[AskedPhoto, bool]]) -> Share:
    some = list(pairs)
    return Share.of([one.photo for one, _ in some], [hit for _, hit in some])
