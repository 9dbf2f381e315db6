"""`make prove-kill`: 20 times `kill -9` over download, build and export of 1,050 real cards; about three minutes.

The moments are random, spread over all that the three commands do; SEED=N repeats those of an earlier run. Each
command is given again as it was. At the end all must be there and right, and nothing may have been fetched or embedded
twice beyond one checkpoint interval (48 pictures, those under way, for a download) a kill.
"""

import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np

from helpers.download.pool import AHEAD_PER_WORKER
from tests.conftest import run_well, serving
from tests.kills import KILLED, rows_in, run_until

CARDS = 1050
WORKERS, INTERVAL = 16, 100
KILLS = {"download": 6, "start of the build": 2, "embedding": 6, "end of the build": 2, "export": 4}


@dataclass
class Work:
    """The three commands on folders of their own, and what can be seen of how far they are."""

    folder: Path
    address: str
    model: Path
    seconds: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.cache, self.out, self.web = (self.folder / name for name in ("cache", "out", "web"))
        self.rows_file = self.out / "checkpoint_embeddings.npy"
        self.commands: dict[str, list[object]] = {
            "download": ["download_images.py", "--cache", self.cache, "--api-url", self.address, "--workers", WORKERS],
            "build": [
                *("build_embeddings.py", "--cache", self.cache, "--out", self.out, "--offline"),
                *("--model", f"local-dir:{self.model}", "--checkpoint-frequency", INTERVAL),
            ],
            "export": ["export_for_browser.py", "--input-dir", self.out, "--output-dir", self.web],
        }

    def finish(self, step: str) -> str:
        """Run a command to its end; its summary."""
        started = time.monotonic()
        script, *arguments = self.commands[step]
        summary = run_well(str(script), *arguments)
        self.seconds[step] = int(1000 * (time.monotonic() - started))
        return summary

    def kill(self, step: str, due: Callable[[], bool]) -> CompletedProcess[str]:
        """Run a command and kill it as soon as `due`."""
        script, *arguments = self.commands[step]
        return run_until(due, str(script), *arguments)

    def has_pictures(self, count: int) -> bool:
        return sum(1 for _ in self.cache.glob("*.jpg")) >= count

    def embedding(self, count: int) -> Callable[[], bool]:
        """Whether a build has written rows, up to `count` of them; what killed ones have left does not count."""
        left: list[int] = []

        def due() -> bool:
            changed = self.rows_file.stat().st_mtime_ns if self.rows_file.exists() else 0
            if not left:
                left.append(changed)
            return changed > left[0] and rows_in(self.out) >= count

        return due

    def checkpointed(self) -> int:
        meta = self.out / "checkpoint_meta.json"
        return int(json.loads(meta.read_text())["processed_count"]) if meta.exists() else 0

    def finishing(self) -> Callable[[], bool]:
        """Whether a build writes its files, beside what killed ones have left."""
        left: list[set[Path]] = []

        def due() -> bool:
            parts = set(self.out.glob("build_manifest.json.*.part"))
            if not left:
                left.append(parts)
            return bool(parts - left[0])

        return due


def after(seconds: float, start: Callable[[], bool] = lambda: True) -> Callable[[], bool]:
    """True from `seconds` after `start` is true for the first time."""
    since: list[float] = []

    def due() -> bool:
        if not since and start():
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= seconds

    return due


def moments(work: Work, draw: random.Random, undisturbed: Work) -> list[tuple[str, str, Callable[[], bool]]]:
    """(command, what it is at, when to kill it), in the order in which they come; random within each."""

    def counts(kind: str) -> list[int]:
        return sorted(draw.sample(range(1, CARDS), KILLS[kind]))

    def delays(kind: str, longest: float) -> list[float]:
        return [draw.uniform(0, longest) for _ in range(KILLS[kind])]

    export_seconds = undisturbed.seconds["export"] / 1000
    return [
        *(("download", f"{n} pictures", partial(work.has_pictures, n)) for n in counts("download")),
        *(("build", f"{s:.2f} s after its start", after(s)) for s in delays("start of the build", 4)),
        *(
            ("build", f"{s:.2f} s after {n} rows", after(s, work.embedding(n)))
            for n, s in zip(counts("embedding"), delays("embedding", 1.5), strict=True)
        ),
        *(
            ("build", f"{s:.2f} s into writing and checking", after(s, work.finishing()))
            for s in delays("end of the build", 0.4)
        ),
        *(("export", f"{s:.2f} s after its start", after(s)) for s in delays("export", export_seconds)),
    ]


