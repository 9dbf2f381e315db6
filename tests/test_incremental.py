"""A build over an index: what is there already is not made again, and what can't be trusted is not used."""

import errno
import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.build.rows import index_source
from helpers.cards.image_cache import ImageCache
from helpers.errors import PipelineError
from helpers.index import store
from helpers.index.store import StoredIndex
from tests.conftest import Built, without_hashes
from tests.kills import run_signalled_before
from tests.pictures import encoded
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
    assert re.search(rf"embedded: 12 \(4 now.*, {BEFORE - 2} reused from the earlier index\)", done.stdout)
    assert "Since the last build: 3 new, 1 changed, 1 gone" in done.stdout  # also under the same address
    assert build(cache, fresh, built.model).returncode == 0
    (aside,) = out.glob("checkpoint-*.stale")  # the row of the picture that is missing
    shutil.rmtree(aside)
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
    assert f"WARNING: {FACES - 3} rows of the existing index will be dropped: this build selects --kind" in done.stderr
    assert "--image-key normal --limit 3, that one selected --kind unique_artwork --image-key normal;" in done.stderr
    assert Built(built.cache, out, built.model).manifest()["embedding"]["dropped"] == FACES - 3


def killed_at_the_swap(built: Built, cache: Path, out: Path, *arguments: object) -> None:
    """A build that is killed when all is embedded: its rows lie in a checkpoint."""
    words = ["--cache", cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline", *arguments]
    run_signalled_before("replace build_manifest.json.swap", "build_embeddings.py", *words)


def embedded(built: Built, cache: Path, out: Path, *arguments: object) -> dict[str, int]:
    """What a build that goes well did with each row."""
    done = build(cache, out, built.model, *arguments)
    assert done.returncode == 0, done.stderr
    return counts(Built(cache, out, built.model).manifest())


@pytest.fixture
def cache(built: Built, tmp_path: Path) -> Path:
    """A copy of the cache, to be changed."""
    return Path(shutil.copytree(built.cache, tmp_path / "cache"))


def test_the_list_and_its_filters_cost_an_interrupted_build_nothing(built: Built, cache: Path, tmp_path: Path) -> None:
    """A build of half a night is killed; before it is run again the list has changed, and a picture."""
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    killed_at_the_swap(built, cache, out, "--limit", BEFORE)
    ImageCache(cache).path_for(built.records()[3]["image_url"]).write_bytes(encoded(size=(300, 420), seed=77))
    (path,) = cache.glob("unique_artwork-*.jsonl.gz")
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join([*lines[-1:], *lines[:-1]])))  # the last card is the first one now
    expected = {"reused": 0, "resumed": BEFORE - 1, "embedded": FACES - BEFORE + 1}
    assert embedded(built, cache, out) == expected
    embedded(built, cache, fresh)
    assert same_index(out, fresh)


