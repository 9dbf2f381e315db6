"""build_mtg_faiss.py as users run it: both steps in one command."""

import json
import signal
import subprocess
from pathlib import Path

import numpy as np

from tests.conftest import run_script, run_well, serving
from tests.kills import rows_in, run_until
from tests.test_build import CHECKPOINT, FACES, same_index


def logged(log: Path) -> list[str]:
    """The paths that were asked for."""
    return [json.loads(line)["path"] for line in log.read_text().splitlines() if '"GET"' in line]


def all_in_one(address: str, folder: Path, model: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_script("build_mtg_faiss.py", *words(address, folder, model), *arguments)


def words(address: str, folder: Path, model: Path) -> list[object]:
    return [
        *("--api-url", address, "--cache", folder / "cache", "--out", folder / "out"),
        *("--model", f"local-dir:{model}", "--timeout-connect", 1),
    ]


def test_it_gives_the_same_files_as_both_scripts_in_turn(drawn: Path, tiny: Path, tmp_path: Path) -> None:
    with serving(drawn / "cards.jsonl") as address:
        done = all_in_one(address, tmp_path / "one", tiny, "--batch", 5)
        assert done.returncode == 0, done.stderr
        two = tmp_path / "two"
        run_well("download_images.py", "--cache", two / "cache", "--api-url", address)
        run_well(
            *("build_embeddings.py", "--cache", two / "cache", "--out", two / "out", "--model", f"local-dir:{tiny}")
        )
    assert same_index(tmp_path / "one" / "out", two / "out")
    pictures = [{p.name: p.read_bytes() for p in (tmp_path / n / "cache").glob("*.jpg")} for n in ("one", "two")]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == FACES
    for line in ("fetched: 13", "Success rate: 100.0 %", "embedded: 13"):
        assert line in done.stdout


def test_a_model_that_can_not_be_had_ends_it_before_anything_is_fetched(drawn: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(drawn / "cards.jsonl", "--log", log) as address:
        done = all_in_one(address, tmp_path, tmp_path / "nowhere")
    assert done.returncode == 1
    assert "holds no open_clip model" in done.stderr
    assert logged(log) == []


def test_limit_0_is_no_valid_images(tmp_path: Path) -> None:
    done = all_in_one("http://127.0.0.1:9", tmp_path, tmp_path, "--limit", 0)
    assert done.returncode == 2
    assert "ERROR: Build Error: No valid images to embed" in done.stderr
    assert "--limit 0" in done.stderr
    assert not list(tmp_path.iterdir())


def test_all_pictures_404_is_exit_code_2(drawn: Path, tiny: Path, tmp_path: Path) -> None:
    with serving(drawn / "cards.jsonl", "--faults", "404=100") as address:
        done = all_in_one(address, tmp_path, tiny)
    assert done.returncode == 2
    assert "none of the pictures could be downloaded" in done.stderr
    assert not (tmp_path / "out").exists()  # nothing came of it


def test_pictures_that_can_not_be_had_are_left_out(drawn: Path, tiny: Path, tmp_path: Path) -> None:
    with serving(drawn / "cards.jsonl", "--faults", "503=40", "--fault-times", 0) as address:
        done = all_in_one(address, tmp_path, tiny, "--max-retries", 0)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "cache" / "download_report.json").read_text())
    assert 0 < len(report["failures"]) < FACES
    left = FACES - len(report["failures"])
    assert len(np.load(tmp_path / "out" / "mtg_embeddings.npy")) == left
    assert f"missing from the cache: {FACES - left}" in done.stdout


def test_the_same_command_goes_on_where_it_was_stopped(drawn: Path, tiny: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(drawn / "cards.jsonl", "--log", log) as address:
        run = run_until(
            lambda: rows_in(tmp_path / "out") > 1,
            "build_mtg_faiss.py",
            *words(address, tmp_path, tiny),
            *("--batch", 1),
            sent=signal.SIGTERM,
            warm=True,
        )
        assert run.returncode == 143
        assert "Traceback" not in run.stderr
        done = all_in_one(address, tmp_path, tiny)
    assert done.returncode == 0, done.stderr
    pictures = [path for path in logged(log) if path.startswith("/normal")]
    assert len(pictures) == len(set(pictures)) == FACES  # none was fetched twice
    assert "Resuming: " in done.stderr
    assert not set(CHECKPOINT) & {path.name for path in (tmp_path / "out").iterdir()}
    assert len(np.load(tmp_path / "out" / "mtg_embeddings.npy")) == FACES
