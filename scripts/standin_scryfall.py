"""Stand in for Scryfall on 127.0.0.1: serve pictures and a table of cards in Scryfall's current format.

Reads:  a table, in one of two formats; file names are relative to it.
        *.csv: the columns file, name, set, collector_number, scryfall_id and optionally layout; rows with the same
        scryfall_id are the sides of one card; scryfall_id and collector_number may be empty.
        *.jsonl: Scryfall's card objects, one per line, with `picture` (a file name; null: its URL answers 404) in place
        of `image_uris`, as draw_cards.py writes them
Writes: with --log one JSON line per request; prints its address to stdout and serves until stopped
Next:   download_images.py --api-url ADDRESS

Serves /bulk-data, /bulk-data/<type> (?format=file), the list as *.jsonl.gz (ETag, Range) and the pictures under every
key of 2026 (`normal` is the file itself if that is a JPEG of at most 488 x 680 pixels; everything else is made from it
on request). As at Scryfall, unique_artwork has each piece of art once, oracle_cards each card, default_cards is in
English, all_cards is everything. A request without a User-Agent is answered with 400, as Scryfall does.

It injects faults on request: `--faults 503=5,reset=2` makes 5 % of the picture URLs answer 503 and 2 % reset the
connection, once each (--fault-times); 429@3000 answers every 3,000th picture request with 429. Kinds: 429 (with
Retry-After), 429-bare (without), 503, reset, truncated, html (a page with status 200), slow, and two permanent ones:
soon (a redirect to Scryfall's placeholder) and 404. `list:503` applies to the list and its description.
"""

import argparse
import functools
import gzip
import hashlib
import itertools
import json
import re
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import _path  # noqa: F401  # must come before helpers
from _faults import Fault, FaultPlan, RequestLog, Share, fault_shares
from _table import SIDES, CardObject, made_up_id, parts, read_table, sides
from PIL import Image

from helpers.cards.faces import IMAGE_KEYS, LIST_KINDS
from helpers.cli_validation import Parser, number, path
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError
from helpers.recognise.camera import card_mask
from helpers.talk import warn
from helpers.validation import BrokenImage, decode_image

HOST = "127.0.0.1"  # never anything else: this is for tests and experiments
PIXELS = {
    "small": (146, 204),
    "thumb": (146, 204),
    "normal": (488, 680),
    "grid": (488, 680),
    "large": (672, 936),
    "display": (672, 936),
    "png": (745, 1040),
    "border_crop": (480, 680),
    "crop": (480, 680),
    "art_crop": (626, 457),
    "art": (626, 457),
}
WEBP_KEYS = ("thumb", "grid", "display", "crop", "art")
ART_BOX = (0.075, 0.11, 0.925, 0.55)  # left, top, right, bottom, as shares of a card: where most frames have the art
CONTENT_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
PICTURE_PATH = re.compile(r"/(?P<key>\w+)/(?P<side>front|back)/\w/\w/(?P<id>[\w-]+)\.(?:jpg|png|webp)")


class StandinArgs(argparse.Namespace):
    """The command line."""

    table: Path
    port: int
    faults: tuple[Share, ...]
    fault_times: int
    retry_after: int
    seed: int
    log: Path | None


