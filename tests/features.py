"""Vectors and hashes of the real cards and of all that they may be seen as, made once and kept.

A set of pictures is made once for all models. What is kept lies in encoder/choices/, which git ignores; delete it after
a change to the simulated camera. A model's vectors are kept by the hash of its weights.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from helpers.atomic_io import atomic_path
from helpers.embed.dhash import dhash
from helpers.embed.embedder import Embedder
from helpers.embed.model_source import find_model
from helpers.embed.preprocess import Preparation
from helpers.evaluate.phash import phash
from helpers.talk import Progress
from tests.conftest import ROOT
from tests.cutouts import ERRORS, Cutout, RealCards, parts

KEPT = ROOT / "encoder" / "choices"
ART = (0.07, 0.105, 0.93, 0.56)  # left, top, right, bottom of the art of most frames, as shares of the card

Rows = NDArray[np.float32]
Pictures = Iterator[tuple[Image.Image, Cutout]]
SETS: dict[str, Callable[[RealCards], Pictures]] = {
    "clean": RealCards.as_they_are,
    "clean, decoded at half size": RealCards.halved,
    "photographs": RealCards.photographed,
    **{
        f"simulated {strength}, seed {seed}": partial(RealCards.simulated, strength=strength, seed=seed)
        for seed in (0, 1)
        for strength in (1.0, 0.5)
    },
    **{f"corners {error:.0%}": partial(RealCards.cut_badly, error=error) for error in ERRORS},
    "simulated, every third": lambda cards: islice(cards.simulated(1.0, 2), 0, None, 3),
    "corners 6%, every third": lambda cards: islice(cards.cut_badly(0.06), 1, None, 3),
}


@dataclass(frozen=True, slots=True)
class Way:
    """How pictures are prepared."""

    size: int = 384
    fit: str = "pad"
    art: bool = False  # only the art of the card

    def __str__(self) -> str:
        return f"{self.fit} {self.size}{', art' * self.art}"


USUAL = Way()


@dataclass(frozen=True, slots=True)
class Seen:
    """A set of pictures: what each shows, and its hashes."""

    photos: NDArray[np.str_]
    names: NDArray[np.str_]
    errors: NDArray[np.float64]
    hashes: dict[str, NDArray[np.uint8]]  # by kind, packed bits [N, bytes]


class Features:
    """What models make of sets of pictures; made when it is first asked for."""

    def __init__(self, models: dict[str, str]) -> None:
        """`models`: by what they are called, what --model takes."""
        self.models = models
        self._cards = RealCards()
        self._prints = {name: _fingerprint(model) for name, model in models.items()}
        self._loaded: dict[tuple[str, Way], Embedder] = {}
        KEPT.mkdir(parents=True, exist_ok=True)

    @property
    def cards(self) -> RealCards:
        """The cards."""
        return self._cards

    def seen(self, name: str) -> Seen:
        """What is seen in the set `name`, one of SETS."""
        if not _seen_file(name).exists():
            self.make(name, USUAL)
        with np.load(_seen_file(name)) as kept:
            hashes = {key[5:]: kept[key] for key in kept.files if key.startswith("hash ")}
            return Seen(kept["photos"], kept["names"], kept["errors"], hashes)

    def rows(self, model: str, name: str, way: Way = USUAL) -> Rows:
        """A model's vectors of a set, unit rows float32 [N, D]."""
        if not self._file(model, name, way).exists():
            self.make(name, way)
        return np.asarray(np.load(self._file(model, name, way)))

    def make(self, name: str, way: Way) -> None:
        """Make what is missing of a set, for all models."""
        missing = [model for model in self.models if not self._file(model, name, way).exists()]
        seen = not _seen_file(name).exists()
        rows: dict[str, list[Rows]] = {model: [] for model in missing}
        cutouts: list[Cutout] = []
        hashes: list[dict[str, NDArray[np.uint8]]] = []
        progress = Progress(f"{name}, {way}", 0, "pictures")
        for part in parts(SETS[name](self._cards)):
            cutouts += [cutout for _, cutout in part]
            if seen:
                hashes += [hashes_of(picture) for picture, _ in part]
            pictures = [art_of(picture) if way.art else picture for picture, _ in part]
            for model in missing:
                rows[model].append(self.embedder(model, way).embed(pictures))
            progress.expect(len(cutouts))
            progress.advance(len(part))
        if seen:
            _keep_seen(name, cutouts, hashes)
        for model, found in rows.items():
            with atomic_path(self._file(model, name, way)) as part_file, open(part_file, "wb") as file:
                np.save(file, np.concatenate(found))

    def _file(self, model: str, name: str, way: Way) -> Path:
        return KEPT / f"{self._prints[model]}, {way}, {name}.npy"

    def embedder(self, model: str, way: Way) -> Embedder:
        """A model that prepares pictures so."""
        if (model, way) not in self._loaded:
            self._loaded[model, way] = quicker(self.plain(model, way))
        return self._loaded[model, way]

    def plain(self, model: str, way: Way = USUAL) -> Embedder:
        """The same as the product has it."""
        return Embedder.load(find_model(self.models[model], "openai"), Preparation(way.size, way.fit), "cpu")


def quicker(embedder: Embedder) -> Embedder:
    """The same with batch norm folded into the convolutions: two thirds quicker on a CPU, within 2e-6."""
    side = embedder.model_input["size"]
    with torch.no_grad():
        example = torch.zeros(2, 3, *side).to(memory_format=torch.channels_last)
        embedder.tower = torch.jit.freeze(torch.jit.trace(embedder.tower.eval(), example))  # type: ignore[no-untyped-call]
    return embedder


def art_of(picture: Image.Image) -> Image.Image:
    """The art of a card."""
    left, top, right, bottom = ART
    return picture.crop(
        (
            round(left * picture.width),
            round(top * picture.height),
            round(right * picture.width),
            round(bottom * picture.height),
        )
    )


def hashes_of(picture: Image.Image) -> dict[str, NDArray[np.uint8]]:
    """Hashes of several kinds, packed bits."""
    return {
        "dHash 64": _difference_hash(picture, 8),
        "dHash 144": _difference_hash(picture, 12),
        "dHash 256": dhash(picture),
        "pHash 256": phash(picture),
    }


def _difference_hash(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    grey = np.asarray(picture.convert("L").resize((side + 1, side), Image.Resampling.LANCZOS))
    return np.packbits(grey[:, 1:] > grey[:, :-1])


def _keep_seen(name: str, cutouts: list[Cutout], hashes: list[dict[str, NDArray[np.uint8]]]) -> None:
    kinds = {f"hash {kind}": np.stack([each[kind] for each in hashes]) for kind in hashes[0]}
    with atomic_path(_seen_file(name)) as part, open(part, "wb") as file:
        np.savez(
            file,
            photos=np.array([one.photo for one in cutouts]),
            names=np.array([one.name for one in cutouts]),
            errors=np.array([one.error for one in cutouts]),
            **kinds,  # type: ignore[arg-type]  # numpy's stubs take them for flags
        )


def _seen_file(name: str) -> Path:
    return KEPT / f"{name}.npz"


def _fingerprint(model: str) -> str:
    folder = find_model(model, "openai").folder
    assert folder is not None, f"{model} is no folder"
    weights = next(
        file for file in sorted(folder.iterdir()) if file.name.startswith("open_clip_") and file.suffix != ".json"
    )
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
