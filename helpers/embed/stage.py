"""Pictures -> rows: loaders read, decode and prepare ahead, model threads embed, rows come in order.

Each picture is read and decoded once, for validation, hashes and row alike. Threads are enough for both: Pillow,
hashlib, torch's resizing and the model release the GIL. The number of prepared pictures is bounded, so that memory use
does not depend on the number of pictures.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from helpers.cards.faces import CardFace
from helpers.cards.image_cache import ImageCache
from helpers.cards.pictures import PICTURE, picture_of
from helpers.embed.dhash import dhash
from helpers.embed.embedder import BATCH, Embedder
from helpers.embed.preprocess import as_seen
from helpers.embed.settings import Rows
from helpers.lookahead import in_order
from helpers.machine_limits import usable_cores
from helpers.validation import MAX_CARD_PIXELS, BrokenImage, decode_image, read_content

MAX_LOADERS = 32


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """Batch size and thread counts."""

    batch: int  # pictures per model call
    loaders: int  # threads that read, decode and prepare
    model_threads: int  # threads that call the model


def plan_workers(
    embedder: Embedder, batch: int | None = None, loaders: int | None = None, *, processes: int = 1
) -> WorkerPlan:
    """What was requested, or defaults for the device; `processes` share this machine's cores.

    On a CPU loaders take time from the model, whatever their number, so a few will do. With a GPU they are the limit.
    """
    cores = max(1, usable_cores() // processes)
    enough = max(2, cores // 2) if embedder.device == "cpu" else min(MAX_LOADERS, max(2, cores))
    return WorkerPlan(batch or BATCH[embedder.device], loaders or enough, embedder.model_threads(cores))


class Prepared(NamedTuple):
    """A picture that is ready for the model."""

    picture: tuple[bytes, bytes, int, int]  # of dtype PICTURE
    pixels: torch.Tensor  # uint8 [3, H, W]
    dhash: NDArray[np.uint8]  # [32]


class Batch(NamedTuple):
    """The rows of a few pictures, and how busy the model was so far."""

    rows: Rows
    busy_seconds: float  # with a batch in the model
    seconds: float  # in total


class LeftOut(NamedTuple):
    """A face without a row: its picture is missing (`reason` None) or broken."""

    face: CardFace
    reason: str | None


class _Busy:
    """How long the model was busy; the mean if it works on several batches at a time."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._batches, self._since = 0, time.monotonic()
        self._started, self._seconds = self._since, 0.0

    @contextmanager
    def with_a_batch(self) -> Iterator[None]:
        """Within the block, another batch is in the model."""
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
        """Busy seconds, and seconds in total."""
        self._change(0)
        return self._seconds, self._since - self._started


def embed(
    faces: Iterable[CardFace], cache: ImageCache, embedder: Embedder, workers: WorkerPlan, *, verify: bool = True
) -> Generator[Batch | LeftOut, None, None]:
    """Yield the rows of the faces' pictures in `cache`, in batches and in order, and the faces that get none.

    `verify` also checks a file's structure before decoding it. Close the generator to stop early.
    """
    left_out: deque[LeftOut] = deque()
    busy = _Busy(workers.model_threads if embedder.device == "cpu" else 1)  # one of a GPU's two only waits its turn

    def encode(batch: list[Prepared]) -> Rows:
        with busy.with_a_batch():
            embeddings = embedder.encode([prepared.pixels for prepared in batch])
        pictures = np.array([prepared.picture for prepared in batch], PICTURE)
        return Rows(embeddings, pictures, np.stack([prepared.dhash for prepared in batch]))

    with (
        embedder.for_many(),
        embedder.can_be_given_up() as give_up,
        closing(_loaded(faces, cache, embedder, workers, verify, left_out.append)) as loaded,
    ):
        batches = iter(lambda: list(islice(loaded, workers.batch)), [])
        # One more than in the model: it is ready when the first of them is done
        threads = workers.model_threads
        with closing(in_order(encode, batches, workers=threads, ahead=threads + 1, give_up=give_up)) as coming:
            for _, future in coming:
                while left_out:
                    yield left_out.popleft()
                yield Batch(future.result(), *busy.so_far())
    yield from left_out


def sample(faces: Sequence[CardFace], cache: ImageCache, embedder: Embedder, count: int) -> list[torch.Tensor]:
    """Up to `count` prepared pictures of the faces, evenly spread."""

    def loaded() -> Iterator[torch.Tensor]:
        for place in dict.fromkeys(np.linspace(0, len(faces) - 1, min(4 * count, len(faces))).astype(int).tolist()):
            with suppress(FileNotFoundError, BrokenImage):
                yield _load(faces[place], cache, embedder, verify=False).pixels

    return list(islice(loaded(), count))


def _load(face: CardFace, cache: ImageCache, embedder: Embedder, *, verify: bool) -> Prepared:
    content = read_content(cache.path_for(face.image_url))
    image = decode_image(content.data, verify=verify, most_pixels=MAX_CARD_PIXELS)
    seen = as_seen(image)
    return Prepared(picture_of(face.image_url, content), embedder.prepare(seen), dhash(seen))


def _loaded(
    faces: Iterable[CardFace],
    cache: ImageCache,
    embedder: Embedder,
    workers: WorkerPlan,
    verify: bool,
    leave_out: Callable[[LeftOut], object],
) -> Generator[Prepared, None, None]:
    """Yield what the loaders prepared, in order; what is missing or broken is left out."""

    def load(face: CardFace) -> Prepared:
        return _load(face, cache, embedder, verify=verify)

    ahead = max(2 * workers.batch, 2 * workers.loaders)
    with closing(in_order(load, faces, workers=workers.loaders, ahead=ahead)) as coming:
        for face, future in coming:
            try:
                prepared = future.result()
            except FileNotFoundError:
                leave_out(LeftOut(face, None))
            except BrokenImage as error:
                leave_out(LeftOut(face, str(error)))
            else:
                yield prepared
