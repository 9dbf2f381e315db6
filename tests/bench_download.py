"""`make bench-download`: files a second of ours, of bare sockets, of aria2c and of img2dataset, in one run.

The server is on 127.0.0.1, answers each picture after 50 ms, and its pictures have 100 KB. Two rates: by the server's
clock, from the first request to the last answer, which is what connections are worth; and of the whole command, its
start and end included, which is what users wait for. Ours is download_images.py as it is: each picture is decoded at
the door, written with fsync and renamed. The bare sockets decode and fsync too and do nothing else: what the machine
can. CPU is that of the whole command. The rounds go over all clients in turn; medians of ROUNDS (3). ARIA2C and
IMG2DATASET name the programs where they are not on the path; those that are not there are left out, and that is said.
Nothing is deleted before the end: ext4 is slow to give out what was just deleted.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.fast_server import fast_server

LATENCY = 0.05
FILES = int(os.environ.get("FILES", "1000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
MAX_RUN_SECONDS = 300


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


def bare_sockets(connections: int) -> Client:
    def words(address: str, _urls: Path, out: Path) -> list[str]:
        return [sys.executable, "-m", "tests.bare_client", address, str(FILES), str(connections), str(out)]

    return Client("bare sockets", connections, FILES, words)


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
    found = [ours(1, FILES // 10), ours(16), ours(32), bare_sockets(16), bare_sockets(32)]
    for name, make in (("aria2c", aria2c), ("img2dataset", img2dataset)):
        program = shutil.which(os.environ.get(name.upper(), name))
        if program:
            found += [make(program, 16), make(program, 32)]
        else:
            print(f"{name} is not installed: left out")
    return found


@dataclass(frozen=True)
class Measured:
    """One run of a client: files a second by both clocks, CPU seconds per 1,000 files."""

    by_server: float
    whole_command: float
    cpu: float


def measure(client: Client, address: str, folder: Path) -> Measured:
    """Let `client` download once; fails where a picture is missing, or there were more connections than agreed."""
    urls = folder / "urls.txt"
    urls.write_text("".join(f"{address}/normal/{i}.jpg\n" for i in range(client.files)))
    out = Path(tempfile.mkdtemp(dir=folder))
    ask(address, "/reset")
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        client.words(address, urls, out), capture_output=True, text=True, timeout=MAX_RUN_SECONDS,
        check=False, cwd=ROOT, env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"},  # img2dataset's would ask PyPI
    )  # fmt: skip
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    seen = ask(address, "/stats")
    pictures = sum(1 for path in out.rglob("*") if path.suffix == ".jpg" and path.stat().st_size > 50_000)
    assert pictures == client.files, f"{client.name}: {pictures} of {client.files} files; {done.stdout} {done.stderr}"
    assert seen["requests"] >= client.files
    assert seen["at_a_time"] <= client.connections
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(client.files / seen["seconds"], client.files / seconds, 1000 * cpu / client.files)


def ask(address: str, path: str) -> dict[str, float]:
    with urllib.request.urlopen(address + path) as answer:
        return dict(json.load(answer))


def main() -> None:
    wanted = clients()
    runs: dict[Client, list[Measured]] = {client: [] for client in wanted}
    with tempfile.TemporaryDirectory() as folder, fast_server(FILES, LATENCY) as address:
        for _ in range(ROUNDS):
            for client in wanted:
                runs[client].append(measure(client, address, Path(folder)))
                print(f"  {client.name} {client.connections}: {runs[client][-1].by_server:.0f} files/s", flush=True)
    median = {
        client: Measured(*(statistics.median(getattr(run, name) for run in found) for name in Measured.__match_args__))
        for client, found in runs.items()
    }
    print(f"\nmedians of {ROUNDS}; {FILES:,} files of 100 KB, 50 ms latency, {os.cpu_count()} cores; CPU per 1,000")
    print(f"{'client':12} {'connections':>11} {'files/s':>8} {'of the bound':>12} {'whole command':>14} {'CPU s':>6}")
    for client, found in median.items():
        share = found.by_server * LATENCY / client.connections
        print(
            f"{client.name:12} {client.connections:11} {found.by_server:8.1f} {share:12.3f} "
            f"{found.whole_command:14.1f} {found.cpu:6.2f}"
        )
    one, sixteen = wanted[0], wanted[1]
    print(f"ours, 16 workers / 1 worker: {median[sixteen].by_server / median[one].by_server:.2f}")
    for client in wanted[3:]:
        mine = median[next(ours for ours in wanted if (ours.name, ours.connections) == ("ours", client.connections))]
        print(
            f"ours / {client.name}, {client.connections} connections: "
            f"{mine.whole_command / median[client].whole_command:.2f} (whole command), "
            f"{mine.by_server / median[client].by_server:.2f} (by the server's clock)"
        )


if __name__ == "__main__":
    main()
