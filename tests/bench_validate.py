"""`make bench-validate`: how near validate_cache.py comes to what the cores can decode at all.

5,000 pictures of 100 KB. The yardsticks are processes, one a core, that do nothing but read and check (as we do), or
read, verify and load (as Pillow does by itself). In turn, ROUNDS (3) times; medians. Ours is the whole command.
"""

import os
import statistics
import sys
import tempfile
import time
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from helpers.validation import check_image
from tests.conftest import run_script
from tests.fast_server import PICTURES, picture

FILES = 5000
ROUNDS = int(os.environ.get("ROUNDS", "3"))
CORES = os.cpu_count() or 1


def check(path: str) -> None:
    check_image(Path(path).read_bytes())


def verify_and_load(path: str) -> None:
    data = Path(path).read_bytes()
    Image.open(BytesIO(data)).verify()
    Image.open(BytesIO(data)).load()


def main() -> None:
    rates: dict[str, list[float]] = {"validate_cache.py": [], "check alone": [], "verify and load alone": []}
    with tempfile.TemporaryDirectory() as name, get_context("fork").Pool(CORES) as pool:
        folder = Path(name)
        bodies = [picture(seed) for seed in range(PICTURES)]
        paths = [folder / f"{i:040x}.jpg" for i in range(FILES)]
        for i, path in enumerate(paths):
            path.write_bytes(bodies[i % PICTURES])
        words = [str(path) for path in paths]
        for _ in range(ROUNDS):
            started = time.monotonic()
            done = run_script("scripts/validate_cache.py", "--cache", folder)
            rates["validate_cache.py"].append(FILES / (time.monotonic() - started))
            if done.returncode:
                sys.exit(done.stderr)
            for label, work in (("check alone", check), ("verify and load alone", verify_and_load)):
                started = time.monotonic()
                pool.map(work, words, chunksize=50)
                rates[label].append(FILES / (time.monotonic() - started))
    median = {label: statistics.median(found) for label, found in rates.items()}
    for label, rate in median.items():
        print(f"{label:22} {rate:7.0f} pictures/s   {median['validate_cache.py'] / rate:.3f}")
    print(f"medians of {ROUNDS}; {CORES} cores, {FILES:,} JPEGs of 488 x 680 and 100 KB; the last column: ours / this")


if __name__ == "__main__":
    main()
