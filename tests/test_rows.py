"""Rows on real files: what one run kept, the next one takes up, or puts aside where it is another build's."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.build.rows import (
    Checkpoint,
    Found,
    Source,
    assemble,
    checkpoint_source,
    keep_unused,
    look_up,
    open_checkpoint,
    settings_there,
    take_over_others,
)
from helpers.cards.faces import Records
from helpers.cards.image_cache import ImageCache
from helpers.cards.pictures import PICTURE, mtime_if_same, picture_of
from helpers.embed.dhash import HASH_BYTES
from helpers.embed.settings import Rows, Settings
from helpers.embed.vectors import unit_rows
from helpers.errors import PipelineError
from helpers.validation import read_content
from tests.conftest import needs_proc
from tests.faces import face_with, records_of

WIDTH = 8
SETTINGS = Settings(model="m", weights_sha256="w", precision="fp32", preprocessing="224", target_size=384, fit="pad")
CROPPED = msgspec.structs.replace(SETTINGS, fit="crop")
COLUMNS = [f"checkpoint_{name}.npy" for name in ("dhash", "embeddings", "pictures")]
NAMES = sorted(["checkpoint.npz", "checkpoint_meta.json", *COLUMNS])


def url(number: int) -> str:
    return f"https://example/{number}.jpg"


def rows(numbers: list[int]) -> Rows:
    """The rows of the pictures `numbers`: another one for each, of another file."""
    if not numbers:
        return Rows.empty(width=WIDTH)
    vectors = np.stack([np.random.default_rng(number).standard_normal(WIDTH) for number in numbers])
    made_of = [
        (bytes.fromhex(ImageCache.name_for(url(number))[:40]), bytes([number % 251]) * 32, 1000 + number, number + 1)
        for number in numbers
    ]
    hashes = [np.random.default_rng(number).integers(0, 256, HASH_BYTES, np.uint8) for number in numbers]
    return Rows(unit_rows(vectors.astype(np.float32)), np.array(made_of, PICTURE), np.stack(hashes))


def held(found: Rows) -> list[int]:
    """The numbers of the pictures that rows are of; fails where a row is not its picture's."""
    numbers = (found.pictures["mtime_ns"] - 1).tolist()
    used = [number for number in numbers if number >= 0]
    places = [place for place, number in enumerate(numbers) if number >= 0]
    assert np.array_equal(found.embeddings[places], rows(used).embeddings) if used else not places
    assert np.array_equal(found.dhash[places], rows(used).dhash)
    return used


def opened(
    folder: Path, frequency: int = 100, settings: Settings = SETTINGS, *, resume: bool = True, rank: int = 0
) -> Checkpoint:
    if rank:
        there = IndexFolder(folder, rank)
        return Checkpoint(there, settings, frequency, there=checkpoint_source(there))
    return open_checkpoint(IndexFolder(folder), settings, frequency, resume=resume)


def interrupted(
    folder: Path, numbers: list[int], settings: Settings = SETTINGS, frequency: int = 100, **more: Any
) -> None:
    """A build that is stopped when it has embedded `numbers`."""
    with pytest.raises(KeyboardInterrupt), opened(folder, frequency, settings, **more) as checkpoint:
        checkpoint.append(rows(numbers))
        raise KeyboardInterrupt


def abandon(checkpoint: Checkpoint) -> None:
    """Leave it as a kill does: nothing is saved any more."""
    checkpoint._wait()
    checkpoint._close()


def kept(folder: Path, settings: Settings = SETTINGS, **more: Any) -> list[int]:
    """What a build with these settings would resume."""
    checkpoint = opened(folder, settings=settings, **more)
    found = held(checkpoint.rows())
    abandon(checkpoint)
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stale(settings: Settings) -> str:
    return f"checkpoint-{settings.digest}.stale"


# --------------------------------------------------------------------------------------------------------- on the disk


