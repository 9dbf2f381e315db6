"""Which models can be loaded, what they are prepared for, and what is said where that fails."""

import errno
import gc
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import build_embeddings
from helpers.embed import precision
from helpers.embed.embedder import Embedder, TextEmbedder
from helpers.embed.model_source import ModelSource, find_model
from helpers.embed.preprocess import Preparation
from helpers.errors import PipelineError
from helpers.recognise.query import QueryEngine
from helpers.validation import decode_image
from tests.conftest import ROOT, Built, needs_proc, run_well
from tests.hub import serving_hub
from tests.made_cache import make_cache, make_tiny_model, url
from tests.pictures import encoded
from tests.test_build import build
from tests.test_query import ask, picture_of


def load(folder: Path, size: int = 384) -> Embedder:
    return Embedder.load(ModelSource(f"local-dir:{folder}", None), Preparation(size, "pad"), "cpu")


def load_image_tower(source: ModelSource) -> Embedder:
    return Embedder.load(source, Preparation(384, "pad"), "cpu")


def load_text_tower(source: ModelSource) -> TextEmbedder:
    return TextEmbedder.load(source, "cpu")


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


def towers() -> tuple[int, int]:
    """How many whole models there are, and how many image towers."""
    gc.collect()
    kinds = Counter(type(thing) for thing in gc.get_objects())
    return kinds[open_clip.CLIP], kinds[open_clip.transformer.VisionTransformer]


