"""When the product is sure, is it right, and does it know what it does not know?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from helpers.evaluate.answers import Answers, Catalogue, of_strangers
from helpers.evaluate.findings import Condition, Samples, Strangers, StrangersAt
from helpers.evaluate.queries import CONDITIONS, Queries, condition_of
from helpers.recognise.evaluation import MAX_STRANGERS, Share, held_out, threshold
from helpers.recognise.ranking import Ranker

CONDITIONS_ASKED = tuple(condition_of(*one) for one in (("corners", 0), ("corners", 6), ("mixed", 0.5), ("mixed", 1)))
MOST_SAMPLES = 500
ALL = Condition("all", len(CONDITIONS_ASKED), "conditions")


def strangers(ranker: Ranker, asked: Queries, given: Answers, catalogue: Catalogue, *, suggests: bool) -> Strangers:
    """Ask the queries of CONDITIONS_ASKED as if the index lacked their cards; `given` are the answers of `asked`.

    `suggests`: whether queries rank as `ranker` does, so that a threshold for them can be suggested.
    """
    some = np.flatnonzero(np.isin(asked.condition, CONDITIONS_ASKED))
    part, cards = asked[some], catalogue.cards(asked[some])
    right, known_clear = given.right[some], given.clear[some]
    clear, sure = of_strangers(ranker, part, catalogue)
    found = held_out(np.where(right, known_clear, -np.inf), cards, clear, cards)
    hits = (right & given.sure[some], sure, found.known, found.strangers)

    def at(condition: Condition, which: NDArray[np.bool_]) -> StrangersAt:
        return StrangersAt(condition, *(_share(cards, each, which) for each in hits))

    suggested = threshold(clear) if suggests else -np.inf
    return Strangers(
        rows=len(catalogue.keys),
        sure_above=ranker.settings.sure_above,
        at=tuple(at(CONDITIONS[number], part.under(number)) for number in CONDITIONS_ASKED),
        overall=at(ALL, np.ones(len(part), bool)),
        max_strangers=MAX_STRANGERS,
        thresholds=tuple(each for each in found.thresholds if np.isfinite(each)),
        suggested=math.ceil(1000 * suggested) / 1000 if np.isfinite(suggested) else None,
        samples=Samples(_sample(known_clear[right]), _sample(known_clear[~right]), _sample(clear)),
    )


def _share(cards: Sequence[str], hits: NDArray[np.bool_], which: NDArray[np.bool_]) -> Share:
    places = np.flatnonzero(which).tolist()
    return Share.of([cards[place] for place in places], hits[which].tolist())


def _sample(values: NDArray[np.float64]) -> tuple[float, ...]:
    finite = values[np.isfinite(values)]
    picked = np.random.default_rng(0).permutation(len(finite))[:MOST_SAMPLES]
    return tuple(round(value, 4) for value in np.sort(finite[picked]).tolist())
