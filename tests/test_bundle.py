"""bundle.json and the encoder, read by numpy, json and onnxruntime alone."""

import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import brotli
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_set
from helpers.cards.image_cache import ImageCache
from helpers.embed import onnx as encoders
from helpers.embed.embedder import Embedder
from helpers.embed.model_source import find_model
from helpers.embed.preprocess import Preparation
from helpers.errors import PipelineError
from helpers.index import browser_format
from helpers.index.browser_format import write_browser_files
from helpers.index.bundle import BundleFile, Encoder, How, split
from helpers.index.store import StoredIndex
from helpers.recognise.encoders import EncoderMaker
from tests.conftest import ROOT, Built, Share, run_script, run_well
from tests.made_cache import make_tiny_model

CONTRACT = ["dhash.u8bin", "embeddings.i8bin", "meta.json"]
WHITENED = ["embeddings_whitened.i8bin", "whitening.f32bin"]


def export(index: Path, out: Path, *flags: object) -> dict[str, Any]:
    run_well("export_for_browser.py", "--input-dir", index, "--output-dir", out, *flags)
    return read(out)


def read(out: Path) -> dict[str, Any]:
    """bundle.json, each file checked to be as it says."""
    bundle: dict[str, Any] = json.loads((out / "bundle.json").read_text(encoding="utf-8"))
    for file in bundle["files"]:
        data = (out / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    return bundle


def of(bundle: dict[str, Any], role: str) -> list[dict[str, Any]]:
    return [file for file in bundle["files"] if file["role"] == role]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def normalised(bundle: dict[str, Any], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a client makes of uint8 [B, H, W, 3]."""
    how = bundle["preprocessing"]["input"]
    mean, deviation = (np.array(how[name], np.float32) for name in ("mean", "std"))
    values = (pixels / np.float32(255) - mean) / deviation
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)


def run(path: Path, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (rows,) = session.run(["embedding"], {"pixels": pixels})
    assert rows.dtype == np.float32
    return np.asarray(rows)


@pytest.fixture(scope="module")
def exported(built: Built, share: Share) -> Path:
    """The drawn cards with encoders and parts. Not to be changed."""
    flags = ("--encoder", "fp32,fp16,int8", "--rows-per-file", 100)
    return share("exported_tiny", lambda out: export(built.index, out, *flags))


# ------------------------------------------------------------------------------------------------------------- bundle


def test_it_says_what_the_metadata_says_and_lists_each_file_with_its_hash(whitened: Built, tmp_path: Path) -> None:
    bundle = export(whitened.index, tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))
    count, width = bundle["shape"]
    assert {name: bundle[name] for name in meta if name != "records"} == {
        name: value for name, value in meta.items() if name != "records"
    }
    assert (bundle["list"], bundle["built"]) == (whitened.manifest()["card_list"], whitened.manifest()["timestamp"])
    assert [(file["role"], file.get("rows")) for file in bundle["files"]] == [
        ("records", [0, count]),
        ("hashes", [0, count]),
        ("whitened", [0, count]),
        ("whitening", None),
        ("vectors", [0, count]),
    ]
    assert of(bundle, "records")[0]["path"] == "meta.json"
    assert of(bundle, "vectors")[0]["bytes"] == count * width
    assert set(contents(tmp_path)) == {"bundle.json", *CONTRACT, *WHITENED}
    assert "reference" not in bundle


def test_parts_are_the_whole_and_the_whole_stays(whitened: Built, tmp_path: Path) -> None:
    plain = export(whitened.index, tmp_path / "plain")
    bundle = export(whitened.index, tmp_path / "parts", "--rows-per-file", 100)
    before, after = contents(tmp_path / "plain"), contents(tmp_path / "parts")
    for name in (*CONTRACT, *WHITENED):
        assert after[name] == before[name]
    count = plain["shape"][0]
    for role in ("records", "hashes", "whitened", "vectors"):
        parts, (whole,) = of(bundle, role), of(plain, role)
        assert [part["rows"] for part in parts] == [[0, 100], [100, count]]
        if role != "records":
            assert b"".join(after[part["path"]] for part in parts) == before[whole["path"]]
    records = [record for part in of(bundle, "records") for record in json.loads(after[part["path"]])["records"]]
    assert records == json.loads(before["meta.json"])["records"]


@settings(max_examples=60)
@given(data=st.binary(max_size=300), row_bytes=st.integers(1, 9), rows_per_file=st.integers(1, 50))
def test_parts_of_any_size_follow_each_other(data: bytes, row_bytes: int, rows_per_file: int) -> None:
    count = len(data) // row_bytes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.bin"
        path.write_bytes(data[: count * row_bytes])
        parts = list(split(path, row_bytes, count, rows_per_file))
        assert b"".join(part.read_bytes() for part, _ in parts) == data[: count * row_bytes]
        assert [part for part, _ in parts] == sorted({part for part, _ in parts})
        ends = [0]
        for part, (first, end) in parts:
            assert (first, part.stat().st_size) == (ends[-1], (end - first) * row_bytes)
            assert 0 < end - first <= rows_per_file
            ends.append(end)
        assert ends[-1] == count


def test_records_keep_the_fields_that_are_asked_for_and_those_that_clients_need(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(built.index, out, "--fields", "collector_number,type_line", "--rows-per-file", 100)
    records = json.loads((out / "meta.json").read_text(encoding="utf-8"))["records"]
    kept = ("name", "set", "collector_number", "image_url", "card_url", "type_line")
    assert records == [{name: record[name] for name in kept} for record in built.records()]
    assert [*records[0]] == [*kept]
    assert json.loads((out / "records-00000.json").read_text(encoding="utf-8"))["records"] == records


def test_an_unknown_field_is_refused_with_the_nearest(built: Built, tmp_path: Path) -> None:
    done = run_script(
        "export_for_browser.py", "--input-dir", built.index, "--output-dir", tmp_path, "--fields", "artst"
    )
    assert done.returncode == 1
    assert "use --fields artist" in done.stderr
    assert not contents(tmp_path)


def test_compressed_copies_give_the_files_and_are_the_same_every_time(whitened: Built, tmp_path: Path) -> None:
    flags = ("--compress", "gzip,brotli")
    bundle = export(whitened.index, tmp_path / "a", *flags)
    export(whitened.index, tmp_path / "b", *flags)
    found = contents(tmp_path / "a")
    assert found == contents(tmp_path / "b")
    for file in bundle["files"]:
        for how, undo in (("gzip", gzip.decompress), ("brotli", brotli.decompress)):
            if how in file:
                copy = found.pop(file[how]["path"])
                assert undo(copy) == found[file["path"]]
                assert len(copy) == file[how]["bytes"] <= 0.95 * file["bytes"]
    assert {"gzip", "brotli"} <= set(of(bundle, "records")[0])
    assert set(found) == {"bundle.json", *CONTRACT, *WHITENED}  # no copy that is not listed


def test_noise_gets_no_compressed_copy(built: Built, tmp_path: Path) -> None:
    bundle = export(built.index, tmp_path, "--compress", "gzip,brotli")
    (hashes,) = of(bundle, "hashes")  # of 12 cards: nothing to save
    assert not {"gzip", "brotli"} & set(hashes)
    assert not [*tmp_path.glob("dhash*.gz"), *tmp_path.glob("dhash*.br")]


def test_what_an_earlier_export_left_is_removed_and_nothing_else(built: Built, exported: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(exported, tmp_path / "out"))
    assert {"encoder-int8.onnx", "reference.png", "records-00000.json"} <= set(contents(out))
    kept = ("encoder-mine.onnx", "meta.json.zip", "embeddings-00001.i8bin", "records-00000.json.gz", "index.html")
    for name in kept:
        (out / name).write_bytes(b"somebody's")
    said = run_well("export_for_browser.py", "--input-dir", built.index, "--output-dir", out)
    assert set(contents(out)) == {"bundle.json", *CONTRACT, *kept, *WHITENED}
    assert said.rstrip().endswith(
        "; removed dhash-00000.u8bin, embeddings-00000.i8bin, embeddings_whitened-00000.i8bin, encoder-fp16.onnx, "
        "encoder-fp32.onnx, encoder-int8.onnx, records-00000.json, reference.png"
    )
    assert "removed" not in run_well("export_for_browser.py", "--input-dir", built.index, "--output-dir", out)


def test_an_export_that_fails_at_the_last_moment_leaves_all_files_of_the_old_one(
    built: Built, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = Path(shutil.copytree(exported, tmp_path / "out")), os.replace
    before = contents(out)

    def fails(source: Path, target: Path) -> None:
        if str(target).endswith(".swap"):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(PipelineError, match="can't be written to"):
        write_browser_files(StoredIndex(IndexFolder(built.index)), IndexFolder(out))
    assert contents(out) == before


def picture_alone(folder: IndexFolder) -> Encoder:
    """What stands for an encoder where only its files' names matter."""
    folder.browser_reference.write_bytes(b"picture")
    return Encoder([BundleFile(path=folder.browser_reference.name, role="reference")], [1.0])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("bundle.json", text) for text in ("{}", "[1]", '{"entry": "app.js"}', "not JSON", '{"files": [{}]}')),
        ("reference.png", "a picture"),
    ],
)
def test_files_of_others_are_not_replaced(built: Built, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PipelineError) as caught:
        write_browser_files(StoredIndex(IndexFolder(built.index)), IndexFolder(tmp_path), encoder=picture_alone)
    assert f"{name} would be replaced" in caught.value.render()
    assert contents(tmp_path) == {name: text.encode()}


