"""Every fault, of the network, of the server's answers and of the machine, met by the list and by a picture.

Each cell runs download_images.py on eight cards against a real server, or a real full disk, and says what must be seen:
the exit code, how many pictures are there in the end, and words that tell the user what happened. A fault that passes
(`passes`) hits once and must be mended in the same run; one that stays must be survived and named.
"""

import gzip
import itertools
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.cards.image_cache import ImageCache
from tests.conftest import ROOT
from tests.faulty_server import FaultyServer, Reply, faulty_server
from tests.pictures import encoded

COUNT, VICTIM = 8, 3
SIDE_BY_SIDE = 8
PICTURE = f"/{VICTIM}.jpg"
OUTSIDE = "http://cards.example.org"  # a public name that leads nowhere: only through the server as a proxy
MAX_MEMORY_BYTES = 250_000_000  # at the peak, of which 100 MB are Python and its libraries


def lines(server: FaultyServer, **victim: Any) -> bytes:
    """The list as text; `victim` are fields of one card."""
    cards: list[dict[str, Any]] = [
        {"id": f"id{i}", "name": f"Card {i}", "image_uris": {"normal": f"{server.address}/{i}.jpg"}}
        for i in range(COUNT)
    ]
    cards[VICTIM] |= victim
    return b"".join(json.dumps(card).encode() + b"\n" for card in cards)


def offer(server: FaultyServer, text: bytes, **fields: Any) -> None:
    """Serve `text` as the list; `fields` are those of its description."""
    packed = gzip.compress(text)
    reply = Reply(body=packed, headers={"ETag": '"v1"'}, ranges=True)
    url = server.answer("/list.jsonl.gz", reply)
    entry = {"type": "unique_artwork", "updated_at": "2026-11-01", "jsonl_download_uri": url}
    entry |= {"compressed_size": len(packed)} | fields
    server.answer("/bulk-data", Reply(body=json.dumps({"data": [entry]}).encode()))


@contextmanager
def eight_cards() -> Iterator[FaultyServer]:
    """A server of a list and its pictures, without any fault yet."""
    with faulty_server() as server:
        for i in range(COUNT):
            server.answer(f"/{i}.jpg", Reply(body=encoded(seed=i), headers={"ETag": f'"{i}"'}))
        offer(server, lines(server))
        yield server


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with eight_cards() as server:
        yield server


PEAK = """
import atexit, os, resource, sys
def peak():  # Linux counts what a process was before its exec into ru_maxrss, but not into VmHWM
    if os.path.exists("/proc/self/status"):
        return next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
atexit.register(lambda: print("peak KB:", peak(), file=sys.stderr))
"""


@dataclass(frozen=True)
class Run:
    """How a download is run in a cell."""

    cache: Path
    arguments: list[object] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    limits: dict[int, int] = field(default_factory=dict)
    prelude: str = ""  # Python to run in the process before the script

    def download(
        self, server: FaultyServer, environment: Mapping[str, str] = os.environ
    ) -> subprocess.CompletedProcess[str]:
        script = str(ROOT / "download_images.py")
        words = ["--cache", self.cache, "--api-url", server.address, "--max-retries", 1, *self.arguments]
        limits = "".join(f"resource.setrlimit({what}, ({n}, {n}))\n" for what, n in self.limits.items())
        program = f"{PEAK}{limits}{self.prelude}\nimport runpy, sys\nsys.argv = sys.argv[1:]\n"
        program += f"sys.path.insert(0, {str(ROOT)!r})\nrunpy.run_path(sys.argv[0], run_name='__main__')"
        return subprocess.run(
            [sys.executable, "-c", program, script, *map(str, words)],
            capture_output=True, text=True, timeout=120, check=False,
            env={**environment, **self.environment},
        )  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """`make` brings the fault about (path is the list's or the picture's) and may change how the download is run."""

    make: Callable[[FaultyServer, str, Run], Run | None]
    code: int
    pictures: int
    words: str = ""


def replies(*faults: Reply, passes: bool = True) -> Callable[[FaultyServer, str, Run], None]:
    """The address answers `faults`, and then, where that `passes`, as it should."""

    def make(server: FaultyServer, path: str, _run: Run) -> None:
        good = server.plan[path] if passes else []
        server.answer(path, *faults, *good)

    return make


def after(seconds: int, status: int, *, date: bool) -> Reply:
    value = formatdate(1_700_000_000 + seconds, usegmt=True) if date else str(seconds)
    clock = {"Date": formatdate(1_700_000_000, usegmt=True)} if date else {}  # the server's clock, years behind ours
    return Reply(status, headers={"Retry-After": value} | clock)


