"""scripts/export_table.py, read back by each format's own package."""

import hashlib
import json
import shutil
import signal
import stat
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from helpers.artifacts import IndexFolder
from helpers.cards.image_cache import ImageCache
from helpers.errors import PipelineError
from helpers.index import table_format
from helpers.index.store import StoredIndex
from helpers.index.table_format import FORMATS, write_table
from tests.conftest import Built, run_script, run_well, without_hashes
from tests.kills import KILLED, run_signalled_before
from tests.test_formats import check
from tests.warm_python import run_warm

NEEDS = {"parquet": ["pyarrow"], "safetensors": [], "lance": ["pyarrow", "lance"]}


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> str:
    """A format whose packages are installed."""
    for package in NEEDS[request.param]:
        pytest.importorskip(package)
    return str(request.param)


# Each run of the script imports pyarrow anew
ONE_IS_QUICK = pytest.mark.parametrize(
    "form",
    ["safetensors", *(pytest.param(form, marks=pytest.mark.slow) for form in ("parquet", "lance"))],
    indirect=True,
)


class Read(NamedTuple):
    """A table as its format's own package reads it."""

    records: list[dict[str, Any]]
    vectors: NDArray[np.float32]
    hashes: NDArray[np.uint8] | None
    digests: list[str | None]
    header: dict[str, Any]


def read(path: Path, form: str) -> Read:
    return read_tensors(path) if form == "safetensors" else read_columns(path, form)


def read_tensors(path: Path) -> Read:
    found = load_file(path)
    starts, text = found["record_starts"], found["records"].tobytes()
    records = [json.loads(text[start:end]) for start, end in pairwise(starts)]
    digests = found.get("picture_sha256", np.zeros((len(records), 32), np.uint8))
    with safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["mtg_image_db"])
    return Read(
        records,
        found["vectors"],
        found.get("dhash"),
        [digest.tobytes().hex() if digest.any() else None for digest in digests],
        header,
    )


def read_columns(path: Path, form: str) -> Read:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if form == "lance":
        import lance

        table = lance.dataset(str(path)).to_table()
    else:
        table = pq.read_table(path)
    assert pa.types.is_fixed_size_list(table.schema.field("vector").type)
    rows = table.to_pylist()
    assert [row.pop("row") for row in rows] == list(range(len(rows)))
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    hashes, digests = [row.pop("dhash") for row in rows], [row.pop("picture_sha256") for row in rows]
    records = [{name: value for name, value in row.items() if name != "vector"} for row in rows]
    bits = None if None in hashes else np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
    return Read(records, vectors, bits, digests, json.loads(table.schema.metadata[b"mtg_image_db"]))


def write(index: Path, out: Path, form: str, rows: str | None = None) -> Read:
    write_table(StoredIndex(IndexFolder(index)), out, form, rows)
    return read(out, form)


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def test_every_column_comes_back_bit_by_bit(recognised: Built, tmp_path: Path, form: str) -> None:
    found = write(recognised.index, tmp_path / "cards", form, "raw")
    assert found.records == recognised.records()
    assert any(":face:1" in record["face_id"] for record in found.records)
    assert same_bits(found.vectors, np.load(recognised.index / "mtg_embeddings.npy"))
    assert found.hashes is not None
    assert same_bits(found.hashes, np.load(recognised.index / "mtg_dhash.npy"))
    pictures = [ImageCache(recognised.cache).path_for(record["image_url"]) for record in found.records]
    assert found.digests == [hashlib.sha256(picture.read_bytes()).hexdigest() for picture in pictures]


def test_whitened_rows_are_the_default_and_what_the_map_says(whitened: Built, tmp_path: Path, form: str) -> None:
    found = write(whitened.index, tmp_path / "cards", form)
    assert same_bits(found.vectors, write(whitened.index, tmp_path / "cards", form, "whitened").vectors)
    stored = StoredIndex(IndexFolder(whitened.index))
    whitening = stored.whitening()
    assert whitening is not None
    assert same_bits(found.vectors, whitening(stored.vectors()))
    with np.load(whitened.index / "whitening.npz") as file:
        rows = (np.load(whitened.index / "mtg_embeddings.npy") - file["mean"]) @ file["axes"]
    assert np.allclose(found.vectors, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-5)
    assert found.records == whitened.records()


