"""build_embeddings.py as users run it."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import imagehash
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageOps

from helpers.cards.image_cache import ImageCache
from helpers.index import manifest
from tests.conftest import Built, run_script
from tests.faulty_server import faulty_server
from tests.kills import KILLED, rows_in, run_signalled_before, run_until
from tests.pictures import BROKEN
from tests.warm_python import WarmProcess, run_warm

COLUMNS = ["dhash", "embeddings", "pictures"]
NO_DEVICE = "cuda" if sys.platform == "darwin" else "mps"
CHECKPOINT = sorted(["checkpoint.npz", "checkpoint_meta.json", *(f"checkpoint_{name}.npy" for name in COLUMNS)])
FACES = 13  # 12 drawn cards, one of them with two sides


def build(cache: Path, out: Path, model: Path, *arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return run_script(
        "build_embeddings.py",
        *("--cache", cache, "--out", out, "--model", f"local-dir:{model}", "--offline", *arguments),
        **more,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def cache(built: Built, tmp_path: Path) -> Path:
    """A copy of the drawn cards' cache, to be changed."""
    return Path(shutil.copytree(built.cache, tmp_path / "cache"))


def test_all_files_agree(built: Built) -> None:
    rows = np.load(built.index / "mtg_embeddings.npy")
    index = faiss.read_index(str(built.index / "mtg_cards.faiss"))
    manifest = built.manifest()
    assert rows.dtype == np.float32
    assert np.abs(np.linalg.norm(rows.astype(np.float64), axis=1) - 1).max() <= 1e-5
    assert rows.shape == (FACES, 512)
    assert len(built.records()) == FACES
    assert (index.ntotal, index.d, index.metric_type) == (FACES, 512, faiss.METRIC_INNER_PRODUCT)
    assert type(index) is faiss.IndexHNSWFlat
    assert np.array_equal(np.stack([index.reconstruct(i) for i in range(FACES)]), rows)
    assert index.hnsw.efSearch == manifest["parameters"]["hnsw_ef_search"]
    assert manifest["found_by_itself"] == {"checked": FACES, "found": FACES}
    assert manifest["target_recall_at_10"] == 0.999
    assert manifest["statistics"] == {
        "total_records": FACES,
        "successful_embeddings": FACES,
        "failed_embeddings": 0,
        "success_rate": 1.0,
        "missing_from_cache": 0,
        "validation_failures": 0,
    }
    assert manifest["version"] == "1.0.0"
    assert {"kind": "unique_artwork", "batch_size": 8, "target_size": 384, "hnsw_m": 32}.items() <= manifest[
        "parameters"
    ].items()
    assert manifest["parameters"]["hnsw_ef_construction"] == 200
    assert sorted(path.name for path in built.index.iterdir()) == [
        *("build_manifest.json", "mtg_cards.faiss", "mtg_cards_whitened.faiss", "mtg_dhash.npy", "mtg_embeddings.npy"),
        *("mtg_meta.jsonl", "mtg_pictures.npy", "whitening.npz"),
    ]


def test_metadata_has_every_field(built: Built) -> None:
    fields = (
        "name scryfall_id face_id oracle_id illustration_id set collector_number frame layout lang colors image_url"
    )
    for record in built.records():
        assert set(record) >= {*fields.split(), "card_url", "scryfall_uri"}
    names = [record["name"] for record in built.records()]
    assert len(set(names)) == FACES
    assert any(record["face_id"].endswith(":face:1") for record in built.records())


def test_rows_are_what_open_clip_itself_makes_of_the_pictures(built: Built) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{built.model}")
    model.eval()
    rows = np.load(built.index / "mtg_embeddings.npy")
    for row, record in list(enumerate(built.records()))[:4]:
        image = Image.open(ImageCache(built.cache).path_for(record["image_url"])).convert("RGB")
        canvas = ImageOps.pad(image, (384, 384), Image.Resampling.BICUBIC, color=(0, 0, 0))
        with torch.no_grad():
            vector = model.encode_image(preprocess(canvas).unsqueeze(0))[0].numpy()
        assert float(vector @ rows[row]) / np.linalg.norm(vector) >= 0.9999


