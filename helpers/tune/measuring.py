"""How often a tower names the card in a view, and what text search keeps."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from helpers.embed.embedder import BATCH, Embedder
from helpers.machine_limits import usable_cores
from helpers.recognise.evaluation import wilson
from helpers.tune.feeding import Feeder

TEXT_MATCHES = 10


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
    if not len(clean) or not len(queries):
        return Recall(0, 0, len(clean))
    nearest = index[clean_there][(queries @ clean.T).argmax(axis=1)]
    hits = classes[nearest] == classes[asked[queries_there]]
    return Recall(int(hits.sum()), len(hits), len(clean))


def text_kept(texts: NDArray[np.float32], before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Mean share, 0..1, of the ten pictures nearest to each text [T, D] that still are, before and after [N, D]."""
    count = min(TEXT_MATCHES, len(before))
    old, new = (np.argsort(-(texts @ rows.T), axis=1)[:, :count] for rows in (before, after))
    return float(np.mean([len(set(one) & set(other)) / count for one, other in zip(old, new, strict=True)]))


def embedded(
    embedder: Embedder, pictures: Iterable[torch.Tensor | None]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Unit rows [M, D] of the pictures that are there, and which of them [N] are."""
    there: list[bool] = []
    rows = [np.empty((0, 0), np.float32)]
    size = BATCH[embedder.device] * (usable_cores() if embedder.device == "cpu" else 1)
    coming = iter(pictures)
    while batch := list(islice(coming, size)):
        there += [picture is not None for picture in batch]
        if whole := [picture for picture in batch if picture is not None]:
            rows.append(embedder.encode_all(whole))
    return np.concatenate(rows[1:] or rows), np.array(there, bool)
