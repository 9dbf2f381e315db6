"""Rows that need not be made again: of the index that lies in --out, and of checkpoints with the same pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.checkpoint import Checkpoint, Settings
from helpers.errors import PipelineError
from helpers.identity import PICTURE, as_it_is_now, find_rows
from helpers.image_cache import ImageCache
from helpers.index_store import Records, StoredIndex
from helpers.talk import Progress, say, warn


@dataclass(frozen=True, slots=True)
class EarlierIndex:
    """The rows of an index that is there, how they were made, and of which pictures."""

    settings: Settings
    rows: NDArray[np.float32]  # [N, D], memory-mapped
    pictures: NDArray[Any]  # PICTURE [N], memory-mapped


def earlier_index(folder: IndexFolder) -> EarlierIndex | None:
    """The index in `folder`; None where there is none, or, with a warning that names it, one that is damaged."""
    if not folder.manifest.exists():
        return None
    try:
        stored = StoredIndex(folder)
        rows, pictures = stored.vectors(), stored.pictures()
    except PipelineError as error:
        warn(f"the index in {folder.root} is not reused: {error}: {error.problems[0].details}")
        return None
    parameters, model = stored.manifest.parameters, stored.manifest.model
    settings = Settings(
        model=stored.manifest.source.name,
        weights_sha256=model.weights_sha256,
        precision=model.precision,
        preprocessing=model.preprocessing,
        target_size=parameters.target_size,
        fit=parameters.fit,
    )
    return EarlierIndex(settings, rows, pictures)


def if_it_fits(earlier: EarlierIndex | None, settings: Settings) -> EarlierIndex | None:
    """`earlier`, if its rows are such as `settings` would make; else None, and what differs is said."""
    if earlier is None:
        return None
    differs = earlier.settings.differences(settings)
    if not differs:
        return earlier
    precision = earlier.settings.precision
    only_that = len(differs) == 1 and precision != settings.precision
    keep = f" (--precision {precision} keeps them)" if only_that else "; another --out keeps it"
    warn(f"no row of the index that is there can be taken over: {'; '.join(differs)}{keep}")
    return None


def forget_changed(checkpoint: Checkpoint, faces: Records, cache: ImageCache) -> None:
    """Let `checkpoint` forget rows whose pictures are others now, or gone."""
    places = np.flatnonzero(checkpoint.good)
    if not places.size:
        return
    paths = (cache.path_for(faces[place].image_url) for place in places.tolist())
    now = _as_they_are_now(checkpoint.pictures(places), paths, len(places))
    changed = [place for place, picture in zip(places.tolist(), now, strict=True) if picture is None]
    if changed:
        checkpoint.forget(changed)
        say(f"{len(changed):,} pictures of the checkpoint have changed, or are gone: looked at again")


def take_over(
    rows: NDArray[np.float32], made_of: NDArray[Any], checkpoint: Checkpoint, faces: Records, cache: ImageCache
) -> int:
    """Keep in `checkpoint` those of `rows` that are of the very pictures of `faces`; how many these are.

    `rows` is float32 [N, D], `made_of` PICTURE [N].
    """
    places = np.flatnonzero(~checkpoint.good)
    numbers = find_rows(made_of, _url_hashes(faces, places.tolist()))
    known = np.flatnonzero(numbers >= 0)
    paths = (cache.path_for(faces[place].image_url) for place in places[known].tolist())
    now = _as_they_are_now(made_of[numbers[known]], paths, len(known))
    same = np.array([picture is not None for picture in now], bool)
    if same.any():
        pictures = np.array([picture for picture in now if picture is not None], PICTURE)
        checkpoint.add_many(places[known[same]], rows, numbers[known[same]], pictures)
    return int(same.sum())


def not_listed(made_of: NDArray[Any], faces: Records) -> int:
    """How many of `made_of` (PICTURE [N]) are no pictures of `faces`."""
    return int(np.isin(made_of["url_sha1"], _url_hashes(faces, range(len(faces))), invert=True).sum())


def _url_hashes(faces: Records, places: Iterable[int]) -> NDArray[np.void]:
    """SHA-1 of the URLs of the pictures of the faces at `places`, V20."""
    names = (ImageCache.name_for(faces[place].image_url) for place in places)
    return np.frombuffer(b"".join(bytes.fromhex(name[:40]) for name in names), "V20")


def _as_they_are_now(known: NDArray[Any], paths: Iterable[Path], count: int) -> list[Any]:
    """`as_it_is_now` of each of `count` pictures; all are read they were copied without their times."""
    found = []
    with Progress("Comparing", count, "pictures") as progress:
        for picture, path in zip(known, paths, strict=True):
            found.append(as_it_is_now(picture, path))
            progress.advance()
    return found
