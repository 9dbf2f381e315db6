"""Pictures and a model -> a folder with that model, tuned to tell the cards apart in photographs.

A tuning can be stopped and killed at any time: the same command resumes from a checkpoint of at most a minute ago.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from helpers.about import VERSION
from helpers.artifacts import unreadable
from helpers.atomic_io import atomic_path, atomic_write_json, utc_timestamp
from helpers.build.ranks import ALONE, Ranks
from helpers.embed.embedder import Embedder, TextEmbedder
from helpers.embed.model_source import LOCAL_DIR, NOT_ALIGNED, TUNING, ModelSource
from helpers.embed.models import chosen_device, fingerprint, load_model, saved_model, set_width
from helpers.embed.preprocess import Preparation
from helpers.errors import Category, PipelineError
from helpers.machine_limits import usable_cores
from helpers.talk import Progress, say, warn
from helpers.tune.feeding import Feeder, Sample
from helpers.tune.layers import merged
from helpers.tune.measuring import Recall, embedded, recall, text_kept
from helpers.tune.pictures import Catalogue, Picture, catalogue, hold_out, require_cards
from helpers.tune.request import TuneRequest
from helpers.tune.training import Trainer

CHECKPOINT = "tuning.pt"
CHECKPOINT_SECONDS = 45.0  # from one to the next, or TIMES_AS_LONG as writing one takes
TIMES_AS_LONG = 20
EMBEDDED_AT_A_TIME = 512  # pictures, between checkpoints
LOOKS = 5  # at held-out cards, evenly spread over a training; the best weights are kept
ASKED, OTHERS = 200, 400  # pictures, at most, that a look asks about, and that are there besides
SMALL, SMALL_UNTIL = 5 / 7, 0.6  # side of the pictures in the first part of a training, if the model takes it


class Summary(msgspec.Struct, frozen=True):
    """What a tuning came to. Recall "before" and "after", of cards that were held out and of cards that were not."""

    pictures: int  # that were trained on
    cards: int
    held_out_pictures: int
    broken_pictures: int
    steps: int
    seconds: float  # of training
    pictures_per_second: float
    held_out: dict[str, Recall]  # empty if none were held out
    tuned_on: dict[str, Recall]
    text_kept: float | None  # share of the ten cards nearest to a name that still are; None without text search


def tune(request: TuneRequest, source: ModelSource, found: Sequence[Picture], ranks: Ranks = ALONE) -> Summary:
    """Tune the model of `source` on the pictures `found`, and write it to `request.out`.

    Raises PipelineError: no such model, too few pictures, a checkpoint of another tuning, a training that diverges. A
    tuning that is stopped leaves a checkpoint.
    """
    _require_possible(request, source, ranks)
    device = chosen_device(request.device, ranks.local_rank)
    text = _text_embedder(request, source) if ranks.leads else None
    say(f"Loading the model {source}")
    model = load_model(source)
    base_sha256 = fingerprint(model.visual)
    if request.width:
        set_width(model.visual, request.width)
    side = int(np.ravel(model.visual.image_size)[0])
    embedder = Embedder(source, Preparation(side, "pad"), device, model)
    base = merged(embedder.tower)
    run = _Run(request, catalogue(found), embedder, base_sha256, side, ranks)
    with embedder.for_many(), embedder.can_be_given_up() as give_up:
        try:
            run.begin()
            run.train()
        except BaseException:
            give_up()
            run.save()
            raise
    if not ranks.leads:
        return run.summary({}, None)
    tuned = {
        name: base[name].lerp(weight, request.blend) if weight.is_floating_point() else weight
        for name, weight in run.best_weights.items()
    }
    with saved_model(request.out, source, model, tuned, run.width) as folder:
        made = Embedder.load(ModelSource(f"{LOCAL_DIR}{folder}", None), Preparation(side, "pad"), request.device)
        summary = run.summary(run.measured(made), run.text_kept(text, made) if text else None)
        atomic_write_json(folder / TUNING, run.provenance(summary))
    run.checkpoint.unlink(missing_ok=True)
    return summary


def _require_possible(request: TuneRequest, source: ModelSource, ranks: Ranks) -> None:
    if source.folder and source.folder == request.out.absolute():
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the tuned model would replace the one it is tuned from",
            details=f"--model and --out both name {request.out}",
            suggestion="use another --out",
        )
    if request.recipe.batch % ranks.size:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the ranks can't share a batch",
            details=f"--batch {request.recipe.batch} and {ranks.size} ranks",
            suggestion=f"use --batch {-(-request.recipe.batch // ranks.size) * ranks.size}",
        )


def _text_embedder(request: TuneRequest, source: ModelSource) -> TextEmbedder | None:
    """The model's text tower, if the tuned model is to keep it: blended, and the text tower is trained and fits."""
    if request.blend == 1:
        return None
    try:
        return TextEmbedder.load(source, request.device)
    except PipelineError as error:
        say(f"No text search: {error.problems[0].details}")
        return None


