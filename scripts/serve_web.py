"""Serve the page and an index as one tree, with the headers that threads in the browser need.

Reads:  web/, and under it the browser's files and the evaluation in index_out/; the index's pictures under /pictures/
Writes: nothing; prints its address to stdout and serves until it is stopped
Next:   open the address in a browser

If X.br or X.gz lies beside X, browsers that accept it get it in place of X. Other files of index_out/, hidden files,
and links that lead outside these folders are not served. With the default --host the server answers only to this
machine's names (localhost, 127.0.0.1). At each visit a browser asks what has changed, and fetches only that.
"""

import argparse
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

import _path  # noqa: F401  # must come before helpers

from helpers.artifacts import PICTURE_SUFFIXES, VENDORED, WEB, IndexFolder
from helpers.cli_validation import Parser, number, path, words
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError
from helpers.index.store import StoredIndex
from helpers.net.probe import leads_home
from helpers.talk import warn

PICTURES = "/pictures/"
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "credentialless",  # Scryfall's pictures come without headers of their own
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # ask whether it has changed
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'none'",  # index.html has the rest of its policy
    "Vary": "Accept-Encoding",
}
TYPES = {
    **dict.fromkeys((".js", ".mjs"), "text/javascript"),
    **dict.fromkeys((".i8bin", ".u8bin", ".f32bin", ".onnx"), "application/octet-stream"),
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
}
ENCODINGS = {"br": ".br", "gzip": ".gz"}  # best first


@dataclass(frozen=True, slots=True)
class Tree:
    """What is served: `roots` laid over each other, the first wins; what clients read of `index`; `pictures`."""

    roots: tuple[Path, ...]
    pictures: Path | None
    index: Path | None = None

    def find(self, address: str) -> Path | None:
        """The file at the path of a URL; None if there is none, or it is none of ours."""
        try:
            name = unquote(urlsplit(address).path)
        except ValueError:
            return None
        if name.startswith(PICTURES):
            return _inside(self.pictures, name.removeprefix(PICTURES)) if name.endswith(PICTURE_SUFFIXES) else None
        name = name.removeprefix("/") + ("index.html" if name.endswith("/") else "")
        roots = (*self.roots, self.index) if _is_for_clients(name) else self.roots
        return next((file for root in roots if (file := _inside(root, name))), None)


def _is_for_clients(name: str) -> bool:
    """Whether clients read a file of that name in an index folder: not what Python's side keeps there, nor others."""
    folder, last = IndexFolder(Path()), name.rpartition("/")[2]
    return folder.is_browser_file(last) or last in (folder.evaluation.name, folder.evaluation_page.name)


def _inside(root: Path | None, name: str) -> Path | None:
    """The file `name` in `root`, which links must not leave; nothing hidden."""
    parts = name.split("/")
    if root is None or any(part.startswith(".") or not part or re.search(r"[\\\0]", part) for part in parts):
        return None
    try:
        file = root.joinpath(*parts).resolve()
        return file if file.is_file() and file.is_relative_to(root.resolve()) else None
    except (OSError, RuntimeError):  # a name that is too long, a link to itself
        return None


