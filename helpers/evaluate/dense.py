"""Queries compared with every row of the index, in several ways: how much is each part of the ranking worth?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.embed.dhash import HASH_BITS
from helpers.embed.vectors import unit_rows
from helpers.evaluate.queries import Queries
from helpers.index.whitening import Whitening

MOST_SCORES = 1 << 24  # in memory at a time, of each way

Scores = NDArray[np.float32]  # [Q, N]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to rank: by vectors, by a hash, or both: cosine - weight x share of differing bits."""

    vectors: str | None  # a key of `Dense.vectors`
    hash: str | None  # a key of `Dense.hashes`

    def __str__(self) -> str:
        return " + ".join(filter(None, [self.vectors, self.hash])) + (" alone" if not self.vectors else "")


@dataclass(frozen=True, slots=True)
class Dense:
    """All N rows in each form."""

    whitening: Whitening | None
    mean: NDArray[np.float32]  # [D], of all rows
    vectors: dict[str, NDArray[np.float32]]  # [N, D] or [N, K], unit rows
    hashes: dict[str, NDArray[np.float32]]  # [N, 256], each bit as -1 or 1
    hash_weights: dict[str, float]  # of the hash beside each form, as in `vectors`

    @classmethod
    def of(
        cls,
        rows: NDArray[np.float32],
        whitening: Whitening | None,
        hashes: dict[str, NDArray[np.uint8]],
        hash_weights: dict[str, float],
        *,
        centred: bool = True,
    ) -> Dense:
        """Of unit rows float32 [N, D] and their hashes uint8 [N, 32], by name; without `centred` rows if so asked.

        A weight that is good for whitened vectors is too large for raw ones: `hash_weights` has one for each form.
        """
        mean = np.asarray(rows.mean(axis=0), np.float32)
        vectors = {"raw": rows, **({"centred": unit_rows(rows - mean)} if centred else {})}
        if whitening is not None:
            vectors["whitened"] = whitening(rows)
        return cls(whitening, mean, vectors, {name: signs(each) for name, each in hashes.items()}, hash_weights)

    def weight(self, way: Way) -> float | None:
        """Of the hash in a way's score; None if it ranks by one of both alone."""
        return None if way.vectors is None or way.hash is None else self.hash_weights[way.vectors]

    @property
    def ways(self) -> list[Way]:
        """All that can be compared; the hash beside vectors is the difference hash, as in the product."""
        both = (None, "dHash") if "dHash" in self.hashes else (None,)
        return [Way(None, name) for name in self.hashes] + [Way(name, hash) for name in self.vectors for hash in both]

    def scored(self, asked: Queries, ways: Sequence[Way]) -> Iterator[tuple[slice, dict[Way, Scores]]]:
        """The scores of some queries after the others, for each of the ways: of which queries, and float32 [Q, N]."""
        step = max(1, MOST_SCORES // len(self.vectors["raw"]))
        for start in range(0, len(asked), step):
            part = slice(start, start + step)
            yield part, self._scores(asked[part], ways)

    def _scores(self, asked: Queries, ways: Sequence[Way]) -> dict[Way, Scores]:
        forms, kinds = {way.vectors for way in ways if way.vectors}, {way.hash for way in ways if way.hash}
        cosines = {name: self._mapped(name, asked.vectors) @ self.vectors[name].T for name in forms}
        digests = {"dHash": asked.dhashes, "pHash": asked.phashes}
        shares = {name: (1 - signs(digests[name]) @ self.hashes[name].T / HASH_BITS) / 2 for name in kinds}
        scores = {}
        for way in ways:
            if way.vectors is None:
                scores[way] = -shares[way.hash or ""]
            elif way.hash is None:
                scores[way] = cosines[way.vectors]
            else:
                scores[way] = cosines[way.vectors] - np.float32(self.hash_weights[way.vectors]) * shares[way.hash]
        return scores

    def _mapped(self, name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Queries, unit rows float32 [Q, D], as the rows of that name were made."""
        if name == "centred":
            return unit_rows(vectors - self.mean)
        return self.whitening(vectors) if name == "whitened" and self.whitening else vectors


def signs(hashes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [N, 32] -> float32 [N, 256], each bit as -1 or 1: of the product of two, 256 less twice what differs."""
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
