"""Export the index as one table for other tools: a row a face, with its metadata and its vector.

Reads:  index_out/ - mtg_embeddings.npy, mtg_meta.jsonl, mtg_pictures.npy, mtg_dhash.npy, whitening.npz,
        build_manifest.json
Writes: index_out/cards.parquet, cards.safetensors or cards.lance (a folder), or what --out names
Next:   load it into pandas, DuckDB, LanceDB, Qdrant, usearch or another tool; docs/other-tools.md has recipes

Whitened rows recognise better, and are the default where the index has them. They compare with whitened vectors alone:
docs/other-tools.md shows how a picture gets one. Raw rows are as the model makes them.

Parquet needs the package pyarrow, Lance pyarrow and pylance. A table that is there is replaced once the new one is
whole.

Exit codes: 0 done; 1 failed, with the reason on stderr.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.artifacts import IndexFolder
from helpers.atomic_io import writable_folder
from helpers.cli_validation import Parser, one_of, path
from helpers.ending import run
from helpers.errors import ExitCode
from helpers.index.store import StoredIndex
from helpers.index.table_format import FORMATS, ROWS, write_table


class TableArgs(argparse.Namespace):
    """The command line."""

    index: Path
    format: str
    rows: str | None
    out: Path | None


def parse_args(argv: Sequence[str] | None) -> TableArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--index", path, Path("index_out"), "DIR", "index directory")
    formats = tuple(FORMATS)
    parser.option("--format", one_of(formats, suggest=formats[0]), formats[0], "FORMAT", ", ".join(formats))
    rows = f"which vectors: {', '.join(ROWS)} (default: whitened if the index has them)"
    parser.option("--rows", one_of(ROWS, suggest=ROWS[0]), None, "WHICH", rows)
    parser.option("--out", path, None, "FILE", "the table (default: cards.FORMAT in --index)")
    return parser.parse(argv, TableArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table."""
    args = parse_args(argv)
    stored = StoredIndex(IndexFolder(args.index))
    out = args.out or stored.folder.table(args.format)
    writable_folder(out.parent, "--out")
    print(write_table(stored, out, args.format, args.rows))
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(run(main))
