"""`make prove-download`: 20,000 pictures from a server that misbehaves, and 30 times `kill -9`; about six minutes.

The moments of the kills are random; SEED=N repeats those of an earlier run. Both print what they saw.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from helpers.cards.image_cache import ImageCache
from tests.conftest import run_script, serving
from tests.kills import KILLED, run_until

COUNT, GONE = 20_000, 100
WORKERS = 16
FAULTS = "503=5,reset=2,truncated=1,html=0.5,slow=1,429@3000"
RETRY_AFTER = 3
ON_THE_WAY_SECONDS = 0.5  # what a 429 needs to be heard by every worker, on a machine that is busy with both sides
KILLS, KILLED_COUNT = 30, 6_000


def table_of(pictures: list[Path], count: int, gone: int, folder: Path) -> Path:
    """A table of `count` cards over `pictures`, each used many times; `gone` of them have none and answer 404."""
    table = folder / "cards.jsonl"
    draw = random.Random(0)
    without = set(draw.sample(range(count), gone))
    with open(table, "w") as file:
        for i in range(count):
            name = None if i in without else os.path.relpath(pictures[i % len(pictures)], folder)
            card = {"id": f"id-{i:05}", "name": f"Card {i}", "set": "tst", "collector_number": str(i), "lang": "en"}
            print(json.dumps(card | {"layout": "normal", "picture": name}), file=file)
    return table


def requests(log: Path) -> list[dict[str, object]]:
    """The GETs of pictures, in the order in which the server answered them."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry for entry in entries if entry["method"] == "GET" and entry["path"].startswith("/normal/")]


def contents(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ImageCache(cache).pictures()}


def test_20000_pictures_come_whatever_the_server_does(many: Path, tmp_path: Path) -> None:
    sources = sorted(many.parent.glob("*.jpg"))
    table = table_of(sources, COUNT, GONE, tmp_path)
    cache, log = tmp_path / "cache", tmp_path / "log"
    with serving(table, "--faults", FAULTS, "--retry-after", RETRY_AFTER, "--log", log) as address:
        words = ("--cache", cache, "--api-url", address, "--kind", "all_cards", "--workers", WORKERS)
        started = time.monotonic()
        done = run_script("download_images.py", *words, long=True)
        seconds = time.monotonic() - started
    print(done.stdout)
    asked = requests(log)
    faults = Counter(str(entry["fault"] or entry["status"]) for entry in asked)
    print(f"{len(asked):,} requests in {seconds:.0f} s; answered: {dict(faults)}")
    pauses = done.stderr.count("every worker pauses")
    late = after_a_429(asked)
    print(f"{pauses} pauses; requests in each between the 429 and {ON_THE_WAY_SECONDS} s after it: {late}, later: none")

    report = json.loads((cache / "download_report.json").read_text())
    gone = {entry["path"] for entry in asked if entry["status"] == 404}
    assert done.returncode == 0, done.stderr
    assert (report["fetched"], report["missing"], report["failed"]) == (COUNT - GONE, GONE, 0)
    assert {failure["url"].removeprefix(address) for failure in report["failures"]} == gone
    assert len(gone) == GONE
    assert {"503", "reset", "truncated", "html", "slow", "429"} <= set(faults)
    assert pauses == faults["429"] == len(asked) // 3000
    assert run_script("scripts/validate_cache.py", "--cache", cache).returncode == 0
    found = contents(cache)
    for entry in asked:
        if entry["path"] not in gone:
            number = int(str(entry["path"]).partition("/id-")[2][:5])
            assert (
                found[ImageCache.name_for(f"{address}{entry['path']}")] == sources[number % len(sources)].read_bytes()
            )
    assert len(found) == COUNT - GONE
    assert not list(cache.glob("*.part"))


def after_a_429(asked: list[dict[str, object]]) -> list[int]:
    """For each 429 how many requests came after it that were on their way; fails where one came later in the pause."""
    late = []
    for entry in asked:
        if entry["fault"] == "429":
            moment = float(str(entry["time"]))
            came = [float(str(other["received"])) - moment for other in asked]
            within = [seconds for seconds in came if 0 < seconds < RETRY_AFTER]
            assert max(within, default=0) < ON_THE_WAY_SECONDS
            assert len(within) < WORKERS
            late.append(len(within))
    return late


def pictures_in(cache: Path) -> int:
    return sum(path.suffix == ".jpg" for path in cache.iterdir()) if cache.exists() else 0


def further(cache: Path, count: int) -> Callable[[], bool]:
    """True once a download has brought pictures of its own, up to `count` of them."""
    before = pictures_in(cache)
    return lambda: pictures_in(cache) >= max(count, before + 1)


def test_30_kills_leave_what_an_undisturbed_run_does(many: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED") or time.time_ns() % 10**6)
    draw = random.Random(seed)
    table = table_of(sorted(many.parent.glob("*.jpg")), KILLED_COUNT, 0, tmp_path)
    undisturbed, cache = tmp_path / "undisturbed", tmp_path / "cache"
    with serving(table, "--faults", "503=2,truncated=1,html=1") as address:
        words = ("download_images.py", "--api-url", address, "--kind", "all_cards", "--workers", WORKERS, "--cache")
        assert run_script(*words, undisturbed, long=True).returncode == 0
        present: list[int] = []
        for count in sorted(draw.sample(range(KILLED_COUNT - 500), KILLS)):
            killed = run_until(further(cache, count), *words, cache)
            assert killed.returncode == KILLED, killed.stderr
            present.append(pictures_in(cache))
        done = run_script(*words, cache, long=True)
    print(f"SEED={seed}: {len(present)} kills; pictures after each: {present}")
    assert done.returncode == 0, done.stderr
    assert present[-1] < KILLED_COUNT
    assert contents(cache) == contents(undisturbed)
    assert len(contents(cache)) == KILLED_COUNT
    names = [{path.name for path in folder.iterdir()} for folder in (cache, undisturbed)]
    assert names[0] == names[1]
    lists = [next(folder.glob("all_cards-*.jsonl.gz")).read_bytes() for folder in (cache, undisturbed)]
    assert lists[0] == lists[1]