def test_a_bundle_that_lists_more_than_exports_have_gets_nothing_else_removed(built: Built, tmp_path: Path) -> None:
    out = IndexFolder(Path(shutil.copytree(built.index, tmp_path / "index")))
    write_browser_files(StoredIndex(out), out)
    before = contents(out.root)
    (tmp_path / "outside.json").touch()
    bundle = json.loads(before["bundle.json"])
    bundle["files"] += [{"path": path, "role": "records"} for path in ("../outside.json", "build_manifest.json")]
    out.browser_bundle.write_text(json.dumps(bundle))
    write_browser_files(StoredIndex(out), out)
    assert contents(out.root) == before
    assert (tmp_path / "outside.json").exists()


def test_an_export_removes_nothing_of_one_that_comes_right_after_it(built: Built, tmp_path: Path) -> None:
    stored, target = StoredIndex(IndexFolder(built.index)), IndexFolder(tmp_path)

    @contextmanager
    def then_another(*names: Any, **more: Any) -> Iterator[Path]:
        with atomic_set(*names, **more) as staging:
            yield staging
        with patch.object(browser_format, "atomic_set", atomic_set):
            write_browser_files(stored, target, How(rows_per_file=5))

    with patch.object(browser_format, "atomic_set", then_another):
        write_browser_files(stored, target)
    assert len(of(read(tmp_path), "vectors")) == 3


