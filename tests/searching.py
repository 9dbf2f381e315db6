"""How a graph of real and of generated rows should be made, and up to how many rows exact search is quick enough.

Times are those of a processor's core, all threads together, so that they can be compared on a busy machine; faiss uses
one thread, for threads that wait for each other would count, too. With several cores all of it is quicker alike.
"""

import math
import os
import time
from collections.abc import Callable, Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

from helpers.evaluate.tables import aligned
from helpers.index.faiss_index import TIE, CardIndex, exact_search, use_threads
from helpers.index.whitening import Whitening
from helpers.recognise.ranking import CANDIDATES
from tests.features import Features
from tests.made_rows import Like, Rows

GRAPHS = ((16, 200), (32, 100), (32, 200), (32, 400), (64, 200))  # M, efConstruction
LADDER = (32, 64, 128, 256, 512, 1024)  # efSearch
MANY = 54_000
SIZES = tuple(int(size) for size in os.environ.get("SIZES", "10000,54000,117000").split(","))
QUERIES, ROUNDS, REGIONS = 200, 5, 12


def graphs(features: Features, model: str, ridge: float, width: int) -> None:
    """Table 7: M, efConstruction and efSearch, on real rows and generated ones."""
    real = features.rows(model, "clean")
    asked = np.concatenate([features.rows(model, f"simulated {s}, seed 0") for s in (0.5, 1.0)])[::4]
    made = Like(real, np.random.default_rng(11))
    many = made.rows(MANY)
    some = made.seen(many[np.random.default_rng(12).choice(MANY, QUERIES, replace=False)])
    use_threads(1)
    head = ["", "M", "efC", "build s", *(f"efSearch {ef}" for ef in LADDER), "a build chooses"]
    for title, rows, queries in (("real", real, asked), (f"{MANY:,} generated", many, some)):
        for name, map_ in (("raw", None), (f"whitened {width}", Whitening.fit(rows, ridge, width))):
            index, ours = (rows, queries) if map_ is None else (map_(rows), map_(queries))
            lines = [_line(title, index, ours, *graph) for graph in GRAPHS]
            print(
                f"7. {title}, {model}, {name}: {len(index):,} rows, {len(ours)} queries, one at a time: recall@10, ms"
            )
            print(aligned([head, *lines]), "\n", flush=True)


def _line(title: str, rows: Rows, queries: Rows, m: int, ef_construction: int) -> list[str]:
    started = time.process_time()
    index = CardIndex.build(rows, m, ef_construction)
    seconds = time.process_time() - started
    best, _ = exact_search(queries, rows, 10)
    cells = []
    for ef in LADDER:
        index.ef_search = ef
        scores, ms = one_by_one(queries, index)
        cells.append(f"{float(np.mean(scores >= best[:, -1:] - TIE)):.4f}, {ms:.2f}")
    index.tune_ef_search(rows)
    return [title, str(m), str(ef_construction), f"{seconds:.1f}", *cells, str(index.ef_search)]


def one_by_one(queries: Rows, index: CardIndex) -> tuple[Rows, float]:
    """The scores [Q, 10] that a search finds a query at a time, and the milliseconds it takes for one."""
    started = time.process_time()
    found = [index.search(queries[q : q + 1], 10)[0] for q in range(len(queries))]
    return np.concatenate(found), 1000 * (time.process_time() - started) / len(queries)


def exact_or_graph(features: Features, model: str, ridge: float) -> None:
    """Table 8: exact search against the graph, beside the time to embed a photograph's regions."""
    use_threads(1)
    real = features.rows(model, "clean")
    pictures = [picture.resize((488, 680)) for picture in features.cards.clean[:REGIONS]]
    embedder = features.plain(model)
    for width in (512, 256):
        for size in SIZES:
            if size * width > 540_000 * 256:
                continue
            rows = Like(real, np.random.default_rng(13)).rows(size)
            if width < rows.shape[1]:
                whitening = Whitening.fit(rows, ridge, width)
                assert whitening is not None
                rows = whitening(rows)
            queries = Like(rows, np.random.default_rng(14)).seen(rows[:: max(1, size // QUERIES)][:QUERIES])
            _compared(rows, queries, lambda: embedder.embed(pictures))


def _compared(rows: Rows, queries: Rows, embed: Callable[[], object]) -> None:
    ways = dict(_ways(rows))
    count = min(CANDIDATES, len(rows))
    best, _ = exact_search(queries, rows, 10)
    least: dict[tuple[str, int], float] = {}
    embedding = math.inf
    for _ in range(ROUNDS):
        started = time.process_time()
        embed()
        embedding = min(embedding, time.process_time() - started)
        for name, search in ways.items():
            for batch in (1, REGIONS):
                started = time.process_time()
                for start in range(0, 24, batch):
                    search(queries[start : start + batch], count)
                each = 1000 * (time.process_time() - started) / (24 / batch)
                least[name, batch] = min(least.get((name, batch), math.inf), each)
    lines = [["", "recall@10", "1 query", f"{REGIONS} at a time", f"of embedding {REGIONS}"]]
    for name, search in ways.items():
        found = search(queries, 10)[1]
        right = np.take_along_axis(queries @ rows.T, np.maximum(found, 0), axis=1) >= best[:, -1:] - TIE
        one, some = least[name, 1], least[name, REGIONS]
        share = f"{some / embedding / 10:.1f} %"
        lines.append([name, f"{right.mean():.4f}", f"{one:.2f} ms", f"{some:.2f} ms", share])
    size = f"{len(rows):,} rows of width {rows.shape[1]}"
    print(f"8. {size}, {CANDIDATES} found; {REGIONS} pictures embedded in {embedding:.3f} s")
    print(aligned(lines), "\n", flush=True)


def _ways(rows: Rows) -> Iterator[tuple[str, Callable[[Rows, int], tuple[Rows, NDArray[np.int64]]]]]:
    flat = faiss.IndexFlatIP(rows.shape[1])
    flat.add(rows)
    yield "exact, float32", flat.search

    def multiplied(queries: Rows, k: int) -> tuple[Rows, NDArray[np.int64]]:
        scores = queries @ rows.T
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        ids = np.take_along_axis(best, order, axis=1)
        return np.take_along_axis(scores, ids, axis=1), ids

    yield "exact, numpy", multiplied
    codes = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    codes.train(rows[:20_000])
    codes.add(rows)
    yield "exact, int8", codes.search
    if len(rows) <= int(os.environ.get("GRAPH_UP_TO", "120000")):
        graph = CardIndex.build(rows, 32, 200)
        for ef in (64, 128, 256):

            def walk(queries: Rows, k: int, ef: int = ef) -> tuple[Rows, NDArray[np.int64]]:
                graph.ef_search = ef
                return graph.search(queries, k)

            yield f"graph, efSearch {ef}", walk
