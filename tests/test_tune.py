"""Tuning a model: which pictures are one card, what is trained, what a user sees, stopping and resuming."""

import copy
import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from helpers.build.ranks import ALONE
from helpers.embed.embedder import Embedder
from helpers.embed.model_source import ModelSource, find_model
from helpers.embed.preprocess import Preparation
from helpers.errors import PipelineError
from helpers.recognise.camera import VIEW_HEIGHT, view, view_size
from helpers.tune import training
from helpers.tune.feeding import Feeder, Sample
from helpers.tune.layers import merged, open_layers
from helpers.tune.measuring import embedded
from helpers.tune.pictures import Picture, catalogue, from_folder, hold_out, same_card
from helpers.tune.request import Recipe, TuneRequest
from helpers.tune.stage import tune
from helpers.tune.training import Trainer
from tests.conftest import ROOT, Built, needs_proc, run_script, run_well
from tests.made_cache import make_tiny_model
from tests.pictures import BROKEN, encoded, write

MOST = view_size(VIEW_HEIGHT)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 24 cards."""
    folder = tmp_path_factory.mktemp("cards")
    for i in range(24):
        write(folder / f"card {i:02}.jpg", encoded(seed=i))
    return folder


def tuned(cards: Path, model: Path, out: Path, *more: object) -> subprocess.CompletedProcess[str]:
    words = ("--pictures", cards, "--model", f"local-dir:{model}", "--out", out, "--batch", 8, "--epochs", 2, *more)
    return run_script("scripts/tune_model.py", *words)


def provenance(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "tuning.json").read_text()))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model = open_clip.create_model(f"local-dir:{folder}")
    return dict(model.visual.state_dict())


# ----------------------------------------------------------------------------------------------------- pictures, cards

NAMES, ARTS, CONTENTS = (st.sampled_from(letters) for letters in ("abcdef", ["", *"stuvw"], "123456789"))


@given(st.lists(st.tuples(NAMES, ARTS, CONTENTS), max_size=12))
def test_pictures_are_one_card_if_a_chain_of_names_arts_and_contents_links_them(found: list[tuple[str, ...]]) -> None:
    pictures = [Picture(Path(f"{i}.jpg"), name, art or None) for i, (name, art, _) in enumerate(found)]
    classes = same_card(pictures, [content for *_, content in found])
    linked = np.eye(len(found), dtype=bool)
    for i, one in enumerate(found):
        for j, other in enumerate(found):
            linked[i, j] |= any(a == b != "" for a, b in zip(one, other, strict=True))
    for _ in found:
        linked |= linked @ linked
    assert (np.equal.outer(classes, classes) == linked).all()
    assert sorted(set(classes.tolist())) == list(range(len(set(classes.tolist()))))


@given(st.lists(st.integers(0, 20), min_size=2), st.floats(1, 90), st.integers(0, 5))
def test_cards_are_held_out_whole(numbers: list[int], percent: float, seed: int) -> None:
    classes = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    held = hold_out(classes, percent, seed)
    assert (held == hold_out(classes, percent, seed)).all()
    assert not set(classes[held].tolist()) & set(classes[~held].tolist())
    if classes.max():
        assert held.any() and not held.all()
    assert not hold_out(classes, 0, seed).any()


def test_a_table_names_pictures_and_their_art(cards: Path, tmp_path: Path) -> None:
    table = tmp_path / "names.csv"
    table.write_text("name,file,illustration_id\nIsland,card 00.jpg,art\nSwamp,card 01.jpg,\n")
    found = from_folder(cards, table)
    assert found == [Picture(cards / "card 00.jpg", "Island", "art"), Picture(cards / "card 01.jpg", "Swamp")]
    assert [picture.name for picture in from_folder(cards, None)] == [f"card {i:02}" for i in range(24)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file\ncard 00.jpg\n", " has no column name"),
        ("file,name\ncard 00.jpg,\n", ", line 2: it has no name"),
        ("", " has no column file, name"),
    ],
)
def test_a_table_that_does_not_fit_is_named(cards: Path, tmp_path: Path, text: str, reason: str) -> None:
    table = tmp_path / "names.csv"
    table.write_text(text)
    with pytest.raises(PipelineError) as caught:
        from_folder(cards, table)
    assert caught.value.problems[0].details == f"{table}{reason}"


def test_drawn_cards_come_with_such_a_table(drawn: Path) -> None:
    found = from_folder(drawn, drawn / "pictures.csv")
    assert all(picture.path.is_file() for picture in found)
    assert found
    with open(drawn / "pictures.csv", newline="") as file:
        assert {row["name"] for row in csv.DictReader(file)} == {picture.name for picture in found}


def test_missing_pictures_are_counted_and_copies_are_one_card(
    cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(cards / "card 00.jpg", tmp_path / "copy.jpg")
    there = [Picture(cards / "card 00.jpg", "one"), Picture(tmp_path / "copy.jpg", "two")]
    found = catalogue([*there, Picture(cards / "card 01.jpg", "three"), Picture(tmp_path / "no.jpg", "four")])
    assert len(found) == 3
    assert found.classes[0] == found.classes[1] != found.classes[2]
    assert "1 of 4 pictures are missing" in capsys.readouterr().err
    with pytest.raises(PipelineError, match="nothing to tune on"):
        catalogue(there)


# --------------------------------------------------------------------------------------------------------------- views


@settings(max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 1.0]))
def test_a_view_comes_from_its_seed(seed: int, strength: float) -> None:
    card = Image.fromarray(np.random.default_rng(1).integers(0, 256, (340, 244, 3), dtype=np.uint8))
    one, other = (view(card, np.random.default_rng(seed), strength, card) for _ in range(2))
    assert one.tobytes() == other.tobytes()
    assert one.mode == "RGB"
    assert all(0 < side <= most for side, most in zip(one.size, MOST, strict=True))


def test_views_are_worse_the_stronger_they_are() -> None:
    smooth = np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    card = Image.fromarray(smooth).resize(MOST, Image.Resampling.BICUBIC)

    def difference(strength: float) -> float:
        seen = [view(card, np.random.default_rng(i), strength).resize(MOST) for i in range(20)]
        return float(np.mean([np.abs(np.asarray(one, float) - np.asarray(card, float)).mean() for one in seen]))

    assert difference(0.0) < 6 < difference(0.5) < difference(1.0)


def test_samples_are_the_same_from_any_start_and_leave_broken_pictures_out(cards: Path, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.jpg", BROKEN["truncated"])
    pictures = [*(Picture(path, path.stem) for path in sorted(cards.iterdir())[:5]), Picture(bad, "bad")]

    def some(first: int, count: int, loaders: int) -> list[Sample | None]:
        feeder = Feeder(pictures, seed=3, strength=1.0, clean=0.3, side=224, loaders=loaders)
        draws = feeder.draws(np.arange(6), first, step=1, batch=4, side=lambda: 64)
        samples = feeder.samples(draws, np.arange(6), ahead=4)
        return [next(samples) for _ in range(count)]

    whole, later = some(0, 20, 1), some(8, 12, 3)
    for one, other in zip(whole[8:], later, strict=True):
        assert (one is None) == (other is None)
        if one and other:
            assert one.row == other.row
            assert torch.equal(one.pixels, other.pixels)
    first = whole[:6]
    assert sorted(sample.row for sample in first if sample) == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------------------------------------------------- training


def started(embedder: Embedder, feeder: Feeder) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    rows = np.arange(len(feeder.pictures))
    return rows, embedded(embedder, feeder.clean_pictures(rows.tolist(), 96))[0]


def test_training_draws_a_card_and_its_views_together(cards: Path, model: Path) -> None:
    embedder = Embedder.load(ModelSource(f"local-dir:{model}", None), Preparation(96, "pad"), "cpu")
    pictures = [Picture(path, path.stem) for path in sorted(cards.iterdir())[:8]]
    trainer = Trainer(embedder, np.arange(8), 512, Recipe(batch=8), 0, ALONE)
    feeder = Feeder(pictures, seed=0, strength=1.0, clean=0.0, side=224, loaders=2)
    samples = feeder.samples(feeder.draws(np.arange(8), 0, step=1, batch=8, side=lambda: 96), np.arange(8), 8)
    trainer.start(*started(embedder, feeder))
    losses = [trainer.step([sample for _ in range(8) if (sample := next(samples))], 0.0) for _ in range(16)]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_pictures_of_one_card_are_not_pushed_apart(cards: Path, model: Path) -> None:
    embedder = Embedder.load(ModelSource(f"local-dir:{model}", None), Preparation(96, "pad"), "cpu")
    feeder = Feeder([Picture(cards / "card 00.jpg", "a")] * 4, seed=0, strength=0.0, clean=1.0, side=224, loaders=1)
    drawn = feeder.samples(feeder.draws(np.arange(4), 0, step=1, batch=4, side=lambda: 96), np.arange(4), 4)
    samples = [sample for _ in range(4) if (sample := next(drawn))]
    alike, different = (
        Trainer(embedder, classes, 512, Recipe(batch=4), 0, ALONE) for classes in (np.zeros(4, np.int64), np.arange(4))
    )
    for trainer in (alike, different):
        trainer.start(*started(embedder, feeder))
    assert alike.step(samples, 0.0) == pytest.approx(0, abs=1e-5)
    assert different.step(samples, 0.0) == pytest.approx(np.log(4), abs=1e-2)


def test_a_training_that_compares_with_a_sample_of_the_pictures_resumes_with_the_same_ones(
    cards: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "MAX_PROXIES", 3)
    pictures = [Picture(path, path.stem) for path in sorted(cards.iterdir())[:12]]
    feeder = Feeder(pictures, seed=0, strength=0.0, clean=1.0, side=224, loaders=1)
    drawn = feeder.samples(feeder.draws(np.arange(12), 0, step=1, batch=2, side=lambda: 224), np.arange(12), 4)
    batches = [[sample for _ in range(2) if (sample := next(drawn))] for _ in range(3)]

    def trainer() -> Trainer:
        embedder = Embedder.load(ModelSource(f"local-dir:{tiny}", None), Preparation(224, "pad"), "cpu")
        made = Trainer(embedder, np.arange(12), 512, Recipe(batch=2), 0, ALONE)
        made.start(np.arange(12), np.eye(12, 512, dtype=np.float32))
        return made

    whole, resumed = trainer(), trainer()
    for batch in batches[:2]:
        whole.step(batch, 0.0)
    resumed.restore(copy.deepcopy(whole.state()))
    for one in (whole, resumed):
        one.step(batches[2], 0.5)
    assert torch.equal(whole.state()["proxies"], resumed.state()["proxies"])


def test_a_training_that_diverges_says_so_and_learns_nothing(cards: Path, tiny: Path) -> None:
    embedder = Embedder.load(ModelSource(f"local-dir:{tiny}", None), Preparation(224, "pad"), "cpu")
    feeder = Feeder([Picture(cards / f"card {i:02}.jpg", str(i)) for i in range(4)], 0, 0.0, 1.0, 224, 1)
    trainer = Trainer(embedder, np.arange(4), 512, Recipe(batch=4), 0, ALONE)
    trainer.start(np.arange(4), np.full((4, 512), np.nan, np.float32))
    before = merged(embedder.tower)
    drawn = feeder.samples(feeder.draws(np.arange(4), 0, step=1, batch=4, side=lambda: 224), np.arange(4), 4)
    with pytest.raises(PipelineError, match="diverges"):
        trainer.step([sample for _ in range(4) if (sample := next(drawn))], 0.0)
    assert trainer.steps == 0
    assert all(torch.equal(value, before[name]) for name, value in merged(embedder.tower).items())


@pytest.mark.parametrize(("layers", "first"), [("last", False), ("all", True)])
def test_layers_choose_what_is_trained(model: Path, layers: str, first: bool) -> None:
    tower = open_clip.create_model(f"local-dir:{model}").visual
    open_layers(tower, layers, 0)
    trained = {name for name, weight in tower.named_parameters() if weight.requires_grad}
    assert ("trunk.conv_stem.weight" in trained) == ("trunk.blocks.2.0.conv_dw.weight" in trained) == first
    assert {"trunk.blocks.3.0.conv_dw.weight", "trunk.conv_head.weight", "head.proj.weight"} <= trained


def test_low_rank_changes_are_worked_into_a_transformers_weights(tmp_path: Path) -> None:
    tower = open_clip.create_model(f"local-dir:{make_tiny_model(tmp_path / 'tiny')}").visual
    pixels = torch.rand(2, 3, 224, 224)
    before = merged(tower)
    open_layers(tower, "lora", 0)
    for parameter in tower.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn(parameter.shape)
    after = merged(tower)
    plain = open_clip.create_model(f"local-dir:{tmp_path / 'tiny'}").visual
    plain.load_state_dict(after)
    with torch.no_grad():
        assert torch.allclose(plain(pixels), tower(pixels), atol=1e-4)
    assert any("in_proj_weight" in name and not torch.equal(before[name], after[name]) for name in before)


# --------------------------------------------------------------------------------------------------------- the script


def test_a_tuned_folder_builds_an_index_that_says_how_it_was_tuned(built: Built, tmp_path: Path) -> None:
    out, index = tmp_path / "tuned", tmp_path / "index"
    words = ("--cache", built.cache, "--offline", "--model", f"local-dir:{built.model}", "--out", out)
    said = run_well("scripts/tune_model.py", *words, "--epochs", 2, "--batch", 4, "--held-out", 20)
    assert "cards held out, after:" in said
    assert sorted(path.name for path in out.iterdir()) == [
        *("open_clip_config.json", "open_clip_model.safetensors", "tuning.json"),
    ]
    made = provenance(out)
    assert made["base"] == f"local-dir:{built.model.name}"
    assert made["settings"]["epochs"] == 2
    assert made["held_out"]["after"]["queries"] > 0
    run_well(
        *("build_embeddings.py", "--cache", built.cache, "--out", index),
        *("--model", f"local-dir:{out}", "--offline"),
    )
    manifest = json.loads((index / "build_manifest.json").read_text())
    assert manifest["model"]["tuning"] == made
    refused = run_script("query_index.py", "--index", index, "--text", "a dragon")
    assert refused.returncode == 1
    assert "tuned on pictures alone" in refused.stderr


@pytest.mark.slow
def test_width_and_blend_shape_the_result(cards: Path, tiny: Path, tmp_path: Path) -> None:
    assert tuned(cards, tiny, tmp_path / "narrow", "--width", 64).returncode == 0
    assert tuned(cards, tiny, tmp_path / "none", "--blend", 0).returncode == 0
    assert tuned(cards, tiny, tmp_path / "all", "--epochs", 40).returncode == 0
    narrow = Embedder.load(find_model(f"local-dir:{tmp_path / 'narrow'}", ""), Preparation(224, "pad"), "cpu")
    assert narrow.embed([Image.open(cards / "card 00.jpg")]).shape == (1, 64)
    before, none, all_ = weights(tiny), weights(tmp_path / "none"), weights(tmp_path / "all")
    assert all(torch.allclose(value, none[name], atol=1e-3) for name, value in before.items())
    assert not all(torch.allclose(value, all_[name], atol=1e-3) for name, value in before.items())


def test_low_rank_tuning_of_a_transformer_keeps_text_search(cards: Path, tmp_path: Path) -> None:
    base, out = make_tiny_model(tmp_path / "base", reads=True), tmp_path / "out"
    done = tuned(cards, base, out, "--layers", "lora", "--blend", 0.5)
    assert done.returncode == 0, done.stderr
    made = provenance(out)
    assert made["text"] == "kept"
    assert 0 <= made["text_kept"] <= 1
    assert f"Text search keeps {made['text_kept']:.0%}" in done.stdout
    before, after = weights(base), weights(out)
    assert before.keys() == after.keys()
    again = tuned(cards, out, tmp_path / "again", "--blend", 1)
    assert again.returncode == 0, again.stderr
    assert provenance(tmp_path / "again")["text"] == "not aligned"
    once_more = tuned(cards, tmp_path / "again", tmp_path / "blended", "--blend", 0.5)
    assert once_more.returncode == 0, once_more.stderr
    assert provenance(tmp_path / "blended")["text"] == "not aligned"


def test_convolutions_have_no_low_rank_changes(cards: Path, model: Path, tmp_path: Path) -> None:
    refused = tuned(cards, model, tmp_path / "out", "--layers", "lora")
    assert refused.returncode == 1
    assert "no matrices for low-rank changes" in refused.stderr


def test_a_model_is_not_replaced_by_its_own_tuning(cards: Path, tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    refused = tuned(cards, base, base)
    assert refused.returncode == 1
    assert "would replace the one it is tuned from" in refused.stderr


def test_a_damaged_provenance_is_named_before_any_work(built: Built, tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    write(base / "tuning.json", b"[")
    words = ("--cache", built.cache, "--offline", "--out", tmp_path / "index", "--model", f"local-dir:{base}")
    refused = run_script("build_embeddings.py", *words)
    assert refused.returncode == 1
    assert "tuning.json is damaged" in refused.stderr
    assert not (tmp_path / "index").exists()


def test_only_broken_pictures_are_nothing_to_tune_on(tiny: Path, tmp_path: Path) -> None:
    for i in range(8):
        write(tmp_path / f"{i}.jpg", BROKEN["HTML page"] + bytes([i]))
    refused = tuned(tmp_path, tiny, tmp_path / "out")
    assert refused.returncode == 1
    assert "there is nothing to tune on" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_same_seed_gives_the_same_model(cards: Path, tiny: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert tuned(cards, tiny, tmp_path / name, "--seed", 4).returncode == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(value, two[name], atol=1e-3) for name, value in one.items())


def test_broken_pictures_are_left_out_and_named(cards: Path, tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cards, tmp_path / "cards"))
    for name, data in BROKEN.items():
        write(folder / f"{name}.jpg", data)
    done = tuned(folder, tiny, tmp_path / "out", "--held-out", 0)
    assert done.returncode == 0, done.stderr
    assert f"{len(BROKEN)} pictures were left out" in done.stderr
    assert provenance(tmp_path / "out")["broken_pictures"] == len(BROKEN)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "--minutes must be >= 0.1"),
        (["--minutes", "1", "--epochs", "1"], "--minutes and --epochs are mutually exclusive"),
        (["--layers", "first"], "--layers must be one of last, all, lora"),
        (["--blend", "0.5", "--width", "64"], "--blend and --width are mutually exclusive"),
        (["--table", "names.csv"], "--table needs --pictures"),
        (["--pictures", "no such directory"], "the pictures can't be read"),
    ],
)
def test_bad_arguments_are_named(words: list[str], message: str, tmp_path: Path) -> None:
    done = run_script("scripts/tune_model.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def start(*words: object) -> subprocess.Popen[str]:
    script = [sys.executable, str(ROOT / "scripts/tune_model.py"), *map(str, words)]
    return subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_stopped_tuning_resumes_and_ends_where_it_would_have(cards: Path, tiny: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "out", ("--epochs", 30)
    process = start("--pictures", cards, "--model", f"local-dir:{tiny}", "--out", out, "--batch", 8, *more)
    assert process.stderr
    assert any(line.startswith("Training on 22 pictures") for line in iter(process.stderr.readline, ""))
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command resumes it" in said
    assert [path.name for path in out.iterdir()] == ["tuning.pt"]
    other = tuned(cards, tiny, out, "--seed", 9)
    assert other.returncode == 1
    assert "seed was 0, now 9" in other.stderr
    done = tuned(cards, tiny, out, *more)
    assert done.returncode == 0, done.stderr
    assert "Resuming after" in done.stderr
    assert not (out / "tuning.pt").exists()
    assert tuned(cards, tiny, tmp_path / "whole", *more).returncode == 0
    resumed, whole = weights(out), weights(tmp_path / "whole")
    assert all(torch.allclose(value, resumed[name], atol=1e-3) for name, value in whole.items())


def test_a_tuning_that_is_stopped_before_it_has_begun_leaves_nothing_to_resume(
    cards: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("helpers.tune.stage.recall", stop)  # of the model as it is
    found = [Picture(path, path.stem) for path in sorted(cards.iterdir())]
    with pytest.raises(KeyboardInterrupt):
        tune(TuneRequest(out=tmp_path, device="cpu"), ModelSource(f"local-dir:{tiny}", None), found)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_named_and_no_resume_replaces_it(cards: Path, tiny: Path, tmp_path: Path) -> None:
    write(tmp_path / "tuning.pt", b"PK\x03\x04 something else")
    refused = tuned(cards, tiny, tmp_path)
    assert refused.returncode == 1
    assert "--no-resume" in refused.stderr
    assert tuned(cards, tiny, tmp_path, "--no-resume").returncode == 0


@needs_proc
def test_what_the_disk_does_not_give_is_neither_damaged_nor_missing(cards: Path, tiny: Path, tmp_path: Path) -> None:
    found = [Picture(path, path.stem) for path in sorted(cards.iterdir())]
    unreadable = tmp_path / "tuning.pt"
    unreadable.symlink_to("/proc/self/mem")  # reading its beginning fails with EIO
    with pytest.raises(PipelineError, match=r"tuning.pt can't be read") as caught:
        tune(TuneRequest(out=tmp_path, device="cpu"), ModelSource(f"local-dir:{tiny}", None), found)
    assert "--no-resume" not in caught.value.render()
    with pytest.raises(PipelineError, match="can't be read"):
        catalogue([*found, Picture(unreadable, "Unreadable")])


def test_two_tunings_of_one_directory_do_not_mix(cards: Path, tiny: Path, tmp_path: Path) -> None:
    process = start("--pictures", cards, "--model", f"local-dir:{tiny}", "--out", tmp_path, "--epochs", 1e6)
    try:
        assert process.stderr
        assert any(line.startswith("Training on") for line in iter(process.stderr.readline, ""))
        second = tuned(cards, tiny, tmp_path)
        assert second.returncode == 1
        assert "another tuning is writing into" in second.stderr
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_several_ranks_tune_one_model(cards: Path, tiny: Path, tmp_path: Path) -> None:
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", ROOT / "scripts/tune_model.py")
    flags = ("--pictures", cards, "--model", f"local-dir:{tiny}", "--batch", 8, "--epochs", 20, "--out")
    done = subprocess.run(
        [sys.executable, *map(str, (*words, *flags, tmp_path / "two"))],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Tuned on 22 pictures of 22 cards") == 1
    assert tuned(cards, tiny, tmp_path / "one", "--epochs", 20).returncode == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(value, two[name], atol=5e-3) for name, value in one.items())