def test_the_files_are_what_the_contract_says(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(tmp_path) as checkpoint:
        checkpoint.expected = 10
        checkpoint.append(rows([4, 0, 5]))
        raise KeyboardInterrupt
    assert names(tmp_path) == NAMES
    meta = json.loads((tmp_path / "checkpoint_meta.json").read_text())
    counts = {"processed_count": 3, "total_count": 10, "embeddings_file": "checkpoint_embeddings.npy"}
    assert counts.items() <= meta.items()
    assert {"timestamp", "parameters"} <= set(meta)
    packed = np.load(tmp_path / "checkpoint.npz")
    assert (packed["good_mask"].dtype, packed["good_mask"].tolist()) == (np.bool_, [True] * 3)
    assert (packed["indices"].dtype, packed["indices"].tolist()) == (np.int64, [0, 1, 2])
    embeddings = np.load(tmp_path / "checkpoint_embeddings.npy")
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (3, WIDTH))
    assert np.array_equal(embeddings, rows([4, 0, 5]).embeddings)
    assert np.array_equal(np.load(tmp_path / "checkpoint_pictures.npy"), rows([4, 0, 5]).pictures)
    hashes = np.load(tmp_path / "checkpoint_dhash.npy")
    assert (hashes.dtype, hashes.shape) == (np.uint8, (3, 32))
    assert np.array_equal(hashes, rows([4, 0, 5]).dhash)


def test_what_was_kept_is_taken_up_and_goes_when_the_build_is_done(tmp_path: Path) -> None:
    interrupted(tmp_path, [0, 2])
    with opened(tmp_path) as checkpoint:
        assert held(checkpoint.rows()) == [0, 2]
        checkpoint.append(rows([1, 3]))
        checkpoint.finish()
        assert held(checkpoint.rows()) == [0, 2, 1, 3]
        assert names(tmp_path) == NAMES
        checkpoint.drop()
    assert names(tmp_path) == []


steps = st.lists(st.tuples(st.sets(st.integers(0, 39), max_size=12), st.booleans()), max_size=8)


@settings(max_examples=60)
@given(steps=steps, frequency=st.sampled_from([1, 3, 100]))
def test_any_sequence_of_interruptions_ends_like_an_undisturbed_run(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[set[int], bool]], frequency: int
) -> None:
    folder, there = tmp_path_factory.mktemp("property"), list[int]()
    for wanted, stopped_softly in steps:
        checkpoint = opened(folder, frequency)
        assert held(checkpoint.rows())[: len(there)] == there
        there = held(checkpoint.rows())
        new = sorted(wanted - set(there))
        if new:
            checkpoint.append(rows(new))
        if stopped_softly:
            checkpoint.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        else:
            abandon(checkpoint)
        if stopped_softly or len(new) >= frequency:
            there += new
    with opened(folder, frequency) as checkpoint:
        left = sorted(set(range(40)) - set(held(checkpoint.rows())))
        assert not set(there) & set(left)
        if left:
            checkpoint.append(rows(left))
        checkpoint.finish()
        assert sorted(held(checkpoint.rows())) == list(range(40))
        checkpoint.drop()
    assert names(folder) == []


def test_rows_that_no_checkpoint_tells_of_are_cut_off(tmp_path: Path) -> None:
    interrupted(tmp_path, [0, 1])
    for name, column in rows([2, 3]).columns().items():
        with open(tmp_path / f"checkpoint_{name}.npy", "ab") as file:
            file.write(column.tobytes()[:-3])  # made, but the kill came before the next checkpoint
    interrupted(tmp_path, [4])
    assert kept(tmp_path) == [0, 1, 4]


def test_a_kill_soon_after_resuming_costs_nothing(tmp_path: Path) -> None:
    interrupted(tmp_path, [0, 1, 2])
    with open(tmp_path / "checkpoint_embeddings.npy", "r+b") as file:  # as a kill before the JSON was written leaves it
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (9, WIDTH)})
        file.truncate(128 + 9 * WIDTH * 4)
    assert kept(tmp_path) == kept(tmp_path) == [0, 1, 2]


def test_a_kill_between_the_files_costs_one_interval_not_all(tmp_path: Path) -> None:
    interrupted(tmp_path, [0, 1, 2])
    old_meta = (tmp_path / "checkpoint_meta.json").read_bytes()
    interrupted(tmp_path, [3, 4, 5])
    (tmp_path / "checkpoint_meta.json").write_bytes(old_meta)  # killed before this one was replaced
    assert kept(tmp_path) == [0, 1, 2]