class Handler(SimpleHTTPRequestHandler):
    """Answers from a Tree."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def __init__(self, *arguments: Any, tree: Tree) -> None:
        self._tree = tree
        super().__init__(*arguments)

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Send the headers of what was asked for; the open file comes back if its content is to follow."""
        if not self._is_for_us():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This page is served to this machine, as http://localhost")
            return None
        file = self._tree.find(self.path)
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND, "There is no such file")
            return None
        encoding, sent = self._encoded(file)
        try:
            content = open(sent, "rb")  # noqa: SIM115  # the caller closes it
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND, "The file can't be read")
            return None
        state = os.fstat(content.fileno())
        tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}{encoding and "-" + encoding}"'
        if tag in re.findall(r'"[^"]*"', self.headers.get("If-None-Match", "")):
            content.close()
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.send_header("ETag", tag)
            self.end_headers()
            return None
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", self.guess_type(str(file)))
        self.send_header("Content-Length", str(state.st_size))
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", formatdate(state.st_mtime, usegmt=True))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        return content

    def _is_for_us(self) -> bool:
        """Whether the request means this server by its name.

        A site may let its own name lead to this machine (DNS rebinding), whose scripts could then read what is served.
        A server that answers other machines, too, can't know what they call it.
        """
        try:
            host = urlsplit(f"//{self.headers.get('Host', 'localhost')}").hostname or ""
        except ValueError:
            return False
        return leads_home(host) or not ipaddress.ip_address(cast(Server, self.server).server_name).is_loopback

    def _encoded(self, file: Path) -> tuple[str, Path]:
        """What is sent for `file`: its compressed form and how it is compressed, or ("", `file`)."""
        offers = self.headers.get("Accept-Encoding", "").lower().split(",")
        accepted = {offer.partition(";")[0].strip() for offer in offers if not re.search(r";\s*q=0(\.0*)?\s*$", offer)}
        for encoding, suffix in ENCODINGS.items():
            packed = file.with_name(file.name + suffix)
            is_there = encoding in accepted and packed.is_file() and not packed.is_symlink()
            with suppress(FileNotFoundError):  # an export may remove either at any time
                if is_there and packed.stat().st_mtime_ns >= file.stat().st_mtime_ns:  # an older one was of another
                    return encoding, packed
        return "", file

    def end_headers(self) -> None:
        """Add the headers that every answer has."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if self._tree.pictures:
            self.send_header("X-Pictures", PICTURES)  # the page asks for none elsewhere
        super().end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Tell of what failed alone: a page asks for dozens of files."""
        if isinstance(code, int) and code >= HTTPStatus.BAD_REQUEST:
            super().log_request(int(code), size)

    def log_error(self, format: str, *args: Any) -> None:
        """Nothing that `log_request` has not told."""


class Server(ThreadingHTTPServer):
    """Serves a Tree."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], tree: Tree) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        super().__init__(address, partial(Handler, tree=tree))

    def server_bind(self) -> None:
        """Listen, without asking what the machine is called, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        """The page's address; of this machine where any is listened to, since browsers trust no other without https."""
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.server_name, self.server_name)  # noqa: S104
        host = f"[{name}]" if ":" in name else name
        return f"http://{host}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class ServeArgs(argparse.Namespace):
    """The command line."""

    index: Path
    cache: Path | None
    host: str
    port: int


def parse_args(argv: Sequence[str] | None) -> ServeArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--index", path, Path("index_out"), "DIR", "directory with the browser's files")
    parser.option("--cache", path, None, "DIR", "directory of the index's pictures (default: where the index says)")
    parser.option("--host", words, "127.0.0.1", "HOST", "address to listen on; 0.0.0.0 answers other machines too")
    parser.option("--port", number(int, 0, 65535, suggest=8000), 8000, "N", "port to listen on; 0 picks a free one")
    return parser.parse(argv, ServeArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped."""
    args = parse_args(argv)
    require_folders(args)
    if not (WEB / "vendor" / VENDORED).is_file():
        warn("the page has no libraries: it can search, but not identify cards; run make vendor, which fetches them")
    tree = Tree((WEB,), args.cache or pictures_of(args.index), args.index)
    with listen(args.host, args.port, tree) as server:
        print(server.url, flush=True)
        server.serve_forever()
    return ExitCode.OK


def require_folders(args: ServeArgs) -> None:
    """Raise PipelineError (Configuration Error) if there is nothing to serve."""
    if not args.index.is_dir():
        raise PipelineError.of(
            Category.CONFIGURATION,
            "there is nothing to serve",
            details=f"{args.index} is not a directory",
            suggestion="run make build first, or pass the directory: make serve OUT=demo/index_out",
        )
    if args.cache and not args.cache.is_dir():
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the image cache does not exist",
            details=f"there is no directory {args.cache}",
            suggestion="leave --cache out to serve the pictures that the index was built from",
        )


def pictures_of(index: Path) -> Path | None:
    """The pictures that an index was built from; None if it does not say, or is not complete."""
    try:
        return StoredIndex(IndexFolder(index)).pictures
    except PipelineError:
        return None  # the browser's files alone, on another machine


def listen(host: str, port: int, tree: Tree) -> Server:
    """Listen on the port; PipelineError (Configuration Error) if that can't be done."""
    try:
        return Server((host, port), tree)
    except (OSError, UnicodeError) as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"can't listen on {host}, port {port}",
            details=str(error),
            suggestion="pass a free port, or an address of this machine: make serve PORT=8001 HOST=127.0.0.1",
        ) from error


if __name__ == "__main__":
    raise SystemExit(run(main, stopped="the page is no longer served."))
