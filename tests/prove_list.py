"""`make prove-list`: a list as large as all_cards, 538,675 cards and 2.9 GB of text; about five minutes.

It is made of invented cards with the fields of real ones, served by a server on 127.0.0.1 that is quick enough, and
read by download_images.py as it is. Printed: how fast it is read, and each command's peak memory.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cards.card_list import FaceTally, iter_faces
from helpers.cards.faces import Selection
from tests.conftest import ROOT
from tests.made_list import CARDS, LINE_BYTES, Cards, announce, serving, write_list

TEXT_BYTES = round(CARDS * LINE_BYTES)
MIN_MB_PER_SECOND, MAX_PEAK_MB = 100, 500


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the list and of no picture: all are 404."""
    folder = tmp_path_factory.mktemp("served")
    with serving(folder) as url:
        size, packed = write_list(folder, CARDS, Cards(url))
        announce(folder, url)
        print(f"\n{CARDS:,} cards, {size / 1e9:.2f} GB of text, {packed / 1e6:.0f} MB gzipped")
        assert size > 0.99 * TEXT_BYTES
        yield url


def measured(*arguments: object) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Run download_images.py; seconds, and its peak memory in MB."""
    program = (
        "import atexit, resource as r, runpy, sys; sys.argv = sys.argv[1:]; "
        "sys.path.insert(0, sys.argv[0].rpartition('/')[0]); "
        "atexit.register(lambda: print('peak', r.getrusage(r.RUSAGE_SELF).ru_maxrss, file=sys.stderr)); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "download_images.py"), "--kind", "all_cards", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return done, time.monotonic() - started, int(done.stderr.rpartition("peak ")[2]) / unit


def test_a_list_of_all_cards_is_read_fast_and_in_bounded_memory(address: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done, seconds, peak = measured("--cache", cache, "--api-url", address, "--limit", 200, "--max-retries", 0)
    print(f"list fetched and checked, 200 faces asked for (all 404): {seconds:.0f} s, peak {peak:.0f} MB")
    assert "Faces: 200" in done.stdout, done.stderr
    assert peak < MAX_PEAK_MB

    (card_list,) = cache.glob("all_cards-*.jsonl.gz")
    tally = FaceTally()
    started = time.monotonic()
    assert sum(1 for _ in iter_faces(card_list, Selection(), tally)) == CARDS
    rate = TEXT_BYTES / 1e6 / (time.monotonic() - started)
    print(f"read into {tally.faces:,} faces: {rate:.0f} MB of text a second")
    assert rate >= MIN_MB_PER_SECOND

    done, seconds, peak = measured("--cache", cache, "--offline")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"the whole command over all of them (--offline, none is there): {seconds:.0f} s, peak {peak:.0f} MB")
    print(f"{os.cpu_count()} cores; this process, which read it too: {own / 1e3:.0f} MB")
    for again in ("--offline", "--retry-failed"):  # beside a report of so many failures
        limit = ["--limit", 100, "--api-url", address, "--max-retries", 0]
        _, seconds, peak_again = measured("--cache", cache, again, *(limit if again == "--retry-failed" else []))
        print(f"once more, {again}: {seconds:.0f} s, peak {peak_again:.0f} MB")
        assert peak_again < MAX_PEAK_MB
    assert done.returncode == 2
    assert f"{CARDS:,} of {CARDS:,} failed" in done.stderr
    assert peak < MAX_PEAK_MB