def test_a_header_that_tells_of_more_rows_than_are_there_is_not_believed(tmp_path: Path) -> None:
    interrupted(tmp_path, [0, 1, 2])
    with open(tmp_path / "checkpoint_embeddings.npy", "r+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (9, WIDTH)})
    assert kept(tmp_path) == [0, 1, 2]


def test_a_damaged_row_alone_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(tmp_path, [0, 1, 2, 3])
    embeddings = np.load(tmp_path / "checkpoint_embeddings.npy", mmap_mode="r+")
    embeddings[2] = 0
    embeddings.flush()
    assert kept(tmp_path) == [0, 1, 3]
    assert capsys.readouterr().err.count("damaged rows in") == 1  # looked at once
    interrupted(tmp_path, [2])
    assert np.load(tmp_path / "checkpoint.npz")["indices"].tolist() == [0, 1, 3, 4]
    assert kept(tmp_path) == [0, 1, 3, 2]


def test_rows_that_the_mask_does_not_call_good_are_left_out(tmp_path: Path) -> None:
    """Whatever their columns hold; and words in the files that are not known are no reason to fail."""
    interrupted(tmp_path, [0, 1, 2, 3])
    gaps = np.array([1, 3])
    for name in ("embeddings", "pictures"):
        column = np.load(tmp_path / f"checkpoint_{name}.npy", mmap_mode="r+")
        column[gaps[:1]] = np.zeros((), column.dtype)  # one of them is empty, the other looks like any row
        column.flush()
    good = np.array([True, False, True, False])
    np.savez(tmp_path / "checkpoint.npz", good_mask=good, indices=np.flatnonzero(good), verified=True, rebuild=False)
    path = tmp_path / "checkpoint_meta.json"
    meta = json.loads(path.read_text()) | {"pictures_file": "checkpoint_pictures.npy"}
    meta["parameters"] |= {"faces_sha256": "x", "rebuild": False, "verified": True, "wanted": "--kind unique_artwork"}
    path.write_text(json.dumps(meta))
    assert kept(tmp_path) == [0, 2]


# ---------------------------------------------------------------------------------------------------- how much is kept


def test_without_resume_a_checkpoint_is_dropped(tmp_path: Path) -> None:
    interrupted(tmp_path, [5], CROPPED)
    interrupted(tmp_path, [0, 2])
    interrupted(tmp_path, [1], rank=1)
    assert kept(tmp_path, resume=False) == []
    assert names(tmp_path) == [stale(CROPPED)]  # of another build: stays


def test_frequency_0_keeps_nothing_of_a_build_that_is_stopped(tmp_path: Path) -> None:
    interrupted(tmp_path, [0, 2], frequency=0)
    assert names(tmp_path) == []


def test_frequency_0_takes_up_what_is_there_and_keeps_what_is_complete(tmp_path: Path) -> None:
    interrupted(tmp_path, [0, 2])
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, 0) as checkpoint:
        checkpoint.append(rows([3]))
        checkpoint.finish()
        raise KeyboardInterrupt  # while the index is built
    assert kept(tmp_path, frequency=0) == [0, 2, 3]


def test_a_checkpoint_is_due_every_so_many_images(tmp_path: Path) -> None:
    with opened(tmp_path) as checkpoint:
        assert checkpoint.max_batch == 50
        for count, saves in ((25, 0), (25, 1), (30, 2)):  # another one like the last would be more than the 50
            checkpoint.append(rows(list(range(count))))
            assert checkpoint.saves == saves
    with opened(tmp_path, 0) as checkpoint:
        assert checkpoint.max_batch >= 1000


@pytest.mark.parametrize("frequency", [1, 2, 7])
def test_a_kill_never_costs_more_than_the_frequency_however_slow_the_disk(
    tmp_path: Path, frequency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def slow_fsync(file: int) -> None:
        time.sleep(0.01)
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow_fsync)
    meta = tmp_path / "checkpoint_meta.json"
    with opened(tmp_path, frequency) as checkpoint:
        for number in range(40):
            checkpoint.append(rows([number]))
            safe = json.loads(meta.read_text())["processed_count"] if meta.exists() else 0
            assert number + 1 - safe <= frequency


