"""The whole way on real cards, as a user goes it, and the built-in sample."""

import json
import random
from pathlib import Path

import numpy as np

from helpers.image_cache import ImageCache
from tests.conftest import Built, run_script


def test_1050_real_cards_become_1050_rows(real_built: Built) -> None:
    assert len(real_built.records()) == 1050
    assert np.load(real_built.index / "mtg_embeddings.npy").shape == (1050, 512)
    assert real_built.manifest()["statistics"]["successful_embeddings"] == 1050


def test_50_real_cards_asked_about_themselves_come_first(real_built: Built) -> None:
    records = real_built.records()
    rows = np.load(real_built.index / "mtg_embeddings.npy")
    row_of = {record["face_id"]: row for row, record in enumerate(records)}
    asked = random.Random(0).sample(range(len(records)), 50)
    paths = [ImageCache(real_built.cache).path_for(records[row]["image_url"]) for row in asked]
    done = run_script(
        *("query_index.py", "-", "--index", real_built.index, "--json", "--k", 1),
        input="".join(f"{path}\n" for path in paths),
    )
    assert done.returncode == 0
    for row, line in zip(asked, done.stdout.splitlines(), strict=True):
        (best,) = json.loads(line)["cards"][0]["matches"]
        assert best["score"] >= 0.99
        found = row_of[best["face_id"]]
        assert found == row or float(rows[found] @ rows[row]) >= 1 - 1e-6  # itself or an identical twin


def test_the_demo_recognises_its_photograph(tmp_path: Path) -> None:
    done = run_script("scripts/demo.py", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for script in ("download_images.py", "build_embeddings.py", "export_for_browser.py", "query_index.py"):
        assert f"$ python {script} " in done.stdout
    assert done.stdout.rstrip().endswith("right.")
