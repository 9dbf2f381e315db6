"""A finished index folder: its manifest, and reading it with every count checked against the others."""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.atomic_io import indented_json
from helpers.cards.faces import CardFace, Filters
from helpers.cards.pictures import PICTURE, Settings, sha256_of
from helpers.embed.model_source import ModelSource
from helpers.embed.preprocess import Preparation
from helpers.errors import BAD_JSON, Category, PipelineError

MANIFEST_VERSION = "1.0.0"


def wanted_by(kind: str, image_key: str, limit: int | None, filters: Filters) -> str:
    """The flags that choose the faces of a build."""
    first = "" if limit is None else f"--limit {limit}"
    return " ".join(filter(None, [f"--kind {kind} --image-key {image_key}", first, str(filters)]))


class Parameters(msgspec.Struct, frozen=True):
    """What the build was asked for, and the efSearch that it chose."""

    kind: str
    batch_size: int
    target_size: int
    hnsw_m: int
    hnsw_ef_construction: int
    hnsw_ef_search: int
    image_key: str
    fit: str
    limit: int | None
    validate_cache: bool = False  # indexes of before don't say
    filters: dict[str, Any] = {}  # msgspec copies it; indexes of before have none

    @property
    def wanted(self) -> str:
        """The flags that chose the faces."""
        return wanted_by(self.kind, self.image_key, self.limit, msgspec.convert(self.filters, Filters))


class Statistics(msgspec.Struct, frozen=True):
    """total = successful + failed; failed counts faces whose picture is missing from the cache or invalid."""

    total_records: int
    successful_embeddings: int
    failed_embeddings: int
    success_rate: float
    missing_from_cache: int
    validation_failures: int


class Environment(msgspec.Struct, frozen=True):
    """What it was built with."""

    python_version: str
    numpy_version: str
    torch_version: str
    faiss_version: str
    clip_model: str
    device: str


class Model(msgspec.Struct, frozen=True):
    """What a query needs to make comparable vectors."""

    name: str
    pretrained: str | None
    weights_sha256: str
    embedding_dim: int
    precision: str = "fp32"
    preprocessing: str = ""  # open_clip's own; indexes of before don't say
    architecture_sha256: str = ""  # of the image tower's configuration; indexes of before don't say


class Embedding(msgspec.Struct, frozen=True):
    """How the rows came about, and how fast."""

    ranks: int  # processes, by torchrun
    loaders: int  # threads that read, decode and prepare, in each
    encoders: int  # threads that call the model, in each
    precision_chosen: str  # asked for, or why it is what it is
    reused: int  # rows of earlier builds
    resumed: int  # rows of an earlier, interrupted run
    embedded: int  # rows made by this run
    waiting_for_loaders: float  # share of the embedding in which the model (on a CPU: a core of its) had no batch, 0..1
    images_per_second: dict[str, float]  # by phase
    dropped: int = 0  # rows of the earlier index whose pictures the list names no more


class Manifest(msgspec.Struct, frozen=True):
    """build_manifest.json: the provenance of an index. Readers ignore fields they don't know."""

    version: str
    timestamp: str
    parameters: Parameters
    statistics: Statistics
    environment: Environment
    git_commit: str | None
    tool_version: str
    model: Model
    card_list: str  # file name of the list in the image cache, which carries its version
    ef_search_recall_at_10: dict[int, float]  # on this index's own rows, moved to cosine 0.85
    seconds: dict[str, float]  # by phase
    images_per_second: float  # of the phase "embedding"
    sha256: dict[str, str]  # by file name
    embedding: Embedding | None = None  # indexes of before have none

    @property
    def source(self) -> ModelSource:
        """The model to load for a query."""
        return ModelSource(self.model.name, self.model.pretrained)

    @property
    def preparation(self) -> Preparation:
        """How a query's picture is prepared."""
        return Preparation(self.parameters.target_size, self.parameters.fit)

    @property
    def settings(self) -> Settings:
        """What the rows depend on beside their pictures."""
        return Settings(
            model=self.source.name,
            weights_sha256=self.model.weights_sha256,
            precision=self.model.precision,
            preprocessing=self.model.preprocessing,
            target_size=self.parameters.target_size,
            fit=self.parameters.fit,
            architecture_sha256=self.model.architecture_sha256,
        )

    def to_json(self) -> bytes:
        """Indented UTF-8 JSON."""
        return indented_json(self)


