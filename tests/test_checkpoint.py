"""Checkpoints on real files: what one run kept, the next one takes up, or puts aside where it is another build's."""

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
from helpers.build.checkpoint import Checkpoint, last_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.cards.faces import CardFace
from helpers.cards.pictures import PICTURE, Settings
from helpers.embed.vectors import unit_rows
from helpers.errors import PipelineError

WIDTH = 8
SETTINGS = Settings(model="m", weights_sha256="w", precision="fp32", preprocessing="224", target_size=384, fit="pad")
NAMES = ["checkpoint.npz", "checkpoint_embeddings.npy", "checkpoint_meta.json", "checkpoint_pictures.npy"]


def make_faces(count: int, start: int = 0) -> list[CardFace]:
    return [face(i) for i in range(start, start + count)]


def face(i: int) -> CardFace:
    nothing: dict[str, Any] = dict.fromkeys(CardFace.__struct_fields__)
    return CardFace(**nothing | {"face_id": f"id{i}", "image_url": f"https://example/{i}.jpg", "name": f"Card {i}"})


def rows(places: list[int]) -> NDArray[np.float32]:
    """The rows of the faces at `places`: another one for each."""
    random = [np.random.default_rng(place).standard_normal(WIDTH) for place in places]
    return unit_rows(np.stack(random).astype(np.float32))


def pictures(places: list[int]) -> NDArray[Any]:
    """What these rows were made of: another picture for each face."""
    return np.array(
        [(bytes([place % 256]) * 20, bytes([place % 251]) * 32, 1000 + place, place) for place in places], PICTURE
    )


def add(checkpoint: Checkpoint, places: list[int]) -> None:
    checkpoint.add(places, rows(places), pictures(places))


def is_complete(checkpoint: Checkpoint, places: list[int]) -> bool:
    """Whether the rows of `places`, and no others, are what the checkpoint has at the end."""
    kept, made_of = checkpoint.complete()
    return np.array_equal(kept, rows(places)) and np.array_equal(made_of, pictures(places))


def abandon(checkpoint: Checkpoint) -> None:
    """Leave it as a kill does: nothing is saved any more."""
    checkpoint._thread.shutdown()
    checkpoint._rows.file.close()
    checkpoint._pictures.file.close()


def open_checkpoint(
    folder: Path,
    faces: list[CardFace],
    frequency: int = 100,
    settings: Settings = SETTINGS,
    *,
    resume: bool = True,
    rebuild: bool = False,
    rank: int = 0,
    verify: bool = True,
) -> Checkpoint:
    folder_of_rank = IndexFolder(folder, rank)
    return Checkpoint(folder_of_rank, settings, faces, frequency, resume=resume, rebuild=rebuild, verify=verify)


def interrupted(folder: Path, faces: list[CardFace], places: list[int], frequency: int = 100) -> None:
    """A build that is stopped when it has embedded `places`."""
    with pytest.raises(KeyboardInterrupt), open_checkpoint(folder, faces, frequency) as checkpoint:
        add(checkpoint, places)
        raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_files_are_what_the_contract_says(tmp_path: Path) -> None:
    interrupted(tmp_path, make_faces(10), [0, 1, 4, 5])
    assert names(tmp_path) == NAMES
    meta = json.loads((tmp_path / "checkpoint_meta.json").read_text())
    assert {
        "processed_count": 6,
        "total_count": 10,
        "embeddings_file": "checkpoint_embeddings.npy",
    }.items() <= meta.items()
    assert {"timestamp", "parameters"} <= set(meta)
    packed = np.load(tmp_path / "checkpoint.npz")
    assert packed["good_mask"].tolist() == [True, True, False, False, True, True]
    assert (packed["indices"].dtype, packed["indices"].tolist()) == (np.int64, [0, 1, 4, 5])
    embeddings = np.load(tmp_path / "checkpoint_embeddings.npy")
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (6, WIDTH))
    assert np.array_equal(embeddings[[0, 1, 4, 5]], rows([0, 1, 4, 5]))
    assert not embeddings[[2, 3]].any()


