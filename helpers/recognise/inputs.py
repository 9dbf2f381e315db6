"""The pictures that a command line means: files, directories, and the paths on stdin."""

import os
import sys
from collections.abc import Iterator, Sequence

from helpers.recognise.query import Answer
from helpers.validation import is_named_as_photo


def pictures(images: Sequence[str]) -> Iterator[str | Answer]:
    """The pictures that are meant, as they come, and an error for each directory that has none."""
    for image in images:
        for name in filter(None, (line.rstrip("\r\n") for line in sys.stdin)) if image == "-" else [image]:
            if os.path.isdir(name):  # noqa: PTH112  # pathlib's raises if a name is too long or forbidden
                yield from _pictures_in(name) or [Answer(name, error="no pictures in it")]
            else:
                yield name


def _pictures_in(folder: str) -> list[str | Answer]:
    """The pictures in a directory and those below it, by name, without hidden ones; and what can't be read."""
    found: list[str | Answer] = []

    def unreadable(error: OSError) -> None:
        found.append(Answer(error.filename, error=f"can't be read: {error.strerror}"))

    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith(".") and is_named_as_photo(name))
        found += [os.path.join(root, name) for name in names]  # noqa: PTH118  # its bytes may not be UTF-8
    return found
