"""Which models can be loaded, what they are prepared for, and what is said where that fails."""

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

from helpers.embed import precision
from helpers.embed.embedder import Embedder
from helpers.embed.model_source import ModelSource, find_model
from helpers.embed.preprocess import Preparation
from helpers.errors import PipelineError
from helpers.validation import decode_image
from tests.conftest import ROOT, Built, run_well
from tests.made_cache import make_tiny_model
from tests.pictures import encoded
from tests.test_build import build
from tests.test_query import ask, picture_of


def load(folder: Path, size: int = 384) -> Embedder:
    return Embedder.load(ModelSource(f"local-dir:{folder}", None), Preparation(size, "pad"), "cpu")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A tiny model to be changed."""
    return make_tiny_model(tmp_path / "own")


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_pictures_are_prepared_as_open_clip_does_it(tmp_path: Path, mode: str) -> None:
    folder = make_tiny_model(tmp_path / "tiny", resize_mode=mode)
    embedder = load(folder)
    _, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    image = decode_image(encoded(size=(488, 680)))
    canvas = Image.fromarray(embedder.preparation.apply(image).permute(1, 2, 0).numpy())
    expected = preprocess(canvas)
    ours = embedder.prepare(image).float() / 255
    assert float(((ours - 0.5) / 0.5 - expected).abs().max()) < 0.02  # of 2; a value of 255 is 0.008


def edited(folder: Path, **changes: dict[str, Any]) -> None:
    """Change sections of the model folder's configuration."""
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    for section, values in changes.items():
        (config["model_cfg"] if section in config["model_cfg"] else config)[section] |= values
    path.write_text(json.dumps(config))


def test_another_architecture_is_known_though_the_weights_are_the_same(own: Path) -> None:
    before = load(own)
    edited(own, vision_cfg={"head_width": 16})
    heads = load(own)
    assert heads.fingerprint == before.fingerprint
    assert heads.settings.differences(before.settings)
    edited(own, vision_cfg={"head_width": 32}, text_cfg={"heads": 2})
    assert not load(own).settings.differences(before.settings)  # the text tower makes no row


@pytest.mark.parametrize("change", [{"preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}, {"vision_cfg": {"timm_drop": 0.1}}])
def test_a_query_that_would_not_take_the_same_way_is_refused(
    built: Built, tmp_path: Path, change: dict[str, dict[str, Any]]
) -> None:
    model, out = Path(shutil.copytree(built.model, tmp_path / "model")), tmp_path / "out"
    assert build(built.cache, out, model, "--limit", 3).returncode == 0
    mine = Built(built.cache, out, model)
    assert ask(mine, picture_of(built, 0)).returncode == 0
    edited(model, **change)
    done = ask(mine, picture_of(built, 0))
    assert done.returncode == 1
    assert "a picture would be preprocessed or embedded differently than the index was" in done.stderr
    assert "Traceback" not in done.stderr


def unknown_key(folder: Path) -> None:
    edited(folder, vision_cfg={"no_such_thing": 1})


def damaged_safetensors(folder: Path) -> None:
    (folder / "open_clip_pytorch_model.bin").unlink()
    (folder / "open_clip_model.safetensors").write_bytes(b"\xff" * 1000)


def damaged_bin(folder: Path) -> None:
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"\xff" * 1000)


@pytest.mark.parametrize("damage", [unknown_key, damaged_safetensors, damaged_bin])
def test_a_model_that_can_not_be_loaded_is_named(own: Path, damage: Callable[[Path], None]) -> None:
    damage(own)
    with pytest.raises(PipelineError, match="could not be loaded"):
        load(own)


@pytest.mark.parametrize(
    "words", ["CUDA out of memory. Tried to allocate 2.00 GiB", "DefaultCPUAllocator: can't allocate memory: you tried"]
)
def test_a_device_without_memory_is_told_what_to_do(own: Path, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = load(own)
    prepared = [embedder.prepare(decode_image(encoded()))] * 3

    def full(_: torch.Tensor) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(embedder.tower, "forward", full)
    with pytest.raises(PipelineError, match="the cpu device is out of memory") as caught:
        embedder.encode(prepared)
    assert "a smaller --batch" in caught.value.problems[0].suggestion
    monkeypatch.setattr(embedder.tower, "forward", lambda _: torch.zeros(0)[1])
    with pytest.raises(IndexError):
        embedder.encode(prepared)


def test_names_are_read_as_open_clip_reads_them() -> None:
    model = open_clip.create_model("ViT-S-32-alt")
    slashed, plain = (
        Embedder(ModelSource(name, None), Preparation(384, "pad"), torch.device("cpu"), model)
        for name in ("ViT-S/32-alt", "ViT-S-32-alt")
    )
    assert slashed.architecture == plain.architecture


def test_a_folder_without_its_prefix_is_pointed_out(built: Built) -> None:
    with pytest.raises(PipelineError) as caught:
        find_model(str(built.model), "openai")
    assert caught.value.problems[0].suggestion == f"use --model local-dir:{built.model}"


def alive(kind: type) -> int:
    """How many objects of a kind there are."""
    gc.collect()
    return sum(issubclass(type(thing), kind) for thing in gc.get_objects())


def test_of_a_model_only_one_image_tower_stays(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = alive(open_clip.CLIP), alive(open_clip.transformer.VisionTransformer)
    embedder = load(own)
    monkeypatch.setattr(precision, "fast_precisions", lambda device: ("bf16",))
    monkeypatch.setattr(precision, "MAX_SHIFT", 10.0)
    pictures = [embedder.prepare(decode_image(encoded(seed=seed))) for seed in range(3)]
    precision.settle_precision(embedder, "auto", [], lambda: pictures)
    assert embedder.precision == "bf16"
    assert (alive(open_clip.CLIP), alive(open_clip.transformer.VisionTransformer)) == (before[0], before[1] + 1)


def test_torch_has_its_threads_back_once_the_last_of_several_models_is_done(own: Path) -> None:
    one, other, before = load(own), load(own), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second = one.for_many(), other.for_many()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_num_threads() == 1
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_encoder_that_comes_along_is_named_everywhere_alike(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "index"
    words = ("--cache", built.cache, "--out", out, "--model", "cards", "--offline")
    run_well("build_embeddings.py", *words, cwd=tmp_path)
    made = json.loads((out / "build_manifest.json").read_text())
    assert made["model"]["name"] == "cards"
    assert made["environment"]["clip_model"] == "cards"
    assert made["model"]["tuning"]["text"] == "not aligned"
    assert str(ROOT) not in (out / "build_manifest.json").read_text()
    assert built.records()[0]["name"] in run_well("query_index.py", picture_of(built, 0), "--index", out, cwd=tmp_path)


def test_the_model_that_it_was_tuned_from_loads(tmp_path: Path) -> None:
    run_well("scripts/make_offline_model.py", "--out", tmp_path)
    embedder = Embedder.load(find_model(f"local-dir:{tmp_path}", ""), Preparation(384, "pad"), "cpu")
    assert embedder.embed([Image.new("RGB", (30, 40))]).shape == (1, 512)
