"""What to evaluate, in which ways, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from helpers.evaluate.labelled import Labelled
from helpers.recognise.printed import READ
from helpers.recognise.query import VERIFY

SECTIONS = ("index", "camera", "strangers", "size", "reading", "photographs")  # "index": the search


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """In which ways photographs are asked, and which cards count."""

    turns: tuple[int, ...] = (0,)  # degrees clockwise: 0, 90, 180, 270
    crops: bool = False  # ask each card cut out, too
    corner_error: tuple[float, ...] = (0.0,)  # of cut-outs, in percent of the card's width and height
    seeds: int = 1  # cut-outs of each card, where corners are off
    strangers: bool = False  # ask everything once more as if the index lacked the cards that are on it
    read: str = READ[0]  # which cards are read
    verify: str = VERIFY[0]  # which cards are compared with the pictures of the index
    min_visible: float = 0.6  # share of a card, 0..1; others count neither as missed nor as extra


@dataclass(frozen=True, slots=True)
class Request:
    """What to evaluate, and for how long."""

    index: Path
    cache: Path | None  # None: where the manifest says
    minutes: float
    seed: int
    device: str
    hash_weight: float | None = None  # None: the index's own
    sections: tuple[str, ...] = SECTIONS
    photos: tuple[Labelled, ...] = ()  # none: there is no section photographs
    options: Options = field(default_factory=Options)

    @property
    def needs_pictures(self) -> bool:
        """Whether a section asks for them; the search alone can be measured without."""
        return any(section in self.sections for section in ("camera", "strangers", "size", "reading"))

    @property
    def damages(self) -> bool:
        """Whether damaged pictures of the index's own cards are asked."""
        return any(section in self.sections for section in SECTIONS[:-1])
