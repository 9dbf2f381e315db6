"""`make prove-embed-kill`: 20 times `kill -9` over a build of 2,000 faces; about six minutes.

The moments are random, spread over the embedding; SEED=N repeats those of an earlier run. Each kill may cost one
checkpoint interval, and the index at the end must be that of an undisturbed run.
"""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.conftest import run_well
from tests.kills import KILLED, rows_in, run_until
from tests.made_cache import make_cache
from tests.test_build import same_index

FACES, KILLS, INTERVAL = 2000, 20, 100


def kept_in(out: Path) -> int:
    meta = out / "checkpoint_meta.json"
    return int(json.loads(meta.read_text())["processed_count"]) if meta.exists() else 0


def embedding(out: Path, count: int, delay: float) -> Callable[[], bool]:
    """True `delay` seconds after a build has written rows of its own, up to `count` of them."""
    file = out / "checkpoint_embeddings.npy"
    before = file.stat().st_mtime_ns if file.exists() else 0
    since: list[float] = []

    def due() -> bool:
        if not since and file.exists() and file.stat().st_mtime_ns > before and rows_in(out) >= count:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= delay

    return due


def test_20_kills_cost_an_interval_each_at_most(model: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED") or time.time_ns() % 10**6)
    draw = random.Random(seed)
    cache = make_cache(tmp_path / "cache", ["tst"] * FACES).root
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    words = ["build_embeddings.py", "--cache", cache, "--offline", "--model", f"local-dir:{model}"]
    words += ["--checkpoint-frequency", INTERVAL, "--out"]
    run_well(*map(str, words), undisturbed)
    print(f"\nSEED={seed}")
    kills = most_lost = lost_in_all = 0
    for count in sorted(draw.sample(range(1, FACES - 100), KILLS)):
        kept = kept_in(out)
        killed = run_until(embedding(out, count, draw.uniform(0, 0.5)), *map(str, [*words, out]))
        assert killed.returncode == KILLED, killed.stderr
        assert not kept or f"Resuming: {kept:,} of {FACES:,}" in killed.stderr
        kills += 1
        lost = rows_in(out) - kept_in(out)
        most_lost, lost_in_all = max(most_lost, lost), lost_in_all + lost
        print(f"  killed at row {rows_in(out):,}; rows to embed again: {lost}")
    summary = run_well(*map(str, words), out)
    print(next(line.strip() for line in summary.splitlines() if "embedded:" in line))
    rows, others = (np.load(folder / "mtg_embeddings.npy") for folder in (out, undisturbed))
    print(f"{kills} kills; most rows to embed again after one: {most_lost}, after all: {lost_in_all:,}")
    print(f"lowest cosine to the undisturbed run: {float((rows * others).sum(axis=1).min()):.7f}")
    assert most_lost <= INTERVAL
    assert same_index(out, undisturbed)
