"""Card faces: what one is, how Scryfall's terms select it and its picture, and the faces of a build."""

import mmap
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import disagreement
from helpers.atomic_io import disk_errors_named
from helpers.cards.sizes import LISTS
from helpers.errors import BAD_JSON

LIST_KINDS = tuple(LISTS)

# One row per size, smallest first: the JPEG key and the WebP key of 2026 that is to replace it.
_WHOLE_CARD = (("small", "thumb"), ("normal", "grid"), ("large", "display"), ("png",))
_BORDERLESS = ("border_crop", "crop")
_ART = ("art_crop", "art")
IMAGE_KEYS = tuple(key for size in (*_WHOLE_CARD, _BORDERLESS, _ART) for key in size)

PLACEHOLDER_STATUS = ("missing", "placeholder")  # values of `image_status`: the picture does not show the card

FILTERS = ("lang", "set", "layout", "games")  # card fields to filter by
GAMES = ("paper", "arena", "mtgo")

# The picture to show to people: sharp on a high-resolution screen, a tenth of the size of a PNG.
SHOWN_KEY = "large"


def image_key_order(wanted: str) -> tuple[str, ...]:
    """Keys to try for `wanted`, best first: itself, its twin in the other format, then the next larger.

    After the largest come the smaller ones: a card in few pixels beats a missing card. Only art crops have no
    substitute, since a whole card is a different picture.
    """
    if wanted in _ART:
        return _wanted_first(wanted, _ART)
    if wanted in _BORDERLESS:
        larger = [key for size in _WHOLE_CARD[2:] for key in size]
        return (*_wanted_first(wanted, _BORDERLESS), *larger)
    at = next(i for i, size in enumerate(_WHOLE_CARD) if wanted in size)
    same_format = _WHOLE_CARD[at].index(wanted)
    rows = [*_WHOLE_CARD[at:], *reversed(_WHOLE_CARD[:at])]
    return tuple(key for row in rows for key in _wanted_first(row[min(same_format, len(row) - 1)], row))


def _wanted_first(wanted: str, row: tuple[str, ...]) -> tuple[str, ...]:
    return (wanted, *(key for key in row if key != wanted))


class Filters(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which cards of a list are wanted, by Scryfall's codes, sorted; empty means all. A card must pass every filter."""

    lang: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    games: tuple[str, ...] = ()  # the card is in at least one of them
    exclude_digital: bool = False

    def __bool__(self) -> bool:
        return self != Filters()

    def __str__(self) -> str:
        """The equivalent flags."""
        flags = [f"--{name} {','.join(getattr(self, name))}" for name in FILTERS if getattr(self, name)]
        return " ".join([*flags, *(["--exclude-digital"] if self.exclude_digital else [])])


class Selection(msgspec.Struct, frozen=True):
    """Which faces: from which list, with which picture, at most how many, and of which cards."""

    kind: str = "unique_artwork"
    image_key: str = "normal"
    limit: int | None = None
    filters: Filters = Filters()

    def __str__(self) -> str:
        """The equivalent flags."""
        limit = "" if self.limit is None else f"--limit {self.limit}"
        key = f"--image-key {self.image_key}" if self.image_key else ""
        flags = [f"--kind {self.kind}", key, limit, str(self.filters)]
        return " ".join(filter(None, flags))

    def covers(self, other: "Selection") -> bool:
        """Whether its faces include all of `other`'s."""
        return (
            (self.kind, self.image_key) == (other.kind, other.image_key)
            and (not self.filters or self.filters == other.filters)
            and (self.limit is None or self == other)
        )


class CardFace(msgspec.Struct, frozen=True, gc=False):
    """One printed side of a card that has a picture of its own: one line of metadata, one row of the index.

    `name` is the name of this side (of the whole card if its sides share one picture), `card_name` the card's.
    `image_url` is the picture that is embedded, `card_url` the one to show. From `type_line` on, fields are as Scryfall
    names them; indexes of before lack them, and null is not known. `printed_name` is what the card has in place of
    `name`: its name in another language, or Scryfall's `flavor_name`; null where that is the same.
    """

    name: str
    scryfall_id: str
    face_id: str
    oracle_id: str | None
    illustration_id: str | None
    set: str
    collector_number: str
    frame: str | None
    layout: str | None
    lang: str | None
    colors: list[str]
    image_url: str
    card_url: str
    scryfall_uri: str | None
    card_name: str
    artist: str | None
    type_line: str | None = None
    oracle_text: str | None = None
    set_name: str | None = None
    rarity: str | None = None
    released_at: str | None = None
    promo: bool | None = None
    promo_types: tuple[str, ...] = ()
    variation: bool | None = None
    finishes: tuple[str, ...] = ()
    border_color: str | None = None
    frame_effects: tuple[str, ...] = ()
    printed_name: str | None = None

    @property
    def printing(self) -> str:
        """Set and collector number, as far as they are known."""
        return f"{self.set.upper()} {self.collector_number}".strip()

    def to_json(self) -> bytes:
        """One line of metadata, without its newline, as UTF-8."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, line: bytes) -> "CardFace":
        """Read what `to_json` wrote; msgspec.ValidationError or DecodeError if it is something else."""
        return msgspec.json.decode(line, type=cls)


def on_disk(faces: Iterable[CardFace], source: Path, folder: Path) -> "Records":
    """Store `faces` in an unnamed temporary file in `folder`; `source`, where they come from, is named in errors.

    A build needs them again hours later, when the rows are done, and the list may have been replaced by then.
    """
    with disk_errors_named(folder / "faces"), tempfile.TemporaryFile(dir=folder) as file:
        file.writelines(face.to_json() + b"\n" for face in faces)
        file.flush()
        return Records(file, source)


class Records(Sequence[CardFace]):
    """Metadata lines, decoded one at a time on access: half a million would fill memory."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """The lines of `file`, which may be closed or removed afterwards; `path` names it in errors."""
        self._path = path
        empty = os.fstat(file.fileno()).st_size == 0
        self._bytes = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._ends = _newlines(self._bytes)

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def text(self) -> bytes | mmap.mmap:
        """All lines."""
        return self._bytes

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each line starts in `text`, and where the last one ends: [N + 1]."""
        return np.concatenate([[0], self._ends + 1])

    def line(self, row: int) -> bytes:
        """Line `row`, with its newline."""
        return self._bytes[self._ends[row - 1] + 1 if row else 0 : self._ends[row] + 1]

    @overload
    def __getitem__(self, row: int) -> CardFace: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[CardFace]: ...
    def __getitem__(self, row: int | slice) -> CardFace | Sequence[CardFace]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        try:
            return CardFace.from_json(self.line(row))
        except BAD_JSON as error:
            raise disagreement(self._path, f"line {row + 1:,}: {error}") from error


def _newlines(text: bytes | mmap.mmap) -> NDArray[np.int64]:
    """Where the lines of `text` end, found in pieces: a mask over all of it would be as large as the text."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(text), 1 << 24):
        piece = np.frombuffer(text, np.uint8, min(1 << 24, len(text) - start), start)
        found.append(start + np.flatnonzero(piece == ord("\n")))
    return np.concatenate(found)
