"""CSV tables that people write: the rows, with their line numbers for error messages."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path


def read_rows(table: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of the CSV at `table` with its line number; columns are in the header, missing fields are "".

    Blanks around fields go, and so do blank rows. Raises ValueError if a column of `needed` is missing, a row has more
    fields than columns, or the file is not CSV in UTF-8; OSError if it can't be read.
    """
    with open(table, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        try:
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{table} has no column {', '.join(missing)}")
            for row in reader:
                if None in row:
                    raise ValueError(f"{table}, line {reader.line_num}: it has more fields than columns")
                fields = {name: text.strip() for name, text in row.items()}
                if any(fields.values()):
                    yield reader.line_num, fields
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{table}, after line {reader.line_num}: {error}") from error
