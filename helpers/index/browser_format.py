"""Stage 3, vectors, hashes + metadata -> the browser's files, format 1.0.

`embeddings.i8bin` is int8 [N, D], row-major, without a header; `meta.json` has its shape, how it was quantised, and the
N records. The quantisation itself is in `vectors`. `dhash.u8bin` is uint8 [N, 32] in the same way; where meta.json does
not name it, there is none.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_set, disk_errors_named
from helpers.cards.faces import Records
from helpers.embed.dhash import DHASH
from helpers.embed.preprocess import BACKGROUND, INTERPOLATION
from helpers.embed.vectors import BROWSER_FORMAT_VERSION, QUANTIZATION, check_unit_rows, quantize
from helpers.errors import BAD_JSON
from helpers.index.manifest import Manifest
from helpers.index.store import StoredIndex
from helpers.talk import human_bytes, warn

_MAX_HEADER = 1_000_000  # bytes of meta.json before the records


def write_browser_files(stored: StoredIndex, target: IndexFolder) -> str:
    """Write the browser files of `stored` into `target`; return a summary for the user.

    Raises PipelineError if the index's files disagree with each other.
    """
    rows, hashes, records = stored.vectors(), stored.hashes(), stored.records()
    check_unit_rows(rows, str(stored.folder.column("embeddings")))
    with atomic_set(target.root, marker=target.browser_metadata.name) as staging:
        staged = IndexFolder(staging)
        with open(staged.browser_vectors, "wb") as file:
            for start in range(0, len(rows), 65536):
                file.write(quantize(rows[start : start + 65536]).tobytes())
        if hashes is not None:
            hashes.tofile(staged.browser_hashes)
        with open(staged.browser_metadata, "wb") as file:
            file.writelines(_metadata_json(stored, records, hashed=hashes is not None))
    if hashes is None:  # those of an earlier export belong to nothing now
        with disk_errors_named(target.browser_hashes):
            target.browser_hashes.unlink(missing_ok=True)
    size = f"{human_bytes(rows.size)} of vectors, {human_bytes(target.browser_metadata.stat().st_size)} of metadata"
    return f"{len(rows):,} faces of width {rows.shape[1]}: {size}, written to {target.root}"


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


def _metadata_json(stored: StoredIndex, records: Records, *, hashed: bool) -> Iterator[bytes]:
    """The pieces of meta.json: the records are streamed, never all in memory."""
    manifest = stored.manifest
    header: dict[str, Any] = {
        "version": BROWSER_FORMAT_VERSION,
        "quantization": QUANTIZATION,
        "shape": [stored.count, stored.width],
        "model": _model(manifest),
        "preprocessing": _preprocessing(manifest),
        "recognition": manifest.recognition,
        "built": manifest.timestamp,
    }
    if hashed:
        header["dhash"] = {"file": stored.folder.browser_hashes.name, **DHASH}
    yield msgspec.json.encode(header)[:-1] + b',"records":[\n'
    for row, face in enumerate(records):
        yield (b",\n" if row else b"") + face.to_json()
    yield b"\n]}\n"


def _model(manifest: Manifest) -> dict[str, Any]:
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


def _preprocessing(manifest: Manifest) -> dict[str, Any]:
    """What happens to a picture: it is fitted to a square canvas, then to the model's input."""
    return {
        "target_size": manifest.parameters.target_size,
        "fit": manifest.parameters.fit,
        "background": BACKGROUND,  # RGB, beside a padded card and behind transparent corners
        "interpolation": INTERPOLATION,  # to the canvas, with antialiasing
        "input": manifest.model.input,
    }