def test_rows_are_on_the_disk_before_a_checkpoint_vouches_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, replace = os.fsync, os.replace
    synced: set[int] = set()
    vouched: list[list[str]] = []

    def noted(file: int) -> None:
        fsync(file)
        synced.add(os.fstat(file).st_ino)

    def vouching(source: Any, target: Any) -> None:
        if Path(target).name == "checkpoint_meta.json":
            vouched.append([name for name in COLUMNS if (tmp_path / name).stat().st_ino in synced])
            synced.clear()
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", vouching)
    with opened(tmp_path) as checkpoint:
        for numbers in ([0, 1], [2]):
            checkpoint.append(rows(numbers))
            checkpoint.finish()
    assert vouched == [COLUMNS, COLUMNS]


def test_a_build_without_rows_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as checkpoint:
        checkpoint.finish()
        assert held(checkpoint.rows()) == []
    assert names(tmp_path) == []


def test_a_disk_that_takes_no_checkpoint_ends_the_build_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fail() -> None:
        with opened(tmp_path, 1) as checkpoint:
            checkpoint.append(rows([0]))
            checkpoint.finish()

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PipelineError, match="can't be written to") as caught:
        fail()
    assert "make room" in caught.value.problems[0].suggestion
    assert names(tmp_path) == []


def test_what_is_said_to_be_kept_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(tmp_path, [0, 1])
    assert "run the same command to resume" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, 0):
        raise KeyboardInterrupt
    assert "run the same command to resume" in capsys.readouterr().err
    assert kept(tmp_path) == [0, 1]


# ------------------------------------------------------------------------------------------------------ other settings


def test_only_what_an_older_version_did_not_write_down_is_not_compared() -> None:
    ours = msgspec.structs.replace(SETTINGS, architecture_sha256="a")
    older, other = SETTINGS, msgspec.structs.replace(SETTINGS, architecture_sha256="b")
    assert older.differences(ours) == []
    assert ours.differences(older) == ["architecture_sha256 was a, now "]
    assert other.differences(ours) == ["architecture_sha256 was b, now a"]


@pytest.mark.parametrize("field", Settings.__struct_fields__)
def test_other_settings_put_a_checkpoint_aside_and_are_named(
    tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = msgspec.structs.replace(SETTINGS, architecture_sha256="a")
    interrupted(tmp_path, [0, 1], ours)
    others = msgspec.structs.replace(ours, **{field: 64 if field == "target_size" else "other"})
    assert kept(tmp_path, others) == []
    assert f"{field} was {getattr(ours, field)}, now {getattr(others, field)}" in capsys.readouterr().err
    assert names(tmp_path) == [stale(ours)]
    assert names(tmp_path / stale(ours)) == NAMES


def test_one_that_was_put_aside_is_taken_back_by_a_build_with_its_settings(tmp_path: Path) -> None:
    interrupted(tmp_path, [1, 2, 4])
    for _ in range(2):
        interrupted(tmp_path, [5], CROPPED)
        interrupted(tmp_path, [6])
    assert kept(tmp_path) == [1, 2, 4, 6, 6]
    assert kept(tmp_path, CROPPED) == [5, 5]
    assert names(tmp_path) == sorted([*NAMES, stale(SETTINGS)])


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call", ["replace", "unlink", "fsync"])
@pytest.mark.parametrize("count", range(6))
def test_a_kill_while_one_is_put_aside_or_taken_back_costs_nothing(
    tmp_path: Path, call: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path, [0, 1, 2])
    interrupted(tmp_path, [3], rank=1)
    for ours in (CROPPED, SETTINGS):
        calls, real = [0], getattr(os, call)

        def killed(*arguments: Any, real: Any = real, calls: list[int] = calls, **more: Any) -> Any:
            calls[0] += 1
            if calls[0] > count:
                raise Killed
            return real(*arguments, **more)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, killed)
            with suppress(Killed):
                abandon(opened(tmp_path, settings=ours))
    assert set(kept(tmp_path)) == {0, 1, 2, 3}


