import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import machine_limits
from helpers.errors import DiskFull
from helpers.machine_limits import affordable_workers, require_room
from tests.conftest import ROOT

ASK = "import sys; from helpers.machine_limits import affordable_workers; print(affordable_workers(int(sys.argv[1])))"


@pytest.mark.parametrize(
    ("soft", "hard", "asked", "given", "said"),
    [
        (64, 1000, 128, 128, ""),  # the limit is raised
        (50, 50, 16, 11, "11 workers instead of 16"),
        (30, 30, 16, 1, "1 workers instead of 16"),
        (200, 200, 1, 1, ""),
    ],
)
def test_there_are_no_more_workers_than_open_files_allow(
    soft: int, hard: int, asked: int, given: int, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(asked)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    assert int(done.stdout) == given
    assert (said in done.stderr) if said else not done.stderr


@pytest.mark.parametrize(
    ("text", "cores"),
    [("150000 100000\n", 2), ("50000 100000\n", 1), ("6400000 100000\n", 8), ("max 100000\n", 8), ("nonsense", 8)],
)
def test_a_container_has_the_cores_that_it_has_time_of(
    text: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(machine_limits, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert machine_limits.usable_cores() == cores


def test_usual_limits_allow_all_workers() -> None:
    assert affordable_workers(128) == 128


def test_room_is_told_before_it_is_needed(tmp_path: Path) -> None:
    require_room(tmp_path, 10, 1000)
    with pytest.raises(DiskFull) as caught:
        require_room(tmp_path, 10**9, 10**9)
    assert "1000000.0 TB needed for 1,000,000,000 pictures of 1.0 GB on average" in caught.value.render()
