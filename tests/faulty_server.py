"""A real server on 127.0.0.1 that answers as it is told, and remembers who asked for what."""

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FOR_EVER_SECONDS = 20.0  # of headers without end: a client that would wait for more fails its test, and does not hang


@dataclass(frozen=True)
class Reply:
    """One answer. `claim` is the Content-Length sent where it should be a lie, `reset` breaks the connection, `hang`
    sends nothing for as long as the server runs, `endless` goes on with the body for ever, `drops` sends it in so many
    pieces with pauses between them, `ranges` heeds Range and If-Range, `cut` ends it before: after this share of
    what is asked for, or so many bytes, `continues` says "100 Continue" for ever, `trailers` sends trailers for ever.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    claim: int | None = None
    reset: bool = False
    hang: bool = False
    endless: bool = False
    drops: int = 0
    ranges: bool = False
    cut: float = 0
    continues: bool = False
    trailers: bool = False


class FaultyServer(ThreadingHTTPServer):
    """`plan[path]` is answered one after the other, its last reply for ever after; other paths are 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.plan: dict[str, list[Reply]] = {}
        self.asked: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
        self.bytes_sent: list[int] = []  # of each body of a list
        self.connections = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def answer(self, path: str, *replies: Reply) -> str:
        """Plan `replies` for `path`; returns its URL."""
        self.plan[path] = list(replies)
        return self.address + path

    def times_asked(self) -> dict[str, int]:
        """How often each path was asked for."""
        counts: dict[str, int] = defaultdict(int)
        for path in self.asked:
            counts[path] += 1
        return dict(counts)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def next_reply(self, path: str, headers: dict[str, str]) -> Reply:
        with self.lock:
            self.asked.append(path)
            self.headers_seen.append(headers)
            replies = self.plan.get(path, [Reply(404)])
            return replies.pop(0) if len(replies) > 1 else replies[0]


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        reply = self.server.next_reply(self.path, dict(self.headers.items()))
        if reply.hang:
            self.server.closing.wait(60)
        ends = time.monotonic() + FOR_EVER_SECONDS
        while reply.continues and time.monotonic() < ends and not self.server.closing.wait(0.05):
            try:
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError:
                break
        if reply.reset or reply.hang or reply.continues:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            self.connection.close()
            return
        status, body, headers = _ranged(reply, self.headers) if reply.ranges else (reply.status, reply.body, {})
        self.send_response_only(status)
        for name, value in {"Date": self.date_time_string(), **reply.headers, **headers}.items():
            self.send_header(name, value)
        if reply.trailers:
            self.send_header("Transfer-Encoding", "chunked")
        elif not reply.endless:
            self.send_header("Content-Length", str(len(body) if reply.claim is None else reply.claim))
        self.end_headers()
        if reply.cut:
            body = body[: int(reply.cut * len(body) if reply.cut < 1 else reply.cut)]
            self.close_connection = True
        if "list" in self.path:
            self.server.bytes_sent.append(len(body))
        try:
            self._send_body(reply, body)
        except OSError:
            self.close_connection = True
        if reply.claim is not None or reply.endless:
            self.close_connection = True

    def _send_body(self, reply: Reply, body: bytes) -> None:
        if reply.trailers:
            self.wfile.write(b"%x\r\n%s\r\n0\r\n" % (len(body), body))
            ends = time.monotonic() + FOR_EVER_SECONDS
            while time.monotonic() < ends and not self.server.closing.wait(0.02):
                self.wfile.write(b"X-And-So: on\r\n")
            return
        step = -(-len(body) // reply.drops) if reply.drops else max(1, len(body))
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            if reply.drops:
                self.wfile.flush()
                self.server.closing.wait(0.02)
        while reply.endless and not self.server.closing.is_set():
            self.wfile.write(bytes(1 << 16))

    def do_HEAD(self) -> None:
        self.send_response(503 if self.path.startswith("/broken") else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _ranged(reply: Reply, asked: Message) -> tuple[int, bytes, dict[str, str]]:
    """What an honest server answers to a request for the rest of a file."""
    wanted = asked.get("Range")
    if wanted is None or asked.get("If-Range") != reply.headers.get("ETag"):
        return reply.status, reply.body, {}
    start = int(wanted.removeprefix("bytes=").rstrip("-"))
    if start >= len(reply.body):
        return 416, b"", {"Content-Range": f"bytes */{len(reply.body)}"}
    where = f"bytes {start}-{len(reply.body) - 1}/{len(reply.body)}"
    return 206, reply.body[start:], {"Content-Range": where}


@contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """A running FaultyServer."""
    server = FaultyServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