# ------------------------------------------------------------------------------------------------------------ encoder


@pytest.fixture(scope="module")
def embedder(tiny: Path) -> Embedder:
    return Embedder.load(find_model(f"local-dir:{tiny}", ""), Preparation(384, "pad"), "cpu")


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999999), ("fp16", 0.9999), ("int8", 0.99)])
def test_the_encoder_gives_the_vectors_of_the_index_itself(
    built: Built, exported: Path, embedder: Embedder, precision: str, least: float
) -> None:
    bundle = read(exported)
    (file,) = [file for file in of(bundle, "encoder") if file["precision"] == precision]
    cache, records = ImageCache(built.cache), built.records()
    cards = [embedder.prepare(Image.open(cache.path_for(record["image_url"]))) for record in records]
    pixels = normalised(bundle, torch.stack(cards).permute(0, 2, 3, 1).contiguous().numpy())
    rows = run(exported / file["path"], pixels)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    cosines = (rows * np.load(built.index / "mtg_embeddings.npy")).sum(axis=1)
    assert cosines.min() >= least
    assert np.allclose(run(exported / file["path"], pixels[:1]), rows[:1], atol=1e-3 if precision == "int8" else 1e-5)
    assert file["cosine"]["pictures"] == len(rows)
    assert file["cosine"]["least"] == pytest.approx(float(cosines.min()), abs=1e-5)
    assert file["cosine"]["least"] <= file["cosine"]["mean"] <= 1


def test_a_device_is_checked_by_the_reference(exported: Path) -> None:
    bundle = read(exported)
    side = bundle["preprocessing"]["target_size"]
    with Image.open(exported / of(bundle, "reference")[0]["path"]) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (side, side))
        height, width = bundle["preprocessing"]["input"]["size"]
        small = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    (row,) = run(exported / "encoder-fp32.onnx", normalised(bundle, small[None]))
    reference = np.array(bundle["reference"], np.float32)
    assert reference.shape == (bundle["shape"][1],)
    assert np.linalg.norm(reference) == pytest.approx(1, abs=1e-6)
    assert float(row @ reference) > 0.999  # but for Pillow's rounding


def test_weights_take_half_and_a_quarter_and_nothing_tells_of_this_machine(exported: Path) -> None:
    sizes = {file["precision"]: file["bytes"] for file in of(read(exported), "encoder")}
    assert sizes["fp16"] < 0.55 * sizes["fp32"]
    assert sizes["int8"] < 0.3 * sizes["fp32"]
    for precision in sizes:
        data = (exported / f"encoder-{precision}.onnx").read_bytes()
        assert str(ROOT).encode() not in data
        assert b"site-packages" not in data
        model = onnx.load_from_string(data)
        assert ([one.name for one in model.graph.input], [one.name for one in model.graph.output]) == (
            ["pixels"],
            ["embedding"],
        )
        assert [(one.domain, one.version) for one in model.opset_import if not one.domain] == [("", encoders.OPSET)]


