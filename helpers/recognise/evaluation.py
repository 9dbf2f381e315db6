"""How well were cards recognised? Answers matched to labels, shares with intervals, a threshold on held-out folds.

What shows the same photograph is not independent, so everything here counts by photograph: P of them, each with its
own hits out of its own total.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOUND = 0.8  # intersection over union from which an outline is found
SAME_CARD = 0.4  # more: an answered card lies where a labelled one does
FOLDS = 5
MAX_STRANGERS = 0.02  # of the strangers that a threshold may accept
LOST = ("detection", "not asked", "choice", "recognition")
MOST_DRAWN = 2000  # clusters that are drawn again and again for an interval
_RESAMPLES = 2000
_Z = 1.959964  # of a two-sided 95 % interval


# ----------------------------------------------------------------------------------------------- answers and labels


def served(ranks: NDArray[np.int64], ious: NDArray[np.float64]) -> list[int | None]:
    """Which answered card serves each label: it lies there and has the name; each serves one label.

    `ranks` [L, C]: the place of the label's name among the card's matches, 0: not among them. `ious` [L, C]: nan where
    one of both has no outline, and any place will do. The best rank goes first, then the best overlap.
    """
    fits = (ranks > 0) & ~(ious <= SAME_CARD)
    labels, cards = np.nonzero(fits)
    order = np.lexsort((-np.nan_to_num(ious[fits]), ranks[fits]))
    card_of: dict[int, int] = {}
    for label, card in zip(labels[order].tolist(), cards[order].tolist(), strict=True):
        if label not in card_of and card not in card_of.values():
            card_of[label] = card
    return [card_of.get(label) for label in range(len(ranks))]


def lost_at(ious: NDArray[np.float64], asked: NDArray[np.bool_], first: NDArray[np.bool_]) -> str:
    """Where a card was lost that no answer names, one of LOST.

    For each region of the picture [R]: its overlap with the label (nan: there is no outline, any region may be the
    card), whether it was embedded, and whether it then ranked the right name first.
    """
    there = ~(ious < FOUND)
    if not there.any():
        return "detection"
    if not (there & asked).any():
        return "not asked"
    return "choice" if (there & asked & first).any() else "recognition"


# ------------------------------------------------------------------------------------------------------------ shares


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval; it prints as `45/50 90.0 % [78.6, 95.7]`."""

    hits: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, photos: Sequence[str], hits: Sequence[bool]) -> Share:
        """Of hits [N], each on one of `photos` [N], which may repeat."""
        if not len(photos):
            return cls(0, 0, 0.0, 1.0)
        _, photo = np.unique(photos, return_inverse=True)
        each = np.bincount(photo, weights=np.asarray(hits, float)).astype(np.int64)
        return cls(int(each.sum()), len(photos), *interval(each, np.bincount(photo)))

    def __str__(self) -> str:
        if not self.total:
            return "N/A"
        share, low, high = (100 * value for value in (self.hits / self.total, self.low, self.high))
        return f"{self.hits}/{self.total} {share:.1f} % [{low:.1f}, {high:.1f}]"


def wilson(hits: float, total: float) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of independent trials; 0 to 1 without any."""
    if not total:
        return 0.0, 1.0
    share, spread = hits / total, _Z * _Z / total
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / total + spread / total / 4) / (1 + spread)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def interval(hits: NDArray[np.int64], totals: NDArray[np.int64]) -> tuple[float, float]:
    """A 95 % interval for the share of hits [P] out of totals [P] >= 1, P photographs.

    `ratio_interval`'s, and never narrower than Wilson's, which takes cards for independent. All or none: nothing varies
    between photographs, and only these count, by Wilson's.
    """
    right, of, photographs = int(hits.sum()), int(totals.sum()), len(hits)
    if right in (0, of):
        return wilson(photographs if right else 0, photographs)
    low, high = wilson(right, of)
    if (totals == 1).all():
        return low, high
    few, many = ratio_interval(hits.astype(np.float64), totals)
    return min(low, few), max(high, many)


def ratio_interval(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """A 95 % interval for the ratio, 0 to 1, of the totals of sums [P] and counts [P] >= 1, P independent clusters.

    Clusters are drawn again and again (bootstrap). Above MOST_DRAWN that takes seconds and says no more than the
    normal interval of the ratio estimator (Cochran, Sampling Techniques, 1977, chapter 6), which is then given.
    """
    clusters, total = len(sums), int(counts.sum())
    if clusters > MOST_DRAWN:
        ratio = float(sums.sum()) / total
        variance = float(np.square(sums - ratio * counts).sum()) * clusters / (clusters - 1) / total**2
        half = _Z * math.sqrt(variance)
        return max(0.0, ratio - half), min(1.0, ratio + half)
    drawn = np.random.default_rng(0).integers(clusters, size=(_RESAMPLES, clusters))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975)).tolist()
    return low, high


# ------------------------------------------------------------------------------------------------------- a threshold


def threshold(strangers: NDArray[np.float64], at_most: float = MAX_STRANGERS) -> float:
    """The smallest value that at most this share of the strangers' [S] reach; -inf if no more than that are finite."""
    allowed = math.floor(at_most * len(strangers) + 1e-9)  # 0.02 * 50 must be 1
    if len(strangers) <= allowed:
        return -math.inf
    value = np.sort(strangers)[::-1][allowed]
    return float(np.nextafter(value, math.inf)) if np.isfinite(value) else -math.inf


def folds(photos: Sequence[str], count: int = FOLDS) -> NDArray[np.int64]:
    """A fold 0..count-1 for each [N]: one for what shows the same photograph. Even, random, always the same."""
    names = sorted(set(photos))
    order = np.random.default_rng(0).permutation(len(names))
    fold_of = dict(zip(names, (order % count).tolist(), strict=True))
    return np.array([fold_of[photo] for photo in photos], np.int64)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What thresholds chosen on the other folds accept."""

    thresholds: tuple[float, ...]
    known: NDArray[np.bool_]  # [K]
    strangers: NDArray[np.bool_]  # [S]


def held_out(
    known: NDArray[np.float64], known_photos: Sequence[str], strangers: NDArray[np.float64], photos: Sequence[str]
) -> HeldOut:
    """Accept known cards [K] and strangers [S] by the threshold that the strangers of all other folds give.

    `known`: margin + gap; -inf for a card that was not named, which is never accepted.
    """
    fold = folds([*known_photos, *photos])
    fold_of_known, fold_of_stranger = fold[: len(known)], fold[len(known) :]
    found = np.array([threshold(strangers[fold_of_stranger != i]) for i in range(FOLDS)])
    accepted = (known >= found[fold_of_known]) & np.isfinite(known)
    return HeldOut(tuple(found.tolist()), accepted, (strangers >= found[fold_of_stranger]) & np.isfinite(strangers))