def test_what_was_kept_is_taken_up_and_goes_when_the_build_is_done(tmp_path: Path) -> None:
    faces = make_faces(6)
    interrupted(tmp_path, faces, [0, 2])
    with open_checkpoint(tmp_path, faces) as checkpoint:
        assert checkpoint.good.tolist() == [True, False, True, False, False, False]
        add(checkpoint, [1, 3])  # what was missing before may be there now
        assert is_complete(checkpoint, [0, 1, 2, 3])
        assert names(tmp_path) == NAMES
        checkpoint.delete()
    assert names(tmp_path) == []


steps = st.lists(st.tuples(st.sets(st.integers(0, 39), max_size=12), st.booleans()), max_size=8)


@settings(max_examples=60, deadline=None)
@given(steps=steps, frequency=st.sampled_from([1, 3, 100]))
def test_any_row_of_interruptions_ends_like_an_undisturbed_run(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[set[int], bool]], frequency: int
) -> None:
    folder, faces = tmp_path_factory.mktemp("property"), make_faces(40)
    kept: set[int] = set()
    for wanted, stopped_softly in steps:
        checkpoint = open_checkpoint(folder, faces, frequency)
        assert set(np.flatnonzero(checkpoint.good).tolist()) >= kept
        places = sorted(wanted - set(np.flatnonzero(checkpoint.good).tolist()))
        if places:
            add(checkpoint, places)
        if stopped_softly or len(places) >= frequency:
            kept |= set(places)
        if stopped_softly:
            checkpoint.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        else:  # as a kill leaves it: the lock goes, nothing is saved any more
            abandon(checkpoint)
    with open_checkpoint(folder, faces, frequency) as checkpoint:
        left = np.flatnonzero(~checkpoint.good).tolist()
        assert not kept & set(left)
        if left:
            add(checkpoint, left)
        assert is_complete(checkpoint, list(range(40)))
        checkpoint.delete()
    assert names(folder) == []


def test_rows_that_no_checkpoint_tells_of_are_cut_off(tmp_path: Path) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [0, 1])
    with open(tmp_path / "checkpoint_embeddings.npy", "ab") as file:
        file.write(rows([2, 3]).tobytes())  # made, but the kill came before the next checkpoint
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces) as checkpoint:
        add(checkpoint, [4])
        raise KeyboardInterrupt
    assert not np.load(tmp_path / "checkpoint_embeddings.npy")[[2, 3]].any()


def test_a_kill_soon_after_resuming_costs_nothing(tmp_path: Path) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [0, 1, 2])
    with open(tmp_path / "checkpoint_embeddings.npy", "r+b") as file:  # as a kill before the JSON was written leaves it
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (9, WIDTH)})
        file.truncate(128 + 9 * WIDTH * 4)
    for _ in range(2):
        checkpoint = open_checkpoint(tmp_path, faces)
        assert np.flatnonzero(checkpoint.good).tolist() == [0, 1, 2]
        abandon(checkpoint)


def test_a_kill_between_the_files_costs_one_interval_not_all(tmp_path: Path) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [0, 1, 2])
    old_meta = (tmp_path / "checkpoint_meta.json").read_bytes()
    interrupted(tmp_path, faces, [3, 4, 5])
    (tmp_path / "checkpoint_meta.json").write_bytes(old_meta)  # killed before this one was replaced
    with open_checkpoint(tmp_path, faces) as checkpoint:
        assert np.flatnonzero(checkpoint.good).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "other"},
        {"weights_sha256": "other"},
        {"precision": "bf16"},
        {"preprocessing": "other"},
        {"target_size": 64},
        {"fit": "crop"},
    ],
)
def test_other_settings_put_a_checkpoint_aside_and_are_named(
    tmp_path: Path, changed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [0, 1])
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}
    with open_checkpoint(tmp_path, faces, settings=msgspec.structs.replace(SETTINGS, **changed)) as checkpoint:
        assert not checkpoint.good.any()
    (name,) = changed
    assert f"{name} was {getattr(SETTINGS, name)}, now {changed[name]}" in capsys.readouterr().err
    assert {name: (tmp_path / f"{name}.stale").read_bytes() for name in NAMES} == before
    assert names(tmp_path) == sorted(f"{name}.stale" for name in NAMES)


