"""The regions of a picture that were looked at, and which of them are cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from helpers.recognise.collector import NO_LINE, CollectorLine
from helpers.recognise.ranking import NO_EVIDENCE, NO_ROWS, CutOut, Evidence, Ranking

if TYPE_CHECKING:
    from helpers.recognise.regions import Region

COVERED = 0.7  # a region of which a sure card has as much is not asked
MAX_LOOKED_AT = 12  # regions of a picture that get a second look, by one means
_IN_DOUBT = 4  # regions at least that get one if no card is sure
APART = 0.45  # two cards of an answer share at most this much of the smaller one: one may lie on the other
LEAST_INLIERS = 10  # corners that match in the art; of 896 regions without a known card none had more than 3


@dataclass(frozen=True, slots=True)
class Printed:
    """What was read on a card."""

    title: str | None = None  # the name of the index that it fits; None: it is not legible, or fits none
    line: CollectorLine = NO_LINE
    evidence: Evidence = NO_EVIDENCE  # by the title

    def __str__(self) -> str:
        title = f"title {self.title}" if self.title else ""
        line = f"collector line {self.line}" if self.line.legible else ""
        return f"read: {', '.join(filter(None, [title, line])) or 'nothing'}"


@dataclass(frozen=True, slots=True)
class Seen:
    """A region of a picture, what was computed of it, and its ranking."""

    region: Region
    cut_out: CutOut
    masked: NDArray[np.int64] = field(default_factory=lambda: NO_ROWS)  # rows that the index seems to lack
    printed: Printed | None = None  # None: it was not read
    inliers: Mapping[str, int] | None = None  # corners that match a name's art; None: it was not compared

    @property
    def ranking(self) -> Ranking:
        """Of all rows but those that are masked."""
        return self.cut_out.ranking

    @property
    def sure(self) -> bool | None:
        """As its ranking, but a picture that has not the shape of a card shows more than one: the best is a guess."""
        return self.ranking.sure and self.region.card_shaped


def cards_among(seen: Sequence[Seen], detect: str) -> list[Seen]:
    """The regions that are cards, the clearest first: none that overlaps with a clearer one.

    `detect` as in `QueryEngine.ask`.
    """
    kept: list[Seen] = []
    for one in by_strength(seen):
        if not any(one.region.covers(other.region) > APART for other in kept):
            kept.append(one)
    if detect == "all":
        return kept
    return [*kept[:1], *(one for one in kept[1:] if one.ranking.likely)]


def by_strength(seen: Sequence[Seen]) -> list[Seen]:
    """The clearest first."""
    return sorted(seen, key=lambda one: -one.ranking.strength)


def in_doubt(seen: Sequence[Seen], sure: Sequence[Seen]) -> list[Seen]:
    """What may be a card beside those that are `sure`, the clearest first: a second look may make it so."""
    shown = [one.region for one in sure]
    left = [one for one in by_strength(seen) if one.region.card_shaped and not covered(one.region, shown)]
    at_least = 0 if sure else _IN_DOUBT
    return [one for place, one in enumerate(left) if one.ranking.likely or place < at_least]


def covered(region: Region, cards: Sequence[Region]) -> bool:
    """Whether it shows what one of these cards shows."""
    return any(card.covers(region) > COVERED for card in cards)