def bomb(form: str) -> bytes:
    made = BytesIO()
    Image.new("1", (30_000, 30_000)).save(made, form)
    return made.getvalue()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of `size`; skips where that can't be had."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False).returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


LIST, IMAGE = "/list.jsonl.gz", PICTURE
NOT_HAD = "the card list could not be downloaded"
CELLS: dict[tuple[str, str], Cell] = {}


def cell(fault: str, path: str, make: Callable[[FaultyServer, str, Run], Run | None], *seen: Any) -> None:
    CELLS[fault, "list" if path == LIST else "image"] = Cell(make, *seen)


# ------------------------------------------------------------------------------------------------ what passes by itself

PASSING = {
    "429 with seconds": (after(1, 429, date=False), "429 Too Many Requests: every worker pauses for 1 s"),
    "429 with a date": (after(2, 429, date=True), "429 Too Many Requests: every worker pauses for 2 s"),
    "503 with seconds": (after(1, 503, date=False), "503 Service Unavailable: every worker pauses for 1 s"),
    "503 with a date": (after(2, 503, date=True), "503 Service Unavailable: every worker pauses for 2 s"),
    "500": (Reply(500), ""),
    "502": (Reply(502), ""),
    "503": (Reply(503), ""),
    "504": (Reply(504), ""),
    "connection reset": (Reply(reset=True), ""),
    "short body": (Reply(body=b"x" * 50, claim=99), ""),
    "HTML with 200": (Reply(body=b"<!DOCTYPE html><html>Sorry</html>"), ""),
    "empty body": (Reply(), ""),
}
for name, (reply, words) in PASSING.items():
    for path in (LIST, IMAGE):
        cell(name, path, replies(reply), 0, COUNT, words)