def test_what_follows_one_put_aside_is_taken_up_again(tmp_path: Path) -> None:
    faces, others = make_faces(10), msgspec.structs.replace(SETTINGS, fit="crop")
    interrupted(tmp_path, faces, [0, 1, 2, 3])
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, settings=others) as checkpoint:
        add(checkpoint, [0, 1])
        raise KeyboardInterrupt
    with open_checkpoint(tmp_path, faces, settings=others) as checkpoint:
        assert np.flatnonzero(checkpoint.good).tolist() == [0, 1]


def aside(checkpoint: Checkpoint) -> list[list[int]]:
    """The places whose rows lie in checkpoints that were put aside."""
    found = []
    for one in checkpoint.asides():
        places = np.flatnonzero(one.pictures["size"]).tolist()
        assert np.array_equal(one.rows[places], rows(places))
        assert np.array_equal(one.pictures[places], pictures(places))
        found.append(places)
    return found


def test_one_that_was_put_aside_gives_its_rows_to_builds_that_make_such(tmp_path: Path) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [1, 2, 4])
    for fit in ("crop", "other"):
        wrong = msgspec.structs.replace(SETTINGS, fit=fit)
        with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, settings=wrong) as checkpoint:
            assert not aside(checkpoint)
            add(checkpoint, [5])
            raise KeyboardInterrupt
    with open_checkpoint(tmp_path, faces, rebuild=True) as checkpoint:
        assert not aside(checkpoint)  # these were not made by a rebuild
    with open_checkpoint(tmp_path, make_faces(3, start=90)) as checkpoint:  # another card list
        assert aside(checkpoint) == [[1, 2, 4]]


def test_one_that_was_put_aside_goes_when_it_has_nothing_more_to_give(tmp_path: Path) -> None:
    interrupted(tmp_path, make_faces(10), [1, 2])
    others = make_faces(10, start=20)
    for kept in (True, False):  # the build that put it aside keeps it, so that its owner can see it
        with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, others) as checkpoint:
            (one,) = checkpoint.asides()
            add(checkpoint, [5])
            checkpoint.drop_aside(one)
            assert any(name.endswith(".stale") for name in names(tmp_path)) == kept
            raise KeyboardInterrupt
    assert names(tmp_path) == NAMES


@pytest.mark.parametrize("renames", range(5))
def test_a_kill_while_one_is_put_aside_costs_nothing(
    tmp_path: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [0, 1, 2])
    left = [None] * renames
    real = os.replace

    def replace(*paths: Any) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        real(*paths)

    wrong = msgspec.structs.replace(SETTINGS, fit="crop")
    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(os, "replace", replace)
        abandon(open_checkpoint(tmp_path, faces, settings=wrong))
    with open_checkpoint(tmp_path, faces) as checkpoint:
        assert [np.flatnonzero(checkpoint.good).tolist(), *aside(checkpoint)] == (
            [[0, 1, 2]] if renames < len(NAMES) else [[], [0, 1, 2]]
        )
        assert len([name for name in names(tmp_path) if name.endswith(".stale")]) in (0, len(NAMES))


def test_whether_pictures_were_verified_is_known_of_every_row(tmp_path: Path) -> None:
    faces = make_faces(10)
    for verify, verified in ((False, True), (True, False), (True, False)):  # none yet; then one that was not
        with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, verify=verify) as checkpoint:
            assert checkpoint.verified == verified
            add(checkpoint, [int(checkpoint.good.sum())])
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces) as checkpoint:
        checkpoint.verified = True  # somebody looked
        add(checkpoint, [7])
        raise KeyboardInterrupt
    with open_checkpoint(tmp_path, faces) as checkpoint:
        assert checkpoint.verified


def test_a_mask_vouches_for_no_more_than_the_build_that_made_it(tmp_path: Path) -> None:
    """A kill after the mask, and before the JSON, of a build that does not verify and took rows of an index."""
    faces = make_faces(10)
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, rebuild=True) as checkpoint:
        add(checkpoint, [0, 3])
        raise KeyboardInterrupt
    before = (tmp_path / "checkpoint_meta.json").read_bytes()
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, verify=False) as checkpoint:
        add(checkpoint, [1])
        raise KeyboardInterrupt
    (tmp_path / "checkpoint_meta.json").write_bytes(before)
    checkpoint = open_checkpoint(tmp_path, faces)
    assert np.flatnonzero(checkpoint.good).tolist() == [0, 1, 3]
    assert not checkpoint.verified
    abandon(checkpoint)
    with open_checkpoint(tmp_path, faces, rebuild=True) as checkpoint:
        assert not checkpoint.good.any()


