"""A picture's difference hash, a second signature: cheap, exact on copies, and deaf to what the model has learned.

The same bits as `dhash(picture, hash_size=16)` of the PyPI package imagehash, so that hashes can be compared with
anyone's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 16
HASH_BITS = _SIDE * _SIDE
HASH_BYTES = HASH_BITS // 8

# The part of meta.json that says what dhash.u8bin holds.
DHASH: dict[str, Any] = {
    "bits": HASH_BITS,
    "note": f"uint8 [N, {HASH_BYTES}], row-major: {_SIDE} rows of {_SIDE} bits, a byte's most significant bit first; a "
    f"bit is set where a pixel is brighter than its left neighbour in the picture's greys (Pillow's L), resized to "
    f"{_SIDE + 1}x{_SIDE} with Lanczos; the distance of two hashes is the number of bits that differ",
}


def dhash(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the hash of a picture as `preprocess.as_seen` returns it, uint8 [32]; thread-safe."""
    return hash_of(thumbnail(picture))


def hash_of(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the hash of what `thumbnail` returned, uint8 [32]."""
    return np.packbits(levels[:, 1:] > levels[:, :-1])


def thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    """What the hash is taken of: the picture's greys, uint8 [16, 17]."""
    return np.asarray(picture.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS))


def contrast(levels: NDArray[np.uint8]) -> float:
    """How much the neighbours differ that the hash compares, on average, of 255: by one or less, that is noise."""
    return float(np.abs(np.diff(levels.astype(np.int16), axis=1)).mean())
