"""Stage 3, vectors, hashes + metadata -> the browser's files, format 1.0.

`embeddings.i8bin` is int8 [N, D], row-major, without a header; `meta.json` has its shape, how it was quantised, and the
N records. The quantisation itself is in `vectors`. `dhash.u8bin` is uint8 [N, 32] in the same way, and
`embeddings_whitened.i8bin` int8 [N, K], the whitened rows, for vectors that `whitening.f32bin` maps.
Files that meta.json does not name are not there. `bundle.json` lists the files for clients that verify and keep them,
see `bundle`: the encoder, parts and compressed copies are named there alone.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_set, json_text
from helpers.cards.faces import CardFace, Records
from helpers.embed.dhash import DHASH, HASH_BYTES
from helpers.embed.preprocess import BACKGROUND, INTERPOLATION
from helpers.embed.vectors import (
    BROWSER_FORMAT_VERSION,
    QUANTIZATION,
    SCALE_SAMPLE,
    best_scale,
    check_unit_rows,
    evenly,
    quantize,
)
from helpers.errors import BAD_JSON, Category, PipelineError
from helpers.index.bundle import PLAIN, BundleFile, Encoder, How, described, listed, split, split_records
from helpers.index.manifest import Manifest
from helpers.index.store import StoredIndex
from helpers.index.whitening import Whitening
from helpers.talk import human_bytes, warn

ALWAYS = ("name", "set", "image_url", "card_url")  # fields that existing clients refuse records without
_WHAT = {"records": "metadata", "vectors": "vectors", "whitened": "whitened vectors"}  # roles, in the summary
MAX_JSON = 2**29 - 24  # bytes of JSON that Chrome, Edge and Node take: V8 has no string of more characters
_MAX_HEADER = 1_000_000  # bytes of meta.json before the records


def write_browser_files(
    stored: StoredIndex, target: IndexFolder, how: How = PLAIN, encoder: Callable[[IndexFolder], Encoder] | None = None
) -> str:
    """Write the browser files of `stored` into `target`; return a summary for the user.

    `encoder` writes those of the encoder into the folder it is given. Raises PipelineError if the index's files
    disagree with each other, or a file would be replaced that no export wrote; then, as always when this fails, all
    stays as it was.
    """
    records = stored.records()
    meta, bundle = target.browser_metadata, target.browser_bundle
    removed: list[str] = []
    with atomic_set(target.root, meta.name, bundle.name, around=partial(_replacing, target, removed)) as staging:
        _refuse_to_replace(target, [bundle.name])  # before the encoder takes its time
        staged = IndexFolder(staging)
        made = encoder(staged) if encoder else Encoder([], [])
        arrays, extra = _write_arrays(stored, staged)
        header = _header(stored, extra)
        with open(staged.browser_metadata, "wb") as file:
            file.write(msgspec.json.encode(header)[:-1] + b',"records":[\n')
            file.writelines(_record_lines(records, how.fields, 0, stored.count))
            file.write(b"\n]}\n")
        files = [*_files_of_records(records, how, staged), *_files_of_rows(arrays, how), *made.files]
        files = described(files, staging, how.compress)
        _warn_of_large_records(files)
        contents = header | {"list": stored.manifest.card_list, "files": files}
        contents |= {"reference": made.reference} if made.reference else {}
        staged.browser_bundle.write_bytes(json_text(contents))
    return _summary(stored, target, files, removed)


@contextmanager
def _replacing(target: IndexFolder, removed: list[str], staging: Path) -> Iterator[None]:
    """Around the swap: refuse what would replace files of others; remove what the earlier export alone has."""
    written = {path.name for path in staging.iterdir()}
    _refuse_to_replace(target, written)
    left = (_of_exports(target) - written) & {path.name for path in target.root.iterdir()}
    yield
    for name in sorted(left):
        (target.root / name).unlink(missing_ok=True)
        removed.append(name)


def _refuse_to_replace(target: IndexFolder, names: Iterable[str]) -> None:
    """Raise PipelineError (Configuration Error) if `target` has one of these that no export wrote."""
    others = sorted(name for name in set(names) - _of_exports(target) if os.path.lexists(target.root / name))
    if others:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"{target.root} has files that are no export's",
            details=f"{', '.join(others)} would be replaced",
            suggestion="move them away, or export into another directory with export_for_browser.py --output-dir",
        )


def _of_exports(target: IndexFolder) -> set[str]:
    """The names of the contract, which exports without bundle.json have, too, and those that bundle.json lists."""
    own = (target.browser_vectors, target.browser_hashes, target.browser_whitened, target.browser_whitening)
    return {path.name for path in (*own, target.browser_metadata)} | listed(target)


def _summary(stored: StoredIndex, target: IndexFolder, files: Sequence[BundleFile], removed: Sequence[str]) -> str:
    """What was written: how much of it a client fetches, by role. And what was removed."""
    sizes: dict[str, int] = {}
    for file in files:
        what = f"encoder in {file.precision}" if file.precision else _WHAT.get(file.role, "")
        sizes[what] = sizes.get(what, 0) + file.bytes
    told = [f"{human_bytes(size)} of {what}" for what, size in sizes.items() if what]
    text = f"{stored.count:,} faces of width {stored.width}: {', '.join(told)}, written to {target.root}"
    if removed:
        text += f"; removed {', '.join(removed[:9])}" + (f" and {len(removed) - 9} more" if removed[9:] else "")
    return text


@dataclass(frozen=True, slots=True)
class _Array:
    """A file of N rows, or one without (`row_bytes` 0)."""

    role: str
    path: Path
    row_bytes: int


def _write_arrays(stored: StoredIndex, staged: IndexFolder) -> tuple[list[_Array], dict[str, Any]]:
    """Write vectors and hashes; return the files, and what the header says of those that not every index has."""
    rows, hashes, whitening = stored.vectors(), stored.hashes(), stored.whitening()
    check_unit_rows(rows, str(stored.folder.column("embeddings")))
    arrays, extra = [], {}
    if hashes is not None:
        hashes.tofile(staged.browser_hashes)
        arrays.append(_Array("hashes", staged.browser_hashes, HASH_BYTES))
        extra["dhash"] = {"file": staged.browser_hashes.name, **DHASH}
    if whitening is not None:
        extra["whitening"] = _write_whitened(rows, whitening, staged)
        extra["whitening"]["recognition"] = stored.manifest.recognition_by(whitened=True)
        arrays.append(_Array("whitened", staged.browser_whitened, whitening.dimensions))
        arrays.append(_Array("whitening", staged.browser_whitening, 0))
    with open(staged.browser_vectors, "wb") as file:
        for start in range(0, len(rows), 65536):
            file.write(quantize(rows[start : start + 65536]).tobytes())
    arrays.append(_Array("vectors", staged.browser_vectors, stored.width))
    return arrays, extra


def _files_of_rows(arrays: Sequence[_Array], how: How) -> Iterator[BundleFile]:
    """The files of vectors and hashes that clients fetch, parts of them if so asked."""
    for array in arrays:
        if not array.row_bytes:
            yield BundleFile(path=array.path.name, role=array.role)
            continue
        count = array.path.stat().st_size // array.row_bytes
        parts: Iterable[tuple[Path, tuple[int, int]]] = [(array.path, (0, count))]
        if how.rows_per_file:
            parts = split(array.path, array.row_bytes, count, how.rows_per_file)
        for path, rows in parts:
            yield BundleFile(path=path.name, role=array.role, rows=rows)


def _files_of_records(records: Records, how: How, staged: IndexFolder) -> Iterator[BundleFile]:
    """The files of the records that clients fetch, likewise."""
    parts: Iterable[tuple[Path, tuple[int, int]]] = [(staged.browser_metadata, (0, len(records)))]
    if how.rows_per_file:
        lines = partial(_record_lines, records, how.fields)
        parts = split_records(staged, lines, len(records), how.rows_per_file)
    for path, rows in parts:
        yield BundleFile(path=path.name, role="records", rows=rows)


def _warn_of_large_records(files: Sequence[BundleFile]) -> None:
    """Say so if records are in a file that many browsers can't read."""
    if largest := max((file.bytes for file in files if file.role == "records" and file.bytes > MAX_JSON), default=0):
        warn(
            f"the metadata has {human_bytes(largest)} in one file, and Chrome reads {human_bytes(MAX_JSON)} at most: "
            "pass --rows-per-file 10000, or fewer --fields"
        )