IMPATIENT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import helpers.net.patience
helpers.net.patience.MAX_SILENCE_SECONDS = 1.0
"""


def only_headers(server: FaultyServer, path: str, run: Run) -> Run:
    server.answer(path, Reply(continues=True), *server.plan[path])
    return Run(run.cache, prelude=IMPATIENT)


for path in (LIST, IMAGE):
    cell("headers without end", path, only_headers, 0, COUNT)
for path in (LIST, IMAGE):
    cell("silence", path, replies(Reply(hang=True)), 0, COUNT)


def dripping(server: FaultyServer, path: str, _run: Run) -> None:
    (good,) = server.plan[path]
    server.answer(path, Reply(body=good.body, drops=20))


for path in (LIST, IMAGE):
    cell("slow body", path, dripping, 0, COUNT)

# ----------------------------------------------------------------------------------------------------------- what stays

for status in (400, 401, 403):
    refusal = replies(Reply(status), passes=False)
    cell(f"{status}", LIST, refusal, 1, 0, "--user-agent")
    cell(f"{status}", IMAGE, refusal, 0, COUNT - 1, f"HTTP {status}")
for status in (404, 410):
    gone = replies(Reply(status), passes=False)
    cell(f"{status}", LIST, gone, 1, 0, NOT_HAD)
    cell(f"{status}", IMAGE, gone, 0, COUNT - 1, f"HTTP {status}")
for name, location, why in (
    ("redirect to a file", "file:///etc/passwd", "redirected to another scheme"),
    ("redirect to another scheme", "https://127.0.0.1/a", "redirected to another scheme"),
):
    circle = replies(Reply(302, headers={"Location": location}), passes=False)
    cell(name, LIST, circle, 1, 0, why)
    cell(name, IMAGE, circle, 0, COUNT - 1, why)
for path, code, pictures in ((LIST, 1, 0), (IMAGE, 0, COUNT - 1)):
    circle = replies(Reply(302, headers={"Location": path}), passes=False)
    cell("endless redirects", path, circle, code, pictures, "more than 5 redirects")


def endless(server: FaultyServer, path: str, _run: Run) -> None:
    server.answer(path, Reply(endless=True))
    if path == LIST:
        offer(server, lines(server), compressed_size=30_000_000)
        server.answer(path, Reply(endless=True))


cell("endless body", LIST, endless, 1, 0, "larger than 30.0 MB")
cell("endless body", IMAGE, endless, 0, COUNT - 1, "larger than 8.0 MB")


def pixel_bomb(server: FaultyServer, path: str, _run: Run) -> None:
    server.answer(path, Reply(body=bomb("PNG")))


def gzip_bomb(server: FaultyServer, _path: str, _run: Run) -> None:
    offer(server, b'{"id": "' + bytes(300_000_000))


def line_bomb(server: FaultyServer, _path: str, _run: Run) -> None:
    offer(server, (b'{"object": "card"}' + b" " * 3000 + b"\n") * 80_000)


cell("decompression bomb", IMAGE, pixel_bomb, 0, COUNT - 1, "30000x30000 pixels")
cell("decompression bomb", LIST, gzip_bomb, 1, 0, "the line is longer than 4.0 MB")
cell("bomb of many lines", LIST, line_bomb, 1, 0, "of text in a file of")


def listed_address(url: str) -> Callable[[FaultyServer, str, Run], None]:
    def make(server: FaultyServer, path: str, _run: Run) -> None:
        if path == LIST:
            offer(server, lines(server), jsonl_download_uri=url.format(server.address))
        else:
            offer(server, lines(server, image_uris={"normal": url.format(server.address)}))

    return make


for name, url in (("file: address", "file:///etc/passwd"), ("climbing address", "{}/a/../../etc/passwd")):
    cell(name, IMAGE, listed_address(url), 0, COUNT - 1, "1 refused addresses (the first: Card 3: ")
cell("file: address", LIST, listed_address("file:///etc/passwd"), 1, 0, "file:///etc/passwd")


def control_characters(server: FaultyServer, path: str, _run: Run) -> None:
    name = "\x1b[2J\nERROR: \x07Card\x9b"
    offer(server, lines(server, name=name, image_uris={"normal": "file:///etc/passwd", "grid": server.address + path}))
    server.answer(IMAGE, Reply(404))


cell(
    "control characters",
    IMAGE,
    control_characters,
    0,
    COUNT - 1,
    "(the first: \ufffd[2J\ufffdERROR: \ufffdCard\ufffd: ",
)


def wrong_size(server: FaultyServer, _path: str, _run: Run) -> None:
    offer(server, lines(server), compressed_size=7_777)


cell("another size than described", LIST, wrong_size, 1, 0, "of the 7,777 bytes that the server's description promises")


def through_proxy(server: FaultyServer, path: str, run: Run) -> Run:
    """The server is the only way out to a public name; from there it is redirected home."""
    text = lines(server).replace(server.address.encode(), OUTSIDE.encode())
    offer(server, text, jsonl_download_uri=f"{OUTSIDE}/list.jsonl.gz")
    for known in list(server.plan):
        server.plan[OUTSIDE + known] = server.plan[known]
    server.answer(OUTSIDE + path, Reply(302, headers={"Location": f"{server.address}/secret"}))
    proxy = {"http_proxy": server.address, "HTTP_PROXY": server.address, "no_proxy": "", "NO_PROXY": ""}
    return Run(run.cache, ["--api-url", OUTSIDE], proxy)


cell("redirect to a private address", LIST, through_proxy, 1, 0, "/secret names this machine")
cell("redirect to a private address", IMAGE, through_proxy, 0, COUNT - 1, "/secret names this machine")

# ------------------------------------------------------------------------------------------------ faults of the machine


def few_files(server: FaultyServer, path: str, run: Run) -> Run:
    server.answer(path, Reply(503), *server.plan[path])
    return Run(run.cache, ["--workers", 128], limits={resource.RLIMIT_NOFILE: 40})


for path in (LIST, IMAGE):
    cell("few open files", path, few_files, 0, COUNT, "6 workers instead of 128")

JUMP = """
import time
real, calls = time.time, []
def jumping():
    calls.append(1)
    return real() + (86400 * 365 if len(calls) % 2 else -86400 * 365)
