"""`make prove-checkpoint`: what checkpoints cost, up to half a million rows; about two minutes.

Rows of width 512 are added in batches of 64 with a checkpoint every 500 images, as fast as a GPU would make them
(1,500 a second) and without any pause between them, which is the worst case: then nothing hides the writing. The share
is of the time that the embedding of so many would take at each rate.
"""

import time
from pathlib import Path

import numpy as np
import pytest

from helpers.vectors import unit_rows
from tests.test_checkpoint import make_faces, open_checkpoint

WIDTH, BATCH, FREQUENCY = 512, 64, 500
GPU_RATE = 1500.0  # images a second; FACTS: clip-retrieval with ViT-B/32 on a 3080
CPU_RATE = 13.0  # ViT-B/32 on two cores


@pytest.mark.parametrize(("count", "paced"), [(20_000, True), (50_000, False), (540_000, False)])
def test_checkpoints_cost_less_than_one_percent(tmp_path: Path, count: int, paced: bool) -> None:
    rows = unit_rows(np.random.default_rng(0).standard_normal((BATCH, WIDTH)).astype(np.float32))
    started = time.monotonic()
    with open_checkpoint(tmp_path, make_faces(count), FREQUENCY) as checkpoint:
        for start in range(0, count, BATCH):
            places = list(range(start, min(start + BATCH, count)))
            if paced:
                time.sleep(max(0.0, started + start / GPU_RATE - time.monotonic()))
            checkpoint.add(places, rows[: len(places)])
        checkpoint.complete()
        checkpoint.delete()
    cost = checkpoint.seconds
    print(
        f"\n{count:,} rows, {checkpoint.saves:,} checkpoints, "
        + (f"at {GPU_RATE:,.0f} rows/s" if paced else "without a pause")
        + f": held up for {cost:.2f} s, which is of the embedding at {CPU_RATE:.0f} images/s "
        f"{100 * cost * CPU_RATE / count:.4f} %, at {GPU_RATE:,.0f} {100 * cost * GPU_RATE / count:.2f} %"
    )
    assert cost * (GPU_RATE if paced else CPU_RATE) / count <= 0.01
