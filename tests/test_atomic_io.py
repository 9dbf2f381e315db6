import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from helpers.atomic_io import atomic_path, atomic_result, atomic_set, atomic_write_bytes, complete_set, writable_folder
from helpers.errors import DiskFull, PipelineError
from helpers.locks import Held, shared_folder, sole_holder
from tests.conftest import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "a.json"
    with atomic_path(final) as part:
        part.write_bytes(b"new")
        assert part.name.endswith(".part")
        assert not final.exists()
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError(5, "Input/output error")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    final = tmp_path / "a.json"
    atomic_write_bytes(final, b"old")

    def fail() -> None:
        with atomic_path(final) as part:
            part.write_bytes(b"ne")
            raise error

    with pytest.raises(BaseException, match=r".*"):
        fail()
    assert names(tmp_path) == ["a.json"]
    assert final.read_bytes() == b"old"


FAILURES: dict[str, tuple[OSError, str, str]] = {
    "full": (OSError(28, "No space left on device"), "a.json: No space left on device", "make room"),
    "full, as numpy says it": (OSError("9 requested and 0 written"), "a.json: 9 requested and 0 written", "make room"),
    "no errno": (OSError("encoder error -2"), "a.json: encoder error -2", "run the same command again"),
    "hiccup": (OSError(errno.EIO, "Input/output error"), "a.json: Input/output error", "check the disk"),
    "read-only": (OSError(errno.EROFS, "Read-only file system"), "a.json: Read-only", "is writable"),
    "another file": (FileNotFoundError(2, "No such file or directory", "/else/b"), "No such file", "may read it"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_write_that_fails_is_named_for_what_it_is(tmp_path: Path, how: str) -> None:
    error, details, suggestion = FAILURES[how]

    def fail() -> None:
        with atomic_path(tmp_path / "a.json"):
            raise error

    with pytest.raises(PipelineError, match="/else/b can't be used" if error.filename else "can't be written to") as e:
        fail()
    assert details in e.value.problems[0].details
    assert suggestion in e.value.problems[0].suggestion
    assert isinstance(e.value, DiskFull) == ("make room" in suggestion)


def write_set(folder: Path, content: bytes, sync: str = "", markers: tuple[str, ...] = ("MARKER",)) -> None:
    """Write a set in a process of its own; `sync` is Python that stands in for what happens then."""
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from helpers.atomic_io import atomic_set
folder = Path({str(folder)!r})
with atomic_set(folder, *{markers!r}) as staging:
    for name in (*{markers!r}, "b", "a"):
        (staging / name).write_bytes({content!r})
    {sync}
"""
    subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("count", range(5))
@pytest.mark.parametrize("call", ["replace", "fsync", "rmdir"])
def test_wherever_a_set_is_broken_off_a_marker_belongs_to_its_files(tmp_path: Path, count: int, call: str) -> None:
    write_set(tmp_path, b"old")
    write_set(tmp_path, b"new", f"calls = []; real = os.{call}; os.{call} = lambda *x: (calls.append(x), "
              f"os._exit(9) if len(calls) > {count} else real(*x))[1]")  # fmt: skip
    if (tmp_path / "MARKER").exists():
        marker = (tmp_path / "MARKER").read_bytes()
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == marker
    assert (tmp_path / "MARKER").exists() == (call != "replace" or count in (0, 4))
    begun = (tmp_path / "MARKER.swap").exists() or (tmp_path / "MARKER").read_bytes() == b"new"
    complete_set(tmp_path, "MARKER")
    complete_set(tmp_path, "MARKER")  # there is nothing more to do
    assert {(tmp_path / name).read_bytes() for name in ("MARKER", "a", "b")} == {b"new" if begun else b"old"}
    assert not (tmp_path / "MARKER.swap").exists()


@pytest.mark.parametrize("count", range(6))
def test_wherever_a_set_is_broken_off_each_of_two_markers_belongs_to_its_files(tmp_path: Path, count: int) -> None:
    markers = ("MARKER", "AFTER")
    write_set(tmp_path, b"old", markers=markers)
    write_set(tmp_path, b"new", f"calls = []; real = os.replace; os.replace = lambda *x: (calls.append(x), "
              f"os._exit(9) if len(calls) > {count} else real(*x))[1]", markers)  # fmt: skip
    there = [name for name in markers if (tmp_path / name).exists()]
    assert there == {0: [*markers], 4: ["MARKER"], 5: [*markers]}.get(count, [])
    assert {(tmp_path / name).read_bytes() for name in ("a", "b", *there)} == {b"new" if count else b"old"} or not there
    for _ in "twice":
        complete_set(tmp_path, *markers)
    assert {(tmp_path / name).read_bytes() for name in (*markers, "a", "b")} == {b"new" if count else b"old"}
    assert not (tmp_path / "MARKER.swap").exists()


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_a_signal_waits_until_the_names_are_given(tmp_path: Path, sent: str) -> None:
    write_set(tmp_path, b"old")
    during = f"import signal; real = os.replace; os.replace = lambda *x: (signal.raise_signal(signal.{sent}), real(*x))"
    write_set(tmp_path, b"new", during)
    assert names(tmp_path) == ["MARKER", "a", "b"]
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"new"}


def test_what_a_killed_writer_left_is_swept_by_the_next(tmp_path: Path) -> None:
    write_set(tmp_path, b"old", "os._exit(9)")
    assert len(names(tmp_path)) == 1
    write_set(tmp_path, b"new")
    assert names(tmp_path) == ["MARKER", "a", "b"]


def test_where_a_disk_has_no_locks_nothing_is_swept(tmp_path: Path) -> None:
    (tmp_path / "MARKER.2-0123abcd.part").write_bytes(b"half")
    (tmp_path / "MARKER.3-0123abcd.part").mkdir()
    code = f"""
import errno, fcntl, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from helpers.atomic_io import atomic_set
def no_locks(*_): raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = no_locks
with atomic_set(Path({str(tmp_path)!r}), marker="MARKER") as staging:
    (staging / "MARKER").write_bytes(b"new")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert names(tmp_path) == ["MARKER", "MARKER.2-0123abcd.part", "MARKER.3-0123abcd.part"]


def test_a_set_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    write_set(tmp_path, b"old")
    failing = "import errno; os.fsync = lambda _: (_ for _ in ()).throw(OSError(errno.EIO, 'Input/output error'))"
    write_set(tmp_path, b"new", failing)
    assert names(tmp_path) == ["MARKER", "a", "b"]
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"old"}


def test_two_writers_of_a_set_do_not_wait_for_each_other_but_for_the_swap(tmp_path: Path) -> None:
    with atomic_set(tmp_path, marker="MARKER") as staging:
        (staging / "MARKER").write_bytes(b"last")
        write_set(tmp_path, b"first")
        assert names(tmp_path) == ["MARKER", staging.name, "a", "b"]  # nor does one sweep what the other writes
    assert (tmp_path / "MARKER").read_bytes() == b"last"


@pytest.mark.parametrize("locks", range(3))
def test_a_disk_without_locks_is_shared_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: int
) -> None:
    """Even where the first `locks` calls succeed, as on NFS, whose daemon may be gone by the next."""
    left, flock = [locks], fcntl.flock

    def no_locks(file: BinaryIO, operation: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOLCK, "No locks available")
        flock(file, operation)

    part = tmp_path / "x.2-0123abcd.part"
    part.write_bytes(b"may be in use")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with shared_folder(tmp_path, ".lock"), sole_holder(tmp_path / "list.lock", "held"):
        assert names(tmp_path) == [".lock", "list.lock"] + [part.name] * (locks == 0)


