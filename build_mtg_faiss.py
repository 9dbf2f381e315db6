"""Both steps in one command: download the pictures, then embed them and build a FAISS index.

Reads:  Scryfall's card list
Writes: image_cache/ - as download_images.py does; index_out/ - as build_embeddings.py does
Next:   query_index.py, export_for_browser.py

Takes the flags of both scripts and writes the same files. Flags that you leave out are taken from the index in --out.
The model is loaded first: if that fails, nothing is downloaded. With --pictures nothing is downloaded at all. With
--newest --export it brings cache, index and browser files up to date, and says what changed since the last build
(make refresh). --export writes what export_for_browser.py does with the same flags, and removes and names what an
earlier export wrote and this one doesn't, such as the encoder.

Run the same command again at any time: it skips pictures and rows that exist, and resumes a build that was stopped or
killed. Rows are found by their pictures, so the card list, --limit, filters, --batch and HNSW flags may change between
runs. A checkpoint made with another model or preprocessing is put aside as checkpoint-*.stale and used again by a build
with its settings. --rebuild takes nothing from the existing index, --no-resume nothing from a checkpoint.

Exit codes: 0 done; 1 bad arguments, or the list or the model could not be loaded; 2 no picture could be downloaded,
more failed than --max-failures allows, or there is no valid image to embed; 3 the directory of --pictures does not
exist.
"""

from collections.abc import Sequence
from dataclasses import replace

import helpers.interrupts  # noqa: F401  # our first import, see there
from helpers.build.listing import require_pictures, require_wanted
from helpers.build.ranks import require_alone, sole_build
from helpers.build.remembered import remembered
from helpers.build.report import BuildReport
from helpers.build.stage import build, load_embedder
from helpers.cli_validation import Parser
from helpers.download.stage import download, require_enough
from helpers.ending import run
from helpers.errors import ExitCode, Problem
from helpers.index.browser_format import warn_of_old_export, write_browser_files
from helpers.index.store import StoredIndex
from helpers.options import (
    PipelineArgs,
    add_browser_options,
    add_build_options,
    add_card_list_options,
    add_download_options,
)
from helpers.recognise.encoders import EncoderMaker

EXPORT_FLAGS = ("encoder", "fields", "compress", "rows_per_file")  # the flags that say what is exported


def parse_args(argv: Sequence[str] | None) -> PipelineArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    add_card_list_options(parser)
    add_download_options(parser)
    add_build_options(parser)
    parser.section("browser")
    parser.flag("--export", "also write the browser's files into --out, as export_for_browser.py does")
    add_browser_options(parser)
    parser.cross_rule(("export", *EXPORT_FLAGS), _for_an_export)
    return parser.parse(argv, PipelineArgs())


def _for_an_export(args: PipelineArgs) -> Problem | None:
    given = [name for name in EXPORT_FLAGS if name in args.given]
    if args.export or not given:
        return None
    flag = f"--{given[0].replace('_', '-')}"
    return Problem(f"{flag} is for --export", f"received {flag} without it", f"add --export, or leave {flag} out")


def main(argv: Sequence[str] | None = None) -> int:
    """Download, then build."""
    args = parse_args(argv)
    request = remembered(args.request, args.given, downloads=True)
    require_wanted(request)
    if request.pictures:
        require_pictures(request)
    require_alone()
    report = BuildReport()
    with sole_build(request.out):
        embedder = load_embedder(request, report)
        if not request.pictures:
            downloaded = download(request.cache, request.selection, request.http, **args.how_to_download)
            print(downloaded.summary(), flush=True)
            require_enough(downloaded, args.max_failures)
        # From the list that the download used
        folder = build(replace(request, refresh=False), embedder, report)
        if args.export:
            print(export(StoredIndex(folder), args))
        else:
            warn_of_old_export(folder)
        print(report.summary())
    return ExitCode.OK


def export(stored: StoredIndex, args: PipelineArgs) -> str:
    """Write the browser's files beside the index; return a summary."""
    encoder = EncoderMaker(stored, args.encoder).write if args.encoder else None
    return write_browser_files(stored, stored.folder, args.how, encoder)


if __name__ == "__main__":
    raise SystemExit(run(main))
