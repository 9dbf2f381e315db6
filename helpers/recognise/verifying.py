"""A second look by geometry: corners of a cut-out are matched with those of the best names' own pictures.

Where many lie alike in both, both show the same art. It is for cut-outs that are not sure, such as blurred ones: there
it names more cards, and lets no more strangers pass. How it was chosen, and what is not known: docs/choices.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from helpers.cards.faces import CardFace
from helpers.cards.image_cache import ImageCache
from helpers.embed.preprocess import as_seen
from helpers.recognise.camera import CARD_ASPECT, rectangle
from helpers.recognise.ranking import CutOut, Evidence, Ranker, Ranking
from helpers.recognise.seen import LEAST_INLIERS, MAX_LOOKED_AT, Seen, cards_among, covered, in_doubt
from helpers.validation import BrokenImage, read_image

if TYPE_CHECKING:
    from helpers.recognise.finding import Box
    from helpers.recognise.regions import Photo

NAMES = 3  # of a ranking, the best ones: they are compared with the cut-out
LARGEST_RIVAL = 0.5  # of the best name's inliers: two cards with the same art can't be told apart so
HEIGHT = 340  # pixels of both pictures; at 680 it takes longer and is no better
_SIZE = (round(HEIGHT * CARD_ASPECT), HEIGHT)  # width, height
_ART: Box = (0.07, 0.105, 0.93, 0.56)  # of the card: what only cards with the same art share, unlike frame and text
_CORNERS, _FAST = 1000, 7  # at most so many; by how much a corner differs from what is around it, of 255
_RATIO = 0.8  # of the distances to the nearest and the second nearest descriptor: with more it is no match
_TOLERANCE = 0.012 * HEIGHT  # pixels that an inlier is off at most
_FARTHEST = 0.25 * HEIGHT  # pixels that a straightened card's corner is off at most: with more, it is chance
_KEPT = 256  # faces whose features are kept, 40 KB each: one picture has several regions of a card


class Features(NamedTuple):
    """The corners of an upright card's picture, by ORB."""

    points: NDArray[np.float32]  # [F, 2], pixels of _SIZE
    descriptors: NDArray[np.uint8]  # [F, 32]


class Verifier:
    """Compares cut-outs with the pictures of an index's cards; safe to use from several threads."""

    def __init__(self, ranker: Ranker, cache: ImageCache) -> None:
        """`cache`: the pictures that the index was built from; faces whose picture it lacks are not compared."""
        self._ranker = ranker
        self._cache = cache
        self._features_at: Callable[[str], Features | None] = lru_cache(_KEPT)(self._read)

    def look_again(self, photo: Photo, seen: list[Seen], detect: str) -> list[Seen]:
        """The same regions of a picture; those that are not sure are ranked by what their art shows, too."""
        shown = [one for one in cards_among(seen, detect) if one.sure]
        verified: dict[int, Seen] = {}
        for one in in_doubt(seen, shown)[:MAX_LOOKED_AT]:
            if not covered(one.region, [card.region for card in shown]):
                again = verified[id(one)] = self._verified(photo, one)
                shown += [again] if again.sure else []
        return [verified.get(id(one), one) for one in seen]

    def _verified(self, photo: Photo, seen: Seen) -> Seen:
        inliers = self.compared(np.asarray(photo.cut_out(seen.region, HEIGHT)), seen.ranking)
        name = name_shown(inliers)
        cut_out = seen.cut_out if name is None else self._ranked(seen.cut_out, name, seen.masked)
        return dataclasses.replace(seen, cut_out=cut_out, inliers=inliers)

    def compared(self, pixels: NDArray[np.uint8], ranking: Ranking) -> dict[str, int]:
        """How many corners of a straightened card, RGB uint8 [H, W, 3], fit the art of each of the best names.

        By each name's best face; a name whose picture is missing or damaged is left out.
        """
        best: dict[str, CardFace] = {}
        for face in self._ranker.faces(ranking.rows):
            best.setdefault(face.name, face)
        known = {name: self._features_at(face.image_url) for name, face in [*best.items()][:NAMES]}
        asked = features(pixels) if any(known.values()) else None
        return {name: art_inliers(asked, clean) for name, clean in known.items() if asked and clean}

    def _ranked(self, cut_out: CutOut, name: str, masked: NDArray[np.int64]) -> CutOut:
        """A cut-out that shows `name`; all its faces gain alike: which printing it is, other things say."""
        rows = np.setdiff1d(self._ranker.rows_of([name]), masked)
        evidence = cut_out.evidence + Evidence(rows, np.ones(len(rows), np.float32))
        cut_out = dataclasses.replace(cut_out, evidence=evidence)
        return dataclasses.replace(cut_out, ranking=self._ranker.reranked(cut_out, masked))

    def _read(self, image_url: str) -> Features | None:
        try:
            return features(np.asarray(as_seen(read_image(self._cache.path_for(image_url)))))
        except (BrokenImage, FileNotFoundError):
            return None


def name_shown(inliers: Mapping[str, int]) -> str | None:
    """The name whose art has enough inliers, and no other as many as would be a doubt; None if there is none."""
    ranked = sorted(inliers, key=lambda name: -inliers[name])
    if not ranked or inliers[ranked[0]] < LEAST_INLIERS:
        return None
    rival = max((inliers[name] for name in ranked[1:]), default=0)
    return ranked[0] if rival <= LARGEST_RIVAL * inliers[ranked[0]] else None


def features(pixels: NDArray[np.uint8]) -> Features:
    """The corners of an upright card, RGB uint8 [H, W, 3]."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    how = cv2.INTER_AREA if len(grey) > HEIGHT else cv2.INTER_CUBIC
    orb = cv2.ORB_create(_CORNERS, fastThreshold=_FAST)  # type: ignore[attr-defined]  # its stubs lack it
    points, descriptors = orb.detectAndCompute(cv2.resize(grey, _SIZE, interpolation=how), None)
    if descriptors is None:
        return Features(np.empty((0, 2), np.float32), np.empty((0, 32), np.uint8))
    return Features(np.array([point.pt for point in points], np.float32), descriptors)


def art_inliers(asked: Features, clean: Features) -> int:
    """How many corners in the art of the card `clean` match some in `asked`, all in one perspective."""
    if len(asked.points) < 4 or len(clean.points) < 4:
        return 0
    distances, nearest = cv2.batchDistance(
        asked.descriptors, clean.descriptors, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=2
    )
    distinct = distances[:, 0] < _RATIO * distances[:, 1]
    source, target = asked.points[distinct], clean.points[nearest[distinct, 0]]
    if len(source) < 4:
        return 0
    homography, fits = cv2.findHomography(source, target, cv2.USAC_MAGSAC, _TOLERANCE, maxIters=1000, confidence=0.995)
    if homography is None or not _is_sane(homography):
        return 0
    left, top, right, bottom = _ART
    x, y = (target[fits.ravel() == 1] / np.array(_SIZE, np.float32)).T
    return int(np.count_nonzero((left < x) & (x < right) & (top < y) & (y < bottom)))


def _is_sane(homography: NDArray[Any]) -> bool:
    """Whether it maps a straightened card about onto a card."""
    corners = np.array(rectangle(*_SIZE), np.float32)
    mapped = cv2.perspectiveTransform(corners[None], homography)[0]
    near = bool(np.isfinite(mapped).all()) and float(np.abs(mapped - corners).max()) <= _FARTHEST
    return near and cv2.isContourConvex(mapped)
