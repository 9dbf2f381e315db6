"""Picture -> square RGB canvas: the same for every picture, in the index and in queries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from helpers.validation import DECODE_ERRORS

if TYPE_CHECKING:
    import torch

BACKGROUND = (0, 0, 0)  # behind transparent corners and beside a padded card: the colour of most card borders
INTERPOLATION = "bicubic"
_ORIENTATION = 0x0112  # EXIF's tag


@dataclass(frozen=True, slots=True)
class Preparation:
    """What happens to a picture before the model's own preprocessing; part of what makes two vectors comparable."""

    size: int  # side of the canvas, pixels
    fit: str  # "pad": the whole card between black bars; "crop": its centre square

    def apply(self, image: Image.Image) -> torch.Tensor:
        """Return `image` upright and opaque on the canvas, uint8 [3, size, size], channels last in memory.

        torch resizes it, bicubic with antialiasing: in a third of Pillow's time and within 1 of its values when
        shrinking a scan, within 10 when enlarging a thumbnail.
        """
        import torch  # takes seconds; readers of a manifest need this class without it

        pixels = torch.from_numpy(np.array(as_seen(image)))
        height, width = pixels.shape[:2]
        if self.fit == "crop":
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            return _resized(pixels[top : top + side, left : left + side], self.size, self.size).permute(2, 0, 1)
        if height > width:
            inside_height, inside_width = self.size, max(1, round(width / height * self.size))
        else:
            inside_height, inside_width = max(1, round(height / width * self.size)), self.size
        top, left = round((self.size - inside_height) / 2), round((self.size - inside_width) / 2)  # as ImageOps.pad
        canvas = _empty_canvas(self.size).clone()
        canvas[top : top + inside_height, left : left + inside_width] = _resized(pixels, inside_height, inside_width)
        return canvas.permute(2, 0, 1)


@lru_cache(1)
def _empty_canvas(size: int) -> torch.Tensor:
    """The background, uint8 [size, size, 3]: filling it anew takes longer than resizing a card."""
    import torch

    return torch.tensor(BACKGROUND, dtype=torch.uint8).repeat(size, size, 1)


def _resized(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize uint8 [H, W, 3] -> [height, width, 3]."""
    from torchvision.transforms.v2 import functional as transforms

    resized: torch.Tensor = transforms.resize(
        pixels.permute(2, 0, 1),
        [height, width],
        interpolation=transforms.InterpolationMode(INTERPOLATION),
        antialias=True,
    )
    return resized.permute(1, 2, 0)


def as_seen(image: Image.Image) -> Image.Image:
    """Return `image` as a viewer shows it: upright, opaque on BACKGROUND, RGB. It may be `image` itself.

    What it returned it returns unchanged, in no time.
    """
    seen = _opaque_rgb(_upright(image))
    if seen is not image:
        seen.info.clear()  # Pillow leaves some notes on its orientation in place, and would turn it once more
    return seen


def _upright(image: Image.Image) -> Image.Image:
    """Rotated as its EXIF data says; as it is if those are damaged: no reason to lose a picture."""
    try:
        if image.getexif().get(_ORIENTATION, 1) == 1:
            return image  # exif_transpose would copy it
        return ImageOps.exif_transpose(image)
    except DECODE_ERRORS:
        return image


def _opaque_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "La":
        image = image.convert("LA")  # the only mode that Pillow converts it to
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(backdrop, image).convert("RGB")
    return image.convert("RGB")
