"""A file is either whole under its name or not there: write beside, fsync, replace.

Temporary names end in `.part`, which no reader looks at. `shared_folder` lets several processes write into one
folder and lets the one that is alone in it sweep what a killed one left.
"""

import errno
import fcntl
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgspec

from helpers.artifacts import PART_SUFFIX
from helpers.errors import NO_SPACE, Category, DiskFull, PipelineError
from helpers.talk import human_bytes

_OUR_PART = re.compile(rf"\.\d+-[0-9a-f]{{8}}{re.escape(PART_SUFFIX)}$")  # others may keep their own .part files here
_NUMBERS = itertools.count(secrets.randbits(32))  # other machines that share the disk may have our process number


class Held(Exception):
    """Another process holds the lock."""


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `final` when the block ends well and is gone when it does not.

    The temporary name is unique, so that two writers of one file never share bytes: the last one wins, whole. Raises
    PipelineError (Configuration Error) where the disk does not take it.
    """
    part = _part_of(final)
    with disk_errors_named(final):
        try:
            yield part
            fsync(part)
            os.replace(part, final)
        except BaseException:
            with suppress(OSError):  # the folder may be what is gone
                part.unlink()
            raise


@contextmanager
def atomic_set(folder: Path, marker: str) -> Iterator[Path]:
    """Yield an empty staging folder inside `folder`; the files written to it move out of it when the block ends well.

    `marker` is the name of the one that says that the set is whole: when all is safely on the disk, the old marker
    goes, the files get their places, the new marker last. Wherever this is killed, a marker that is there belongs to
    its files. When the block fails, everything old stays as it was. Two writers of one folder take turns.
    """
    staging = _part_of(folder / marker)
    with disk_errors_named(folder / marker), _exclusive(folder, marker):
        try:
            staging.mkdir()
            yield staging
            files = sorted(staging.iterdir(), key=lambda path: path.name == marker)
            for path in files:
                fsync(path)
            with signals_deferred():
                (folder / marker).unlink(missing_ok=True)
                for path in files:
                    os.replace(path, folder / path.name)
                staging.rmdir()
            fsync(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _exclusive(folder: Path, marker: str) -> Iterator[None]:
    """Be the only one who writes a set into `folder`, and sweep what a killed one left of the set of `marker`.

    Some network disks have no locks for directories: there nobody waits, and nobody sweeps what may be alive.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            sweep(folder, marker)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block, which must not take long, is done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for missed in came:
            signal.raise_signal(missed)


def sweep(folder: Path, beginning: str = "") -> None:
    """Remove our `.part` files and folders whose names begin so; only for who knows that their writers are dead."""
    for part in folder.glob(f"{beginning}*{PART_SUFFIX}"):
        if not _OUR_PART.search(part.name):
            continue
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _part_of(final: Path) -> Path:
    return Path(f"{final}.{os.getpid()}-{next(_NUMBERS) % 2**32:08x}{PART_SUFFIX}")


def atomic_write_bytes(final: Path, data: bytes) -> None:
    """Write `data` as the whole content of `final`.

    As `atomic_path`, in as few system calls as that takes: a download does it 400 times a second.
    """
    part = _part_of(final)
    with disk_errors_named(final):
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(part, final)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)  # noqa: PTH108
            raise


def atomic_write_json(final: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON; what is no UTF-8 in a file's name becomes JSON's own escape."""
    atomic_write_bytes(
        final, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
    )


def indented_json(value: msgspec.Struct) -> bytes:
    """`value` as the files that people may read have it: indented UTF-8 JSON."""
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"


def utc_timestamp() -> str:
    """Now, as every file says when it was written: ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def filesystem_time_ns(folder: Path) -> int:
    """Now, by the clock of the disk that `folder` lies on, as files there have it."""
    with disk_errors_named(folder / "time"), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime_ns


def writable_folder(folder: Path, flag: str) -> Path:
    """Create `folder` where it is missing; a PipelineError names `flag` where it can't be had or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "not writable")
    except OSError as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"the {flag} directory can't be used",
            details=f"{folder}: {error.strerror or error}",
            suggestion=f"name another directory with {flag}, or change its permissions",
        ) from error
    return folder


@contextmanager
def shared_folder(folder: Path, lock_name: str) -> Iterator[None]:
    """Hold a shared lock on `folder` while writing into it; whoever comes first into an unused one sweeps it.

    `.part` files of ours in a folder that nobody holds belong to a process that was killed. The kernel drops the lock
    with its process, so a stale lock can't exist.
    """
    while True:
        with disk_errors_named(folder / lock_name):
            lock = open(folder / lock_name, "a")  # noqa: SIM115  # held by the block below
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # somebody else is writing: their .part files are alive
            else:
                sweep(folder)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if _is_at(lock, folder / lock_name):
                yield
                return


@contextmanager
def sole_holder(path: Path) -> Iterator[None]:
    """Hold the only lock there is on the file `path`, which exists only while somebody does (or was killed).

    Raises Held where another process holds it. Some network disks have no locks: there nobody is kept out.
    """
    with disk_errors_named(path):
        file = _locked(path)
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is still held: nobody else's can lie there


def _locked(path: Path) -> BinaryIO:
    while True:
        file = open(path, "ab")  # noqa: SIM115  # held by who asked
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise Held from None
        except OSError:
            return file
        if _is_at(file, path):
            return file
        file.close()


def _is_at(file: IO[Any], path: Path) -> bool:
    """Whether `file` is still what lies at `path`: its last holder may have removed it while we asked for the lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes `path`, into a PipelineError that says what to do."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> PipelineError:
    free = human_bytes(shutil.disk_usage(path.parent).free) if path.parent.is_dir() else "nothing"
    kind, suggestion = PipelineError, "check that the directory is there and may be written to, or name another"
    if error.errno in NO_SPACE or error.errno is None:
        kind, suggestion = DiskFull, "make room and run the same command again; what was finished is kept"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        suggestion = "allow more open files (ulimit -n 1024), or use fewer --workers"
    return kind.of(
        Category.CONFIGURATION,
        f"{path.parent} can't be written to",
        details=f"{path.name}: {error.strerror or error}; {free} free there",
        suggestion=suggestion,
    )


def fsync(path: Path) -> None:
    """Wait until what was written to the file or folder `path` is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