def test_20_kills_lose_nothing(real: Path, model: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED") or time.time_ns() % 10**6)
    log = tmp_path / "log"
    with serving(real / "cards.csv", "--log", log) as address:
        undisturbed = Work(tmp_path / "undisturbed", address, model)
        for step in undisturbed.commands:
            undisturbed.finish(step)
        asked_before = len(log.read_text().splitlines())
        work = Work(tmp_path / "killed", address, model)
        print(f"\nSEED={seed}; undisturbed: {dict(undisturbed.seconds)} ms")
        kills, most_lost, embedded, finished = 0, 0, 0, set()
        for step, where, due in moments(work, random.Random(seed), undisturbed):
            for earlier in list(work.commands)[: list(work.commands).index(step)]:
                if earlier not in finished:  # the one before has had its kills: let it come to its end
                    summary = work.finish(earlier)
                    embedded += CARDS - taken_up(summary) if earlier == "build" else 0
                    finished.add(earlier)
            if step == "build" and step in finished:
                continue  # it was done a moment before its last kill
            kept = work.checkpointed()
            killed = work.kill(step, due)
            assert killed.returncode in (0, KILLED), killed.stderr
            was_killed = killed.returncode == KILLED
            kills += was_killed
            lost = 0
            if step == "build":
                rows = rows_in(work.out) if was_killed else CARDS
                embedded += rows - kept
                lost = rows - work.checkpointed() if was_killed else 0
                assert not kept or f"Resuming: {kept:,} of {CARDS:,}" in killed.stderr
            if not was_killed:
                finished.add(step)
            most_lost = max(most_lost, lost)
            print(f"  {step:8} {where:38} {'killed' if was_killed else 'was done'}; rows to embed again: {lost}")
        while kills < sum(KILLS.values()):  # in place of those that came a moment too late
            delay = random.Random(seed + kills).uniform(0, 0.2)
            kills += work.kill("export", after(delay)).returncode == KILLED
        work.finish("export")

    asked = Counter(json.loads(line)["path"] for line in log.read_text().splitlines()[asked_before:] if '"GET"' in line)
    twice = sum(count - 1 for path, count in asked.items() if path.startswith("/normal/"))
    rows, others = (np.load(w.out / "mtg_embeddings.npy") for w in (work, undisturbed))
    worst = float((rows * others).sum(axis=1).min())
    print(f"{kills} kills; most rows to embed again after one: {most_lost}; rows embedded in all: {embedded:,}")
    print(f"pictures asked for twice: {twice}")
    print(f"lowest cosine to the undisturbed run: {worst:.7f} over {len(rows):,} rows")

    assert most_lost <= INTERVAL
    assert CARDS <= embedded <= CARDS + KILLS["embedding"] * INTERVAL
    assert twice <= WORKERS * AHEAD_PER_WORKER * KILLS["download"]
    assert len(asked) >= CARDS
    assert worst >= 0.9999
    assert (work.out / "mtg_meta.jsonl").read_bytes() == (undisturbed.out / "mtg_meta.jsonl").read_bytes()
    assert contents(work.cache, "*.jpg") == contents(undisturbed.cache, "*.jpg")
    assert contents(work.web, "*8bin") == contents(undisturbed.web, "*8bin")
    for folder in ("cache", "out", "web"):
        assert names(work.folder / folder) == names(undisturbed.folder / folder)


def taken_up(summary: str) -> int:
    """How many rows the build that ended with `summary` had from its killed predecessors."""
    found = re.findall(r"([\d,]+) (?:resumed from a checkpoint|reused from the earlier index)", summary)
    assert found, summary  # after so many kills nothing was kept
    return sum(int(count.replace(",", "")) for count in found)


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(pattern)}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
