"""The image cache: one file per picture URL, named by the URL, whole under its name or not there."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers.artifacts import CACHE_LOCK, PICTURE_SUFFIXES
from helpers.atomic_io import atomic_write_bytes
from helpers.errors import Category, PipelineError
from helpers.locks import sole_holder
from helpers.validation import is_whole_file


@dataclass(frozen=True, slots=True)
class ImageCache:
    """A folder of pictures, addressed by URL.

    Files that were last changed before `checked_until_ns` (as time.time_ns) are known to be whole, as far as their two
    ends tell; younger ones are decoded when they are looked at.
    """

    root: Path
    checked_until_ns: int = 0

    def require(self, exit_code: int) -> None:
        """PipelineError (Configuration Error) with `exit_code` where there is no such directory."""
        if not os.path.isdir(self.root):  # noqa: PTH112  # pathlib's raises where a name is too long or forbidden
            raise PipelineError.of(
                Category.CONFIGURATION,
                "the image cache does not exist",
                details=f"there is no directory {self.root}",
                suggestion="run download_images.py first, or name the directory it wrote to with --cache",
                exit_code=exit_code,
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no download write into the cache meanwhile; PipelineError (Configuration Error) where one does."""
        lock = self.root / CACHE_LOCK
        if lock.is_symlink() or (lock.exists() and not (lock.is_file() and lock.stat().st_size == 0)):
            raise PipelineError.of(
                Category.CONFIGURATION,
                "this does not look like a cache of downloaded pictures",
                details=f"{lock} is no lock of ours",
                suggestion="check --cache; if it is right, move that file away",
            )
        with sole_holder(lock, f"a download is writing into {self.root}"):
            yield

    @staticmethod
    def name_for(url: str) -> str:
        """The name of the picture of `url`: its SHA-1, with the ending of its path where that is png or webp."""
        path = url.partition("#")[0].partition("?")[0]  # urlsplit takes half the time of all there is to do here
        ending = path[path.rfind(".") :].lower() if path.count("/") > 2 else ""
        ending = ending if ending in (".png", ".webp") else ".jpg"
        return hashlib.sha1(url.encode()).hexdigest() + ending

    def path_for(self, url: str) -> Path:
        """Where the picture of `url` lies."""
        return self.root / self.name_for(url)

    def is_ours(self, file: Path) -> bool:
        """Whether `file` is named as a picture of this cache is."""
        return re.fullmatch(r"[0-9a-f]{40}", file.stem) is not None and file.suffix in PICTURE_SUFFIXES

    def has(self, url: str) -> bool:
        """Whether a whole picture of `url` is there."""
        return is_whole_file(self.path_for(url), self.checked_until_ns)

    def store(self, url: str, data: bytes) -> None:
        """Keep `data`, found whole, as the picture of `url`; PipelineError where the disk does not take it."""
        atomic_write_bytes(self.path_for(url), data)

    def pictures(self) -> Iterator[Path]:
        """Every file, or link to one that may be gone, that bears a picture's name, in no particular order.

        PipelineError (Configuration Error) where the directory can't be read.
        """
        try:
            with os.scandir(self.root) as entries:
                for entry in entries:
                    if entry.name.endswith(PICTURE_SUFFIXES) and (entry.is_symlink() or entry.is_file()):
                        yield Path(entry.path)
        except OSError as error:
            raise PipelineError.of(
                Category.CONFIGURATION,
                "the image cache can't be read",
                details=f"{self.root}: {error.strerror or error}",
                suggestion="change its permissions, or name another directory with --cache",
            ) from error
