"""`make bench-browser-sizes`: what a browser fetches for 54,000 faces, and what narrow vectors lose.

Sizes: files of ROWS (54,000) faces as the export writes them, as they are and as --compress leaves them. Records have
the shape of the faces of the real cards in scryfall_cards.json, each with ids, addresses and times of its own, and with
names and texts of as many words, drawn one by one from theirs: real ones compress a little better. Vectors are spread
like those of the real cards (same mean and covariance). Hashes are theirs, an eighth of the bits inverted.

Recall: which of 1,050 real cards is named first by the shipped encoder, rows as int8 of K dimensions, with the hash,
for cut-outs of real photographs with corners 0, 3 and 6 % off and for simulated photographs; 95 % intervals by
photograph. The whitening is fitted to the index's own rows. Vectors are made once and kept, see tests/features.py.
"""

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.cards.card_list import FaceTally, iter_faces
from helpers.cards.faces import CardFace, Selection
from helpers.embed import onnx as encoders
from helpers.embed.dhash import HASH_BYTES
from helpers.embed.vectors import SCALE_FACTOR, SCALE_SAMPLE, best_scale, evenly, quantize, unit_rows
from helpers.evaluate.tables import aligned
from helpers.index.browser_format import ALWAYS
from helpers.index.bundle import ENCODER_PRECISIONS, SUFFIXES, BundleFile, described
from helpers.index.whitening import Whitening
from helpers.recognise.evaluation import Share
from helpers.talk import human_bytes
from tests.bench_choices import HASH, differing
from tests.conftest import REAL
from tests.features import Features, Rows

ROWS = int(os.environ.get("ROWS", "54000"))
WIDTHS = (512, 256, 128, 64)
SLIM = (*ALWAYS, "collector_number", "lang", "set_name", "released_at", "artist", "type_line", "scryfall_uri")
MODEL, HASH_WEIGHT = "cards", 2.0  # as `Recognition` has it for tuned models, raw and whitened
SIMULATED = ("simulated 0.5, seed 0", "simulated 1.0, seed 0")
Words = NDArray[np.str_]
Compare = Callable[[Rows], Rows]  # vectors -> what is compared


def ways(clean: Rows) -> Iterator[tuple[str, Compare, Rows]]:
    """The ways to compare: what they are called, and how vectors and the index's rows are compared."""
    yield "raw, 512", np.asarray, quantize(clean) / np.float32(SCALE_FACTOR)
    for width in WIDTHS:
        whitening = Whitening.fit(clean, 1.0, width)
        assert whitening is not None
        rows = whitening(clean)
        scale = best_scale(rows[evenly(len(rows), SCALE_SAMPLE)])
        yield f"whitened, {width}", whitening, quantize(rows, scale) / np.float32(scale)


def recall() -> None:
    """Print the table of recall."""
    features = Features({MODEL: MODEL})
    index, clean = features.seen("clean"), features.rows(MODEL, "clean")
    head = ["int8 rows, with the hash", "bytes a card", "corners as they are", "3 % off", "6 % off", *SIMULATED]
    table = [head]
    for name, compare, rows in ways(clean):
        line = [name, str(rows.shape[1] + HASH_BYTES)]
        for asked in ("photographs", *SIMULATED):
            seen = features.seen(asked)
            scores = compare(features.rows(MODEL, asked)) @ rows.T
            scores -= HASH_WEIGHT * differing(seen.hashes[HASH], index.hashes[HASH]).numpy()
            right = index.names[scores.argmax(axis=1)] == seen.names
            for error in sorted(set(seen.errors.tolist())):
                which = seen.errors == error
                line.append(str(Share.of(seen.photos[which].tolist(), right[which].tolist())))
        table.append(line)
    print(aligned(table), f"\nindex of {len(clean):,} faces\n", flush=True)


