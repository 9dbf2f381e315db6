"""Does the search find what is nearest? HNSW, int8 and near-identical rows against exact search."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from helpers.embed.vectors import SCALE_FACTOR, SCALE_SAMPLE, best_scale, evenly, quantize, unit_rows
from helpers.evaluate.dense import MOST_SCORES
from helpers.evaluate.findings import AtEfSearch, Clusters, ExactSearch, Int8, Search
from helpers.evaluate.metrics import Groups
from helpers.evaluate.queries import Queries
from helpers.index.faiss_index import QUERY_COSINE, TIE, CardIndex, exact_search, is_found, moved_rows
from helpers.index.twins import first_twins
from helpers.index.whitening import Whitening
from helpers.recognise.evaluation import Share

EF_SEARCHES = (16, 32, 64, 128, 256, 512)
MOST_QUERIES = 1000
ENOUGH = 250  # distorted queries; with fewer, rows are moved instead
TIMED = 48  # queries whose latency is measured
BATCH = 12  # about as many regions of a photograph are asked at a time
NEAR = 0.95  # centred cosine from which rows are linked to a cluster
_NEIGHBOURS = 10
_CHUNK = 2048  # rows asked at a time


@dataclass(frozen=True, slots=True)
class SearchedIndex:
    """The index that queries search, and what it holds."""

    index: CardIndex
    rows: NDArray[np.float32]  # [N, K], unit rows: those of the model, or whitened
    whitening: Whitening | None
    names: Groups


@dataclass(frozen=True, slots=True)
class _Benchmark:
    """Unit rows [Q, K], what they were made of, and the truth."""

    vectors: NDArray[np.float32]
    row: NDArray[np.int64]  # [Q]
    made_of: str
    exact: NDArray[np.float32]  # [Q, k], cosines of the k nearest rows, at most ten
    nearest: NDArray[np.int64]  # [Q, k]
    first: NDArray[np.int64]  # [N], `first_twins`


def measured_search(
    searched: SearchedIndex, asked: Queries, raw: NDArray[np.float32], seconds: float
) -> tuple[Search, list[str]]:
    """Measure it, in about so many seconds; `raw` float32 [N, D] are the model's rows. And what was left out, in words.

    Sets the index's efSearch back to what it was.
    """
    queries, index = _queries(searched, asked), searched.index
    own = index.ef_search
    at = tuple(_at(index, ef, queries) for ef in EF_SEARCHES)
    index.ef_search = own
    exact_ms, exact_ms_of_12 = _latency(index.search_exactly, queries.vectors)
    clusters, left_out = _clusters(searched, queries, raw, seconds / 3)
    found = Search(
        rows=len(index),
        width=index.width,
        queries=len(queries.vectors),
        made_of=queries.made_of,
        ef_search=own,
        at=at,
        exact=ExactSearch(exact_ms, exact_ms_of_12),
        self_recall=_self_recall(index, searched.rows, seconds / 3),
        int8=_int8(searched, queries),
        clusters=clusters,
    )
    return found, left_out


def _queries(searched: SearchedIndex, asked: Queries) -> _Benchmark:
    first = first_twins(searched.rows)
    if len(asked) < ENOUGH:
        row, vectors = moved_rows(searched.rows, first, MOST_QUERIES)
        made_of = f"rows moved to cosine {QUERY_COSINE:g} by noise"
    else:
        picked = np.sort(np.random.default_rng(0).permutation(len(asked))[:MOST_QUERIES])
        row, vectors = asked.row[picked], asked.vectors[picked]
        vectors = vectors if searched.whitening is None else searched.whitening(vectors)
        made_of = "distorted pictures, all conditions"
    exact, nearest = exact_search(vectors, searched.rows, min(_NEIGHBOURS, len(searched.rows)))
    return _Benchmark(vectors, row, made_of, exact, nearest, first)


def _at(index: CardIndex, ef_search: int, queries: _Benchmark) -> AtEfSearch:
    index.ef_search = ef_search
    scores, found = index.search(queries.vectors, queries.nearest.shape[1])
    first, all_of_them = _hits(scores[:, :1], found[:, :1], queries), _hits(scores, found, queries)
    shares = _share(first, queries.row), _share(all_of_them, queries.row)
    return AtEfSearch(ef_search, *shares, *_latency(index.search, queries.vectors))


def _hits(scores: NDArray[np.float32], found: NDArray[np.int64], queries: _Benchmark) -> NDArray[np.bool_]:
    k = found.shape[1]
    return is_found(scores, found, queries.exact[:, :k], queries.nearest[:, :k], queries.first)


def _share(hits: NDArray[np.bool_], row: NDArray[np.int64]) -> Share:
    """Of rows [Q, k] that should be found; the interval is by `row` [Q], which queries were made of."""
    return Share.of(np.repeat(row, hits.shape[1]).astype(str).tolist(), hits.ravel().tolist())


def _latency(search: Callable[[NDArray[np.float32], int], object], vectors: NDArray[np.float32]) -> tuple[float, float]:
    """Median milliseconds of a query alone, and of one among twelve."""

    def of(size: int) -> float:
        took = []
        for start in range(0, min(TIMED, len(vectors)), size):
            started = time.perf_counter()
            search(vectors[start : start + size], _NEIGHBOURS)
            took.append(1000 * (time.perf_counter() - started) / len(vectors[start : start + size]))
        return median(took)

    return of(1), of(BATCH)


def _self_recall(index: CardIndex, rows: NDArray[np.float32], seconds: float) -> Share:
    """Of all rows; where that takes longer, of as many random ones as there is time for."""
    order = np.random.default_rng(0).permutation(len(rows))
    hits: list[bool] = []
    until = time.monotonic() + seconds
    for start in range(0, len(rows), _CHUNK):
        asked = rows[order[start : start + _CHUNK]]
        scores, _ = index.search(asked, 1)
        hits += (scores[:, 0] >= np.einsum("ij,ij->i", asked, asked) - TIE).tolist()
        if time.monotonic() > until:
            break
    return Share.of([*map(str, range(len(hits)))], hits)


def _int8(searched: SearchedIndex, queries: _Benchmark) -> Int8:
    """Against float; the scale is chosen as for the browser's files."""
    rows = searched.rows
    scale = SCALE_FACTOR if searched.whitening is None else best_scale(rows[evenly(len(rows), SCALE_SAMPLE)])
    coarse = quantize(rows, scale).astype(np.float32) / np.float32(scale)
    _, found = exact_search(queries.vectors, coarse, queries.nearest.shape[1])
    scores = np.einsum("qd,qkd->qk", queries.vectors, rows[found])  # float ones of what int8 found
    same = searched.names.of[found[:, 0]] == searched.names.of[queries.nearest[:, 0]]
    return Int8(_share(same[:, None], queries.row), _share(_hits(scores, found, queries), queries.row))