def test_a_header_that_tells_of_more_rows_than_are_there_is_not_believed(tmp_path: Path) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [0, 1, 2])
    with open(tmp_path / "checkpoint_embeddings.npy", "r+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (9, WIDTH)})
    with open_checkpoint(tmp_path, faces[:3]) as checkpoint:
        assert is_complete(checkpoint, [0, 1, 2])


@pytest.mark.parametrize(
    ("faces", "words"),
    [
        (make_faces(10, start=1), "its first 3 faces are others"),
        ([*make_faces(2), *make_faces(8, start=3)], "its first 3 faces are others"),
        (make_faces(2), "this build only 2"),
    ],
)
def test_another_card_list_puts_a_checkpoint_aside(
    tmp_path: Path, faces: list[CardFace], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, make_faces(10), [0, 2])
    with open_checkpoint(tmp_path, faces) as checkpoint:
        assert not checkpoint.good.any()
    assert words in capsys.readouterr().err


def test_a_list_that_differs_only_further_on_does_not(tmp_path: Path) -> None:
    interrupted(tmp_path, make_faces(10), [0, 2])
    with open_checkpoint(tmp_path, [*make_faces(3), *make_faces(50, start=90)]) as checkpoint:
        assert np.flatnonzero(checkpoint.good).tolist() == [0, 2]


def damage_json(folder: Path, **fields: object) -> None:
    path = folder / "checkpoint_meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def damage_mask(folder: Path, good: list[bool], indices: list[int]) -> None:
    np.savez(folder / "checkpoint.npz", good_mask=np.array(good), indices=np.array(indices, np.int64))


def write_npy(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


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
    "an npy for an npz": lambda folder: write_npy(folder / "checkpoint.npz"),
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
    "mask too short": lambda folder: damage_mask(folder, [True, False], [0]),
    "indices not of the mask": lambda folder: damage_mask(folder, [True, False, True], [0, 1]),
    "fewer indices": lambda folder: damage_mask(folder, [True, False, True], [0]),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_put_aside_not_believed(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [0, 2])
    DAMAGE[how](tmp_path)
    with open_checkpoint(tmp_path, faces) as checkpoint:
        assert not checkpoint.good.any()
        assert "is not one of this build" in capsys.readouterr().err
        assert last_settings(IndexFolder(tmp_path), rebuild=False) is None
        add(checkpoint, [0, 1])
        assert is_complete(checkpoint, [0, 1])
        checkpoint.delete()
    assert all(name.endswith(".stale") for name in names(tmp_path))


def test_a_damaged_row_alone_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [0, 1, 2, 3])
    embeddings = np.load(tmp_path / "checkpoint_embeddings.npy", mmap_mode="r+")
    embeddings[2] = 0
    embeddings.flush()
    with open_checkpoint(tmp_path, faces) as checkpoint:
        assert np.flatnonzero(checkpoint.good).tolist() == [0, 1, 3]
    assert "damaged rows in the checkpoint: 1" in capsys.readouterr().err


def test_without_resume_a_checkpoint_is_dropped(tmp_path: Path) -> None:
    interrupted(tmp_path, make_faces(10), [0, 2])
    with open_checkpoint(tmp_path, make_faces(10), resume=False) as checkpoint:
        assert not checkpoint.good.any()
    assert names(tmp_path) == []


def test_frequency_0_keeps_nothing_of_a_build_that_is_stopped(tmp_path: Path) -> None:
    interrupted(tmp_path, make_faces(10), [0, 2], frequency=0)
    assert names(tmp_path) == []


def test_frequency_0_takes_up_what_is_there_and_keeps_what_is_complete(tmp_path: Path) -> None:
    faces = make_faces(4)
    interrupted(tmp_path, faces, [0, 2])
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, frequency=0) as checkpoint:
        add(checkpoint, [3])
        checkpoint.complete()
        raise KeyboardInterrupt  # while the index is built
    with open_checkpoint(tmp_path, faces, frequency=0) as checkpoint:
        assert np.flatnonzero(checkpoint.good).tolist() == [0, 2, 3]