def test_a_limit_named_by_mistake_costs_nothing(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed_at_the_swap(built, built.cache, out)
    assert embedded(built, built.cache, out, "--limit", 3) == {"reused": 0, "resumed": 3, "embedded": 0}
    assert [path.suffix for path in out.glob("checkpoint*")] == [".stale"]
    assert embedded(built, built.cache, out)["embedded"] == 0
    assert not list(out.glob("checkpoint*"))
    assert same_index(out, built.index)


def test_a_flag_mistyped_once_costs_nothing(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for more in ([], ["--size", 256]):
        killed_at_the_swap(built, built.cache, out, *more, "--limit", BEFORE)
    assert embedded(built, built.cache, out) == {"reused": 0, "resumed": BEFORE, "embedded": FACES - BEFORE}
    (aside,) = out.glob("checkpoint*")  # the rows made with the mistyped flag
    assert sorted(path.name for path in aside.iterdir()) == CHECKPOINT
    shutil.rmtree(aside)
    assert same_index(out, built.index)


@pytest.mark.parametrize("in_it", [0, 1])
def test_a_wrong_cache_costs_no_checkpoint(built: Built, tmp_path: Path, in_it: int) -> None:
    out, wrong = tmp_path / "out", tmp_path / "wrong"
    killed_at_the_swap(built, built.cache, out)
    wrong.mkdir()
    for path in built.cache.glob("unique_artwork*"):
        shutil.copy(path, wrong)
    (wrong / f"{'ab' * 20}.jpg").write_bytes(encoded())
    for record in built.records()[:in_it]:
        shutil.copy2(ImageCache(built.cache).path_for(record["image_url"]), wrong)
    done = build(wrong, out, built.model)
    assert done.returncode == (0 if in_it else 2), done.stderr
    if in_it:
        assert f"{FACES - 1} rows that this build did not need are kept in {out}" in done.stderr
    assert embedded(built, built.cache, out)["embedded"] == 0
    assert not list(out.glob("checkpoint*"))
    assert same_index(out, built.index)


def test_a_wrong_cache_costs_an_index_no_row(built: Built, tmp_path: Path) -> None:
    out, wrong = tmp_path / "out", tmp_path / "wrong"
    embedded(built, built.cache, out)
    wrong.mkdir()
    for path in built.cache.glob("unique_artwork*"):
        shutil.copy(path, wrong)
    shutil.copy2(ImageCache(built.cache).path_for(built.records()[4]["image_url"]), wrong)
    assert embedded(built, wrong, out) == {"reused": 1, "resumed": 0, "embedded": 0}
    assert embedded(built, built.cache, out)["embedded"] == 0
    assert not list(out.glob("checkpoint*"))
    assert same_index(out, built.index)


def test_a_rebuild_takes_nothing_from_an_index_and_resumes_what_it_made_itself(
    built: Built, cache: Path, tmp_path: Path
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    embedded(built, cache, out)
    path = ImageCache(cache).path_for(built.records()[3]["image_url"])
    stat = path.stat()
    path.write_bytes(encoded(size=(300, 420), seed=77).ljust(stat.st_size, b"\0"))
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nothing of the file shows that it is another picture
    killed_at_the_swap(built, cache, out, "--rebuild", "--limit", BEFORE)
    expected = {"reused": 0, "resumed": BEFORE, "embedded": FACES - BEFORE}
    assert embedded(built, cache, out, "--rebuild") == expected
    embedded(built, cache, fresh)
    assert same_index(out, fresh)


def test_a_rebuild_takes_nothing_that_was_put_aside_from_an_index(built: Built, cache: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "out", ImageCache(cache).path_for(built.records()[2]["image_url"])
    embedded(built, cache, out)
    path.rename(tmp_path / "away")
    embedded(built, cache, out)
    (tmp_path / "away").rename(path)
    assert list(out.glob("checkpoint-*.stale"))
    assert embedded(built, cache, out, "--rebuild") == {"reused": 0, "resumed": 0, "embedded": FACES}


def test_without_resume_nothing_is_taken_from_a_checkpoint(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed_at_the_swap(built, built.cache, out)
    assert embedded(built, built.cache, out, "--no-resume") == {"reused": 0, "resumed": 0, "embedded": FACES}
    assert same_index(out, built.index)


def test_a_picture_that_changed_since_a_build_was_killed_is_embedded_again(
    built: Built, cache: Path, tmp_path: Path
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    killed_at_the_swap(built, cache, out)
    paths = [ImageCache(cache).path_for(record["image_url"]) for record in built.records()]
    paths[3].write_bytes(encoded(size=(300, 420), seed=77))
    os.utime(paths[5], ns=(5, 5))
    assert embedded(built, cache, out) == {"reused": 0, "resumed": FACES - 1, "embedded": 1}
    assert np.load(out / "mtg_pictures.npy")["mtime_ns"][5] == 5  # so that it need not be read again
    embedded(built, cache, fresh)
    assert same_index(out, fresh)


@pytest.mark.parametrize("before", ["mtg_embeddings.npy", "mtg_dhash.npy", "build_manifest.json"])
def test_a_kill_in_the_swap_of_a_second_build_costs_no_row(built: Built, tmp_path: Path, before: str) -> None:
    """The rows that it reused lie in no checkpoint: the swap is completed instead."""
    out = tmp_path / "out"
    embedded(built, built.cache, out, "--limit", BEFORE)
    words = ["--cache", built.cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]
    run_signalled_before(f"replace {before}", "build_embeddings.py", *words)
    assert (out / "build_manifest.json.swap").is_dir()
    assert embedded(built, built.cache, out) == {"reused": BEFORE, "resumed": FACES - BEFORE, "embedded": 0}
    assert same_index(out, built.index)


def test_an_index_that_the_disk_does_not_give_is_not_replaced(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))

    def failing(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    def stale(path: Path) -> bool:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(store, "Records", lambda *_: failing(out))
        with pytest.raises(PipelineError, match=r"mtg_meta.jsonl can't be read"):
            StoredIndex(IndexFolder(out)).records()
    for place, name, failure in ((store, "sha256_of", failing), (Path, "read_bytes", failing), (Path, "exists", stale)):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, failure)
            with pytest.raises(PipelineError, match="can't be read") as caught:
                index_source(IndexFolder(out))
        assert "build" not in caught.value.problems[0].suggestion


def test_rows_made_in_another_way_are_named_and_not_used(built: Built, tmp_path: Path) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    done = build(built.cache, out, built.model, "--fit", "crop", "--precision", "bf16", "--limit", 3)
    assert done.returncode == 0, done.stderr
    assert "the existing index can't be reused: precision was fp32, now bf16" in done.stderr
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


def of_before_pictures(folder: Path) -> None:
    """An index as it was made before it said which pictures its rows are of."""
    without_hashes(folder)
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
    "made before pictures": of_before_pictures,
    "made before hashes": without_hashes,
    "a difference hash": flip("mtg_dhash.npy"),
    "no hashes": lambda folder: (folder / "mtg_dhash.npy").unlink(),
    "hashes of another width": lambda folder: vouched(folder, "mtg_dhash.npy", npy(np.zeros((FACES, 8), np.uint8))),
    "too few hashes": lambda folder: vouched(folder, "mtg_dhash.npy", npy(np.zeros((FACES - 1, 32), np.uint8))),
}


def npy(column: NDArray[np.uint8]) -> bytes:
    made = BytesIO()
    np.save(made, column)
    return made.getvalue()


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_index_is_named_and_not_used(
    built: Built, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    assert index_source(IndexFolder(out))
    DAMAGE[how](out)
    assert index_source(IndexFolder(out)) is None
    said = capsys.readouterr().err
    assert f"WARNING: the index in {out} is not reused" in said
    assert "mtg_" in said or "build_manifest.json" in said


def test_an_index_without_hashes_lends_a_build_no_rows_and_gets_hashes(built: Built, tmp_path: Path) -> None:
    out = Path(shutil.copytree(built.index, tmp_path / "out"))
    without_hashes(out)
    done = build(built.cache, out, built.model)
    assert done.returncode == 0, done.stderr
    (warning,) = (line for line in done.stderr.splitlines() if "is not reused" in line)
    assert "mtg_dhash.npy" in warning
    assert "an earlier version built it" in warning
    assert counts(Built(built.cache, out, built.model).manifest())["embedded"] == FACES
    assert same_index(out, built.index)


def test_a_folder_without_an_index_has_no_rows_and_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert index_source(IndexFolder(tmp_path)) is None
    assert capsys.readouterr().err == ""
