"""A file is either whole under its name or not there: write beside, fsync, replace.

Temporary names end in `.part`, which no reader looks at. `shared_folder` lets several processes write into one
folder and lets the one that is alone in it sweep what a killed one left.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.artifacts import PART_SUFFIX
from helpers.errors import Category, PipelineError


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `final` when the block ends well and is gone when it does not.

    The temporary name is unique, so that two writers of one file never share bytes: the last one wins, whole.
    """
    part = final.with_name(f"{final.name}.{os.getpid()}-{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        yield part
        _fsync(part)
        os.replace(part, final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def atomic_write_bytes(final: Path, data: bytes) -> None:
    """Write `data` as the whole content of `final`."""
    with atomic_path(final) as part:
        part.write_bytes(data)


def atomic_write_json(final: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON."""
    atomic_write_bytes(final, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


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

    `.part` files in a folder that nobody holds belong to a process that was killed. The kernel drops the lock
    with its process, so a stale lock can't exist.
    """
    with open(folder / lock_name, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # somebody else is writing: their .part files are alive
        else:
            for part in folder.glob(f"*{PART_SUFFIX}"):
                part.unlink(missing_ok=True)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
