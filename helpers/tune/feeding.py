"""Pictures and their views as a model sees them: seeded, made ahead by loader threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from helpers.embed.preprocess import Preparation, as_seen
from helpers.lookahead import in_order
from helpers.recognise.camera import VIEW_HEIGHT, view, view_size
from helpers.tune.pictures import Picture
from helpers.validation import MAX_CARD_PIXELS, BrokenImage, read_image

BESIDE = 0.25  # of the views have another card behind theirs
_OF_QUERIES = 1 << 40  # numbers of random states that training does not reach

Job = TypeVar("Job")
Made = TypeVar("Made")


class Draw(NamedTuple):
    """Sample `number` of a training: a view of picture `row`, for a model whose pictures have `side` pixels."""

    number: int
    row: int
    side: int


class Sample(NamedTuple):
    """A picture as the model sees it, uint8 [3, S, S]."""

    row: int
    pixels: torch.Tensor  # a view of it, or itself


@dataclass(frozen=True, slots=True)
class Feeder:
    """Reads pictures and makes views of them; broken and missing pictures yield none."""

    pictures: Sequence[Picture]
    seed: int
    strength: float  # of the views
    clean: float  # share of the samples, 0..1, that are pictures as they are
    side: int  # pixels of the model's picture
    loaders: int  # threads
    broken: dict[Path, str] = field(default_factory=dict)  # why

    @property
    def _height(self) -> int:
        """Of views."""
        return round(VIEW_HEIGHT * self.side / 224)

    def draws(
        self, rows: NDArray[np.int64], first: int, *, step: int, batch: int, side: Callable[[], int]
    ) -> Iterator[Draw]:
        """Draws without end: every `step`-th, from number `first`; each pass over `rows` has an order of its own.

        Each batch of numbers has one side.
        """
        turn, order, pixels, of_batch = -1, rows, 0, -1
        for number in range(first, 1 << 62, step):
            if number // batch != of_batch:
                of_batch, pixels = number // batch, side()
            if number // len(rows) != turn:
                turn = number // len(rows)
                order = rows[np.random.default_rng((self.seed, turn)).permutation(len(rows))]
            yield Draw(number, int(order[number % len(rows)]), pixels)

    def samples(
        self, draws: Iterable[Draw], rows: NDArray[np.int64], ahead: int
    ) -> Generator[Sample | None, None, None]:
        """A sample of each draw, in order, or None; pictures of `rows` may lie behind it."""

        def make(draw: Draw) -> Sample:
            random = np.random.default_rng((self.seed, draw.number))
            picture = self._read(draw.row)
            if random.random() >= self.clean:
                behind = self._read(int(random.choice(rows))) if random.random() < BESIDE else None
                picture = view(picture, random, self.strength, behind, self._height)
            return Sample(draw.row, canvas(picture, draw.side))

        return self._made(make, draws, ahead)

    def clean_pictures(self, rows: Iterable[int], side: int) -> Generator[torch.Tensor | None, None, None]:
        """Each picture as it is, in order, or None."""
        return self._made(lambda row: canvas(self._read(row), side), rows, 4 * self.loaders)

    def queries(self, rows: Iterable[int], side: int) -> Generator[torch.Tensor | None, None, None]:
        """A view of each picture, in order, or None; always the same ones, and none that is trained on."""

        def make(row: int) -> torch.Tensor:
            random = np.random.default_rng((self.seed, _OF_QUERIES + row))
            return canvas(view(self._read(row), random, self.strength, None, self._height), side)

        return self._made(make, rows, 4 * self.loaders)

    def _made(self, make: Callable[[Job], Made], jobs: Iterable[Job], ahead: int) -> Generator[Made | None, None, None]:
        with closing(in_order(make, jobs, workers=self.loaders, ahead=ahead)) as coming:
            for _, future in coming:
                try:
                    yield future.result()
                except _Broken:
                    yield None

    def _read(self, row: int) -> Image.Image:
        path = self.pictures[row].path
        try:
            return as_seen(read_image(path, most_pixels=MAX_CARD_PIXELS, at_least=view_size(self._height)))
        except (FileNotFoundError, BrokenImage) as error:
            self.broken.setdefault(path, "no such file" if isinstance(error, FileNotFoundError) else str(error))
            raise _Broken from error


class _Broken(Exception):
    """There is no whole picture."""


def canvas(picture: Image.Image, side: int) -> torch.Tensor:
    """A picture as in an index that was built with --fit pad, at the model's size: uint8 [3, side, side]."""
    return Preparation(side, "pad").apply(picture).contiguous()
