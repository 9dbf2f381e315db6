"""Which pictures a command line means."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.recognise.inputs import pictures
from helpers.recognise.query import Answer


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


def test_lines_of_stdin_may_name_directories_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"first.jpg\n\n{tmp_path}\r\n"))
    assert [*pictures(["-", "last.jpg"])] == ["first.jpg", str(tmp_path / "a.jpg"), "last.jpg"]