def test_a_disk_that_can_not_sync_folders_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def for_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", for_files_only)
    with atomic_set(tmp_path, marker="MARKER") as staging:
        (staging / "MARKER").write_bytes(b"new")
    assert names(tmp_path) == ["MARKER"]


def test_parts_of_another_set_are_not_swept(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.npz.2-0123abcd.part").write_bytes(b"half")  # of a build that is under way
    write_set(tmp_path, b"new")
    assert "checkpoint.npz.2-0123abcd.part" in names(tmp_path)


def test_a_result_sweeps_what_a_killed_writer_of_it_left_and_no_file_whose_name_begins_alike(tmp_path: Path) -> None:
    (tmp_path / "cards.2-0123abcd.part").mkdir()
    (tmp_path / "cards_of_another.2-0123abcd.part").write_bytes(b"half")
    with atomic_result(tmp_path / "cards") as made:
        made.write_bytes(b"new")
    assert names(tmp_path) == ["cards", "cards_of_another.2-0123abcd.part"]


def test_part_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "debian.iso.part").write_bytes(b"somebody else's download")
    with shared_folder(tmp_path, ".lock"):
        assert "debian.iso.part" in names(tmp_path)


def test_the_first_into_a_folder_sweeps_what_a_killed_one_left_the_second_does_not(tmp_path: Path) -> None:
    (tmp_path / "left.jpg.1-0123abcd.part").write_bytes(b"half")
    with shared_folder(tmp_path, ".lock"):
        assert names(tmp_path) == [".lock"]
        (tmp_path / "alive.jpg.2-cd.part").write_bytes(b"half")
        with shared_folder(tmp_path, ".lock"):
            assert "alive.jpg.2-cd.part" in names(tmp_path)


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from helpers.atomic_io import atomic_path
from helpers.locks import shared_folder
with shared_folder(Path({str(tmp_path)!r}), ".lock"), atomic_path(Path({str(tmp_path)!r}) / "a.jpg") as part:
    part.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGKILL)
    assert any(name.endswith(".part") for name in names(tmp_path))
    with shared_folder(tmp_path, ".lock"):
        assert names(tmp_path) == [".lock"]


def test_a_file_has_one_lock_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from helpers.locks import sole_holder
with sole_holder(Path({str(tmp_path)!r}) / "lock", "held"):
    print("ready", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(Held), sole_holder(tmp_path / "lock", "held"):
            pass
        holder.send_signal(signal.SIGKILL)
    with sole_holder(tmp_path / "lock", "held"):
        assert names(tmp_path) == ["lock"]
    assert names(tmp_path) == []


def test_a_lock_is_never_held_on_a_file_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    flock = fcntl.flock

    def removed_while_waiting(file: BinaryIO, operation: int) -> None:
        monkeypatch.undo()
        path.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_while_waiting)
    with sole_holder(path, "held"), pytest.raises(Held, match="held"), sole_holder(path, "held"):
        pass


def test_a_folder_that_is_a_file_is_named_with_its_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PipelineError, match="--cache"):
        writable_folder(tmp_path / "file", "--cache")
    with pytest.raises(PipelineError, match="--cache"):
        writable_folder(tmp_path / "file" / "below", "--cache")
