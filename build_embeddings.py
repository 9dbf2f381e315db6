"""Embed the cached pictures with open_clip and build a FAISS index.

Reads:  image_cache/ - the pictures and the card list that download_images.py left there
Writes: index_out/ - mtg_embeddings.npy, mtg_meta.jsonl, mtg_cards.faiss, mtg_pictures.npy, mtg_dhash.npy,
        build_manifest.json
Next:   query_index.py, export_for_browser.py

Missing and broken pictures are reported and skipped; the other rows still belong to the right cards. efSearch is set to
the smallest value that reaches a measured recall@10 of 99.9 %.

Run the same command to resume a build that was stopped or killed: it keeps checkpoints in index_out/. Rows are found by
their pictures, so the card list, --limit, filters, --batch and HNSW flags may change between runs. A checkpoint made
with another model or preprocessing is put aside as checkpoint-*.stale and used again by a build with its settings.
A build over an existing index reuses rows whose picture, model, precision and preprocessing are unchanged; the old
index stays until the new one is complete. --rebuild takes nothing from the existing index, --no-resume nothing from a
checkpoint.

Several GPUs: torchrun --standalone --nproc-per-node N build_embeddings.py ... Several machines: --nnodes and
--rdzv-endpoint in place of --standalone; all must share the disk of --cache and --out.

With --pictures it embeds a directory of your own pictures, named by --table or by their files; no list is needed. Flags
that you leave out are taken from the index in --out; for a first index, the cards are those that were downloaded.

Exit codes: 0 done; 1 bad arguments, or the model or the list could not be loaded; 2 no valid images to embed; 3 the
directory of --cache or --pictures does not exist.
"""

from collections.abc import Sequence

import helpers.interrupts  # noqa: F401  # our first import, see there
from helpers.build.listing import require_pictures, require_wanted
from helpers.build.ranks import Ranks, sole_build
from helpers.build.remembered import remembered
from helpers.build.report import BuildReport
from helpers.build.stage import build, load_embedder
from helpers.cli_validation import Parser
from helpers.ending import run
from helpers.errors import ExitCode
from helpers.index.browser_format import warn_of_old_export
from helpers.options import BuildArgs, add_build_options, add_card_list_options


def parse_args(argv: Sequence[str] | None) -> BuildArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    add_card_list_options(parser)
    add_build_options(parser)
    return parser.parse(argv, BuildArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Build the index."""
    args = parse_args(argv)
    report, ranks = BuildReport(), Ranks.from_environment()
    with ranks.connected():
        request = remembered(args.request, args.given)
        require_pictures(request)
        require_wanted(request)
        with sole_build(request.out, ranks):
            embedder = load_embedder(request, report, ranks)
            folder = build(request, embedder, report, ranks)
    if ranks.leads:
        warn_of_old_export(folder)
        print(report.summary())
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(run(main))