time.time = jumping
"""


def jumping_clock(server: FaultyServer, path: str, run: Run) -> Run:
    server.answer(path, after(1, 429, date=True), Reply(503), *server.plan[path])
    return Run(run.cache, prelude=JUMP)


for path in (LIST, IMAGE):
    cell("clock that jumps", path, jumping_clock, 0, COUNT, "every worker pauses for 1 s")


@dataclass(frozen=True)
class Seen:
    """How a cell came out."""

    done: subprocess.CompletedProcess[str]
    cache: Path
    asked: list[str]


def see(fault: str, where: str, folder: Path, environment: dict[str, str]) -> Seen:
    with eight_cards() as server:
        run = Run(folder / "cache", ["--timeout-read", 5])
        run = CELLS[fault, where].make(server, LIST if where == "list" else IMAGE, run) or run
        return Seen(run.download(server, environment), run.cache, list(server.asked))


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Any, Future[Seen]]]:
    """All cells that are wanted, side by side: they mostly wait."""
    wanted: list[tuple[Any, Any]] = [
        (item.callspec.params["fault"], item.callspec.params["where"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_every_fault_is_survived_and_named"
    ]
    environment = dict(os.environ)  # pytest changes it, and a thread that copies it meanwhile fails
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        cells = {cell: pool.submit(see, *cell, tmp_path_factory.mktemp("cell"), environment) for cell in wanted}
        yield cells
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(("fault", "where"), sorted(CELLS), ids=str)
def test_every_fault_is_survived_and_named(seen: dict[Any, Future[Seen]], fault: str, where: str) -> None:
    expected, found = CELLS[fault, where], seen[fault, where].result()
    done = found.done
    told = done.stderr + (found.cache / "download_report.json").read_text() if done.returncode == 0 else done.stderr
    assert (done.returncode, len(list(ImageCache(found.cache).pictures()))) == (expected.code, expected.pictures), told
    assert expected.words in told
    assert 1000 * int(done.stderr.rpartition("peak KB:")[2]) < MAX_MEMORY_BYTES
    assert "Traceback" not in told
    assert "\x1b" not in done.stderr
    assert "/secret" not in found.asked
    if expected.code == 0 and expected.pictures < COUNT:
        (failure,) = json.loads((found.cache / "download_report.json").read_text())["failures"] or [None]
        assert failure is None or failure["reason"]
    names = {path.name for path in found.cache.iterdir() if path.name.endswith(".part")}
    kept = "unique_artwork-20261101000000.jsonl.gz"
    assert names <= {f"{kept}.part", f"{kept}.origin.part"}  # what came of a list is gone on with
    for path in ImageCache(found.cache).pictures():
        assert Image.open(path).load() is not None


def test_the_matrix_has_40_cells_or_more() -> None:
    assert len(CELLS) >= 40
    assert {where for _, where in CELLS} == {"list", "image"}


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_server_that_refuses_every_picture_is_not_hammered(server: FaultyServer, tmp_path: Path, status: int) -> None:
    many = "".join(lines(server).decode().replace(f"{server.address}/", f"{server.address}/{n}-") for n in range(10))
    offer(server, many.encode())
    for n, i in itertools.product(range(10), range(COUNT)):
        server.answer(f"/{n}-{i}.jpg", Reply(status))
    done = Run(tmp_path / "cache").download(server)
    assert done.returncode == 2
    assert "the server refuses our requests" in done.stderr
    assert "--user-agent" in done.stderr
    assert 5 <= len([path for path in server.asked if path.endswith(".jpg")]) <= 11  # some were under way beside these


@pytest.mark.slow
def test_a_disk_that_is_too_small_is_named_before_anything_is_fetched(server: FaultyServer, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "400k") as disk:
        done = Run(disk / "cache").download(server)
        assert done.returncode == 1
        assert "the disk has no room for the pictures" in done.stderr
        assert "888.0 KB needed for 8 pictures of 111.0 KB on average" in done.stderr
        assert "free in" in done.stderr
        assert not [path for path in server.asked if path.endswith(".jpg")]
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert Run(disk / "cache").download(server).returncode == 0
        assert len(list(ImageCache(disk / "cache").pictures())) == COUNT


@pytest.mark.slow
@pytest.mark.parametrize("where", ["list", "image"])
def test_a_disk_that_fills_up_is_named_and_a_run_with_room_completes(
    server: FaultyServer, tmp_path: Path, where: str
) -> None:
    if where == "list":  # 600 KB that do not compress
        offer(server, lines(server, flavor_text=os.urandom(300_000).hex()))
    for i in range(COUNT):
        server.answer(f"/{i}.jpg", Reply(body=encoded("PNG", (300, 420), seed=i), headers={"ETag": "x"}))
    with small_disk(tmp_path / "disk", "300k" if where == "list" else "1m") as disk:
        filler = disk / "filler"
        if where == "image":
            filler.write_bytes(bytes(100_000))
        done = Run(disk / "cache").download(server)
        assert done.returncode == 1
        assert "ERROR: Configuration Error: " in done.stderr
        assert "free" in done.stderr
        assert "make room and run the same command again" in done.stderr
        assert "Traceback" not in done.stderr
        for path in ImageCache(disk / "cache").pictures():
            assert Image.open(path).load() is not None
        filler.unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        assert Run(disk / "cache").download(server).returncode == 0
        assert len(list(ImageCache(disk / "cache").pictures())) == COUNT
        assert not list((disk / "cache").glob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["list", "image"])
def test_a_disk_that_can_only_be_read_is_named(server: FaultyServer, tmp_path: Path, where: str) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        cache = disk / "cache"
        if where == "image":
            assert Run(cache, ["--limit", 1]).download(server).returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = Run(cache).download(server)
        assert done.returncode == 1
        assert "ERROR: Configuration Error: " in done.stderr
        assert "not writable" in done.stderr or "Read-only file system" in done.stderr
        assert "Traceback" not in done.stderr