def test_a_checkpoint_is_due_every_so_many_images_not_faces(tmp_path: Path) -> None:
    with open_checkpoint(tmp_path, make_faces(1000), frequency=100) as checkpoint:
        assert checkpoint.largest_batch == 50
        add(checkpoint, list(range(0, 50, 2)))
        assert checkpoint.saves == 0
        add(checkpoint, list(range(500, 525)))
        assert checkpoint.saves == 1
        add(checkpoint, list(range(600, 630)))  # another one like this would be more than the 50
        assert checkpoint.saves == 2
    with open_checkpoint(tmp_path, make_faces(1000), frequency=0) as checkpoint:
        assert checkpoint.largest_batch >= 1000


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
    with open_checkpoint(tmp_path, make_faces(40), frequency) as checkpoint:
        for place in range(40):
            add(checkpoint, [place])
            kept = json.loads(meta.read_text())["processed_count"] if meta.exists() else 0
            assert place + 1 - kept <= frequency


def test_no_faces_with_pictures_leave_nothing(tmp_path: Path) -> None:
    with open_checkpoint(tmp_path, make_faces(3)) as checkpoint:
        assert checkpoint.complete()[0].shape[0] == 0
    assert names(tmp_path) == []


def test_a_disk_that_takes_no_checkpoint_ends_the_build_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    def fail() -> None:
        with open_checkpoint(tmp_path, make_faces(9), frequency=1) as checkpoint:
            add(checkpoint, [0])
            checkpoint.complete()

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PipelineError, match="can't be written to") as caught:
        fail()
    assert "make room" in caught.value.problems[0].suggestion
    assert names(tmp_path) == []


def of_rank(rank: int, folder: Path, faces: list[CardFace], places: list[int]) -> None:
    """What a rank leaves that has embedded `places`."""
    with pytest.raises(KeyboardInterrupt), open_checkpoint(folder, faces, resume=False, rank=rank) as checkpoint:
        add(checkpoint, places)
        raise KeyboardInterrupt


def test_rank_0_takes_over_what_the_others_embedded(tmp_path: Path) -> None:
    faces = make_faces(12)
    with open_checkpoint(tmp_path, faces) as checkpoint:
        add(checkpoint, [0, 1])
        of_rank(1, tmp_path, faces, [4, 5, 7])
        of_rank(11, tmp_path, faces, [8, 10])
        assert len(names(tmp_path)) == 2 + 4 + 4
        checkpoint.take_over_others()
        assert names(tmp_path) == NAMES
        assert is_complete(checkpoint, [0, 1, 4, 5, 7, 8, 10])
        checkpoint.delete()
    assert names(tmp_path) == []


@pytest.mark.parametrize("rank_0_left_one", [False, True])
def test_what_ranks_left_is_resumed_by_any_number_of_them(tmp_path: Path, *, rank_0_left_one: bool) -> None:
    faces = make_faces(12)
    if rank_0_left_one:
        interrupted(tmp_path, faces, [0, 1])
    of_rank(1, tmp_path, faces, [6, 7])
    for _ in range(2):  # a kill right after it costs nothing
        abandon(checkpoint := open_checkpoint(tmp_path, faces))
        assert np.flatnonzero(checkpoint.good).tolist() == ([0, 1] if rank_0_left_one else []) + [6, 7]
        assert names(tmp_path) == NAMES


def test_a_rank_that_was_killed_before_its_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    faces = make_faces(12)
    left = open_checkpoint(tmp_path, faces, resume=False, rank=3)
    add(left, [4])
    abandon(left)
    assert len(names(tmp_path)) == 2
    with open_checkpoint(tmp_path, faces):
        pass
    assert names(tmp_path) == []


