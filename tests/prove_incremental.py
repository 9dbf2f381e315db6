"""`make prove-incremental`: what a second build of 2,000 faces costs, and how much memory 50,000 take; nine minutes."""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, Built, run_well
from tests.made_cache import make_cache, make_tiny_model, url
from tests.pictures import encoded
from tests.test_build import same_index

KEPT, GONE, NEW, CHANGED = 1990, 10, 20, 10
MAX_MEMORY_MB = 60  # 150 is what was asked for; all rows of the larger one are 98


def test_a_second_build_costs_what_changed(model: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache", ["kept"] * KEPT + ["gone"] * GONE + ["new"] * NEW)
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    words = ["build_embeddings.py", "--cache", cache.root, "--offline", "--model", f"local-dir:{model}"]
    run_well(*map(str, words), "--out", out, "--set", "kept,gone")
    first = Built(cache.root, out, model).manifest()
    for number in range(0, KEPT, KEPT // CHANGED):
        cache.path_for(url(number)).write_bytes(encoded(seed=10_000 + number))
    run_well(*map(str, words), "--out", out, "--set", "kept,new")
    second = Built(cache.root, out, model).manifest()
    run_well(*map(str, words), "--out", fresh, "--set", "kept,new")
    rows, others = (np.load(folder / "mtg_embeddings.npy") for folder in (out, fresh))
    phases = [manifest["seconds"]["embedding"] + manifest["seconds"]["reusing"] for manifest in (first, second)]
    print(f"\nfirst build: {first['embedding']['embedded']:,} embedded in {phases[0]:.1f} s")
    print(f"second: {second['embedding']['embedded']} embedded, {second['embedding']['reused']:,} taken over, in")
    print(f"  {phases[1]:.2f} s: {100 * phases[1] / phases[0]:.1f} % of the first one's; {second['seconds']}")
    print(f"lowest cosine to a fresh build: {float((rows * others).sum(axis=1).min()):.7f}")
    assert second["embedding"]["embedded"] == NEW + CHANGED
    assert phases[1] <= 0.05 * phases[0]
    assert same_index(out, fresh)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_faces(tmp_path: Path) -> None:
    tiny = make_tiny_model(tmp_path / "tiny")
    peaks = {}
    for count in (2_000, 50_000):
        cache = make_cache(tmp_path / f"cache{count}", ["tst"] * count, links=True)
        for build in ("first", "second"):  # which takes every row over
            peaks[build, count] = peak_while_embedding(
                *("--cache", cache.root, "--offline", "--model", f"local-dir:{tiny}", "--out", tmp_path / f"out{count}")
            )
            seconds = json.loads((tmp_path / f"out{count}" / "build_manifest.json").read_text())["seconds"]
            print(
                f"\n{count:,} faces, {build} build: peak of {peaks[build, count]:.0f} MB of anonymous memory; {seconds}"
            )
    for build in ("first", "second"):
        assert abs(peaks[build, 50_000] - peaks[build, 2_000]) <= MAX_MEMORY_MB


def peak_while_embedding(*arguments: object) -> float:
    """The most anonymous memory in MB that a build has from choosing the precision until the index is begun."""
    words = [sys.executable, str(ROOT / "build_embeddings.py"), *map(str, arguments)]
    peak = 0
    with tempfile.NamedTemporaryFile("w+") as stderr:
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=stderr) as run:
            while run.poll() is None:
                said = Path(stderr.name).read_text()
                if "Precision: " in said and "Indexing " not in said:
                    status = Path(f"/proc/{run.pid}/status").read_text()
                    found = re.search(r"RssAnon:\s+(\d+) kB", status)
                    peak = max(peak, int(found[1]) if found else 0)
                time.sleep(0.02)
        assert run.returncode == 0, Path(stderr.name).read_text()
    return peak / 1000