def test_hashes_are_what_imagehash_makes_of_the_pictures(built: Built) -> None:
    hashes = np.load(built.index / "mtg_dhash.npy")
    assert (hashes.dtype, hashes.shape) == (np.uint8, (FACES, 32))
    for row, record in zip(hashes, built.records(), strict=True):
        image = Image.open(ImageCache(built.cache).path_for(record["image_url"])).convert("RGB")
        assert row.tobytes().hex() == str(imagehash.dhash(image, hash_size=16))


@pytest.mark.parametrize("validate", ["--validate-cache", "--no-validate-cache"])
def test_broken_and_missing_pictures_are_named_and_every_row_keeps_its_card(
    built: Built, cache: Path, tmp_path: Path, validate: str
) -> None:
    records = built.records()
    victims = dict(zip([records[i]["name"] for i in (0, 3, 4, 8, 12)], BROKEN.values(), strict=True))
    urls = {record["name"]: record["image_url"] for record in records}
    for name, body in victims.items():
        ImageCache(cache).path_for(urls[name]).write_bytes(body)
    missing = records[6]["name"]
    ImageCache(cache).path_for(urls[missing]).unlink()

    done = build(cache, tmp_path / "out", built.model, validate)
    assert done.returncode == 0, done.stderr
    after = Built(cache, tmp_path / "out", built.model)
    expected = [record["name"] for record in records if record["name"] not in {*victims, missing}]
    assert [record["name"] for record in after.records()] == expected
    old = dict(zip([record["name"] for record in records], np.load(built.index / "mtg_embeddings.npy"), strict=True))
    for name, row in zip(expected, np.load(after.index / "mtg_embeddings.npy"), strict=True):
        assert float(old[name] @ row) >= 0.9999
    for name in victims:
        (line,) = (line for line in done.stderr.splitlines() if f"({name})" in line)
        assert ImageCache(cache).path_for(urls[name]).name in line
        assert line.rpartition("): ")[2]
    assert after.manifest()["statistics"] == {
        "total_records": FACES,
        "successful_embeddings": FACES - 6,
        "failed_embeddings": 6,
        "success_rate": pytest.approx(7 / 13),
        "missing_from_cache": 1,
        "validation_failures": 5,
    }
    for words in ("Total faces: 13", "missing from the cache: 1", "validation failures: 5", "embedded: 7", "53.8 %"):
        assert words in done.stdout
    assert "M 32, efConstruction 200" in done.stdout


