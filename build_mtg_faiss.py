"""Do both steps in one command: fetch the pictures, then turn them into vectors and a search index.

Reads:  Scryfall's card list
Writes: image_cache/ - as download_images.py does; index_out/ - as build_embeddings.py does
Next:   query_index.py, export_for_browser.py

The same files as from the two scripts in turn, and the same flags. The model is loaded first: where it can't be had,
nothing is fetched. Run it again at any time: what is there is neither fetched nor embedded again, and a build that was
stopped or killed goes on from its checkpoint.

Exit codes: 0 done; 1 bad arguments, or the list or the model could not be had; 2 no picture could be had, more failed
than --max-failures allows, or there is no valid image to embed.
"""

from collections.abc import Sequence
from dataclasses import replace

import helpers.interrupts  # noqa: F401  # first of ours, see there
from helpers.build.ranks import require_alone, sole_build
from helpers.build.report import BuildReport
from helpers.build.stage import build, load_embedder, require_wanted
from helpers.cli_validation import Parser
from helpers.download.stage import download, require_enough
from helpers.ending import run
from helpers.errors import ExitCode
from helpers.options import PipelineArgs, add_build_options, add_card_list_options, add_download_options


def parse_args(argv: Sequence[str] | None) -> PipelineArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    add_card_list_options(parser)
    add_download_options(parser)
    add_build_options(parser)
    return parser.parse(argv, PipelineArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch, then build."""
    args = parse_args(argv)
    request = replace(args.request, refresh=False)  # the list is the one that is downloaded from
    require_wanted(request)
    require_alone()
    report = BuildReport()
    with sole_build(request.out):
        embedder = load_embedder(request, report)
        downloaded = download(args.cache, args.selection, args.http, **args.how_to_download)
        print(downloaded.summary(), flush=True)
        require_enough(downloaded, args.max_failures)
        print(build(request, embedder, report))
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(run(main))
