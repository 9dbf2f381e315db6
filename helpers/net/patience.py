"""What urllib3's connections don't watch: a server that only keeps them busy, and where they lead.

A socket's timeout only catches silence. A server that keeps sending headers, `100 Continue` or chunk framing keeps
http.client reading for ever, out of reach of our code. So every read from the socket checks the clock. And a host's
name may lead to this machine, which only the connection itself can tell.
"""

import http.client
import io
import threading
import time
from collections.abc import Callable
from typing import Any

import urllib3

from helpers.net.answers import FetchFailed

MAX_SILENCE_SECONDS = 60.0  # without a byte of the body
_thread = threading.local()


def wait_anew(seconds: float = 0.0) -> None:
    """Reset the calling thread's deadline: its server has MAX_SILENCE_SECONDS, or more, to send part of the body."""
    _thread.deadline = time.monotonic() + max(seconds, MAX_SILENCE_SECONDS)


def watch(pool: urllib3.HTTPConnectionPool, is_allowed: Callable[[str], bool]) -> None:
    """Make connections of `pool` heed the deadline of the thread that reads, and only go to addresses that are allowed.

    A connection to another address raises FetchFailed before the request is sent.
    """
    connection: Any = pool.ConnectionCls
    if connection.response_class is _Response:
        return

    def connect(self: Any) -> None:
        connection.connect(self)
        if not is_allowed(self.sock.getpeername()[0]):
            self.close()
            raise FetchFailed(f"refused: {self.host} leads to this machine, and --api-url does not")

    # Keep the class name: it appears in error messages
    watched = {"response_class": _Response, "connect": connect}
    pool.ConnectionCls = type(connection.__name__, (connection,), watched)


class _Response(http.client.HTTPResponse):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.fp: Any = io.BufferedReader(_Clocked(self.fp.detach()))


class _Clocked(io.RawIOBase):
    """A socket's bytes; a read after the thread's deadline raises TimeoutError."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > _thread.deadline:
            raise TimeoutError("no part of the body arrived in time")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
