"""A build over an index: what is there already is not made again, and what can't be trusted is not used."""

import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.build.reuse import earlier_index, if_it_fits
from hypothesis import given
from hypothesis import strategies as st

from helpers.artifacts import IndexFolder
from helpers.cards.image_cache import ImageCache
from helpers.cards.pictures import PICTURE, Finder, Settings, as_it_is_now
from helpers.validation import read_content
from tests.conftest import Built
from tests.kills import run_signalled_before
from tests.pictures import encoded, with_wrong_checksum
from tests.test_build import CHECKPOINT, FACES, build, same_index

BEFORE = 10  # faces of the first build; the second has three more


def counts(manifest: dict[str, Any]) -> dict[str, int]:
    return {name: manifest["embedding"][name] for name in ("reused", "resumed", "embedded")}


def test_a_second_build_makes_what_is_new_or_changed_and_drops_what_is_gone(built: Built, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(built.cache, tmp_path / "cache"))
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert build(cache, out, built.model, "--limit", BEFORE).returncode == 0
    paths = [ImageCache(cache).path_for(record["image_url"]) for record in built.records()]
    paths[2].write_bytes(encoded(size=(300, 420), seed=77))
    paths[5].unlink()
    os.utime(paths[7], ns=(1, 1))  # copied without its time: its content is compared

    done = build(cache, out, built.model)
    assert done.returncode == 0, done.stderr
    after = Built(cache, out, built.model)
    assert counts(after.manifest()) == {"reused": BEFORE - 2, "resumed": 0, "embedded": 3 + 1}
    assert re.search(rf"embedded: 12 \(4 now.*, {BEFORE - 2} taken over from earlier builds\)", done.stdout)
    assert build(cache, fresh, built.model).returncode == 0
    assert same_index(out, fresh)

    rows = (out / "mtg_embeddings.npy").read_bytes()
    done = build(cache, out, built.model, "--hnsw-m", 16)
    assert counts(after.manifest()) == {"reused": 12, "resumed": 0, "embedded": 0}
    assert (out / "mtg_embeddings.npy").read_bytes() == rows
    done = build(cache, out, built.model, "--rebuild")
    assert counts(after.manifest()) == {"reused": 0, "resumed": 0, "embedded": 12}
    assert same_index(out, fresh)


def test_rows_that_flags_leave_out_go_with_a_warning(built: Built, tmp_path: Path) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    done = build(built.cache, out, built.model, "--limit", 3)
    assert done.returncode == 0, done.stderr
    assert f"WARNING: {FACES - 3} rows of the index that is there go" in done.stderr
    assert "which is --kind unique_artwork --image-key normal --limit 3, and was --kind unique" in done.stderr
    assert Built(built.cache, out, built.model).manifest()["embedding"]["dropped"] == FACES - 3


def reordered(cache: Path) -> None:
    """Let the list of `cache` begin with the card that it ended with."""
    (path,) = cache.glob("unique_artwork-*.jsonl.gz")
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join([*lines[-1:], *lines[:-1]])))


def test_rows_of_an_interrupted_build_outlive_its_list(built: Built, tmp_path: Path) -> None:
    """A build of half a night is killed; before it is run again the list has changed."""
    cache = Path(shutil.copytree(built.cache, tmp_path / "cache"))
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    words: list[object] = ["--cache", cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]
    run_signalled_before("replace mtg_embeddings.npy", "build_embeddings.py", *words, "--limit", BEFORE)
    changed = ImageCache(cache).path_for(built.records()[3]["image_url"])
    changed.write_bytes(encoded(size=(300, 420), seed=77))
    reordered(cache)

    done = build(cache, out, built.model)
    assert done.returncode == 0, done.stderr
    assert "is not one of this build (the card list: its first 10 faces are others)" in done.stderr
    after = Built(cache, out, built.model).manifest()
    assert counts(after) == {"reused": BEFORE - 1, "resumed": 0, "embedded": FACES - BEFORE + 1}
    assert build(cache, fresh, built.model).returncode == 0
    for path in out.glob("checkpoint*.stale"):
        path.unlink()
    assert same_index(out, fresh)


