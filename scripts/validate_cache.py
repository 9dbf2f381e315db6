"""Is every picture in the cache whole? Decodes each to its last row and names those that are not.

Reads:  image_cache/ - the pictures (*.jpg, *.png, *.webp); what lies beside them is left alone
Writes: nothing; with --report a JSON file; with --fix the invalid pictures are deleted
Next:   download_images.py, which fetches what was deleted

Valid is a picture that exists, has bytes, is a JPEG, PNG or WebP, and decodes to its last row.

Exit codes: 0 all valid; 1 some are invalid, deleted or not, or bad arguments; 2 the directory does not exist.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.cli_validation import Parser, path, run
from helpers.errors import EXIT_OK
from helpers.image_cache import ImageCache
from helpers.validate_stage import EXIT_INVALID, remove, require_place, validate


class ValidateArgs(argparse.Namespace):
    """The command line."""

    cache: Path
    fix: bool
    report: Path | None


def parse_args(argv: Sequence[str] | None) -> ValidateArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.required_option("--cache", path, metavar="DIR", help="directory of the pictures")
    parser.add_argument("--fix", action="store_true", help="delete the invalid pictures")
    parser.option("--report", path, default=None, metavar="FILE", help="JSON file to list the invalid pictures in")
    return parser.parse(argv, ValidateArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Look at every picture."""
    args = parse_args(argv)
    if args.report:
        require_place(args.report)
    report = validate(ImageCache(args.cache))
    if args.report:
        report.write(args.report)
    if args.fix:
        remove(report)
    print(report.summary())
    return EXIT_INVALID if report.invalid else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(run(main))
