"""Tables of how well labelled photographs were recognised."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median

import numpy as np

from helpers.evaluate.asking import FIRST, STRANGERS, WHOLE, Asked, Named, Scored
from helpers.evaluate.tables import aligned
from helpers.recognise.evaluation import FOLDS, FOUND, LOST, MAX_STRANGERS, Share, held_out

MASKED = "known cards, masked"

Group = tuple[str, list[Asked]]


def report(asked: Sequence[Asked]) -> str:
    """Everything that was asked, one way after the other."""
    ways = sorted(asked, key=lambda one: (one.way != WHOLE, one.way))
    return "\n\n".join(_of_way(way, list(some)) for way, some in groupby(ways, lambda one: one.way))


def _of_way(way: str, asked: list[Asked]) -> str:
    groups = list(_groups(asked))
    parts = [way.upper()]
    if any(one.scored for one in asked):
        parts += [_named(groups, way), _lost(groups, way)]
    parts += [_strangers(asked), _threshold(asked), _seconds(asked)]
    return "\n\n".join(filter(None, parts))


def _groups(asked: list[Asked]) -> Iterator[Group]:
    """All, then by kind, by source and by turn, where there are several."""
    known = [one for one in asked if one.scored]
    yield "all", known
    by: tuple[Callable[[Asked], str], ...] = (
        lambda one: one.kind,
        lambda one: one.source,
        lambda one: f"turned by {one.turn}",
    )
    for key in by:
        values = sorted({key(one) for one in known})
        if len(values) > 1:
            yield from ((value or "no source", [one for one in known if key(one) == value]) for value in values)


def _named(groups: Sequence[Group], way: str) -> str:
    """Which cards were found and named."""
    head = ["", "photos", "cards", f"outline found (IoU >= {FOUND:g})", "median IoU", "named first"]
    rows = [[*head, f"in the first {FIRST}"]]
    for title, some in groups:
        outlined = [(one, label.overlap) for one, label in _labels(some) if label.overlap is not None]
        overlaps = [overlap for _, overlap in outlined]
        found = _share((one, overlap >= FOUND) for one, overlap in outlined)
        rows.append(
            [
                title,
                str(len({one.photo for one in some})),
                str(sum(len(one.scored) for one in some)),
                str(found),
                f"{median(overlaps):.3f}" if overlaps else "N/A",
                str(_share((one, label.rank == 1) for one, label in _labels(some))),
                str(_share((one, label.rank is not None) for one, label in _labels(some))),
            ]
        )
    return aligned(_without(rows, (3, 4)) if way != WHOLE else rows)


def _lost(groups: Sequence[Group], way: str) -> str:
    """Where the others were lost, what was answered beside them, and what was sure."""
    rows = [["", *(f"lost: {where}" for where in LOST), "cards beside", "of these sure", "sure of those named first"]]
    for title, some in groups:
        lost = [label.lost for _, label in _labels(some)]
        extra = [one.cards[card] for one in some for card in one.extra]
        sure = _share((one, one.cards[label.card or 0].sure) for one, label in _labels(some) if label.rank == 1)
        counts = [lost.count(where) for where in LOST]
        rows.append([title, *map(str, (*counts, len(extra), sum(card.sure for card in extra))), str(sure)])
    return aligned(_without(rows, (1, 2, 3)) if way != WHOLE else rows)


def _strangers(asked: Sequence[Asked]) -> str:
    """How many pictures of strangers something was sure of."""
    rows = [["Strangers", "pictures with something sure"]]
    for title in (*STRANGERS, MASKED):
        some = [one for one in asked if one.strangers is not None and _title(one) == title]
        if some:
            rows.append([title, str(_share((one, any(c.sure for c in one.strangers or ())) for one in some))])
    return aligned(rows) if len(rows) > 1 else ""


def _title(one: Asked) -> str:
    return one.kind if one.kind in STRANGERS else MASKED


def _threshold(asked: Sequence[Asked]) -> str:
    """What a threshold accepts that was chosen on other photographs."""
    known, strangers = list(_labels(asked)), [one for one in asked if one.strangers is not None]
    if not known or not strangers:
        return ""
    found = held_out(
        np.array([one.cards[label.card or 0].clear if label.rank == 1 else -math.inf for one, label in known]),
        [one.photo for one, _ in known],
        np.array([clearest(one.strangers or ()) for one in strangers]),
        [one.photo for one in strangers],
    )
    accepted = Share.of([one.photo for one, _ in known], found.known.tolist())
    passed = Share.of([one.photo for one in strangers], found.strangers.tolist())
    least, most = min(found.thresholds), max(found.thresholds)
    return (
        f"With the margin + gap that at most {100 * MAX_STRANGERS:g} % of the strangers on other photographs reach "
        f"({FOLDS} folds: {least:.3f} to {most:.3f}):\n"
        f"  known cards named and accepted  {accepted}\n"
        f"  strangers accepted  {passed}"
    )


def clearest(cards: Sequence[Named]) -> float:
    """The margin + gap of the clearest card; -inf without any."""
    return max((card.clear for card in cards), default=-math.inf)


def _seconds(asked: Sequence[Asked]) -> str:
    """How long a picture took, and how many of its regions were embedded."""
    rows = [["Seconds a picture", "median", "max"]]
    for step in asked[0].seconds:
        each = [one.seconds[step] for one in asked]
        rows.append([step, f"{median(each):.2f}", f"{max(each):.2f}"])
    each = [one.embedded for one in asked]
    return aligned([*rows, ["regions embedded", f"{median(each):g}", f"{max(each)}"]])


def _labels(asked: Iterable[Asked]) -> Iterator[tuple[Asked, Scored]]:
    return ((one, label) for one in asked for label in one.scored)


def _share(pairs: Iterable[tuple[Asked, bool]]) -> Share:
    some = list(pairs)
    return Share.of([one.photo for one, _ in some], [hit for _, hit in some])


def _without(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[list[str]]:
    return [[cell for column, cell in enumerate(row) if column not in columns] for row in rows]