def test_a_flag_mistyped_once_costs_nothing(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words: list[object] = ["--cache", built.cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]
    for more in ([], ["--size", 256]):
        run_signalled_before("replace mtg_embeddings.npy", "build_embeddings.py", *words, *more, "--limit", BEFORE)
    done = build(built.cache, out, built.model)
    assert done.returncode == 0, done.stderr
    assert counts(Built(built.cache, out, built.model).manifest()) == {
        "reused": BEFORE,
        "resumed": 0,
        "embedded": FACES - BEFORE,
    }
    assert sorted(path.name for path in out.glob("checkpoint*")) == [f"{name}.2.stale" for name in CHECKPOINT]
    for path in out.glob("checkpoint*"):
        path.unlink()
    assert same_index(out, built.index)


def test_rows_put_aside_stay_while_they_may_be_needed(built: Built, tmp_path: Path) -> None:
    cache, out = Path(shutil.copytree(built.cache, tmp_path / "cache")), tmp_path / "out"
    words: list[object] = ["--cache", cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]
    for more in ([], ["--size", 256]):
        run_signalled_before("replace mtg_embeddings.npy", "build_embeddings.py", *words, *more)
    away = [ImageCache(cache).path_for(record["image_url"]) for record in built.records()[1:]]
    for path in away:
        path.rename(path.with_suffix(".away"))
    manifests = []
    for _ in range(2):
        assert build(cache, out, built.model).returncode == 0
        manifests.append(counts(Built(cache, out, built.model).manifest()))
        for path in away:
            if path.with_suffix(".away").exists():
                path.with_suffix(".away").rename(path)
    assert manifests == [
        {"reused": 1, "resumed": 0, "embedded": 0},
        {"reused": FACES, "resumed": 0, "embedded": 0},
    ]
    assert not (out / "checkpoint_meta.json.stale").exists()


@pytest.mark.parametrize("in_it", [0, 1])
def test_a_wrong_cache_costs_no_checkpoint(built: Built, tmp_path: Path, in_it: int) -> None:
    out, wrong = tmp_path / "out", tmp_path / "wrong"
    words: list[object] = ["--cache", built.cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]
    run_signalled_before("replace mtg_embeddings.npy", "build_embeddings.py", *words)
    wrong.mkdir()
    for path in built.cache.glob("unique_artwork*"):
        shutil.copy(path, wrong)
    (wrong / f"{'ab' * 20}.jpg").write_bytes(encoded())
    for record in built.records()[:in_it]:
        shutil.copy2(ImageCache(built.cache).path_for(record["image_url"]), wrong)
    done = build(wrong, out, built.model)
    assert done.returncode == (0 if in_it else 2), done.stderr
    assert f"WARNING: {FACES - in_it} pictures of the checkpoint are not in {wrong}" in done.stderr
    assert build(built.cache, out, built.model).returncode == 0
    assert Built(built.cache, out, built.model).manifest()["embedding"]["embedded"] == 0
    assert same_index(out, built.index)


def test_rows_put_aside_go_when_the_list_has_no_more_use_for_them(built: Built, tmp_path: Path) -> None:
    cache, out = Path(shutil.copytree(built.cache, tmp_path / "cache")), tmp_path / "out"
    words: list[object] = ["--cache", cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]
    run_signalled_before("replace mtg_embeddings.npy", "build_embeddings.py", *words)
    (path,) = cache.glob("unique_artwork-*.jsonl.gz")
    path.write_bytes(gzip.compress(b"".join(gzip.decompress(path.read_bytes()).splitlines(keepends=True)[1:])))
    for more, there in (([], True), (["--limit", 3], True), ([], False)):
        assert build(cache, out, built.model, *more).returncode == 0
        assert (out / "checkpoint_meta.json.stale").exists() == there


def test_what_a_rebuild_was_meant_to_mend_stays_mended(built: Built, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(built.cache, tmp_path / "cache"))
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    words: list[object] = ["--cache", cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]
    run_signalled_before("replace mtg_embeddings.npy", "build_embeddings.py", *words)  # rows of the old pictures
    path = ImageCache(cache).path_for(built.records()[3]["image_url"])
    stat = path.stat()
    path.write_bytes(encoded(size=(300, 420), seed=77).ljust(stat.st_size, b"\0"))
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nothing of the file shows that it is another picture
    assert build(cache, out, built.model, "--rebuild").returncode == 0
    assert list(out.glob("checkpoint*.stale"))
    assert build(cache, out, built.model).returncode == 0
    assert build(cache, fresh, built.model).returncode == 0
    assert same_index(out, fresh)


def test_a_picture_that_nobody_verified_is_looked_at_before_its_row_is_taken_over(built: Built, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(built.cache, tmp_path / "cache"))
    path = ImageCache(cache).path_for(built.records()[3]["image_url"])
    path.write_bytes(with_wrong_checksum())
    resumed, taken_over = tmp_path / "resumed", tmp_path / "taken over"
    words: list[object] = ["--cache", cache, "--model", f"local-dir:{built.model}", "--offline", "--no-validate-cache"]
    run_signalled_before("replace mtg_embeddings.npy", "build_embeddings.py", *words, "--out", resumed)
    assert build(cache, taken_over, built.model, "--no-validate-cache").returncode == 0
    for out in (resumed, taken_over):
        done = build(cache, out, built.model)
        manifest = Built(cache, out, built.model).manifest()
        assert manifest["statistics"]["validation_failures"] == 1, done.stderr
        assert path.name in done.stderr
        assert manifest["statistics"]["successful_embeddings"] == FACES - 1
        assert manifest["embedding"]["embedded"] == 0


def test_a_picture_that_changed_since_a_build_was_killed_is_embedded_again(built: Built, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(built.cache, tmp_path / "cache"))
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    words: list[object] = ["--cache", cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]
    run_signalled_before("replace mtg_embeddings.npy", "build_embeddings.py", *words)
    paths = [ImageCache(cache).path_for(record["image_url"]) for record in built.records()]
    paths[3].write_bytes(encoded(size=(300, 420), seed=77))
    os.utime(paths[5], ns=(5, 5))
    done = build(cache, out, built.model)
    assert done.returncode == 0, done.stderr
    assert counts(Built(cache, out, built.model).manifest()) == {"reused": 0, "resumed": FACES - 1, "embedded": 1}
    assert np.load(out / "mtg_pictures.npy")["mtime_ns"][5] == 5  # so that it need not be read again
    assert build(cache, fresh, built.model).returncode == 0
    assert same_index(out, fresh)


def test_rows_made_in_another_way_are_named_and_not_used(built: Built, tmp_path: Path) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    done = build(built.cache, out, built.model, "--fit", "crop", "--precision", "bf16", "--limit", 3)
    assert done.returncode == 0, done.stderr
    assert "no row of the index that is there can be taken over: precision was fp32, now bf16" in done.stderr
    assert "fit was pad, now crop" in done.stderr
    manifest = Built(built.cache, out, built.model).manifest()
    assert counts(manifest) == {"reused": 0, "resumed": 0, "embedded": 3}
    assert manifest["model"]["precision"] == "bf16"


def flip(name: str, bit: int = 1) -> Callable[[Path], object]:
    """Change a byte in the middle of a file."""

    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= bit
        (folder / name).write_bytes(bytes(data))

    return damage


def vouched(folder: Path, name: str, content: bytes) -> None:
    """A file that the manifest vouches for, whatever it holds."""
    manifest = json.loads((folder / "build_manifest.json").read_text())
    manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
    (folder / "build_manifest.json").write_text(json.dumps(manifest))
    (folder / name).write_bytes(content)


def of_before(folder: Path) -> None:
    """An index as it was made before it said which pictures its rows are of."""
    manifest = json.loads((folder / "build_manifest.json").read_text())
    del manifest["embedding"], manifest["sha256"]["mtg_pictures.npy"]
    del manifest["model"]["precision"], manifest["model"]["preprocessing"]
    (folder / "build_manifest.json").write_text(json.dumps(manifest))
    (folder / "mtg_pictures.npy").unlink()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a row": flip("mtg_embeddings.npy"),
    "a hash": flip("mtg_pictures.npy"),
    "no rows": lambda folder: (folder / "mtg_embeddings.npy").unlink(),
    "cut": lambda folder: os.truncate(folder / "mtg_embeddings.npy", 1000),
    "another's rows": lambda folder: shutil.copy(folder / "mtg_pictures.npy", folder / "mtg_embeddings.npy"),
    "no text": flip("build_manifest.json", bit=0x80),
    "no npy": lambda folder: vouched(folder, "mtg_pictures.npy", b""),
    "no JSON": lambda folder: (folder / "build_manifest.json").write_text("{"),
    "another version": lambda folder: (folder / "build_manifest.json").write_text(
        (folder / "build_manifest.json").read_text().replace('"version": "1.0.0"', '"version": "2.0.0"')
    ),
    "made before": of_before,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_index_is_named_and_not_used(
    built: Built, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    assert earlier_index(IndexFolder(out))
    DAMAGE[how](out)
    assert earlier_index(IndexFolder(out)) is None
    said = capsys.readouterr().err
    assert f"WARNING: the index in {out} is not reused" in said
    assert "mtg_" in said or "build_manifest.json" in said


@pytest.mark.parametrize("field", Settings.__struct_fields__)
def test_whatever_changes_a_vector_makes_rows_unfit(
    built: Built, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = earlier_index(IndexFolder(built.index))
    assert earlier
    assert if_it_fits(earlier, earlier.settings) is earlier
    others = msgspec.structs.replace(earlier.settings, **{field: "another"})
    assert if_it_fits(earlier, others) is None
    assert f"{field} was " in capsys.readouterr().err


def test_a_folder_without_an_index_has_no_rows_and_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert earlier_index(IndexFolder(tmp_path)) is None
    assert capsys.readouterr().err == ""


def test_a_picture_is_the_same_if_its_content_is(tmp_path: Path) -> None:
    path = tmp_path / f"{'ab' * 20}.jpg"
    path.write_bytes(b"content")
    known = np.array([read_content(path).picture(path.name)], PICTURE)[0]
    assert as_it_is_now(known, path) == known
    os.utime(path, ns=(5, 5))
    touched = as_it_is_now(known, path)
    assert touched["mtime_ns"] == 5  # so that it need not be read again
    assert touched["sha256"] == known["sha256"]
    path.write_bytes(b"Content")
    assert as_it_is_now(known, path) is None
    path.write_bytes(b"longer content")
    assert as_it_is_now(known, path) is None
    path.unlink()
    with pytest.raises(FileNotFoundError):
        as_it_is_now(known, path)


digests = st.binary(min_size=20, max_size=20)


@given(known=st.lists(digests, unique=True, max_size=30), others=st.lists(digests, max_size=10), draw=st.randoms())
def test_rows_are_found_by_the_picture_they_are_of(known: list[bytes], others: list[bytes], draw: Any) -> None:
    known = [*known, b"\0" * 20, b"\0" * 19 + b"\1"] if b"\0" * 20 not in known else known
    pictures = np.zeros(len(known), PICTURE)
    pictures["url_sha1"] = np.array(known, "V20")
    asked = [*known, *others]
    draw.shuffle(asked)
    found = Finder(pictures).find(np.array(asked, "V20"))
    assert found.tolist() == [known.index(name) if name in known else -1 for name in asked]
    assert Finder(pictures[:0]).find(np.array(asked, "V20")).tolist() == [-1] * len(asked)
