"""Both steps in one command: download the pictures, then embed them and build a FAISS index.

Reads:  Scryfall's card list
Writes: image_cache/ - as download_images.py does; index_out/ - as build_embeddings.py does
Next:   query_index.py, export_for_browser.py

Takes the flags of both scripts and writes the same files. The model is loaded first: if that fails, nothing is
downloaded. Run the same command again at any time: it skips pictures and rows that exist, and resumes a build that was
stopped or killed. Rows are found by their pictures, so the card list, --limit, filters, --batch and HNSW flags may
change between runs. A checkpoint made with another model or preprocessing is put aside as checkpoint-*.stale and used
again by a build with its settings. --rebuild takes nothing from the existing index, --no-resume nothing from a
checkpoint.

Exit codes: 0 done; 1 bad arguments, or the list or the model could not be loaded; 2 no picture could be downloaded,
more failed than --max-failures allows, or there is no valid image to embed.
"""

from collections.abc import Sequence
from dataclasses import replace

import helpers.interrupts  # noqa: F401  # our first import, see there
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
    """Download, then build."""
    args = parse_args(argv)
    request = replace(args.request, refresh=False)  # build from the list that the download used
    require_wanted(request)
    require_alone()
    report = BuildReport()
    with sole_build(request.out):
        embedder = load_embedder(request, report)
        downloaded = download(args.cache, args.selection, args.http, **args.how_to_download)
        print(downloaded.summary(), flush=True)
        require_enough(downloaded, args.max_failures)
        build(request, embedder, report)
        print(report.summary())
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(run(main))
