"""torchrun with two ranks on this machine: one index, whoever dies."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.conftest import ROOT, Built, run_script
from tests.test_build import FACES, build, same_index

LONGEST_RUN_SECONDS = 180.0
ROW_BYTES = 512 * 4


def torchrun(
    script: str,
    *arguments: object,
    ranks: int = 2,
    due: Callable[[], bool] | None = None,
    sent: signal.Signals = signal.SIGKILL,
) -> subprocess.CompletedProcess[str]:
    """Run `script` by torchrun; the process of rank 1 gets `sent` as soon as that is due."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    words += [str(ROOT / script), *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(words, stdout=stdout, stderr=stderr) as run:
            deadline = time.monotonic() + LONGEST_RUN_SECONDS
            while run.poll() is None:
                assert time.monotonic() < deadline
                if due and due():
                    os.kill(process_of_rank_1(run.pid), sent)
                    due = None
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


def embedded_some(out: Path) -> bool:
    """Whether rank 1, which begins with the eighth face, has a row or two."""
    rows = out / "checkpoint_rank1_embeddings.npy"
    return rows.exists() and rows.stat().st_size > 128 + 8 * ROW_BYTES


def kept(out: Path, name: str) -> int:
    """How many rows a checkpoint tells of."""
    return int(np.load(out / name)["good_mask"].sum()) if (out / name).exists() else 0


def test_a_rank_that_is_killed_ends_the_run_and_one_goes_on(built: Built, tmp_path: Path) -> None:
    words = [*arguments(built, tmp_path), "--batch", 1]
    done = torchrun("build_embeddings.py", *words, due=lambda: embedded_some(tmp_path))
    assert done.returncode != 0
    assert not (tmp_path / "build_manifest.json").exists()
    assert "Signal 9 (SIGKILL) received by PID" in done.stderr  # which rank it was is torchrun's to say
    assert str(ROOT / "helpers") not in done.stderr  # a traceback of ours
    resumed = kept(tmp_path, "checkpoint.npz")
    assert resumed  # rank 0 was stopped, not killed

    done = build(built.cache, tmp_path, built.model)
    assert done.returncode == 0, done.stderr
    assert same_index(tmp_path, built.index)
    assert Built(built.cache, tmp_path, built.model).manifest()["embedding"]["resumed"] == resumed


def test_what_two_ranks_kept_two_others_go_on_from(built: Built, tmp_path: Path) -> None:
    words = [*arguments(built, tmp_path), "--batch", 1]
    done = torchrun("build_embeddings.py", *words, due=lambda: embedded_some(tmp_path), sent=signal.SIGTERM)
    assert done.returncode != 0
    by_rank = [kept(tmp_path, name) for name in ("checkpoint.npz", "checkpoint_rank1.npz")]
    assert all(by_rank)
    assert sum(by_rank) < FACES

    done = torchrun("build_embeddings.py", *arguments(built, tmp_path))
    assert done.returncode == 0, done.stderr
    assert same_index(tmp_path, built.index)
    counts = Built(built.cache, tmp_path, built.model).manifest()["embedding"]
    assert (counts["resumed"], counts["embedded"]) == (sum(by_rank), FACES - sum(by_rank))


def test_what_is_not_shared_is_not_run_by_several(tmp_path: Path) -> None:
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2"}
    environment |= {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    done = run_script("build_mtg_faiss.py", "--cache", tmp_path, "--out", tmp_path / "out", env=environment)
    assert done.returncode == 1
    assert "only build_embeddings.py can be run by several ranks" in done.stderr
    assert not (tmp_path / "out").exists()
