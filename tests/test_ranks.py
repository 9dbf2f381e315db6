"""torchrun with two ranks on this machine: one index, whoever dies."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT, Built, run_script
from tests.test_build import FACES, build, same_index

LONGEST_RUN_SECONDS = 180.0
ROW_BYTES = 512 * 4


def torchrun(
    script: str, *arguments: object, ranks: int = 2, kill_1_when: Callable[[], bool] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `script` by torchrun; the process of rank 1 gets `kill -9` as soon as that is due."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    words += [str(ROOT / script), *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(words, stdout=stdout, stderr=stderr) as run:
            deadline = time.monotonic() + LONGEST_RUN_SECONDS
            while run.poll() is None:
                assert time.monotonic() < deadline
                if kill_1_when and kill_1_when():
                    os.kill(process_of_rank_1(run.pid), signal.SIGKILL)
                    kill_1_when = None
                time.sleep(0.005)
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(words, run.returncode, stdout.read(), stderr.read())


def process_of_rank_1(parent: int) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (found,) = (int(child) for child in children if b"\0RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes())
    return found


def arguments(built: Built, out: Path) -> list[object]:
    return ["--cache", built.cache, "--out", out, "--model", f"local-dir:{built.model}", "--offline"]


def test_two_ranks_make_the_same_index_as_one(built: Built, tmp_path: Path) -> None:
    done = torchrun("build_embeddings.py", *arguments(built, tmp_path))
    assert done.returncode == 0, done.stderr
    assert same_index(tmp_path, built.index)
    manifest = Built(built.cache, tmp_path, built.model).manifest()
    assert manifest["embedding"]["ranks"] == 2
    assert manifest["embedding"]["embedded"] == FACES
    assert manifest["statistics"]["total_records"] == FACES
    assert done.stdout.count("Written to") == 1


def test_a_rank_that_dies_ends_the_run_and_nothing_is_lost(built: Built, tmp_path: Path) -> None:
    rows = tmp_path / "checkpoint_rank1_embeddings.npy"

    def embedded_some() -> bool:
        return rows.exists() and rows.stat().st_size > 128 + 8 * ROW_BYTES  # rank 1 begins with the seventh face

    done = torchrun("build_embeddings.py", *arguments(built, tmp_path), "--batch", 1, kill_1_when=embedded_some)
    assert done.returncode != 0
    assert not (tmp_path / "build_manifest.json").exists()
    assert "Signal 9 (SIGKILL) received by PID" in done.stderr  # which rank it was is torchrun's to say
    assert str(ROOT / "helpers") not in done.stderr  # a traceback of ours
    assert (tmp_path / "checkpoint_meta.json").exists()  # rank 0 was stopped, not killed
    assert rows.exists()

    done = build(built.cache, tmp_path, built.model)  # with one rank
    assert done.returncode == 0, done.stderr
    assert same_index(tmp_path, built.index)


def test_what_is_not_shared_is_not_run_by_several(tmp_path: Path) -> None:
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2"}
    environment |= {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    done = run_script("build_mtg_faiss.py", "--cache", tmp_path, "--out", tmp_path / "out", env=environment)
    assert done.returncode == 1
    assert "only build_embeddings.py can be run by several ranks" in done.stderr
    assert not (tmp_path / "out").exists()
