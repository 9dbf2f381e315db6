"""Drawing ends as every script does: whole files, clear words, nobody left behind."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.errors import Category, PipelineError
from tests.conftest import ROOT, needs_proc, run_script
from tests.kills import KILLED


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@needs_proc
@pytest.mark.parametrize(("sent", "code"), [("SIGKILL", KILLED), ("SIGTERM", 143), ("SIGINT", 130)])
def test_nobody_goes_on_drawing_when_it_was_stopped(tmp_path: Path, sent: str, code: int) -> None:
    words = [sys.executable, str(ROOT / "scripts/draw_cards.py"), "--out", str(tmp_path), "--count", "300"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob("*.jpg")):
            time.sleep(0.01)
        workers = children(process.pid)
        process.send_signal(getattr(signal, sent))
        _, stderr = process.communicate(timeout=20)
    assert workers
    assert process.returncode == code
    assert "Traceback" not in stderr
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline, "workers go on"
        time.sleep(0.01)


@needs_proc
def test_a_worker_that_is_killed_is_named(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "scripts/draw_cards.py"), "--out", str(tmp_path), "--count", "300"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob("*.jpg")):
            time.sleep(0.01)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a drawing process was killed" in stderr
    assert "Traceback" not in stderr


def test_what_a_worker_can_not_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "002a.jpg").mkdir()
    done = run_script("scripts/draw_cards.py", "--out", tmp_path, "--count", 3)
    assert done.returncode == 1
    assert "002a.jpg" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_known_failure_survives_the_way_from_another_process() -> None:
    error = PipelineError.of(Category.BUILD, "what", details=os.strerror(errno.ENOSPC), suggestion="do", exit_code=2)
    again = pickle.loads(pickle.dumps(error))
    assert (again.render(), again.exit_code, str(again)) == (error.render(), 2, "what")
