"""What this machine can do: pictures by bare sockets, decoded, written with fsync, and nothing else.

No HTTP library, no retries, no report: the ceiling that `make bench-download` holds the real ones against.
`python -m tests.bare_client ADDRESS COUNT CONNECTIONS FOLDER`.
"""

import socket
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from helpers.atomic_io import atomic_write_bytes
from helpers.validation import check_image

MAX_ANSWER = 1 << 20  # bytes, head included


class Connection:
    """One keep-alive connection to a tests.fast_server; no other server is understood."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._socket = socket.create_connection((parts.hostname, parts.port or 80))
        self._buffer = bytearray(MAX_ANSWER)

    def get(self, path: str) -> bytes:
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        room, got, wanted = memoryview(self._buffer), 0, 0
        while not wanted or got < wanted:
            came = self._socket.recv_into(room[got:])
            if not came:
                raise ConnectionError(f"{path}: the answer ends after {got} bytes")
            got += came
            begin = self._buffer.find(b"\r\n\r\n", 0, got) + 4
            if not wanted and begin > 3:
                wanted = begin + int(self._buffer[:begin].partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        return bytes(room[begin:wanted])


def main() -> None:
    address, count, connections, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    numbers = iter(range(count))  # next() of it is one step for all threads

    def work() -> None:
        connection = Connection(address)
        for number in numbers:
            body = connection.get(f"/normal/{number}.jpg")
            check_image(body)
            atomic_write_bytes(folder / f"{number}.jpg", body)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
