"""export_for_browser.py, read back by a client that shares no code with the project: numpy and json alone."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps

from helpers.artifacts import IndexFolder
from helpers.cards.image_cache import ImageCache
from helpers.embed.model_source import ModelSource
from helpers.index import browser_format
from helpers.index.bundle import How
from helpers.index.store import StoredIndex
from tests.conftest import Built, run_script, run_well, without_hashes
from tests.kills import KILLED, run_signalled_before

BROWSER_FILES = [
    *("bundle.json", "dhash.u8bin", "embeddings.i8bin", "embeddings_whitened.i8bin", "meta.json", "whitening.f32bin"),
]


def read_as_a_client(folder: Path) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """What existing clients do: check the header, divide by 127, do not normalise again."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    raw = (folder / "embeddings.i8bin").read_bytes()
    quantization, (count, width) = meta["quantization"], meta["shape"]
    assert meta["version"] == "1.0"
    assert (quantization["dtype"], quantization["scale_factor"]) == ("int8", 127)
    assert quantization["original_dtype"] == "float32"
    assert "note" in quantization
    assert len(raw) == count * width
    assert len(meta["records"]) == count
    assert all({"name", "set", "image_url", "card_url"} <= set(record) for record in meta["records"])
    codes = np.frombuffer(raw, dtype=np.int8).reshape(count, width)
    assert codes.min() >= -127
    return codes.astype(np.float32) / np.float32(127), meta["records"]


