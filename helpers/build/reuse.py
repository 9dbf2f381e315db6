"""Rows that need not be made again: of the index that lies in --out, and of checkpoints with the same pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.build.checkpoint import AT_ONCE, Checkpoint
from helpers.cards.image_cache import ImageCache
from helpers.cards.pictures import PICTURE, Finder, Settings, as_it_is_now
from helpers.errors import PipelineError
from helpers.index.store import Records, StoredIndex
from helpers.talk import Progress, warn
from helpers.validation import BrokenImage, check_file

GONE = object()  # a picture that is not there, or can't be read


@dataclass(frozen=True, slots=True)
class EarlierIndex:
    """The rows of an index that is there, how they were made, and of which pictures."""

    settings: Settings
    rows: NDArray[np.float32]  # [N, D], memory-mapped
    pictures: NDArray[Any]  # PICTURE [N], memory-mapped
    verified: bool  # the form of each was checked too (--validate-cache)
    wanted: str  # the flags that chose its faces


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
    parameters = stored.manifest.parameters
    return EarlierIndex(stored.manifest.settings, rows, pictures, parameters.validate_cache, parameters.wanted)


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


def forget_changed(checkpoint: Checkpoint, faces: Records, cache: ImageCache, *, verify: bool) -> tuple[int, int]:
    """Let `checkpoint` forget rows whose pictures are others now, and hold back those whose pictures are not there.

    With `verify` those whose pictures are not whole are forgotten too. How many of each there are.
    """
    places = np.flatnonzero(checkpoint.good)
    changed, gone = [], []
    with Progress("Comparing", len(places), "pictures") as progress:
        for start in range(0, len(places), AT_ONCE):
            part = places[start : start + AT_ONCE]
            known = checkpoint.pictures(part)
            now = _as_they_are_now(known, (cache.path_for(faces[place].image_url) for place in part.tolist()), verify)
            for place, before, picture in zip(part.tolist(), known, now, strict=True):
                if picture is GONE:
                    gone.append(place)
                elif picture is None:
                    changed.append(place)
                elif picture != before:
                    checkpoint.renew(place, picture)
            progress.advance(len(part))
    checkpoint.hold_back(gone)
    if changed:
        checkpoint.forget(changed)
    return len(changed), len(gone)


class TakenOver(NamedTuple):
    """What became of the rows of an earlier build."""

    taken: int
    unlisted: int  # of pictures that are not those of any face
    waiting: int  # of pictures that are changed or gone, and whose faces have no row yet


def take_over(
    rows: NDArray[np.float32],
    made_of: NDArray[Any],
    checkpoint: Checkpoint,
    faces: Records,
    cache: ImageCache,
    *,
    verify: bool,
) -> TakenOver:
    """Keep in `checkpoint` those of `rows`, float32 [N, D], that are of the very pictures of `faces`.

    `made_of`, PICTURE [N], says of which they are; with `verify` they must be whole, too.
    """
    finder, taken = Finder(made_of), 0
    listed, needless = np.zeros(len(made_of), bool), np.zeros(len(made_of), bool)
    with Progress("Comparing", len(faces), "faces") as progress:
        for start in range(0, len(faces), AT_ONCE):
            places = np.arange(start, min(start + AT_ONCE, len(faces)))
            names = [ImageCache.name_for(faces[place].image_url) for place in places.tolist()]
            numbers = finder.find(np.frombuffer(b"".join(bytes.fromhex(name[:40]) for name in names), "V20"))
            listed[numbers[numbers >= 0]] = True
            known = np.flatnonzero((numbers >= 0) & ~checkpoint.good[places])
            now = _as_they_are_now(made_of[numbers[known]], (cache.root / names[at] for at in known), verify)
            same = known[[picture is not None and picture is not GONE for picture in now]]
            if same.size:
                pictures = [picture for picture in now if picture is not None and picture is not GONE]
                checkpoint.add(places[same].tolist(), rows[numbers[same]], np.array(pictures, PICTURE))
                taken += len(same)
            needless[numbers[(numbers >= 0) & checkpoint.good[places]]] = True
            progress.advance(len(places))
    named = made_of["url_sha1"] != np.zeros((), PICTURE)["url_sha1"]
    return TakenOver(taken, int((named & ~listed).sum()), int((listed & ~needless).sum()))


def _as_they_are_now(known: NDArray[Any], paths: Iterable[Path], verify: bool) -> list[Any]:
    """`as_it_is_now` of each picture, or GONE; None too for those that are not whole, if we are to `verify` that."""
    found: list[Any] = []
    for picture, path in zip(known, paths, strict=True):
        try:
            now = as_it_is_now(picture, path)
            if now is not None and verify:
                check_file(path)
        except OSError:
            now = GONE
        except BrokenImage:
            now = None
        found.append(now)
    return found
