"""A real server on 127.0.0.1 that answers as it is told, and remembers who asked for what."""

import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """One answer. `claim` is the Content-Length sent where it should be a lie, `reset` breaks the connection, `hang`
    sends nothing for as long as the server runs.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    claim: int | None = None
    reset: bool = False
    hang: bool = False


class FaultyServer(ThreadingHTTPServer):
    """`plan[path]` is answered one after the other, its last reply for ever after; other paths are 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.plan: dict[str, list[Reply]] = {}
        self.asked: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
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
        if reply.reset or reply.hang:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body) if reply.claim is None else reply.claim))
        self.end_headers()
        self.wfile.write(reply.body)
        if reply.claim is not None:
            self.close_connection = True

    def do_HEAD(self) -> None:
        self.send_response(503 if self.path.startswith("/broken") else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


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
