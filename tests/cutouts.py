"""The real cards as they may be seen: cut-outs of photographs, simulated photographs, their own pictures cut badly."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from helpers.embed.preprocess import as_seen
from helpers.evaluate.labelled import Labelled, read_photos, with_corner_error
from helpers.recognise.camera import rectangle, view
from helpers.recognise.regions import Photo, Region
from helpers.validation import read_image
from tests.conftest import REAL
from tests.tables import wooden

ERRORS, SEEDS = (0.0, 0.03, 0.06), 5
ENOUGH = (161, 224)  # pixels, width and height: as a card lies in a square of 224
HEIGHT = 680  # pixels of a cut-out
_MARGIN = 0.15  # of the table around a card, in widths and heights
_NEXT_SEED = 1_000_000

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Cutout:
    """What is known of a cut-out: the photograph (or card) it shows, the card's name, how far off the corners are."""

    photo: str
    name: str
    error: float


class RealCards:
    """The clean pictures of real cards, and what they may be seen as."""

    def __init__(self, real: Path = REAL) -> None:
        self._real = real
        table = read(real / "cards.csv")
        self.files = [real / row["file"] for row in table]
        self.names = np.array([row["name"] for row in table])

    @cached_property
    def clean(self) -> list[Image.Image]:
        """The pictures, upright and opaque."""
        return [as_seen(Image.open(file)) for file in self.files]

    def halved(self) -> Iterator[tuple[Image.Image, Cutout]]:
        """The pictures, decoded at half their size where that is still enough for a model that looks at 224 pixels."""
        for number, (file, name) in enumerate(zip(self.files, self.names.tolist(), strict=True)):
            yield as_seen(read_image(file, at_least=ENOUGH)), Cutout(str(number), name, 0.0)

    def as_they_are(self) -> Iterator[tuple[Image.Image, Cutout]]:
        """The pictures."""
        for number, (card, name) in enumerate(zip(self.clean, self.names.tolist(), strict=True)):
            yield card, Cutout(str(number), name, 0.0)

    def photographed(self) -> Iterator[tuple[Image.Image, Cutout]]:
        """Cut-outs of real photographs of the cards: as they are, and with corners off, SEEDS times each."""
        known = set(self.names.tolist())
        for photo in read_photos(self._real / "photos.csv"):
            for picture, name, error in _cut(photo):
                if name in known:
                    yield picture, Cutout(photo.path.name, name, error)

    def simulated(self, strength: float, seed: int = 0) -> Iterator[tuple[Image.Image, Cutout]]:
        """A simulated photograph of each card."""
        for number, (card, name) in enumerate(zip(self.clean, self.names.tolist(), strict=True)):
            rng = np.random.default_rng(_NEXT_SEED * seed + number)
            yield view(card, rng, strength), Cutout(str(number), name, strength)

    def cut_badly(self, error: float) -> Iterator[tuple[Image.Image, Cutout]]:
        """Each card's own picture on a wooden table, cut out with corners off; nothing else is wrong with it."""
        for number, (card, name) in enumerate(zip(self.clean, self.names.tolist(), strict=True)):
            corner = round(_MARGIN * card.width), round(_MARGIN * card.height)
            table = wooden((card.width + 2 * corner[0], card.height + 2 * corner[1]))
            table.paste(card, corner)
            quad = with_corner_error(np.array(rectangle(*card.size)) + corner, error, np.random.default_rng(number))
            yield Photo(table).cut_out(Region(quad), HEIGHT), Cutout(str(number), name, error)


def _cut(photo: Labelled) -> Iterator[tuple[Image.Image, str, float]]:
    whole = Photo(as_seen(Image.open(photo.path)))
    for number, label in enumerate(photo.labels):
        if label.crop:
            yield as_seen(Image.open(label.crop)), label.name, 0.0
        if label.quad is None:
            continue
        for error in ERRORS[1:]:
            for seed in range(SEEDS):
                quad = with_corner_error(label.quad, error, np.random.default_rng((seed, number)))
                yield whole.cut_out(Region(quad), HEIGHT), label.name, error


def parts(items: Iterable[Item], size: int = 16) -> Iterator[Sequence[Item]]:
    """The items, `size` at a time."""
    part: list[Item] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def read(table: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
