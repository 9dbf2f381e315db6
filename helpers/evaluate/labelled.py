"""Photographs with labels: which cards each shows and where, as photos.csv says it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.cards.faces import CardFace
from helpers.errors import Category, PipelineError
from helpers.tables import read_rows

Quad = NDArray[np.float64]  # [4, 2]: x, y of the card's own top left, top right, bottom right, bottom left; pixels
NEEDED = ("photo", "name")
TURNED = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}  # clockwise


@dataclass(frozen=True, slots=True)
class Label:
    """A card on a photograph."""

    name: str
    quad: Quad | None
    crop: Path | None  # a cut-out of it
    visible: float  # share of it, 0..1
    face_id: str = ""  # which printing it is: so, or by set and number; empty: not said
    set: str = ""
    collector_number: str = ""

    def is_of(self, face: CardFace) -> bool | None:
        """Whether it is this printing; None: the label does not say which it is."""
        if self.face_id:
            return face.face_id == self.face_id
        if not (self.set and self.collector_number):
            return None
        own = (self.name, self.set.casefold(), self.collector_number)
        return own == (face.name, (face.set or "").casefold(), face.collector_number)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A photograph and the cards on it."""

    path: Path
    source: str
    labels: tuple[Label, ...]

    @property
    def names(self) -> set[str]:
        """The cards on it."""
        return {label.name for label in self.labels}


def read_photos(table: Path) -> list[Labelled]:
    """The photographs of a CSV, in its order; paths are relative to it. PipelineError if it can't be read."""
    try:
        rows = list(read_rows(table, NEEDED))
    except (OSError, ValueError) as error:
        raise _unusable(str(error)) from error
    photos: dict[str, Labelled] = {}
    for line, row in rows:
        try:
            if not row["photo"]:
                raise ValueError("it names no photograph")
            labels = (_label(table.parent, row),) if row["name"] else ()
        except ValueError as error:
            raise _unusable(f"{table}, line {line}: {error}") from error
        seen = photos.get(row["photo"])
        labels = (*(seen.labels if seen else ()), *labels)
        photos[row["photo"]] = Labelled(table.parent / row["photo"], row.get("source") or "", labels)
    if not photos:
        raise _unusable(f"{table} names no photograph")
    return list(photos.values())


def _label(folder: Path, row: dict[str, str]) -> Label:
    corners, crop, visible = (row.get(column) or "" for column in ("quad_tl_tr_br_bl", "crop", "visible"))
    quad = np.array([corner.split(",") for corner in corners.split()], np.float64) if corners else None
    if quad is not None and not (quad.shape == (4, 2) and np.isfinite(quad).all()):
        raise ValueError(f"not four corners x,y: {corners}")
    share = float(visible or 1)
    if not 0 <= share <= 1:
        raise ValueError(f"not a share, 0 to 1: {visible}")
    printing = (row.get(column) or "" for column in ("face_id", "set", "collector_number"))
    return Label(row["name"], quad, folder / crop if crop else None, share, *printing)


def _unusable(details: str) -> PipelineError:
    return PipelineError.of(
        Category.VALIDATION,
        "the labelled photographs can't be read",
        details=details,
        suggestion="pass a CSV as scripts/take_photographs.py writes it: photo, name, quad_tl_tr_br_bl, …",
    )


def turned(quad: Quad, size: tuple[int, int], degrees: int) -> Quad:
    """Where `quad` is after a picture of `size` (width, height) was turned clockwise by 0, 90, 180 or 270 degrees."""
    for _ in range(degrees // 90):
        quad = np.stack([size[1] - quad[:, 1], quad[:, 0]], axis=1)
        size = size[1], size[0]
    return quad


def with_corner_error(quad: Quad, share: float, rng: np.random.Generator) -> Quad:
    """`quad` with each corner off by up to `share` of its width and height, either way."""
    across = (quad[1] - quad[0] + quad[2] - quad[3]) / 2
    down = (quad[3] - quad[0] + quad[2] - quad[1]) / 2
    return np.asarray(quad + rng.uniform(-share, share, (4, 2)) @ np.stack([across, down]))
