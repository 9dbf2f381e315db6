import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.validation import (
    BrokenImage,
    check_file,
    check_image,
    decode_image,
    is_unchanged,
    is_whole_file,
    read_image,
    read_photo,
)
from tests.pictures import BROKEN, encoded, with_wrong_checksum, write


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
    with pytest.raises(BrokenImage):
        check_file(path)
    assert not is_whole_file(path)


@pytest.mark.parametrize(
    ("beginning", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is HEIC; save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "it is HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "it is AVIF"),
        (b"\0\0\0\x1cftypavif", "it is AVIF; "),
        (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", "it is a video; save frames of it as JPEG"),
        (b"\0\0\0\x14ftypqt  ", "it is a video"),
        (b"\x1a\x45\xdf\xa3\x01\0\0\0", "it is a video"),
        (b"RIFF\0\0\x10\0AVI LIST", "it is a video"),
        (b"GIF89a\x01\0", "it is GIF; save it as JPEG or PNG"),
        (b"BM\x36\0\0\0", "it is BMP"),
        (b"II*\0\x08\0\0\0", "it is TIFF, or a camera's raw picture"),
        (b"II*\0\x10\0\0\0CR\x02\0", "it is a camera's raw picture"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "it is a camera's raw picture"),
        (b"FUJIFILMCCD-RAW 0201", "it is a camera's raw picture"),
        (b"%PDF-1.7\n", "it is PDF; save its pages as pictures"),
        (b"  <?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG drawing; save it as JPEG"),
        (b"\xff\x0a\xfa\x1f", "it is JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n", "it is JPEG 2000"),
        (b"PK\x03\x04\x14\0", "it is a packed archive; unpack it"),
        (b"\xff\xd8\xff", "it begins like JPEG, but is damaged"),
        (b"<!DOCTYPE html>", "it is an HTML or XML page"),
        (b"nothing known", "it begins with 6e 6f 74 68"),
    ],
)
def test_what_is_no_picture_of_ours_is_named_with_what_to_do(beginning: bytes, words: str) -> None:
    with pytest.raises(BrokenImage, match=re.escape(f"not a JPEG, PNG or WebP picture: {words}")):
        decode_image(beginning)


@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.floats(0, 0.98))
def test_a_picture_cut_off_anywhere_is_refused(form: str, share: float) -> None:
    data = encoded(form)
    with pytest.raises(BrokenImage):
        decode_image(data[: int(len(data) * share)])


def test_only_what_was_modified_before_the_check_counts_as_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", encoded())
    modified = path.stat().st_mtime_ns
    assert is_unchanged(path, modified + 1)
    assert not is_unchanged(path, modified)  # the clock of a disk may stand still for milliseconds
    assert not is_unchanged(path, 0)


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_else(data: bytes) -> None:
    with pytest.raises(BrokenImage):
        decode_image(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(BrokenImage):
        decode_image(b"\xff\xd8\xff" + data)


def made(form: str, **options: object) -> bytes:
    file = BytesIO()
    Image.open(BytesIO(encoded(seed=3))).save(file, form, **options)
    return file.getvalue()


FORMS = {
    "baseline": made("JPEG"),
    "progressive": made("JPEG", progressive=True),
    "grey": made("JPEG", quality=30, subsampling=0, optimize=True),
    "png": made("PNG"),
    "webp": made("WEBP"),
    "lossless webp": made("WEBP", lossless=True),
}


def refuses(check: Callable[[bytes], object], data: bytes) -> bool:
    try:
        check(data)
    except BrokenImage:
        return True
    return False


@settings(max_examples=300)
@given(st.sampled_from(sorted(FORMS)), st.floats(0, 1), st.integers(1, 40), st.binary(max_size=8))
def test_the_quick_check_gives_the_verdict_of_a_full_decode(form: str, where: float, cut: int, new: bytes) -> None:
    data = FORMS[form]
    assert not refuses(check_image, data)
    at = int(where * len(data))
    for damaged in (data[:at], data[:at] + new + data[at + len(new) :], data[:at] + new + data[at + cut :]):
        assert refuses(check_image, damaged) == refuses(decode_image, damaged)


def test_verify_finds_a_checksum_that_decoding_skips() -> None:
    damaged = with_wrong_checksum()
    decode_image(damaged, verify=False)
    with pytest.raises(BrokenImage):
        decode_image(damaged, verify=True)


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    with pytest.raises(BrokenImage, match="20000x20000"):
        decode_image(bomb.getvalue())


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_a_card_of_more_pixels_than_any_scan_has_is_refused_where_a_photograph_is_not(form: str) -> None:
    made = BytesIO()
    Image.new("L", (5000, 5000)).save(made, form)
    assert decode_image(made.getvalue()).size == (5000, 5000)
    with pytest.raises(BrokenImage, match="5000x5000"):
        check_image(made.getvalue())


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


def test_a_photo_s_name_that_is_too_long_or_forbidden_is_a_reason_not_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BrokenImage, match="too long"):
        read_photo(tmp_path / ("long" * 100))

    def forbid(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))  # as in a folder that may not be entered; root may

    monkeypatch.setattr("os.stat", forbid)
    monkeypatch.setattr("os.open", forbid)
    with pytest.raises(BrokenImage, match="Permission denied"):
        read_photo(tmp_path / "picture.jpg")


def test_a_reason_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("Unexpected end of file\n\n")  # as libheif words it

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(BrokenImage, match=r"^damaged picture: Unexpected end of file\Z"):
        decode_image(encoded("PNG"))
