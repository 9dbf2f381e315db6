"""Is this a whole picture? The one place that decodes, for the download's door, the build and the query alike.

Whole means: it has bytes, is a JPEG, PNG or WebP, passes Pillow's `verify()` and then decodes to its last row.
"""

import os
import stat
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from helpers.talk import human_bytes

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP")
LARGEST_PICTURE_BYTES = 64_000_000
MOST_PIXELS = 120_000_000  # 360 MB decoded; a card has one million

# What Pillow's decoders are known to raise on damaged data.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# How a JPEG and a PNG begin and end, to tell a cut-off file without decoding it; a WebP says how long it is.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xae\x42\x60\x82"

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before the first pixel is decoded
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged EXIF data and the like: no reason to lose a picture


class BrokenImage(Exception):
    """The bytes are no whole picture; the text says why."""


class UnreadableImage(BrokenImage):
    """The file could not be read, so nobody knows whether it is whole."""


def decode_image(data: bytes, *, verify: bool = True) -> Image.Image:
    """Decode `data` to its last row; BrokenImage says what is wrong with it.

    `verify` adds Pillow's check of the file's own structure (checksums of PNG chunks), which decoding skips over.
    """
    if not data:
        raise BrokenImage("empty file")
    try:
        if verify:
            _open(data).verify()  # leaves the object unusable: the second open is Pillow's own advice
        image = _open(data)
        image.load()
    except UnidentifiedImageError:
        raise BrokenImage(f"not a JPEG, PNG or WebP picture: {_looks_like(data)}") from None
    except DECODE_ERRORS as error:
        raise BrokenImage(f"damaged picture: {error}") from error
    return image


def read_image(path: Path, *, verify: bool = True) -> Image.Image:
    """`decode_image` of a file; UnreadableImage where it can't be read. FileNotFoundError passes."""
    try:
        with _open_regular(path) as file:
            data = file.read()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UnreadableImage(f"can't be read: {getattr(error, 'strerror', None) or error}") from error
    return decode_image(data, verify=verify)


def _open_regular(path: Path) -> BinaryIO:
    """Open a file of a picture's size: a pipe would keep us waiting, and a hole of terabytes fill the memory."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_PICTURE_BYTES:
        file.close()
        raise BrokenImage(
            f"larger than {human_bytes(LARGEST_PICTURE_BYTES)}" if stat.S_ISREG(found.st_mode) else "not a regular file"
        )
    return file


def is_whole_file(path: Path, checked_until_ns: int = 0) -> bool:
    """Whether the picture at `path` is there and whole.

    It is decoded if it was changed at or after `checked_until_ns`. An older one was decoded before, and what happens to
    such a file later (a full disk, a broken copy) shows at its two ends: 54,000 are judged in 15 s this way.
    """
    try:
        with _open_regular(path) as file:
            unchanged = os.fstat(file.fileno()).st_mtime_ns < checked_until_ns
            if unchanged and _ends_are_whole(file):
                return True
        read_image(path)  # also where the ends look odd: some encoders leave bytes behind the end of the picture
    except (BrokenImage, OSError):
        return False
    return True


def _ends_are_whole(file: BinaryIO) -> bool:
    head = file.read(12)
    size = file.seek(0, os.SEEK_END)
    file.seek(-min(size, 12), os.SEEK_END)
    tail = file.read(12)
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return head.startswith(_BEGINNINGS) and tail.endswith((_JPEG_END, _PNG_END))


def _open(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data), formats=PICTURE_FORMATS)
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise BrokenImage(f"{width}x{height} pixels are more than the {MOST_PIXELS:,} that are read")
    return image


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<")):
        return "it is an HTML or XML page"
    if start.startswith((b"{", b"[")):
        return "it is JSON"
    return f"it begins with {data[:8].hex(' ')}"
