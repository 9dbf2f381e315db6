"""docs/offline.md tells the truth: with no network at all, an index is built, asked and exported."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cards.image_cache import ImageCache
from tests.conftest import ROOT, Built

# A network namespace of its own, in which not even loopback is up
ALONE = ["unshare", "--map-root-user", "--net"]
CONNECT = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)"


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """The words before a command that give it no network."""
    if shutil.which(ALONE[0]) is None or subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network namespace (unshare --map-root-user --net)")
    done = subprocess.run([*ALONE, sys.executable, "-c", CONNECT], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in done.stderr
    return ALONE


def run_alone(alone: list[str], script: str, *words: object) -> str:
    command = [*alone, sys.executable, str(ROOT / script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_it_all_works_without_a_network(alone: list[str], built: Built, tmp_path: Path) -> None:
    cache, index = tmp_path / "image_cache", tmp_path / "index"
    shutil.copytree(built.cache, cache)
    words = ("--offline", "--cache", cache, "--out", index, "--model", "cards", "--limit", 10)
    run_alone(alone, "build_mtg_faiss.py", *words, "--export", "--encoder")
    record = json.loads((index / "mtg_meta.jsonl").read_text().splitlines()[0])
    picture = ImageCache(cache).path_for(record["image_url"])
    answer = json.loads(run_alone(alone, "query_index.py", picture, "--index", index, "--json"))
    assert answer["cards"][0]["matches"][0]["name"] == record["name"]
    assert {file["role"] for file in json.loads((index / "bundle.json").read_text())["files"]} >= {"records", "encoder"}