def test_settings_of_all_checkpoints_can_be_read_beforehand(tmp_path: Path) -> None:
    folder = IndexFolder(tmp_path)
    assert settings_there([folder, *folder.all_stale()]) == []
    interrupted(tmp_path, [0], CROPPED)
    interrupted(tmp_path, [0])
    folder.for_damaged().root.mkdir()
    assert settings_there([folder, *folder.all_stale()]) == [SETTINGS, CROPPED]


@needs_proc
def test_settings_that_the_disk_does_not_give_are_no_reason_to_choose_others(tmp_path: Path) -> None:
    interrupted(tmp_path, [0])
    (tmp_path / "checkpoint_meta.json").unlink()
    (tmp_path / "checkpoint_meta.json").symlink_to("/proc/self/mem")  # reading its beginning fails with EIO
    with pytest.raises(PipelineError, match="can't be read"):
        settings_there([IndexFolder(tmp_path)])


def damage_json(folder: Path, **fields: object) -> None:
    path = folder / "checkpoint_meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def damage_mask(folder: Path, good: list[bool], indices: list[int]) -> None:
    np.savez(folder / "checkpoint.npz", good_mask=np.array(good), indices=np.array(indices, np.int64))


def save(path: Path, column: NDArray[Any]) -> None:
    with open(path, "wb") as file:
        np.save(file, column)


def set_width(path: Path, width: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(f", {WIDTH})".encode(), f", {width})".encode(), 1))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def flip_top_bit(path: Path, word: bytes) -> None:
    """So that it is no UTF-8 any more."""
    data = bytearray(path.read_bytes())
    data[data.index(word)] ^= 0x80
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no npz": lambda folder: (folder / "checkpoint.npz").unlink(),
    "no rows": lambda folder: (folder / "checkpoint_embeddings.npy").write_bytes(b""),
    "no hashes, as before there were any": lambda folder: (folder / "checkpoint_dhash.npy").unlink(),
    "hashes of another width": lambda folder: save(folder / "checkpoint_dhash.npy", np.zeros((2, 8), np.uint8)),
    "hashes of another type": lambda folder: save(folder / "checkpoint_dhash.npy", np.zeros((2, 32), np.int8)),
    "no pictures": lambda folder: (folder / "checkpoint_pictures.npy").unlink(),
    "an npy for an npz": lambda folder: save(folder / "checkpoint.npz", np.zeros(3)),
    "an npz for an npy": lambda folder: shutil.copy(folder / "checkpoint.npz", folder / "checkpoint_embeddings.npy"),
    "a flipped bit in the header": lambda folder: flip(folder / "checkpoint_embeddings.npy", 126),
    "a flipped bit in the npz": lambda folder: flip(folder / "checkpoint.npz", 150),
    "half an npz": lambda folder: os.truncate(folder / "checkpoint.npz", 99),
    "half the rows": lambda folder: os.truncate(folder / "checkpoint_embeddings.npy", 150),
    "no JSON": lambda folder: (folder / "checkpoint_meta.json").write_text("{"),
    "no text": lambda folder: flip_top_bit(folder / "checkpoint_meta.json", b"preprocessing"),
    "empty JSON": lambda folder: (folder / "checkpoint_meta.json").write_text(""),
    "another JSON": lambda folder: (folder / "checkpoint_meta.json").write_text("[1]"),
    "too many processed": lambda folder: damage_json(folder, processed_count=11),
    "negative": lambda folder: damage_json(folder, processed_count=-1),
    "more than total": lambda folder: damage_json(folder, total_count=1),
    "a mask of two dimensions": lambda folder: np.savez(
        folder / "checkpoint.npz", good_mask=np.ones((2, 2), np.bool_), indices=np.arange(4)
    ),
    "another width": lambda folder: set_width(folder / "checkpoint_embeddings.npy", 1),
    "mask too short": lambda folder: damage_mask(folder, [True], [0]),
    "indices not of the mask": lambda folder: damage_mask(folder, [True, False, True], [0, 1]),
    "fewer indices": lambda folder: damage_mask(folder, [True, False, True], [0]),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_put_aside_not_believed(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, [0, 2])
    DAMAGE[how](tmp_path)
    with opened(tmp_path) as checkpoint:
        assert held(checkpoint.rows()) == []
        assert "is damaged" in capsys.readouterr().err
        checkpoint.append(rows([0, 1]))
        checkpoint.finish()
        checkpoint.drop()
    assert names(tmp_path) == ["checkpoint-damaged.stale"]
    assert "checkpoint_meta.json" in names(tmp_path / "checkpoint-damaged.stale")