def test_a_build_that_fails_leaves_the_old_output_as_it_was(built: Built, cache: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    for picture in ImageCache(cache).pictures():
        picture.write_bytes(b"<html>")
    done = build(cache, out, built.model)
    assert done.returncode == 2
    assert "ERROR: Build Error: No valid images to embed" in done.stderr
    assert "13 have a broken one" in done.stderr
    assert contents(out) == contents(built.index)


def test_a_disk_that_is_full_leaves_the_old_output_as_it_was(built: Built, tmp_path: Path) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    arguments = ["--cache", built.cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]
    done = run_warm("build_embeddings.py", *arguments, max_file_bytes=20_000)  # less than the vectors need
    assert done.returncode == 1
    assert f"ERROR: Configuration Error: {out} can't be written to" in done.stderr
    assert "make room" in done.stderr
    assert contents(out) == contents(built.index)


def test_two_builds_into_one_folder_do_not_mix(built: Built, tmp_path: Path) -> None:
    """The second is turned away while the first is at it, or comes after it: never do both write at once."""
    words = ["--cache", built.cache, "--out", tmp_path, "--model", f"local-dir:{built.model}", "--offline"]
    limits = [["--limit", "5"], []]
    runs = [WarmProcess("build_embeddings.py", *words, *limit) for limit in limits]
    ends = [(run.communicate()[1], run.returncode) for run in runs]
    assert 0 in [code for _, code in ends]
    assert all(code == 0 or "another build is writing into" in stderr for stderr, code in ends)
    for name, digest in Built(built.cache, tmp_path, built.model).manifest()["sha256"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert len(list(tmp_path.iterdir())) == 6


def test_a_hub_that_does_not_answer_well_ends_the_run(built: Built, tmp_path: Path) -> None:
    with faulty_server() as hub:
        done = run_script(
            *("build_embeddings.py", "--cache", built.cache, "--out", tmp_path),
            env={"HF_ENDPOINT": hub.address + "/broken", "HF_HOME": str(tmp_path / "hub"), "PATH": ""},
        )
        assert done.returncode == 1
        assert "could not be loaded" in done.stderr
        assert hub.asked == []  # asked once whether it is there; then it is left alone


def test_a_rebuild_says_that_the_browser_files_are_old(built: Built, tmp_path: Path) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    run_script("export_for_browser.py", "--input-dir", out, "--output-dir", out)
    assert "run export_for_browser.py to renew them" in build(built.cache, out, built.model).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--limit", "0"], 2, "No valid images to embed"),
        (["--cache", "nowhere"], 3, "the image cache does not exist"),
        (["--cache", "."], 2, "No valid images to embed"),
        (["--model", "local-dir:nowhere"], 1, "holds no open_clip model"),
        (["--device", NO_DEVICE], 1, f"torch finds no {NO_DEVICE} device here"),
        (["--model", "ViT-Z-99", "--pretrained", "openai"], 1, "open_clip has no model ViT-Z-99"),
        (["--model", "ViT-B-32-quickgelu", "--pretrained", "nobodys"], 1, "the weights of ViT-B-32-quickgelu"),
        (["--model", "ViT-B-32-quickgelu", "--pretrained", "openai"], 1, "could not be loaded"),
    ],
)
def test_known_failures_end_with_their_code_and_what_to_do(
    built: Built, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = build(built.cache, tmp_path / "out", built.model, *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert "Suggestion: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "build_manifest.json").exists()


def test_weights_that_can_not_be_fetched_end_the_run(built: Built, tmp_path: Path) -> None:
    words = ("build_embeddings.py", "--cache", built.cache, "--out", tmp_path / "out")
    done = run_warm(*words, env={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert done.returncode == 1
    assert "ERROR: Configuration Error: the weights of ViT-B-32-quickgelu could not be loaded" in done.stderr
    for way_out in ("--pretrained FILE", "local-dir:PATH", "--model cards"):
        assert way_out in done.stderr


def test_a_model_folder_without_weights_is_not_filled_with_random_ones(built: Built, tmp_path: Path) -> None:
    shutil.copy(built.model / "open_clip_config.json", tmp_path)
    done = build(built.cache, tmp_path / "out", tmp_path)
    assert done.returncode == 1
    assert "could not be loaded" in done.stderr


@pytest.mark.slow  # weights of 350 MB
def test_weights_from_a_file_are_open_clips_own_way(built: Built, tmp_path: Path) -> None:
    """ViT-B/32's real architecture with random weights: CLIP's own code path, without CLIP's weights."""
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-B-32-quickgelu").state_dict(), tmp_path / "weights.pt")
    done = run_script(
        *("build_embeddings.py", "--cache", built.cache, "--out", tmp_path / "out", "--limit", 2, "--offline"),
        *("--pretrained", tmp_path / "weights.pt"),
    )
    assert done.returncode == 0, done.stderr
    manifest = Built(built.cache, tmp_path / "out", built.model).manifest()
    assert manifest["environment"]["clip_model"] == "ViT-B/32"
    assert manifest["model"]["pretrained"] == str(tmp_path / "weights.pt")
    assert np.load(tmp_path / "out" / "mtg_embeddings.npy").shape == (2, 512)


@pytest.mark.parametrize(
    "arguments", [["--limit", 1, "--batch", 500], ["--batch", 1, "--hnsw-m", 128, "--fit", "crop"]]
)
def test_few_pictures_and_odd_sizes_build(built: Built, tmp_path: Path, arguments: list[object]) -> None:
    done = build(built.cache, tmp_path / "out", built.model, *arguments, "--size", 64)
    assert done.returncode == 0, done.stderr
    after = Built(built.cache, tmp_path / "out", built.model)
    count = 1 if "--limit" in arguments else FACES
    assert [record["name"] for record in after.records()] == [record["name"] for record in built.records()][:count]
    assert after.manifest()["parameters"]["target_size"] == 64


@pytest.mark.parametrize(
    ("arguments", "size", "told"),
    [
        (["--batch", 300], 250, True),  # half of the checkpoint frequency
        (["--batch", 300, "--checkpoint-frequency", 0], 300, False),
        (["--device", "cpu"], 8, False),
    ],
)
def test_batches_are_no_larger_than_checkpoints_allow(
    built: Built, tmp_path: Path, arguments: list[object], size: int, told: bool
) -> None:
    done = build(built.cache, tmp_path, built.model, "--limit", 2, *arguments)
    assert done.returncode == 0, done.stderr
    assert Built(built.cache, tmp_path, built.model).manifest()["parameters"]["batch_size"] == size
    assert (f"using batches of {size}" in done.stderr) == told


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_build_that_is_stopped_keeps_a_checkpoint_and_goes_on_from_it(
    built: Built, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    run = run_until(
        lambda: rows_in(tmp_path) > 1,
        *("build_embeddings.py", "--cache", built.cache, "--out", tmp_path, "--model", f"local-dir:{built.model}"),
        *("--offline", "--batch", 1),
        sent=sent,
        warm=True,
    )
    assert run.returncode == code
    assert "Traceback" not in run.stderr
    assert "run the same command to resume" in run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == CHECKPOINT
    kept = json.loads((tmp_path / "checkpoint_meta.json").read_text())["processed_count"]
    assert 0 < kept < FACES
    done = build(built.cache, tmp_path, built.model, "--hnsw-m", 16, "--batch", 3)  # which change no vector
    assert f"Resuming: {kept} of {FACES} faces" in done.stderr
    assert f"{kept} resumed from a checkpoint" in done.stdout
    (cost,) = (line for line in done.stdout.splitlines() if line.startswith("Checkpoints: "))
    assert re.fullmatch(r"Checkpoints: 1, cost \d+\.\d\d s \(\d+\.\d\d %\)", cost)
    assert same_index(tmp_path, built.index)


@pytest.mark.parametrize(
    ("before", "more"),
    [
        ("replace mtg_embeddings.npy", []),
        ("replace build_manifest.json", ["--checkpoint-frequency", "0"]),
        ("replace build_manifest.json.swap", []),
        ("unlink checkpoint_meta.json", []),
    ],
)
def test_a_build_that_is_killed_while_the_files_are_swapped_is_completed_without_embedding(
    built: Built, tmp_path: Path, before: str, more: list[str]
) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    run = run_signalled_before(
        before,
        *("build_embeddings.py", "--cache", built.cache, "--out", out, "--model", f"local-dir:{built.model}"),
        *("--offline", "--rebuild", *more),
    )
    assert run.returncode == KILLED
    done = build(built.cache, out, built.model, *more)
    assert done.returncode == 0, done.stderr
    assert f"embedded: {FACES} ({FACES} resumed from a checkpoint)" in done.stdout
    assert same_index(out, built.index)


@pytest.mark.parametrize(
    ("column", "reason"), [("embeddings", "has a cosine of"), ("dhash", "and its picture differ in")]
)
def test_an_index_that_misnames_its_pictures_never_replaces_a_good_one(
    built: Built, tmp_path: Path, column: str, reason: str
) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    before = contents(out)
    run_signalled_before(
        "replace mtg_embeddings.npy",
        *("build_embeddings.py", "--cache", built.cache, "--out", tmp_path / "other", "--offline"),
        *("--model", f"local-dir:{built.model}"),
    )
    for name in CHECKPOINT:
        shutil.copy(tmp_path / "other" / name, out)
    rows = np.load(out / f"checkpoint_{column}.npy", mmap_mode="r+")
    rows[:] = np.roll(rows, 1, axis=0)  # every row has another card's name now
    rows.flush()
    done = build(built.cache, out, built.model)
    assert done.returncode == 1
    assert "ERROR: Build Error: the new index does not recognise its own pictures" in done.stderr
    assert reason in done.stderr
    assert "--no-resume" in done.stderr
    assert {name: data for name, data in contents(out).items() if name not in CHECKPOINT} == before
    done = build(built.cache, out, built.model, "--no-resume")
    assert done.returncode == 0, done.stderr
    assert same_index(out, built.index)


def test_pictures_that_came_since_a_build_was_stopped_are_taken_in(built: Built, cache: Path, tmp_path: Path) -> None:
    missing = ImageCache(cache).path_for(built.records()[2]["image_url"])
    away = missing.rename(tmp_path / "away.jpg")
    out = tmp_path / "out"
    run_signalled_before(
        "replace mtg_embeddings.npy",
        *("build_embeddings.py", "--cache", cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"),
    )
    away.rename(missing)
    done = build(cache, out, built.model)
    assert f"{FACES - 1} resumed from a checkpoint" in done.stdout
    assert "missing from the cache: 0" in done.stdout
    assert same_index(out, built.index)


def same_index(folder: Path, other: Path) -> bool:
    """Whether two output folders hold the same rows and names, and nothing else lies in the first."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in other.iterdir())
    assert (folder / "mtg_meta.jsonl").read_bytes() == (other / "mtg_meta.jsonl").read_bytes()
    rows, others = np.load(folder / "mtg_embeddings.npy"), np.load(other / "mtg_embeddings.npy")
    assert float((rows * others).sum(axis=1).min()) >= 0.9999
    assert (folder / "mtg_dhash.npy").read_bytes() == (other / "mtg_dhash.npy").read_bytes()
    assert faiss.read_index(str(folder / "mtg_cards.faiss")).ntotal == len(rows)
    return True


def test_the_manifest_does_not_say_more_than_the_files(built: Built) -> None:
    manifest = built.manifest()
    assert json.dumps(manifest)
    columns = {f"mtg_{name}.npy" for name in COLUMNS}
    assert set(manifest["sha256"]) == {
        "mtg_meta.jsonl",
        "mtg_cards.faiss",
        "mtg_cards_whitened.faiss",
        "whitening.npz",
        *columns,
    }
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((built.index / name).read_bytes()).hexdigest() == digest
    assert 0 < len(manifest["model"]["weights_sha256"]) == 64
    assert set(manifest["environment"]) >= {
        *("python_version", "numpy_version", "torch_version", "faiss_version", "clip_model")
    }


@pytest.mark.skipif(not shutil.which("git"), reason="asks git")
def test_the_commit_is_this_projects_not_that_of_a_repository_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("-c", "user.name=A", "-c", "user.email=a@example", "commit", "--quiet", "--allow-empty", "-m", "Another's")
    for command in (("init", "--quiet"), words, ("rev-parse", "HEAD")):
        done = subprocess.run(["git", *command], cwd=tmp_path, capture_output=True, text=True, check=True)
    monkeypatch.setattr(manifest, "_ROOT", tmp_path)
    assert manifest.git_commit() == done.stdout.strip()
    monkeypatch.setattr(manifest, "_ROOT", tmp_path / "project")
    (tmp_path / "project").mkdir()
    assert manifest.git_commit() is None
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))  # as in a hook
    assert manifest.git_commit() is None
