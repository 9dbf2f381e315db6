"""What a download put into a cache goes, and nothing else."""

import fcntl
from pathlib import Path

from tests.conftest import run_script, run_well, serving
from tests.pictures import encoded, write


def test_all_that_was_downloaded_goes_and_all_else_stays(many: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with serving(many) as address:
        run_well("download_images.py", "--cache", cache, "--api-url", address, "--limit", 20)
    names = ("unique_artwork.json", "holiday.jpg", "ab.png", "notes.txt", "ABCDEF.jpg", "g" * 40 + ".jpg")
    mine = {write(cache / name, encoded()) for name in names}
    (cache / "folder").mkdir()
    said = run_well("scripts/clear_cache.py", "--cache", cache)
    assert "20 pictures, 3 lists and reports" in said
    assert "7 other files stay" in said
    assert set(cache.iterdir()) == mine | {cache / "folder"}


def test_it_can_be_filled_again(many: Path, tmp_path: Path) -> None:
    with serving(many) as address:
        words = ("download_images.py", "--cache", tmp_path, "--api-url", address, "--limit", 5)
        first = run_well(*words)
        run_well("scripts/clear_cache.py", "--cache", tmp_path)
        assert not list(tmp_path.iterdir())
        assert "fetched: 5" in run_well(*words)
        assert "fetched: 5" in first


def test_nothing_is_deleted_under_a_running_download(many: Path, tmp_path: Path) -> None:
    picture = write(tmp_path / ("ab" * 20 + ".jpg"), encoded())
    with open(tmp_path / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        done = run_script("scripts/clear_cache.py", "--cache", tmp_path)
    assert (done.returncode, "a download is writing" in done.stderr) == (1, True)
    assert picture.exists()
    assert run_script("scripts/clear_cache.py", "--cache", tmp_path / "none").returncode == 2


def test_a_lock_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    cache.mkdir()
    for make in (lambda: (cache / ".lock").write_text("mine"), lambda: (cache / ".lock").symlink_to(outside)):
        make()
        done = run_script("scripts/clear_cache.py", "--cache", cache)
        assert (done.returncode, "not a lock of this tool" in done.stderr) == (1, True)
        assert (cache / ".lock").is_symlink() or (cache / ".lock").read_text() == "mine"
        assert not outside.exists()
        (cache / ".lock").unlink()


def test_what_a_killed_download_left_goes_and_what_a_build_writes_stays(tmp_path: Path) -> None:
    left = write(tmp_path / ("ab" * 20 + ".jpg.123-0123abcd.part"), b"half")
    being_written = write(tmp_path / "checkpoint.npz.123-0123abcd.part", b"half")
    run_well("scripts/clear_cache.py", "--cache", tmp_path)
    assert (left.exists(), being_written.exists()) == (False, True)