@pytest.mark.parametrize("name", ["checkpoint_meta.json", "checkpoint.npz", "checkpoint_pictures.npy"])
def test_an_error_of_the_disk_is_not_called_damage(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path, [0, 2])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real_open = open

    def failing(path: Any, *arguments: Any, **more: Any) -> Any:
        if str(path).endswith(name):
            raise OSError(errno.EIO, "Input/output error")
        return real_open(path, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", failing)
        patched.setattr("io.open", failing)
        with pytest.raises(PipelineError, match="can't be read") as caught:
            opened(tmp_path)
    assert "Input/output error" in caught.value.problems[0].details
    assert "delete" not in caught.value.render()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert kept(tmp_path) == [0, 2]


# --------------------------------------------------------------------------------------------------------- other ranks


def test_rank_0_takes_over_what_the_others_embedded(tmp_path: Path) -> None:
    with opened(tmp_path) as checkpoint:
        checkpoint.append(rows([0, 1]))
        interrupted(tmp_path, [4, 5, 7], rank=1)
        interrupted(tmp_path, [8, 10], rank=11)
        assert len(names(tmp_path)) == len(COLUMNS) + 2 * len(NAMES)
        take_over_others(checkpoint, IndexFolder(tmp_path).other_ranks())
        assert names(tmp_path) == NAMES
        assert held(checkpoint.rows()) == [0, 1, 4, 5, 7, 8, 10]
        checkpoint.drop()
    assert names(tmp_path) == []


@pytest.mark.parametrize("rank_0_left_one", [False, True])
def test_what_ranks_left_is_resumed_by_any_number_of_them(tmp_path: Path, *, rank_0_left_one: bool) -> None:
    if rank_0_left_one:
        interrupted(tmp_path, [0, 1])
    interrupted(tmp_path, [6, 7], rank=1)
    for _ in range(2):  # a kill right after it costs nothing
        assert kept(tmp_path) == ([0, 1] if rank_0_left_one else []) + [6, 7]
        assert names(tmp_path) == NAMES


def test_a_rank_that_was_killed_before_its_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    left = opened(tmp_path, rank=3)
    left.append(rows([4]))
    abandon(left)
    assert len(names(tmp_path)) == len(COLUMNS)
    with opened(tmp_path):
        pass
    assert names(tmp_path) == []


def test_what_a_rank_of_other_settings_left_is_put_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(tmp_path, [6], CROPPED)
    interrupted(tmp_path, [7], CROPPED, rank=1)
    assert kept(tmp_path) == []
    assert "checkpoint_rank1_meta.json" in capsys.readouterr().err
    assert names(tmp_path) == [stale(CROPPED)]
    assert kept(tmp_path, CROPPED) == [6, 7]


def test_a_rank_whose_files_are_damaged_costs_only_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path) as checkpoint:
        checkpoint.append(rows([0]))
        interrupted(tmp_path, [1], rank=1)
        interrupted(tmp_path, [2], rank=2)
        (tmp_path / "checkpoint_rank1.npz").unlink()
        take_over_others(checkpoint, IndexFolder(tmp_path).other_ranks())
        assert held(checkpoint.rows()) == [0, 2]
    assert "checkpoint_rank1_meta.json is damaged" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- look-up


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    """A cache with the pictures 0 to 9, each another one."""
    (tmp_path / "cache").mkdir()
    cache = ImageCache(tmp_path / "cache")
    for number in range(10):
        cache.path_for(url(number)).write_bytes(b"%d" % number * 9)
    return cache


def made_from(cache: ImageCache, numbers: list[int]) -> Rows:
    """The rows of the pictures as they lie in `cache` now."""
    paths = [cache.path_for(url(number)) for number in numbers]
    made_of = np.array(
        [picture_of(url(n), read_content(path)) for n, path in zip(numbers, paths, strict=True)], PICTURE
    )
    return Rows(rows(numbers).embeddings, made_of, rows(numbers).dhash)


