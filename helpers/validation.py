"""Is this a whole picture? The one place that decodes, for download, build and query alike.

Whole means: it is not empty, is a JPEG, PNG or WebP, passes Pillow's `verify()` and then decodes to its last row.
"""

import os
import stat
import struct
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from helpers.errors import first_line
from helpers.talk import human_bytes

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP")
OTHER_PHOTO_FORMATS = ("GIF", "BMP", "TIFF", "AVIF")  # of a query's picture, where Pillow knows them
# Without its plugin HEIC is an error that says so; an MPO is a JPEG
_MORE_SUFFIXES = {".heic", ".heif", ".hif", ".mpo"}
MAX_PICTURE_BYTES = 64_000_000  # of a file
MAX_CARD_BYTES = 8_000_000  # of a server's response; Scryfall's largest has 2 MB
MAX_PIXELS = 120_000_000  # 360 MB decoded: a photograph in a query
MAX_CARD_PIXELS = 24_000_000  # 96 MB decoded: a card scanned at 1,600 dpi; Scryfall's largest has one million

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

# What files begin with, from which byte on -> what it is, and what to do. The first that fits.
_CONVERT = "save it as JPEG or PNG"
_AVIF = f"AVIF; to read that: pip install --upgrade pillow, or {_CONVERT}"
_FRAMES = "save frames of it as JPEG, for example: ffmpeg -i FILE -r 2 frame-%d.jpg"
_RAW = "a camera's raw picture; develop it, or take the JPEG beside it"
_HEIF = "HEIC; to read that: pip install pillow-heif"
_MAGIC: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (0, (b"\xff\xd8\xff",), "JPEG"),
    (0, (b"\x89PNG",), "PNG"),
    (8, (b"WEBP",), "WebP"),
    (4, (b"ftypavif", b"ftypavis"), _AVIF),
    (4, (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis", b"ftyphevc", b"ftyphevx"), _HEIF),
    (4, (b"ftypmif1", b"ftypmsf1"), _HEIF),  # HEIC or AVIF: see `kind_of`
    (4, (b"ftypcrx ",), _RAW),  # Canon CR3
    (4, (b"ftyp", b"moov", b"mdat"), f"a video; {_FRAMES}"),  # MP4, MOV, 3GP: whatever brand no picture has
    (0, (b"\x1a\x45\xdf\xa3",), f"a video; {_FRAMES}"),  # Matroska, WebM
    (8, (b"AVI ",), f"a video; {_FRAMES}"),  # RIFF....AVI
    (0, (b"GIF8",), f"GIF; {_CONVERT}"),
    (0, (b"BM",), f"BMP; {_CONVERT}"),
    (8, (b"CR\x02",), _RAW),  # Canon CR2, which begins as a TIFF
    (0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), f"TIFF, or a camera's raw picture; {_CONVERT}"),
    (0, (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"FOVb"), _RAW),
    (0, (b"%PDF",), "PDF; save its pages as pictures, for example: pdftoppm -jpeg FILE page"),
    (0, (b"\0\0\0\x0cJXL ", b"\xff\x0a"), f"JPEG XL; {_CONVERT}"),
    (0, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), f"JPEG 2000; {_CONVERT}"),
    (0, (b"8BPS",), f"Photoshop; {_CONVERT}"),
    (0, (b"\0\0\x01\0",), f"an icon; {_CONVERT}"),
    (0, (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!"), "a packed archive; unpack it"),
)
_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xae\x42\x60\x82"
_WITHOUT_CHECKSUMS = ("JPEG", "WEBP")  # Pillow's verify() does nothing for these

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before the first pixel is decoded
warnings.filterwarnings("ignore", module=r"PIL\.")  # on damaged EXIF data and the like: no reason to reject a picture


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it was read: its bytes and its mtime."""

    data: bytes
    mtime_ns: int


class BrokenImage(Exception):
    """The bytes are not a whole picture; the text says why."""


class NotAPicture(BrokenImage):
    """The bytes are something else; the text, which says what, is the same for all of that kind."""


class UnreadableImage(BrokenImage):
    """The file could not be read, so it may or may not be whole."""


def decode_image(
    data: bytes, *, verify: bool = True, most_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None
) -> Image.Image:
    """Decode `data` to its last row; BrokenImage says what is wrong with it.

    `verify` adds Pillow's check of the file's own structure (checksums of PNG chunks), which decoding skips. A
    JPEG may be decoded at a half, a quarter or an eighth of its size, in less time, if that is `at_least` (width,
    height).
    """
    draft = at_least and ("RGB", at_least)
    return _decoded(data, PICTURE_FORMATS, verify=verify, most_pixels=most_pixels, draft=draft)


def check_image(data: bytes) -> None:
    """Decode the picture of a card to its last row and discard it; BrokenImage says what is wrong with it.

    Takes half the time of `decode_image`, with the same verdict: a JPEG is decoded at an eighth of its size, in grey.
    Every bit of its data is still read and decoded; only arithmetic is skipped, which can't fail.
    """
    _decoded(data, PICTURE_FORMATS, verify=True, most_pixels=MAX_CARD_PIXELS, draft=("L", (1, 1)))


def _decoded(
    data: bytes,
    formats: tuple[str, ...],
    *,
    verify: bool,
    most_pixels: int,
    draft: tuple[str, tuple[int, int]] | None = None,
) -> Image.Image:
    if not data:
        raise NotAPicture("empty file")
    try:
        image = _open(data, formats, most_pixels)
        if verify and image.format not in _WITHOUT_CHECKSUMS:
            image.verify()  # leaves the object unusable: Pillow's docs say to reopen it
            image = _open(data, formats, most_pixels)
        if draft:
            image.draft(*draft)  # affects JPEGs only
        image.load()
    except UnidentifiedImageError:
        kind = "JPEG, PNG or WebP" if formats == PICTURE_FORMATS else "readable"
        raise NotAPicture(f"not a {kind} picture: {_looks_like(data, formats)}") from None
    except DECODE_ERRORS as error:
        raise BrokenImage(f"damaged picture: {first_line(error)}") from error
    return image


def read_image(
    path: Path, *, verify: bool = True, most_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None
) -> Image.Image:
    """`decode_image` for a file; UnreadableImage if it can't be read. FileNotFoundError passes through."""
    return decode_image(read_content(path).data, verify=verify, most_pixels=most_pixels, at_least=at_least)


def read_photo(path: Path) -> Image.Image:
    """`read_image` for a picture that a user asks about: any format that cameras and phones write, its first frame."""
    if os.path.isdir(path):  # noqa: PTH112  # pathlib's raises if a name is too long or forbidden
        raise BrokenImage("a directory")
    return _decoded(read_content(path).data, _photo_formats(), verify=True, most_pixels=MAX_PIXELS)


def is_named_as_photo(name: str) -> bool:
    """Whether a file's name ends as those of pictures that `read_photo` reads."""
    return os.path.splitext(name)[1].lower() in _photo_suffixes()  # noqa: PTH122  # in a folder of thousands


@lru_cache(1)
def _photo_suffixes() -> set[str]:
    formats = _photo_formats()
    return _MORE_SUFFIXES | {suffix for suffix, form in Image.registered_extensions().items() if form in formats}


@lru_cache(1)
def _photo_formats() -> tuple[str, ...]:
    Image.init()
    with suppress(ImportError):
        import pillow_heif  # optional: HEIC, which phones write, is encumbered by patents in some countries

        pillow_heif.register_heif_opener()
    return (*PICTURE_FORMATS, *(name for name in (*OTHER_PHOTO_FORMATS, "HEIF") if name in Image.OPEN))


def check_file(path: Path) -> None:
    """`check_image` for a file; UnreadableImage if it can't be read. FileNotFoundError passes through."""
    check_image(read_content(path).data)


def read_content(path: Path) -> Content:
    """The content of a picture file; UnreadableImage if it can't be read. FileNotFoundError passes through."""
    try:
        with _open_regular(path) as file:
            mtime_ns = os.fstat(file.fileno()).st_mtime_ns  # taken before reading: a later write counts as a change
            return Content(file.read(), mtime_ns)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UnreadableImage(f"can't be read: {getattr(error, 'strerror', None) or error}") from error


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file of a picture's size: a pipe would block, and a sparse file of terabytes fill memory."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_PICTURE_BYTES:
        file.close()
        raise BrokenImage(
            f"larger than {human_bytes(MAX_PICTURE_BYTES)}" if stat.S_ISREG(found.st_mode) else "not a regular file"
        )
    return file


def is_whole_file(path: Path, checked_until_ns: int = 0) -> bool:
    """Whether the picture at `path` is there and whole; it is decoded unless it `is_unchanged`."""
    if is_unchanged(path, checked_until_ns):
        return True
    try:
        check_file(path)  # even if the ends look odd: some encoders leave bytes after the end of the picture
    except (BrokenImage, OSError):
        return False
    return True


def is_unchanged(path: Path, checked_until_ns: int) -> bool:
    """Whether the picture at `path` was last modified before `checked_until_ns`, when it was found whole.

    Later damage (a full disk, a broken copy) shows at its two ends, which are checked: 54,000 files take seconds.
    """
    if not checked_until_ns:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_mtime_ns >= checked_until_ns:
            return False
        size = found.st_size
        return _ends_are_whole(os.pread(descriptor, 12, 0), os.pread(descriptor, 12, max(0, size - 12)), size)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _ends_are_whole(head: bytes, tail: bytes, size: int) -> bool:
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return head.startswith(_BEGINNINGS) and tail.endswith((_JPEG_END, _PNG_END))


def _open(data: bytes, formats: tuple[str, ...], most_pixels: int) -> Image.Image:
    image = Image.open(BytesIO(data), formats=formats)
    width, height = image.size
    if width * height > most_pixels:
        raise BrokenImage(f"{width}x{height} pixels exceed the limit of {most_pixels:,}")
    return image


def kind_of(data: bytes) -> str | None:
    """What kind of picture, video or document the bytes are the beginning of, and what to do; None if not known."""
    for at, beginnings, what in _MAGIC:
        if data[at : at + 16].startswith(beginnings):
            return _AVIF if what is _HEIF and b"avif" in data[8:32] else what  # among the compatible brands
    return None


def _looks_like(data: bytes, formats: tuple[str, ...]) -> str:
    start = data[:512].lstrip().lower()
    if what := kind_of(data):
        name = what.partition(";")[0]
        known = name.upper() in formats or (name == "HEIC" and "HEIF" in formats)
        if formats == PICTURE_FORMATS and "pip install" in what:  # no package makes a card's picture of it
            what = f"{name}; {_CONVERT}"
        return f"it begins like {name}, but is damaged" if known else f"it is {what}"
    if b"<svg" in start:
        return f"it is an SVG drawing; {_CONVERT}"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<")):
        return "it is an HTML or XML page"
    if start.startswith((b"{", b"[")):
        return "it is JSON"
    return f"it begins with {data[:8].hex(' ')}"
