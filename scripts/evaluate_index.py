"""How good is an index? Damaged pictures of its own cards are asked, in as large a sample as the time allows.

Reads:  index_out/, and the pictures that it was built from
Writes: tables to stdout; evaluation.json, beside the index or in --out, which nothing needs

Search: HNSW against exact search, int8 against float, near-identical rows. Camera: recall by name and by illustration
under each kind of damage. Baselines: the same queries by pHash, dHash, raw, centred and whitened vectors. Strangers:
the same with each card's own rows masked. Size: recall by the number of rows.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.artifacts import IndexFolder
from helpers.atomic_io import atomic_write_json, require_replaceable, writable_folder
from helpers.cli_validation import Parser, number, path
from helpers.ending import run
from helpers.errors import ExitCode
from helpers.index.store import StoredIndex
from helpers.options import add_device_option


class EvaluateArgs(argparse.Namespace):
    """The command line."""

    index: Path
    cache: Path | None
    minutes: float
    seed: int
    device: str
    out: Path | None


def parse_args(argv: Sequence[str] | None) -> EvaluateArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--index", path, Path("index_out"), "DIR", "index directory")
    parser.option("--cache", path, None, "DIR", "directory of its pictures (default: where the index says)")
    parser.option("--minutes", number(float, 0.01, 1440, suggest=4), 4.0, "MINUTES", "time that sizes the sample")
    parser.option("--seed", number(int, 0, 2**32 - 1, suggest=0), 0, "N", "other cards, other damage")
    add_device_option(parser)
    parser.option("--out", path, None, "DIR", "directory of evaluation.json (default: the index directory)")
    return parser.parse(argv, EvaluateArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, print."""
    args = parse_args(argv)
    file = evaluation_file(args)
    from helpers.evaluate.report import headline, report  # numpy and all that it needs
    from helpers.evaluate.stage import Request, evaluate  # torch: seconds

    findings = evaluate(Request(args.index, args.cache, args.minutes, args.seed, args.device))
    atomic_write_json(file, findings)
    print(f"{report(findings)}\n\n{headline(findings)}")
    return ExitCode.OK


def evaluation_file(args: EvaluateArgs) -> Path:
    """Where evaluation.json goes; PipelineError if there is no index, or it could not be written later."""
    StoredIndex(IndexFolder(args.index))
    file = IndexFolder(writable_folder(args.out or args.index, "--out")).evaluation
    require_replaceable(file, "evaluation.json", "pass another directory: --out DIR")
    return file


if __name__ == "__main__":
    raise SystemExit(run(main))
