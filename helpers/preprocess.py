"""Picture -> square RGB canvas: the way every picture takes to the model, in the index and in a query alike."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from helpers.validation import DECODE_ERRORS

BACKGROUND = (0, 0, 0)  # behind transparent corners and beside a padded card: the colour of most card borders


@dataclass(frozen=True, slots=True)
class Preparation:
    """What happens to a picture before the model's own preprocessing; part of what makes two vectors comparable."""

    size: int  # side of the canvas, pixels
    fit: str  # "pad": the whole card between black bars; "crop": its centre square

    def apply(self, image: Image.Image) -> Image.Image:
        """Return `image` upright, opaque, as RGB, `size` x `size` pixels."""
        image = _opaque_rgb(_upright(image))
        square = (self.size, self.size)
        if self.fit == "crop":
            return ImageOps.fit(image, square, Image.Resampling.BICUBIC)
        return ImageOps.pad(image, square, Image.Resampling.BICUBIC, color=BACKGROUND)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says; as it is where those are damaged: that is no reason to lose a picture."""
    try:
        return ImageOps.exif_transpose(image)
    except DECODE_ERRORS:
        return image


def _opaque_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(backdrop, image).convert("RGB")
    return image.convert("RGB")
