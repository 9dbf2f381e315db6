from io import BytesIO

import imagehash
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from helpers.embed.dhash import HASH_BITS, HASH_BYTES, dhash
from helpers.embed.preprocess import as_seen
from helpers.validation import decode_image
from tests.pictures import encoded

sides = st.one_of(st.integers(1, 40), st.sampled_from([146, 204]))


@given(st.tuples(sides, sides), st.integers(0, 99), st.sampled_from([0, 1, 3]))
@example((488, 680), 0, 0)
@example((745, 1040), 1, 3)
def test_it_is_what_imagehash_makes_of_any_picture(size: tuple[int, int], seed: int, blurred: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = Image.fromarray(noise >> blurred << blurred)
    made, theirs = dhash(picture), imagehash.dhash(picture, hash_size=16)
    assert made.dtype == np.uint8
    assert made.shape == (HASH_BYTES,)
    assert np.array_equal(np.unpackbits(made), theirs.hash.ravel())
    assert made.tobytes().hex() == str(theirs)


modes = st.sampled_from(["RGB", "L", "RGBA", "LA", "P", "1", "CMYK"])


@given(modes, st.tuples(sides, sides), st.integers(0, 9))
def test_it_is_taken_of_what_a_viewer_sees_whatever_the_mode(mode: str, size: tuple[int, int], seed: int) -> None:
    image = decode_image(encoded("JPEG" if mode == "CMYK" else "PNG", size, seed, mode))
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    shown = Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    theirs = imagehash.dhash(shown if image.has_transparency_data else image.convert("RGB"), hash_size=16)
    assert dhash(as_seen(image)).tobytes().hex() == str(theirs)


def test_a_photograph_that_lies_on_its_side_has_the_hash_of_the_upright_one() -> None:
    upright = decode_image(encoded("PNG", (48, 68)))
    exif, lying = Image.Exif(), BytesIO()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    upright.transpose(Image.Transpose.ROTATE_90).save(lying, "PNG", exif=exif)
    assert np.array_equal(dhash(as_seen(decode_image(lying.getvalue()))), dhash(as_seen(upright)))


def test_bits_are_set_where_it_brightens_to_the_right() -> None:
    ramp = Image.fromarray(np.tile(np.arange(0, 255, 5, dtype=np.uint8), (48, 1))).convert("RGB")
    assert np.unpackbits(dhash(ramp)).sum() == HASH_BITS
    assert dhash(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).sum() == 0
    assert dhash(Image.new("RGB", (48, 68), (90, 90, 90))).sum() == 0  # equal is not brighter


def test_another_encoding_of_a_picture_differs_in_few_bits_and_another_picture_in_many() -> None:
    first, second = decode_image(encoded("PNG", (488, 680), 1)), decode_image(encoded("PNG", (488, 680), 2))
    smaller = BytesIO()
    first.resize((146, 204)).save(smaller, "JPEG", quality=60)
    hashes = [np.unpackbits(dhash(as_seen(image))) for image in (first, decode_image(smaller.getvalue()), second)]
    assert (hashes[0] != hashes[1]).sum() <= 12
    assert (hashes[0] != hashes[2]).sum() >= 80
