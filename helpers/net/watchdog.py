"""Breaks connections on which nothing comes that we asked for.

A timeout of the socket is about silence. A server that goes on sending headers, `100 Continue` or the trimmings of
chunks keeps http.client reading for ever, where nobody of ours can look at the clock: so another thread does.
"""

import socket
import threading
import time
from contextlib import suppress

LOOK_EVERY_SECONDS = 0.5


class Watchdog:
    """Watches one connection of each thread; breaks it after `patience` seconds without `progress`."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[socket.socket, float]] = {}
        self._thread: threading.Thread | None = None

    def begin(self, connection: socket.socket) -> None:
        """From now on the calling thread waits for an answer on `connection`."""
        with self._lock:
            self._watched[threading.get_ident()] = (connection, time.monotonic())
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, daemon=True)
                self._thread.start()

    def progress(self) -> None:
        """Some of what the calling thread asked for has come."""
        thread = threading.get_ident()
        with self._lock:
            if watched := self._watched.get(thread):
                self._watched[thread] = (watched[0], time.monotonic())

    def end(self) -> None:
        """The calling thread has its answer, or has given up."""
        with self._lock:
            self._watched.pop(threading.get_ident(), None)

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_SECONDS)
            late = time.monotonic() - self._patience
            with self._lock:
                for connection, since in self._watched.values():
                    if since < late:
                        with suppress(OSError):
                            connection.shutdown(socket.SHUT_RDWR)  # whoever reads from it gets its end at once
