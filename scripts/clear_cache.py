"""Delete what was downloaded into a cache directory: pictures, card lists, the report. All can be downloaded again.

Reads:  image_cache/
Writes: nothing; deletes, and reports what. Other files stay, including list dumps put there by hand
Next:   download_images.py

Exit codes: 0 done; 1 failed, or a download is running; 2 the directory does not exist.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.artifacts import CACHE_LOCK, DOWNLOAD_REPORT, LIST_LOCK
from helpers.atomic_io import disk_errors_named, sweep
from helpers.cards.bulk_list import kept_files
from helpers.cards.image_cache import ImageCache
from helpers.cli_validation import Parser, path
from helpers.ending import run
from helpers.errors import ExitCode
from helpers.talk import Progress, human_bytes


class ClearArgs(argparse.Namespace):
    """The command line."""

    cache: Path


def parse_args(argv: Sequence[str] | None) -> ClearArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.required_option("--cache", path, "DIR", "directory to clear")
    return parser.parse(argv, ClearArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Delete the files this tool put there."""
    cache = ImageCache(parse_args(argv).cache)
    cache.require(ExitCode.NO_DIRECTORY)
    with cache.alone():
        print(clear(cache))
    return ExitCode.OK


def clear(cache: ImageCache) -> str:
    """Delete the files this tool put into `cache`; return a summary."""
    pictures = [picture for picture in cache.pictures() if cache.is_ours(picture)]
    others = [*kept_files(cache.root), *filter(Path.is_file, [cache.root / DOWNLOAD_REPORT, cache.root / LIST_LOCK])]
    size = 0
    with Progress("Deleting", len(pictures) + len(others), "files") as progress:
        for file in (*pictures, *others):
            with disk_errors_named(file):
                size += file.lstat().st_size
                file.unlink()
            progress.advance()
    sweep(cache.root, "[0-9a-f]" * 40 + ".")  # pictures whose download was killed
    left = sum(entry.name != CACHE_LOCK for entry in cache.root.iterdir())
    said = (
        f"Deleted from {cache.root}: {len(pictures):,} pictures, {len(others)} lists and reports, {human_bytes(size)}"
    )
    return said + (f"; {left:,} other files stay" if left else "")


if __name__ == "__main__":
    raise SystemExit(run(main))
