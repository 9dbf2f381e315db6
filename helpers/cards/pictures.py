"""Which picture a row was made of: what tells a later build that it need not be embedded again.

A picture is the same if its URL and its content are. The content is known by the SHA-256 taken when it was embedded;
a file's size and time of change only decide whether it must be read again to compare.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from helpers.validation import Content

# One picture: the SHA-1 of its URL (its name in the cache), what was read, and what the file looked like then. A record
# of zeros stands for no picture at all.
PICTURE = np.dtype([("url_sha1", "V20"), ("sha256", "V32"), ("size", "<i8"), ("mtime_ns", "<i8")])


def picture_of(name: str, content: Content) -> tuple[bytes, bytes, int, int]:
    """The record, of dtype PICTURE, of `content`, which lies under `name` in the cache."""
    digest = hashlib.sha256(content.data, usedforsecurity=False).digest()
    return bytes.fromhex(name.partition(".")[0]), digest, len(content.data), content.mtime_ns


def mtime_if_same(known: Any, path: Path) -> int | None:
    """When the file at `path` was last changed, in ns, if its content is that of `known`, a record of dtype PICTURE.

    None where it is not. The file is only read where size and time do not tell. OSError where it is not there, or can't
    be read.
    """
    found = os.stat(path)  # noqa: PTH116  # half the time of pathlib's, half a million times
    if found.st_size != known["size"]:
        return None
    if found.st_mtime_ns != known["mtime_ns"] and sha256_of(path) != known["sha256"].tobytes().hex():
        return None
    return found.st_mtime_ns


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
