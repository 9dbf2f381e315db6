"""`make prove-checkpoint`: what checkpoints cost, up to half a million rows; about one minute.

Rows of width 512 are added in batches of 64, with a checkpoint every 500 images. The first of them come without any
pause, which is the worst case, since nothing hides the writing; the last 20,000 as fast as a GPU makes them.
"""

import math
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.artifacts import IndexFolder
from helpers.build.rows import open_checkpoint
from helpers.cards.pictures import PICTURE
from helpers.embed.dhash import HASH_BYTES
from helpers.embed.settings import Rows
from helpers.embed.vectors import unit_rows
from tests.test_rows import SETTINGS

WIDTH, BATCH, FREQUENCY = 512, 64, 500
CPU_RATE = 13.0  # images a second: ViT-B/32 on two cores
GPU_RATE = 1500.0  # FACTS: clip-retrieval with ViT-B/32 on a 3080
PACED = 20_000


@pytest.mark.parametrize("count", [PACED, 50_000, 540_000])
def test_checkpoints_cost_less_than_one_percent(tmp_path: Path, count: int) -> None:
    rows = unit_rows(np.random.default_rng(0).standard_normal((BATCH, WIDTH)).astype(np.float32))

    made = Rows(rows, np.ones(BATCH, "V68").view(PICTURE), np.zeros((BATCH, HASH_BYTES), np.uint8))

    def add(first: int, last: int, rate: float) -> float:
        """Add the rows from `first` to `last`; the seconds that checkpoints held this up."""
        before, started = checkpoint.seconds, time.monotonic()
        for start in range(first, last, BATCH):
            time.sleep(max(0.0, started + (start - first) / rate - time.monotonic()))
            checkpoint.append(made.take(np.arange(min(BATCH, last - start))))
        return checkpoint.seconds - before

    with open_checkpoint(IndexFolder(tmp_path), SETTINGS, FREQUENCY, resume=True) as checkpoint:
        unpaced = add(0, count - PACED, math.inf)
        paced = add(count - PACED, count, GPU_RATE)
        checkpoint.finish()
        checkpoint.drop()
    print(
        f"\n{count:,} rows, {checkpoint.saves:,} checkpoints: the first {count - PACED:,} held up for {unpaced:.2f}"
        f" s, {100 * unpaced * CPU_RATE / count:.3f} % of their embedding at {CPU_RATE:.0f} images/s;"
        f" the last {PACED:,}, at {GPU_RATE:,.0f} images/s, for {100 * paced * GPU_RATE / PACED:.2f} %"
    )
    assert unpaced * CPU_RATE / count <= 0.01
    assert paced * GPU_RATE / PACED <= 0.01
