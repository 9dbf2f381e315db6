"""The pictures that a command line means: files, directories, and the paths on stdin."""

import codecs
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain

from helpers.errors import Category, PipelineError
from helpers.recognise.query import Answer
from helpers.validation import is_named_as_photo, kind_of


def pictures(images: Sequence[str]) -> Iterator[str | Answer]:
    """The pictures that are meant, as they come, and an error for each directory that has none.

    PipelineError (Invalid Arguments) if stdin is a picture, not paths.
    """
    for image in images:
        for name in _lines_of_stdin() if image == "-" else [image]:
            if os.path.isdir(name):  # noqa: PTH112  # pathlib's raises if a name is too long or forbidden
                yield from _pictures_in(name) or [Answer(name, error="no pictures in it")]
            else:
                yield name


def known_pictures(images: Sequence[str]) -> list[str | Answer]:
    """`pictures`, without stdin, and an error for each that is not there: before a model is loaded."""
    return [
        Answer(one, error="no such file") if isinstance(one, str) and not _is_there(one) else one
        for one in pictures(images)
    ]


def _is_there(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116  # its bytes may not be UTF-8
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        pass  # why it can't be read is told when it is
    return True


def _lines_of_stdin() -> Iterator[str]:
    """The paths on stdin; some editors begin a file with a byte order mark."""
    first = os.fsencode(sys.stdin.readline()).removeprefix(codecs.BOM_UTF8)
    _require_paths(first)
    yield from filter(None, (line.rstrip("\r\n") for line in chain([os.fsdecode(first)], sys.stdin)))


def _require_paths(beginning: bytes) -> None:
    """PipelineError if a line that should be a path is the beginning of a picture: `cat a.jpg | ... -`."""
    what = kind_of(beginning)
    is_text = b"\0" not in beginning
    with suppress(UnicodeDecodeError):
        beginning.decode()
        if is_text:  # a path may begin as some format does: BMW.jpg
            return
    if what:
        raise PipelineError.of(
            Category.INVALID_ARGUMENTS,
            "stdin must be paths of pictures, one a line",
            details=f"it is {what}",
            suggestion="pass the picture's path: query_index.py PICTURE, or echo PICTURE | query_index.py -",
        )


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
