"""The product's own answers to the queries, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.cards.faces import Records
from helpers.evaluate.asking import clearness
from helpers.evaluate.metrics import Groups, rank_among
from helpers.evaluate.queries import Queries
from helpers.recognise.ranking import Ranker, Ranking


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What the rows of an index show."""

    keys: Sequence[str]  # [N], the names
    names: Groups
    illustrations: Groups  # a row without an illustration_id counts as its name

    @classmethod
    def of(cls, records: Records) -> Catalogue:
        """Read all metadata."""
        keys, arts = [], []
        for face in records:
            keys.append(face.name)
            arts.append(face.illustration_id or face.name)
        return cls(keys, Groups.by(keys), Groups.by(arts))

    def cards(self, asked: Queries) -> list[str]:
        """The name of each query's card."""
        return [self.keys[row] for row in asked.row.tolist()]


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to queries [Q]."""

    rank: NDArray[np.int64]  # of the right name; 0: not among the candidates
    illustration_rank: NDArray[np.int64]
    clear: NDArray[np.float64]  # margin + gap; -inf if there is none
    sure: NDArray[np.bool_]
    rankings: Sequence[Ranking]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which named the right card: the name of the row that is shown first."""
        return np.asarray(self.rank == 1)


def answers(ranker: Ranker, asked: Queries, catalogue: Catalogue) -> Answers:
    """What the product says, as if each query were a card that was cut out of a photograph."""
    rankings = ranker.answer(asked.vectors, asked.dhashes)
    names, arts = catalogue.names.of, catalogue.illustrations.of
    rank = [rank_among(names[r.rows], names[row]) for r, row in zip(rankings, asked.row, strict=True)]
    art = [rank_among(arts[r.rows], arts[row]) for r, row in zip(rankings, asked.row, strict=True)]
    clear = np.array([_clear(ranking) for ranking in rankings], np.float64)
    sure = np.array([bool(ranking.sure) for ranking in rankings], bool)
    return Answers(np.array(rank, np.int64), np.array(art, np.int64), clear, sure, rankings)


def of_strangers(ranker: Ranker, asked: Queries, catalogue: Catalogue) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give margin + gap [Q], and whether that is sure [Q], with all rows of each query's card masked."""
    clear, sure = np.full(len(asked), -np.inf), np.zeros(len(asked), bool)
    for place, row in enumerate(asked.row.tolist()):
        one = slice(place, place + 1)
        masked = np.sort(catalogue.names.rows(int(catalogue.names.of[row])))
        if ranker.leaves_none(masked):
            continue
        (ranking,) = ranker.answer(asked.vectors[one], asked.dhashes[one], masked)
        clear[place], sure[place] = _clear(ranking), bool(ranking.sure)
    return clear, sure


def _clear(ranking: Ranking) -> float:
    clear = clearness(ranking)
    return -np.inf if clear is None else clear
