"""The parts of a picture that may be a card: the whole of it and what `finding` finds, each way up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.embed.dhash import contrast, hash_of, thumbnail
from helpers.recognise.camera import CARD_ASPECT, rectangle
from helpers.recognise.finding import ASPECT_ROOM, WORKING_SIDE, Box, Pyramid, area, find_quads, overlap, within

HASHED_HEIGHT = 192  # pixels of a cut-out that is only hashed, to 17 x 16
# Of a picture that has a card's shape the card's edges may be cut off: it is tried as the inner part of a card, too.
# Of 37 real cut-outs that had lost 4 to 10 % on each side, 36 were named so, 31 without (index of 1,050).
_CUT_OFF = (1.08, 1.16)
MIN_CONTRAST = 2.0  # of 255: of 56 cards on real photographs the faintest has 9, tables have 0.5
_SQUARE = 1.1  # heights to a width: a taller picture is, as a whole, no card that lies on its side


@dataclass(frozen=True, slots=True)
class Region:
    """A quadrilateral of a picture, float [4, 2] in its pixels, the card's own top left corner first."""

    quad: NDArray[np.float64]
    whole: bool = False  # it is the whole picture

    @property
    def orientation(self) -> int:
        """By how many degrees the card is turned clockwise, to a quarter turn: 0, 90, 180, 270."""
        across, down = self.quad[1] - self.quad[0] + self.quad[2] - self.quad[3]
        return round(math.degrees(math.atan2(down, across)) / 90) % 4 * 90

    @property
    def card_shaped(self) -> bool:
        """Whether it has the shape of an upright card; what `finding` finds has it."""
        width, height = (float(np.linalg.norm(self.quad[corner] - self.quad[0])) for corner in (1, 3))
        return not self.whole or abs(math.log(width / height / CARD_ASPECT)) < ASPECT_ROOM

    def grown(self, by: float) -> Region:
        """The same about its centre, larger; what lies outside the picture repeats its edge."""
        centre = self.quad.mean(axis=0)
        return Region(centre + (self.quad - centre) * by)

    def covers(self, other: Region) -> float:
        """The area that both share, as a share of the smaller one."""
        return overlap(self.quad, other.quad) / max(min(area(self.quad), area(other.quad)), 1e-9)


class Photo:
    """A picture with its regions, and what is cut out of it."""

    def __init__(self, picture: Image.Image) -> None:
        """`picture`: upright and opaque, as `preprocess.as_seen` returns it."""
        self.picture = picture
        self._pyramid: Pyramid | None = None

    @property
    def pyramid(self) -> Pyramid:
        """The picture in several sizes."""
        if self._pyramid is None:
            self._pyramid = Pyramid(np.asarray(self.picture))
        return self._pyramid

    def whole(self, orientation: int = 0) -> Region:
        """The whole picture, as it is or showing a card that is turned."""
        return Region(np.roll(rectangle(*self.picture.size), -orientation // 90, axis=0), whole=True)

    def regions(self) -> list[Region]:
        """The whole picture first, then all that may be a card, each of the ways up that it can have."""
        width, height = self.picture.size
        turns = (0, 2) if height > _SQUARE * width else (0, 1, 2, 3)
        regions = [self.whole(turn * 90) for turn in turns]
        regions += [region.grown(by) for by in _CUT_OFF for region in regions if region.card_shaped]
        for quad in find_quads(self.pyramid):
            regions += [Region(quad), Region(np.roll(quad, 2, axis=0))]
        return regions

    def hashed(self, regions: Sequence[Region]) -> tuple[list[Region], NDArray[np.uint8]]:
        """The regions but for blank ones, each with its difference hash, uint8 [R, 32]; the first in any case.

        A patch of a table is as near to one card as to any other.
        """
        levels = [thumbnail(self.cut_out(region, HASHED_HEIGHT)) for region in regions]
        kept = [i for i, each in enumerate(levels) if i == 0 or contrast(each) >= MIN_CONTRAST]
        return [regions[i] for i in kept], np.array([hash_of(levels[i]) for i in kept], np.uint8)

    def strip(self, region: Region, box: Box, height: int) -> NDArray[np.uint8]:
        """A part of the card in `region`, upright, RGB as uint8 [height, W, 3]; `box` as in `finding.within`."""
        left, top, right, bottom = box
        width = round(height * CARD_ASPECT * (right - left) / (bottom - top))
        return self.pyramid.straighten(within(region.quad, box), width, height)

    def cut_out(self, region: Region, height: int) -> Image.Image:
        """The card in `region`, upright, `height` pixels high; the whole picture keeps its own shape and size."""
        if not region.whole:
            return Image.fromarray(self.pyramid.straighten(region.quad, round(height * CARD_ASPECT), height))
        if not region.orientation:
            return self.picture
        pixels = np.rot90(self.pyramid.reduced(WORKING_SIDE), region.orientation // 90)  # counterclockwise
        return Image.fromarray(np.ascontiguousarray(pixels))
