"""Stage 3, vectors, hashes + metadata -> the browser's files, format 1.0.

`embeddings.i8bin` is int8 [N, D], row-major, without a header; `meta.json` has its shape, how it was quantised, and the
N records. The quantisation itself is in `vectors`. `dhash.u8bin` is uint8 [N, 32] in the same way, and
`embeddings_whitened.i8bin` int8 [N, K], the whitened rows, for vectors that `whitening.f32bin` maps.
Files that meta.json does not name are not there.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_set, disk_errors_named
from helpers.cards.faces import Records
from helpers.embed.dhash import DHASH
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
from helpers.errors import BAD_JSON
from helpers.index.manifest import Manifest
from helpers.index.store import StoredIndex
from helpers.index.whitening import Whitening
from helpers.talk import human_bytes, warn

_MAX_HEADER = 1_000_000  # bytes of meta.json before the records


def write_browser_files(stored: StoredIndex, target: IndexFolder) -> str:
    """Write the browser files of `stored` into `target`; return a summary for the user.

    Raises PipelineError if the index's files disagree with each other.
    """
    rows, hashes, records, whitening = stored.vectors(), stored.hashes(), stored.records(), stored.whitening()
    check_unit_rows(rows, str(stored.folder.column("embeddings")))
    with atomic_set(target.root, marker=target.browser_metadata.name) as staging:
        staged = IndexFolder(staging)
        with open(staged.browser_vectors, "wb") as file:
            for start in range(0, len(rows), 65536):
                file.write(quantize(rows[start : start + 65536]).tobytes())
        extra: dict[str, Any] = {}
        if hashes is not None:
            hashes.tofile(staged.browser_hashes)
            extra["dhash"] = {"file": staged.browser_hashes.name, **DHASH}
        if whitening is not None:
            extra["whitening"] = _write_whitened(rows, whitening, staged)
            extra["whitening"]["recognition"] = stored.manifest.recognition_by(whitened=True)
        with open(staged.browser_metadata, "wb") as file:
            file.writelines(_metadata_json(stored, records, extra))
    gone = [target.browser_hashes] if hashes is None else []
    gone += [target.browser_whitened, target.browser_whitening] if whitening is None else []
    for path in gone:  # those of an earlier export belong to nothing now
        with disk_errors_named(path):
            path.unlink(missing_ok=True)
    whitened = f" (whitened: {human_bytes(len(rows) * whitening.dimensions)})" if whitening else ""
    metadata = human_bytes(target.browser_metadata.stat().st_size)
    size = f"{human_bytes(rows.size)} of vectors{whitened}, {metadata} of metadata"
    return f"{len(rows):,} faces of width {rows.shape[1]}: {size}, written to {target.root}"


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


def _metadata_json(stored: StoredIndex, records: Records, extra: dict[str, Any]) -> Iterator[bytes]:
    """The pieces of meta.json: the records are streamed, never all in memory."""
    manifest = stored.manifest
    header: dict[str, Any] = {
        "version": BROWSER_FORMAT_VERSION,
        "quantization": QUANTIZATION,
        "shape": [stored.count, stored.width],
        "model": _model(manifest),
        "preprocessing": _preprocessing(manifest),
        "recognition": manifest.recognition_by(whitened=False),
        "built": manifest.timestamp,
        **extra,
    }
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
