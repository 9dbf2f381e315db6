"""Ranks and what is made of them. The rank of the right answer is 1 + how many others are ahead of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.evaluate.asking import FIRST
from helpers.evaluate.findings import Mean, Recall
from helpers.recognise.evaluation import Share, ratio_interval


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

    A name that ties counts as behind the right one: that favours hashes, which have few different scores.
    """
    query, row = np.nonzero(scores > best_of(scores, groups, right)[:, None])
    ahead = np.unique(query * groups.count + groups.of[row]) // groups.count
    return 1 + np.bincount(ahead, minlength=len(scores))


def rank_among(labels: NDArray[np.int64], right: int) -> int:
    """The rank of the right label among those of candidates [C], in the order in which they are shown.

    What ties but is shown first is ahead. 0 if the right one is none of them.
    """
    own = np.flatnonzero(labels == right)
    return 1 + len(np.unique(labels[: own[0]])) if len(own) else 0


def recall(ranks: NDArray[np.int64], cards: Sequence[str]) -> Recall:
    """Recall and mean reciprocal rank of queries [Q] for `cards` [Q]; a rank of 0 is none."""
    among = (ranks > 0) & (ranks <= FIRST)
    reciprocal = np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)
    return Recall(Share.of(cards, (ranks == 1).tolist()), Share.of(cards, among.tolist()), mean(reciprocal, cards))


def mean(values: NDArray[np.float64], cards: Sequence[str]) -> Mean:
    """The mean of values [Q >= 1], each 0 to 1; `ratio_interval`'s interval by card, of `cards` [Q]."""
    _, card = np.unique(cards, return_inverse=True)
    sums, counts = np.bincount(card, weights=values), np.bincount(card)
    return Mean(float(values.mean()), *ratio_interval(sums.astype(np.float64), counts), len(values))
