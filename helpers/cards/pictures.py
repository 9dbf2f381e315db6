"""Which picture a row was made from, so that a later build knows whether to embed it again.

A picture is unchanged if its URL and its content are. The content is identified by its SHA-256 when it was embedded;
a file's size and mtime only decide whether it must be read again to compare.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from helpers.validation import Content

# One picture: the SHA-1 of its URL (its name in the cache), the SHA-256 of its content, and the file's size and mtime
# then. A record of zeros means no picture.
PICTURE = np.dtype([("url_sha1", "V20"), ("sha256", "V32"), ("size", "<i8"), ("mtime_ns", "<i8")])


def url_sha1(url: str) -> bytes:
    """The SHA-1 of a URL, 20 bytes."""
    return hashlib.sha1(url.encode(), usedforsecurity=False).digest()


def picture_of(url: str, content: Content) -> tuple[bytes, bytes, int, int]:
    """The record, of dtype PICTURE, of `content`, the picture of `url`."""
    digest = hashlib.sha256(content.data, usedforsecurity=False).digest()
    return url_sha1(url), digest, len(content.data), content.mtime_ns


def mtime_if_same(known: Any, path: Path) -> int | None:
    """The mtime, in ns, of the file at `path` if its content is that of `known`, a record of dtype PICTURE; else None.

    The file is read only if its size and mtime do not settle it. OSError if it is missing or can't be read.
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
