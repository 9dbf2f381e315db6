"""`make bench-where`: search among the rows that pass a filter, against exact search and against filtering the answer.

54,000 generated rows of width 512 in clusters of near-twins (ROWS), with hashes and metadata; the filters leave 1 %,
0.1 % and 3 rows. Asked are rows moved to a cosine of 0.85, with an eighth of their hashes' bits inverted, half of them
rows that the filter leaves out. Exact: every row that passes is scored. Filtering the answer: of the candidates
of a query without a filter, those that pass.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from helpers.embed.vectors import unit_rows
from helpers.index.faiss_index import CardIndex
from helpers.index.manifest import Recognition
from helpers.recognise.ranking import NO_ROWS, CutOut, Ranker, Ranking
from helpers.recognise.where import Where
from tests.faces import face_with, records_of
from tests.made_rows import flipped, moved

ROWS, WIDTH, QUERIES, TWINS, TOP = int(os.environ.get("ROWS", "54000")), 512, 100, 8, 10
FILTERS = ("artist=1 %", "artist=0.1 %|3 rows", "artist=3 rows")
RAW = Recognition(hash_weight=1.5, sure_above=0.5, conditions="")
Ranked = list[list[int]]


def artists(rng: np.random.Generator) -> list[str]:
    """Who drew each row: the filters go by it."""
    names = ["others"] * ROWS
    for name, count in (("1 %", ROWS // 100), ("0.1 %", ROWS // 1000 - 3), ("3 rows", 3)):
        for row in rng.choice([row for row, old in enumerate(names) if old == "others"], count, replace=False):
            names[row] = name
    return names


def timed(work: Callable[[], Ranked]) -> tuple[Ranked, float]:
    """What `work` finds, and the milliseconds that a query takes."""
    started = time.perf_counter()
    return work(), 1000 * (time.perf_counter() - started) / QUERIES


def recall(found: Ranked, exact: Ranked) -> float:
    """The mean share of the exact first ten that was found."""
    return float(np.mean([len({*a[:TOP]} & {*b[:TOP]}) / len(b[:TOP]) for a, b in zip(found, exact, strict=True)]))


class Filtered:
    """A filter on an index, and what is asked."""

    def __init__(self, text: str, whole: Ranker, index: CardIndex, data: tuple[Any, ...]) -> None:
        rows, hashes, records = data
        rng = np.random.default_rng(8)
        started = time.perf_counter()
        self.among = Where.parse(text).rows(records)
        self.filtering = time.perf_counter() - started
        self.ranker = Ranker(index, hashes, records, RAW, among=self.among)
        self.whole = whole
        asked = np.concatenate([rng.choice(self.among, QUERIES // 2), rng.choice(ROWS, QUERIES // 2)])
        self.vectors, self.digests = moved(rows[asked], 0.85, rng), flipped(hashes[asked], 0.125, rng)

    def exact(self) -> Ranked:
        """Every row that passes is scored."""
        pairs = zip(self.vectors, self.digests, strict=True)
        unranked = Ranking(NO_ROWS, np.empty(0, np.float32), None, None, None, None)
        scored = (self.ranker.scores(CutOut(unranked, *pair), self.among) for pair in pairs)
        return [self.among[np.argsort(-scores)].tolist() for scores in scored]

    def ours(self, ranker: Ranker) -> Ranked:
        """As a query ranks, one at a time."""
        ranked = (ranker.answer(self.vectors[q : q + 1], self.digests[q : q + 1]) for q in range(QUERIES))
        return [ranking.rows.tolist() for (ranking,) in ranked]

    def line(self) -> str:
        """What was measured."""
        truth, exact_ms = timed(self.exact)
        answer, ms = timed(lambda: self.ours(self.ranker))
        unfiltered, whole_ms = timed(lambda: self.ours(self.whole))
        passing = set(self.among.tolist())
        after = [[row for row in found if row in passing] for found in unfiltered]
        return (
            f"{len(passing):>6,} rows pass: recall {recall(answer, truth):.4f}, {ms:.1f} ms a query (without a filter "
            f"{whole_ms:.1f}, scoring all that pass {exact_ms:.1f}); filtering the answer: recall "
            f"{recall(after, truth):.4f}, nothing at all for {sum(not found for found in after)} of {QUERIES}; "
            f"reading the metadata {self.filtering:.2f} s"
        )


def main() -> None:
    """Print a line a filter."""
    rng = np.random.default_rng(7)
    centres = unit_rows(rng.standard_normal((ROWS // TWINS, WIDTH), dtype=np.float32))
    rows = moved(np.repeat(centres, TWINS, axis=0), 0.9, rng)
    hashes = flipped(np.repeat(rng.integers(0, 256, (ROWS // TWINS, 32), np.uint8), TWINS, axis=0), 0.1, rng)
    faces = [face_with(name=f"Card {row}", artist=artist) for row, artist in enumerate(artists(rng))]
    index = CardIndex.build(rows, 32, 200)
    index.ef_search = 128
    with tempfile.TemporaryDirectory() as folder:
        records = records_of(Path(folder) / "meta", faces)
        whole = Ranker(index, hashes, records, RAW)
        print(f"{ROWS:,} rows of width {WIDTH}, {QUERIES} queries, one at a time; recall@{TOP} against exact search")
        for text in FILTERS:
            print(Filtered(text, whole, index, (rows, hashes, records)).line())


if __name__ == "__main__":
    main()
