"""Turn the cached pictures into vectors and a search index, with open_clip and FAISS.

Reads:  image_cache/ - the pictures and the card list that download_images.py left there
Writes: index_out/ - mtg_embeddings.npy, mtg_meta.jsonl, mtg_cards.faiss, build_manifest.json
Next:   query_index.py, export_for_browser.py

Pictures that are missing or broken are named and left out; every row keeps its own card. The index gets the smallest
efSearch that finds 99.9 % of the true ten nearest, by measurement.

A build that was stopped or killed is gone on with by the same command: it keeps checkpoints in index_out/ while it
runs. The old index stays until the new one is whole. A build over an index takes over its rows where picture, model,
precision and preparation are the same, and embeds the rest.

Several GPUs or machines: torchrun --nproc-per-node N build_embeddings.py ...; --cache and --out must lie on a disk that
all share.

Exit codes: 0 done; 1 bad arguments, or the model or the list could not be had; 2 no valid images to embed; 3 the
cache directory does not exist.
"""

from collections.abc import Sequence

import helpers.interrupts  # noqa: F401  # first of ours, see there
from helpers.build.ranks import Ranks, sole_build
from helpers.build.report import BuildReport
from helpers.build.stage import build, load_embedder, require_pictures, require_wanted
from helpers.cli_validation import Parser
from helpers.ending import run
from helpers.errors import ExitCode
from helpers.options import BuildArgs, add_build_options, add_card_list_options


def parse_args(argv: Sequence[str] | None) -> BuildArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    add_card_list_options(parser)
    add_build_options(parser)
    return parser.parse(argv, BuildArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Build the index."""
    request = parse_args(argv).request
    require_pictures(request)
    require_wanted(request)
    report, ranks = BuildReport(), Ranks.from_environment()
    with ranks.connected(), sole_build(request.out, ranks):
        embedder = load_embedder(request, report, ranks)
        summary = build(request, embedder, report, ranks)
    if ranks.leads:
        print(summary)
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(run(main))
