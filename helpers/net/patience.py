"""A deadline for progress: a server that merely keeps the connection busy is cut off.

A socket's timeout only catches silence. A server that keeps sending headers, `100 Continue` or chunk framing keeps
http.client reading for ever, out of reach of our code. So every read from the socket checks the clock.
"""

import http.client
import io
import threading
import time
from typing import Any

import urllib3

MAX_SILENCE_SECONDS = 60.0  # without a byte of the body
_thread = threading.local()


def wait_anew() -> None:
    """Reset the calling thread's deadline: its server has MAX_SILENCE_SECONDS to send (more of) the body."""
    _thread.deadline = time.monotonic() + MAX_SILENCE_SECONDS


def make_patient(pool: urllib3.HTTPConnectionPool) -> None:
    """Make responses from `pool` observe the deadline of the thread that reads them."""
    connection: Any = pool.ConnectionCls
    if connection.response_class is not _Response:
        # Keep the class name: it appears in error messages
        pool.ConnectionCls = type(connection.__name__, (connection,), {"response_class": _Response})


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
