"""Search among the rows: an HNSW index over the embeddings, all the hashes. The only module that imports faiss.

Row numbers are the ids. The inner product of unit rows is the cosine. FAISS saves efSearch in the file, by default 16,
which reaches a recall@10 of only 95 %; here it is chosen by measurement when the index is built.
"""

import os
import sys
from pathlib import Path
from typing import Any

if sys.platform == "darwin":
    # torch and faiss-cpu each bundle an OpenMP library, and the second to load aborts the process or crashes in a
    # parallel search (github.com/faiss-wheels/faiss-wheels/issues/73): allow both, and let faiss use one thread.
    os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")

import faiss
import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import disagreement
from helpers.embed.dhash import HASH_BITS
from helpers.embed.vectors import unit_rows
from helpers.errors import Category, PipelineError
from helpers.index.graph import Links
from helpers.index.manifest import FoundByItself
from helpers.index.store import StoredIndex
from helpers.index.twins import first_twins
from helpers.index.whitening import Whitening
from helpers.talk import text_of

FAISS_VERSION: str = faiss.__version__
EF_SEARCH_LADDER = (32, 64, 128, 256, 512, 1024)
TARGET_RECALL_AT_10 = 0.999
CHECKED = 20_000  # rows that are asked for after a build
SAMPLE_QUERIES = 256
QUERY_COSINE = 0.75  # of a tuning query with the row it was made from: about that of a poor photograph
if sys.platform == "darwin":
    faiss.omp_set_num_threads(1)
_CHUNK = 32768  # rows copied at a time
_LINK_EF_SEARCH = 128  # to find rows to link a lost one to
_ROUNDS = 3  # of linking what is not found
TIE = 1e-6  # scores closer than this are equal: identical twins may come in either order


def use_threads(count: int) -> None:
    """Let faiss use `count` threads: torchrun limits every process to one, yet only one of them builds the graph."""
    if sys.platform != "darwin":  # see above
        faiss.omp_set_num_threads(count)


