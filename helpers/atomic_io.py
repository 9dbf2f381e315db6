"""A file is either complete under its name or absent: write a temporary file, fsync, replace.

Temporary names end in `.part`, which readers ignore. A set of files changes as one: the next run completes a swap that
was interrupted.
"""

import errno
import fcntl
import glob
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import IO, Any

import msgspec

from helpers.artifacts import PART_SUFFIX
from helpers.errors import NO_SPACE, Category, DiskFull, PipelineError
from helpers.talk import human_bytes

_OUR_PART = re.compile(rf"\.\d+-[0-9a-f]{{8}}{re.escape(PART_SUFFIX)}$")  # others may keep their own .part files here
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # numpy, on a full disk, without an errno
SWAP_SUFFIX = ".swap"  # a complete set that is being moved into place
_NUMBERS = itertools.count(secrets.randbits(32))  # other machines that share the disk may have our process ID


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `final` if the block succeeds and is removed if it fails.

    The temporary name is unique, so two writers of one file never mix bytes: the last one wins. Raises PipelineError
    (Configuration Error) if it can't be written.
    """
    part = _part_of(final)
    with disk_errors_named(final):
        try:
            yield part
            fsync(part)
            os.replace(part, final)
        except BaseException:
            with suppress(OSError):  # the folder itself may be gone
                part.unlink()
            raise


@contextmanager
def atomic_set(
    folder: Path, marker: str, *after: str, around: Callable[[Path], AbstractContextManager[object]] = nullcontext
) -> Iterator[Path]:
    """Yield an empty staging folder inside `folder`; the files written to it replace those in `folder` as a set.

    `marker` names the file that vouches for the set, `after` others that do so for readers of their own. Once the block
    succeeds and all is on disk, the staging folder becomes `<marker>.swap`; then the old markers are removed and the
    files move into place, the new markers last. Whenever this is killed, a marker that exists belongs to its files, and
    `complete_set` finishes a swap that has begun. If the block fails, the old files stay as they were. Two writers of
    one folder take turns to swap, each within `around(staging)`: what it raises on entering leaves all as it was.
    """
    staging = _part_of(folder / marker)
    with disk_errors_named(folder / marker), ExitStack() as held:
        with _locked(folder) as alone:
            if alone:
                sweep(folder, marker)
            complete_set(folder, marker, *after)
            staging.mkdir()
            held.enter_context(_locked(staging))  # so that nobody sweeps it
        try:
            yield staging
            for path in (*staging.iterdir(), staging):
                fsync(path)
            with _locked(folder), signals_deferred(), around(staging):
                os.replace(staging, folder / f"{marker}{SWAP_SUFFIX}")
                fsync(folder)
                complete_set(folder, marker, *after)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def atomic_result(final: Path) -> Iterator[Path]:
    """Yield a path, of `final`'s name, to write a file or a folder to; it replaces `final` if the block succeeds.

    Unlike `atomic_path`, what a killed writer leaves is removed by the next one. A file replaces a file at once; for a
    moment between an old folder and a new one, there is none. Raises PipelineError (Configuration Error) if it can't
    be written.
    """
    staging, folder = _part_of(final), final.parent
    with disk_errors_named(final), ExitStack() as held:
        with _locked(folder) as alone:
            if alone:
                sweep(folder, f"{glob.escape(final.name)}.")
            staging.mkdir()
            held.enter_context(_locked(staging))  # so that nobody sweeps it
        made = staging / final.name
        try:
            yield made
            for path in (made, *made.rglob("*")):
                fsync(path)
            with _locked(folder), signals_deferred():
                if final.is_dir():
                    os.replace(final, staging / "old")
                os.replace(made, final)
                fsync(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def complete_set(folder: Path, marker: str, *after: str) -> None:
    """Finish the swap of the set of `marker` if it was interrupted; the caller must be the only writer in `folder`."""
    swap = folder / f"{marker}{SWAP_SUFFIX}"
    if not swap.is_dir():
        return
    markers = ("", marker, *after)  # every other file comes before them
    with disk_errors_named(folder / marker), signals_deferred():
        for name in markers[1:]:
            if (swap / name).exists():  # else the new one is in place
                (folder / name).unlink(missing_ok=True)
        for path in sorted(swap.iterdir(), key=lambda path: markers.index(path.name) if path.name in markers else 0):
            os.replace(path, folder / path.name)
        swap.rmdir()
        fsync(folder)


class Lock(Enum):
    """Who holds a lock that we tried to take; nobody where the disk has none, as some network disks."""

    OURS = 1
    THEIRS = 2
    NONE = 3


def try_lock(file: int | IO[Any], operation: int) -> Lock:
    """Call flock. Any call may find that there are no locks, even after one that took one (NFS: ENOLCK)."""
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return Lock.THEIRS
    except OSError:
        return Lock.NONE
    return Lock.OURS


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock on a folder; yields False if there are none, as on some network disks: there nobody waits."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield try_lock(descriptor, fcntl.LOCK_EX) is Lock.OURS
    finally:
        os.close(descriptor)


def _is_locked(folder: Path) -> bool:
    """Whether somebody holds the lock on a folder, or may do so: there are no locks, or the folder has just gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return True
    try:
        return try_lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) is not Lock.OURS
    finally:
        os.close(descriptor)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM until the block, which must be short, is done."""
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
    """Remove our `.part` files and folders whose names start with `beginning`; only safe if their writers are dead."""
    for part in folder.glob(f"{beginning}*{PART_SUFFIX}"):
        if not _OUR_PART.search(part.name):
            continue
        if part.is_dir():
            if not _is_locked(part):
                shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _part_of(final: Path) -> Path:
    return Path(f"{final}.{os.getpid()}-{next(_NUMBERS) % 2**32:08x}{PART_SUFFIX}")


def atomic_write_bytes(final: Path, data: bytes) -> None:
    """Write `data` as the whole content of `final`.

    Like `atomic_path`, in as few system calls as possible: a download does this 400 times a second.
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
    """Write `value`, msgspec structs or plain data, as a JSON file."""
    atomic_write_bytes(final, json_text(value))