class Records(Sequence[CardFace]):
    """Metadata lines, decoded one at a time as they are asked for: half a million would fill the memory."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """The lines of `file`, which may be closed or removed afterwards; `path` names it in errors."""
        self._path = path
        empty = os.fstat(file.fileno()).st_size == 0
        self._bytes = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._ends = _newlines(self._bytes)

    def __len__(self) -> int:
        return len(self._ends)

    def line(self, row: int) -> bytes:
        """Line `row`, with its newline."""
        return self._bytes[self._ends[row - 1] + 1 if row else 0 : self._ends[row] + 1]

    @overload
    def __getitem__(self, row: int) -> CardFace: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[CardFace]: ...
    def __getitem__(self, row: int | slice) -> CardFace | Sequence[CardFace]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        try:
            return CardFace.from_json(self.line(row))
        except BAD_JSON as error:
            raise disagreement(self._path, f"line {row + 1:,}: {error}") from error


def _newlines(text: bytes | mmap.mmap) -> NDArray[np.int64]:
    """Where the lines of `text` end, found piece by piece: a mask over all of it would be as large as the text."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(text), 1 << 24):
        piece = np.frombuffer(text, np.uint8, min(1 << 24, len(text) - start), start)
        found.append(start + np.flatnonzero(piece == ord("\n")))
    return np.concatenate(found)


class StoredIndex:
    """The files of an index folder that has a manifest; each is checked against it when it is read."""

    def __init__(self, folder: IndexFolder) -> None:
        """Read the manifest; PipelineError (Configuration Error) where there is none or it can't be read."""
        self.folder = folder
        try:
            self.manifest = msgspec.json.decode(folder.manifest.read_bytes(), type=Manifest)
        except FileNotFoundError as error:
            raise PipelineError.of(
                Category.CONFIGURATION,
                f"there is no finished index in {folder.root}",
                details=f"{folder.manifest.name} is missing"
                + (", a build was interrupted" if folder.checkpoint_meta.exists() else ""),
                suggestion="run the same build again, it goes on where it was"
                if folder.checkpoint_meta.exists()
                else "build one with build_embeddings.py, or name the directory of one (make demo: demo/index_out)",
            ) from error
        except (OSError, *BAD_JSON) as error:
            raise disagreement(folder.manifest, str(error)) from error
        if self.manifest.version.partition(".")[0] != MANIFEST_VERSION.partition(".")[0]:
            raise disagreement(folder.manifest, f"version {self.manifest.version} is not {MANIFEST_VERSION}")

    @property
    def count(self) -> int:
        """N, the number of rows."""
        return self.manifest.statistics.successful_embeddings

    @property
    def width(self) -> int:
        """D, the number of dimensions."""
        return self.manifest.model.embedding_dim

    def records(self) -> Records:
        """The N metadata records."""
        path = self._unchanged(self.folder.metadata)
        with open(path, "rb") as file:
            records = Records(file, path)
        if len(records) != self.count:
            raise disagreement(path, f"{len(records):,} lines, but the manifest counts {self.count:,} rows")
        return records

    def vectors(self) -> NDArray[np.float32]:
        """The rows, float32 [N, D], memory-mapped."""
        path = self._unchanged(self.folder.embeddings)
        rows = _mapped(path)
        if rows.dtype != np.float32 or rows.shape != (self.count, self.width):
            expected = f"float32 [{self.count}, {self.width}]"
            raise disagreement(path, f"{rows.dtype} {list(rows.shape)}, but the manifest says {expected}")
        return rows

    def pictures(self) -> NDArray[Any]:
        """What each row was made of, dtype PICTURE [N], memory-mapped."""
        path = self._unchanged(self.folder.pictures)
        pictures = _mapped(path)
        if pictures.dtype != PICTURE or pictures.shape != (self.count,):
            raise disagreement(path, f"{pictures.dtype} {list(pictures.shape)}, but the manifest says [{self.count}]")
        return pictures

    def index_path(self) -> Path:
        """The FAISS index's file, found as the build left it."""
        return self._unchanged(self.folder.index)

    def _unchanged(self, path: Path) -> Path:
        """`path`, if its content is what the manifest says; counts alone would not tell two builds apart."""
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise disagreement(path, error.strerror or str(error)) from error
        if digest != self.manifest.sha256.get(path.name):
            raise disagreement(path, f"its SHA-256 is {digest}, not the one in {self.folder.manifest.name}")
        return path


def _mapped(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError) as error:
        raise disagreement(path, str(error)) from error


def disagreement(path: Path, details: str) -> PipelineError:
    """The error for a file of an index folder that does not fit the others."""
    return PipelineError.of(
        Category.VALIDATION,
        f"{path} does not belong to this index",
        details=details,
        suggestion="build the index again with build_embeddings.py",
    )
