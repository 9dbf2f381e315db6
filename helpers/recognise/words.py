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
from helpers.recognise.query import Answer, Card, Folder, Match, check_weights, find_model_of, matches_of, open_index
from helpers.recognise.ranking import Ranker

MIN_NORM = 1e-3  # of a weighted sum of unit vectors: a shorter one is rounding errors


def search_text(
    folder: Folder, texts: Mapping[str, float], k: int = 5, *, ef_search: int | None = None, device: str = "auto"
) -> Answer:
    """Find the `k` faces nearest to the sum of the texts' unit vectors, each times its weight, which may be negative.

    The scores are plain cosines: whitening is fitted to pictures, and texts lie apart from those. So margin, gap and
    sure are None. PipelineError: Invalid Arguments if the weights are no numbers or the sum is nothing, Configuration
    Error if there is no such index, or the text tower of its model is missing or not trained.
    """
    if not texts or not all(math.isfinite(weight) for weight in texts.values()):
        raise _bad_texts("a search by text needs texts, with numbers as weights", texts)
    stored = open_index(folder)
    records = stored.records()
    vector = unit_rows(_text_vector(stored, texts, device)[None])

    from helpers.index.faiss_index import CardIndex  # its home, see there

    index = CardIndex.of(stored)
    if ef_search is not None:
        index.ef_search = ef_search
    scores, rows = index.search(vector, k)
    found = rows[0] >= 0
    matches = matches_of([records[row] for row in rows[0][found].tolist()], scores[0][found])
    return Answer("", (Card(None, 0, matches, None, None, None),))


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


def find_name(folder: Folder, name: str, k: int = 5) -> list[tuple[CardFace, tuple[Match, ...]]]:
    """All faces of a name, of the face or its card, in any case; each with the `k` nearest faces of other names.

    Nearest by the score that pictures are ranked by; the model is not needed. PipelineError (Invalid Arguments) with
    names like it if there is none.
    """
    stored = open_index(folder)
    records = stored.records()
    rows, names = _rows_called(name, records)

    from helpers.index.faiss_index import CardIndex  # its home, see there

    hashes, vectors = stored.hashes(), stored.vectors()
    ranker = Ranker(CardIndex.of(stored), hashes, vectors, records, stored.manifest.recognition)
    own_hashes = np.zeros((len(rows), HASH_BYTES), np.uint8) if hashes is None else hashes[rows]
    same = np.union1d(rows, ranker.rows_of(names))
    rankings = ranker.rank(vectors[rows], own_hashes, same)
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
