"""What a row is, and what it depends on besides its picture."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.cards.pictures import PICTURE
from helpers.embed.dhash import HASH_BYTES


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a row depends on besides its picture: rows with different settings can't be mixed."""

    model: str
    weights_sha256: str
    precision: str
    preprocessing: str
    target_size: int
    fit: str
    architecture_sha256: str = ""  # of the image tower's configuration

    def differences(self, ours: Settings) -> list[str]:
        """What differs from `ours`, as messages; rows can be shared if nothing does.

        Fields that an older index lacks ("") are not compared.
        """
        names = ((name, getattr(self, name), getattr(ours, name)) for name in Settings.__struct_fields__)
        return [f"{name} was {theirs}, now {our}" for name, theirs, our in names if theirs not in ("", our)]

    @property
    def digest(self) -> str:
        """A short name for these settings."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Rows:
    """N rows, by column; indexes and checkpoints keep each column in a .npy file.

    To add a column, add a field here and fill it in `stage`: code that keeps, finds and writes rows goes by the
    fields.
    """

    embeddings: NDArray[np.float32]  # [N, D], unit rows
    pictures: NDArray[Any]  # PICTURE [N]: what each was made from
    dhash: NDArray[np.uint8]  # [N, 32]: the difference hash of each picture

    @classmethod
    def empty(cls, count: int = 0, width: int = 0) -> Rows:
        """Room for `count` rows with embeddings of `width`."""
        embeddings, hashes = np.empty((count, width), np.float32), np.empty((count, HASH_BYTES), np.uint8)
        return cls(embeddings, np.zeros(count, PICTURE), hashes)

    def __len__(self) -> int:
        return len(self.pictures)

    @staticmethod
    def names() -> list[str]:
        """The columns' names."""
        return [field.name for field in fields(Rows)]

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name."""
        return {name: getattr(self, name) for name in Rows.names()}

    def take(self, which: NDArray[np.int64]) -> Rows:
        """The rows numbered `which`."""
        return Rows(**{name: column[which] for name, column in self.columns().items()})
