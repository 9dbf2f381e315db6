"""What `make doctor` finds, on this machine and on others that it is told to be on."""

import errno
import importlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers import machine_limits
from helpers.cards.faces import IMAGE_KEYS
from helpers.cards.sizes import LISTS, MEAN_BYTES
from helpers.doctor import beyond, machine
from helpers.doctor.finding import MISSING, NOTE, OK, Finding
from helpers.embed.model_source import ModelSource
from helpers.talk import human_bytes
from tests.conftest import ROOT, Built, run_script, serving

NAMES = ["Python", "packages", "cores", "memory", "disk", "open files", "clock", "port", "page", "browser"]


def ran(*arguments: object) -> tuple[int, dict[str, Any]]:
    """The exit code and the answer of a run that has the packages, without the network."""
    done = run_script("scripts/doctor.py", "--json", "--offline", *arguments)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_where_all_is_there_every_check_says_so_and_nothing_is_written(tmp_path: Path) -> None:
    code, answer = ran("--cache", tmp_path / "a" / "cache", "--out", tmp_path / "out")
    assert {check["name"] for check in answer["checks"]} == {*NAMES, "imports", "device", "encoder", "CLIP", "Scryfall"}
    assert {frozenset(check) for check in answer["checks"]} == {frozenset({"state", "name", "found", "advice"})}
    states = {check["name"]: check["state"] for check in answer["checks"]}
    assert {states[name] for name in ("Python", "packages", "imports", "device", "encoder", "clock")} == {OK}
    assert (code, answer["ready"]) == ((1, False) if MISSING in states.values() else (0, True))
    assert all(check["advice"] for check in answer["checks"] if check["state"] != OK)
    assert list(tmp_path.iterdir()) == []


def test_it_works_with_nothing_but_python_and_says_what_to_install(tmp_path: Path) -> None:
    """-S: without site-packages, as a Python outside the environment is."""
    words = [sys.executable, "-S", "-E", str(ROOT / "scripts/doctor.py"), "--cache", "c", "--port", "1"]
    done = subprocess.run(words, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (1, "", [])
    lines = done.stdout.splitlines()
    assert [line[9:19].strip() for line in lines if line[9:13] != "disk"] == [
        *(name for name in NAMES if name != "disk"),
        "the rest",
    ]
    assert re.match(r"missing  packages   no requests, .*, and \d+ more -> run make env$", lines[1])
    assert "run make vendor" in done.stdout or "apt install npm" in done.stdout or "are in web/vendor" in done.stdout
    assert "note     browser    no Chromium -> " in done.stdout


def test_a_disk_that_is_too_small_is_missing_and_what_is_there_already_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, out = tmp_path / "not" / "yet", tmp_path / "out"
    needed = sum(need.bytes for need in machine.needs("oracle_cards", cache, out, environment=False))
    free = needed
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

    def found() -> Finding:
        (one,) = machine.disks(machine.needs("oracle_cards", cache, out, environment=False), "oracle_cards")
        return one

    assert found().state == OK
    free -= 1
    assert (found().state, "make room" in found().advice) == (MISSING, True)
    cache.mkdir(parents=True)
    (cache / "a.jpg").touch()
    assert found().state == OK
    wanted = machine.needs("oracle_cards", cache, out, environment=True)
    assert MISSING in {one.state for one in machine.disks(wanted, "oracle_cards")}  # the environment's gigabytes


def test_a_folder_that_is_not_ours_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    (found,) = machine.disks([machine.Need(tmp_path / "cache", 1)], "oracle_cards")
    assert found == Finding(MISSING, "disk", f"{tmp_path} can't be written to", "name other directories (CACHE, OUT)")


def test_a_folder_that_we_may_not_look_into_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may look anywhere, so the system's answer is made up."""
    stat, closed = os.stat, tmp_path / "cache"

    def refused(path: Any, *arguments: Any, **more: Any) -> os.stat_result:
        if str(path).startswith(str(closed)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *arguments, **more)

    monkeypatch.setattr(os, "stat", refused)
    (need, _) = machine.needs("oracle_cards", closed / "deeper", tmp_path / "out", environment=False)
    assert need.parent == tmp_path
    assert need.bytes > LISTS["oracle_cards"].cards * MEAN_BYTES["normal"]


@pytest.mark.parametrize(
    ("prefix", "conda", "found"),
    [
        ("/usr", None, f"{sys.executable}, no environment"),
        ("/usr", "/opt/conda", f"{sys.executable}, no environment"),
        ("/opt/conda", "/opt/conda", "environment /opt/conda"),
        ("/home/me/.venv", "/opt/conda", "environment /home/me/.venv"),
    ],
)
def test_it_says_which_environment_this_python_is_of(
    prefix: str, conda: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "base_prefix", prefix if prefix != "/home/me/.venv" else "/usr")
    monkeypatch.setenv("CONDA_PREFIX", conda or "")
    assert machine.python().found.endswith(f", {found}")


def test_a_container_has_the_memory_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine_limits, "MEMORY_LIMIT", limit)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 4_000_000, "SC_PAGE_SIZE": 1000}[name])
    for text, usable, state in (("max\n", 4_000_000_000, OK), ("1000000000\n", 1_000_000_000, MISSING)):
        limit.write_text(text)
        assert machine_limits.usable_memory() == usable
        assert machine.memory("unique_artwork").state == state
    limit.unlink()
    assert machine.memory("default_cards").state == OK


