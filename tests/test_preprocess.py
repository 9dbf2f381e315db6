from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin

from helpers.embed.preprocess import Preparation, as_seen
from helpers.validation import decode_image
from tests.pictures import encoded

EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"  # the beginning of a picture's orientation


@pytest.mark.parametrize("size", [(120, 168), (168, 120), (30, 500), (64, 64)])
@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "CMYK"])
def test_every_picture_becomes_a_square_of_rgb(size: tuple[int, int], fit: str, mode: str) -> None:
    image = decode_image(encoded("PNG" if mode != "CMYK" else "JPEG", size, mode=mode))
    canvas = Preparation(96, fit).apply(image)
    assert (canvas.dtype, canvas.shape) == (torch.uint8, (3, 96, 96))


def test_pad_keeps_the_whole_card_between_black_bars_and_crop_fills_the_square() -> None:
    image = Image.new("RGB", (50, 100), (200, 10, 10))
    padded = pixels(Preparation(100, "pad").apply(image))
    assert padded[:, :25].max() == 0
    assert padded[:, 75:].max() == 0
    assert (padded[:, 26:74] == (200, 10, 10)).all()
    assert (pixels(Preparation(100, "crop").apply(image)) == (200, 10, 10)).all()


@pytest.mark.parametrize("width", range(41, 49))
def test_bars_are_as_wide_as_pillow_makes_them_also_where_they_can_not_be_equal(width: int) -> None:
    for size in ((width, 64), (64, width)):
        image = Image.new("RGB", size, "white")
        expected = np.asarray(ImageOps.pad(image, (64, 64)))
        assert np.array_equal(pixels(Preparation(64, "pad").apply(image)), expected)


def test_transparent_corners_turn_black() -> None:
    image = Image.new("RGBA", (64, 64), (250, 250, 250, 255))
    image.putpixel((0, 0), (250, 250, 250, 0))
    canvas = pixels(Preparation(64, "pad").apply(image))
    assert canvas[0, 0].tolist() == [0, 0, 0]
    assert canvas[32, 32].tolist() == [250, 250, 250]


def test_16_bits_of_grey_are_scaled_not_clipped() -> None:
    made = BytesIO()
    Image.fromarray(np.full((64, 64), 100 * 257, dtype=np.uint16)).save(made, "PNG")
    assert pixels(Preparation(64, "pad").apply(decode_image(made.getvalue())))[32, 32].tolist() == [100, 100, 100]


def test_a_photograph_is_turned_upright_by_its_exif() -> None:
    upright = Image.new("RGB", (40, 80), (0, 0, 0))
    upright.paste((255, 255, 255), (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    lying = BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(lying, "PNG", exif=exif)
    for image in (upright, decode_image(lying.getvalue())):
        assert pixels(Preparation(80, "pad").apply(image))[5, 40].min() == 255


@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.binary(min_size=1, max_size=60))
def test_damaged_exif_is_no_reason_to_lose_a_picture(form: str, junk: bytes) -> None:
    made = BytesIO()
    Image.new("RGB", (20, 30)).save(made, form, exif=EXIF + junk)
    assert Preparation(64, "pad").apply(decode_image(made.getvalue())).shape == (3, 64, 64)


KINDS = [*(("JPEG", mode) for mode in ("RGB", "L", "CMYK")), *(("PNG", mode) for mode in ("RGB", "RGBA", "P"))]


@given(st.sampled_from(KINDS), st.one_of(st.integers(0, 9), st.binary(max_size=60)))
def test_what_was_seen_is_the_same_when_seen_again(kind: tuple[str, str], orientation: int | bytes) -> None:
    form, mode = kind
    exif, made = Image.Exif(), BytesIO()
    exif[0x0112] = 0 if isinstance(orientation, bytes) else orientation
    data = EXIF + orientation if isinstance(orientation, bytes) else exif.tobytes()
    noise = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(made, form, exif=data)
    image = decode_image(made.getvalue())
    seen = as_seen(image)
    again = as_seen(seen)
    assert seen.mode == "RGB"
    assert (again.size, again.tobytes()) == (seen.size, seen.tobytes())
    assert np.array_equal(Preparation(64, "pad").apply(image), Preparation(64, "pad").apply(seen))


def test_what_was_turned_upright_is_not_turned_again() -> None:
    """Though Pillow reads this note, it does not find it when it takes the orientation out."""
    made, note = BytesIO(), PngImagePlugin.PngInfo()
    note.add_itxt("XML:com.adobe.xmp", "<tiff:Orientation>6 </tiff:Orientation>")
    Image.new("L", (20, 30)).save(made, "PNG", pnginfo=note)
    seen = as_seen(decode_image(made.getvalue()))
    assert seen.size == as_seen(seen).size == (30, 20)


@pytest.mark.parametrize("size", [(488, 680), (680, 488), (745, 1040), (146, 204), (333, 7)])
@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_the_canvas_is_pillows_own_but_for_rounding(size: tuple[int, int], fit: str) -> None:
    image = decode_image(encoded("PNG", size)).convert("RGB")
    way = ImageOps.pad if fit == "pad" else ImageOps.fit
    theirs = np.asarray(way(image, (384, 384), Image.Resampling.BICUBIC)).astype(int)
    difference = np.abs(pixels(Preparation(384, fit).apply(image)).astype(int) - theirs)
    if fit == "pad" or (size[0] - size[1]) % 2 == 0:  # else Pillow crops half a pixel, ours whole ones
        assert difference.max() <= (2 if min(size) >= 384 else 10)
        assert difference.mean() < 0.5


def pixels(canvas: torch.Tensor) -> NDArray[np.uint8]:
    """What the canvas shows, as Pillow would have it: [H, W, 3]."""
    return np.asarray(canvas.permute(1, 2, 0))