def test_the_table_says_what_it_is_in_the_same_words(whitened: Built, tmp_path: Path, form: str) -> None:
    for rows in ("whitened", "raw"):
        header = write(whitened.index, tmp_path / "cards", form, rows).header
        check("table.json", header)
        assert header["rows"] == rows
        assert (header["whitening"] is None) == (rows == "raw")
        assert header["shape"] == [len(whitened.records()), 512 if rows == "raw" else 256]
        manifest = (whitened.index / "build_manifest.json").read_bytes()
        assert header["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
        assert (header["built"], header["list"]) == (whitened.manifest()["timestamp"], whitened.manifest()["card_list"])


def test_batches_leave_no_seams(recognised: Built, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(recognised.index, tmp_path / "whole", form, "raw")
    white = write(recognised.index, tmp_path / "white", form, "whitened")
    monkeypatch.setattr(table_format, "BATCH", 4)  # 13 rows: 4, 4, 4, 1
    parts = write(recognised.index, tmp_path / "parts", form, "raw")
    assert (parts.records, parts.digests, parts.header) == (whole.records, whole.digests, whole.header)
    assert same_bits(parts.vectors, whole.vectors)
    # Not bit by bit: the last bits of a matrix product depend on how many rows it has
    assert np.allclose(write(recognised.index, tmp_path / "few", form, "whitened").vectors, white.vectors, atol=1e-6)


def changed(index: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = index / "build_manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_what_an_older_index_lacks_is_null(recognised: Built, tmp_path: Path, form: str) -> None:
    index = Path(shutil.copytree(recognised.index, tmp_path / "index"))
    lines = [
        {name: value for name, value in record.items() if name not in ("type_line", "promo", "finishes")}
        for record in recognised.records()
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    (index / "mtg_meta.jsonl").write_bytes(text)
    without_hashes(index)

    def older(manifest: dict[str, Any]) -> None:
        manifest["sha256"]["mtg_meta.jsonl"] = hashlib.sha256(text).hexdigest()
        for name in ("mtg_pictures.npy", "whitening.npz"):
            del manifest["sha256"][name]
        manifest["whitening"] = None

    changed(index, older)
    found = write(index, tmp_path / "cards", form)
    assert found.header["rows"] == "raw"
    assert found.hashes is None
    assert found.digests == [None] * len(lines)
    null: dict[str, Any] = {} if form == "safetensors" else {"type_line": None, "promo": None, "finishes": []}
    assert found.records == [line | null for line in lines]
    with pytest.raises(PipelineError, match="has no whitened rows"):
        write(index, tmp_path / "cards", form, "whitened")


def test_a_package_that_is_missing_is_named_with_the_command(
    recognised: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_format, "find_spec", lambda name: None)
    write(recognised.index, tmp_path / "cards.safetensors", "safetensors")  # it needs none
    for form, packages in (("parquet", "pyarrow"), ("lance", "pyarrow pylance")):
        with pytest.raises(PipelineError) as error:
            write(recognised.index, tmp_path / "cards", form)
        assert f"-m pip install {packages};" in error.value.problems[0].suggestion
    assert [path.name for path in tmp_path.iterdir()] == ["cards.safetensors"]


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()}


@ONE_IS_QUICK
def test_a_kill_leaves_the_old_table_and_the_next_run_sweeps(recognised: Built, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"cards.{form}"
    words = ("scripts/export_table.py", "--index", recognised.index, "--format", form, "--out", out)
    assert run_signalled_before(f"replace {out.name}", *words).returncode == KILLED
    assert not out.exists()
    assert "written to" in run_well(*words, "--rows", "raw")
    before = contents(out)
    if form != "lance":  # between two folders there is a moment without any
        assert run_signalled_before(f"replace {out.name}", *words).returncode == KILLED
        assert contents(out) == before
    done = run_signalled_before(f"replace {out.name}", *words, sent=signal.SIGTERM)  # waits until the table is there
    assert done.returncode == 128 + signal.SIGTERM
    assert read(out, form).header["rows"] == "whitened"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert contents(out) != before


@ONE_IS_QUICK
@pytest.mark.filterwarnings("ignore:lance is not fork-safe")
def test_a_full_disk_is_told_as_such_and_the_old_table_stays(recognised: Built, tmp_path: Path, form: str) -> None:
    """A limit on the size of files stands in for the disk."""
    out = tmp_path / "cards"
    write(recognised.index, out, form)
    before = contents(out)
    words = ("scripts/export_table.py", "--index", recognised.index, "--format", form, "--out", out, "--rows", "raw")
    done = run_warm(*words, max_file_bytes=5000)
    assert done.returncode == 1
    assert f"ERROR: Configuration Error: {tmp_path} can't be written to" in done.stderr
    assert "make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["cards"]


def test_nothing_but_a_table_is_replaced(recognised: Built, tmp_path: Path, form: str) -> None:
    kept = tmp_path / "mine" / "file"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(PipelineError, match="the table can't be written"):
        write(recognised.index, tmp_path / "mine", form)
    if form == "lance":
        with pytest.raises(PipelineError, match="the table can't be written"):
            write(recognised.index, kept, form)
    assert kept.read_text() == "mine"


def test_a_table_may_be_read_by_whom_new_files_may(recognised: Built, tmp_path: Path, form: str) -> None:
    write(recognised.index, tmp_path / "cards", form)
    (tmp_path / "other").touch()
    expected = stat.S_IMODE((tmp_path / "other").stat().st_mode)
    files = [path for path in (tmp_path / "cards", *(tmp_path / "cards").rglob("*")) if path.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {expected}


def test_an_index_that_disagrees_is_named_and_nothing_is_written(recognised: Built, tmp_path: Path, form: str) -> None:
    index = Path(shutil.copytree(recognised.index, tmp_path / "index"))
    path = index / "mtg_pictures.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = run_script("scripts/export_table.py", "--index", index, "--format", form)
    assert done.returncode == 1
    assert "mtg_pictures.npy does not belong to this index" in done.stderr
    assert not list(index.glob("cards*"))


@pytest.mark.parametrize("form", ["parquet", "lance"], indirect=True)
def test_a_record_that_is_none_is_named(recognised: Built, tmp_path: Path, form: str) -> None:
    index = Path(shutil.copytree(recognised.index, tmp_path / "index"))
    lines = (index / "mtg_meta.jsonl").read_bytes().splitlines(keepends=True)
    text = b"".join([*lines[:4], b'{"name": 3}\n', *lines[5:]])
    (index / "mtg_meta.jsonl").write_bytes(text)
    changed(index, lambda manifest: manifest["sha256"].update({"mtg_meta.jsonl": hashlib.sha256(text).hexdigest()}))
    with pytest.raises(PipelineError, match=r"mtg_meta\.jsonl does not belong to this index") as error:
        write(index, tmp_path / "cards", form)
    assert error.value.problems[0].details.startswith("line 5: ")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