def test_of_a_model_only_one_image_tower_is_ever_there(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, there, encode = towers(), [], Embedder.encode
    embedder = load(own)

    def counted(embedder: Embedder, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        there.append(towers())
        return encode(embedder, prepared)

    monkeypatch.setattr(Embedder, "encode", counted)
    monkeypatch.setattr(precision, "fast_precisions", lambda device: ("bf16",))
    monkeypatch.setattr(precision, "MAX_SHIFT", 10.0)
    pictures = [embedder.prepare(decode_image(encoded(seed=seed))) for seed in range(3)]
    precision.settle_precision(embedder, "auto", [], lambda: pictures)
    assert embedder.precision == "bf16"
    assert {*there, towers()} == {(before[0], before[1] + 1)}


def test_a_model_for_texts_keeps_no_image_tower(tmp_path: Path) -> None:
    before = towers()
    source = ModelSource(f"local-dir:{make_tiny_model(tmp_path, reads=True)}", None)
    embedder = TextEmbedder.load(source, "cpu")
    assert towers() == (before[0] + 1, before[1])
    assert embedder.encode(["a card"]).shape == (1, 512)


# ------------------------------------------------------------------------------- what open_clip only warns of, or hides


def wrong_pairs() -> list[tuple[str, str]]:
    """The weights that open_clip lists for a model with another activation, where it has one with theirs."""
    return [
        (model, tag)
        for model, tag in open_clip.list_pretrained()
        if f"{model}-quickgelu" in open_clip.list_models()
        and open_clip.get_pretrained_cfg(model, tag).get("quick_gelu", False)
        != open_clip.get_model_config(model).get("quick_gelu", False)
    ]


@pytest.mark.parametrize("tower", [load_image_tower, load_text_tower])
def test_weights_that_want_quick_gelu_are_not_loaded_into_a_model_with_gelu(
    tower: Callable[[ModelSource], object],
) -> None:
    pairs = wrong_pairs()
    assert ("ViT-B-32", "openai") in pairs
    assert len(pairs) > 20
    for model, tag in [*pairs, ("ViT-B/32", "OpenAI")]:
        with pytest.raises(
            PipelineError, match=r"computes GELU, but the weights .* were trained with QuickGELU"
        ) as found:
            tower(ModelSource(model, tag))
        named = f"--model {model.replace('/', '-')}-quickgelu --pretrained {tag}"
        assert named in found.value.problems[0].suggestion


def test_weights_that_want_gelu_are_not_looked_for_among_those_with_quick_gelu() -> None:
    with pytest.raises(PipelineError, match="computes QuickGELU, but the weights laion2b_s34b_b79k") as found:
        load_image_tower(ModelSource("ViT-B-32-quickgelu", "laion2b_s34b_b79k"))
    assert "--model ViT-B-32 --pretrained laion2b_s34b_b79k" in found.value.problems[0].suggestion


@pytest.fixture
def listed(own: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make `Tiny` one of open_clip's own models, `Tiny-quickgelu` too, with weights of the tag `trained`."""
    config = json.loads((own / "open_clip_config.json").read_text())["model_cfg"]

    def add(name: str, *, quick_gelu: bool, **weights: object) -> None:
        there = {"file": str(own / "open_clip_pytorch_model.bin"), **SIGLIP, **weights}
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config | {"quick_gelu": quick_gelu})
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {"trained": there})

    return add


SIGLIP = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic", "resize_mode": "squash"}


def test_an_activation_that_no_other_model_has_is_taken_with_open_clips_warning(
    listed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """As roberta-ViT-B-32's: its own configuration is right, open_clip's list of weights lacks the note."""
    listed("Tiny", quick_gelu=True)
    embedder = load_image_tower(ModelSource("Tiny", "trained"))
    assert embedder.quick_gelu
    assert capsys.readouterr().err.count("WARNING: open_clip: QuickGELU mismatch") == 1


def test_weights_from_a_file_are_prepared_for_as_the_published_ones_are(
    own: Path, listed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    listed("Tiny", quick_gelu=False)
    listed("Tiny-quickgelu", quick_gelu=True)
    tagged = load_image_tower(ModelSource("Tiny", "trained"))
    assert "computes" not in capsys.readouterr().err
    embedder = load_image_tower(ModelSource("Tiny", str(own / "open_clip_pytorch_model.bin")))
    assert (embedder.model_input, embedder.settings.preprocessing) == (
        tagged.model_input,
        tagged.settings.preprocessing,
    )
    assert embedder.model_input["mean"] == (0.5, 0.5, 0.5)
    assert (
        "It computes GELU; if open_clip_pytorch_model.bin was trained with QuickGELU, use --model Tiny-quickgelu"
        in (capsys.readouterr().err)
    )


def test_what_open_clip_chose_among_several_weights_is_told(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = own / "open_clip_pytorch_model.bin"
    for name in ("first.bin", "second.bin"):
        shutil.copy(weights, own / name)
    weights.unlink()
    load(own)
    assert re.search(r"WARNING: open_clip: Multiple checkpoints found .* Using 'first.bin'", capsys.readouterr().err)


def test_the_reason_why_there_are_no_weights_is_told_with_the_failure(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(PipelineError, match="could not be loaded") as found:
        load(own)
    assert "no CLIP weights found in" in found.value.problems[0].details
    assert "WARNING" not in capsys.readouterr().err


@needs_proc
@pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_pytorch_model.bin", "tuning.json"])
def test_an_error_of_the_disk_is_not_called_damage_of_the_model(own: Path, name: str) -> None:
    (own / name).unlink(missing_ok=True)
    (own / name).symlink_to("/proc/self/mem")  # reading its beginning fails with EIO
    with pytest.raises(PipelineError, match="can't be read") as found:
        load_image_tower(find_model(f"local-dir:{own}", ""))
    assert found.value.problems[0].details == "Input/output error"
    assert "check the disk" in found.value.problems[0].suggestion


@needs_proc
def test_an_error_of_the_disk_is_not_called_damage_of_the_weights(listed: Callable[..., None]) -> None:
    listed("Tiny", quick_gelu=False)
    with pytest.raises(PipelineError, match="can't be read"):
        load_image_tower(ModelSource("Tiny", "/proc/self/mem"))


def test_a_folder_that_the_disk_does_not_give_is_not_called_empty(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(path: object) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patched, pytest.raises(PipelineError, match="can't be read") as found:
        patched.setattr(os, "stat", stale)
        find_model(f"local-dir:{own}", "")
    assert found.value.problems[0].details == os.strerror(errno.ESTALE)


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
    told = run_well("query_index.py", picture_of(built, 0), "--index", out, "--read", "off", cwd=tmp_path)
    assert built.records()[0]["name"] in told


def test_the_model_that_it_was_tuned_from_loads(tmp_path: Path) -> None:
    run_well("scripts/make_offline_model.py", "--out", tmp_path)
    embedder = Embedder.load(find_model(f"local-dir:{tmp_path}", ""), Preparation(384, "pad"), "cpu")
    assert embedder.embed([Image.new("RGB", (30, 40))]).shape == (1, 512)


# -------------------------------------------------------------------------------------------------------- the model hub


@pytest.fixture
def hub(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that has the tiny model as someone/tiny; its address."""
    with serving_hub("someone/tiny", own) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        pattern = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in {  # which huggingface_hub reads from the environment only when it is imported
            "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": pattern,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        yield address


def test_a_model_of_the_hub_builds_an_index_and_answers_queries(hub: str, own: Path, tmp_path: Path) -> None:
    cache, out = make_cache(tmp_path / "cache", ["tst"] * 3), tmp_path / "index"
    words = ["--cache", cache.root, "--out", out, "--model", "hf-hub:someone/tiny"]
    assert build_embeddings.main(list(map(str, words))) == 0
    made = json.loads((out / "build_manifest.json").read_text())
    assert (made["model"]["name"], made["model"]["pretrained"]) == ("hf-hub:someone/tiny", None)
    assert made["model"]["weights_sha256"] == load(own).fingerprint
    (best, *_) = QueryEngine.load(out, read="off").ask(cache.path_for(url(1)), detect="off").cards[0].matches
    assert best.face.name == "Card 1"


def test_a_model_that_the_hub_does_not_have_is_named_with_what_the_hub_says(hub: str, own: Path) -> None:
    (own / "open_clip_pytorch_model.bin").unlink()
    for name, reason in (("tiny", "resolve/main/open_clip_pytorch_model.bin"), ("else", "open_clip_config.json")):
        with pytest.raises(PipelineError, match="could not be loaded") as found:
            load_image_tower(find_model(f"hf-hub:someone/{name}", ""))
        assert reason in found.value.problems[0].details
        assert "\n" not in found.value.problems[0].details
