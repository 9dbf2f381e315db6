"""Tune a model to recognise cards in photographs, on clean pictures of cards alone.

Reads:  image_cache/ and its card list, or with --pictures a directory, with --table the cards' names in a CSV
Writes: tuned/ - open_clip_config.json, open_clip_model.safetensors, tuning.json (what it was made of, and how good it
        is); while it runs, tuning.pt
Next:   build_embeddings.py --model local-dir:tuned

The model learns that a card and its photographs should get the same vector, and other cards another. The photographs
are simulated: corners off, tilted, few pixels, blurred, badly lit, with reflections, noise, a sleeve, a finger. It
learns the camera and the look of cards rather than single cards, so an index may hold cards that it has not seen. A
tenth of the cards are held out: half of these choose the best weights, the recall of the other half is reported.

Pictures of one name, one illustration or the same bytes are one card. Missing and broken pictures are left out, as are
a list's placeholders.

Run the same command to resume a tuning that was stopped or killed: at most a minute is lost. Several GPUs:
torchrun --standalone --nproc-per-node N scripts/tune_model.py ... Several machines: --nnodes and --rdzv-endpoint in
place of --standalone; all must share the disks.

Exit codes: 0 done; 1 bad arguments, too few pictures, or no such model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.atomic_io import complete_set, sweep, writable_folder
from helpers.build.ranks import Ranks, require_shared
from helpers.build.remembered import as_downloaded
from helpers.build.request import BuildRequest
from helpers.cli_validation import Parser, number, one_of, path
from helpers.embed.model_source import CONFIGURATION, SHIPPED, ModelSource, find_model, prefer_cached_weights
from helpers.ending import run
from helpers.errors import ExitCode, Problem
from helpers.locks import sole_holder
from helpers.options import (
    CardListArgs,
    add_card_list_options,
    add_device_option,
    add_model_option,
    table_names_pictures,
)
from helpers.tune.pictures import Picture, from_cache, from_folder
from helpers.tune.request import LAYERS, Recipe, TuneRequest

_DEFAULTS, _RECIPE = TuneRequest(out=Path("tuned")), Recipe()
LOCK = ".tuning.lock"


class TuneArgs(CardListArgs):
    """The command line."""

    pictures: Path | None
    table: Path | None
    out: Path
    model: str
    pretrained: str
    device: str
    minutes: float | None
    epochs: float | None
    layers: str
    width: int | None
    batch: int
    rate: float
    temperature: float
    strength: float
    clean: float
    held_out: float
    blend: float
    seed: int
    loaders: int | None
    resume: bool

    @property
    def request(self) -> TuneRequest:
        """What to tune, and how."""
        same = [
            *("out", "device", "epochs", "width", "strength", "clean", "held_out", "blend", "seed", "loaders"),
            "resume",
        ]
        recipe = Recipe(layers=self.layers, batch=self.batch, temperature=self.temperature, rate=self.rate)
        minutes = self.minutes if self.epochs is not None or self.minutes is not None else _DEFAULTS.minutes
        return TuneRequest(**{name: getattr(self, name) for name in same}, minutes=minutes, recipe=recipe)


def parse_args(argv: Sequence[str] | None) -> TuneArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.section("pictures")
    parser.option("--pictures", path, None, "DIR", "directory tree of pictures of cards, in place of a cache")
    parser.option("--table", path, None, "CSV", "their names: columns file (relative to --pictures), name, and "
                  "illustration_id where it is known; without it files of one name are one card")  # fmt: skip
    parser.cross_rule(("pictures", "table"), table_names_pictures)
    parser.section("tuning")
    parser.option("--out", path, _DEFAULTS.out, "DIR", "directory for the tuned model")
    add_model_option(parser, SHIPPED, BuildRequest().pretrained)
    add_device_option(parser)
    minutes = number(float, 0.1, suggest=30)
    parser.option("--minutes", minutes, None, "N", f"how long to train (default: {_DEFAULTS.minutes:g})")
    parser.option(
        "--epochs", number(float, 0.01, suggest=20), None, "N", "passes over the pictures, in place of --minutes"
    )
    parser.cross_rule(("minutes", "epochs"), _one_length)
    layers = "which weights change: the last half of the blocks, all, or low-rank changes of all (lora: large models)"
    parser.option("--layers", one_of(LAYERS, suggest=_RECIPE.layers), _RECIPE.layers, "WHICH", layers)
    parser.option(
        "--width", number(int, 8, 4096, suggest=256), None, "D", "dimensions of the vectors (default: as the model's)"
    )
    held_out = "share of the cards that are measured, not trained on"
    parser.option("--held-out", number(float, 0, 90, suggest=10), _DEFAULTS.held_out, "PERCENT", held_out)
    blend = (
        "share of tuned weights in the result, 0 to 1; the rest are the model's own. Less keeps more of its text search"
    )
    parser.option("--blend", number(float, 0, 1, suggest=0.5), _DEFAULTS.blend, "SHARE", blend)
    parser.cross_rule(("blend", "width"), _same_width_to_blend)
    parser.option("--seed", number(int, 0, suggest=0), _DEFAULTS.seed, "N", "random seed")
    parser.switch("--resume", "resume a tuning in --out that was stopped (on by default); --no-resume begins anew")
    parser.section("method")
    parser.option("--batch", number(int, 2, 65536, suggest=48), _RECIPE.batch, "N", "pictures per step")
    parser.option("--rate", number(float, 0, 1, suggest=3e-4), _RECIPE.rate, "R", "learning rate at its highest")
    temperature = "temperature of the softmax over cosines"
    parser.option("--temperature", number(float, 0.005, 1, suggest=0.07), _RECIPE.temperature, "T", temperature)
    strength = "how bad the simulated photographs are, 0 to 1"
    parser.option("--strength", number(float, 0, 1, suggest=1), _DEFAULTS.strength, "S", strength)
    clean = "share of the pictures that are shown as they are"
    parser.option("--clean", number(float, 0, 1, suggest=0.25), _DEFAULTS.clean, "SHARE", clean)
    parser.option(
        "--loaders", number(int, 1, 256, suggest=4), None, "N", "threads that make views (default: one per core)"
    )
    add_card_list_options(parser)
    return parser.parse(argv, TuneArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Find the model and the pictures, tune the model, say what came of it."""
    args = parse_args(argv)
    source = find_model(args.model, args.pretrained)
    prefer_cached_weights(source, offline=args.offline)
    ranks = Ranks.from_environment()
    with ranks.connected(), sole_tuning(args.out, ranks):
        found = ranks.from_leader(find_pictures(args) if ranks.leads else None)
        said = tune_on(args.request, source, found, ranks)
    if ranks.leads:
        print(said)
    return ExitCode.OK


