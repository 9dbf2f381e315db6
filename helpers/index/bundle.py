"""bundle.json: what an export consists of, so that a client can fetch, verify and keep each file.

Records and rows may be split into parts, for a progressive start; files may have compressed copies beside them.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec

from helpers.artifacts import IndexFolder
from helpers.cards.pictures import sha256_of
from helpers.errors import BAD_JSON
from helpers.talk import Progress

ENCODER_PRECISIONS = ("fp32", "fp16", "int8")  # of its weights, as they are stored
SUFFIXES = {"gzip": ".gz", "brotli": ".br"}  # of compressed copies, as servers look for them
_GAIN = 0.05  # share of a file that a compressed copy must save: less is not worth a client's time
_BLOCK = 1_000_000  # bytes
_BROTLI_QUALITY = 9  # of 11, which takes ten times as long for a few percent


@dataclass(frozen=True, slots=True)
class How:
    """What is exported besides the contract's files, and how."""

    fields: tuple[str, ...] = ()  # of the records, besides those that clients need; empty: all
    compress: tuple[str, ...] = ()  # of SUFFIXES
    rows_per_file: int | None = None  # None: all in one


PLAIN = How()


class Copy(msgspec.Struct, frozen=True):
    """A compressed copy."""

    path: str
    bytes: int


class BundleFile(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A file of the export."""

    path: str
    role: str
    bytes: int = -1
    sha256: str = ""
    rows: tuple[int, int] | None = None  # the first and one past the last
    gzip: Copy | None = None
    brotli: Copy | None = None
    precision: str | None = None
    cosine: dict[str, float] | None = None  # of its vectors to torch's: least, mean, of so many pictures


class Encoder(msgspec.Struct, frozen=True):
    """The encoder's files, and the vector, float32 [D], of the reference picture."""

    files: list[BundleFile]
    reference: list[float]


class _Bundle(msgspec.Struct, frozen=True):
    """What tells our bundle.json from others."""

    quantization: dict[str, Any]
    files: list[BundleFile]


def listed(folder: IndexFolder) -> set[str]:
    """The names of the export that bundle.json lists, its own among them; none if it is missing, or is not ours."""
    try:
        bundle = msgspec.json.decode(folder.browser_bundle.read_bytes(), type=_Bundle)
    except (FileNotFoundError, *BAD_JSON):
        return set()
    files = [part for file in bundle.files for part in (file, file.gzip, file.brotli) if part]
    return {folder.browser_bundle.name} | {file.path for file in files if folder.is_browser_file(file.path)}


def split(path: Path, row_bytes: int, count: int, rows_per_file: int) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Write parts of `path`, `count` rows of `row_bytes` each, beside it; yield each part and its rows."""
    with open(path, "rb") as file:
        for part, rows in _parts(partial(IndexFolder.browser_part, path), count, rows_per_file):
            part.write_bytes(file.read((rows[1] - rows[0]) * row_bytes))
            yield part, rows


def split_records(
    folder: IndexFolder, lines: Callable[[int, int], Iterator[bytes]], count: int, rows_per_file: int
) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Write the records, as `lines(first, end)` gives them, in parts into `folder`; yield each part and its rows."""
    for part, rows in _parts(folder.browser_records, count, rows_per_file):
        with open(part, "wb") as file:
            file.write(b'{"records":[\n')
            file.writelines(lines(*rows))
            file.write(b"\n]}\n")
        yield part, rows


def _parts(name: Callable[[int], Path], count: int, rows_per_file: int) -> Iterator[tuple[Path, tuple[int, int]]]:
    for number, first in enumerate(range(0, count, rows_per_file)):
        yield name(number), (first, min(first + rows_per_file, count))


def described(files: Sequence[BundleFile], folder: Path, compress: Sequence[str]) -> list[BundleFile]:
    """The files in `folder` with size, SHA-256, and the compressed copies that are made beside them."""
    blocks = sum(-(-(folder / file.path).stat().st_size // _BLOCK) for file in files)
    with Progress("Compressing", blocks * len(compress), "MB") as progress:
        return [_described(file, folder, compress, progress) for file in files]


def _described(file: BundleFile, folder: Path, compress: Sequence[str], progress: Progress) -> BundleFile:
    path = folder / file.path
    size = path.stat().st_size
    copies: dict[str, Any] = {}
    for how in compress:
        copy = path.with_name(path.name + SUFFIXES[how])
        with open(path, "rb") as plain, open(copy, "wb") as packed:
            _COMPRESSED[how](plain, packed, progress)
        packed_size = copy.stat().st_size
        if packed_size > (1 - _GAIN) * size:
            copy.unlink()
        else:
            copies[how] = Copy(copy.name, packed_size)
    return msgspec.structs.replace(file, bytes=size, sha256=sha256_of(path), **copies)


def _blocks(plain: IO[bytes], progress: Progress) -> Iterator[bytes]:
    while block := plain.read(_BLOCK):
        yield block
        progress.advance()


def _gzip(plain: IO[bytes], packed: IO[bytes], progress: Progress) -> None:
    # Without a name and a time, the same content gives the same bytes
    with gzip.GzipFile("", "wb", zlib.Z_BEST_COMPRESSION, packed, mtime=0) as stream:
        stream.writelines(_blocks(plain, progress))


def _brotli(plain: IO[bytes], packed: IO[bytes], progress: Progress) -> None:
    import brotli  # only where it is asked for

    compressor = brotli.Compressor(quality=_BROTLI_QUALITY, lgwin=24)
    packed.writelines(compressor.process(block) for block in _blocks(plain, progress))
    packed.write(compressor.finish())


_COMPRESSED: dict[str, Callable[[IO[bytes], IO[bytes], Progress], None]] = {"gzip": _gzip, "brotli": _brotli}
