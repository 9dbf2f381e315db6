"""Cosines that tell cards apart: directions in which all cards differ count less, what few of them have counts more."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.embed.vectors import evenly, unit_rows

MIN_ROWS = 8  # with fewer there is no spread to speak of
SAMPLE = 10_000  # rows, evenly spread: a second or two
NEAR = 0.9  # centred cosine from which rows are near-duplicates: reprints, other languages
_LEAST_SPREAD = 1e-6  # mean squared distance of rows to their mean: below, it is rounding
_CHUNK = 65536  # rows copied at a time


@dataclass(frozen=True, slots=True)
class Whitening:
    """A linear map of vectors, fitted to an index's own rows: it needs no labels.

    The mean is subtracted, the result turned to the first K principal axes and divided by sqrt(eigenvalue + ridge), and
    brought to norm 1 (Jegou & Chum, Negative evidences and co-occurences in image retrieval, 2012). The ridge, a
    multiple of the mean eigenvalue, keeps noise in the weak directions from being blown up.
    """

    mean: NDArray[np.float32]  # [D]
    axes: NDArray[np.float32]  # [D, K]

    @classmethod
    def fit(cls, rows: NDArray[np.float32], ridge: float, dimensions: int | None = None) -> Whitening | None:
        """Fit to unit rows float32 [N, D]; K is `dimensions`, at most D (None: D).

        Near-duplicates together count as one row: a card with a hundred reprints must not shape the map. None, which
        means to leave vectors as they are, for fewer than MIN_ROWS, and for rows that are all the same.
        """
        if len(rows) < MIN_ROWS:
            return None
        sample = np.asarray(rows[evenly(len(rows), SAMPLE)], np.float64)
        weights = _weights(sample - sample.mean(axis=0))
        mean = weights @ sample
        values, axes = np.linalg.eigh((sample - mean).T * weights @ (sample - mean))
        if values.sum() < _LEAST_SPREAD:
            return None
        strength = np.maximum(values, 0) + ridge * values.mean()
        strongest = slice(None, None, -1)  # eigh's are in ascending order
        axes = (axes / np.sqrt(strength))[:, strongest][:, :dimensions]
        return cls(mean.astype(np.float32), np.ascontiguousarray(axes, np.float32))

    @classmethod
    def load(cls, path: Path) -> Whitening:
        """Read what `save` wrote; OSError, or zipfile.BadZipFile, ValueError or KeyError if it is something else."""
        with zipfile.ZipFile(path) as packed:
            if sum(member.file_size for member in packed.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed, which no build does: it may fill the memory")
        with np.load(path) as file:
            return cls(file["mean"], file["axes"])

    def save(self, path: Path) -> None:
        """Write it as an .npz with `mean` and `axes`."""
        with open(path, "wb") as file:
            np.savez(file, mean=self.mean, axes=self.axes)

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, D] -> unit rows float32 [B, K], comparable with each other alone."""
        mapped = np.empty((len(rows), self.dimensions), np.float32)
        for start in range(0, len(rows), _CHUNK):
            part = (rows[start : start + _CHUNK] - self.mean) @ self.axes
            mapped[start : start + _CHUNK] = unit_rows(np.asarray(part, np.float32))
        return mapped

    @property
    def dimensions(self) -> int:
        """K."""
        return int(self.axes.shape[1])


def _weights(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each row counts [N], in all 1: one over the number of rows that are near-duplicates of it."""
    unit = unit_rows(np.asarray(centred, np.float32))
    counts = np.concatenate(
        [(part @ unit.T >= NEAR).sum(axis=1) for part in np.array_split(unit, len(unit) // 512 + 1)]
    )
    weights = 1 / np.maximum(counts, 1)  # a row at the mean is not even near itself
    return np.asarray(weights / weights.sum())
