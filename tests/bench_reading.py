"""`make bench-reading`: what reading the card is worth: names and printings, with and without, in larger indexes.

INDEX=folder,folder names indexes of the real cards, made by `build_embeddings.py --pictures`; ROWS=1050,5000,20000 says
to how many rows they are padded. A padding row has the name of another real card. Its vector has a cosine of 0.5 to 0.9
with that of a query, and else points to another card's; its hash is the query's with 20 to 40 % of its bits inverted:
it is nearer to the query than most real cards are. Queries are the cut-outs of `bench_tune` and, of SIMULATED cards
(300), a simulated photograph at full strength. All is by name, and by source of the photographs.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from helpers.cards.faces import CardFace
from helpers.embed.dhash import HASH_BITS, dhash
from helpers.evaluate.labelled import read_photos
from helpers.evaluate.tables import aligned
from helpers.index.faiss_index import CardIndex
from helpers.recognise.evaluation import Share
from helpers.recognise.printed import Print, Texts
from helpers.recognise.query import QueryEngine
from helpers.recognise.ranking import NO_ROWS, CutOut, Ranker
from helpers.recognise.reading import Reader
from helpers.recognise.regions import Photo
from helpers.talk import Progress
from tests.conftest import REAL
from tests.cutouts import Cutout, RealCards, parts

ROWS = [int(count) for count in os.environ.get("ROWS", "1050,5000,20000").split(",")]
SIMULATED = int(os.environ.get("SIMULATED", "300"))
COSINES, FLIPPED = (0.5, 0.9), (0.2, 0.4)
STRENGTH = 1.0

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Asked:
    """A cut-out as an index is asked about it, and what is printed there."""

    cut: Cutout
    source: str
    vector: Rows  # [D]
    digest: NDArray[np.uint8]  # [32]
    texts: Texts


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it, without and with reading."""

    asked: Asked
    right: tuple[bool, bool]
    sure: tuple[bool, bool]
    title: str | None  # accepted
    masked_sure: tuple[bool, bool]  # with the card's own name masked


class Prints:
    """The texts of all cut-outs, read once, and how long that took."""

    def __init__(self, pictures: Sequence[Image.Image]) -> None:
        reader = Reader()
        self.texts, titles, lines = list[Texts](), list[float](), list[float]()
        with Progress("Reading", len(pictures), "pictures") as progress:
            for picture in pictures:
                photo, started = Photo(picture), time.perf_counter()
                read = reader.titles(photo, photo.whole())
                between = time.perf_counter()
                self.texts.append(Texts(read, reader.collector_lines(photo, photo.whole())))
                titles.append(between - started)
                lines.append(time.perf_counter() - between)
                progress.advance()
        of = (statistics.median(each) * 1000 for each in (titles, lines))
        self.milliseconds = dict(zip(("title", "collector line"), of, strict=True))


