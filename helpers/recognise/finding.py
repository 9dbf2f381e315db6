"""Where could a card be in a picture? All quadrilaterals that a card can make in a camera.

Several edge maps of the picture give contours. A card that lies free is a contour with four sides; of one that touches
or is partly covered by something, some straight pieces are left: two pairs of them that face each other make a
quadrilateral too, and so do three sides, if the fourth is covered or outside the picture. Its sides are lines fitted
to the contour, its corners their intersections: a card's own are round. The index decides which of the candidates are
cards, and which way up they are.

The only module that imports cv2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from helpers.recognise.camera import CARD_ASPECT, rectangle

WORKING_SIDE = 1000  # pixels: the longer side that a picture is reduced to before its edges are searched
MIN_AREA = 0.004  # of the picture: 250 cards would fill it
MIN_SIDE = 24  # pixels of the reduced picture
MAX_QUADS = 250
_CONVEX = 0.85  # least share of its quadrilateral that a free card's contour fills: the rest is round corners, noise
_CLEAN = 0.95  # with this share it is free for sure: straight pieces of it need not be combined
_MAX_EDGES = 28  # straight pieces of a contour that are combined: the longest
_MIN_EDGE = 16  # pixels
_PARALLEL, _CROSSING = 0.3, 1.0  # radians: at most between facing sides, at least between adjacent ones
_SEEN = 0.5  # least share of a partly covered card's outline that is seen; of each side, a fifth of that
_MAX_RATIO = 2  # of two sides, facing or adjacent: a card's are 1.4, the rest is perspective
_MAX_PAIRS = 6  # quadrilaterals made of the straight pieces of one contour
_BESIDE = 0.02  # lengths of a side: points of the contour so near to it make its line
_FITTED_POINTS = 400  # of a contour, evenly spread
_BEYOND = 0.15  # most of a piece that may lie outside its side: a longer line belongs to something else
ASPECT_ROOM = 0.16  # how far the aspect (its logarithm) and the right angle (its cosine) may be off
# Focal lengths, in longer sides of the picture. It is unknown and the picture may be a part of a photograph, so a
# quadrilateral passes if one of them explains it; the last stands for a card seen straight on.
_FOCAL_LENGTHS = (0.8, 1.2, 2.0, 4.0, 100.0)
_OUTSIDE = 0.15  # of the picture's width and height: how far outside it a corner may lie
_SAME = 0.02  # two quadrilaterals whose corners differ by less, in roots of their area, are one

Box = tuple[float, float, float, float]  # left, top, right, bottom, in widths and heights of a card
Quads = NDArray[np.float64]  # [Q, 4, 2]: x, y of the corners, clockwise as seen, the first side a short one


class Pyramid:
    """A picture and its halves, for cutting quadrilaterals out of it without aliasing."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        """`pixels`: RGB, uint8 [H, W, 3]."""
        self._levels = [pixels]
        while min(self._levels[-1].shape[:2]) >= 2 * MIN_SIDE:
            height, width = self._levels[-1].shape[:2]
            self._levels.append(_resized(self._levels[-1], width // 2, height // 2))

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The picture, uint8 [H, W, 3]."""
        return self._levels[0]

    def reduced(self, side: int) -> NDArray[np.uint8]:
        """The picture with its longer side reduced to at most `side` pixels."""
        height, width = self.pixels.shape[:2]
        share = min(1.0, side / max(height, width))
        if share == 1.0:
            return self.pixels
        near = next(level for level in reversed(self._levels) if max(level.shape[:2]) >= side)
        return _resized(near, max(1, round(width * share)), max(1, round(height * share)))

    def straighten(self, quad: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
        """What lies within `quad`, float [4, 2], as a rectangle uint8 [height, width, 3]; its first corner top left."""
        tall = float(np.linalg.norm(quad[[3, 2]] - quad[[0, 1]], axis=1).mean())
        level = min(max(0, int(math.log2(max(tall / height, 1)))), len(self._levels) - 1)
        pixels = self._levels[level]
        scale = np.array([pixels.shape[1], pixels.shape[0]]) / np.array([self.pixels.shape[1], self.pixels.shape[0]])
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32) - np.float32(0.5)
        source = (quad * scale - 0.5).astype(np.float32)  # a pixel's centre is at a whole number for cv2
        matrix = cv2.getPerspectiveTransform(source, corners)
        cut = cv2.warpPerspective(
            pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(cut, np.uint8)


def within(quad: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """The part of a card, float [4, 2], whose corners are `quad`."""
    left, top, right, bottom = box
    matrix = cv2.getPerspectiveTransform(np.array(rectangle(1, 1), np.float32), quad.astype(np.float32))
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return np.asarray(cv2.perspectiveTransform(corners[None], matrix)[0])


def find_quads(picture: Pyramid) -> Quads:
    """The candidates in `picture`, in its pixels, the clearest first, at most MAX_QUADS; corners may lie outside."""
    small = picture.reduced(WORKING_SIDE)
    height, width = small.shape[:2]
    if min(height, width) < 2 * MIN_SIDE:
        return np.empty((0, 4, 2))
    contours = [
        contour
        for edges in _edge_maps(small)
        for contour in cv2.findContours(edges, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
        if _large_enough(contour, width, height)
    ]
    clear, quads = _quads_of(contours, width, height)
    scale = np.array([picture.pixels.shape[1] / width, picture.pixels.shape[0] / height])
    return np.asarray(_distinct(clear, quads) * scale)


def overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The area that two convex quadrilaterals share, in pixels squared."""
    shared, _ = cv2.intersectConvexConvex(one.astype(np.float32), other.astype(np.float32))
    return float(shared)


def area(quad: NDArray[np.float64]) -> float:
    """The area of a convex quadrilateral, in pixels squared."""
    return float(cv2.contourArea(quad.astype(np.float32)))


def iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over union of two convex quadrilaterals."""
    shared = overlap(one, other)
    return shared / max(area(one) + area(other) - shared, 1e-9)


def _resized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


# ---------------------------------------------------------------------------------------------------------- the edges


def _edge_maps(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Binary pictures whose contours outline what differs in lightness (at several strengths), hue or saturation.

    They are the half of those tried that found 95 % of what all together did.
    """
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    light, red_green, blue_yellow = (cv2.GaussianBlur(lab[..., i], (5, 5), 0) for i in range(3))
    saturation = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)[..., 1], (5, 5), 0)
    red_green, blue_yellow = (cv2.normalize(c, None, 0, 255, cv2.NORM_MINMAX) for c in (red_green, blue_yellow))  # type: ignore[call-overload]
    for channel, low, high in (
        (light, 10, 40),
        (light, 30, 90),
        (blue_yellow, 30, 90),
        (blue_yellow, 10, 40),
        (saturation, 30, 90),
    ):
        yield _array(cv2.dilate(cv2.Canny(channel, low, high), np.ones((3, 3), np.uint8)))  # closes small gaps
    for channel in (light, red_green, saturation):
        yield _array(cv2.adaptiveThreshold(channel, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, 51, 7))
        yield _array(cv2.threshold(channel, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1])


def _array(pixels: Any) -> NDArray[np.uint8]:
    return np.asarray(pixels, np.uint8)


def _large_enough(contour: Any, width: int, height: int) -> bool:
    """Whether the box around a contour [P, 1, 2] is as large as the smallest card."""
    least = MIN_AREA * width * height
    if (len(contour) / 2 + 1) ** 2 < least:  # it can't go around such a box: most contours are specks
        return False
    _, _, across, down = cv2.boundingRect(contour)
    return min(across, down) >= MIN_SIDE and across * down >= least


def _quads_of(contours: Sequence[Any], width: int, height: int) -> tuple[NDArray[np.float64], Quads]:
    """The quadrilaterals that contours [P, 1, 2] suggest, and how clear each is, 0..1."""
    around = [_around(contour) for contour in contours]
    filled = np.array([share for share, _ in around])
    quads, good = _like_a_card(np.array([quad for _, quad in around]).reshape(-1, 4, 2), width, height)
    good &= filled >= _CONVEX
    found = [(filled[i], quads[i], contours[i]) for i in np.flatnonzero(good).tolist()]
    for i in np.flatnonzero(~(good & (filled >= _CLEAN))).tolist():
        pieces = _straight_pieces(contours[i], width, height)
        # The less of an outline is seen, the less clear it is
        for share, (seen, suggested) in ((0.6, _facing_pairs(pieces)), (0.4, _three_sides(pieces))):
            pairs, good = _like_a_card(suggested, width, height)
            best = np.flatnonzero(good)[np.argsort(-seen[good])][:_MAX_PAIRS]
            found += [(0.2 + share * seen[j], pairs[j], contours[i]) for j in best]
    quads, good = _like_a_card(
        np.array([_fitted(contour, quad) for _, quad, contour in found]).reshape(-1, 4, 2), width, height
    )
    return np.array([clear for clear, _, _ in found])[good], quads[good]


def _around(contour: Any) -> tuple[float, NDArray[np.float64]]:
    """The share that a contour fills of the smallest quadrilateral around it, [4, 2]; 0 if there is none."""
    hull = cv2.convexHull(contour)
    inside = cv2.contourArea(hull)
    if len(hull) >= 4 and inside > 0:
        quad = cv2.approxPolyN(hull, 4, epsilon_percentage=-1.0, ensure_convex=True).reshape(-1, 2).astype(np.float64)
        if len(quad) == 4 and area(quad) > 0:
            return min(1.0, inside / area(quad)), quad
    return 0.0, np.zeros((4, 2))


# ------------------------------------------------------------------------------------------- pieces of a card's outline


def _straight_pieces(contour: Any, width: int, height: int) -> NDArray[np.float64]:
    """The longest straight pieces of a contour, [E, 2, 2]: start and end; not those along the picture's own edge."""
    tolerance = max(1.5, 0.003 * math.sqrt(width * height))
    starts = cv2.approxPolyDP(contour, tolerance, True).reshape(-1, 2).astype(np.float64)
    pieces = np.stack([starts, np.roll(starts, -1, axis=0)], axis=1)
    lengths = np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=1)
    low, high = pieces.min(axis=1), pieces.max(axis=1)
    at_edge = (high < 3).any(axis=1) | (low > np.array([width, height]) - 4).any(axis=1)
    lengths = np.where(at_edge, 0, lengths)
    longest = np.argsort(-lengths)[:_MAX_EDGES]
    return pieces[longest[lengths[longest] >= _MIN_EDGE]]


def _directions(pieces: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors along pieces [E, 2, 2]."""
    along = pieces[:, 1] - pieces[:, 0]
    return np.asarray(along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9))


def _facing(
    pieces: NDArray[np.float64], along: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of pieces that could be opposite sides of a card, and their distance."""
    normals, middles = np.stack([-along[:, 1], along[:, 0]], axis=1), pieces.mean(axis=1)
    angles = np.arctan2(along[:, 1], along[:, 0])
    one, other = np.triu_indices(len(pieces), 1)
    apart = middles[other] - middles[one]
    distance = (np.abs((apart * normals[one]).sum(axis=1)) + np.abs((apart * normals[other]).sum(axis=1))) / 2
    facing = (_between(angles[one], angles[other]) < _PARALLEL) & (distance > MIN_SIDE)
    return one[facing], other[facing], distance[facing]


def _facing_pairs(pieces: NDArray[np.float64]) -> tuple[NDArray[np.float64], Quads]:
    """Quadrilaterals of two pairs of facing pieces [E, 2, 2], and the share of each outline that the pieces cover."""
    none = np.empty(0), np.empty((0, 4, 2))
    if len(pieces) < 4:
        return none
    along = _directions(pieces)
    angles = np.arctan2(along[:, 1], along[:, 0])
    one, other, distance = _facing(pieces, along)
    first, second = np.triu_indices(len(one), 1)
    ratio = np.maximum(distance[first], distance[second]) / np.minimum(distance[first], distance[second])
    crossing = (_between(angles[one[first]], angles[one[second]]) > _CROSSING) & (ratio < _MAX_RATIO)
    first, second = first[crossing], second[crossing]
    if not len(first):
        return none
    sides = np.stack([one[first], one[second], other[first], other[second]], axis=1)  # [Q, 4], in order around
    quads = np.stack([_crossings(pieces, along, sides[:, i - 1], sides[:, i]) for i in range(4)], axis=1)
    covered, beyond = _covered(pieces[sides], quads)
    seen = covered.mean(axis=1)
    good = (seen >= _SEEN) & (covered.min(axis=1) >= _SEEN / 5) & (beyond.max(axis=1) <= _BEYOND)
    return seen[good], quads[good]


def _three_sides(pieces: NDArray[np.float64]) -> tuple[NDArray[np.float64], Quads]:
    """Quadrilaterals of two facing pieces [E, 2, 2] and one that crosses them, and the share that they cover.

    The fourth side, covered by something or outside the picture, is put where it would be if the card were seen
    straight on.
    """
    none = np.empty(0), np.empty((0, 4, 2))
    if len(pieces) < 3:
        return none
    along = _directions(pieces)
    one, other, _ = _facing(pieces, along)
    pair, end = (index.ravel() for index in np.mgrid[: len(one), : len(pieces)])
    angles = np.arctan2(along[:, 1], along[:, 0])
    crossing = _between(angles[one[pair]], angles[end]) > _CROSSING
    one, other, end = one[pair[crossing]], other[pair[crossing]], end[crossing]
    if not len(end):
        return none
    near = np.stack([_crossings(pieces, along, side, end) for side in (one, other)], axis=1)  # [Q, 2, 2]
    away = np.stack([along[one], along[other]], axis=1)
    middles = pieces.mean(axis=1)[np.stack([one, other], axis=1)]
    away *= np.sign(((middles - near) * away).sum(axis=2, keepdims=True))
    across = np.linalg.norm(near[:, 0] - near[:, 1], axis=1)[:, None, None]
    ratios = (1 / CARD_ASPECT, CARD_ASPECT)  # the seen end is a short side or a long one
    far = np.concatenate([near + away * across * ratio for ratio in ratios])
    near = np.concatenate([near, near])
    quads = np.stack([near[:, 0], near[:, 1], far[:, 1], far[:, 0]], axis=1)
    sides = np.tile(np.stack([end, other, end, one], axis=1), (2, 1))
    covered, beyond = (values[:, [0, 1, 3]] for values in _covered(pieces[sides], quads))
    seen = covered.mean(axis=1)
    good = (seen >= _SEEN) & (covered.min(axis=1) >= _SEEN / 2) & (beyond.max(axis=1) <= _BEYOND)
    return seen[good], quads[good]


def _between(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The angle between undirected lines, 0..pi/2."""
    return np.asarray(np.abs((one - other + np.pi / 2) % np.pi - np.pi / 2))


def _crossings(
    pieces: NDArray[np.float64], along: NDArray[np.float64], one: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Where the lines through pieces `one` and `other` meet, [Q, 2]."""
    turn = _cross(along[one], along[other])
    turn = np.where(np.abs(turn) < 1e-6, 1e-6, turn)
    start = pieces[one, 0]
    reach = _cross(pieces[other, 0] - start, along[other]) / turn
    return np.asarray(start + reach[:, None] * along[one])


def _cross(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])


def _covered(pieces: NDArray[np.float64], quads: Quads) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much of each side its piece covers, and how much of it lies beyond, in lengths of the side: [Q, 4] each.

    `pieces` [Q, 4, 2, 2] are the sides' own: side i runs from corner i to the next.
    """
    starts = quads
    sides = np.roll(quads, -1, axis=1) - starts
    lengths = np.maximum(np.linalg.norm(sides, axis=2), 1e-9)
    places = ((pieces - starts[:, :, None]) * (sides / lengths[..., None] ** 2)[:, :, None]).sum(axis=3)
    low, high = places.min(axis=2), places.max(axis=2)
    inside = np.maximum(np.clip(high, 0, 1) - np.clip(low, 0, 1), 0)
    return inside, high - low - inside


# --------------------------------------------------------------------------------------------------- is it a card's?


def _fitted(contour: Any, quad: NDArray[np.float64]) -> NDArray[np.float64]:
    """`quad` with a line fitted to the points of the contour [P, 1, 2] that lie beside each side, not by its corners.

    A side without points stays as it is.
    """
    points = contour.reshape(-1, 2)[:: max(1, len(contour) // _FITTED_POINTS)].astype(np.float64)
    lines = []
    for start, end in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        length = max(float(np.linalg.norm(end - start)), 1e-9)
        along = (end - start) / length
        offsets = points - start
        place = offsets @ along / length
        beside = (
            (place > 0.08) & (place < 0.92) & (np.abs(offsets @ np.array([-along[1], along[0]])) < _BESIDE * length)
        )
        if beside.sum() < 8:
            lines.append((start, along))
            continue
        line = np.asarray(cv2.fitLine(points[beside].astype(np.float32), cv2.DIST_HUBER, 0, 0.01, 0.01)).ravel()
        lines.append((line[2:].astype(np.float64), line[:2].astype(np.float64)))
    corners = []
    for (point, along), (other, across) in zip(lines[-1:] + lines[:-1], lines, strict=True):
        turn = float(_cross(along, across))
        if abs(turn) < 0.1:
            return quad
        corners.append(point + float(_cross(other - point, across)) / turn * along)
    return np.array(corners)


def _like_a_card(quads: Quads, width: int, height: int) -> tuple[Quads, NDArray[np.bool_]]:
    """`quads` in the order of Quads, and which of them [Q] a card can make in a camera."""
    if not len(quads):
        return quads, np.empty(0, bool)
    quads = _clockwise(quads)
    turned = np.roll(quads, -1, axis=1)
    off, off_turned = (_unlike_a_card(each, width, height) for each in (quads, turned))
    quads = np.where((off_turned < off)[:, None, None], turned, quads)
    sides = np.maximum(np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2), 1e-9)
    facing = np.maximum(sides[:, :2] / sides[:, 2:], sides[:, 2:] / sides[:, :2]).max(axis=1)
    size = np.array([width, height])
    within = ((quads > -_OUTSIDE * size) & (quads < (1 + _OUTSIDE) * size)).all(axis=(1, 2))
    areas = np.abs(_cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])) / 2
    # One as large as the picture is the picture, which is asked in any case
    sized = (areas > MIN_AREA * width * height) & (areas < 0.99 * width * height)
    alike = np.minimum(off, off_turned) < ASPECT_ROOM
    return quads, alike & (facing < _MAX_RATIO) & (sides.min(axis=1) >= MIN_SIDE) & within & sized


def _clockwise(quads: Quads) -> Quads:
    """The corners of each in clockwise order as seen, whatever their order was."""
    from_centre = quads - quads.mean(axis=1, keepdims=True)
    order = np.argsort(np.arctan2(from_centre[..., 1], from_centre[..., 0]), axis=1)
    return np.take_along_axis(quads, order[..., None], axis=1)


def _unlike_a_card(quads: Quads, width: int, height: int) -> NDArray[np.float64]:
    """How far each is from a picture of an upright card: the aspect's logarithm or the right angle's cosine off, [Q].

    By the homography from a square to the quadrilateral, with the principal point in the picture's centre and the best
    of a few focal lengths (Zhang & He, Whiteboard scanning and image enhancement, 2007). inf if it is not convex.
    """
    corners = quads - np.array([width, height]) / 2
    p0, p1, p2, p3 = (corners[:, i] for i in range(4))
    across, down, rest = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    turn = _cross(across, down)
    turn = np.where(np.abs(turn) < 1e-9, 1e-9, turn)
    g, h = _cross(rest, down) / turn, _cross(across, rest) / turn  # Heckbert, Fundamentals of texture mapping, 1989
    right, below = p1 - p0 + g[:, None] * p1, p3 - p0 + h[:, None] * p3
    best = np.full(len(quads), np.inf)
    for focal in _FOCAL_LENGTHS:
        scale = 1 / (focal * max(width, height))
        one = np.concatenate([right * scale, g[:, None]], axis=1)
        other = np.concatenate([below * scale, h[:, None]], axis=1)
        lengths = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            aspect = np.abs(np.log(lengths[0] / lengths[1] / CARD_ASPECT))
            square = np.abs((one * other).sum(axis=1)) / (lengths[0] * lengths[1])
        best = np.fmin(best, np.maximum(aspect, square))
    sides = np.roll(quads, -1, axis=1) - quads
    convex = (_cross(sides, np.roll(sides, -1, axis=1)) > 0).all(axis=1)
    return np.where(convex, best, np.inf)


def _distinct(clear: NDArray[np.float64], quads: Quads) -> Quads:
    """The quadrilaterals, clearest first, without those that repeat a clearer one."""
    left = quads[np.argsort(-clear, kind="stable")]
    kept: list[NDArray[np.float64]] = []
    while len(left) and len(kept) < MAX_QUADS:
        quad = left[0]
        kept.append(quad)
        turned = np.stack([quad, np.roll(quad, 2, axis=0)])  # either short side may come first
        apart = np.abs(left[:, None] - turned).max(axis=(2, 3)).min(axis=1)
        left = left[apart >= _SAME * math.sqrt(area(quad))]
    return np.array(kept).reshape(-1, 4, 2)
