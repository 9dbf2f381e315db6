"""Region of a picture -> what is printed there on the card: its title and its collector line.

By rapidocr, whose models (PP-OCR) come in its package: nothing is fetched. Titles are recognised in strips where every
frame has them; that finds more of them than text detection does, in less time. The collector line is small, and where
it is depends on the frame, so it is detected within the bottom of the card. Titles are detected along all edges of the
card only where the strips say nothing: split cards, cards seen upside down, titles in unusual places.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.machine_limits import usable_cores
from helpers.recognise.camera import CARD_ASPECT
from helpers.talk import warn

if TYPE_CHECKING:
    from rapidocr import RapidOCR

    from helpers.recognise.finding import Box
    from helpers.recognise.regions import Photo, Region

# Their tops differ by frame and with corners that are off
_TITLES: tuple[Box, ...] = ((0.05, 0.03, 0.95, 0.085), (0.05, 0.045, 0.95, 0.105), (0.05, 0.06, 0.95, 0.125))
_BOTTOM: Box = (0.0, 0.88, 1.0, 1.0)
_CARD: Box = (0.0, 0.0, 1.0, 1.0)
_STRIP = 48  # pixels high: what the recogniser reads
_BOTTOM_HEIGHT, _CARD_HEIGHT = 96, 960
_EDGE = 0.14  # of the card's width or height: how far from an edge the middle of a title is at most
_LONGEST = 960  # pixels of what text is detected in


class Text(NamedTuple):
    """A line of text."""

    text: str
    confidence: float  # 0..1, the mean of its characters'


class Reader:
    """Reads print; safe to use from several threads."""

    def __init__(self) -> None:
        """ImportError if a package or its models are missing; the models are loaded when they are first used."""
        for package in ("onnxruntime", "rapidfuzz", "rapidocr"):
            if find_spec(package) is None:
                raise ImportError(f"there is no package {package}")
        # Named, as a model that is not named is downloaded where it is missing
        models = Path(find_spec("rapidocr").origin or "").parent / "models"  # type: ignore[union-attr]
        paths = {part: next(models.glob(f"*_{part.lower()}_*.onnx"), None) for part in ("Det", "Cls", "Rec")}
        if None in paths.values():
            raise ImportError(f"{models} has no models")
        self._paths = {f"{part}.model_path": str(path) for part, path in paths.items()}

    @cached_property
    def _ocr(self) -> RapidOCR:
        from rapidocr import RapidOCR  # half a second

        return RapidOCR(
            params={
                "Global.use_cls": True,  # turns detected lines that are upside down: on a split card both halves lie
                "Global.text_score": 0.0,
                "Global.log_level": "error",
                "Det.limit_type": "max",
                "Det.limit_side_len": _LONGEST,
                "EngineConfig.onnxruntime.intra_op_num_threads": usable_cores(),
                **self._paths,
            }
        )

    @classmethod
    def load(cls) -> Reader | None:
        """The same; None, and a warning, if something is missing."""
        try:
            return cls()
        except ImportError as error:
            warn(f"print is not read: {error} (pip install rapidocr onnxruntime rapidfuzz)")
            return None

    def titles(self, photo: Photo, region: Region) -> list[Text]:
        """What is printed where titles are, each line in up to three readings."""
        found = self._ocr.recognize_txt([_bgr(photo.strip(region, box, _STRIP)) for box in _TITLES])
        return _texts(found.txts, found.scores)

    def collector_lines(self, photo: Photo, region: Region) -> list[Text]:
        """The lines at the bottom of the card."""
        return [line for line, _ in self._detected(photo, region, _BOTTOM, _BOTTOM_HEIGHT)]

    def anywhere(self, photo: Photo, region: Region) -> list[Text]:
        """The lines along the card's edges, whichever way they run: within, rules may say the name of another card."""
        return [
            line for line, corners in self._detected(photo, region, _CARD, _CARD_HEIGHT) if _is_along_an_edge(corners)
        ]

    def _detected(self, photo: Photo, region: Region, box: Box, height: int) -> list[tuple[Text, NDArray[np.float64]]]:
        """The lines in a part of a card that is scaled to `height` pixels, each with its corners [4, 2], 0..1."""
        pixels = _bgr(photo.strip(region, box, height))
        found: Any = self._ocr(pixels)
        size = np.array([pixels.shape[1], pixels.shape[0]])
        corners = [] if found.boxes is None else [np.asarray(each) / size for each in found.boxes]
        return [*zip(_texts(found.txts, found.scores), corners, strict=True)]


def _is_along_an_edge(corners: NDArray[np.float64]) -> bool:
    """Whether a line [4, 2] is one of a title: on split cards it runs upwards."""
    width, height = np.ptp(corners, axis=0) * (CARD_ASPECT, 1)
    across = corners[:, int(width > height)].mean()
    return bool(min(across, 1 - across) < _EDGE)


def _texts(texts: Sequence[str] | None, confidences: Sequence[float] | None) -> list[Text]:
    return [Text(*each) for each in zip(texts or (), map(float, confidences or ()), strict=True)]


def _bgr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels[..., ::-1])
