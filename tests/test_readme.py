"""The front door tells the truth: every script, flag and target is named there, and its commands run as written."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT, Built, run_script, serving
from tests.test_cli_validation import SCRIPTS

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.strip() for block in README.split("```")[1::2]]
PYTHON = ".venv/bin/python "


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_and_flag_is_named(script: str) -> None:
    assert f"`{script}`" in README
    flags = set(re.findall(r"--[a-z][a-z-]+", run_script(script, "--help").stdout.partition("options:")[2]))
    assert "--version" in flags
    unnamed = {flag for flag in flags if not re.search(rf"{flag}\b(?!-)", README)}
    assert not unnamed


def test_the_two_commands_come_first_and_ci_calls_the_second() -> None:
    assert [line.partition("#")[0].strip() for line in BLOCKS[0].splitlines()] == ["make demo", "make test"]
    assert (ROOT / ".ci/run").read_text().splitlines()[-2:] == ["make test", "make test-slow"]


def test_every_make_target_is_named() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    assert not [target for target in targets if target != "help" and f"`{target}`" not in README]


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:scripts/|tests/)?[a-z_-]+\.(?:py|txt|yml))`", README))
    assert {"environment-cpu.yml", "query_index.py"} <= named
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_every_make_command_runs_dry() -> None:
    commands = set(re.findall(r"^make .*?(?=  +#|$)", "\n".join(BLOCKS), re.MULTILINE))
    commands |= set(re.findall(r"`(make [^`]+)`", README))
    assert len(commands) > 10
    for command in commands:
        words = [*shlex.split(command), "--dry-run", "--assume-old=.venv/.installed"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, command + done.stderr


@pytest.fixture
def checkout(tmp_path: Path, built: Built, drawn: Path) -> Path:
    """A copy of the project as a user has it after `make demo`, with an index of its own and a photograph."""
    for name in ("helpers", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.py"), *ROOT.glob("*.txt")):
        shutil.copy(file, tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(drawn, tmp_path / "demo" / "cards")
    shutil.copytree(ROOT / "models", tmp_path / "models")
    shutil.copytree(built.index, tmp_path / "index_out")
    shutil.copy(drawn / "001a.jpg", tmp_path / "photo.jpg")
    return tmp_path


def run_as_written(command: str, cwd: Path, api_url: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a shell command in a group of processes of its own, where the model hub can't be reached."""
    environment = os.environ | {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "SCRYFALL_API_URL": api_url or "http://127.0.0.1:9",
    }
    words = ["bash", "-c", command]
    with subprocess.Popen(
        words,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=240)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it left in the background
    return subprocess.CompletedProcess(words, process.returncode, out, err)


NEED_WEIGHTS = ("build_mtg_faiss.py", "build_embeddings.py")  # CLIP's, which tests can't have


@pytest.mark.slow
def test_commands_of_one_line_run_as_written(checkout: Path, drawn: Path) -> None:
    lines = [line for block in BLOCKS if block.startswith(PYTHON) for line in block.splitlines()]
    assert len(lines) >= 6
    with serving(drawn / "cards.jsonl") as address:
        for line in lines:
            done = run_as_written(line, checkout, address)
            if any(script in line and "--model" not in line for script in NEED_WEIGHTS):
                assert done.returncode == 1, line
                assert "--pretrained FILE" in done.stderr
                assert "--model cards" in done.stderr
            else:
                assert done.returncode == 0, line + done.stderr


@pytest.mark.slow
def test_the_way_of_one_s_own_pictures_runs_as_written(checkout: Path) -> None:
    (block,) = (block for block in BLOCKS if "my/cards.csv" in block)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "8123" in block
    done = run_as_written("set -e; " + block.replace("8123", str(port)), checkout)
    assert done.returncode == 0, done.stderr
    assert "Island" in done.stdout


def test_every_block_is_a_command_that_is_tried_or_shows_output() -> None:
    shown = ("ERROR:", '{"image"')
    for block in BLOCKS:
        assert block.startswith((PYTHON, "make ", *shown)) or "my/cards.csv" in block