def read_hashes_as_a_client(folder: Path) -> NDArray[np.uint8]:
    """The bits of each row's hash, top left first: uint8 0 or 1 [N, 16, 16]."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    assert set(meta["dhash"]) == {"file", "bits", "note"}
    count, bits = meta["shape"][0], meta["dhash"]["bits"]
    raw = np.frombuffer((folder / meta["dhash"]["file"]).read_bytes(), np.uint8)
    assert (meta["dhash"]["file"], bits, len(raw)) == ("dhash.u8bin", 256, count * 32)
    return np.unpackbits(raw.reshape(count, 32), axis=1).reshape(count, 16, 16)


def export(index: Path, out: Path) -> Path:
    run_well("export_for_browser.py", "--input-dir", index, "--output-dir", out)
    return out


def test_a_client_finds_every_drawn_card(recognised: Built, tmp_path: Path) -> None:
    decoded, records = read_as_a_client(export(recognised.index, tmp_path / "browser"))
    rows = np.load(recognised.index / "mtg_embeddings.npy")
    assert records == recognised.records()
    assert np.array_equal((rows @ decoded.T).argmax(axis=1), np.arange(len(rows)))


def test_a_client_can_embed_a_picture_as_the_index_was_by_what_the_metadata_says(built: Built, tmp_path: Path) -> None:
    out = export(built.index, tmp_path / "browser")
    meta, records = json.loads((out / "meta.json").read_text()), built.records()
    model, steps = meta["model"], meta["preprocessing"]
    weights = built.manifest()["model"]["weights_sha256"]
    assert model == {
        **{"clip_model": "local-dir:tiny", "name": "local-dir:tiny", "pretrained": None, "quick_gelu": False},
        **{"weights_sha256": weights, "precision": "fp32", "embedding_dim": 512},
    }
    assert str(built.model.parent) not in (out / "meta.json").read_text()
    tower = open_clip.create_model(f"local-dir:{built.model}").eval().visual
    prepare = image_transform_v2(PreprocessCfg(**steps["input"]), is_train=False)
    assert (steps["fit"], steps["interpolation"]) == ("pad", "bicubic")
    image = Image.open(ImageCache(built.cache).path_for(records[2]["image_url"])).convert("RGB")
    side = (steps["target_size"],) * 2
    canvas = ImageOps.pad(image, side, Image.Resampling.BICUBIC, color=tuple(steps["background"]))
    with torch.inference_mode():
        row = tower(prepare(canvas)[None]).numpy()[0]
    assert float(np.load(built.index / "mtg_embeddings.npy")[2] @ row / np.linalg.norm(row)) > 0.999


def test_an_index_that_does_not_say_its_numbers_yet_is_exported_without(built: Built, tmp_path: Path) -> None:
    index = Path(shutil.copytree(built.index, tmp_path / "index"))
    manifest = built.manifest()
    for name in ("input", "quick_gelu"):
        assert manifest["model"].pop(name) is not None
    (index / "build_manifest.json").write_text(json.dumps(manifest))
    out = export(index, tmp_path / "browser")
    read_as_a_client(out)
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["preprocessing"]["input"], meta["model"]["quick_gelu"]) == (None, None)


@pytest.mark.parametrize(
    ("model", "pretrained", "people", "both"),
    [
        ("ViT-B-32-quickgelu", "openai", "ViT-B/32", "ViT-B-32-quickgelu (openai)"),
        ("ViT-B-32", "laion2b_s34b_b79k", "ViT-B/32", "ViT-B-32 (laion2b_s34b_b79k)"),
        ("ViT-L-14-336-quickgelu", "openai", "ViT-L/14-336", "ViT-L-14-336-quickgelu (openai)"),
        ("ViT-B-16-SigLIP", "webli", "ViT-B/16-SigLIP", "ViT-B-16-SigLIP (webli)"),
        ("RN50-quickgelu", "/somebodys/weights.pt", "RN50", "RN50-quickgelu (weights.pt)"),
        ("hf-hub:someone/tiny-quickgelu", None, "hf-hub:someone/tiny-quickgelu", "hf-hub:someone/tiny-quickgelu"),
        ("cards", None, "cards", "cards"),
    ],
)
def test_a_model_is_told_so_that_it_can_not_be_taken_for_another(
    model: str, pretrained: str | None, people: str, both: str
) -> None:
    source = ModelSource(model, pretrained)
    assert (source.display_name, str(source)) == (people, both)


def test_a_client_finds_the_hash_of_every_picture(built: Built, tmp_path: Path) -> None:
    hashes = read_hashes_as_a_client(export(built.index, tmp_path / "browser"))
    assert np.array_equal(np.packbits(hashes.reshape(-1, 256), axis=1), np.load(built.index / "mtg_dhash.npy"))
    for bits, record in zip(hashes, built.records(), strict=True):
        image = Image.open(ImageCache(built.cache).path_for(record["image_url"])).convert("RGB")
        assert np.array_equal(bits, imagehash.dhash(image, hash_size=16).hash)


def test_an_index_without_hashes_is_exported_without_and_no_older_ones_stay(built: Built, tmp_path: Path) -> None:
    index, out = Path(shutil.copytree(built.index, tmp_path / "index")), export(built.index, tmp_path / "browser")
    before = read_as_a_client(out)
    without_hashes(index)
    export(index, out)
    assert sorted(path.name for path in out.iterdir()) == [name for name in BROWSER_FILES if name != "dhash.u8bin"]
    assert "dhash" not in json.loads((out / "meta.json").read_text())
    decoded, records = read_as_a_client(out)
    assert np.array_equal(decoded, before[0])
    assert records == before[1]


@pytest.mark.parametrize(("limit", "rows", "is_told"), [(2000, None, True), (2000, 1, False), (10**9, None, False)])
def test_metadata_that_chrome_can_not_read_in_one_piece_is_told(
    limit: int,
    rows: int | None,
    is_told: bool,
    built: Built,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(browser_format, "MAX_JSON", limit)
    stored, how = StoredIndex(IndexFolder(built.index)), How(rows_per_file=rows)
    browser_format.write_browser_files(stored, IndexFolder(tmp_path), how)
    assert ("pass --rows-per-file" in capsys.readouterr().err) == is_told


def test_an_export_is_the_same_every_time(built: Built, tmp_path: Path) -> None:
    first, second = export(built.index, tmp_path / "a"), export(built.index, tmp_path / "b")
    for name in BROWSER_FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def cut_metadata(index: Path) -> None:
    path = index / "mtg_meta.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def damage_metadata(index: Path) -> None:
    path = index / "mtg_meta.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b'{"name": 3}\n', *lines[5:]]))


def cut_vectors(index: Path) -> None:
    np.save(index / "mtg_embeddings.npy", np.load(index / "mtg_embeddings.npy")[:-1])


def widen_vectors(index: Path) -> None:
    np.save(index / "mtg_embeddings.npy", np.load(index / "mtg_embeddings.npy").astype(np.float64))


def stretch_vectors(index: Path) -> None:
    np.save(index / "mtg_embeddings.npy", np.load(index / "mtg_embeddings.npy") * np.float32(1.1))


def break_vectors(index: Path) -> None:
    (index / "mtg_embeddings.npy").write_bytes(b"\x93NUMPY")


def damage_hashes(index: Path) -> None:
    path = index / "mtg_dhash.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def remove_hashes(index: Path) -> None:
    (index / "mtg_dhash.npy").unlink()


def remove_manifest(index: Path) -> None:
    (index / "build_manifest.json").unlink()


def break_manifest(index: Path) -> None:
    (index / "build_manifest.json").write_text('{"version": "1.0.0"}')


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (cut_metadata, "mtg_meta.jsonl"),
        (damage_metadata, "mtg_meta.jsonl"),
        (cut_vectors, "mtg_embeddings.npy"),
        (widen_vectors, "mtg_embeddings.npy"),
        (stretch_vectors, "mtg_embeddings.npy"),
        (break_vectors, "mtg_embeddings.npy"),
        (damage_hashes, "mtg_dhash.npy"),
        (remove_hashes, "mtg_dhash.npy"),
        (remove_manifest, "build_manifest.json"),
        (break_manifest, "build_manifest.json"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_files_that_disagree_are_named_and_the_old_export_stays(
    built: Built, tmp_path: Path, damage: Any, file: str
) -> None:
    index = Path(shutil.copytree(built.index, tmp_path / "index"))
    out = export(index, tmp_path / "browser")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    damage(index)
    done = run_script("export_for_browser.py", "--input-dir", index, "--output-dir", out)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert file in done.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_files_get_their_names_waits_for_that(
    built: Built, tmp_path: Path, sent: signal.Signals
) -> None:
    done = run_signalled_before(
        "replace embeddings.i8bin",
        *("export_for_browser.py", "--input-dir", built.index, "--output-dir", tmp_path),
        sent=sent,
    )
    assert done.returncode == 128 + sent
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == BROWSER_FILES


def test_an_export_that_is_killed_between_its_files_is_completed_by_the_next(built: Built, tmp_path: Path) -> None:
    export = ("export_for_browser.py", "--input-dir", built.index, "--output-dir", tmp_path)
    run_well(*export)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run_signalled_before("replace meta.json", *export).returncode == KILLED
    assert not (tmp_path / "meta.json").exists()
    run_well(*export)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
