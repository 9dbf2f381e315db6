"""`make bench-index`: does every row find itself, beside many rows that are identical or nearly so?

1,000 distinct rows of width 512 beside one group of rows, in an index of FAISS's own making (plain) and in ours. For
each: rows whose own vector finds them (by score, so that of a twin will do), recall@10 of the distinct rows moved to a
cosine of 0.75, the efSearch chosen, and seconds, in ours for all that a build does. In recall@10 a row is right where
its score is among the ten best, or where it belongs to the group and one of the true ten does: twins show one picture,
and which of a thousand come first says nothing. At the end the seconds of 20,000 ordinary rows, half of them twins.
"""

import time

import faiss
import numpy as np
from numpy.typing import NDArray

from helpers.embed.vectors import unit_rows
from helpers.index.faiss_index import QUERY_COSINE, CardIndex, exact_search

WIDTH, DISTINCT, M, EF_CONSTRUCTION, TIE = 512, 1000, 32, 200, 1e-6
GROUPS = [(size, 0.0) for size in (1, 10, 100, 1000, 5000)]
GROUPS += [(size, distance) for size in (1000, 5000) for distance in (1e-5, 1e-4, 1e-3, 1e-2)]

Rows = NDArray[np.float32]


def beside_a_group(size: int, distance: float) -> Rows:
    """Distinct rows, then the rows of a group that are about `distance` from each other."""
    rng = np.random.default_rng(0)
    centres = unit_rows(1 + rng.standard_normal((DISTINCT + 1, WIDTH), dtype=np.float32))
    off = unit_rows(rng.standard_normal((size, WIDTH), dtype=np.float32))
    return np.concatenate([centres[:-1], unit_rows(centres[-1] + np.float32(distance / np.sqrt(2)) * off)])


def ordinary(count: int) -> Rows:
    """Pairs of rows at a distance of about 0.02, half of them identical."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((count // 2, 64), dtype=np.float32) @ rng.standard_normal((64, WIDTH), dtype=np.float32)
    rows = np.repeat(kinds / np.float32(8) + 1 + rng.standard_normal(kinds.shape, dtype=np.float32), 2, axis=0)
    rows[1::4] += 0.02 * rng.standard_normal(rows[1::4].shape, dtype=np.float32)
    return unit_rows(rows[rng.permutation(count)])


def plain(rows: Rows, m: int) -> CardIndex:
    """What FAISS makes of all rows at once."""
    hnsw = faiss.IndexHNSWFlat(rows.shape[1], m, faiss.METRIC_INNER_PRODUCT)
    hnsw.hnsw.efConstruction = EF_CONSTRUCTION
    hnsw.add(rows)
    index = CardIndex(hnsw)
    index.tune_ef_search(rows)
    return index


def ours(rows: Rows, m: int) -> CardIndex:
    index = CardIndex.build(rows, m, EF_CONSTRUCTION)
    index.tune_ef_search(rows)
    index.link_unfound(rows)
    return index


def recall_at_10(index: CardIndex, rows: Rows) -> float:
    noise = unit_rows(np.random.default_rng(1).standard_normal((DISTINCT, WIDTH), dtype=np.float32))
    queries = unit_rows(QUERY_COSINE * rows[:DISTINCT] + np.float32(np.sqrt(1 - QUERY_COSINE**2)) * noise)
    best, nearest = exact_search(queries, rows, 10)
    scores, found = index.search(queries, 10)
    of_group = (found >= DISTINCT) & (nearest >= DISTINCT).any(axis=1, keepdims=True)
    return float(np.mean((scores >= best[:, -1:] - TIE) | of_group))


def measured(label: str, rows: Rows, m: int = M) -> None:
    for name, make in (("plain", plain), ("ours", ours)):
        started = time.monotonic()
        index = make(rows, m)
        seconds = time.monotonic() - started
        scores, _ = index.search(rows, 1)
        lost = int((scores[:, 0] < np.einsum("ij,ij->i", rows, rows) - TIE).sum())
        recall = recall_at_10(index, rows)
        print(f"{label:26} {name:5} {lost:5} {recall:9.4f} {index.ef_search:8} {seconds:7.1f}", flush=True)


def main() -> None:
    print(f"{'':26} {'':5} {'lost':>5} {'recall@10':>9} {'efSearch':>8} {'seconds':>7}")
    for size, distance in GROUPS:
        measured(f"M {M}, {size:,} rows at {distance:g}", beside_a_group(size, distance))
    for m in (4, 8):
        measured(f"M {m}, 1,000 rows at 0", beside_a_group(1000, 0), m)
    rows = ordinary(20_000)
    for name, make in (("plain", plain), ("ours", ours)):
        started = time.monotonic()
        make(rows, M)
        print(f"20,000 ordinary rows       {name:5} {'':24} {time.monotonic() - started:7.1f}", flush=True)


if __name__ == "__main__":
    main()
