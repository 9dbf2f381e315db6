"""The pictures to tune on, and which of them show the same card."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import unreadable
from helpers.cards.bulk_list import kept_list
from helpers.cards.card_list import logged_faces
from helpers.cards.faces import CardFace, Selection
from helpers.cards.image_cache import ImageCache
from helpers.cards.own_pictures import own_faces
from helpers.cards.pictures import sha256_of
from helpers.errors import Category, ExitCode, PipelineError
from helpers.session import Http
from helpers.talk import Progress, warn


@dataclass(frozen=True, slots=True)
class Picture:
    """A clean picture of a card."""

    path: Path
    name: str
    illustration_id: str | None = None


def from_cache(
    cache: Path, selection: Selection, http: Http, *, refresh: bool = False, offline: bool = False
) -> list[Picture]:
    """The pictures in an image cache of the selected faces; placeholders are none. PipelineError without a list."""
    ImageCache(cache).require(ExitCode.ERROR)
    card_list = kept_list(cache, selection.kind, http, refresh=refresh, offline=offline)
    return _pictures(ImageCache(cache), logged_faces(card_list, selection))


def from_folder(folder: Path, table: Path | None) -> list[Picture]:
    """The pictures in a folder, named by a CSV or their files; PipelineError if it can't be read, see `own_faces`."""
    return _pictures(ImageCache(folder), own_faces(folder, table))


def _pictures(images: ImageCache, faces: Iterable[CardFace]) -> list[Picture]:
    return [Picture(images.path_for(face.image_url), face.name, face.illustration_id) for face in faces]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Pictures that are there, and which of them show the same card."""

    pictures: Sequence[Picture]  # N of them
    classes: NDArray[np.int64]  # [N]: the same number for the same card
    sha256: str  # of all their contents, in any order

    def __len__(self) -> int:
        return len(self.pictures)


def catalogue(found: Sequence[Picture]) -> Catalogue:
    """Leave out pictures whose file is missing, and find those of one name, one illustration or the same bytes.

    PipelineError if that leaves nothing to tell apart, see `require_cards`.
    """
    there: list[Picture] = []
    digests: list[str] = []
    with Progress("Reading pictures", len(found), "pictures") as progress:
        for picture in found:
            try:
                digests.append(sha256_of(picture.path))
                there.append(picture)
            except FileNotFoundError:
                pass  # counted below
            except OSError as error:  # without it, a checkpoint would be of other pictures
                raise unreadable(picture.path, error) from error
            progress.advance()
    if len(there) < len(found):
        warn(f"{len(found) - len(there):,} of {len(found):,} pictures are missing")
    classes = same_card(there, digests)
    require_cards(classes)
    return Catalogue(there, classes, hashlib.sha256("".join(sorted(digests)).encode()).hexdigest())


def require_cards(classes: NDArray[np.int64]) -> None:
    """PipelineError (Validation Error) unless pictures of these classes [M] show two cards or more."""
    cards = len(set(classes.tolist()))
    if cards < 2:
        raise PipelineError.of(
            Category.VALIDATION,
            "there is nothing to tune on",
            details=f"{len(classes):,} whole pictures of {cards} cards",
            suggestion="pass the pictures of many cards: hundreds are good, thousands are better",
        )


def same_card(pictures: Sequence[Picture], digests: Sequence[str]) -> NDArray[np.int64]:
    """The class [N] of each picture: 0, 1, …; one for all that are linked by name, illustration or content."""
    first: dict[Hashable, int] = {}
    leader = list(range(len(pictures)))

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = place = leader[leader[place]]
        return place

    for place, (picture, digest) in enumerate(zip(pictures, digests, strict=True)):
        for key in (("name", picture.name), ("content", digest), ("art", picture.illustration_id)):
            if key[1]:
                leader[find(place)] = find(first.setdefault(key, place))
    return np.unique([find(place) for place in range(len(pictures))], return_inverse=True)[1].astype(np.int64)


def hold_out(classes: NDArray[np.int64], percent: float, seed: int) -> NDArray[np.bool_]:
    """Which pictures [N] are held out: all those of a random `percent` of the cards, the same for the same seed."""
    order = np.random.default_rng(seed).permutation(int(classes.max()) + 1)
    count = round(len(order) * percent / 100)
    if percent:
        count = min(max(count, 1), len(order) - 1)
    return np.isin(classes, order[:count])
