"""Pictures -> rows: loaders read, decode and prepare ahead, encoders call the model, rows are kept in their order.

Each picture is read once and decoded once, for its validation, its hash and its row alike. Threads serve for both:
Pillow, hashlib, torch's resizing and the model let others run meanwhile. What lies ready is bounded, so that the memory
that this takes does not depend on how many pictures there are.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from helpers.build.checkpoint import Checkpoint
from helpers.build.report import BuildReport
from helpers.cards.image_cache import ImageCache
from helpers.cards.pictures import PICTURE
from helpers.embed.embedder import BATCH, Embedder
from helpers.index.store import Records
from helpers.lookahead import in_order
from helpers.machine_limits import usable_cores
from helpers.talk import Progress, printable, warn
from helpers.validation import MOST_CARD_PIXELS, BrokenImage, decode_image, read_content

MOST_LOADERS = 32


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works how much at a time."""

    batch: int  # pictures in one call of the model
    loaders: int  # threads
    cores: int  # ours, of this machine's


def crew(embedder: Embedder, batch: int | None, loaders: int | None, processes: int) -> Crew:
    """What was asked for, or what serves the device; `processes` share this machine's cores.

    On a CPU loaders take time from the model, whatever their number, so a few serve. Beside a GPU they are the limit.
    """
    cores = max(1, usable_cores() // processes)
    enough = max(2, cores // 2) if embedder.device == "cpu" else min(MOST_LOADERS, max(2, cores))
    return Crew(batch or BATCH[embedder.device], loaders or enough, cores)


class Prepared(NamedTuple):
    """A picture that is ready for the model."""

    place: int  # of its face in the card list
    picture: tuple[bytes, bytes, int, int]  # of dtype PICTURE
    pixels: torch.Tensor  # uint8 [3, H, W]


class Batch(NamedTuple):
    """What the model made of a few pictures."""

    places: list[int]
    rows: NDArray[np.float32]  # [B, D]
    pictures: NDArray[Any]  # PICTURE [B]


class Busy:
    """How long the model had something to do; where it works on several batches at a time, on the mean of them."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._batches, self._since = 0, time.monotonic()
        self._started, self._seconds = self._since, 0.0

    @contextmanager
    def with_a_batch(self) -> Iterator[None]:
        """For the block, another batch is in the model."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def _change(self, by: int) -> None:
        with self._lock:
            now = time.monotonic()
            self._seconds += (now - self._since) * min(self._batches, self._at_once) / self._at_once
            self._since = now
            self._batches += by

    def so_far(self) -> tuple[float, float]:
        """Seconds with something to do, and seconds in all."""
        self._change(0)
        return self._seconds, self._since - self._started


@dataclass(frozen=True, slots=True)
class Source:
    """Where pictures come from: the faces of a list, and the cache that has theirs."""

    faces: Records
    cache: ImageCache
    verify: bool  # look at a file's own structure, too, before it is decoded


def embed(
    source: Source, places: Sequence[int], embedder: Embedder, team: Crew, checkpoint: Checkpoint, report: BuildReport
) -> None:
    """Give each of the faces at `places`, which ascend, its row, if it has a whole picture; count the others."""
    done = int(checkpoint.good.sum())
    encoders = embedder.encoders_for(team.cores)
    busy = Busy(encoders if embedder.device == "cpu" else 1)  # of a GPU's two, one only waits its turn
    with (
        Progress("Embedding", done + len(places), "images", report.progress_note, before=done) as progress,
        embedder.for_many(),
        embedder.can_be_given_up() as give_up,
        closing(_loaded(source, places, embedder, team, report, progress)) as loaded,
        closing(_encoded(loaded, embedder, team.batch, encoders, busy, give_up)) as batches,
    ):
        for batch in batches:
            checkpoint.add(batch.places, batch.rows, batch.pictures)
            report.embedded += len(batch.places)
            report.model_busy, report.model_there = busy.so_far()
            progress.advance(len(batch.places))


def sample(source: Source, places: Sequence[int], embedder: Embedder, count: int) -> list[torch.Tensor]:
    """Up to `count` prepared pictures of the faces at `places`, spread over them."""
    spread = [places[i] for i in np.linspace(0, len(places) - 1, min(4 * count, len(places))).astype(int)]
    found = (_try_to_load(source, place, embedder) for place in dict.fromkeys(spread))
    return [prepared.pixels for prepared in islice(filter(None, found), count)]


def _try_to_load(source: Source, place: int, embedder: Embedder) -> Prepared | None:
    try:
        return _load(source, place, embedder)
    except (FileNotFoundError, BrokenImage):
        return None


def _load(source: Source, place: int, embedder: Embedder) -> Prepared:
    path = source.cache.path_for(source.faces[place].image_url)
    content = read_content(path)
    image = decode_image(content.data, verify=source.verify, most_pixels=MOST_CARD_PIXELS)
    return Prepared(place, content.picture(path.name), embedder.prepare(image))


def _loaded(
    source: Source, places: Sequence[int], embedder: Embedder, team: Crew, report: BuildReport, progress: Progress
) -> Generator[Prepared, None, None]:
    """Yield what the loaders prepared, in order; what is missing or broken is counted, named and left out."""

    def load(place: int) -> Prepared:
        return _load(source, place, embedder)

    ahead = max(2 * team.batch, 2 * team.loaders)
    with closing(in_order(load, places, workers=team.loaders, ahead=ahead)) as coming:
        for place, future in coming:
            try:
                prepared = future.result()
            except FileNotFoundError:
                report.missing += 1
                progress.advance()
            except BrokenImage as error:
                report.validation_failures += 1
                face = source.faces[place]
                warn(f"left out {source.cache.path_for(face.image_url).name} ({printable(face.name)}): {error}")
                progress.advance()
            else:
                yield prepared


def _encoded(
    loaded: Iterator[Prepared],
    embedder: Embedder,
    size: int,
    encoders: int,
    busy: Busy,
    give_up: Callable[[], object],
) -> Generator[Batch, None, None]:
    """Yield what `encoders` threads make of batches of `size` pictures, in order."""

    def encode(batch: list[Prepared]) -> Batch:
        with busy.with_a_batch():
            rows = embedder.encode([prepared.pixels for prepared in batch])
        pictures = np.array([prepared.picture for prepared in batch], PICTURE)
        return Batch([prepared.place for prepared in batch], rows, pictures)

    batches = iter(lambda: list(islice(loaded, size)), [])
    # One more than are at work: it is ready when the first of them is done
    with closing(in_order(encode, batches, workers=encoders, ahead=encoders + 1, give_up=give_up)) as coming:
        for _, future in coming:
            yield future.result()