class Bench:
    """An index of real cards, and the queries."""

    def __init__(self, folder: str, cuts: Sequence[tuple[Image.Image, Cutout]], prints: Prints) -> None:
        self.engine = QueryEngine.load(folder, read="off", search="exact")
        stored = self.engine.stored
        vectors = np.concatenate([self.engine.embed([picture for picture, _ in part]) for part in parts(cuts)])
        source = {photo.path.name: photo.source for photo in read_photos(REAL / "photos.csv")}
        self.asked = [
            Asked(cut, source.get(cut.photo, "simulated"), vector, dhash(picture), texts)
            for (picture, cut), vector, texts in zip(cuts, vectors, prints.texts, strict=True)
        ]
        self.faces: list[CardFace] = [*stored.records()]
        self.rows, hashes = np.array(stored.vectors()), stored.hashes()
        assert hashes is not None
        self.hashes, self.whitening = np.array(hashes), stored.whitening()
        self.settings = self.engine.ranker.settings

    def padded(self, count: int) -> tuple[Ranker, list[CardFace]]:
        """The index with `count` rows."""
        rng = np.random.default_rng(count)
        more = max(0, count - len(self.faces))
        queries = rng.integers(len(self.asked), size=more)
        toward = np.stack([self.asked[q].vector for q in queries]) if more else self.rows[:0]
        away = self.rows[rng.integers(len(self.rows), size=more)]
        away = away - (away * toward).sum(axis=1, keepdims=True) * toward
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
        cosines = rng.uniform(*COSINES, (more, 1))
        rows = (cosines * toward + np.sqrt(1 - cosines**2) * away).astype(np.float32)
        inverted = rng.random((more, HASH_BITS)) < rng.uniform(*FLIPPED, (more, 1))
        digests = np.stack([self.asked[q].digest for q in queries]) if more else self.hashes[:0]
        faces = [*self.faces, *(self._other(rng, self.asked[q].cut.name, n) for n, q in enumerate(queries.tolist()))]
        vectors, hashes = (
            np.concatenate([self.rows, rows]),
            np.concatenate([self.hashes, digests ^ np.packbits(inverted, axis=1)]),
        )
        mapped = vectors if self.whitening is None else self.whitening(vectors)
        index = CardIndex.build(np.ascontiguousarray(mapped), 16, 40)
        ranker = Ranker(index, hashes, faces, self.settings, self.whitening, exact=True)  # type: ignore[arg-type]
        return ranker, faces

    def _other(self, rng: np.random.Generator, name: str, number: int) -> CardFace:
        """A face of another card than `name`."""
        while (face := self.faces[int(rng.integers(len(self.faces)))]).name == name:
            pass
        return replace(face, face_id=f"padding {number}")

    def answers(self, count: int) -> Iterator[Answered]:
        """Each query, asked of the index with `count` rows."""
        ranker, faces = self.padded(count)
        reading = Print(Reader(), ranker, faces, always=True)
        with Progress(f"Asking {count:,} rows", len(self.asked), "cut-outs") as progress:
            for one in self.asked:
                known, stranger = (
                    self._ranked(one, ranker, reading, of) for of in (NO_ROWS, ranker.rows_of([one.cut.name]))
                )
                printed = reading.compared(one.texts)
                names = [ranker.faces(ranking.rows[:1])[0].name == one.cut.name for ranking in known]
                yield Answered(
                    one,
                    (names[0], names[1]),
                    (bool(known[0].sure), bool(known[1].sure)),
                    printed.title,
                    (bool(stranger[0].sure), bool(stranger[1].sure)),
                )
                progress.advance()

    def _ranked(self, one: Asked, ranker: Ranker, reading: Print, masked: NDArray[np.int64]):  # type: ignore[no-untyped-def]
        (ranking,) = ranker.rank(one.vector[None], one.digest[None], masked)
        cut_out = CutOut(ranking, one.vector, one.digest)
        return ranking, reading.ranked(cut_out, reading.compared(one.texts, masked), masked).ranking


def show(folder: str, count: int, found: Sequence[Answered]) -> None:
    """Print a table: a line for each kind of query."""
    head = [
        "",
        "named",
        "and read",
        "named and sure",
        "and read",
        "strangers sure",
        "and read",
        "titles accepted",
        "of these right",
    ]
    kinds = sorted({(one.asked.source, one.asked.cut.error) for one in found})
    table = [head]
    for source, error in [*kinds, *sorted({("photographs", error) for s, error in kinds if s != "simulated"})]:
        some = [
            one
            for one in found
            if one.asked.cut.error == error
            and (one.asked.source == source or (source == "photographs" and one.asked.source != "simulated"))
        ]
        photos = [one.asked.cut.photo for one in some]

        def share(hits: Sequence[bool], photos: Sequence[str] = photos) -> str:
            return str(Share.of(photos, hits))

        accepted = [one for one in some if one.title is not None]
        table.append(
            [
                f"{source}, {error:g}",
                *(share([one.right[read] for one in some]) for read in (0, 1)),
                *(share([one.right[read] and one.sure[read] for one in some]) for read in (0, 1)),
                *(share([one.masked_sure[read] for one in some]) for read in (0, 1)),
                share([one.title is not None for one in some]),
                share([one.title == one.asked.cut.name for one in accepted], [one.asked.cut.photo for one in accepted]),
            ]
        )
    print(f"\n{folder}, index of {count:,} rows\n" + aligned(table), flush=True)


def main() -> None:
    """Ask each index at each size."""
    if not (REAL / "cards.csv").is_file():
        sys.exit(f"no real cards at {REAL}; set MTG_REAL_DATA to the folder that has them")
    folders = os.environ.get("INDEX", "index_out").split(",")
    cards = RealCards()
    cuts = [*cards.photographed(), *itertools.islice(cards.simulated(STRENGTH), SIMULATED)]
    prints = Prints([picture for picture, _ in cuts])
    print("milliseconds: " + ", ".join(f"{name} {value:.0f}" for name, value in prints.milliseconds.items()))
    for folder in folders:
        bench = Bench(folder, cuts, prints)
        for count in ROWS:
            show(folder, count, [*bench.answers(count)])


if __name__ == "__main__":
    main()
