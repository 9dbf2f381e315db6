"""Answers that must get somewhere: a server that only keeps the line busy is cut off.

A socket's timeout is about silence. A server that goes on sending headers, `100 Continue` or the trimmings of chunks
keeps http.client reading for ever, where nobody of ours can look at the clock. So each read from the socket does.
"""

import http.client
import io
import threading
import time
from typing import Any

import urllib3

MAX_SILENCE_SECONDS = 60.0  # without a byte of what was asked for
_thread = threading.local()


def wait_anew() -> None:
    """Give the calling thread's server another MAX_SILENCE_SECONDS to send something that was asked for."""
    _thread.deadline = time.monotonic() + MAX_SILENCE_SECONDS


def make_patient(pool: urllib3.HTTPConnectionPool) -> None:
    """Let the answers that come through `pool` heed the deadline of the thread that reads them."""
    connection: Any = pool.ConnectionCls
    if connection.response_class is not _Response:
        # The name stays, since it shows in messages
        pool.ConnectionCls = type(connection.__name__, (connection,), {"response_class": _Response})


class _Response(http.client.HTTPResponse):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.fp: Any = io.BufferedReader(_Clocked(self.fp.detach()))


class _Clocked(io.RawIOBase):
    """A socket's bytes, as long as the thread's deadline has not passed."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > _thread.deadline:
            raise TimeoutError("nothing that was asked for came")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
