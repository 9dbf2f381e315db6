"""Which picture a row was made of, and how: what tells a later build that it need not be embedded again.

A picture is the same if its URL and its content are. The content is known by the SHA-256 taken when it was embedded;
a file's size and time of change only decide whether it must be read again to compare.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

# One picture: the SHA-1 of its URL (its name in the cache), what was read, and what the file looked like then.
PICTURE = np.dtype([("url_sha1", "V20"), ("sha256", "V32"), ("size", "<i8"), ("mtime_ns", "<i8")])


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a row depends on beside its picture: rows made with other settings can't be mixed with ours."""

    model: str
    weights_sha256: str
    precision: str
    preprocessing: str
    target_size: int
    fit: str
    architecture_sha256: str = ""  # of the image tower's configuration

    def differences(self, ours: Settings) -> list[str]:
        """What is not as in `ours`, for people; rows can be shared where there is nothing.

        What an index of before does not say ("") is not compared.
        """
        names = ((name, getattr(self, name), getattr(ours, name)) for name in Settings.__struct_fields__)
        return [f"{name} was {theirs}, now {our}" for name, theirs, our in names if theirs not in ("", our)]


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it was read: its bytes, and what the file system says of them."""

    data: bytes
    mtime_ns: int

    def picture(self, name: str) -> tuple[bytes, bytes, int, int]:
        """What a row of dtype PICTURE holds of this content under `name` in the cache."""
        digest = hashlib.sha256(self.data, usedforsecurity=False).digest()
        return bytes.fromhex(name.partition(".")[0]), digest, len(self.data), self.mtime_ns


def as_it_is_now(known: Any, path: Path) -> Any:
    """`known`, a record of dtype PICTURE, with the time of change that the file at `path` has now, if that is the same.

    None where the file has another content; OSError where it is not there, or can't be read.
    """
    found = os.stat(path)  # noqa: PTH116  # half the time of pathlib's, half a million times
    if found.st_size != known["size"]:
        return None
    if found.st_mtime_ns != known["mtime_ns"]:
        if sha256_of(path) != known["sha256"].tobytes().hex():
            return None
        known = known.copy()
        known["mtime_ns"] = found.st_mtime_ns
    return known


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


class Finder:
    """Finds rows by the URLs that their pictures have."""

    def __init__(self, pictures: NDArray[Any]) -> None:
        """`pictures` is what the rows were made of, PICTURE [N]."""
        self._order = np.argsort(pictures["url_sha1"], kind="stable")
        self._known = pictures["url_sha1"][self._order]

    def find(self, names: NDArray[np.void]) -> NDArray[np.int64]:
        """The row of each URL whose SHA-1 is in `names` (V20 [M]); -1 where there is none."""
        if not len(self._known):
            return np.full(len(names), -1)
        at = np.minimum(np.searchsorted(self._known, names), len(self._known) - 1)
        return np.where(self._known[at] == names, self._order[at], -1)
