"""A picture's perceptual hash, a baseline: what most card scanners use.

The same bits as `phash(picture, hash_size=16)` of the PyPI package imagehash.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 16
_FINE = 4 * _SIDE  # pixels a side that the cosine transform sees


def phash(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the hash of a picture as `preprocess.as_seen` returns it, uint8 [32]; thread-safe.

    A bit is set where one of the 16 x 16 lowest frequencies of its greys is above their median.
    """
    greys = np.asarray(picture.convert("L").resize((_FINE, _FINE), Image.Resampling.LANCZOS), np.float64)
    low = cv2.dct(greys)[:_SIDE, :_SIDE]
    low[0] *= np.sqrt(2)  # OpenCV's transform is orthonormal, imagehash's is not
    low[:, 0] *= np.sqrt(2)
    return np.packbits(low > np.median(low))
