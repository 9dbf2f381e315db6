"""How often is the right card named when its picture is damaged? The product's answers, other ways, and the misses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helpers.evaluate.answers import Answers, Catalogue
from helpers.evaluate.dense import Dense
from helpers.evaluate.findings import MOST_MISSES, Baselines, Camera, Distorted, Miss, Variant
from helpers.evaluate.metrics import ranks, recall
from helpers.evaluate.queries import CONDITIONS, ROUNDS, Queries
from helpers.recognise.evaluation import Share

PRODUCT = "the product's answer"


def camera(asked: Queries, given: Answers, catalogue: Catalogue) -> Camera:
    """The product's answers, condition by condition."""
    at = []
    for number, condition in enumerate(CONDITIONS):
        some = np.flatnonzero(asked.under(number))
        part, rank, cards = asked[some], given.rank[some], catalogue.cards(asked[some])
        by_seed = tuple(_share(catalogue, part[part.round == i], rank[part.round == i] == 1) for i in range(ROUNDS))
        at.append(Distorted(condition, recall(rank, cards), recall(given.illustration_rank[some], cards), by_seed))
    return Camera(len(catalogue.keys), len(asked), tuple(at))


def baselines(dense: Dense, asked: Queries, given: Answers, catalogue: Catalogue) -> Baselines:
    """The same queries ranked in other ways, where a tie counts as right."""
    names, ways = catalogue.names, dense.ways
    first = {str(way): np.zeros(len(asked), bool) for way in ways}
    for part, scores in dense.scored(asked, ways):
        for way in ways:
            first[str(way)][part] = ranks(scores[way], names, names.of[asked.row[part]]) == 1
    weights = {str(way): dense.weight(way) for way in ways}
    variants = []
    for name, right in {PRODUCT: given.right, **first}.items():
        each = tuple(_share(catalogue, asked[asked.under(i)], right[asked.under(i)]) for i in range(len(CONDITIONS)))
        variants.append(Variant(name, each, _share(catalogue, asked, right), weights.get(name)))
    return Baselines(len(catalogue.keys), CONDITIONS, tuple(variants))


def _share(catalogue: Catalogue, asked: Queries, hits: NDArray[np.bool_]) -> Share:
    return Share.of(catalogue.cards(asked), hits.tolist())


def misses(asked: Queries, given: Answers, catalogue: Catalogue) -> tuple[Miss, ...]:
    """The worst of the wrong answers: those that were sure, then those that stood clearest."""
    wrong = np.flatnonzero(~given.right)
    worst = wrong[np.lexsort((-given.clear[wrong], ~given.sure[wrong]))][:MOST_MISSES]
    return tuple(_miss(place, asked, given, catalogue) for place in worst.tolist())


def _miss(place: int, asked: Queries, given: Answers, catalogue: Catalogue) -> Miss:
    ranking, row = given.rankings[place], int(asked.row[place])
    own = ranking.scores[catalogue.names.of[ranking.rows] == catalogue.names.of[row]]
    answered = int(ranking.rows[0])
    return Miss(
        condition=CONDITIONS[asked.condition[place]],
        round=int(asked.round[place]),
        row=row,
        name=catalogue.keys[row],
        rank=int(given.rank[place]) or None,
        score=float(own.max()) if len(own) else None,
        answered_row=answered,
        answered_name=catalogue.keys[answered],
        answered_score=float(ranking.scores[0]),
        margin=None if ranking.margin is None else float(ranking.margin),
        gap=None if ranking.gap is None else float(ranking.gap),
        sure=bool(given.sure[place]),
    )
