"""Words -> faces: those that a text describes, and those that look like the card of a name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from helpers.cards.faces import CardFace, Records
from helpers.embed.dhash import HASH_BYTES
from helpers.embed.vectors import unit_rows
from helpers.errors import Category, PipelineError
from helpers.index.store import StoredIndex
from helpers.recognise.query import (
    SEARCH,
    Answer,
    Card,
    Folder,
    Match,
    by_name,
    check_weights,
    find_model_of,
    how_searched,
    matches_of,
    open_index,
    open_ranker,
)
from helpers.recognise.where import Where

MIN_NORM = 1e-3  # of a weighted sum of unit vectors: a shorter one is rounding errors


def search_text(
    folder: Folder,
    texts: Mapping[str, float],
    k: int = 5,
    *,
    ef_search: int | None = None,
    device: str = "auto",
    where: Where | None = None,
    search: str = SEARCH[0],
) -> Answer:
    """Find the `k` faces nearest to the sum of the texts' unit vectors, each times its weight, which may be negative.

    With `where`, of the rows that pass, by exact search. `search`: one of `query.SEARCH`.

    The scores are plain cosines: whitening is fitted to pictures, and texts lie apart from those. So margin, gap and
    sure are None. PipelineError: Invalid Arguments if the weights are no numbers or the sum is nothing, Configuration
    Error if there is no such index, or the text tower of its model is missing or not trained.
    """
    if not texts or not all(math.isfinite(weight) for weight in texts.values()):
        raise _bad_texts("a search by text needs texts, with numbers as weights", texts)
    stored = open_index(folder)
    records = stored.records()
    among = None if where is None else where.rows(records)
    vector = unit_rows(_text_vector(stored, texts, device)[None])
    scores, rows = _nearest(stored, vector, k, ef_search, among, search)
    matches = matches_of([records[row] for row in rows.tolist()], scores)
    return Answer("", (Card(None, 0, matches, by_name(matches), None, None, None),))


def _nearest(
    stored: StoredIndex,
    vector: NDArray[np.float32],
    k: int,
    ef_search: int | None,
    among: NDArray[np.int64] | None,
    search: str,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The cosines and numbers of the rows nearest to a unit row float32 [1, D]; `among`: of these alone, exactly."""
    from helpers.index.faiss_index import CardIndex, exact_search  # their home, see there

    if among is not None:
        scores, rows = exact_search(vector, np.ascontiguousarray(stored.vectors()[among]), min(k, len(among)))
        return scores[0], among[rows[0]]
    index = CardIndex.of(stored)
    how, index.ef_search = how_searched(stored, search, ef_search, whitened=False)
    scores, rows = (index.search_exactly if how == "exact" else index.search)(vector, k)
    return scores[0][rows[0] >= 0], rows[0][rows[0] >= 0]


def _text_vector(stored: StoredIndex, texts: Mapping[str, float], device: str) -> NDArray[np.float32]:
    """The weighted sum of the texts' unit vectors, float32 [D]."""
    source = find_model_of(stored)
    from helpers.embed.embedder import TextEmbedder  # torch: seconds

    embedder = TextEmbedder.load(source, device)
    check_weights(stored, embedder.fingerprint)
    weights = np.array(list(texts.values()), np.float32)
    vector = np.asarray(weights @ embedder.encode(list(texts)), np.float32)
    if np.linalg.norm(vector) <= MIN_NORM * np.abs(weights).max():
        raise _bad_texts("the texts cancel each other out", texts)
    return vector


def _bad_texts(message: str, texts: Mapping[str, float]) -> PipelineError:
    return PipelineError.of(
        Category.INVALID_ARGUMENTS,
        message,
        details=", ".join(f"{text!r} x {weight}" for text, weight in texts.items()) or "received none",
        suggestion="give one text a weight of 1",
    )


def find_name(
    folder: Folder, name: str, k: int = 5, *, where: Where | None = None
) -> list[tuple[CardFace, tuple[Match, ...]]]:
    """All faces of a name, of the face or its card, in any case; each with the `k` nearest faces of other names.

    Nearest by the score that pictures are ranked by; the model is not needed. With `where`, of the rows that pass; if
    none of the name's does, all of its faces are the question. PipelineError (Invalid Arguments) with names like it if
    there is none.
    """
    stored = open_index(folder)
    records = stored.records()
    among = None if where is None else where.rows(records)
    rows, names = _rows_called(name, records)
    if among is not None and np.isin(rows, among).any():
        rows = np.intersect1d(rows, among)

    hashes, vectors = stored.hashes(), stored.vectors()
    ranker = open_ranker(stored, records, among)
    own_hashes = np.zeros((len(rows), HASH_BYTES), np.uint8) if hashes is None else hashes[rows]
    same = np.union1d(rows, ranker.rows_of(names))
    rankings = ranker.answer(vectors[rows], own_hashes, same)
    return [
        (face, matches_of(ranker.faces(ranking.rows[:k]), ranking.scores[:k]))
        for face, ranking in zip(ranker.faces(rows), rankings, strict=True)
    ]


def _rows_called(name: str, records: Records) -> tuple[NDArray[np.int64], set[str]]:
    """The rows whose face or card has this name, and the names of their faces; PipelineError if there is none."""
    wanted = name.strip().casefold()
    rows: list[int] = []
    names: set[str] = set()
    others: dict[str, str] = {}
    for row, face in enumerate(records):
        if wanted in (face.name.casefold(), face.card_name.casefold()):
            rows.append(row)
            names.add(face.name)
        elif not rows:
            others |= {face.name.casefold(): face.name, face.card_name.casefold(): face.card_name}
    if rows:
        return np.array(rows, np.int64), names
    near = [others[key] for key in difflib.get_close_matches(wanted, others, n=3)]
    raise PipelineError.of(
        Category.INVALID_ARGUMENTS,
        f"the index has no card named {name}",
        details=f"{len(records):,} rows were searched",
        suggestion=f"did you mean {', '.join(near)}?" if near else "give the whole name",
    )
