"""Which pictures a command line means."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.errors import PipelineError
from helpers.recognise.inputs import pictures
from helpers.recognise.query import Answer
from tests.pictures import encoded


def test_files_are_taken_as_they_are_and_directories_stand_for_their_pictures(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.heic", "a.PNG", "c.svg", "._a.jpg", "sub/z.mpo", ".hidden/y.jpg", "sub/x.tiff"):
        (tmp_path / name).touch()
    found = [*pictures([str(tmp_path / "c.svg"), str(tmp_path)])]
    assert found == [str(tmp_path / name) for name in ("c.svg", "a.PNG", "b.heic", "sub/x.tiff", "sub/z.mpo")]


def test_a_directory_without_pictures_is_an_error(tmp_path: Path) -> None:
    assert [*pictures([str(tmp_path)])] == [Answer(str(tmp_path), error="no pictures in it")]


def test_a_directory_that_can_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Any) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", denied)
    assert [*pictures([str(tmp_path)])] == [Answer(str(tmp_path), error="can't be read: Permission denied")]


@pytest.mark.parametrize(
    "beginning",
    [
        *(encoded(form)[:400] for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF")),
        b"\0\0\0\x18ftypheic\0\0",
    ],
)
def test_a_picture_on_stdin_is_one_error(beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(os.fsdecode(beginning)))
    with pytest.raises(PipelineError, match="stdin must be paths of pictures"):
        [*pictures(["-"])]


def test_a_byte_order_mark_before_the_first_path_is_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeffBMW.jpg\nGIF89a.gif\na\0b.jpg\n"))
    assert [*pictures(["-"])] == ["BMW.jpg", "GIF89a.gif", "a\0b.jpg"]


def test_lines_of_stdin_may_name_directories_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"first.jpg\n\n{tmp_path}\r\n"))
    assert [*pictures(["-", "last.jpg"])] == ["first.jpg", str(tmp_path / "a.jpg"), "last.jpg"]
