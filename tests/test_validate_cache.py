"""scripts/validate_cache.py as users run it."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from helpers.cards.image_cache import ImageCache
from helpers.download.validate import remove, validate
from tests.conftest import run_script
from tests.kills import run_signalled_at_import
from tests.pictures import BROKEN, HTML, encoded, write

WHOLE = {"a.jpg": encoded(), "b.png": encoded("PNG"), "c.webp": encoded("WEBP")}
SCRIPT = "scripts/validate_cache.py"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Whole pictures, broken ones in five ways, and what lies beside pictures."""
    folder = tmp_path / "cache"
    folder.mkdir()
    for name, data in WHOLE.items():
        write(folder / name, data)
    for i, data in enumerate(BROKEN.values()):
        write(folder / f"broken{i}.jpg", data)
    for name in ("unique_artwork.list.json", "download_report.json", ".lock", "a.jpg.1-0123abcd.part", "x.gif"):
        write(folder / name, b"no picture")
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_each_broken_picture_is_named_with_its_reason(cache: Path, tmp_path: Path) -> None:
    before = names(cache)
    done = run_script(SCRIPT, "--cache", cache, "--report", tmp_path / "new" / "report.json")
    assert done.returncode == 1
    assert names(cache) == before
    report: dict[str, Any] = json.loads((tmp_path / "new" / "report.json").read_text())
    assert list(report) == [
        *("version", "timestamp", "cache_directory", "total_files", "valid_files", "invalid_files", "failures")
    ]
    assert report["version"] == "1.0.0"
    assert report["cache_directory"] == str(cache)
    assert (report["total_files"], report["valid_files"], report["invalid_files"]) == (8, 3, 5)
    assert [failure["filename"] for failure in report["failures"]] == [f"broken{i}.jpg" for i in range(5)]
    assert [failure["size_bytes"] for failure in report["failures"]] == [len(data) for data in BROKEN.values()]
    for failure in report["failures"]:
        assert f"invalid: {failure['filename']}: {failure['reason']}" in done.stderr
    assert "HTML" in report["failures"][0]["reason"]
    assert report["failures"][2]["reason"] == "empty file"
    for words in ("Pictures: 8", "valid: 3 (37.5 %)", "invalid: 5", "--fix"):
        assert words in done.stdout


def test_fix_deletes_the_invalid_ones_and_nothing_else(cache: Path) -> None:
    before = names(cache)
    done = run_script(SCRIPT, "--cache", cache, "--fix")
    assert done.returncode == 1
    assert "deleted: 5" in done.stdout
    assert before - names(cache) == {f"broken{i}.jpg" for i in range(5)}
    again = run_script(SCRIPT, "--cache", cache, "--fix")
    assert (again.returncode, "valid: 3 (100.0 %)" in again.stdout) == (0, True)


def test_no_directory_is_exit_code_2(tmp_path: Path) -> None:
    done = run_script(SCRIPT, "--cache", tmp_path / "none")
    assert done.returncode == 2
    assert "ERROR: Configuration Error: the image cache does not exist" in done.stderr
    assert not (tmp_path / "none").exists()


def test_an_empty_cache_is_valid(tmp_path: Path) -> None:
    done = run_script(SCRIPT, "--cache", tmp_path)
    assert (done.returncode, "valid: 0 (N/A)" in done.stdout) == (0, True)


def test_a_link_to_nothing_is_invalid_and_can_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    done = run_script(SCRIPT, "--cache", tmp_path, "--fix")
    assert (done.returncode, "invalid: a.jpg: does not exist" in done.stderr) == (1, True)
    assert not names(tmp_path)


def test_a_picture_that_was_mended_in_the_meantime_is_not_deleted(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", HTML)
    write(tmp_path / "b.jpg", HTML)
    write(tmp_path / "c.jpg", HTML)
    report = validate(ImageCache(tmp_path))
    os.replace(write(tmp_path / "part", encoded()), tmp_path / "a.jpg")  # a download that runs at the same time
    write(tmp_path / "c.jpg", encoded())  # a copy over it: the file is the same, its content another
    remove(report)
    assert names(tmp_path) == {"a.jpg", "c.jpg"}
    assert report.removed == 1


def test_pipes_and_holes_under_a_pictures_name_are_named_and_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.jpg").symlink_to(tmp_path / "pipe")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    os.truncate(write(tmp_path / "hole.jpg", b""), 2**42)
    done = run_script(SCRIPT, "--cache", tmp_path)
    assert done.returncode == 1
    assert "invalid: a.jpg: not a regular file" in done.stderr
    assert "invalid: hole.jpg: larger than 64.0 MB" in done.stderr
    assert "invalid: loop.jpg: " in done.stderr


def test_what_could_not_be_read_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.jpg", encoded())

    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", forbidden)
        report = validate(ImageCache(tmp_path))
    assert [invalid.reason for invalid in report.invalid] == ["can't be read: Permission denied"]
    remove(report)
    assert names(tmp_path) == {"a.jpg"}


def test_a_name_that_is_not_utf_8_can_be_reported(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    write(tmp_path / "cache" / "a\udcff.jpg", HTML)
    run_script(SCRIPT, "--cache", tmp_path / "cache", "--report", tmp_path / "report.json")
    (failure,) = json.loads((tmp_path / "report.json").read_bytes())["failures"]
    assert failure["filename"] == "a\udcff.jpg"


@pytest.mark.parametrize("name", ["file/report.json", "folder", "link"])
def test_a_report_that_can_not_be_written_is_a_known_failure(cache: Path, tmp_path: Path, name: str) -> None:
    write(tmp_path / "file", b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/null")
    done = run_script(SCRIPT, "--cache", cache, "--fix", "--report", tmp_path / name)
    assert done.returncode == 1
    assert "ERROR: Configuration Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "broken0.jpg" in names(cache)  # nothing is deleted that no report tells of


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_looks_stops_it(cache: Path, sent: signal.Signals) -> None:
    done = run_signalled_at_import("PIL.JpegImagePlugin", sent, SCRIPT, "--cache", cache, "--fix")
    assert done.returncode == 128 + sent
    assert "Traceback" not in done.stderr
    assert "broken0.jpg" in names(cache)
