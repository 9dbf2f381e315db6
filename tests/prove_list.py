"""`make prove-list`: a list as large as all_cards, 538,675 cards and 2.9 GB of text; about five minutes.

It is made of invented cards with the fields of real ones, served by a server on 127.0.0.1 that is quick enough, and
read by download_images.py as it is. Printed: how fast it is read, and each command's peak memory.
"""

import gzip
import http.server
import json
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from helpers.cards.card_list import FaceTally, iter_faces
from helpers.cards.faces import Selection
from tests.conftest import ROOT

CARDS = 538_675
TEXT_BYTES = 2_876_000_000
MIN_MB_PER_SECOND, MAX_PEAK_MB = 100, 500
KEYS = ("small", "normal", "large", "png", "art_crop", "border_crop", "thumb", "grid", "display", "art", "crop")
FORMATS = ("standard", "pioneer", "modern", "legacy", "pauper", "vintage", "commander", "brawl", "oathbreaker", "duel")
SHOPS = ("tcgplayer", "cardmarket", "cardhoarder", "gatherer", "edhrec")


def card(i: int, draw: random.Random, words: list[str], address: str) -> bytes:
    """A card as Scryfall has it, of some 5.3 KB."""

    def text(count: int) -> str:
        return " ".join(draw.choices(words, k=count))

    card_id = f"{draw.getrandbits(128):032x}"
    path = f"front/{card_id[0]}/{card_id[1]}/{card_id}"
    endings = {"png": "png"} | dict.fromkeys(KEYS[6:], "webp")
    made = {
        "object": "card",
        "id": card_id,
        "oracle_id": f"{draw.getrandbits(128):032x}",
        "name": text(3),
        "lang": draw.choice(("en", "de", "fr", "ja", "es")),
        "layout": "normal",
        "image_status": "highres_scan",
        "image_uris": {key: f"{address}/{key}/{path}.{endings.get(key, 'jpg')}?{i}" for key in KEYS},
        "oracle_text": text(60),
        "flavor_text": text(40),
        "set": text(1)[:4],
        "collector_number": str(i),
        "games": ["paper"],
        "digital": False,
        "colors": ["W"],
        "artist": text(2),
        "legalities": dict.fromkeys((*FORMATS, *(f"{name}_alternative" for name in FORMATS)), "not_legal"),
        "prices": {name: f"{draw.random() * 90:.2f}" for name in ("usd", "usd_foil", "eur", "eur_foil", "tix")},
        "purchase_uris": {shop: f"https://{shop}.example/search?q={card_id}&utm_source=api" for shop in SHOPS},
        "related_uris": {shop: f"https://{shop}.example/related?q={card_id}&utm_source=api" for shop in SHOPS},
        "scryfall_uri": f"https://cards.example/card/{i}?utm_source=api",
    }
    line = json.dumps(made).encode()
    missing = TEXT_BYTES // CARDS - 1 - len(line) - len(b', "printed_text": ""')
    made["printed_text"] = text(missing // 5)[:missing].ljust(missing)
    return json.dumps(made).encode() + b"\n"


class Served(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the list and of one picture's absence: all others are 404."""
    folder = tmp_path_factory.mktemp("served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=str(folder))) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        draw = random.Random(0)
        words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 8))) for _ in range(3000)]
        size = 0
        with gzip.open(folder / "list.jsonl.gz", "wb", compresslevel=4) as file:
            for i in range(CARDS):
                size += file.write(card(i, draw, words, url))
        packed = (folder / "list.jsonl.gz").stat().st_size
        print(f"\n{CARDS:,} cards, {size / 1e9:.2f} GB of text, {packed / 1e6:.0f} MB gzipped")
        assert size > 0.99 * TEXT_BYTES
        entry = {"type": "all_cards", "updated_at": "2026", "jsonl_download_uri": f"{url}/list.jsonl.gz"}
        (folder / "bulk-data").write_text(json.dumps({"data": [entry | {"compressed_size": packed}]}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()


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
