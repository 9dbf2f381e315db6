"""The image cache: one file per picture URL, named after the URL, either whole or absent.

A folder of one's own pictures is read in the same way: a relative URL is the path of its file.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from helpers.artifacts import CACHE_LOCK, PICTURE_SUFFIXES
from helpers.atomic_io import atomic_write_bytes
from helpers.errors import Category, PipelineError
from helpers.locks import sole_holder
from helpers.validation import is_whole_file


@dataclass(frozen=True, slots=True)
class ImageCache:
    """A folder of pictures, addressed by URL.

    Files last modified before `checked_until_ns` (as time.time_ns) are taken to be whole if both their ends look right;
    newer ones are decoded to check them.
    """

    root: Path
    checked_until_ns: int = 0

    @property
    def exists(self) -> bool:
        """Whether there is such a directory."""
        return os.path.isdir(self.root)  # noqa: PTH112  # pathlib's raises if a name is too long or forbidden

    def require(self, exit_code: int) -> None:
        """Raise PipelineError (Configuration Error) with `exit_code` if there is no such directory."""
        if not self.exists:
            raise PipelineError.of(
                Category.CONFIGURATION,
                "the image cache does not exist",
                details=f"there is no directory {self.root}",
                suggestion="run download_images.py first, or name the directory it wrote to with --cache",
                exit_code=exit_code,
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep downloads out of the cache during the block; PipelineError (Configuration Error) if one is running."""
        lock = self.root / CACHE_LOCK
        if lock.is_symlink() or (lock.exists() and not (lock.is_file() and lock.stat().st_size == 0)):
            raise PipelineError.of(
                Category.CONFIGURATION,
                "this does not look like a cache of downloaded pictures",
                details=f"{lock} is not a lock of this tool",
                suggestion="check --cache; if it is right, move that file away",
            )
        with sole_holder(lock, f"a download is writing into {self.root}"):
            yield

    @staticmethod
    def name_for(url: str) -> str:
        """The file name for the picture at `url`: the URL's SHA-1 and .png or .webp if its path ends so, else .jpg."""
        path = url.partition("#")[0].partition("?")[0]  # urlsplit would take half of all the time spent here
        ending = path[path.rfind(".") :].lower() if path.count("/") > 2 else ""
        ending = ending if ending in (".png", ".webp") else ".jpg"
        return hashlib.sha1(url.encode()).hexdigest() + ending

    def path_for(self, url: str) -> Path:
        """The path of the picture of `url`."""
        own = Path(os.fsdecode(unquote_to_bytes(url))) if self.is_own(url) else Path()
        is_inside = own.parts and not own.is_absolute() and ".." not in own.parts
        return self.root / (own if is_inside else self.name_for(url))

    @staticmethod
    def is_own(url: str) -> bool:
        """Whether `url` is a path in a folder of one's own pictures."""
        return "://" not in url

    def is_ours(self, file: Path) -> bool:
        """Whether `file` is named like a picture of this cache."""
        return re.fullmatch(r"[0-9a-f]{40}", file.stem) is not None and file.suffix in PICTURE_SUFFIXES

    def has(self, url: str) -> bool:
        """Whether the picture of `url` is there and whole."""
        return is_whole_file(self.path_for(url), self.checked_until_ns)

    def store(self, url: str, data: bytes) -> None:
        """Store `data`, already checked, as the picture of `url`; PipelineError if it can't be written."""
        atomic_write_bytes(self.path_for(url), data)

    def pictures(self) -> Iterator[Path]:
        """Every file with a picture's name, or link (even a dangling one), in no particular order.

        Hidden files are not ours: macOS leaves a ._a.jpg beside each a.jpg on exFAT and SMB.

        Raises PipelineError (Configuration Error) if the directory can't be read.
        """
        try:
            with os.scandir(self.root) as entries:
                for entry in entries:
                    is_picture = entry.name.endswith(PICTURE_SUFFIXES) and not entry.name.startswith(".")
                    if is_picture and (entry.is_symlink() or entry.is_file()):
                        yield Path(entry.path)
        except OSError as error:
            raise PipelineError.of(
                Category.CONFIGURATION,
                "the image cache can't be read",
                details=f"{self.root}: {error.strerror or error}",
                suggestion="change its permissions, or name another directory with --cache",
            ) from error
