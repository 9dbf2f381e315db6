"""Download the picture of every card face, from Scryfall's bulk list.

Reads:  Scryfall's card list (kept in the cache directory, checked for a newer one after 24 h)
Writes: image_cache/ - one file per picture, the list, download_report.json
Next:   build_embeddings.py

Run it again at any time: it downloads only pictures that are missing or damaged.

Exit codes: 0 done, even if some pictures failed (see --max-failures); 1 bad arguments, a full disk, the list could not
be downloaded, or the server refused our requests; 2 no picture could be downloaded, or more failed than allowed.
"""

from collections.abc import Sequence

import helpers.interrupts  # noqa: F401  # our first import, see there
from helpers.cli_validation import Parser
from helpers.download.stage import download, require_enough
from helpers.ending import run
from helpers.errors import ExitCode
from helpers.options import DownloadArgs, add_card_list_options, add_download_options


def parse_args(argv: Sequence[str] | None) -> DownloadArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    add_card_list_options(parser)
    add_download_options(parser)
    return parser.parse(argv, DownloadArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Download the pictures into the cache."""
    args = parse_args(argv)
    report = download(args.cache, args.selection, args.http, **args.how_to_download)
    print(report.summary())
    require_enough(report, args.max_failures)
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(run(main))
