"""How does recall fall with the number of cards in the index?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from helpers.evaluate.answers import Catalogue
from helpers.evaluate.dense import Dense, Way
from helpers.evaluate.findings import AtSize, Predicted, Size, Tail
from helpers.evaluate.metrics import best_of
from helpers.evaluate.queries import CONDITIONS, ROUNDS, Queries, condition_of
from helpers.recognise.evaluation import Share

CONDITION = condition_of("mixed", 1)  # hard enough to have errors
SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the names
PREDICTED = (54_000, 117_000, 540_000)  # rows: Scryfall's unique_artwork, default_cards, all_cards
FORMULA = "share of wrong answers = a * rows ** b"
_LEAST_SIZES = 3  # that have errors, for a line through them


def size(dense: Dense, way: Way, asked: Queries, catalogue: Catalogue, seed: int) -> Size:
    """Recall@1 of a way to rank among some of the names, all rows of each; the asked card's own is always one of them.

    In each round the names come in another random order, and a size has the first of the others: smaller samples are
    part of larger ones. How many rows a sample has differs from card to card: about their share of all.
    """
    part = asked[asked.under(CONDITION)]
    beaten = _beaten_at(dense, way, part, catalogue, seed)
    cards, names = catalogue.cards(part), catalogue.names
    counts = sorted({max(1, round(share * names.count)) for share in SHARES})
    at = tuple(
        AtSize(round(len(catalogue.keys) * count / names.count), count, Share.of(cards, (beaten >= count - 1).tolist()))
        for count in counts
    )
    return Size(CONDITIONS[CONDITION], f"{way}, compared with every row", at, fitted_tail(at))


def _beaten_at(dense: Dense, way: Way, asked: Queries, catalogue: Catalogue, seed: int) -> NDArray[np.int64]:
    """How many other names, in a query's order, come before the first [Q] that scores higher than its own.

    All of them, names.count - 1, if none does.
    """
    names = catalogue.names
    orders = [np.random.default_rng((seed, round)).permutation(names.count) for round in range(ROUNDS)]
    beaten = np.full(len(asked), names.count - 1)
    for part, scores in dense.scored(asked, [way]):
        some = asked[part]
        above = scores[way] > best_of(scores[way], names, names.of[some.row])[:, None]
        own = names.of[some.row].tolist()
        for place, (higher, round, name) in enumerate(zip(above, some.round.tolist(), own, strict=True), part.start):
            places = orders[round][names.of[higher]]
            places -= places > orders[round][name]  # among the others
            beaten[place] = places.min(initial=names.count - 1)
    return beaten


def fitted_tail(at: Sequence[AtSize]) -> Tail | None:
    """A straight line through the logarithms of sizes and errors, by least squares; None if fewer than three
    sizes have errors.

    Nothing but the fit says that errors go on so: far beyond the largest size it is a guess.
    """
    wrong = [(one.rows, one.recall_at_1) for one in at if one.recall_at_1.hits < one.recall_at_1.total]
    if len(wrong) < _LEAST_SIZES:
        return None
    rows = np.log([count for count, _ in wrong])
    errors = np.log([1 - share.hits / share.total for _, share in wrong])
    b, log_a = np.polyfit(rows, errors, 1).tolist()
    a = float(np.exp(log_a))
    largest = at[-1].rows
    predicted = (
        Predicted(count, min(1.0, max(0.0, 1 - a * count**b)), extrapolated=count > largest) for count in PREDICTED
    )
    return Tail(FORMULA, a, b, tuple(predicted))
