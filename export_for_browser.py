"""Export the index for a browser: vectors as int8, metadata as one JSON file.

Reads:  index_out/ - mtg_embeddings.npy, mtg_dhash.npy, mtg_meta.jsonl, build_manifest.json
Writes: index_out/ - embeddings.i8bin (int8, N x D bytes), dhash.u8bin (N x 32 bytes), meta.json (shape,
        quantization, records)
Next:   serve them; a client divides by 127 and takes the dot product as the cosine

Exit codes: 0 done; 1 failed, with the reason on stderr.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import helpers.interrupts  # noqa: F401  # our first import, see there
from helpers.artifacts import IndexFolder
from helpers.atomic_io import writable_folder
from helpers.cli_validation import Parser, path
from helpers.ending import run
from helpers.errors import ExitCode
from helpers.index.browser_format import write_browser_files
from helpers.index.store import StoredIndex


class ExportArgs(argparse.Namespace):
    """The command line."""

    input_dir: Path
    output_dir: Path | None


def parse_args(argv: Sequence[str] | None) -> ExportArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--input-dir", path, Path("index_out"), "DIR", "index directory")
    parser.option("--output-dir", path, None, "DIR", "directory for the browser files (default: --input-dir)")
    return parser.parse(argv, ExportArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Write the browser files."""
    args = parse_args(argv)
    stored = StoredIndex(IndexFolder(args.input_dir))
    target = IndexFolder(writable_folder(args.output_dir or args.input_dir, "--output-dir"))
    print(write_browser_files(stored, target))
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(run(main))
