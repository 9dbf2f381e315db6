"""Which rows show the same picture: groups of rows that are identical, or nearly so."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

NEAR = 1.2e-3  # from the first of a group its twins are at most this far: cosines above 1 - 1e-6, which count as ties
_DIRECTIONS = 8  # near rows are looked for in cells: where rows lie along so many random directions
_CELL = 0.05  # much wider than NEAR, so that few groups are cut by the border of a cell
_ROUNDS = 8  # so many groups of near rows are found in one cell; other rows in it count as distinct
_CHUNK = 8192  # rows in memory at a time


def first_twins(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each row of float32 [N, D] (may be memory-mapped) the first row of its group; a distinct row is its own.

    Identical rows share a group. Nearly identical ones may be spread over a few groups.
    """
    rng = np.random.default_rng(0)
    weights = rng.integers(1 << 62, size=(rows.shape[1],), dtype=np.int64)
    directions = rng.standard_normal((rows.shape[1], _DIRECTIONS)) / _CELL
    identical = _keys(rows, lambda chunk: chunk.view(np.int32).astype(np.int64) @ weights)
    near = _keys(rows, lambda chunk: np.floor(chunk @ directions).astype(np.int64) @ weights[:_DIRECTIONS])
    first = _grouped(rows, np.arange(len(rows)), identical, rounds=1)
    return _grouped(rows, np.flatnonzero(first == np.arange(len(rows))), near, rounds=_ROUNDS)[first]


def _keys(rows: NDArray[np.float32], key: Callable[[NDArray[np.float32]], NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([key(rows[start : start + _CHUNK]) for start in range(0, len(rows), _CHUNK)])


def _grouped(
    rows: NDArray[np.float32], left: NDArray[np.int64], keys: NDArray[np.int64], rounds: int
) -> NDArray[np.int64]:
    """The first twin of each row, where only the rows `left` have any, and only rows with the same key are twins."""
    first = np.arange(len(rows))
    for _ in range(rounds):
        _, firsts, key = np.unique(keys[left], return_index=True, return_inverse=True)
        head = left[firsts[key]]
        near = _near(rows, left, head)
        first[left[near]] = head[near]
        left = left[~near]
    return first


def _near(rows: NDArray[np.float32], some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the rows `some` are within NEAR of the row beside them in `others`."""
    near: NDArray[np.bool_] = some == others
    pairs = np.flatnonzero(~near)
    for start in range(0, len(pairs), _CHUNK):
        part = pairs[start : start + _CHUNK]
        near[part] = np.linalg.norm(rows[some[part]] - rows[others[part]], axis=1) <= NEAR
    return near
