"""Pictures for tests, whole and broken in every way that users meet."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(form: str = "JPEG", size: tuple[int, int] = (120, 168), seed: int = 0, mode: str = "RGB") -> bytes:
    """A whole picture of blurred noise, as the bytes of its file."""
    noise = np.random.default_rng(seed).integers(0, 256, (21, 15, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA").convert(mode).resize(size, Image.Resampling.BICUBIC)
    made = BytesIO()
    image.save(made, form)
    return made.getvalue()


def with_wrong_checksum() -> bytes:
    """A PNG whose pixels are whole; a checksum beside them is not, which only `verify()` sees."""
    data = encoded("PNG")
    end = data.rindex(b"IEND") - 4
    return data[:end] + b"\x00\x00\x00\x02tEXtab" + b"\x00\x00\x00\x00" + data[end:]


def claiming_to_be(width: int, height: int, form: str) -> bytes:
    """A small file whose header says that it is a picture of that size."""
    data = bytearray(encoded(form))
    if form == "JPEG":
        frame = data.index(b"\xff\xc0") + 5
        data[frame : frame + 4] = struct.pack(">HH", height, width)
    else:
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
BROKEN = {
    "HTML page": HTML,
    "truncated": encoded("PNG")[:60],
    "empty": b"",
    "wrong type": encoded("GIF"),
    "decodes only half": encoded(seed=5)[: len(encoded(seed=5)) // 2],
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