def _clusters(
    searched: SearchedIndex, queries: _Benchmark, raw: NDArray[np.float32], seconds: float
) -> tuple[Clusters | None, list[str]]:
    """None and the reason if comparing each row with each would take longer."""
    centred = unit_rows(raw - np.asarray(raw.mean(axis=0), np.float32))
    tried = _rows_at_a_time(len(raw))
    started = time.perf_counter()
    _ = centred[:tried] @ centred.T
    needed = (time.perf_counter() - started) * (len(raw) / tried) * 2
    if needed > seconds:
        return None, [f"clusters of near-identical rows: to compare each with each would take {needed:.1f} s"]
    cluster = clusters_of(centred, NEAR)
    sizes = np.bincount(cluster)
    inside = sizes[cluster[queries.row]] > 1
    hits = _hits(*searched.index.search(queries.vectors, queries.nearest.shape[1]), queries)
    many = sizes[sizes > 1]
    counts = (len(many), int(many.sum()), int(many.max(initial=0)))
    shares = (_share(hits[some], queries.row[some]) for some in (inside, ~inside))
    return Clusters(NEAR, *counts, *shares), []


def _rows_at_a_time(count: int) -> int:
    """How many of `count` rows are compared with all at a time."""
    return max(1, min(_CHUNK, count, MOST_SCORES // count))


def clusters_of(rows: NDArray[np.float32], near: float) -> NDArray[np.int64]:
    """A number for each of the unit rows [N]: the same for rows that hang together by cosines of at least `near`."""
    cluster, step = np.arange(len(rows)), _rows_at_a_time(len(rows))
    pairs = []
    for start in range(0, len(rows), step):
        one, other = np.nonzero(rows[start : start + step] @ rows.T >= near)
        pairs.append(np.stack([one + start, other])[:, one + start < other])
    ends = np.concatenate([np.empty((2, 0), np.int64), *pairs], axis=1)
    while True:  # each takes the least number of those beside it, then of those beside these
        least = cluster.copy()
        np.minimum.at(least, ends[0], cluster[ends[1]])
        np.minimum.at(least, ends[1], cluster[ends[0]])
        least = least[least]
        if np.array_equal(least, cluster):
            return cluster
        cluster = least
