"""torchrun with two ranks on this machine: one index, whoever dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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
from tests.conftest import ROOT, needs_proc, run_script
from tests.kills import rows_in
from tests.made_cache import make_cache, make_tiny_model
from tests.test_build import contents, same_index
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


FACES = 600


@dataclass(frozen=True)
class Shared:
    """A build of many faces by two ranks, of which the second was killed."""

    out: Path
    words: list[object]
    killed: "subprocess.CompletedProcess[str]"
    kept: list[int]  # rows in each rank's checkpoint

    def manifest(self, out: Path) -> dict[str, Any]:
        return dict(json.loads((out / "build_manifest.json").read_text()))


@pytest.fixture(scope="module")
def shared(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    folder = tmp_path_factory.mktemp("ranks")
    cache, out = make_cache(folder / "cache", ["tst"] * FACES).root, folder / "out"
    words = ["--cache", cache, "--model", f"local-dir:{tiny}", "--offline", "--checkpoint-frequency", 100, "--out"]

    def embedded_some() -> bool:
        """Whether both ranks have rows, and the second a checkpoint, which is all that a kill leaves it."""
        return (out / "checkpoint_rank1_meta.json").exists() and rows_in(out) > 4  # a batch

    done = torchrun("build_embeddings.py", *words, out, "--batch", 4, due=embedded_some)
    return Shared(out, words, done, [kept(out, name) for name in ("checkpoint.npz", "checkpoint_rank1.npz")])


def kept(out: Path, name: str) -> int:
    """How many rows a checkpoint tells of."""
    return int(np.load(out / name)["good_mask"].sum()) if (out / name).exists() else 0


@needs_proc
@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_run_and_all_keep_what_they_have(shared: Shared) -> None:
    assert shared.killed.returncode != 0
    assert not (shared.out / "build_manifest.json").exists()
    assert "Signal 9 (SIGKILL) received by PID" in shared.killed.stderr  # which rank it was is torchrun's to say
    assert str(ROOT / "helpers") not in shared.killed.stderr  # a traceback of ours
    assert all(shared.kept)
    assert sum(shared.kept) < FACES


@needs_proc
@pytest.mark.slow
def test_one_process_goes_on_from_what_ranks_kept(shared: Shared, tmp_path: Path) -> None:
    out, fresh = Path(shutil.copytree(shared.out, tmp_path / "out")), tmp_path / "fresh"
    for folder in (out, fresh):
        done = run_script("build_embeddings.py", *shared.words, folder)
        assert done.returncode == 0, done.stderr
    counts = shared.manifest(out)["embedding"]
    assert (counts["resumed"], counts["embedded"]) == (sum(shared.kept), FACES - sum(shared.kept))
    assert same_index(out, fresh)


@needs_proc
@pytest.mark.slow
def test_two_ranks_go_on_from_it_and_make_the_same_index_as_one(shared: Shared, tmp_path: Path) -> None:
    out, fresh = Path(shutil.copytree(shared.out, tmp_path / "out")), tmp_path / "fresh"
    done = torchrun("build_embeddings.py", *shared.words, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written to") == 1
    manifest = shared.manifest(out)
    counts = manifest["embedding"]
    assert (counts["ranks"], counts["resumed"]) == (2, sum(shared.kept))
    assert counts["embedded"] == FACES - sum(shared.kept)
    assert manifest["statistics"]["total_records"] == manifest["statistics"]["successful_embeddings"] == FACES
    assert run_script("build_embeddings.py", *shared.words, fresh).returncode == 0
    assert same_index(out, fresh)


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
    build_here(args, embedder, report, Second(1, 2, 1, 2))
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
    assert "this script can't be run by several ranks" in done.stderr
    assert not (tmp_path / "out").exists()
