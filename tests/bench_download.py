"""`make bench-download`: files a second of ours, of aria2c and of img2dataset, from one server in one run.

The server is on 127.0.0.1, answers each picture after 50 ms, and its pictures have 100 KB. Everybody's rate is what the
server saw: pictures by the time from the first request to the last answer. Ours is download_images.py as it is: each
picture is decoded at the door, written with fsync and renamed. CPU is that of the whole command, its start included.
The rounds go over all clients in turn; medians of ROUNDS (3). ARIA2C and IMG2DATASET name the programs where they are
not on the path; those that are not there are left out, and that is said.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.fast_server import fast_server

LATENCY = 0.05
FILES = 2000
ROUNDS = int(os.environ.get("ROUNDS", "3"))
LONGEST_RUN_SECONDS = 300


@dataclass(frozen=True)
class Client:
    """Something that downloads `files` pictures over `connections`, by the command `words` (server, list, folder)."""

    name: str
    connections: int
    files: int
    words: Callable[[str, Path, Path], list[str]]


def ours(workers: int, files: int = FILES) -> Client:
    def words(address: str, _urls: Path, out: Path) -> list[str]:
        script = [sys.executable, str(ROOT / "download_images.py"), "--api-url", address, "--cache", str(out)]
        return [*script, "--workers", str(workers), "--limit", str(files)]

    return Client("ours", workers, files, words)


def aria2c(program: str, connections: int) -> Client:
    def words(_address: str, urls: Path, out: Path) -> list[str]:
        return [program, "-q", "-i", str(urls), "-d", str(out / "files"), "-j", str(connections), "-x", "1",
                "--no-conf", "--file-allocation=none"]  # fmt: skip

    return Client("aria2c", connections, FILES, words)


def img2dataset(program: str, threads: int) -> Client:
    def words(_address: str, urls: Path, out: Path) -> list[str]:
        return [program, "--url_list", str(urls), "--output_folder", str(out), "--output_format", "files",
                "--processes_count", "1", "--thread_count", str(threads), "--resize_mode", "no",
                "--disable_all_reencoding", "True", "--number_sample_per_shard", str(FILES)]  # fmt: skip

    return Client("img2dataset", threads, FILES, words)


def clients() -> list[Client]:
    found = [ours(1, FILES // 10), ours(16), ours(32)]
    for name, make in (("aria2c", aria2c), ("img2dataset", img2dataset)):
        program = shutil.which(os.environ.get(name.upper(), name))
        if program:
            found += [make(program, 16), make(program, 32)]
        else:
            print(f"{name} is not installed: left out")
    return found


def measure(client: Client, address: str, folder: Path) -> tuple[float, float]:
    """Files a second by the server's clock, and CPU seconds per 1,000 files."""
    urls = folder / "urls.txt"
    urls.write_text("".join(f"{address}/normal/{i}.jpg\n" for i in range(client.files)))
    out = Path(tempfile.mkdtemp(dir=folder))
    ask(address, "/reset")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        client.words(address, urls, out), capture_output=True, text=True, timeout=LONGEST_RUN_SECONDS,
        check=False, env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"},  # img2dataset's would ask PyPI
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seen = ask(address, "/stats")
    pictures = sum(1 for path in out.rglob("*") if path.suffix == ".jpg" and path.stat().st_size > 50_000)
    assert pictures == client.files, f"{client.name}: {pictures} of {client.files} files; {done.stdout} {done.stderr}"
    assert seen["requests"] >= client.files
    assert seen["at_a_time"] <= client.connections

    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return client.files / seen["seconds"], 1000 * cpu / client.files


def ask(address: str, path: str) -> dict[str, float]:
    with urllib.request.urlopen(address + path) as answer:
        return dict(json.load(answer))


def main() -> None:
    wanted = clients()
    rates: dict[Client, list[float]] = {client: [] for client in wanted}
    cpu: dict[Client, list[float]] = {client: [] for client in wanted}
    with tempfile.TemporaryDirectory() as folder, fast_server(FILES, LATENCY) as address:
        for _ in range(ROUNDS):
            for client in wanted:
                rate, seconds = measure(client, address, Path(folder))
                rates[client].append(rate)
                cpu[client].append(seconds)
                print(f"  {client.name} {client.connections}: {rate:.0f} files/s", flush=True)
    median = {client: statistics.median(rates[client]) for client in wanted}
    print(f"\nmedians of {ROUNDS}; 50 ms latency, files of 100 KB, {os.cpu_count()} cores, server included")
    print(f"{'client':12} {'connections':>11} {'files/s':>8} {'of the bound':>12} {'CPU s per 1,000':>16}")
    for client in wanted:
        share = median[client] * LATENCY / client.connections
        used = statistics.median(cpu[client])
        print(f"{client.name:12} {client.connections:11} {median[client]:8.1f} {share:12.3f} {used:16.2f}")
    one, sixteen = wanted[0], wanted[1]
    print(f"ours, 16 workers / 1 worker: {median[sixteen] / median[one]:.2f}")
    for client in wanted[3:]:
        same = next(mine for mine in wanted if mine.name == "ours" and mine.connections == client.connections)
        print(f"ours / {client.name}, {client.connections} connections: {median[same] / median[client]:.2f}")


if __name__ == "__main__":
    main()