class CardIndex:
    """HNSW over N unit rows of width D, with the rows themselves."""

    def __init__(self, hnsw: faiss.IndexHNSWFlat, owner: object = None) -> None:
        """`owner`: what `hnsw` is a part of, and would end with."""
        self._hnsw = hnsw
        self._owner = owner

    @classmethod
    def build(cls, rows: NDArray[np.float32], m: int, ef_construction: int) -> "CardIndex":
        """Index unit rows float32 [N, D], N >= 1, the same with any number of threads.

        The graph is made of the distinct rows; twins are attached to the first of their group. In a graph of all rows,
        large groups would fill each other's lists of neighbours, and lose the way to other rows.
        """
        first = first_twins(rows)
        distinct = np.flatnonzero(first == np.arange(len(rows)))
        hnsw = faiss.IndexHNSWFlat(rows.shape[1], m, faiss.METRIC_INNER_PRODUCT)
        hnsw.hnsw.efConstruction = ef_construction
        index = cls(hnsw)
        if len(distinct) == len(rows):
            hnsw.add(rows)
        else:
            _add_apart(hnsw, rows, distinct)
            index._links().attach_twins(first, lambda row, k: index.search(rows[row : row + 1], k)[1][0])
        index._link_unreachable(rows)
        return index

    @classmethod
    def load(cls, path: Path) -> "CardIndex":
        """Read what `save` wrote, without the map; PipelineError (Validation Error) if it is something else."""
        try:
            # It takes text and makes UTF-8 of it. The flag: an index of another kind may name a file that it would open
            # for writing, wherever that is
            index = faiss.read_index(text_of(path), faiss.IO_FLAG_SKIP_IVF_DATA)
        except RuntimeError as error:
            raise _unusable(path, str(error).splitlines()[0]) from error
        owner = index
        if isinstance(index, faiss.IndexPreTransform):
            index = faiss.downcast_index(index.index)
        if not isinstance(index, faiss.IndexHNSWFlat) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise _unusable(path, f"it holds a {type(index).__name__}, not an IndexHNSWFlat with inner product")
        return cls(index, owner)

    @classmethod
    def of(cls, stored: StoredIndex, whitening: Whitening | None = None) -> "CardIndex":
        """Read the index of `stored`, or with its `whitening` that of the whitened rows.

        PipelineError (Validation Error) if it does not match the manifest.
        """
        path = stored.index_path(whitened=whitening is not None)
        index, width = cls.load(path), stored.width if whitening is None else whitening.dimensions
        if (len(index), index.width) != (stored.count, width):
            found, expected = f"[{len(index)}, {index.width}]", f"[{stored.count}, {width}]"
            raise disagreement(path, f"it indexes rows {found}, but the manifest says {expected}")
        return index

    def save(self, path: Path, whitening: Whitening | None = None) -> None:
        """Write the index, its efSearch included; OSError if it can't be written.

        Of rows that `whitening` made the file holds an index that takes vectors as they were before, and maps them.
        """
        try:
            faiss.write_index(self._hnsw if whitening is None else _behind(whitening, self._hnsw), text_of(path))
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def __len__(self) -> int:
        return int(self._hnsw.ntotal)

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors with these ids [M], float32 [M, D]."""
        return np.asarray(self._hnsw.reconstruct_batch(numbers))

    @property
    def width(self) -> int:
        """D, the number of dimensions of a row."""
        return int(self._hnsw.d)

    @property
    def ef_search(self) -> int:
        """Candidates per search."""
        return int(self._hnsw.hnsw.efSearch)

    @ef_search.setter
    def ef_search(self, value: int) -> None:
        self._hnsw.hnsw.efSearch = value

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the `k` nearest rows of each query, at most N, best first.

        Unit rows float32 [Q, D] -> cosines float32 [Q, k], row numbers int64 [Q, k].
        """
        k = min(k, len(self))
        # HNSW returns no more than efSearch rows: a larger k must widen the search.
        return self._search(queries, k, max(self.ef_search, k))

    def search_exactly(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The same by comparing with every row."""
        storage: Any = faiss.downcast_index(self._hnsw.storage)
        scores, ids = storage.search(queries, min(k, len(self)))
        return scores, ids

    def _search(
        self, queries: NDArray[np.float32], k: int, ef_search: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        parameters = faiss.SearchParametersHNSW(efSearch=ef_search)  # type: ignore[attr-defined]  # missing in stubs
        scores, ids = self._hnsw.search(queries, k, params=parameters)
        return scores, ids

    def tune_ef_search(self, rows: NDArray[np.float32]) -> dict[int, float]:
        """Set efSearch to the smallest of the ladder that reaches the target recall; return recall@10 of each tried.

        The queries are distinct rows, moved to a cosine of 0.75 by seeded noise; the ground truth is exact search over
        all rows, float32 [N, D]. What counts is the score, as equal ones come in any order, and which twin of a row
        that belongs to the ten was found. With few rows recall@10 means little, and the smallest efSearch will do.
        """
        first = first_twins(rows)
        _, queries = moved_rows(rows, first, SAMPLE_QUERIES)
        k = min(10, len(rows))
        exact, nearest = exact_search(queries, rows, k)
        measured: dict[int, float] = {}
        for ef in EF_SEARCH_LADDER:
            self.ef_search = ef
            scores, found = self.search(queries, k)
            measured[ef] = float(np.mean(is_found(scores, found, exact, nearest, first)))
            if measured[ef] >= TARGET_RECALL_AT_10 or ef >= len(rows):
                break
        return measured

    def link_unfound(self, rows: NDArray[np.float32]) -> FoundByItself:
        """Ask for each of `rows` float32 [N, D], or for a sample of CHECKED, and link those not found once more.

        Call it with the efSearch that queries will use. A row counts as found where its score comes first, be it that
        of a twin.
        """
        asked = np.arange(len(rows))
        if len(rows) > CHECKED:
            asked = np.sort(np.random.default_rng(0).choice(asked, CHECKED, replace=False))
        unfound = self._unfound(rows, asked)
        for _ in range(_ROUNDS):
            if not unfound.size:
                break
            self._link(rows, unfound, np.ones(len(rows), bool))
            self._link_unreachable(rows)
            unfound = self._unfound(rows, asked)
        return FoundByItself(len(asked), len(asked) - len(unfound))

    def unreachable(self) -> NDArray[np.int64]:
        """The rows that no search can get to, whatever its efSearch."""
        return np.flatnonzero(~self._reached())

    def _reached(self) -> NDArray[np.bool_]:
        return self._links().reached_from(self._hnsw.hnsw.entry_point)

    def _unfound(self, rows: NDArray[np.float32], asked: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of `asked` are not found by their own vector; what a narrow search finds a wider one does, too."""
        for ef in sorted({min(ef, self.ef_search) for ef in (4, 16, 64, self.ef_search)}):
            parts = [asked[start : start + _CHUNK] for start in range(0, len(asked), _CHUNK)]
            is_found = [self._finds(rows[part], ef) for part in parts]
            asked = asked[~np.concatenate([np.empty(0, bool), *is_found])]
        return asked

    def _finds(self, queries: NDArray[np.float32], ef_search: int) -> NDArray[np.bool_]:
        """Which rows of the index, float32 [Q, D], come first (or tie) when they are asked for."""
        scores, _ = self._search(queries, 1, ef_search)
        return np.asarray(scores[:, 0] >= np.einsum("ij,ij->i", queries, queries) - TIE)

    def _link_unreachable(self, rows: NDArray[np.float32]) -> None:
        reached = self._reached()
        self._link(rows, np.flatnonzero(~reached), reached)

    def _link(self, rows: NDArray[np.float32], lost: NDArray[np.int64], hosts: NDArray[np.bool_]) -> None:
        """Add a link to each row in `lost` from one of the nearest rows that are found and in `hosts`, bool [N].

        The layers above lead straight to some rows that level 0 has lost: to be found does not make a row a host.
        """
        links = self._links()
        for start in range(0, len(lost), _CHUNK):
            part = lost[start : start + _CHUNK]
            _, nearest = self._search(rows[part], 16, _LINK_EF_SEARCH)
            for row, near in zip(part.tolist(), nearest.tolist(), strict=True):
                fit = [host for host in near if host not in (row, -1) and hosts[host]]
                links.link(row, fit or [self._hnsw.hnsw.entry_point])

    def _links(self) -> Links:
        graph: Any = self._hnsw.hnsw  # faiss's stubs lack what it has
        neighbors = faiss.rev_swig_ptr(graph.neighbors.data(), graph.neighbors.size())
        return Links(neighbors, faiss.vector_to_array(graph.offsets)[:-1].astype(np.int64), graph.nb_neighbors(0))


def _behind(whitening: Whitening, hnsw: faiss.IndexHNSWFlat) -> faiss.IndexPreTransform:
    """An index that maps vectors by `whitening`, to norm 1, and asks `hnsw`."""
    wide, narrow = whitening.axes.shape
    linear = faiss.LinearTransform(wide, narrow, True)
    faiss.copy_array_to_vector(np.ascontiguousarray(whitening.axes.T).ravel(), linear.A)
    faiss.copy_array_to_vector(np.asarray(-whitening.mean @ whitening.axes, np.float32), linear.b)
    linear.is_trained = True
    index = faiss.IndexPreTransform(faiss.NormalizationTransform(whitening.dimensions, 2.0), hnsw)
    index.prepend_transform(linear)
    return index


def _add_apart(hnsw: faiss.IndexHNSWFlat, rows: NDArray[np.float32], distinct: NDArray[np.int64]) -> None:
    """Add all `rows`, but only the `distinct` to the graph; the others get empty lists."""
    graph: Any = hnsw.hnsw  # faiss's stubs lack what it has
    storage: Any = faiss.downcast_index(hnsw.storage)
    storage.codes.resize(rows.nbytes)  # once, as a vector that grows takes its memory twice
    storage.reset()
    for start in range(0, len(distinct), _CHUNK):
        hnsw.add(rows[distinct[start : start + _CHUNK]])
    twins = np.setdiff1d(np.arange(len(rows)), distinct)
    graph.prepare_level_tab(len(twins))
    place_in_graph = np.argsort(np.concatenate([distinct, twins]))
    graph.permute_entries(faiss.swig_ptr(place_in_graph))
    storage.reset()
    storage.add(rows)
    hnsw.ntotal = len(rows)


def exact_search(
    queries: NDArray[np.float32], rows: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The `k` nearest of all `rows` float32 [N, D] for each query float32 [Q, D], by brute force.

    Returns cosines float32 [Q, k], best first, and row numbers int64 [Q, k].
    """
    scores, ids = faiss.knn(queries, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
    return scores, ids


def moved_rows(
    rows: NDArray[np.float32], first: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Up to `count` of the distinct rows, and queries [Q, D] made of them: moved to QUERY_COSINE by seeded noise.

    `first` [N] as `first_twins` returns it for `rows` float32 [N, D].
    """
    rng = np.random.default_rng(0)
    distinct = np.flatnonzero(first == np.arange(len(rows)))
    numbers = distinct[rng.choice(len(distinct), min(count, len(distinct)), replace=False)]
    picked = rows[numbers]
    noise = unit_rows(rng.standard_normal(picked.shape, dtype=np.float32))
    return numbers, unit_rows(QUERY_COSINE * picked + np.float32(np.sqrt(1 - QUERY_COSINE**2)) * noise)


def is_found(
    scores: NDArray[np.float32],
    found: NDArray[np.int64],
    exact: NDArray[np.float32],
    nearest: NDArray[np.int64],
    first: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which of the rows `found` [Q, k] with `scores` belong to the k `nearest` with `exact` scores, bool [Q, k].

    A tie with the last of them does, too, and a twin of one of them; `first` [N] as `first_twins` returns it.
    """
    is_twin = (first[found][:, :, None] == first[nearest][:, None, :]).any(axis=2) & (found >= 0)
    return np.asarray((scores >= exact[:, -1:] - TIE) | is_twin)


class HashIndex:
    """N difference hashes, searched exactly: half a million take a query a few milliseconds."""

    def __init__(self, hashes: NDArray[np.uint8]) -> None:
        """Copy the hashes uint8 [N, 32], N >= 1."""
        self._flat = faiss.IndexBinaryFlat(HASH_BITS)
        self._flat.add(hashes)

    def __len__(self) -> int:
        return int(self._flat.ntotal)

    def search(self, hashes: NDArray[np.uint8], k: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Find the `k` nearest rows of each hash, at most N, best first; equally near ones come in any order.

        uint8 [Q, 32] -> how many bits differ int32 [Q, k], row numbers int64 [Q, k].
        """
        bits, ids = self._flat.search(hashes, min(k, len(self)))
        return bits, ids


class RowsAmong:
    """Some of N unit rows, searched exactly by either signature."""

    def __init__(self, numbers: NDArray[np.int64], rows: NDArray[np.float32], hashes: NDArray[np.uint8] | None) -> None:
        """The `rows` float32 [M, D], M >= 1, with these numbers, and theirs of the hashes uint8 [N, 32], if any."""
        self._numbers = numbers
        self._rows = rows
        self._hashes = None if hashes is None else HashIndex(hashes[numbers])

    def search(self, queries: NDArray[np.float32], hashes: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
        """The numbers of the `k` nearest by vector, then of the `k` nearest by hash, at most M: int64 [Q, k or 2 k].

        Unit rows float32 [Q, D], hashes uint8 [Q, 32].
        """
        _, found = exact_search(queries, self._rows, min(k, len(self._rows)))
        numbers = self._numbers[found]
        if self._hashes is None:
            return numbers
        return np.concatenate([numbers, self._numbers[self._hashes.search(hashes, k)[1]]], axis=1)


def _unusable(path: Path, details: str) -> PipelineError:
    return PipelineError.of(
        Category.VALIDATION,
        f"{path} is not a usable index",
        details=details,
        suggestion="rebuild it with build_embeddings.py",
    )
