"""Which picture a row was made of: what tells a later build that it need not be embedded again.

A picture is the same if its URL and its content are. The content is known by the SHA-256 taken when it was embedded;
a file's size and time of change only decide whether it must be read again to compare.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# One picture: the SHA-1 of its URL (its name in the cache), what was read, and what the file looked like then.
PICTURE = np.dtype([("url_sha1", "V20"), ("sha256", "V32"), ("size", "<i8"), ("mtime_ns", "<i8")])


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

    None where the file has another content, or can't be read.
    """
    try:
        found = os.stat(path)  # noqa: PTH116  # half the time of pathlib's, half a million times
        if found.st_size != known["size"]:
            return None
        if found.st_mtime_ns != known["mtime_ns"]:
            if sha256_of(path) != known["sha256"].tobytes().hex():
                return None
            known = known.copy()
            known["mtime_ns"] = found.st_mtime_ns
    except OSError:
        return None
    return known


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def find_rows(pictures: NDArray[Any], names: NDArray[np.void]) -> NDArray[np.int64]:
    """The row of `pictures` (dtype PICTURE [N]) that is of each URL in `names` (V20 [M]); -1 where there is none."""
    if not len(pictures):
        return np.full(len(names), -1)
    order = np.argsort(pictures["url_sha1"], kind="stable")
    known = pictures["url_sha1"][order]
    at = np.minimum(np.searchsorted(known, names), len(known) - 1)
    return np.where(known[at] == names, order[at], -1)