class OfMatrices(torch.nn.Module):
    """A tower of products of matrices, which returns its tokens, too, as CoCa's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.narrow, self.wide = torch.nn.Linear(192, 256), torch.nn.Linear(256, 512)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = torch.nn.functional.adaptive_avg_pool2d(pixels, 8)
        return self.wide(torch.relu(self.narrow(tokens.flatten(1)))), tokens


@pytest.mark.slow
def test_int8_computes_with_whole_numbers_where_a_model_is_of_matrices(embedder: Embedder, tmp_path: Path) -> None:
    path, pictures = tmp_path / "encoder.onnx", [torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8) for _ in "123"]
    with patch.object(embedder, "tower", OfMatrices()):
        exact = encoders.tower_as_onnx(embedder)
        for precision in encoders.FLOORS:
            encoders.write_encoder(exact, precision, path)
            encoders.check_encoder(path, precision, embedder, pictures)  # it raises what is wrong
            kinds = {node.op_type for node in onnx.load(path).graph.node}
            assert ("MatMulInteger" in kinds) is (precision == "int8")


@pytest.fixture(scope="module")
def right(exported: Path) -> onnx.ModelProto:
    return onnx.load(exported / "encoder-fp32.onnx")


def other_kernels(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 4:
            tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))


def no_such_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Convolve"


def not_of_norm_1(model: onnx.ModelProto) -> None:
    last = next(node for node in model.graph.node if "embedding" in node.output)
    last.op_type, last.input[1] = "Mul", last.input[1]


@pytest.mark.parametrize("damage", [other_kernels, no_such_operator, not_of_norm_1], ids=lambda f: f.__name__)
def test_an_encoder_that_is_off_is_refused_and_the_old_export_stays(
    built: Built, right: onnx.ModelProto, tmp_path: Path, damage: Any
) -> None:
    export(built.index, tmp_path)
    before = contents(tmp_path)
    damaged = onnx.ModelProto.FromString(right.SerializeToString())
    damage(damaged)
    stored = StoredIndex(IndexFolder(built.index))
    with patch.object(encoders, "tower_as_onnx", lambda _: damaged), pytest.raises(PipelineError) as caught:
        write_browser_files(stored, IndexFolder(tmp_path), encoder=EncoderMaker(stored, ("fp16",)).write)
    assert "can't be exported as it should be" in caught.value.render()
    assert "fp16" in caught.value.render()
    assert contents(tmp_path) == before


def test_other_weights_than_those_of_the_index_are_refused(built: Built, tmp_path: Path) -> None:
    index = Path(shutil.copytree(built.index, tmp_path / "index"))
    model = make_tiny_model(tmp_path / "model")
    weights = torch.load(model / "open_clip_pytorch_model.bin")
    weights["visual.proj"] += 0.1
    torch.save(weights, model / "open_clip_pytorch_model.bin")
    manifest = built.manifest()
    manifest["model"]["name"] = f"local-dir:{model}"
    (index / "build_manifest.json").write_text(json.dumps(manifest))
    words = ("--input-dir", index, "--output-dir", tmp_path / "out", "--cache", built.cache, "--encoder")
    done = run_script("export_for_browser.py", *words)
    assert done.returncode == 1
    assert "the model's weights are not the ones the index was built with" in done.stderr
    assert not contents(tmp_path / "out")


def test_without_a_picture_it_says_where_to_look(built: Built, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = ("--input-dir", built.index, "--output-dir", tmp_path / "out", "--cache", tmp_path / "empty", "--encoder")
    done = run_script("export_for_browser.py", *words)
    assert done.returncode == 1
    assert re.search(r"no picture of the index's cards can be read\n.*empty\n.*--cache DIR", done.stderr)
    assert not contents(tmp_path / "out")


@pytest.mark.slow
def test_the_encoder_names_real_cards_as_torch_does(real_built: Built, tmp_path: Path) -> None:
    bundle = export(real_built.index, tmp_path, "--encoder", "fp32,fp16,int8")
    least = {file["precision"]: file["cosine"]["least"] for file in of(bundle, "encoder")}
    print(f"\nleast cosine to torch on 20 of 1,050 real cards: {least}")
    assert least["fp32"] >= 0.999999
    assert least["fp16"] >= 0.9999
    assert least["int8"] >= 0.99
    assert [file["cosine"]["pictures"] for file in of(bundle, "encoder")] == [20, 20, 20]