def _write_whitened(rows: NDArray[np.float32], whitening: Whitening, staged: IndexFolder) -> dict[str, Any]:
    """Write the whitened rows and their map; return where they are, and how they are read."""
    scale = best_scale(whitening(rows[evenly(len(rows), SCALE_SAMPLE)]))
    with open(staged.browser_whitened, "wb") as file:
        for start in range(0, len(rows), 65536):
            file.write(quantize(whitening(rows[start : start + 65536]), scale).tobytes())
    with open(staged.browser_whitening, "wb") as file:
        for part in (whitening.mean, whitening.axes):
            file.write(part.astype("<f4").tobytes())
    wide, narrow = whitening.axes.shape
    return {
        "vectors": {
            "file": staged.browser_whitened.name,
            "dtype": "int8",
            "shape": [len(rows), narrow],
            "scale_factor": scale,
            "note": "divide by scale_factor, do not normalise again; the dot product is the cosine but for rounding, "
            "and but for the largest values, which may be cut off",
        },
        "transform": {
            "file": staged.browser_whitening.name,
            "dtype": "float32, little-endian",
            "layout": f"mean [{wide}], axes [{wide}, {narrow}] row-major",
            "note": "whitened = (vector - mean) x axes, brought to norm 1",
        },
    }


def warn_of_old_export(folder: IndexFolder) -> None:
    """Say so if the browser files in `folder` were not exported from the index that is there."""
    try:
        with open(folder.browser_metadata, "rb") as file:
            header = file.readline(_MAX_HEADER).rstrip() + b"]}"
        built = msgspec.json.decode(header, type=dict[str, Any]).get("built")
    except FileNotFoundError:
        return
    except (OSError, *BAD_JSON):
        built = None
    if built != StoredIndex(folder).manifest.timestamp:
        warn(f"the browser files in {folder.root} are of an earlier build: run export_for_browser.py to renew them")


