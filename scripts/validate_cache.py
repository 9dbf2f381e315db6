"""Check that every picture in the cache is whole: decode each to its end, and name those that are not.

Reads:  image_cache/ - the pictures (*.jpg, *.png, *.webp); with --prune the card lists beside them
Writes: nothing; with --report a JSON file; with --fix it deletes the invalid pictures, and the orphans found
Next:   download_images.py, which downloads again what was deleted

A valid picture is not empty, is a JPEG, PNG or WebP, and decodes to its end. An orphan (--prune) is a picture that no
list in the cache names any more: Scryfall gives a rescanned picture a new URL, and the old file stays. A picture that
only a list outside the cache names counts as an orphan, too.

Exit codes: 0 all valid, orphans or not; 1 some are invalid, deleted or not, or bad arguments; 2 the directory does not
exist.
"""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.atomic_io import require_replaceable, writable_folder
from helpers.cards.image_cache import ImageCache
from helpers.cli_validation import Parser, path
from helpers.download.validate import find_orphans, remove, validate
from helpers.ending import run
from helpers.errors import ExitCode


class ValidateArgs(argparse.Namespace):
    """The command line."""

    cache: Path
    prune: bool
    fix: bool
    report: Path | None


def parse_args(argv: Sequence[str] | None) -> ValidateArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.required_option("--cache", path, "DIR", "directory of the pictures")
    parser.flag("--prune", "also find and list orphans")
    parser.flag("--fix", "delete the invalid pictures and the orphans found")
    parser.option("--report", path, None, "FILE", "JSON file for the list of invalid pictures")
    return parser.parse(argv, ValidateArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Check every picture."""
    args = parse_args(argv)
    if args.report:
        writable_folder(args.report.parent, "--report")
        require_replaceable(args.report, "the --report file", "pass a file, new or existing: --report report.json")
    cache = ImageCache(args.cache)
    report = validate(cache)
    with cache.alone() if args.prune and args.fix else nullcontext():
        if args.prune:
            find_orphans(cache, report)
        if args.report:
            report.write(args.report)
        if args.fix:
            remove(report)
    print(report.summary())
    return ExitCode.INVALID if report.invalid else ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(run(main))
