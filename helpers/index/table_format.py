"""The index as one table for other tools, in Parquet, Lance or safetensors: a row a face, its vector last.

Parquet and Lance have a column for each field of the metadata. safetensors knows tensors alone: there the metadata are
one tensor of JSON lines, with the places where they start. All three say under METADATA_KEY what the vectors are. Rows
are written in batches, so that a large index need not fit into memory.
"""

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.atomic_io import atomic_result, require_replaceable
from helpers.cards.faces import CardFace, Records
from helpers.cards.pictures import sha256_of
from helpers.embed.dhash import HASH_BYTES
from helpers.embed.vectors import METRIC, check_unit_rows
from helpers.errors import Category, PipelineError
from helpers.index.browser_format import model_of, preprocessing_of
from helpers.index.store import StoredIndex
from helpers.index.whitening import Whitening
from helpers.talk import Progress, human_bytes

VERSION = "1.0"
METADATA_KEY = "mtg_image_db"
ROWS = ("whitened", "raw")
BATCH = 16384  # rows: 34 MB of vectors of width 512
_SHA256_BYTES = 32
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how libraries in Rust pass on what the system said


@dataclass(frozen=True)
class _Source:
    """The columns of the table, memory-mapped; those that an older index lacks are None."""

    stored: StoredIndex
    records: Records
    raw: NDArray[np.float32]  # [N, D]
    whitening: Whitening | None  # None: the table has the raw vectors
    hashes: NDArray[np.uint8] | None  # [N, 32]
    pictures: NDArray[Any] | None  # PICTURE [N]

    @classmethod
    def of(cls, stored: StoredIndex, rows: str | None) -> "_Source":
        whitening = None if rows == "raw" else stored.whitening()
        if rows == "whitened" and whitening is None:
            raise PipelineError.of(
                Category.CONFIGURATION,
                f"the index in {stored.folder.root} has no whitened rows",
                details=f"{stored.folder.whitening.name} is not part of it",
                suggestion="use --rows raw, or build the index without --no-whiten",
            )
        raw = stored.vectors()
        check_unit_rows(raw, str(stored.folder.column("embeddings")))
        return cls(stored, stored.records(), raw, whitening, stored.hashes(), stored.made_of())

    @property
    def width(self) -> int:
        return self.whitening.dimensions if self.whitening else self.stored.width

    def vectors(self, rows: slice) -> NDArray[np.float32]:
        raw = self.raw[rows]
        return self.whitening(raw) if self.whitening else raw

    def picture_sha256(self, rows: slice) -> NDArray[np.uint8] | None:
        """uint8 [B, 32], zeros where it is not known; None if the index does not have it."""
        if self.pictures is None:
            return None
        digests = np.ascontiguousarray(self.pictures["sha256"][rows])
        return digests.view(np.uint8).reshape(-1, _SHA256_BYTES)

    def hashes_of(self, rows: slice) -> NDArray[np.uint8] | None:
        """uint8 [B, 32]; None if the index does not have them."""
        return None if self.hashes is None else self.hashes[rows]

    def batches(self) -> Iterator[slice]:
        with Progress("Exporting", len(self.records), "faces") as progress:
            for start in range(0, len(self.records), BATCH):
                rows = slice(start, min(start + BATCH, len(self.records)))
                yield rows
                progress.advance(rows.stop - rows.start)

    def header(self) -> dict[str, Any]:
        """What the table says of itself."""
        stored, manifest = self.stored, self.stored.manifest
        name = stored.folder.whitening.name
        return {
            "version": VERSION,
            "shape": [len(self.records), self.width],
            "rows": "whitened" if self.whitening else "raw",
            "metric": METRIC,
            "unit_rows": True,
            "whitening": {"file": name, "sha256": manifest.sha256[name]} if self.whitening else None,
            "recognition": manifest.recognition_by(whitened=self.whitening is not None),
            "model": model_of(manifest),
            "preprocessing": preprocessing_of(manifest),
            "list": manifest.card_list,
            "built": manifest.timestamp,
            "manifest_sha256": sha256_of(stored.folder.manifest),
        }


def write_table(stored: StoredIndex, out: Path, format: str, rows: str | None = None) -> str:
    """Write the rows of `stored` to `out`, of FORMATS; return a summary for the user.

    `rows` is of ROWS; None: whitened rows if the index has them, else raw ones. Raises PipelineError: Configuration
    Error if the format's package is missing, there are no whitened rows, `out` is something else than a table of that
    format or can't be written; Validation Error if the index's files disagree. Then what was at `out` stays.
    """
    write = FORMATS[format]
    _require(format)
    _require_replaceable(out, format)
    source = _Source.of(stored, rows)
    header = source.header()
    with atomic_result(out) as made, _system_errors():
        write(source, made, header)
    size = sum(path.stat().st_size for path in (out, *out.rglob("*")) if path.is_file())
    shape = f"{header['rows']} vectors of width {source.width}"
    return f"{len(source.records):,} faces with {shape}: {human_bytes(size)}, written to {out}"


# ------------------------------------------------------------------------------------------------ Parquet and Lance


def _write_parquet(source: _Source, path: Path, header: dict[str, Any]) -> None:
    import pyarrow.parquet

    schema = _schema(source, header)
    texts = [field.name for field in schema if field.name not in ("row", "dhash", "picture_sha256", "vector")]
    how = {"compression": "zstd", "use_dictionary": texts, "write_statistics": ["row", *texts]}
    with open(path, "wb") as file, pyarrow.parquet.ParquetWriter(file, schema, **how) as writer:
        for batch in _arrow_batches(source, schema):
            writer.write_batch(batch)