def json_text(value: Any) -> bytes:
    """`value` as our JSON files hold it: indented UTF-8; bytes of a file name that are not UTF-8 are escaped."""
    text = json.dumps(msgspec.to_builtins(value, str_keys=True), indent=2, ensure_ascii=False) + "\n"
    try:
        text.encode(errors="surrogateescape").decode()
    except UnicodeError:
        return text.encode(errors="backslashreplace")
    return text.encode(errors="surrogateescape")


def utc_timestamp() -> str:
    """The current time as our files record it: ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def filesystem_time_ns(folder: Path) -> int:
    """The current time by the clock of the disk that holds `folder`, comparable to mtimes there."""
    with disk_errors_named(folder / "time"), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime_ns


def require_replaceable(path: Path, what: str, suggestion: str) -> None:
    """Raise PipelineError, before hours of work, if `path` is something other than a file that may be replaced."""
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"{what} can't be written",
            details=f"{path} is a directory, a link or a device",
            suggestion=suggestion,
        )


def writable_folder(folder: Path, flag: str) -> Path:
    """Create `folder` if it is missing; a PipelineError names `flag` if it can't be created or written to."""
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
def disk_errors_named(path: Path) -> Iterator[None]:
    """Turn an OSError from the block, which writes `path`, into a PipelineError that says what to do."""
    try:
        yield
    except BrokenPipeError:
        raise  # not the disk: the reader of what the block prints has left
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> PipelineError:
    if isinstance(error.filename, str) and path.parent.absolute() not in Path(error.filename).absolute().parents:
        return PipelineError.of(  # the block also read something, or used the system's folder for temporary files
            Category.CONFIGURATION,
            f"{error.filename} can't be used",
            details=error.strerror or str(error),
            suggestion="check that it exists and that you may read it",
        )
    free = human_bytes(shutil.disk_usage(path.parent).free) if path.parent.is_dir() else "nothing"
    kind, suggestion = PipelineError, "check that the directory exists and is writable, or name another"
    if error.errno in NO_SPACE or _SHORT_WRITE.match(str(error)):
        kind, suggestion = DiskFull, "make room and run the same command again; what was finished is kept"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        suggestion = "allow more open files (ulimit -n 1024), or use fewer --workers"
    elif error.errno in (None, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT):
        suggestion = "run the same command again; if it fails again, check the disk, or the connection to it"
    return kind.of(
        Category.CONFIGURATION,
        f"{path.parent} can't be written to",
        details=f"{path.name}: {error.strerror or error}; {free} free there",
        suggestion=suggestion,
    )


def fsync(path: Path) -> None:
    """Wait until what was written to the file or folder `path` is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise  # some network disks can't do it for folders, and need not
    finally:
        os.close(descriptor)
