"""Locks on who may write: shared ones for a folder that several runs use, exclusive ones for a file.

The kernel releases a lock when its process ends, so a lock can't be stale. Some network disks have no locks: nobody is
kept out there.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from helpers.atomic_io import Lock, disk_errors_named, sweep, try_lock
from helpers.errors import Category, PipelineError


class Held(PipelineError):
    """Another process holds the lock (Configuration Error)."""


@contextmanager
def shared_folder(folder: Path, lock_name: str) -> Iterator[None]:
    """Hold a shared lock on `folder` while writing into it; the first to hold it sweeps the folder.

    Our `.part` files in a folder that nobody has locked were left by a process that was killed.
    """
    while True:
        with disk_errors_named(folder / lock_name):
            lock = open(folder / lock_name, "a+")  # noqa: SIM115  # held by the block below; NFS wants to read
        with lock:
            alone = try_lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if alone is Lock.OURS:
                sweep(folder)
            shared = alone if alone is Lock.NONE else try_lock(lock, fcntl.LOCK_SH)
            if shared is Lock.NONE or _is_at(lock, folder / lock_name):
                yield
                return


@contextmanager
def sole_holder(path: Path, held: str, suggestion: str = "wait until it is done, or stop it") -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which exists only during the block (or after a kill).

    Raises Held, with the text `held` and the `suggestion`, if another process holds it.
    """
    with disk_errors_named(path):
        file = _locked(path)
    if file is None:
        raise Held.of(Category.CONFIGURATION, held, details=f"it has locked {path.name}", suggestion=suggestion)
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is still locked, so it can't be another process's


def _locked(path: Path) -> BinaryIO | None:
    while True:
        file = open(path, "ab")  # noqa: SIM115  # closed by the caller
        lock = try_lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is Lock.THEIRS:
            file.close()
            return None
        if lock is Lock.NONE:
            return file
        if _is_at(file, path):
            return file
        file.close()


def _is_at(file: IO[Any], path: Path) -> bool:
    """Whether `file` is still the one at `path`: its last holder may have removed it while we were getting the lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
