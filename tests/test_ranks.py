"""torchrun with two ranks on this machine: one index, whoever dies."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from build_embeddings import parse_args
from helpers.build.ranks import Ranks, sole_build
from helpers.build.report import BuildReport
from helpers.build.request import BuildRequest
from helpers.build.stage import build as build_here
from helpers.build.stage import load_embedder
from helpers.embed.embedder import Embedder
from helpers.errors import PipelineError
from tests.conftest import ROOT, Built, needs_proc, run_script
from tests.made_cache import make_cache, make_tiny_model
from tests.test_build import FACES, build, contents, same_index
from tests.test_rows import interrupted

MAX_RUN_SECONDS = 180.0


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
            deadline = time.monotonic() + MAX_RUN_SECONDS
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
    """Whether both ranks have a row or two."""
    rows = [out / f"checkpoint{rank}_embeddings.npy" for rank in ("", "_rank1")]
    return all(path.exists() and path.stat().st_size > 128 for path in rows)


def kept(out: Path, name: str) -> int:
    """How many rows a checkpoint tells of."""
    return int(np.load(out / name)["good_mask"].sum()) if (out / name).exists() else 0


@needs_proc
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


@needs_proc
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


class Second(Ranks):
    """Rank 1 of two; rank 0 answers as `answers` say."""

    answers: ClassVar[list[Callable[[], Any]]]

    def from_leader(self, value: Any) -> Any:
        return self.answers.pop(0)() if self.answers else None

    def to_leader(self, value: Any) -> list[Any]:
        return []


@pytest.fixture
def as_second(tmp_path: Path) -> tuple[BuildRequest, Embedder, Path, Path]:
    """What rank 1 builds with: arguments, model, cache and --out."""
    cache, out = make_cache(tmp_path / "cache", ["tst"] * 4).root, tmp_path / "out"
    out.mkdir()
    model = make_tiny_model(tmp_path / "tiny")
    words = ["--cache", cache, "--out", out, "--offline", "--model", f"local-dir:{model}"]
    args = parse_args(list(map(str, words))).request
    return args, load_embedder(args, BuildReport()), cache, out


def test_a_rank_touches_no_checkpoint_before_rank_0_is_done_with_them(
    as_second: tuple[BuildRequest, Embedder, Path, Path],
) -> None:
    args, embedder, cache, out = as_second
    interrupted(out, [0, 1], rank=1)
    left = contents(out)

    def to_do() -> NDArray[np.int64]:
        assert contents(out) == left
        return np.array([2, 3])

    Second.answers = [lambda: next(cache.glob("*.gz")).name, lambda: embedder.settings, to_do]
    report = BuildReport()
    assert build_here(args, embedder, report, Second(1, 2, 1, 2)) == ""
    assert not Second.answers
    assert report.embedded == 1
    assert (out / "checkpoint_rank1_meta.json").read_bytes() != left["checkpoint_rank1_meta.json"]


def test_a_rank_that_sees_other_things_than_rank_0_says_so(
    as_second: tuple[BuildRequest, Embedder, Path, Path],
) -> None:
    args, embedder, cache, _ = as_second
    Second.answers = [lambda: "another.jsonl.gz"]
    with pytest.raises(PipelineError, match="the ranks do not share --cache"):
        build_here(args, embedder, BuildReport(), Second(1, 2, 1, 2))
    others = replace(embedder.settings, weights_sha256="other")
    Second.answers = [lambda: next(cache.glob("*.gz")).name, lambda: others]
    with pytest.raises(PipelineError, match="rank 1 would make other rows than rank 0"):
        build_here(args, embedder, BuildReport(), Second(1, 2, 1, 2))
    Second.answers = [lambda: True]
    with pytest.raises(PipelineError, match="the ranks do not share --out"), sole_build(args.out, Second(1, 2, 1, 2)):
        pass


def test_what_is_not_shared_is_not_run_by_several(tmp_path: Path) -> None:
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2"}
    environment |= {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    done = run_script("build_mtg_faiss.py", "--cache", tmp_path, "--out", tmp_path / "out", env=environment)
    assert done.returncode == 1
    assert "only build_embeddings.py can be run by several ranks" in done.stderr
    assert not (tmp_path / "out").exists()
