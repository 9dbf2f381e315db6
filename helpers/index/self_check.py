"""Does a new index recognise its own pictures? Checked on the files on disk, before they replace older ones.

Counts, widths and SHA-256 are compared by the same readers that a query uses, and no row may be out of reach of every
search. Then some rows are queried as a user
would: the picture that a row's metadata names is embedded again and must come first in exact search, or tie with an
identical twin, and its difference hash must be the row's. That finds what counts can't: rows and names that have
drifted apart.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from helpers.cards.faces import Records
from helpers.cards.image_cache import ImageCache
from helpers.embed.dhash import dhash
from helpers.embed.embedder import Embedder
from helpers.embed.preprocess import as_seen
from helpers.embed.vectors import check_unit_rows
from helpers.errors import Category, PipelineError
from helpers.index.faiss_index import CardIndex, exact_search
from helpers.index.store import StoredIndex
from helpers.validation import BrokenImage, read_image

if TYPE_CHECKING:
    import torch

SAMPLE = 16  # rows, a second or two of the model's time
MIN_COSINE = 0.99
ROUNDING = 1e-6  # of a value of a whitened row, which is computed again, beside others
MAX_BITS = 8  # of a hash that may differ: another version of the decoder may round otherwise
TIE = {"fp32": 1e-5}  # how far rounding in another batch can move a cosine between twins
COARSE_TIE = 1e-3  # the same in bf16 and fp16


def check_index(stored: StoredIndex, cache: ImageCache, embedder: Embedder) -> None:
    """PipelineError if the files of `stored` disagree (Validation Error) or misname a picture (Build Error)."""
    columns, records = stored.rows(), stored.records()
    rows = columns.embeddings
    check_unit_rows(rows, str(stored.folder.column("embeddings")))
    sampled = np.random.default_rng(len(rows)).choice(len(rows), min(SAMPLE, len(rows)), replace=False)
    _check_rows(CardIndex.of(stored), sampled, rows[sampled], records)
    whitening = stored.whitening()
    if whitening is not None:
        _check_rows(CardIndex.of(stored, whitening), sampled, whitening(rows[sampled]), records, ROUNDING)
    asked: list[int] = []
    pictures: list[torch.Tensor] = []
    for row in sampled.tolist():
        with suppress(FileNotFoundError, BrokenImage):  # gone since it was embedded: nothing to query with
            seen = as_seen(read_image(cache.path_for(records[row].image_url)))
            differing = int(np.unpackbits(dhash(seen) ^ columns.dhash[row]).sum())
            if differing > MAX_BITS:
                name = records[row].name
                raise _failed(f"the hashes of row {row} ({name}) and its picture differ in {differing} bits")
            pictures.append(embedder.prepare(seen))
            asked.append(row)
    if not asked:
        return
    queries = embedder.encode(pictures)
    scores, found = exact_search(queries, rows, 1)
    for query, row, best, first in zip(queries, asked, scores[:, 0].tolist(), found[:, 0].tolist(), strict=True):
        own = float(query @ rows[row])
        if own < MIN_COSINE or own < best - TIE.get(embedder.precision, COARSE_TIE):
            raise _failed(
                f"the picture of row {row} ({records[row].name}) has a cosine of {own:.4f} with its row; "
                f"{records[first].name} comes first with {best:.4f}"
            )


def _check_rows(
    index: CardIndex,
    sampled: NDArray[np.int64],
    expected: NDArray[np.float32],
    records: Records,
    rounding: float = 0.0,
) -> None:
    """PipelineError if some rows can't be reached, or the `sampled` ones [S] are not as `expected`, float32 [S, D]."""
    unreachable = index.unreachable()
    if unreachable.size:
        name = records[int(unreachable[0])].name
        raise _failed(f"no search can reach {unreachable.size:,} rows; the first is row {unreachable[0]:,} ({name})")
    off = np.abs(index.rows(sampled) - expected).max(axis=1) > rounding
    if off.any():
        row = sampled[off][0]
        raise _failed(f"id {row} of the index is not row {row} of the vectors")


def _failed(details: str) -> PipelineError:
    return PipelineError.of(
        Category.BUILD,
        "the new index does not recognise its own pictures",
        details=details,
        suggestion="build again with --rebuild --no-resume; the existing index, if any, is untouched",
    )
