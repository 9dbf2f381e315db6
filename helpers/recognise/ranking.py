"""Which cards are nearest to a cut-out, by independent signatures, and how clear is that?

The vector knows what a card looks like, whatever its corners and the light; the hash knows one picture from another
that looks like it. Either proposes candidates, and both judge them: score = cosine - weight x share of differing bits;
where the index has a whitening, the cosine between whitened vectors. Evidence is a third signature, where there is some
(what was read on the card, say): it proposes rows, too, and adds to their scores. The gaps between the best name and
others say how clear it is.

Where only some rows may be the answer (a filter), both signatures propose among these by exact search: a graph's walk
would meet few of them. The other names are still those of all rows: a picture of a card that the filter leaves out must
not make us sure of the best one that is left.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from helpers.cards.faces import CardFace, Records
from helpers.embed.dhash import HASH_BITS
from helpers.index.manifest import Recognition
from helpers.index.whitening import Whitening

if TYPE_CHECKING:
    from helpers.index.faiss_index import CardIndex, HashIndex

CANDIDATES = 64  # rows that each signature proposes
CANDIDATES_AMONG = 512  # of rows that pass a filter
LIKELY = 0.5  # of what `sure` asks for: with less, a region beside a better one is not taken for a card
NO_ROWS: NDArray[np.int64] = np.empty(0, np.int64)
OTHER_NAMES = 10  # whose mean the gap is measured to


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates for one cut-out, best first."""

    rows: NDArray[np.int64]  # [C]
    scores: NDArray[np.float32]  # [C]
    margin: float | None  # from the best score to that of the best other name; None if there is no other
    gap: float | None  # to the mean of the ten best other names
    sure: bool | None
    likely: bool | None

    @property
    def strength(self) -> float:
        """To compare cut-outs of one picture: of a card, and of something else, one way up and another."""
        return float(self.scores[0]) + (self.margin or 0.0) + (self.gap or 0.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a second look at a card says for rows of the index; for any other row nothing."""

    rows: NDArray[np.int64]  # [R], in order
    strength: NDArray[np.float32]  # [R], 0..1 by each kind of evidence

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The strength for each of `rows` [C], float32 [C]."""
        found = np.zeros(len(rows), np.float32)
        if len(self.rows):
            places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
            there = self.rows[places] == rows
            found[there] = self.strength[places[there]]
        return found

    def __add__(self, other: Evidence) -> Evidence:
        """What both say."""
        rows = np.union1d(self.rows, other.rows)
        return Evidence(rows, self.of(rows) + other.of(rows))


NO_EVIDENCE = Evidence(NO_ROWS, np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class CutOut:
    """A picture of a card, as the ranker knows it."""

    ranking: Ranking  # of all rows but those that are masked
    vector: NDArray[np.float32]  # [D]
    digest: NDArray[np.uint8]  # [32]
    evidence: Evidence = NO_EVIDENCE


class Ranker:
    """Ranks cut-outs against the rows of an index; safe to use from several threads."""

    def __init__(
        self,
        index: CardIndex,
        hashes: NDArray[np.uint8] | None,
        records: Records,
        settings: Recognition,
        whitening: Whitening | None = None,
        among: NDArray[np.int64] | None = None,
        *,
        exact: bool = False,
    ) -> None:
        """`index` holds the rows as `whitening` maps them; `hashes` uint8 [N, 32] may be memory-mapped, or None.

        `among`: the only rows that may be the answer, in order. `exact`: the vectors propose by exact search.
        """
        from helpers.index.faiss_index import HashIndex, RowsAmong  # their home, see there

        self.index = index
        self._hashes = hashes
        self._hash_index: HashIndex | None = None if hashes is None else HashIndex(hashes)
        self._records = records
        self._among = None if among is None else RowsAmong(among, index.rows(among), hashes)
        self._passes = np.ones(len(index), bool) if among is None else np.isin(np.arange(len(index)), among)
        self._by_name: dict[str, list[int]] | None = None
        self.settings = settings
        self._whitening = whitening
        self._exact = exact

    def nearest_hashes(
        self, hashes: NDArray[np.uint8], masked: NDArray[np.int64] = NO_ROWS
    ) -> NDArray[np.int32] | None:
        """How many bits each of the hashes uint8 [Q, 32] differs from the nearest row's; None without hashes."""
        if self._hash_index is None:
            return None
        bits, rows = self._hash_index.search(hashes, 1 + len(masked))
        return np.asarray(np.where(np.isin(rows, masked), HASH_BITS, bits).min(axis=1), np.int32)

    def rank(
        self, vectors: NDArray[np.float32], hashes: NDArray[np.uint8], masked: NDArray[np.int64] = NO_ROWS
    ) -> list[Ranking]:
        """Rank unit rows float32 [Q, D] with hashes uint8 [Q, 32], as if the index lacked the rows `masked`.

        All rows compete, those that may not be the answer, too: where the cards are does not depend on a filter.
        """
        count = CANDIDATES + len(masked)
        search = self.index.search_exactly if self._exact else self.index.search
        _, proposed = search(self._mapped(vectors), count)
        if self._hash_index is not None:
            _, by_hash = self._hash_index.search(hashes, count)
            proposed = np.concatenate([proposed, by_hash], axis=1)
        ranked = []
        for vector, digest, candidates in zip(vectors, hashes, proposed, strict=True):
            rows = np.setdiff1d(candidates[candidates >= 0], masked)
            ranked.append(self.order(rows, self._by_look(vector, digest, rows)))
        return ranked

    def answer(
        self, vectors: NDArray[np.float32], hashes: NDArray[np.uint8], masked: NDArray[np.int64] = NO_ROWS
    ) -> list[Ranking]:
        """`rank`, then `together` for each alone."""
        ranked = zip(self.rank(vectors, hashes, masked), vectors, hashes, strict=True)
        return [self.together([CutOut(*cut_out)], masked) for cut_out in ranked]

    def reranked(self, cut_out: CutOut, masked: NDArray[np.int64] = NO_ROWS) -> Ranking:
        """`rank`, by the evidence, too."""
        rows = np.setdiff1d(np.union1d(cut_out.ranking.rows, cut_out.evidence.rows), masked)
        return self.order(rows, self.scores(cut_out, rows))

    def together(self, cut_outs: Sequence[CutOut], masked: NDArray[np.int64] = NO_ROWS) -> Ranking:
        """What cut-outs of one card, at least one, show together: every row that any proposes, by its mean score.

        Only rows that may be the answer are kept; the others still compete with the best name.
        """
        rows = np.unique(np.concatenate([self._proposed(cut_out, masked) for cut_out in cut_outs]))
        scores = np.mean([self.scores(cut_out, rows) for cut_out in cut_outs], axis=0)
        return self.order(rows, np.asarray(scores, np.float32), self._passes[rows])

    def _proposed(self, cut_out: CutOut, masked: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of a cut-out's ranking, and the nearest ones that may be the answer."""
        if self._among is None:
            return cut_out.ranking.rows
        vector, digest = self._mapped(cut_out.vector[None]), cut_out.digest[None]
        nearest = self._among.search(vector, digest, CANDIDATES_AMONG + len(masked))[0]
        return np.setdiff1d(np.union1d(cut_out.ranking.rows, nearest), masked)

    @property
    def has_hashes(self) -> bool:
        """Whether the index has any."""
        return self._hashes is not None

    @property
    def candidates(self) -> int:
        """How many rows may be the answer."""
        return int(self._passes.sum())

    def leaves_none(self, masked: NDArray[np.int64]) -> bool:
        """Whether no row may be the answer if the rows `masked` may not."""
        return bool(self._passes[masked].sum() == self.candidates)

    def rows_of(self, names: Collection[str]) -> NDArray[np.int64]:
        """The rows whose faces have one of these names, in order; the first call reads all metadata."""
        if self._by_name is None:
            by_name: dict[str, list[int]] = {}
            for row, face in enumerate(self._records):
                by_name.setdefault(face.name, []).append(row)
            self._by_name = by_name
        return np.array(sorted(row for name in names for row in self._by_name.get(name, ())), np.int64)

    def scores(self, cut_out: CutOut, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The scores of `rows` [C] by all that is known of a cut-out, float32 [C]."""
        by_look = self._by_look(cut_out.vector, cut_out.digest, rows)
        return np.asarray(by_look + np.float32(self.settings.read_weight) * cut_out.evidence.of(rows), np.float32)

    def _by_look(
        self, vector: NDArray[np.float32], digest: NDArray[np.uint8], rows: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The scores of `rows` [C] for a unit vector float32 [D] and a hash uint8 [32], float32 [C]."""
        cosines = self.index.rows(rows) @ self._mapped(vector[None])[0]
        if self._hashes is None:
            return np.asarray(cosines, np.float32)
        differing = np.unpackbits(self._hashes[rows] ^ digest, axis=1).sum(axis=1, dtype=np.float32)
        return np.asarray(cosines - np.float32(self.settings.hash_weight) * differing / HASH_BITS, np.float32)

    def _mapped(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors if self._whitening is None else self._whitening(vectors)

    def order(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], passes: NDArray[np.bool_] | None = None
    ) -> Ranking:
        """The rows by score, and how far the best name is from others; only rows that `passes` are kept."""
        order = np.argsort(-scores, kind="stable")
        rows, scores = rows[order], scores[order]
        kept = np.ones(len(rows), bool) if passes is None else passes[order]
        names: dict[str, float] = {}
        for face, score in zip(self.faces(rows), scores.tolist(), strict=True):
            names.setdefault(face.name, score)  # each name's best
        rows, scores = rows[kept], scores[kept]
        if len(rows):
            names.pop(self.faces(rows[:1])[0].name)
        others = [*names.values()][:OTHER_NAMES]
        if not len(rows) or not others:
            return Ranking(rows, scores, None, None, None, None)
        best = float(scores[0])
        margin, gap = best - others[0], best - sum(others) / len(others)
        sure_above = self.settings.sure_above
        return Ranking(rows, scores, margin, gap, margin + gap >= sure_above, margin + gap >= LIKELY * sure_above)

    def faces(self, rows: NDArray[np.int64]) -> Sequence[CardFace]:
        """The metadata of the rows."""
        return [self._records[row] for row in rows.tolist()]
