from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers.validation import BrokenImage, decode_image, is_whole_file, read_image
from tests.pictures import BROKEN, encoded, write


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_whole_picture_is_decoded(form: str, tmp_path: Path) -> None:
    assert decode_image(encoded(form)).size == (120, 168)
    assert is_whole_file(write(tmp_path / "picture", encoded(form)))


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("verify", [True, False])
def test_a_broken_picture_is_refused_with_a_reason(how: str, verify: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "broken.jpg", BROKEN[how])
    with pytest.raises(BrokenImage) as caught:
        read_image(path, verify=verify)
    assert str(caught.value)
    assert not is_whole_file(path)


@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.floats(0, 0.98))
def test_a_picture_cut_off_anywhere_is_refused(form: str, share: float) -> None:
    data = encoded(form)
    with pytest.raises(BrokenImage):
        decode_image(data[: int(len(data) * share)])


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_else(data: bytes) -> None:
    with pytest.raises(BrokenImage):
        decode_image(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(BrokenImage):
        decode_image(b"\xff\xd8\xff" + data)


def test_verify_finds_a_checksum_that_decoding_skips() -> None:
    data = bytearray(encoded("PNG"))
    end = data.rindex(b"IEND")
    extra = b"\x00\x00\x00\x02tEXtab" + b"\x00\x00\x00\x00"  # a wrong checksum
    damaged = bytes(data[: end - 4]) + extra + bytes(data[end - 4 :])
    decode_image(damaged, verify=False)
    with pytest.raises(BrokenImage):
        decode_image(damaged, verify=True)


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    with pytest.raises(BrokenImage, match="20000x20000"):
        decode_image(bomb.getvalue())


def test_damage_between_the_ends_is_found_in_a_file_that_was_changed_since_it_was_checked(tmp_path: Path) -> None:
    data = bytearray(encoded("PNG"))
    data[len(data) // 2] ^= 0xFF
    path = write(tmp_path / "picture.png", bytes(data))
    assert not is_whole_file(path)
    assert not is_whole_file(path, checked_until_ns=path.stat().st_mtime_ns)
    assert is_whole_file(path, checked_until_ns=path.stat().st_mtime_ns + 1)  # only its ends are looked at


@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_was_cut_or_replaced_shows_at_its_ends(how: str, tmp_path: Path) -> None:
    path = write(tmp_path / "broken.jpg", BROKEN[how])
    assert not is_whole_file(path, checked_until_ns=path.stat().st_mtime_ns + 1)


def test_bytes_behind_the_end_of_a_picture_do_no_harm(tmp_path: Path) -> None:
    assert is_whole_file(write(tmp_path / "picture.jpg", encoded() + b"\0" * 40))


def test_a_missing_file_is_not_whole(tmp_path: Path) -> None:
    assert not is_whole_file(tmp_path / "nothing.jpg")
    assert not is_whole_file(tmp_path)
