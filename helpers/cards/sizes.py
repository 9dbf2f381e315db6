"""How much Scryfall has: estimates of the room that lists and pictures need. Scryfall's figures of autumn 2026."""

from typing import NamedTuple


class ListSize(NamedTuple):
    """A card list: its cards, and the bytes of its file."""

    cards: int
    file_bytes: int


LISTS = {
    "unique_artwork": ListSize(53_863, 37_000_000),
    "default_cards": ListSize(116_568, 77_000_000),
    "all_cards": ListSize(538_675, 390_000_000),
    "oracle_cards": ListSize(38_542, 24_000_000),
}

# A picture, on average, by its key
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
