"""Pictures of the index's own cards, damaged and embedded: what an evaluation asks.

In each round some rows are asked, under every condition that a section needs. A picture depends on the seed, the round,
the condition and the row alone, so it can be made again. Loader threads make them while the model runs.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.cards.faces import CardFace, Records
from helpers.cards.image_cache import ImageCache
from helpers.embed.dhash import HASH_BYTES, dhash
from helpers.embed.preprocess import as_seen
from helpers.evaluate.findings import Condition
from helpers.evaluate.phash import phash
from helpers.lookahead import in_order
from helpers.recognise.camera import DISTORTIONS, distorted
from helpers.validation import BrokenImage, read_image

if TYPE_CHECKING:
    import torch

    from helpers.embed.embedder import Embedder
    from helpers.embed.stage import WorkerPlan
    from helpers.talk import Progress

ROUNDS = 5
CONDITIONS = tuple(Condition(kind, amount, of.unit) for kind, of in DISTORTIONS.items() for amount in of.amounts)


def condition_of(kind: str, amount: float) -> int:
    """The place of a condition in CONDITIONS."""
    return CONDITIONS.index(Condition(kind, amount, DISTORTIONS[kind].unit))


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries [Q], embedded."""

    row: NDArray[np.int64]  # whose picture it was
    condition: NDArray[np.int64]  # place in CONDITIONS
    round: NDArray[np.int64]
    vectors: NDArray[np.float32]  # [Q, D], unit rows
    dhashes: NDArray[np.uint8]  # [Q, 32]
    phashes: NDArray[np.uint8]  # [Q, 32]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, part: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Queries:
        return Queries(*(getattr(self, field.name)[part] for field in fields(self)))

    @classmethod
    def none(cls, width: int) -> Queries:
        """No queries."""
        hashes, numbers = np.empty((0, HASH_BYTES), np.uint8), np.empty(0, np.int64)
        return cls(numbers, numbers, numbers, np.empty((0, width), np.float32), hashes, hashes)

    @classmethod
    def joined(cls, parts: Sequence[Queries]) -> Queries:
        """All of them, one after the other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def under(self, condition: int) -> NDArray[np.bool_]:
        """Which of them were asked under it."""
        return np.asarray(self.condition == condition)


def rows_of_round(seed: int, round: int, count: int) -> NDArray[np.int64]:
    """All rows of an index of `count`, in the order in which a round asks them."""
    return np.random.default_rng((seed, round)).permutation(count)


def render(card: Image.Image, condition: Condition, seed: int, round: int, row: int) -> Image.Image:
    """The picture that a round asks of the card of `row` under a condition."""
    key = zlib.crc32(f"{condition.kind} {condition.amount:g}".encode())
    return distorted(card, condition.kind, condition.amount, np.random.default_rng((seed, round, key, row)))


def picture_of(face: CardFace, cache: ImageCache) -> Image.Image:
    """The face's own picture; BrokenImage or FileNotFoundError."""
    return as_seen(read_image(cache.path_for(face.image_url)))


class _Ready(NamedTuple):
    """A query that is ready for the model."""

    row: int
    condition: int
    round: int
    pixels: torch.Tensor  # uint8 [3, H, W]
    dhash: NDArray[np.uint8]
    phash: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Source:
    """Where queries come from, and what embeds them."""

    records: Records
    cache: ImageCache
    embedder: Embedder
    workers: WorkerPlan
    seed: int
    width: int  # D
    conditions: tuple[int, ...] = tuple(range(len(CONDITIONS)))  # to ask under, places in CONDITIONS

    def ask(self, cards: slice, progress: Progress) -> Queries:
        """Make and embed the queries of these cards of each round; those whose picture can't be read have none.

        `progress` counts pictures. The result may be empty.
        """
        parts = [Queries.none(self.width)]
        threads = self.workers.model_threads
        with (
            self.embedder.for_many(),
            self.embedder.can_be_given_up() as give_up,
            closing(self._ready(cards)) as ready,
        ):
            batches = iter(lambda: list(islice(ready, self.workers.batch)), [])
            with closing(in_order(self._encode, batches, workers=threads, ahead=threads + 1, give_up=give_up)) as done:
                for batch, future in done:
                    parts.append(future.result())
                    progress.advance(len(batch))
        return Queries.joined(parts)

    def _encode(self, batch: list[_Ready]) -> Queries:
        row, condition, round = (np.array([one[place] for one in batch], np.int64) for place in range(3))
        vectors = self.embedder.encode([one.pixels for one in batch])
        dhashes, phashes = np.stack([one.dhash for one in batch]), np.stack([one.phash for one in batch])
        return Queries(row, condition, round, vectors, dhashes, phashes)

    def _ready(self, cards: slice) -> Generator[_Ready, None, None]:
        stopped = threading.Event()  # so that Ctrl-C need not wait for all pictures of a card

        def prepared(job: tuple[int, int]) -> list[_Ready]:
            return self._prepared(*job, stopped)

        coming = in_order(
            prepared,
            self._jobs(cards),
            workers=self.workers.loaders,
            ahead=self.workers.loaders + 1,
            give_up=stopped.set,
        )
        with closing(coming):
            for _, future in coming:
                with suppress(FileNotFoundError, BrokenImage):
                    yield from future.result()

    def _jobs(self, cards: slice) -> Iterator[tuple[int, int]]:
        """Round and row, the rounds in turn."""
        rounds = [rows_of_round(self.seed, round, len(self.records))[cards].tolist() for round in range(ROUNDS)]
        for rows in zip(*rounds, strict=True):
            yield from enumerate(rows)

    def _prepared(self, round: int, row: int, stopped: threading.Event) -> list[_Ready]:
        card = picture_of(self.records[row], self.cache)
        ready = []
        for number in self.conditions:
            if stopped.is_set():
                break
            seen = render(card, CONDITIONS[number], self.seed, round, row)
            ready.append(_Ready(row, number, round, self.embedder.prepare(seen), dhash(seen), phash(seen)))
        return ready
