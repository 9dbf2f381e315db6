"""Card faces for tests that care only for some of their fields."""

from pathlib import Path
from typing import Any

import msgspec

from helpers.cards.faces import CardFace, Records

REQUIRED_FIELDS = tuple(field.name for field in msgspec.structs.fields(CardFace) if field.required)


def face_with(**fields: Any) -> CardFace:
    """A face with these fields; the others are empty or not known."""
    empty: dict[str, Any] = dict.fromkeys(REQUIRED_FIELDS, "")
    return CardFace(**empty | {"colors": []} | fields)


def records_of(path: Path, faces: list[CardFace]) -> Records:
    """The faces as metadata, written to `path`."""
    path.write_bytes(b"".join(face.to_json() + b"\n" for face in faces))
    with open(path, "rb") as file:
        return Records(file, path)
