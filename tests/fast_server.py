"""A server on 127.0.0.1 that is quick enough to measure clients by: pictures of 100 KB after a fixed latency.

`python -m tests.fast_server --count N --latency SECONDS` prints its address and serves until it is stopped:
/bulk-data and a list of N cards, their pictures, and under /stats what it has seen of the pictures since /reset.
"""

import argparse
import asyncio
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image

from tests.conftest import ROOT

PICTURES = 8  # different ones


def picture(seed: int) -> bytes:
    """A JPEG of 488 x 680 pixels and about 100 KB, as long to decode as a scan of that size."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(np.clip(rng.normal(128, 50, (85, 61, 3)), 0, 255).astype(np.uint8))
    fine = np.asarray(coarse.resize((488, 680), Image.Resampling.BICUBIC)) + rng.normal(0, 12, (680, 488, 1))
    made = BytesIO()
    Image.fromarray(np.clip(fine, 0, 255).astype(np.uint8)).save(made, "JPEG", quality=75)
    return made.getvalue()


class FastServer:
    """What is served, and what was seen."""

    def __init__(self, count: int, latency: float) -> None:
        self.count, self.latency = count, latency
        self.answers = [_answer(picture(seed), "image/jpeg") for seed in range(PICTURES)]
        self.address = ""
        self.reset()

    def reset(self) -> None:
        self.first = self.last = 0.0
        self.requests = self.under_way = self.most_under_way = 0

    def list_file(self) -> bytes:
        cards = (
            {"id": f"id-{i}", "name": f"Card {i}", "image_uris": {"normal": f"{self.address}/normal/{i}.jpg"}}
            for i in range(self.count)
        )
        return gzip.compress(b"".join(json.dumps(card).encode() + b"\n" for card in cards), 1)

    def other(self, path: str) -> bytes:
        """The answer to what is no picture."""
        if path == "/bulk-data":
            entry = {"type": "unique_artwork", "updated_at": "2026-11-01", "jsonl_download_uri": f"{self.address}/list"}
            return _answer(json.dumps({"data": [entry]}).encode(), "application/json")
        if path == "/list":
            return _answer(self.list_file(), "application/gzip")
        if path == "/reset":
            self.reset()
        seen = {"seconds": self.last - self.first, "requests": self.requests, "at_a_time": self.most_under_way}
        return _answer(json.dumps(seen).encode(), "application/json")


def _answer(body: bytes, content_type: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    def __init__(self, server: FastServer) -> None:
        self.server = server
        self.pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while b"\r\n\r\n" in self.pending:
            head, _, self.pending = self.pending.partition(b"\r\n\r\n")
            method, path, _ = head.decode().split(" ", 2)
            if path.startswith("/normal/"):
                self.picture_wanted(path)
            else:
                whole = self.server.other(path)
                self.transport.write(whole if method == "GET" else whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

    def picture_wanted(self, path: str) -> None:
        server = self.server
        server.requests += 1
        server.under_way += 1
        server.most_under_way = max(server.most_under_way, server.under_way)
        server.first = server.first or time.monotonic()
        number = int(path.removeprefix("/normal/").partition(".")[0])
        asyncio.get_running_loop().call_later(server.latency, self.send, server.answers[number % PICTURES])

    def send(self, answer: bytes) -> None:
        self.server.under_way -= 1
        self.server.last = time.monotonic()
        if not self.transport.is_closing():
            self.transport.write(answer)


async def serve(server: FastServer) -> None:
    listening = await asyncio.get_running_loop().create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=512)
    server.address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    print(server.address, flush=True)
    await listening.serve_forever()


@contextmanager
def fast_server(count: int, latency: float) -> Iterator[str]:
    """A FastServer in a process of its own; yields its address."""
    words = [sys.executable, "-m", "tests.fast_server", "--count", str(count), "--latency", str(latency)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True)
    options = parser.parse_args()
    asyncio.run(serve(FastServer(options.count, options.latency)))
