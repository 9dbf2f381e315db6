"""How often a tower names the card in a view, by the nearest clean picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from helpers.embed.embedder import BATCH, Embedder
from helpers.machine_limits import usable_cores
from helpers.recognise.evaluation import wilson
from helpers.tune.feeding import Feeder


class Recall(msgspec.Struct, frozen=True):
    """Of `queries` views, how many had their own card first among `faces` clean pictures."""

    hits: int
    queries: int
    faces: int

    @property
    def share(self) -> float:
        """0..1; 0 without queries."""
        return self.hits / self.queries if self.queries else 0.0

    def __str__(self) -> str:
        low, high = wilson(self.hits, self.queries)
        return f"{self.hits}/{self.queries} = {self.share:.3f} [{low:.3f}, {high:.3f}], {self.faces:,} faces"


def recall(
    embedder: Embedder,
    feeder: Feeder,
    classes: NDArray[np.int64],
    asked: NDArray[np.int64],
    others: NDArray[np.int64],
    side: int,
) -> Recall:
    """Recall@1 by card of one view of each picture `asked`, among the clean pictures `asked` and `others`."""
    index = np.concatenate([asked, others])
    clean, clean_there = embedded(embedder, feeder.clean_pictures(index.tolist(), side))
    queries, queries_there = embedded(embedder, feeder.queries(asked.tolist(), side))
    nearest = index[clean_there][(queries @ clean.T).argmax(axis=1)]
    hits = classes[nearest] == classes[asked[queries_there]]
    return Recall(int(hits.sum()), len(hits), len(clean))


def embedded(
    embedder: Embedder, pictures: Iterable[torch.Tensor | None], advance: Callable[[int], object] = lambda _: None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Unit rows [M, D] of the pictures that are there, and which of them [N] are; `advance` counts them."""
    there: list[bool] = []
    rows = []
    size = BATCH[embedder.device] * (usable_cores() if embedder.device == "cpu" else 1)
    coming = iter(pictures)
    while batch := list(islice(coming, size)):
        there += [picture is not None for picture in batch]
        if whole := [picture for picture in batch if picture is not None]:
            rows.append(embedder.encode_all(whole))
        advance(len(batch))
    return np.concatenate(rows), np.array(there)