def listed(tmp_path: Path, numbers: list[int]) -> Records:
    return records_of(tmp_path / "faces", [face_with(image_url=url(number)) for number in numbers])


def assembled(sources: list[Rows], found: Found, tmp_path: Path) -> Rows:
    target = IndexFolder(tmp_path / "out")
    target.root.mkdir(exist_ok=True)
    assemble(sources, found, target)
    return Rows(**{name: np.load(target.column(name)) for name in Rows.names()})


orders = st.tuples(*[st.lists(st.integers(0, 9), max_size=12) for _ in range(2)], st.permutations(range(10)))


@settings(max_examples=60)
@given(orders=orders, made=st.lists(st.integers(0, 9), max_size=5))
def test_every_face_gets_the_row_of_its_picture_in_the_lists_order(
    tmp_path_factory: pytest.TempPathFactory, orders: tuple[list[int], list[int], list[int]], made: list[int]
) -> None:
    tmp_path = tmp_path_factory.mktemp("orders")
    cache = ImageCache(tmp_path)
    for number in range(10):
        cache.path_for(url(number)).write_bytes(b"%d" % number * 9)
    index, before, order = made_from(cache, orders[0]), made_from(cache, orders[1]), orders[2]
    found = look_up([index, before], listed(tmp_path, order), cache)
    there = {*orders[0], *orders[1]}
    assert [order[place] for place in found.missing] == [number for number in order if number not in there]
    grown = made_from(cache, [*orders[1], *made])
    found.add_new(grown, len(before), len(index))
    expected = [number for number in order if number in {*there, *made}]
    assert [order[place] for place in found.there] == expected
    if expected:
        both = assembled([index, grown], found, tmp_path)
        assert np.array_equal(both.embeddings, rows(expected).embeddings)
        assert np.array_equal(both.pictures, made_from(cache, expected).pictures)
        assert np.array_equal(both.dhash, rows(expected).dhash)


def test_a_row_whose_picture_changed_or_is_gone_is_never_used(tmp_path: Path, cache: ImageCache) -> None:
    source = made_from(cache, list(range(10)))
    cache.path_for(url(3)).write_bytes(b"x" * 9)
    os.utime(cache.path_for(url(3)), ns=(7, 7))
    cache.path_for(url(4)).write_bytes(b"longer than before")
    cache.path_for(url(5)).unlink()
    os.utime(cache.path_for(url(6)), ns=(5, 5))  # copied without its time: its content is compared
    found = look_up([source], listed(tmp_path, list(range(10))), cache)
    assert found.missing.tolist() == [3, 4, 5]
    there = assembled([source], found, tmp_path)
    assert there.pictures["mtime_ns"][3] == 5  # the fourth is the seventh face's: so that it need not be read again


def test_of_two_rows_of_a_picture_the_newer_one_counts(tmp_path: Path, cache: ImageCache) -> None:
    old = made_from(cache, [0, 1])
    cache.path_for(url(1)).write_bytes(b"y" * 9)
    new = made_from(cache, [1])
    found = look_up([old, new], listed(tmp_path, [0, 1]), cache)
    assert found.numbers.tolist() == [0, 2]


def indexed(listed: list[int], there: list[int]) -> Found:
    """What a build found that lists some pictures and has rows of those that are `there`."""
    numbers = np.array([number if number in there else -1 for number in listed])
    return Found(rows(listed).pictures["url_sha1"], numbers, np.zeros(len(listed), np.int64))


def test_rows_that_a_build_has_no_use_for_are_kept_for_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aside = IndexFolder(tmp_path).stale(SETTINGS.digest)
    interrupted(tmp_path, [0, 1, 2])
    with opened(tmp_path) as checkpoint:
        keep_unused(checkpoint, None, indexed([1, 2, 7], [1, 7]), aside, SETTINGS)
    assert "2 rows that this build did not need are kept" in capsys.readouterr().err
    assert names(tmp_path) == [stale(SETTINGS)]
    with opened(tmp_path) as checkpoint:
        assert held(checkpoint.rows()) == [0, 2]
        keep_unused(checkpoint, None, indexed([0, 2], [0, 2]), aside, SETTINGS)
    assert names(tmp_path) == []
    assert "did not need" not in capsys.readouterr().err


