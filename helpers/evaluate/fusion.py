"""How much should what is read count beside what a card looks like, and how likely is an answer right?

Two small models with a weight for each named feature, fitted by Newton's method on some cards and judged on others:

- Which name: a conditional logit (McFadden, Conditional logit analysis of qualitative choice behavior, 1974). Of the
  names that compete, P(name) is in proportion to exp(b1 x score by looks + b2 x evidence by print). Only the ratio of
  both moves a ranking: read_weight = b2 / b1.
- Is the first name right: a logistic of margin + gap, known cards and strangers alike.

Where the data are separable (no title is ever read wrong, say) the likelihood has no maximum. So each weight has a
normal prior about 0, wide enough to move nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.recognise.evaluation import FOLDS

PRIOR = 30.0  # standard deviation of a weight
_STEPS = 100
_ENOUGH = 1e-9  # of a step

Floats = NDArray[np.float64]


# ------------------------------------------------------------------------------------------------------- which name


@dataclass(frozen=True, slots=True)
class Choices:
    """Queries [Q], each with the names that compete for it, up to C, the right one first.

    Places without a name are -inf by looks.
    """

    looks: Floats  # [Q, C], scores
    print: Floats  # [Q, C], 0..1, and what the collector line adds

    @classmethod
    def of(cls, each: Sequence[tuple[Floats, Floats]]) -> Choices:
        """Of the scores and the evidence of each query's names, the right one first."""
        shape = len(each), max((len(looks) for looks, _ in each), default=1)
        found = cls(np.full(shape, -np.inf), np.zeros(shape))
        for place, (looks, evidence) in enumerate(each):
            found.looks[place, : len(looks)], found.print[place, : len(looks)] = looks, evidence
        return found

    def features(self, read_weight: float | None) -> Floats:
        """Both [Q, C, 2]; their sum with this weight [Q, C, 1], if there is one. Absent names are -inf in all."""
        if read_weight is not None:
            return (self.looks + read_weight * self.print)[..., None]
        return np.stack([self.looks, np.where(np.isfinite(self.looks), self.print, -np.inf)], axis=2)


def conditional_logit(features: Floats) -> Floats:
    """The weights [F] that make the first of the names likeliest; features [Q, C, F] as of `Choices`."""
    weights: Floats = np.zeros(features.shape[2])
    step: Floats = weights
    best = -np.inf
    for _ in range(_STEPS):
        first = chances(features, weights + step)[:, 0]
        now = float(_log(first).sum()) - float(np.square(weights + step).sum()) / 2 / PRIOR**2
        if now < best:  # the step went too far
            step = step / 2
        else:
            weights, best = weights + step, now
            gradient, curvature = _slopes(features, weights)
            step = np.asarray(np.linalg.solve(curvature, gradient), np.float64)
        if np.abs(step).max() < _ENOUGH:
            break
    return weights


def standard_errors(features: Floats, weights: Floats) -> Floats:
    """Of fitted weights [F]: PRIOR where the queries say nothing of one, less where they do."""
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(_slopes(features, weights)[1]))))


def _slopes(features: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The gradient [F] of what is maximised, and its curvature [F, F], downwards."""
    there, chance = np.where(np.isfinite(features), features, 0.0), chances(features, weights)
    mean = np.einsum("qc,qcf->qf", chance, there)
    off = there - mean[:, None]
    gradient = (there[:, 0] - mean).sum(axis=0) - weights / PRIOR**2
    return gradient, np.einsum("qc,qcf,qcg->fg", chance, off, off) + np.eye(len(weights)) / PRIOR**2


def chances(features: Floats, weights: Floats) -> Floats:
    """P of each name [Q, C]; features [Q, C, F]."""
    there = np.isfinite(features[..., 0])
    utility = np.where(there, np.where(there[..., None], features, 0.0) @ weights, -np.inf)
    grown = np.exp(utility - utility.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


class Loss(NamedTuple):
    """How far chances are from what is true, a mean; less is better."""

    log: float  # in nats
    brier: float


class ChoiceFit(NamedTuple):
    """Weights by all cards, and what such weights cost on cards that they were not fitted on."""

    looks: float  # b1
    print: float  # b2
    print_error: float | None  # standard error; None: it was not fitted
    held_out: Loss
    read_weights: tuple[float | None, ...]  # by all folds but each

    @property
    def read_weight(self) -> float | None:
        """As in `manifest.Recognition`; None: what a card looks like says nothing for it."""
        return _ratio(self.looks, self.print)


def fitted_choice(choices: Choices, fold: NDArray[np.int64], read_weight: float | None = None) -> ChoiceFit:
    """Fit both weights; with a `read_weight` only the first, so that it can be compared. `fold` [Q]: 0 to FOLDS - 1."""
    features = choices.features(read_weight)

    def fitted(some: NDArray[np.bool_]) -> tuple[float, float]:
        looks, *more = conditional_logit(features[some]).tolist()
        return looks, more[0] if read_weight is None else read_weight * looks

    held_out, ratios = np.zeros(choices.looks.shape), []
    for i in range(FOLDS):
        found = fitted(fold != i)
        held_out[fold == i] = chances(choices.features(None)[fold == i], np.array(found))
        ratios.append(_ratio(*found))
    found = fitted(fold >= 0)
    error = float(standard_errors(features, np.array(found))[1]) if read_weight is None else None
    return ChoiceFit(*found, error, choice_loss(held_out), tuple(ratios))


def _ratio(looks: float, by_print: float) -> float | None:
    return by_print / looks if looks > 0 else None


def choice_loss(chance: Floats) -> Loss:
    """Of chances [Q, C], of which the first is the right one's."""
    true = np.zeros(chance.shape)
    true[:, :1] = 1.0
    log = -_log(chance[:, 0]).mean()
    return Loss(float(log), float(np.square(chance - true).sum(axis=1).mean()))


# -------------------------------------------------------------------------------------------- is the first name right


class Logistic(NamedTuple):
    """P(right) = 1 / (1 + exp(-slope x (margin + gap - even))), as `manifest.Recognition.confidence`."""

    slope: float
    even: float

    def __call__(self, clear: Floats) -> Floats:
        """P for margin + gap [Q]; -inf gives 0."""
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-self.slope * (clear - self.even))))


def logistic(clear: Floats, right: NDArray[np.bool_]) -> Logistic:
    """Fit to margin + gap [Q], finite, and whether the first name was right [Q]."""
    # A choice between "right", by its features, and "wrong", which has none
    sides = np.stack([np.stack([clear, np.ones(len(clear))], axis=1), np.zeros((len(clear), 2))], axis=1)
    sides[~right] = sides[~right, ::-1]
    slope, at_0 = conditional_logit(sides).tolist()
    return Logistic(slope, -at_0 / slope if slope else 0.0)


def logistic_loss(chance: Floats, right: NDArray[np.bool_]) -> Loss:
    """Of P(right) [Q]."""
    of_true = np.where(right, chance, 1 - chance)
    return Loss(float(-_log(of_true).mean()), float(np.square(1 - of_true).mean()))


def _log(chance: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(chance, 1e-300)))
