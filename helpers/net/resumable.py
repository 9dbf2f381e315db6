"""A large file that is fetched in pieces, over several runs if need be.

On disk, beside its later name: `<name>.part`, the bytes so far, and `<name>.origin.part`, which says of what they are:
the URL and the ETag that the server gave. Bytes of unknown origin are not used.
"""

import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from helpers.artifacts import PART_SUFFIX
from helpers.atomic_io import atomic_write_json, disk_errors_named, fsync
from helpers.errors import BAD_JSON


class _Origin(msgspec.Struct):
    url: str
    etag: str


class Resumable:
    """The pieces of `final`, which are of `url`. For one process at a time: whoever uses it holds a lock.

    Raises PipelineError (Configuration Error) where the disk does not take it.
    """

    def __init__(self, final: Path, url: str) -> None:
        self.final, self.url = final, url
        self.part = final.with_name(final.name + PART_SUFFIX)
        self._origin = final.with_name(f"{final.name}.origin{PART_SUFFIX}")
        self._file: BinaryIO | None = None
        self.size = self.part.stat().st_size if self.part.is_file() else 0  # bytes so far
        self.furthest = self.size  # the most there ever were, in this run

    def etag(self) -> str | None:
        """The version that the bytes so far are of; None where there are none, or nobody knows."""
        try:
            origin = msgspec.json.decode(self._origin.read_bytes(), type=_Origin)
        except (OSError, *BAD_JSON):
            return None
        return origin.etag if origin.url == self.url and self.size else None

    def begin(self, etag: str | None) -> None:
        """Start with the first byte of the version `etag`; only a strong one can be resumed (RFC 9110, 13.1.5)."""
        self.discard()
        if etag and not etag.startswith("W/"):
            atomic_write_json(self._origin, _Origin(self.url, etag))

    def write(self, chunk: bytes) -> None:
        """Append `chunk`."""
        with disk_errors_named(self.final):
            if self._file is None:
                self._file = open(self.part, "ab")  # noqa: SIM115  # until `pause`
            self._file.write(chunk)
        self.size += len(chunk)
        self.furthest = max(self.furthest, self.size)

    def pause(self) -> None:
        """What was written is handed to the disk; more may follow."""
        if self._file is not None:
            with disk_errors_named(self.final):
                file, self._file = self._file, None
                file.close()

    def discard(self) -> None:
        """Forget what came so far."""
        self.pause()
        self.size = 0
        with disk_errors_named(self.part):
            self.part.unlink(missing_ok=True)
            self._origin.unlink(missing_ok=True)

    def finish(self) -> None:
        """The file is whole: it gets its name."""
        self.pause()
        with disk_errors_named(self.final):
            fsync(self.part)
            os.replace(self.part, self.final)
            self._origin.unlink(missing_ok=True)