def records(rng: np.random.Generator) -> list[CardFace]:
    """ROWS records."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unique_artwork-20261101000000.jsonl"
        cards = json.loads((REAL / "scryfall_cards.json").read_text(encoding="utf-8"))
        path.write_text("".join(json.dumps(card) + "\n" for card in cards), encoding="utf-8")
        faces = list(iter_faces(path, Selection(), FaceTally()))
    pools = {name: _words(faces, name) for name in ("name", "card_name", "oracle_text", "artist", "type_line")}
    return [_another(faces[number % len(faces)], pools, rng) for number in range(ROWS)]


def _words(faces: list[CardFace], field: str) -> Words:
    return np.array([word for face in faces for word in (getattr(face, field) or "").split(" ")])


def _another(face: CardFace, pools: dict[str, Words], rng: np.random.Generator) -> CardFace:
    """A record of the same shape, whose ids and words are its own."""
    own = filter(None, (face.scryfall_id, face.oracle_id, face.illustration_id))
    ids = {old: str(uuid.UUID(bytes=rng.bytes(16))) for old in own}
    changed = {}
    for name in CardFace.__struct_fields__:
        value = getattr(face, name)
        if not isinstance(value, str):
            continue
        if name in pools:
            value = " ".join(rng.choice(pools[name], len(value.split(" "))).tolist())
        for old, new in ids.items():
            value = value.replace(old, new)
        if name.endswith("_url"):
            new = ids[face.scryfall_id]
            value = value.replace(f"/{face.scryfall_id[0]}/{face.scryfall_id[1]}/", f"/{new[0]}/{new[1]}/")
            value = value.partition("?")[0] + f"?{rng.integers(1_500_000_000, 1_790_000_000)}"
        changed[name] = value
    changed["collector_number"] = str(rng.integers(1, 400))
    return msgspec.structs.replace(face, **changed)


def write_records(path: Path, faces: list[CardFace], fields: tuple[str, ...]) -> None:
    """As the export writes them, but for the header."""
    lines = (msgspec.json.encode({name: getattr(face, name) for name in fields}) for face in faces)
    path.write_bytes(b'{"records":[\n' + b",\n".join(lines) + b"\n]}\n")


def write_all(folder: Path) -> dict[str, str]:
    """Write what is measured into `folder`; return the files and what they are."""
    rng, found = np.random.default_rng(0), {}
    faces = records(rng)
    for name, fields in (("whole", CardFace.__struct_fields__), ("slim", SLIM)):
        write_records(folder / f"records-{name}", faces, fields)
        found[f"records-{name}"] = f"records, {name}: {len(fields)} fields"
    features = Features({MODEL: MODEL})
    clean = features.rows(MODEL, "clean")
    middle = clean.mean(axis=0)
    spread = np.linalg.qr(clean - middle)[1] / np.float32(np.sqrt(len(clean)))
    rows = unit_rows(middle + rng.standard_normal((ROWS, len(spread)), dtype=np.float32) @ spread)
    for name, compare, _ in ways(rows[: len(clean)]):
        compared = compare(rows)
        scale = SCALE_FACTOR if name.startswith("raw") else best_scale(compared[evenly(ROWS, SCALE_SAMPLE)])
        quantize(compared, scale).tofile(folder / name)
        found[name] = f"vectors, {name}"
    hashes = features.seen("clean").hashes[HASH][rng.integers(0, len(clean), ROWS)]
    (hashes ^ np.packbits(rng.random((ROWS, 8 * HASH_BYTES)) < 1 / 8, axis=1)).tofile(folder / "hashes")
    found["hashes"] = "hashes"
    exact = encoders.tower_as_onnx(features.plain(MODEL))
    for precision in ENCODER_PRECISIONS:
        encoders.write_encoder(exact, precision, folder / precision)
        found[precision] = f"encoder, {precision}"
    return found


def sizes() -> None:
    """Print the table of sizes."""
    table = [["", "as it is", *SUFFIXES, "bytes a face"]]
    with tempfile.TemporaryDirectory() as name:
        found = write_all(Path(name))
        files = [BundleFile(path=path, role="") for path in found]
        for file in described(files, Path(name), tuple(SUFFIXES)):
            copies = [getattr(file, how) for how in SUFFIXES]
            packed = [human_bytes(copy.bytes) if copy else "not smaller" for copy in copies]
            each = "" if file.path in ENCODER_PRECISIONS else f"{file.bytes / ROWS:.0f}"
            table.append([found[file.path], human_bytes(file.bytes), *packed, each])
    print(aligned(table), f"\n{ROWS:,} faces\n", flush=True)


def main() -> None:
    if not (REAL / "cards.csv").is_file():
        sys.exit(f"no real cards at {REAL}; set MTG_REAL_DATA to the folder that has them")
    recall()
    sizes()


if __name__ == "__main__":
    main()
