"""A finished index folder, read with every file checked against the manifest."""

import os
import threading
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder, disagreement, unreadable
from helpers.cards.faces import Records
from helpers.cards.pictures import sha256_of
from helpers.embed.settings import Rows
from helpers.errors import BAD_JSON, Category, PipelineError
from helpers.index.manifest import MANIFEST_VERSION, Manifest
from helpers.index.whitening import Whitening
from helpers.talk import path_of


class StoredIndex:
    """The files of an index folder that has a manifest; each is checked against it when it is read.

    Raises PipelineError: Validation Error if a file does not match the manifest, Configuration Error if there is no
    manifest or a file can't be read.
    """

    def __init__(self, folder: IndexFolder) -> None:
        self.folder = folder
        self._digests: dict[Path, Future[str]] = {}
        try:
            self.manifest = msgspec.json.decode(_content(folder.manifest), type=Manifest)
        except FileNotFoundError as error:
            raise PipelineError.of(
                Category.CONFIGURATION,
                f"there is no finished index in {folder.root}",
                details=f"{folder.manifest.name} is missing"
                if Path(folder.root).is_dir()
                else f"there is no directory {folder.root}",
                suggestion="build one with build_mtg_faiss.py (the same command resumes an interrupted build), or "
                "pass the directory of one (after make demo: demo/index_out)",
            ) from error
        except BAD_JSON as error:
            raise disagreement(folder.manifest, str(error)) from error
        if self.manifest.version.partition(".")[0] != MANIFEST_VERSION.partition(".")[0]:
            raise disagreement(folder.manifest, f"version {self.manifest.version} is not {MANIFEST_VERSION}")

    def hash_ahead(self, *, whitened: bool) -> None:
        """Begin to hash what a query reads besides the metadata: 1 GB takes a second, and loading a model several."""
        index = self.folder.whitened_index if whitened else self.folder.index
        paths = (index, self.folder.column("dhash"))
        self._digests = {path: Future() for path in paths}
        # Not a pool: that is waited for when an error or Ctrl-C ends the process
        threading.Thread(target=_hash_each, args=(dict(self._digests),), daemon=True).start()

    @property
    def count(self) -> int:
        """N, the number of rows."""
        return self.manifest.statistics.successful_embeddings

    @property
    def width(self) -> int:
        """D, the number of dimensions."""
        return self.manifest.model.embedding_dim

    @property
    def pictures(self) -> Path | None:
        """The directory of the pictures that it was built from; None for an older index."""
        return beside(self.folder.root, self.manifest.parameters.cache)

    def records(self) -> Records:
        """The N metadata records."""
        path = self._unchanged(self.folder.metadata)
        try:
            with open(path, "rb") as file:
                records = Records(file, path)
        except OSError as error:
            raise unreadable(path, error) from error
        if len(records) != self.count:
            raise disagreement(path, f"{len(records):,} lines, but the manifest counts {self.count:,} rows")
        return records

    def rows(self) -> Rows:
        """The rows with all their columns, memory-mapped."""
        return Rows(**{name: self._column(name) for name in Rows.names()})

    def vectors(self) -> NDArray[np.float32]:
        """The embeddings alone, float32 [N, D], memory-mapped."""
        return self._column("embeddings")

    def hashes(self) -> NDArray[np.uint8] | None:
        """The difference hashes alone, uint8 [N, 32], memory-mapped; None if an earlier version built the index."""
        return self._column_if_listed("dhash")

    def made_of(self) -> NDArray[Any] | None:
        """The picture that each row was made of, PICTURE [N], memory-mapped; None if an earlier version built it."""
        return self._column_if_listed("pictures")

    def whitening(self) -> Whitening | None:
        """The map to whitened rows; None if the index was built without."""
        path = self.folder.whitening
        if path.name not in self.manifest.sha256:
            return None
        try:
            found = Whitening.load(self._unchanged(path))
        except OSError as error:
            raise unreadable(path, error) from error
        except (ValueError, LookupError, EOFError, MemoryError, zipfile.BadZipFile) as error:
            raise disagreement(path, str(error)) from error
        if found.mean.shape != (self.width,) or found.axes.shape[0] != self.width:
            raise disagreement(path, f"it maps {found.axes.shape[0]} dimensions, but the manifest says {self.width}")
        return found

    def _column_if_listed(self, name: str) -> NDArray[Any] | None:
        return self._column(name) if self.folder.column(name).name in self.manifest.sha256 else None

    def _column(self, name: str) -> NDArray[Any]:
        path = self._unchanged(self.folder.column(name))
        try:
            found = np.load(path, mmap_mode="r")
        except OSError as error:
            raise unreadable(path, error) from error
        except (ValueError, EOFError) as error:
            raise disagreement(path, str(error)) from error
        none = Rows.empty(width=self.width).columns()[name]
        shape = (self.count, *none.shape[1:])
        if (found.dtype, found.shape) != (none.dtype, shape):
            expected = f"{none.dtype} {list(shape)}"
            raise disagreement(path, f"{found.dtype} {list(found.shape)}, but the manifest says {expected}")
        return np.asarray(found)

    def index_path(self, *, whitened: bool = False) -> Path:
        """The FAISS index file, of the rows or of the whitened rows, checked to be as the build left it."""
        return self._unchanged(self.folder.whitened_index if whitened else self.folder.index)

    def _unchanged(self, path: Path) -> Path:
        """`path`, if its content matches the manifest; counts alone would not tell two builds apart."""
        expected = self.manifest.sha256.get(path.name)
        if expected is None:
            raise disagreement(path, f"{self.folder.manifest.name} does not list it: an earlier version built it")
        try:
            digest = self._digests[path].result() if path in self._digests else sha256_of(path)
        except FileNotFoundError as error:
            raise disagreement(path, "it is missing") from error
        except OSError as error:
            raise unreadable(path, error) from error
        if digest != expected:
            raise disagreement(path, f"its SHA-256 is {digest}, not the one in {self.folder.manifest.name}")
        return path


def _hash_each(wanted: Mapping[Path, Future[str]]) -> None:
    for path, digest in wanted.items():
        try:
            digest.set_result(sha256_of(path))
        except OSError as error:
            digest.set_exception(error)  # raised where it is needed


def beside(folder: Path, relative: str | None) -> Path | None:
    """The path that a manifest in `folder` has as `relative`."""
    return None if relative is None else Path(os.path.normpath(folder.resolve() / path_of(relative)))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