def test_few_open_files_a_wrong_clock_and_a_taken_port_are_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert machine.port(number).state == NOTE
    assert machine.port(number).state == OK
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 59))
    assert machine.open_files().state == NOTE
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 60))
    assert machine.open_files().state == OK
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert machine.clock().state == NOTE


def test_programs_that_are_not_there_are_notes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "WEB", tmp_path)
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "chromium" else f"/bin/{name}")
    assert "make vendor" in machine.page_libraries().advice
    assert machine.browser() == Finding(OK, "browser", "/bin/chromium-browser")
    monkeypatch.setenv("CHROMIUM", "chromium")
    assert machine.browser().found == "CHROMIUM names no program: chromium"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert (machine.page_libraries().state, "apt install npm" in machine.page_libraries().advice) == (NOTE, True)


@pytest.mark.parametrize(
    ("chosen", "cuda", "driver", "state", "said"),
    [
        ("cuda", "12.8", True, OK, "cuda: H100, CUDA 12.8"),
        ("mps", None, False, OK, "mps"),
        ("cpu", "12.8", False, OK, "cpu"),
        ("cpu", None, True, NOTE, "PyTorch 2.9 has no CUDA"),
        ("cpu", "12.8", True, NOTE, "can't use the NVIDIA driver (the driver is too old)"),
    ],
)
def test_a_gpu_that_can_t_be_used_is_a_note_with_the_reason(
    chosen: str, cuda: str | None, driver: bool, state: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(_: str) -> SimpleNamespace:
        if said.endswith("too old)"):
            warnings.warn("the driver is too old", stacklevel=1)
        return SimpleNamespace(type=chosen)

    torch = SimpleNamespace(
        __version__="2.9", version=SimpleNamespace(cuda=cuda), cuda=SimpleNamespace(get_device_name=lambda: "H100")
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "helpers.embed.models", SimpleNamespace(chosen_device=choose))
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/nvidia-smi" if driver else None)
    found = beyond.device()
    assert (found.state, said in found.found, bool(found.advice)) == (state, True, state == NOTE), found


def test_an_empty_variable_names_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from doctor import parse_args

    monkeypatch.setenv("SCRYFALL_API_URL", "")
    assert parse_args([]).api_url is None


def test_scryfall_is_asked_once_and_a_kept_list_makes_it_a_note(drawn: Path, built: Built, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(drawn / "cards.jsonl", "--log", log) as address:
        assert beyond.scryfall(address, tmp_path) == Finding(OK, "Scryfall", f"{address} answers")
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(asked) == 1
    gone = beyond.scryfall("http://127.0.0.1:9", tmp_path)
    assert (gone.state, gone.found) == (MISSING, "http://127.0.0.1:9 can't be reached")
    assert (beyond.scryfall("http://127.0.0.1:9", built.cache).state, beyond.card_list(built.cache).state) == (NOTE, OK)
    assert beyond.card_list(tmp_path).state == NOTE


@pytest.mark.parametrize(("status", "said"), [(403, "answers with status 403"), (0, "has no proper answer")])
def test_a_server_that_refuses_is_missing(
    status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beyond, "probe", lambda *_: status)
    found = beyond.scryfall(None, tmp_path)
    assert (found.state, found.found) == (MISSING, f"https://api.scryfall.com {said}")


@pytest.mark.slow
def test_an_encoder_that_is_cut_off_or_gone_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert beyond.card_encoder().state == OK
    folder = Path(shutil.copytree(ROOT / "models" / "cards", tmp_path / "cards"))
    monkeypatch.setattr(ModelSource, "folder", folder)
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert (beyond.card_encoder().state, beyond.card_encoder().advice) == (MISSING, "git checkout models/cards")
    shutil.rmtree(folder)
    assert beyond.card_encoder().state == MISSING


@pytest.mark.slow
def test_clip_is_within_reach_or_there_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.embed import models

    for kept, reached, offline, state in (
        (True, False, True, OK),
        (False, True, False, OK),
        (False, False, False, NOTE),
        (False, True, True, NOTE),
    ):
        monkeypatch.setattr(models, "weights_are_kept", lambda _, kept=kept: kept)
        monkeypatch.setattr(beyond, "hub_answers", lambda reached=reached: reached)
        found = beyond.clip(offline)
        assert (found.state, found.state == OK or "--model cards" in found.advice) == (state, True)


def test_a_package_that_is_there_but_broken_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    assert beyond.imports().found == (
        "opencv-python-headless is there but fails: libGL.so.1: cannot open shared object file"
    )


def test_its_estimates_are_those_of_the_documentation(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| (\d+) MB \| ([\d.]+) GB \| ([\d.]+) GB \|", page, re.MULTILINE)
    assert [row[0] for row in rows] == sorted(LISTS, key=lambda kind: LISTS[kind].cards)
    for kind, cards, megabytes, pictures, index in rows:
        size = LISTS[kind]
        assert (size.cards, size.file_bytes) == (int(cards.replace(",", "")), int(megabytes) * 10**6)
        assert f"{size.cards * MEAN_BYTES['normal'] / 1e9:.1f}" == pictures
        assert f"{size.cards * machine.ROW_BYTES / 1e9:.2f}" == index
    for key in IMAGE_KEYS:
        assert re.search(rf"`{key}` {MEAN_BYTES[key] // 1000:,}\b", page)
    assert f"| {machine.MEMORY_BYTES // 10**6:,} MB |" in page
    assert f"`.venv` takes {human_bytes(machine.ENVIRONMENT_BYTES)}" in page
