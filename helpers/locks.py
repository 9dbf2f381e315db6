"""Who may write: a folder that several runs share, or a file that only one may hold.

The kernel drops a lock with its process, so a stale lock can't exist. Some network disks have no locks: there nobody is
kept out.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from helpers.atomic_io import disk_errors_named, sweep
from helpers.errors import Category, PipelineError


class Held(PipelineError):
    """Another process holds the lock (Configuration Error)."""


@contextmanager
def shared_folder(folder: Path, lock_name: str) -> Iterator[None]:
    """Hold a shared lock on `folder` while writing into it; the first to hold it sweeps it.

    `.part` files of ours in a folder that nobody holds belong to a process that was killed.
    """
    while True:
        with disk_errors_named(folder / lock_name):
            lock = open(folder / lock_name, "a")  # noqa: SIM115  # held by the block below
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # somebody else is writing: their .part files are in use
            else:
                sweep(folder)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if _is_at(lock, folder / lock_name):
                yield
                return


@contextmanager
def sole_holder(path: Path, held: str, suggestion: str = "wait until it is done, or stop it") -> Iterator[None]:
    """Hold the only lock on the file `path`, which exists only meanwhile (or after a kill).

    Raises Held, which says `held` and what to do, where another process holds it.
    """
    with disk_errors_named(path):
        file = _locked(path)
    if file is None:
        raise Held.of(Category.CONFIGURATION, held, details=f"it has locked {path.name}", suggestion=suggestion)
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is still locked: nobody else's can lie there


def _locked(path: Path) -> BinaryIO | None:
    while True:
        file = open(path, "ab")  # noqa: SIM115  # held by who asked
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:
            return file
        if _is_at(file, path):
            return file
        file.close()


def _is_at(file: IO[Any], path: Path) -> bool:
    """Whether `file` still lies at `path`: its last holder may have removed it while we asked for the lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