def _header(stored: StoredIndex, extra: dict[str, Any]) -> dict[str, Any]:
    """What meta.json and bundle.json both say."""
    manifest = stored.manifest
    return {
        "version": BROWSER_FORMAT_VERSION,
        "quantization": QUANTIZATION,
        "shape": [stored.count, stored.width],
        "model": model_of(manifest),
        "preprocessing": preprocessing_of(manifest),
        "recognition": manifest.recognition_by(whitened=False),
        "built": manifest.timestamp,
        **extra,
    }


def _record_lines(records: Records, fields: Sequence[str], first: int, end: int) -> Iterator[bytes]:
    """The records from `first` to `end` as they are separated in JSON, never all in memory."""
    kept = [name for name in CardFace.__struct_fields__ if not fields or name in {*ALWAYS, *fields}]
    for row in range(first, end):
        face = records[row]
        line = msgspec.json.encode({name: getattr(face, name) for name in kept}) if fields else face.to_json()
        yield (b",\n" if row > first else b"") + line


def model_of(manifest: Manifest) -> dict[str, Any]:
    """How open_clip loads the model that made the vectors."""
    model = manifest.model
    return {
        "clip_model": manifest.environment.clip_model,
        "weights_sha256": model.weights_sha256,
        "name": manifest.source.name,
        "pretrained": manifest.source.weights,
        "quick_gelu": model.quick_gelu,
        "precision": model.precision,
        "embedding_dim": model.embedding_dim,
    }


def preprocessing_of(manifest: Manifest) -> dict[str, Any]:
    """What happens to a picture: it is fitted to a square canvas, then to the model's input."""
    return {
        "target_size": manifest.parameters.target_size,
        "fit": manifest.parameters.fit,
        "background": BACKGROUND,  # RGB, beside a padded card and behind transparent corners
        "interpolation": INTERPOLATION,  # to the canvas, with antialiasing
        "input": manifest.model.input,
    }
