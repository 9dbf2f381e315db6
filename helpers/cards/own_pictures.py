"""A folder of one's own pictures, as the faces of a build.

The folder takes the place of the image cache, and a table (a CSV) or the file names that of Scryfall's list. A face's
`image_url` is its file's path in the folder, as a relative URL; what nobody wrote into the table stays empty.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from helpers.cards.faces import CardFace
from helpers.errors import BAD_JSON, Category, PipelineError
from helpers.tables import read_rows
from helpers.talk import say

KIND = "pictures"  # in place of the kind of a card list
NEEDED = ("file", "name")  # columns of a table
# Pictures of other formats are faces, too: the build names each and says why it is left out
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl")
_FIELDS = msgspec.structs.fields(CardFace)
_LISTS = [field.name for field in _FIELDS if re.search("list|tuple", str(field.type))]


def own_faces(folder: Path, table: Path | None, limit: int | None = None) -> Iterator[CardFace]:
    """Yield the faces of the pictures in `folder`, which `table` names; without one, of all, named by their files.

    Columns of the table that are called like a field of CardFace fill it; `file` is relative to the folder. Logs at the
    end what was found. PipelineError (Configuration Error) if the folder or the table can't be read.
    """
    count = repeated = 0
    seen: set[str] = set()
    try:
        for face in _listed(table) if table else _found(folder):
            if face.image_url in seen:
                repeated += 1
            elif count == limit:
                break
            else:
                seen.add(face.image_url)
                count += 1
                yield face
    except (OSError, ValueError) as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the table of pictures can't be used" if table else "the pictures can't be read",
            details=str(error),
            suggestion=f"pass --table a CSV with the columns {', '.join(NEEDED)}; file is relative to --pictures"
            if table
            else "pass --pictures a directory that you may read",
        ) from error
    say(f"{table or folder}: {count:,} pictures" + (f"; left out: {repeated:,} repeated" if repeated else ""))


def _found(folder: Path) -> Iterator[CardFace]:
    """Every picture under `folder`, in order of path, but for hidden ones."""

    def fail(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()  # links may lead in a circle
    for parent, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        is_at = os.stat(parent)  # noqa: PTH116
        if (is_at.st_dev, is_at.st_ino) in seen:
            folders.clear()
            continue
        seen.add((is_at.st_dev, is_at.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(_ENDINGS) and not name.startswith("."):
                path = Path(parent, name)
                text = os.fsencode(path.stem).decode(errors="replace")
                yield _face(path.relative_to(folder).as_posix(), {"name": text})


def _listed(table: Path) -> Iterator[CardFace]:
    for line, row in read_rows(table, NEEDED):
        path = row["file"]
        if not path or not row["name"]:
            raise ValueError(f"{table}, line {line}: it has no {'name' if path else 'file'}")
        if os.path.isabs(path) or ".." in Path(path).parts or "\0" in path:  # noqa: PTH117  # a pattern, not a file
            raise ValueError(f"{table}, line {line}: {path} is not a path in the folder")
        try:
            yield _face(Path(path).as_posix(), row)
        except BAD_JSON as error:
            raise ValueError(f"{table}, line {line}: {error}") from error


def _face(path: str, row: Mapping[str, str]) -> CardFace:
    """The face of the picture at `path`; what `row` lacks is empty."""
    url = quote(path.encode(errors="surrogateescape"))
    fields: dict[str, Any] = {field.name: None for field in _FIELDS if field.required}
    fields |= {"set": "", "collector_number": "", "scryfall_id": "", "colors": []}
    fields |= {"image_url": url, "card_url": url, "face_id": url, "card_name": row["name"]}
    for name in {field.name for field in _FIELDS} & row.keys() - {"image_url"}:
        if text := row[name]:
            fields[name] = text.replace(",", " ").split() if name in _LISTS else text
    return msgspec.convert(fields, CardFace, strict=False)
