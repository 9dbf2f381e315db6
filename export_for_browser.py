"""Export the index for a browser: vectors as int8, metadata as one JSON file, and the encoder if it is asked for.

Reads:  index_out/ - mtg_embeddings.npy, mtg_dhash.npy, mtg_meta.jsonl, whitening.npz, build_manifest.json; for the
        encoder the index's model and some of its pictures
Writes: index_out/ - embeddings.i8bin (int8, N x D bytes), dhash.u8bin (N x 32 bytes), meta.json (shape,
        quantization, records), embeddings_whitened.i8bin, whitening.f32bin; with --encoder encoder-PRECISION.onnx and
        reference.png; bundle.json, which lists the files with their SHA-256
Next:   serve them; a client divides by 127 and takes the dot product as the cosine

--encoder exports the same weights that the index was built with, and compares the result with torch on pictures of the
index's cards before anything is written. Files of an earlier export that this one doesn't write are removed, and named.
Other files stay; if one is in the way, nothing is written.

Exit codes: 0 done; 1 failed, with the reason on stderr.
"""

from collections.abc import Sequence
from pathlib import Path

import helpers.interrupts  # noqa: F401  # our first import, see there
from helpers.artifacts import IndexFolder
from helpers.atomic_io import writable_folder
from helpers.cli_validation import Parser, path
from helpers.ending import run
from helpers.errors import ExitCode, Problem
from helpers.index.browser_format import write_browser_files
from helpers.index.store import StoredIndex
from helpers.options import BrowserArgs, add_browser_options
from helpers.recognise.encoders import EncoderMaker


class ExportArgs(BrowserArgs):
    """The command line."""

    input_dir: Path
    output_dir: Path | None
    cache: Path | None


def parse_args(argv: Sequence[str] | None) -> ExportArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--input-dir", path, Path("index_out"), "DIR", "index directory")
    parser.option("--output-dir", path, None, "DIR", "directory for the browser files (default: --input-dir)")
    add_browser_options(parser)
    cache = "with --encoder: directory of the index's pictures (default: where the index says)"
    parser.option("--cache", path, None, "DIR", cache)
    parser.cross_rule(("cache", "encoder"), _cache_is_for_the_encoder)
    return parser.parse(argv, ExportArgs())


def _cache_is_for_the_encoder(args: ExportArgs) -> Problem | None:
    if args.cache is None or args.encoder:
        return None
    return Problem("--cache is for --encoder", f"received --cache {args.cache}", "add --encoder, or leave --cache out")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the browser files."""
    args = parse_args(argv)
    stored = StoredIndex(IndexFolder(args.input_dir))
    target = IndexFolder(writable_folder(args.output_dir or args.input_dir, "--output-dir"))
    encoder = EncoderMaker(stored, args.encoder, args.cache).write if args.encoder else None
    print(write_browser_files(stored, target, args.how, encoder))
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(run(main))