class _Run:
    """A tuning in progress."""

    def __init__(
        self,
        request: TuneRequest,
        pictures: Catalogue,
        embedder: Embedder,
        base_sha256: str,
        side: int,
        ranks: Ranks,
    ) -> None:
        self._request, self._pictures, self._embedder, self._side = request, pictures, embedder, side
        self._base_sha256, self._ranks = base_sha256, ranks
        held = hold_out(pictures.classes, request.held_out, request.seed)
        self._chosen_by, self._held = _halves(pictures.classes, np.flatnonzero(held))
        self._trained = np.flatnonzero(~held)
        loaders = request.loaders or max(2, usable_cores() // ranks.local_size)
        self._feeder = Feeder(pictures.pictures, request.seed, request.strength, request.clean, side, loaders)
        self.width = _width(embedder, side)
        self._small = _small_side(embedder, side)
        self._trainer = Trainer(embedder, pictures.classes, self.width, request.recipe, request.seed, ranks)
        self._seconds, self._loss, self._looked = 0.0, math.nan, 0
        self._before: dict[str, Recall] = {}
        self._best: Recall | None = None
        self.best_weights: dict[str, torch.Tensor] = {}
        self.checkpoint = request.out / CHECKPOINT
        self._next_save = math.inf  # until it has begun: before, the checkpoint that is there may be another's

    @property
    def _seen(self) -> int:
        return self._trainer.steps * self._request.recipe.batch

    @property
    def _done(self) -> float:
        """How much of the training is done, from 0; at 1 it ends."""
        if self._request.epochs is not None:
            return self._seen / (self._request.epochs * len(self._trained))
        return self._seconds / (60 * (self._request.minutes or math.inf))

    def begin(self) -> None:
        """Resume from a checkpoint, or measure the model as it is; start the proxies that have not been."""
        resume = self._request.resume and self.checkpoint.exists()
        if any(other != (resume, self._key()) for other in self._ranks.everyones((resume, self._key()))):
            raise PipelineError.of(
                Category.CONFIGURATION,
                "the ranks do not see the same pictures, model or checkpoint",
                details=f"rank {self._ranks.rank} has others than another",
                suggestion="let --cache, --pictures and --out name directories on a disk that all machines share",
            )
        if resume:
            self._restore()
        elif self._ranks.leads:
            self._before = self.measured(self._embedder)
            for name, found in self._before.items():
                say(f"Recall@1 before, cards {name}: {found}")
        self._next_save = time.monotonic() + CHECKPOINT_SECONDS
        self._start_proxies()
        self._trained = self._trained[self._trainer.started[self._trained]]  # without the broken ones
        require_cards(self._pictures.classes[self._trained])
        self.save()

    def _start_proxies(self) -> None:
        missing = self._trained[~self._trainer.started[self._trained]]
        missing = missing if not self._seen else missing[:0]  # once it trains, those are the broken ones
        with Progress("Embedding", len(missing), "pictures") as progress:
            for first in range(0, len(missing), EMBEDDED_AT_A_TIME * self._ranks.size):
                part = missing[first : first + EMBEDDED_AT_A_TIME * self._ranks.size]
                ours = np.array_split(part, self._ranks.size)[self._ranks.rank]
                rows, there = embedded(self._embedder, self._feeder.clean_pictures(ours.tolist(), self._small))
                for which, each in self._ranks.everyones((ours[there], rows)):
                    if len(which):
                        self._trainer.start(which, each)
                progress.advance(len(part))
                self._save_if_due()

    def train(self) -> None:
        """Train until it is done."""
        recipe, ranks = self._request.recipe, self._ranks
        share = recipe.batch // ranks.size
        draws = self._feeder.draws(
            self._trained, self._seen + ranks.rank, step=ranks.size, batch=recipe.batch, side=self._side_now
        )
        say(f"Training on {len(self._trained):,} pictures; {len(self._held) + len(self._chosen_by):,} are held out")
        with (
            Progress("Tuning", 0, "pictures", self._note, before=self._seen) as progress,
            closing(self._feeder.samples(draws, self._trained, ahead=4 * share)) as coming,
        ):
            while (done := ranks.from_leader(self._done)) < 1:
                started = time.monotonic()
                self._loss = self._trainer.step(_whole(islice(coming, share)), done)
                self._seconds += time.monotonic() - started
                progress.expect(round(self._seen / self._done))
                progress.advance(recipe.batch)
                self._look_if_due()
                self._save_if_due()
        self._look_if_due()

    def _look_if_due(self) -> None:
        """Measure the weights on held-out cards, and keep them if they are the best so far."""
        due = min(LOOKS, math.floor(self._done * LOOKS))
        if not self._ranks.leads or due == self._looked:
            return
        found = self._recall(self._embedder, self._chosen_by) if len(self._chosen_by) else None
        if found is None or self._best is None or found.share >= self._best.share:
            self._best, self.best_weights = found, merged(self._embedder.tower)
        self._looked = due

    def measured(self, embedder: Embedder) -> dict[str, Recall]:
        """Recall of held-out cards, others than the weights are chosen by, and of cards that are not held out."""
        groups = {"held out": self._held, "tuned on": self._trained}
        return {name: self._recall(embedder, rows) for name, rows in groups.items() if len(rows)}

    def _recall(self, embedder: Embedder, rows: NDArray[np.int64]) -> Recall:
        random = np.random.default_rng(self._request.seed)
        asked = random.permutation(rows)[:ASKED]
        others = random.permutation(np.setdiff1d(np.arange(len(self._pictures)), asked))[:OTHERS]
        return recall(embedder, self._feeder, self._pictures.classes, asked, others, self._side)

    def text_kept(self, text: TextEmbedder, made: Embedder) -> float:
        """What the text search for the cards' names keeps, see `measuring.text_kept`."""
        rows = np.random.default_rng(self._request.seed).permutation(len(self._pictures))[: ASKED + OTHERS]
        base = Embedder.load(self._embedder.source, Preparation(self._side, "pad"), self._request.device)
        before, after = (
            embedded(each, self._feeder.clean_pictures(rows.tolist(), self._side))[0] for each in (base, made)
        )
        names = [self._pictures.pictures[row].name for row in rows[:ASKED].tolist()]
        return round(text_kept(text.encode(names), before, after), 4)

    def _side_now(self) -> int:
        return self._small if self._done < SMALL_UNTIL else self._side

    def _note(self) -> str:
        held_out = f", held-out recall {self._best.share:.3f}" if self._best else ""
        return f"loss {self._loss:.3f}{held_out}"

    # ------------------------------------------------------------------------------------------ checkpoint, provenance

    def _save_if_due(self) -> None:
        if time.monotonic() > self._next_save:
            self.save()

    def save(self) -> None:
        """Write a checkpoint, of what has begun."""
        if not self._ranks.leads or self._next_save == math.inf:
            return
        state = {
            "key": self._key(),
            "trainer": self._trainer.state(),
            "seconds": self._seconds,
            "looked": self._looked,
            "before": msgspec.to_builtins(self._before),
            "best": msgspec.to_builtins(self._best),
            "best_weights": self.best_weights,
        }
        started = time.monotonic()
        with atomic_path(self.checkpoint) as part:
            torch.save(state, part)
        took = time.monotonic() - started
        self._next_save = started + took + max(CHECKPOINT_SECONDS, TIMES_AS_LONG * took)

    def _restore(self) -> None:
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            theirs, ours = state["key"], self._key()
            problems = [f"{name} was {theirs[name]}, now {ours[name]}" for name in ours if theirs[name] != ours[name]]
        except OSError as error:
            raise unreadable(self.checkpoint, error) from error
        except (RuntimeError, TypeError, ValueError, LookupError, EOFError, pickle.UnpicklingError) as error:
            problems = [f"it is damaged: {error}"]
        if problems:
            raise PipelineError.of(
                Category.CONFIGURATION,
                f"the checkpoint in {self._request.out} does not fit",
                details="; ".join(problems),
                suggestion="use --no-resume to begin anew, or another --out",
            )
        self._trainer.restore(state["trainer"])
        self._seconds, self._looked = state["seconds"], state["looked"]
        self._before = msgspec.convert(state["before"], dict[str, Recall])
        self._best = msgspec.convert(state["best"], Recall | None)
        self.best_weights = state["best_weights"]
        say(f"Resuming after {self._seen:,} pictures, {self._seconds / 60:.1f} minutes")

    def _key(self) -> dict[str, Any]:
        """What a checkpoint must agree on."""
        request = self._request
        return {
            "base_sha256": self._base_sha256,
            "pictures_sha256": self._pictures.sha256,
            "width": self.width,
            "strength": request.strength,
            "clean": request.clean,
            "held_out": request.held_out,
            "seed": request.seed,
            **asdict(request.recipe),
        }

    def provenance(self, summary: Summary) -> dict[str, Any]:
        """How the model came about, for its folder and the manifests of its indexes."""
        request = self._request
        lasting = {"epochs": request.epochs} if request.epochs is not None else {"minutes": request.minutes}
        return {
            "version": VERSION,
            "timestamp": utc_timestamp(),
            "base": str(self._embedder.source),
            "settings": self._key() | lasting | {"blend": request.blend},
            "text": NOT_ALIGNED if summary.text_kept is None else "kept",
            **msgspec.to_builtins(summary),
        }

    def summary(self, after: dict[str, Recall], kept: float | None) -> Summary:
        """The summary, with the recall `after` the tuning."""
        if self._feeder.broken:
            path, reason = next(iter(self._feeder.broken.items()))
            warn(f"{len(self._feeder.broken):,} pictures were left out; the first: {path}: {reason}")
        both = {name: {"before": self._before[name], "after": found} for name, found in after.items()}
        held = len(self._held) + len(self._chosen_by)
        return Summary(
            pictures=len(self._trained),
            cards=len(set(self._pictures.classes[self._trained].tolist())),
            held_out_pictures=held,
            broken_pictures=len(self._pictures) - held - len(self._trained),
            steps=self._trainer.steps,
            seconds=round(self._seconds, 1),
            pictures_per_second=round(self._seen / max(self._seconds, 1e-9), 1),
            held_out=both.get("held out", {}),
            tuned_on=both.get("tuned on", {}),
            text_kept=kept,
        )


def _whole(samples: Iterable[Sample | None]) -> list[Sample]:
    """Those that could be read; PipelineError (Build Error) if none could, all of which could before."""
    there = [sample for sample in samples if sample is not None]
    if not there:
        raise PipelineError.of(
            Category.BUILD,
            "the pictures can't be read any more",
            details="a whole batch of them is missing or broken",
            suggestion="restore them, then run the same command to resume",
        )
    return there


def _halves(classes: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows by their cards, evenly; the second half has the odd one."""
    cards = np.unique(classes[rows])
    first = np.isin(classes[rows], cards[: len(cards) // 2])
    return rows[first], rows[~first]


def _width(embedder: Embedder, side: int) -> int:
    return int(embedder.encode([torch.full((3, side, side), 128, dtype=torch.uint8)]).shape[1])


def _small_side(embedder: Embedder, side: int) -> int:
    """The side of smaller pictures if the model takes any, as convolutional ones do; else `side`."""
    small = round(side * SMALL / 32) * 32
    try:
        _width(embedder, small)
    except (RuntimeError, AssertionError):  # a transformer's position embedding fits one size
        return side
    return small
