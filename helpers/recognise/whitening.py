"""Cosines that tell cards apart: directions in which all cards differ count less, what few of them have counts more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.embed.vectors import unit_rows

MIN_ROWS = 8  # with fewer there is no spread to speak of
SAMPLE = 20_000  # rows, evenly spread: a fifth of a second
_LEAST_SPREAD = 1e-6  # mean squared distance of rows to their mean: below, it is rounding


@dataclass(frozen=True, slots=True)
class Whitening:
    """A linear map of vectors, fitted to an index's own rows: it needs no labels.

    The mean is subtracted, the result turned to the principal axes and divided by sqrt(eigenvalue + ridge), and
    brought to norm 1 (Jegou & Chum, Negative evidences and co-occurences in image retrieval, 2012). The ridge, a
    multiple of the mean eigenvalue, keeps noise in the weak directions from being blown up.
    """

    mean: NDArray[np.float32]  # [D]
    axes: NDArray[np.float32]  # [D, D]

    @classmethod
    def fit(cls, rows: NDArray[np.float32], ridge: float) -> Whitening | None:
        """Fit to unit rows float32 [N, D].

        None, which means to leave vectors as they are, for fewer than MIN_ROWS, and for rows that are all the same.
        """
        if len(rows) < MIN_ROWS:
            return None
        places = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int64)
        sample = np.asarray(rows[places], np.float64)
        mean = sample.mean(axis=0)
        values, axes = np.linalg.eigh((sample - mean).T @ (sample - mean) / len(sample))
        if values.sum() < _LEAST_SPREAD:
            return None
        strength = np.maximum(values, 0) + ridge * values.mean()
        return cls(mean.astype(np.float32), (axes / np.sqrt(strength)).astype(np.float32))

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, D] -> unit rows float32 [B, D], comparable with each other alone."""
        return unit_rows(np.asarray((rows - self.mean) @ self.axes, np.float32))
