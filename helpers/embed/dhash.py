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
    grey = picture.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
    levels = np.asarray(grey)
    return np.packbits(levels[:, 1:] > levels[:, :-1])
