"""A list of invented cards with the fields and the size of Scryfall's, and a server of it on 127.0.0.1."""

import gzip
import http.server
import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

CARDS, FACES = 538_675, 540_000  # of all_cards; the faces, of which a few share a card, are about as many
LINE_BYTES = 2_876_000_000 / CARDS
KEYS = ("small", "normal", "large", "png", "art_crop", "border_crop", "thumb", "grid", "display", "art", "crop")
FORMATS = ("standard", "pioneer", "modern", "legacy", "pauper", "vintage", "commander", "brawl", "oathbreaker", "duel")
SHOPS = ("tcgplayer", "cardmarket", "cardhoarder", "gatherer", "edhrec")
SETS = 900
_TEXT_WORDS = 200_000

Card = dict[str, Any]


class Cards:
    """Invents cards."""

    def __init__(self, address: str, name: Callable[[int], str] | None = None) -> None:
        """Of pictures at `address`; `name` gives that of the face with a number, else each has another one."""
        self._address, self._name = address, name
        self._draw = random.Random(0)
        words = ["".join(self._draw.choices("etaoinshrdlu", k=self._draw.randint(2, 8))) for _ in range(3000)]
        self._text = self._draw.choices(words, k=_TEXT_WORDS)

    def text(self, count: int) -> str:
        """So many words."""
        start = int(self._draw.random() * (_TEXT_WORDS - count))
        return " ".join(self._text[start : start + count])

    def line(self, number: int, faces: range) -> bytes:
        """The card of that number as Scryfall has it, of some 5.3 KB, with one or two faces of these numbers."""
        made = self._card(number, faces)
        missing = int(LINE_BYTES) - 1 - len(json.dumps(made)) - len(', "printed_text": ""')
        made["printed_text"] = self.text(max(0, missing) // 5)[: max(0, missing)].ljust(missing)
        return json.dumps(made).encode() + b"\n"

    def _card(self, number: int, faces: range) -> Card:
        card_id = f"{self._draw.getrandbits(128):032x}"
        names = [self._name(face) if self._name else self.text(3) for face in faces]
        pictures = (self._pictures(card_id, face) for face in faces)
        sides = [{"name": name, "image_uris": each} for name, each in zip(names, pictures, strict=True)]
        two_sided = {"layout": "transform", "card_faces": sides}
        return {
            "object": "card",
            "id": card_id,
            "oracle_id": f"{self._draw.getrandbits(128):032x}",
            "name": " // ".join(names),
            "lang": self._draw.choice(("en", "de", "fr", "ja", "es")),
            **({"layout": "normal", "image_uris": sides[0]["image_uris"]} if len(faces) == 1 else two_sided),
            "image_status": "highres_scan",
            "oracle_text": self.text(60),
            "flavor_text": self.text(40),
            "set": f"s{number % SETS}",
            "collector_number": str(number),
            "games": ["paper"],
            "digital": False,
            "colors": ["W"],
            "artist": self.text(2),
            "legalities": dict.fromkeys((*FORMATS, *(f"{name}_alternative" for name in FORMATS)), "not_legal"),
            "prices": {
                name: f"{self._draw.random() * 90:.2f}" for name in ("usd", "usd_foil", "eur", "eur_foil", "tix")
            },
            "purchase_uris": {shop: f"https://{shop}.example/search?q={card_id}&utm_source=api" for shop in SHOPS},
            "related_uris": {shop: f"https://{shop}.example/related?q={card_id}&utm_source=api" for shop in SHOPS},
            "scryfall_uri": f"https://cards.example/card/{number}?utm_source=api",
        }

    def _pictures(self, card_id: str, face: int) -> dict[str, str]:
        path = f"front/{card_id[0]}/{card_id[1]}/{card_id}"
        endings = {"png": "png"} | dict.fromkeys(KEYS[6:], "webp")
        return {key: f"{self._address}/{key}/{path}.{endings.get(key, 'jpg')}?{face}" for key in KEYS}


def write_list(folder: Path, cards: int, made: Cards, faces: int | None = None) -> tuple[int, int]:
    """Write all_cards, its `cards` having `faces` in all (default: one each), as `serving` serves it.

    The bytes of the text, and of the file, which is compressed.
    """
    faces, size = faces or cards, 0
    with gzip.open(folder / "list.jsonl.gz", "wb", compresslevel=4) as file:
        for number in range(cards):
            size += file.write(made.line(number, range(number * faces // cards, (number + 1) * faces // cards)))
    return size, (folder / "list.jsonl.gz").stat().st_size


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server of a list that `write_list` wrote or will write into `folder`, and of no picture; its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def announce(folder: Path, address: str) -> None:
    """Let the server at `address` describe the list, as Scryfall does."""
    entry = {"type": "all_cards", "updated_at": "2026", "jsonl_download_uri": f"{address}/list.jsonl.gz"}
    size = (folder / "list.jsonl.gz").stat().st_size
    (folder / "bulk-data").write_text(json.dumps({"data": [entry | {"compressed_size": size}]}))
