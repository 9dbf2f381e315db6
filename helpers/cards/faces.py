"""What a card face is, and which of Scryfall's words choose it and its picture."""

from typing import Any

import msgspec

LIST_KINDS = ("unique_artwork", "default_cards", "all_cards", "oracle_cards")

# One row a size, smallest first; within a row the JPEG key and the WebP key of 2026 that is to replace it.
_WHOLE_CARD = (("small", "thumb"), ("normal", "grid"), ("large", "display"), ("png",))
_BORDERLESS = ("border_crop", "crop")
_ART = ("art_crop", "art")
IMAGE_KEYS = tuple(key for size in (*_WHOLE_CARD, _BORDERLESS, _ART) for key in size)

PLACEHOLDER_STATUS = ("missing", "placeholder")  # of `image_status`: what is shown is no picture of the card

FILTERS = ("lang", "set", "layout", "games")  # fields of a card that choose among them
GAMES = ("paper", "arena", "mtgo")

# Scryfall's mean picture in bytes (2026), to tell beforehand how much room a download needs.
MEAN_BYTES = {
    "small": 15_000,
    "thumb": 9_000,
    "normal": 111_000,
    "grid": 62_000,
    "large": 181_000,
    "display": 93_000,
    "png": 1_355_000,
    "border_crop": 100_000,
    "crop": 63_000,
    "art_crop": 79_000,
    "art": 58_000,
}

# The picture to show to a person: sharp on a high-resolution screen, a tenth of a PNG's bytes.
SHOWN_KEY = "large"


def image_key_order(wanted: str) -> tuple[str, ...]:
    """Keys to try for `wanted`, best first: itself, its twin in the other format, then the next larger.

    After the largest come the smaller ones: a card in few pixels beats a card that is not there. Only for the crops of
    the art there is no substitute, since a whole card is another picture.
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


class Filters(msgspec.Struct, frozen=True):
    """Which cards of a list are wanted, by Scryfall's codes; an empty set wants all. A card must pass each of them."""

    lang: frozenset[str] = frozenset()
    set: frozenset[str] = frozenset()
    layout: frozenset[str] = frozenset()
    games: frozenset[str] = frozenset()  # it is in one of them
    exclude_digital: bool = False

    def __bool__(self) -> bool:
        return self != NO_FILTERS

    def __str__(self) -> str:
        """The flags that make it."""
        flags = [f"--{name} {','.join(sorted(getattr(self, name)))}" for name in FILTERS if getattr(self, name)]
        return " ".join([*flags, *(["--exclude-digital"] if self.exclude_digital else [])])

    def to_json(self) -> dict[str, Any]:
        """What files record: only what was asked for, in a fixed order."""
        asked: dict[str, Any] = {name: sorted(getattr(self, name)) for name in FILTERS if getattr(self, name)}
        return asked | ({"exclude_digital": True} if self.exclude_digital else {})


NO_FILTERS = Filters()


class CardFace(msgspec.Struct, frozen=True, gc=False):
    """One printed side of a card that has a picture of its own: one line of metadata, one row of the index.

    `name` is the name of this side (of the whole card where its sides share one picture), `card_name` the card's.
    `image_url` is the picture that is embedded, `card_url` the one to show.
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

    def to_json(self) -> bytes:
        """One line of metadata, without its newline, as UTF-8."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, line: bytes) -> "CardFace":
        """Read what `to_json` wrote; msgspec.ValidationError or DecodeError where it is something else."""
        return msgspec.json.decode(line, type=cls)
