"""`make prove-tune`: a tuning that is killed again and again loses at most a minute each time and ends as good.

SEED=N repeats a run: it chooses when each kill comes.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import torch

from helpers.recognise.evaluation import wilson
from tests.conftest import ROOT, run_well

KILLS = 3
CARDS, MINUTES = 120, 3.5
BETWEEN_KILLS = (46.0, 88.0)  # seconds of training: one checkpoint is made, so that enough is left to train at the end
MAX_LOST_SECONDS = 60
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))


def test_a_tuning_that_is_killed_ends_as_good_as_one_that_is_not(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    cards = tmp_path / "cards"
    run_well("scripts/draw_cards.py", "--out", cards, "--count", CARDS, "--seed", 3)
    run_well("scripts/make_offline_model.py", "--out", tmp_path / "base")
    start = ("--model", f"local-dir:{tmp_path / 'base'}", "--minutes", MINUTES, "--held-out", 30)
    words = ("--pictures", cards, "--table", cards / "pictures.csv", *start)
    print(f"\nSEED={SEED}")
    run_well("scripts/tune_model.py", *words, "--out", tmp_path / "whole")
    out, seconds, lost = tmp_path / "killed", 0.0, []
    for kill in range(KILLS):
        trained = train_for(moments.uniform(*BETWEEN_KILLS), *words, "--out", out)
        kept = torch.load(out / "tuning.pt", weights_only=True)["seconds"] if (out / "tuning.pt").exists() else 0.0
        lost.append(seconds + trained - kept)
        print(f"kill {kill + 1}: trained for {trained:.0f} s, of which {lost[-1]:.0f} s are lost")
        seconds = kept
    run_well("scripts/tune_model.py", *words, "--out", out)
    ours, theirs = (json.loads((folder / "tuning.json").read_text()) for folder in (out, tmp_path / "whole"))
    print(f"steps {ours['steps']}, without kills {theirs['steps']}")
    assert max(lost) <= MAX_LOST_SECONDS
    found, expected = (made["held_out"]["after"] for made in (ours, theirs))
    print(f"held-out recall {found['hits']}/{found['queries']}, without kills {expected['hits']}/{expected['queries']}")
    low, high = wilson(expected["hits"], expected["queries"])
    assert low <= found["hits"] / found["queries"] <= high


def train_for(seconds: float, *words: object) -> float:
    """Start a tuning, kill it once it has trained that long, and return for how long it has."""
    script = [sys.executable, str(ROOT / "scripts/tune_model.py"), *map(str, words)]
    with subprocess.Popen(script, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in iter(process.stderr.readline, ""):
            if re.match("Training on ", line):
                break
        began = time.monotonic()
        try:
            process.wait(seconds)
            raise AssertionError("it was done before the kill")
        except subprocess.TimeoutExpired:
            process.kill()
        return time.monotonic() - began
