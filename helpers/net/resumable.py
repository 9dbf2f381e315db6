"""A large file downloaded in pieces, over several runs if need be.

On disk, beside the final name: `<name>.part`, the bytes so far, and `<name>.origin.part`, the URL and ETag that they
came from. Bytes of unknown origin are not used.
"""

import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from helpers.artifacts import PART_SUFFIX
from helpers.atomic_io import atomic_write_json, disk_errors_named, fsync
from helpers.errors import BAD_JSON

_HEAD_BYTES = 1024  # enough to tell what is packed in a gzip file


class _Origin(msgspec.Struct):
    url: str
    etag: str


class Resumable:
    """A partial download of `url` that is to become `final`. For one process at a time: the caller holds a lock.

    Raises PipelineError (Configuration Error) if the disk can't be written to.
    """

    def __init__(self, final: Path, url: str) -> None:
        self.final, self.url = final, url
        self.part = final.with_name(final.name + PART_SUFFIX)
        self._origin = final.with_name(f"{final.name}.origin{PART_SUFFIX}")
        self._file: BinaryIO | None = None
        self.size = self.part.stat().st_size if self.part.is_file() else 0  # bytes so far
        self.furthest = self.size  # the largest `size` in this run
        self.head = b""  # its first bytes
        if self.size:
            with disk_errors_named(final), open(self.part, "rb") as file:
                self.head = file.read(_HEAD_BYTES)

    def etag(self) -> str | None:
        """The ETag of the version that the bytes so far belong to; None if there are none or it is unknown."""
        try:
            origin = msgspec.json.decode(self._origin.read_bytes(), type=_Origin)
        except (OSError, *BAD_JSON):
            return None
        return origin.etag if origin.url == self.url and self.size else None

    def begin(self, etag: str | None) -> None:
        """Start over with version `etag`; only a strong ETag allows resuming (RFC 9110, 13.1.5)."""
        self.discard()
        if etag and not etag.startswith("W/"):
            atomic_write_json(self._origin, _Origin(self.url, etag))

    def write(self, chunk: bytes) -> None:
        """Append `chunk`."""
        with disk_errors_named(self.final):
            if self._file is None:
                self._file = open(self.part, "ab")  # noqa: SIM115  # until `pause`
            self._file.write(chunk)
        self.head += chunk[: _HEAD_BYTES - len(self.head)]
        self.size += len(chunk)
        self.furthest = max(self.furthest, self.size)

    def pause(self) -> None:
        """Close the file; a later `write` appends to it."""
        if self._file is not None:
            with disk_errors_named(self.final):
                file, self._file = self._file, None
                file.close()

    def discard(self) -> None:
        """Delete what has arrived so far."""
        self.pause()
        self.size, self.head = 0, b""
        with disk_errors_named(self.part):
            self.part.unlink(missing_ok=True)
            self._origin.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the complete file its final name."""
        self.pause()
        with disk_errors_named(self.final):
            fsync(self.part)
            os.replace(self.part, self.final)
            self._origin.unlink(missing_ok=True)