def _write_lance(source: _Source, path: Path, header: dict[str, Any]) -> None:
    """One fragment a batch, then one version of all. Batches are made here, not in a thread of the package's.

    That would still ask for more when a signal has ended us, and abort.
    """
    import lance
    import pyarrow

    schema, fragments = _schema(source, header), []
    for batch in _arrow_batches(source, schema):
        table = pyarrow.Table.from_batches([batch])
        fragments += lance.fragment.write_fragments(table, str(path), mode="create")
    lance.LanceDataset.commit(str(path), lance.LanceOperation.Overwrite(schema, fragments))


def _schema(source: _Source, header: dict[str, Any]) -> Any:
    """The columns' names and types, and what the table says of itself."""
    import pyarrow as pa

    text, words = pa.string(), pa.list_(pa.string())
    types = {"row": pa.int64()}
    for name, hint in get_type_hints(CardFace).items():
        is_list = get_origin(hint) in (list, tuple)
        types[name] = words if is_list else pa.bool_() if bool in get_args(hint) else text
    types |= {"picture_sha256": text, "dhash": pa.binary(HASH_BYTES), "vector": pa.list_(pa.float32(), source.width)}
    return pa.schema(list(types.items()), metadata={METADATA_KEY: msgspec.json.encode(header)})


def _arrow_batches(source: _Source, schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    for rows in source.batches():
        faces = source.records[rows]
        columns: dict[str, Any] = {name: [getattr(face, name) for face in faces] for name in CardFace.__struct_fields__}
        columns["row"] = range(rows.start, rows.stop)
        columns["picture_sha256"] = _each(source.picture_sha256(rows), len(faces), _hex_or_none)
        columns["dhash"] = _each(source.hashes_of(rows), len(faces), np.ndarray.tobytes)
        arrays = [pa.array(columns[field.name], field.type) for field in schema if field.name != "vector"]
        vectors = pa.array(source.vectors(rows).reshape(-1))
        arrays.append(pa.FixedSizeListArray.from_arrays(vectors, source.width))
        yield pa.record_batch(arrays, schema=schema)


def _each(rows: NDArray[np.uint8] | None, count: int, cell: Callable[[NDArray[np.uint8]], Any]) -> list[Any]:
    """`cell` of each row; `count` times None if the index lacks the column."""
    return [None] * count if rows is None else [cell(row) for row in rows]


def _hex_or_none(digest: NDArray[np.uint8]) -> str | None:
    return digest.tobytes().hex() if digest.any() else None


# ------------------------------------------------------------------------------------------------------ safetensors


def _write_safetensors(source: _Source, path: Path, header: dict[str, Any]) -> None:
    """Columns are passed as memory maps, which the package writes without a copy."""
    from safetensors.numpy import save_file

    everything = slice(0, len(source.records))
    columns: dict[str, NDArray[Any] | None] = {
        "records": np.frombuffer(source.records.text, np.uint8),
        "record_starts": source.records.starts,
        "picture_sha256": source.picture_sha256(everything),
        "dhash": source.hashes_of(everything),
        "vectors": _mapped_vectors(source, path.parent),
    }
    there = {name: column for name, column in columns.items() if column is not None}
    path.touch()
    mode = path.stat().st_mode
    save_file(there, path, metadata={METADATA_KEY: msgspec.json.encode(header).decode()})
    path.chmod(mode)  # the package makes files that nobody else may read


def _mapped_vectors(source: _Source, folder: Path) -> NDArray[np.float32]:
    """All vectors as a memory map: of the index's file, or of an unnamed one in `folder`."""
    if source.whitening is None:
        return source.raw
    with tempfile.TemporaryFile(dir=folder) as file:
        for rows in source.batches():
            file.write(source.vectors(rows).tobytes())
        file.flush()
        return np.memmap(file, np.float32, "r", shape=(len(source.records), source.width))


# ---------------------------------------------------------------------------------------------------- what may fail


FORMATS: dict[str, Callable[[_Source, Path, dict[str, Any]], None]] = {
    "parquet": _write_parquet,
    "safetensors": _write_safetensors,
    "lance": _write_lance,
}
_PACKAGES = {"parquet": {"pyarrow": "pyarrow"}, "safetensors": {}, "lance": {"pyarrow": "pyarrow", "lance": "pylance"}}


def _require(format: str) -> None:
    """PipelineError (Configuration Error) that names the packages of `format` that are not installed."""
    missing = [package for module, package in _PACKAGES[format].items() if find_spec(module) is None]
    if missing:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"--format {format} needs a package that is not installed",
            details=f"{sys.executable} has no {' and no '.join(missing)}",
            suggestion=f"{shlex.quote(sys.executable)} -m pip install {' '.join(missing)}; "
            "--format safetensors needs none",
        )


def _require_replaceable(out: Path, format: str) -> None:
    """PipelineError (Configuration Error) if something is at `out` that no export in this format can have written."""
    suggestion = "name another with --out, or move it away"
    if format != "lance":
        require_replaceable(out, "the table", suggestion)
    elif os.path.lexists(out) and (out.is_symlink() or not (out / "_versions").is_dir()):
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the table can't be written",
            details=f"{out} is there, and is not a table in Lance's format",
            suggestion=suggestion,
        )


@contextmanager
def _system_errors() -> Iterator[None]:
    """Turn what the packages in Rust raise back into the OSError that it was: a full disk must be told as such."""
    try:
        yield
    except Exception as error:
        found = _OS_ERROR.search(str(error))
        if found is None or (isinstance(error, OSError) and error.errno is not None):
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number)) from error
