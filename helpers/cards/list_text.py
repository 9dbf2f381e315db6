"""The text of a card list, cut into one piece per card, whatever its compression and white space.

Scryfall's lists are JSON Lines (`*.jsonl.gz`), until 2026-07-20 an array with one object per line. Lists put into the
cache by hand may be anything that JSON allows: an array on one line, indented, or objects one after the other. Any of
them may be gzipped, even twice, as servers do that compress what is compressed. The size is bounded: a list comes from
the network.
"""

import io
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
from isal import igzip
from isal.igzip_lib import IsalError

from helpers.errors import BAD_JSON, Category, PipelineError
from helpers.talk import human_bytes

T = TypeVar("T")

MAX_CARD_TEXT_BYTES = 4_000_000  # the longest card has 100 KB
MAX_EXPANSION = 100  # ratio of text to file; Scryfall's lists expand 8-fold
FREE_TEXT_BYTES = 100_000_000  # up to this size, any ratio is allowed
_LAYERS = 2  # of gzip
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_DAMAGE: tuple[type[Exception], ...] = (EOFError, BadGzipFile, zlib.error, IsalError)  # type: ignore[assignment]
_CHUNK_BYTES = 1 << 18
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]|"', re.DOTALL)  # a string, a bracket, a string's beginning
_BETWEEN = b" \t\r\n,"


class BadText(Exception):
    """The list is damaged, or would fill memory, at `line`."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def iter_decoded(path: Path, decode: Callable[[bytes], T]) -> Iterator[tuple[int, T | Exception]]:
    """Yield the line number of each card and what `decode` makes of it, or raises: one bad card is one bad card.

    Raises BadText if the list is damaged or too large, PipelineError (Configuration Error) if it can't be read.
    """
    for line, value in _values(path):
        try:
            yield line, decode(value)
        except BAD_JSON as error:
            try:
                parts = _split(value)
            except BadText:
                if not isinstance(error, (msgspec.ValidationError, RecursionError)):
                    raise BadText(line, str(error)) from error  # not one card is bad, but the text
                parts = [value]  # a number, say
            if len(parts) == 1:
                yield line, error
                continue
            for part in parts:  # several in a line
                try:
                    yield line, decode(part)
                except BAD_JSON as bad:
                    yield line, bad


def _values(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the JSON text of each card, with its line number. A line that looks like a card is not looked into."""
    splitter = _Splitter()
    try:
        with _opened(path) as (text, size_bytes):
            is_new_line = True
            for piece in _bounded(text, size_bytes, splitter):
                value = piece.strip(_BETWEEN)
                ends = piece[-1:] == b"\n"
                if is_new_line and ends and splitter.is_between and value[:1] == b"{" and value[-1:] == b"}":
                    yield splitter.line, value
                    splitter.line += 1
                else:
                    yield from splitter.feed(piece)
                is_new_line = ends
        splitter.finish()
    except _GZIP_DAMAGE as error:
        raise BadText(splitter.line, f"the gzip data is truncated or damaged: {error}") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _split(text: bytes) -> list[bytes]:
    """The values in a text that is complete; BadText if it is not."""
    splitter = _Splitter()
    values = [value for _, value in splitter.feed(text)]
    splitter.finish()
    return values


class _Splitter:
    """Cuts a text that comes in pieces into JSON values, by its strings and brackets; they are decoded elsewhere."""

    def __init__(self) -> None:
        self.line = 1
        self._text = b""  # from the value that is not complete yet, or what stands between two values
        self._scanned = 0  # of `_text`
        self._depth = 0
        self._in_array = False
        self._in_value = False

    @property
    def is_between(self) -> bool:
        """Whether no value has begun."""
        return not self._text

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield each value that is complete with `piece`, and its line number."""
        self._text += piece
        done = 0
        for token in _TOKEN.finditer(self._text, self._scanned):
            bracket, begin, end = token[0][:1], token.start(), token.end()
            if bracket == b'"':
                if end - begin == 1:
                    break  # the string is not complete
            elif bracket in b"{[":
                if not self._in_value:
                    yield from self._between(done, begin)
                    self._in_value = self._in_array or bracket == b"{"
                    self._in_array |= not self._in_value
                    done = begin if self._in_value else end
                self._depth += 1
            else:
                self._depth -= 1
                if not self._in_value:
                    yield from self._between(done, begin)
                    if self._depth or bracket != b"]":
                        raise BadText(self.line, f"an unexpected {bracket.decode()}")
                    self._in_array, done = False, end
                elif self._depth == self._in_array:
                    yield self.line, self._text[done:end]
                    self.line += self._text.count(b"\n", done, end)
                    self._in_value, done = False, end
            self._scanned = end
        self._drop(done)

    def finish(self) -> None:
        """BadText if the text ends in the middle."""
        if self._in_value or self._depth:
            raise BadText(self.line, "it ends in the middle")
        if self._text:
            raise BadText(self.line, f"no JSON: {self._text[:40].decode(errors='backslashreplace')!r}")

    def _between(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """What stands between two values, if it is not white space: a value of another kind, or no JSON."""
        if value := self._text[begin:end].removeprefix(BOM_UTF8).strip(_BETWEEN):
            yield self.line, value
        self.line += self._text.count(b"\n", begin, end)

    def _drop(self, done: int) -> None:
        """Forget what is done, and white space."""
        rest = self._text[done:]
        if not self._in_value and not rest.removeprefix(BOM_UTF8).strip(_BETWEEN):
            self.line += rest.count(b"\n")
            rest = b""
        self._scanned = max(0, self._scanned - (len(self._text) - len(rest)))
        self._text = rest
        if len(rest) > MAX_CARD_TEXT_BYTES:
            raise BadText(self.line, f"the line is longer than {human_bytes(MAX_CARD_TEXT_BYTES)}")


def _bounded(text: BinaryIO, size_bytes: int, splitter: _Splitter) -> Iterator[bytes]:
    """The lines of a list whose file has `size_bytes`, long ones in pieces; BadText if it is a decompression bomb.

    A card of many lines comes in large pieces: the splitter looks at all it has of a card at each, which would take
    hours for a million lines.
    """
    most_bytes = max(FREE_TEXT_BYTES, MAX_EXPANSION * size_bytes)
    count = 0
    while piece := text.readline(_CHUNK_BYTES) if splitter.is_between else text.read(_CHUNK_BYTES):
        count += len(piece)
        if count > most_bytes:
            reason = f"more than {human_bytes(most_bytes)} of text in a file of {human_bytes(size_bytes)}"
            raise BadText(splitter.line, reason)
        yield piece


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a list and say how long the file is; gzip is decoded if the file begins like gzip, whatever its name."""
    with open(path, "rb") as file:
        size_bytes = path.stat().st_size
        text: BinaryIO = file
        for _ in range(_LAYERS):
            if text.peek(2)[:2] != _GZIP_MAGIC:  # type: ignore[attr-defined]
                break
            text = io.BufferedReader(igzip.IGzipFile(fileobj=text, mode="rb"), _CHUNK_BYTES)  # type: ignore[no-untyped-call]
        yield text, size_bytes


def _unreadable(path: Path, error: OSError) -> PipelineError:
    return PipelineError.of(
        Category.CONFIGURATION,
        "the card list can't be read",
        details=f"{path}: {error.strerror or error}",
        suggestion="run the same command again; another run may just have replaced it with a newer one",
    )