@contextmanager
def sole_tuning(out: Path, ranks: Ranks) -> Iterator[None]:
    """Be the only tuning that writes into `out`; PipelineError if there is another, or it is not writable.

    Rank 0 takes the lock for all ranks, and first completes or removes what a kill has left.
    """
    if not ranks.leads:
        ranks.from_leader(None)
        require_shared(out / LOCK, "--out")
        yield
        return
    with sole_holder(writable_folder(out, "--out") / LOCK, f"another tuning is writing into {out}"):
        sweep(out)
        complete_set(out, CONFIGURATION)
        ranks.from_leader(True)
        yield


def find_pictures(args: TuneArgs) -> list[Picture]:
    """The pictures that the flags name."""
    if args.pictures:
        return from_folder(args.pictures, args.table)
    selection = as_downloaded(args.selection, args.cache, args.given)
    return from_cache(args.cache, selection, args.http, refresh=args.refresh, offline=args.offline)


def tune_on(request: TuneRequest, source: ModelSource, found: Sequence[Picture], ranks: Ranks) -> str:
    """Tune, and describe the result."""
    from helpers.tune.stage import tune  # torch: seconds, so only after the arguments are checked

    made = tune(request, source, found, ranks)
    lines = [
        f"Tuned on {made.pictures:,} pictures of {made.cards:,} cards: {made.steps:,} steps, "
        f"{made.seconds / 60:.1f} minutes, {made.pictures_per_second:.1f} pictures/s",
        f"Held out: {made.held_out_pictures:,} pictures; broken: {made.broken_pictures:,}",
        "Recall@1 of views, 95 % interval:",
    ]
    for group, recalls in (("held out", made.held_out), ("tuned on", made.tuned_on)):
        lines += [f"  cards {group}, {when}: {recall}" for when, recall in recalls.items()]
    if made.text_kept is not None:
        lines.append(f"Text search keeps {made.text_kept:.0%} of the ten cards nearest to a name")
    return "\n".join([*lines, f"Written to {request.out}: build_embeddings.py --model local-dir:{request.out}"])


def _one_length(args: TuneArgs) -> Problem | None:
    if args.minutes is None or args.epochs is None:
        return None
    received = f"received --minutes {args.minutes:g} --epochs {args.epochs:g}"
    return Problem("--minutes and --epochs are mutually exclusive", received, "leave one of them out")


def _same_width_to_blend(args: TuneArgs) -> Problem | None:
    if args.blend == 1 or args.width is None:
        return None
    received = f"received --blend {args.blend:g} --width {args.width}"
    return Problem("--blend and --width are mutually exclusive", received, "leave one of them out")


if __name__ == "__main__":
    raise SystemExit(run(main, stopped="the same command resumes it."))