def test_what_a_rank_of_another_build_left_is_put_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_rank(1, tmp_path, make_faces(12, start=50), [6, 7])
    with open_checkpoint(tmp_path, make_faces(12)) as checkpoint:
        assert not checkpoint.good.any()
    assert "checkpoint_rank1_meta.json" in capsys.readouterr().err
    assert len(names(tmp_path)) == 4
    assert all(name.endswith(".stale") for name in names(tmp_path))
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with open_checkpoint(tmp_path, make_faces(12), resume=False) as checkpoint:
        add(checkpoint, [5, 6])
        of_rank(1, tmp_path, make_faces(12), [8])
        checkpoint.take_over_others()  # what the ranks of this build made, and nothing else
        assert is_complete(checkpoint, [5, 6, 8])
        checkpoint.delete()
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_what_a_kill_left_of_a_checkpoint_that_was_dropped_goes(tmp_path: Path) -> None:
    for rank in (0, 1):
        of_rank(rank, tmp_path, make_faces(12, start=50), [6, 7])
    with open_checkpoint(tmp_path, make_faces(12)):
        assert len(names(tmp_path)) == 2 * len(NAMES) + 2
    for path in tmp_path.glob("checkpoint*_meta.json.stale"):
        path.unlink()
    with open_checkpoint(tmp_path, make_faces(12)):
        pass
    assert names(tmp_path) == []


def test_what_is_said_to_be_kept_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = make_faces(10)
    interrupted(tmp_path, faces, [0, 1])
    assert "(2 of 10 faces): the same command goes on from there" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, frequency=0) as checkpoint:
        add(checkpoint, [2, 3, 4])
        raise KeyboardInterrupt
    assert "(2 of 10 faces): the same command goes on from there" in capsys.readouterr().err


def test_of_two_ranks_with_a_row_the_one_of_another_picture_is_taken(tmp_path: Path) -> None:
    """The leader's may be of a picture that has changed since; whoever looks at the files will know."""
    faces = make_faces(4)
    interrupted(tmp_path, faces, [0, 1])
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, resume=False, rank=1) as checkpoint:
        changed = pictures([1])
        changed["size"] = 77
        checkpoint.add([1], rows([3]), changed)
        raise KeyboardInterrupt
    with open_checkpoint(tmp_path, faces) as checkpoint:
        assert checkpoint.pictures(np.array([0, 1]))["size"].tolist() == [1000, 77]
        assert np.array_equal(checkpoint.complete()[0], rows([0, 3]))


def test_without_resume_nothing_of_other_ranks_is_taken(tmp_path: Path) -> None:
    of_rank(1, tmp_path, make_faces(12), [6, 7])
    with open_checkpoint(tmp_path, make_faces(12), resume=False) as checkpoint:
        assert not checkpoint.good.any()
    assert names(tmp_path) == []


def test_what_the_rows_were_made_with_can_be_read_beforehand(tmp_path: Path) -> None:
    assert last_settings(IndexFolder(tmp_path), rebuild=False) is None
    interrupted(tmp_path, make_faces(3), [0])
    assert last_settings(IndexFolder(tmp_path), rebuild=False) == SETTINGS
    assert last_settings(IndexFolder(tmp_path), rebuild=True) is None


def test_a_rebuild_goes_on_from_a_rebuild_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = make_faces(5)
    interrupted(tmp_path, faces, [0, 1])
    with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, rebuild=True) as checkpoint:
        assert not checkpoint.good.any()
        assert "--rebuild wants none" in capsys.readouterr().err
        add(checkpoint, [3])
        raise KeyboardInterrupt
    for rebuild in (True, False):
        with pytest.raises(KeyboardInterrupt), open_checkpoint(tmp_path, faces, rebuild=rebuild) as checkpoint:
            assert np.flatnonzero(checkpoint.good).tolist() == [3]
            raise KeyboardInterrupt


def test_rows_whose_pictures_changed_are_made_again(tmp_path: Path) -> None:
    faces = make_faces(6)
    interrupted(tmp_path, faces, [0, 1, 4])
    checkpoint = open_checkpoint(tmp_path, faces)
    assert np.array_equal(checkpoint.pictures(np.array([1, 4])), pictures([1, 4]))
    checkpoint.forget([1])
    abandon(checkpoint)  # a kill right after it
    with open_checkpoint(tmp_path, faces) as checkpoint:
        assert is_complete(checkpoint, [0, 4])