def parse_args(argv: Sequence[str] | None) -> StandinArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--table", path, Path("cards.csv"), "FILE", "card table, *.csv or *.jsonl")
    parser.option("--port", number(int, 0, 65535, suggest=0), 0, "N", "port to listen on; 0 picks a free one")
    parser.option("--faults", fault_shares, (), "KIND=PERCENT,...", "faults to inject, see above")
    parser.option(
        "--fault-times",
        number(int, 0, suggest=1),
        1,
        "N",
        "times a URL fails before it recovers; 0: forever",
    )
    parser.option("--retry-after", number(int, 0, suggest=1), 1, "SECONDS", "Retry-After of the 429 fault")
    parser.option("--seed", number(int, 0, suggest=0), 0, "N", "seed that selects the URLs that fail")
    parser.option("--log", path, None, "FILE", "file to log requests to, as JSON lines")
    return parser.parse(argv, StandinArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped."""
    args = parse_args(argv)
    server = start_server(args, read_table(args.table))
    print(server.address, flush=True)
    server.serve_forever()
    return ExitCode.OK


# ------------------------------------------------------------------------------------------------------------ the cards


def listed(card: CardObject, address: str) -> dict[str, Any]:
    """The card as Scryfall lists it: with the URLs of its pictures."""
    numbers = itertools.count()

    def with_addresses(part: dict[str, Any]) -> dict[str, Any]:
        if "picture" not in part:
            return part
        others = {key: value for key, value in part.items() if key != "picture"}
        return others | {"image_uris": _image_uris(card["id"], next(numbers), part["picture"], address)}

    made = with_addresses(card)
    if card.get("card_faces"):
        made = made | {"card_faces": [with_addresses(face) for face in card["card_faces"]]}
    return made


def _image_uris(card_id: str, side: int, picture: Path | None, address: str) -> dict[str, str]:
    version = _version(picture)

    def uri(key: str) -> str:
        ending = "webp" if key in WEBP_KEYS else "png" if key == "png" else "jpg"
        folder = f"{key}/{SIDES[side]}/{card_id[0]}/{card_id[1]}"
        return f"{address}/{folder}/{card_id}.{ending}?{version}"

    return {key: uri(key) for key in IMAGE_KEYS}


@functools.cache
def _version(picture: Path | None) -> int:
    """Scryfall's ?<epoch>, different for each picture."""
    digest = hashlib.sha1(picture.read_bytes() if picture else b"").digest()
    return 1_600_000_000 + int.from_bytes(digest[:3], "big")


def of_kind(cards: Sequence[CardObject], kind: str) -> Iterator[CardObject]:
    """The cards that Scryfall's list of `kind` would have: https://scryfall.com/docs/api/bulk-data."""
    seen: set[str] = set()
    for card in cards:
        if kind == "default_cards" and card.get("lang", "en") != "en":
            continue
        if kind in ("oracle_cards", "unique_artwork"):
            what = "oracle_id" if kind == "oracle_cards" else "illustration_id"
            ids = {part[what] for part in parts(card) if part.get(what)} or {card["id"]}
            if ids <= seen:
                continue
            seen |= ids
        yield card


@functools.lru_cache(maxsize=256)
def picture_bytes(file: Path, key: str) -> bytes:
    """The picture in `file` in the size and format of `key`; for `normal` unchanged if it is a small JPEG."""
    data = file.read_bytes()
    image = decode_image(data)
    width, height = PIXELS["normal"]
    if key == "normal" and image.format == "JPEG" and image.width <= width and image.height <= height:
        return data
    image = image.convert("RGB")
    if key in ("art_crop", "art"):
        left, top, right, bottom = ART_BOX
        image = image.crop(
            (
                round(left * image.width),
                round(top * image.height),
                round(right * image.width),
                round(bottom * image.height),
            )
        )
    image = image.resize(PIXELS[key], Image.Resampling.LANCZOS)
    if key == "png":
        image.putalpha(card_mask(image.size))
    made = BytesIO()
    image.save(made, "PNG" if key == "png" else "WEBP" if key in WEBP_KEYS else "JPEG", quality=90)
    return made.getvalue()


# ----------------------------------------------------------------------------------------------------------- the server


# Faults that only replace the response: status, body, content type, headers.
FAULTY_ANSWERS: dict[Fault | None, tuple[int, bytes, str, dict[str, str]]] = {
    Fault.TOO_MANY_BARE: (429, b"slow down", "text/plain", {}),
    Fault.UNAVAILABLE: (503, b"not now", "text/plain", {}),
    Fault.HTML: (200, b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", "text/html", {}),
    Fault.SOON: (302, b"", "text/plain", {"Location": "https://errors.scryfall.com/soon.jpg"}),
    Fault.NOT_FOUND: (404, b"no such picture", "text/plain", {}),
}
SLOW_SECONDS, SLOW_DROPS = 2.0, 20


class StandinServer(ThreadingHTTPServer):
    """Holds the data that the handlers serve."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, args: StandinArgs, cards: Sequence[CardObject]) -> None:
        super().__init__((HOST, args.port), _Handler)
        self.faults = FaultPlan(args.faults, args.fault_times, args.seed)
        self.retry_after = args.retry_after
        self.log = RequestLog(args.log)
        self.address = f"http://{HOST}:{self.server_port}"
        self.files = {
            (card["id"], SIDES[i]): side["picture"]
            for card in cards
            for i, side in enumerate(sides(card))
            if side["picture"]
        }
        self.updated = datetime.now(timezone.utc)
        self.lists = {
            kind: _gzipped_lines(listed(card, self.address) for card in of_kind(cards, kind)) for kind in LIST_KINDS
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def list_path(self, kind: str) -> str:
        """Path of the list of `kind`, with its timestamp, as at Scryfall."""
        return f"/file/{kind.replace('_', '-')}/{kind.replace('_', '-')}-{self.updated:%Y%m%d%H%M%S}.jsonl.gz"

    def bulk_object(self, kind: str) -> dict[str, Any]:
        """The description of a list, in the format of 2026-07-20."""
        return {
            "object": "bulk_data",
            "id": made_up_id(kind),
            "type": kind,
            "updated_at": self.updated.isoformat(timespec="milliseconds"),
            "uri": f"{self.address}/bulk-data/{kind}",
            "name": kind.replace("_", " ").title(),
            "description": "Served by a stand-in for Scryfall.",
            "jsonl_download_uri": self.address + self.list_path(kind),
            "compressed_size": len(self.lists[kind]),
        }


def start_server(args: StandinArgs, cards: Sequence[CardObject]) -> StandinServer:
    """Listen on the port; PipelineError if it is taken, or the log can't be written."""
    try:
        return StandinServer(args, cards)
    except OSError as error:
        what = error.filename or f"{HOST}:{args.port}"
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the stand-in can't start",
            details=f"{what}: {error.strerror or error}",
            suggestion="leave --port out to use a free one; pass --log a writable file",
        ) from error


def _gzipped_lines(objects: Iterable[dict[str, Any]]) -> bytes:
    return gzip.compress(b"".join(json.dumps(o, ensure_ascii=False).encode() + b"\n" for o in objects), mtime=0)


class _Handler(BaseHTTPRequestHandler):
    server: StandinServer
    _fault: Fault | None = None
    _received = 0.0
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet for headers and body

    def do_GET(self) -> None:
        self._received = round(time.time(), 4)
        url = urlsplit(self.path)
        is_picture = PICTURE_PATH.fullmatch(url.path) is not None
        self._fault = None
        if not self.headers.get("User-Agent"):
            self._answer(400, b"a User-Agent is required", "text/plain")
            return
        if self.command == "GET":
            self._fault = self.server.faults.next_fault(url.path, of_list=not is_picture)
        if self._fault in FAULTY_ANSWERS:
            self._answer(*FAULTY_ANSWERS[self._fault])
        elif self._fault is Fault.TOO_MANY:
            self._answer(429, b"slow down", "text/plain", {"Retry-After": str(self.server.retry_after)})
        else:
            self._serve(url)

    def _serve(self, url: SplitResult) -> None:
        if url.path == "/bulk-data":
            objects = [self.server.bulk_object(kind) for kind in LIST_KINDS]
            self._json({"object": "list", "has_more": False, "data": objects})
        elif url.path.startswith("/bulk-data/"):
            self._bulk(url.path.removeprefix("/bulk-data/").replace("-", "_"), parse_qs(url.query))
        elif kind := next((kind for kind in LIST_KINDS if url.path == self.server.list_path(kind)), None):
            self._list_file(self.server.lists[kind])
        elif match := PICTURE_PATH.fullmatch(url.path):
            self._picture(match["key"], match["side"], match["id"])
        else:
            self._answer(404, b"not found", "text/plain")

    do_HEAD = do_GET

    def _bulk(self, kind: str, query: dict[str, list[str]]) -> None:
        if kind not in LIST_KINDS:
            self._answer(404, b"no such list", "text/plain")
        elif query.get("format") == ["file"]:
            self._answer(302, b"", "text/plain", {"Location": self.server.address + self.server.list_path(kind)})
        else:
            self._json(self.server.bulk_object(kind))

    def _json(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        etag = f'W/"{hashlib.sha1(body).hexdigest()}"'
        if self.headers.get("If-None-Match") == etag:
            self._answer(304, b"", None, {"ETag": etag})
        else:
            self._answer(200, body, "application/json; charset=utf-8", {"ETag": etag})

    def _list_file(self, body: bytes) -> None:
        etag = f'"{hashlib.sha1(body).hexdigest()}"'
        headers = {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Last-Modified": format_datetime(self.server.updated, usegmt=True),
        }
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not wanted or self.headers.get("If-Range", etag) != etag:
            self._answer(200, body, "application/gzip", headers)
        elif (start := int(wanted[1])) >= len(body):
            self._answer(416, b"", None, headers | {"Content-Range": f"bytes */{len(body)}"})
        else:
            content_range = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            self._answer(206, body[start:], "application/gzip", headers | content_range)

    def _picture(self, key: str, side: str, card_id: str) -> None:
        file = self.server.files.get((card_id, side))
        if file is None or key not in IMAGE_KEYS:
            self._answer(404, b"no such picture", "text/plain")
            return
        try:
            picture = picture_bytes(file, key)
        except (OSError, BrokenImage) as error:  # the table's fault
            warn(f"{file} can't be served: {error}")
            self._answer(500, b"no picture", "text/plain")
            return
        ending = Path(urlsplit(self.path).path).suffix
        self._answer(200, picture, CONTENT_TYPES[ending], {"Cache-Control": "max-age=31536000"})

    def _answer(
        self, status: int, body: bytes, content_type: str | None, headers: dict[str, str] | None = None
    ) -> None:
        self.server.log.add(
            received=self._received,
            method=self.command,
            path=self.path,
            range=self.headers.get("Range"),
            user_agent=self.headers.get("User-Agent"),
            fault=self._fault.value if self._fault else None,
            status=0 if self._fault is Fault.RESET else status,
        )
        if self._fault is Fault.RESET:
            self._reset()
            return
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if content_type:
            self.send_header("Content-Type", content_type)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self._fault is Fault.TRUNCATED:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif self._fault is Fault.SLOW:
            self._drip(body)
        elif self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        """Reset the connection: with a linger time of 0 the client sees a reset, not a regular close."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _drip(self, body: bytes) -> None:
        drop = max(1, len(body) // SLOW_DROPS)
        for start in range(0, len(body), drop):
            self.wfile.write(body[start : start + drop])
            self.wfile.flush()
            time.sleep(SLOW_SECONDS / SLOW_DROPS)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the download reports what happened."""


if __name__ == "__main__":
    raise SystemExit(run(main, stopped="the server is down."))
