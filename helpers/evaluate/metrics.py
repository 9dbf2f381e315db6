"""Ranks and what is made of them. The rank of the right answer is 1 + how many others score higher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.evaluate.findings import Mean, Recall
from helpers.recognise.evaluation import Share

FIRST = 5  # answers among which the right one is looked for
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Groups:
    """Which of N rows belong together: all of a name, or all with the same art."""

    of: NDArray[np.int64]  # [N], 0 to count - 1
    count: int
    order: NDArray[np.int64]  # [N], rows by group
    starts: NDArray[np.int64]  # [count + 1], places in `order`

    @classmethod
    def by(cls, keys: Sequence[str]) -> Groups:
        """Rows with the same one of `keys` [N] are a group."""
        _, of = np.unique(np.asarray(keys, dtype=object), return_inverse=True)
        count = int(of.max(initial=-1)) + 1
        order = np.argsort(of, kind="stable")
        return cls(of.astype(np.int64), count, order, np.searchsorted(of[order], np.arange(count + 1)))

    def rows(self, group: int) -> NDArray[np.int64]:
        """The rows of a group, in order."""
        return self.order[self.starts[group] : self.starts[group + 1]]


def best_of(scores: NDArray[np.float32], groups: Groups, right: NDArray[np.int64]) -> NDArray[np.float32]:
    """The best score among the rows of the `right` group [Q] of each query; scores float32 [Q, N] -> [Q]."""
    return np.array([each[groups.rows(group)].max() for each, group in zip(scores, right, strict=True)], np.float32)


def ranks(scores: NDArray[np.float32], groups: Groups, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of the `right` group [Q] among all groups, by each group's best score; scores float32 [Q, N].

    Equal scores count for the right one: that favours hashes, which have few different ones.
    """
    query, row = np.nonzero(scores > best_of(scores, groups, right)[:, None])
    ahead = np.unique(query * groups.count + groups.of[row]) // groups.count
    return 1 + np.bincount(ahead, minlength=len(scores))


def rank_among(labels: NDArray[np.int64], scores: NDArray[np.float32], right: int) -> int:
    """The same for candidates [C] with labels and scores; 0 if the right one is none of them."""
    own = scores[labels == right]
    return 1 + len(np.unique(labels[scores > own.max()])) if len(own) else 0


def recall(ranks: NDArray[np.int64], cards: Sequence[str]) -> Recall:
    """Recall and mean reciprocal rank of queries [Q] for `cards` [Q]; a rank of 0 is none."""
    among = (ranks > 0) & (ranks <= FIRST)
    reciprocal = np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)
    return Recall(Share.of(cards, (ranks == 1).tolist()), Share.of(cards, among.tolist()), mean(reciprocal, cards))


def mean(values: NDArray[np.float64], cards: Sequence[str]) -> Mean:
    """The mean of values [Q] >= 1; for the interval `cards` [Q] are drawn again and again, with all their values."""
    _, card = np.unique(cards, return_inverse=True)
    sums, counts = np.bincount(card, weights=values), np.bincount(card)
    drawn = np.random.default_rng(0).integers(len(sums), size=(_RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975)).tolist()
    return Mean(float(values.mean()), low, high, len(values))