def test_what_stayed_aside_goes_once_an_index_has_its_rows(tmp_path: Path) -> None:
    """Else a later build would take the rows back, over those that a rebuild made anew."""
    aside = IndexFolder(tmp_path).stale(SETTINGS.digest)
    interrupted(tmp_path, [0, 1])
    interrupted(tmp_path, [3], CROPPED)
    with open_checkpoint(IndexFolder(tmp_path), SETTINGS, 100, resume=True, take_back=False) as checkpoint:
        assert held(checkpoint.rows()) == []
        checkpoint.append(rows([1, 2]))
        keep_unused(checkpoint, None, indexed([1, 2], [1, 2]), aside, SETTINGS)
    assert kept(tmp_path) == [0]


def test_rows_of_the_earlier_index_are_kept_if_their_pictures_are_listed_but_missing(tmp_path: Path) -> None:
    with opened(tmp_path) as checkpoint:
        checkpoint.append(rows([5]))
        earlier = Source(SETTINGS, rows([0, 1, 2, 3]))
        keep_unused(checkpoint, earlier, indexed([0, 1, 2, 5], [0, 5]), IndexFolder(tmp_path).stale("x"), SETTINGS)
    assert held(checkpoint_source(IndexFolder(tmp_path).stale("x")).rows) == [1, 2]  # type: ignore[union-attr]


def test_a_folder_of_the_users_is_never_deleted_whatever_its_name(tmp_path: Path) -> None:
    out = tmp_path / "old.stale"
    out.mkdir()
    (out / "evaluation.json").write_text("{}")
    interrupted(out, [0])
    for resume in (True, False):
        with opened(out, resume=resume) as checkpoint:
            checkpoint.drop()
    assert names(out) == ["evaluation.json"]


def test_one_that_is_put_aside_and_damaged_is_no_reason_to_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in (1, 2):
        interrupted(tmp_path, [0])
        interrupted(tmp_path, [1], CROPPED)  # which puts the first one aside
        (tmp_path / stale(SETTINGS) / "checkpoint.npz").write_bytes(b"")
        assert kept(tmp_path) == []
        assert capsys.readouterr().err.count("is damaged") == 1
        assert len(list(tmp_path.glob("checkpoint-damaged*.stale"))) == count
        assert kept(tmp_path, CROPPED) == [1] * count
    damaged = tmp_path / "checkpoint-damaged.stale"
    assert np.array_equal(np.load(damaged / "checkpoint_embeddings.npy"), rows([0]).embeddings)


def test_rows_are_put_aside_beside_a_damaged_one(tmp_path: Path) -> None:
    interrupted(tmp_path, [0])
    interrupted(tmp_path, [1], CROPPED)
    aside = tmp_path / stale(CROPPED)
    shutil.copytree(tmp_path / stale(SETTINGS), aside)
    (aside / "checkpoint.npz").write_bytes(b"")
    with opened(tmp_path, settings=CROPPED) as checkpoint:
        keep_unused(checkpoint, None, indexed([], []), IndexFolder(tmp_path).stale(CROPPED.digest), CROPPED)
    assert kept(tmp_path, CROPPED) == [1]


def test_a_picture_is_the_same_if_its_content_is(tmp_path: Path) -> None:
    path = tmp_path / f"{'ab' * 20}.jpg"
    path.write_bytes(b"content")
    known = np.array([picture_of("https://x/1.jpg", read_content(path))], PICTURE)[0]
    assert mtime_if_same(known, path) == path.stat().st_mtime_ns
    os.utime(path, ns=(5, 5))
    assert mtime_if_same(known, path) == 5
    path.write_bytes(b"Content")
    assert mtime_if_same(known, path) is None
    path.write_bytes(b"longer content")
    assert mtime_if_same(known, path) is None
    path.unlink()
    with pytest.raises(FileNotFoundError):
        mtime_if_same(known, path)
