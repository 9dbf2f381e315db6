"""Picture -> the nearest faces, prepared and embedded as the index's manifest says."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from helpers.artifacts import IndexFolder
from helpers.cards.faces import CardFace, Records
from helpers.embed.model_source import ModelSource, find_model, prefer_cached_weights
from helpers.errors import Category, PipelineError
from helpers.index.store import StoredIndex
from helpers.talk import say
from helpers.validation import BrokenImage, read_image

if TYPE_CHECKING:
    from helpers.embed.embedder import Embedder
    from helpers.index.faiss_index import CardIndex


@dataclass(frozen=True, slots=True)
class Match:
    """A face and its similarity: `score` is the cosine."""

    rank: int
    score: float
    face: CardFace


@dataclass(frozen=True, slots=True)
class Answer:
    """The result for one picture: matches, best first, or the reason why there are none."""

    image: str
    matches: tuple[Match, ...] = ()
    error: str | None = None


def _model_of(stored: StoredIndex) -> ModelSource:
    return find_model(stored.manifest.model.name, stored.manifest.model.pretrained or "")


def embedder_of(stored: StoredIndex, device: str) -> "Embedder":
    """Load the model of an index; PipelineError if it would embed a picture differently than the index was."""
    from helpers.embed.embedder import Embedder  # torch: seconds
    from helpers.embed.precision import precision_of_query

    manifest = stored.manifest
    embedder = Embedder.load(manifest.source, manifest.preparation, device)
    if embedder.fingerprint != manifest.model.weights_sha256:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the model's weights are not the ones the index was built with",
            details=f"{manifest.model.name}, {manifest.model.pretrained or 'its own weights'}",
            suggestion="restore the old weights, or rebuild the index with build_embeddings.py",
        )
    built = manifest.settings
    differs = built.differences(replace(embedder.settings, precision=built.precision))
    if differs:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "a picture would be preprocessed or embedded differently than the index was",
            details="; ".join(differs),
            suggestion="restore the model's configuration, or the open_clip version the index was built with, or "
            "rebuild it with build_embeddings.py",
        )
    embedder.use(precision_of_query(embedder.device, built.precision))
    return embedder


class QueryEngine:
    """A loaded index with the model that made it."""

    def __init__(self, index: "CardIndex", records: Records, embedder: "Embedder") -> None:
        self._index = index
        self._records = records
        self._embedder = embedder

    @classmethod
    def load(cls, folder: IndexFolder, *, ef_search: int | None, device: str) -> "QueryEngine":
        """Load the index of `folder` and its model; PipelineError if the files disagree.

        `ef_search` overrides the index's own.
        """
        stored = StoredIndex(folder)
        records = stored.records()
        prefer_cached_weights(_model_of(stored), offline=False)
        say(f"Loading {stored.manifest.source.display_name} and {stored.count:,} rows")
        from helpers.index.faiss_index import CardIndex  # faiss and torch: seconds, so only once the files are checked

        index = CardIndex.of(stored)
        if ef_search is not None:
            index.ef_search = ef_search
        return cls(index, records, embedder_of(stored, device))

    @property
    def ef_search(self) -> int:
        """Candidates per search."""
        return self._index.ef_search

    def __len__(self) -> int:
        return len(self._index)

    def ask(self, image: str, k: int) -> Answer:
        """The `k` nearest faces to the picture at `image`."""
        try:
            picture = read_image(Path(image))
        except FileNotFoundError:
            return Answer(image, error="no such file")
        except BrokenImage as error:
            return Answer(image, error=str(error))
        vector = self._embedder.encode([self._embedder.prepare(picture)])
        scores, rows = self._index.search(vector, k)
        found = [(float(score), int(row)) for score, row in zip(scores[0], rows[0], strict=True) if row >= 0]
        return Answer(
            image, tuple(Match(rank, score, self._records[row]) for rank, (score, row) in enumerate(found, 1))
        )

    def ask_each(self, images: Iterable[str], k: int) -> Iterator[Answer]:
        """`ask` for each picture, in order, as they come."""
        return (self.ask(image, k) for image in images)
