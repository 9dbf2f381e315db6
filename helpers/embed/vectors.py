"""The unit-row contract of embeddings, and their int8 form for the browser: both directions side by side."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.errors import Category, PipelineError

METRIC = "inner_product"  # of unit rows: the cosine
NORM_TOLERANCE = 1e-5
SCALE_FACTOR = 127
_CHUNK = 4096  # rows that are in memory as float64 at a time
SCALE_SAMPLE = 1000  # rows that a scale is chosen for: each is compared with each
_SPREADS = (3, 4, 5, 6, 7, 8)  # standard deviations of a value that int8 may hold
BROWSER_FORMAT_VERSION = "1.0"

# The part of meta.json that says how embeddings.i8bin was made.
QUANTIZATION: dict[str, Any] = {
    "dtype": "int8",
    "scale_factor": SCALE_FACTOR,
    "original_dtype": "float32",
    "note": "round(x * 127) to the nearest; divide by 127, do not normalise again, the dot product is the cosine; "
    "rounding can take it a little above 1, with int8 on both sides to 1.02: take that as 1",
}


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row of float32 [B, D] to L2 norm 1 (in float64, so that the norm holds to 1e-7)."""
    scaled = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), _CHUNK):
        wide = rows[start : start + _CHUNK].astype(np.float64)
        norms = np.linalg.norm(wide, axis=1, keepdims=True)
        scaled[start : start + _CHUNK] = wide / np.where(norms > 0, norms, 1)
    return scaled


def check_unit_rows(rows: NDArray[np.float32], source: str) -> None:
    """PipelineError (Validation Error) naming the first row of float32 [N, D] that is not finite or not of norm 1."""
    if rows.ndim != 2 or rows.dtype != np.float32:
        raise _broken(source, f"expected float32 [N, D], found {rows.dtype} {list(rows.shape)}")
    off = off_unit_rows(rows)
    if off.size:
        norm = float(np.linalg.norm(rows[off[0]].astype(np.float64)))
        raise _broken(source, f"row {int(off[0]):,} has norm {norm}, not 1")


def off_unit_rows(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """The numbers of the rows of float32 [N, D] (may be memory-mapped) that are not finite or not of norm 1."""
    off = [np.empty(0, np.int64)]
    for start in range(0, len(rows), 1024):
        norms = np.linalg.norm(rows[start : start + 1024].astype(np.float64), axis=1)
        off.append(start + np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE)))  # NaN is off too
    return np.concatenate(off)


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the row numbers 0..count - 1, evenly spread."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


def quantize(rows: NDArray[np.float32], scale: float = SCALE_FACTOR) -> NDArray[np.int8]:
    """Unit rows float32 [N, D] -> int8 [N, D] in -127..127: round(x * scale), to the nearest, ties to even.

    Truncation toward zero instead would shrink every dot product to about 0.93 of itself.
    """
    codes: NDArray[np.int8] = np.rint(np.clip(rows * np.float32(scale), -SCALE_FACTOR, SCALE_FACTOR)).astype(np.int8)
    return codes


def best_scale(rows: NDArray[np.float32]) -> float:
    """The scale with which `quantize` loses least of unit rows float32 [B, D], B >= 1, SCALE_SAMPLE or fewer.

    What counts is the error of a row's cosines with itself and its nearest: a small scale rounds them, a large one cuts
    off the largest values.
    """
    spread = float(np.sqrt(np.square(rows, dtype=np.float64).mean()))
    largest = float(np.abs(rows).max())
    limits = [*(spreads * spread for spreads in _SPREADS if spreads * spread < largest), largest]
    exact = rows @ rows.T
    nearest = np.argsort(-exact, axis=1)[:, :2]

    def lost(scale: float) -> float:
        off = rows @ (quantize(rows, scale) / np.float32(scale)).T - exact
        return float(np.square(np.take_along_axis(off, nearest, axis=1)).mean())

    least: float = min((SCALE_FACTOR / limit for limit in limits), key=lost)
    return round(least, 4)


def dequantize(codes: NDArray[np.int8]) -> NDArray[np.float32]:
    """int8 [N, D] -> float32 [N, D], what a client computes with; each value within 1/254 of the original."""
    rows: NDArray[np.float32] = codes.astype(np.float32) / np.float32(SCALE_FACTOR)
    return rows


def _broken(source: str, details: str) -> PipelineError:
    return PipelineError.of(
        Category.VALIDATION,
        f"{source} does not hold unit vectors",
        details=details,
        suggestion="rebuild the index with build_embeddings.py",
    )
