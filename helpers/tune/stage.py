"""Pictures and a model -> a folder with that model, tuned to tell the cards apart in photographs.

A tuning can be stopped and killed at any time: the same command resumes from a checkpoint of at most a minute ago.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from helpers.about import VERSION
from helpers.atomic_io import atomic_path, atomic_write_json, utc_timestamp
from helpers.build.ranks import ALONE, Ranks
from helpers.embed.embedder import Embedder
from helpers.embed.model_source import LOCAL_DIR, NOT_ALIGNED, TUNING, ModelSource, find_model, prefer_cached_weights
from helpers.embed.models import chosen_device, load_model, save_model, with_width
from helpers.embed.preprocess import Preparation
from helpers.errors import Category, PipelineError
from helpers.machine_limits import usable_cores
from helpers.talk import Progress, say, warn
from helpers.tune.feeding import Feeder
from helpers.tune.layers import merged
from helpers.tune.measuring import Recall, embedded, recall
from helpers.tune.pictures import Catalogue, Picture, catalogue, hold_out
from helpers.tune.request import TuneRequest
from helpers.tune.training import Trainer

CHECKPOINT = "tuning.pt"
CHECKPOINT_SECONDS = 45.0  # from one to the next, which takes a few more to write
LOOKS = 5  # at the held-out cards, evenly spread over a training; the best weights are kept
ASKED, OTHERS = 200, 400  # pictures that a look asks about, and that the index has besides
SMALL, SMALL_UNTIL = 5 / 7, 0.6  # the model's pictures in the first part of a training: their side, if it takes that


class Summary(msgspec.Struct, frozen=True):
    """What a tuning came to. Recall "before" and "after": of cards that were held out, of as many that were not."""

    pictures: int
    cards: int
    steps: int
    seconds: float  # of training
    pictures_per_second: float
    held_out: dict[str, Recall]  # empty if none were held out
    tuned_on: dict[str, Recall]
    broken_pictures: int


def tune(request: TuneRequest, found: Sequence[Picture], ranks: Ranks = ALONE) -> Summary:
    """Tune the model on the pictures `found`, and write it to `request.out`.

    Raises PipelineError: too few pictures, no such model, a checkpoint of another tuning. A tuning that is stopped
    leaves a checkpoint there.
    """
    pictures = catalogue(found)
    source, device = find_model(request.model, request.pretrained), chosen_device(request.device, ranks.local_rank)
    say(f"Loading {source.display_name}")
    prefer_cached_weights(source, offline=request.offline)
    model = load_model(source, device)
    if request.width:
        model = with_width(source, model, request.width)
    side = int(np.ravel(model.visual.image_size)[0])
    embedder = Embedder(source, Preparation(side, "pad"), device, model)
    run = _Run(request, pictures, embedder, side, ranks)
    base = merged(embedder.tower)
    with embedder.for_many():
        run.begin()
        run.train()
        if not ranks.leads:
            return run.summary({})
        blended = {name: base[name].lerp(weight, request.blend) if weight.is_floating_point() else weight
                   for name, weight in run.best_weights.items()}  # fmt: skip
        save_model(request.out, source, model, blended, run.width, run.provenance(run.summary({})))
        summary = run.summary(run.measured(_loaded_again(request, side)))
    atomic_write_json(request.out / TUNING, run.provenance(summary))
    run.checkpoint.unlink(missing_ok=True)
    return summary


def _loaded_again(request: TuneRequest, side: int) -> Embedder:
    """The model as it was written."""
    source = ModelSource(f"{LOCAL_DIR}{request.out.absolute()}", None)
    return Embedder.load(source, Preparation(side, "pad"), request.device)


class _Run:
    """A tuning in progress."""

    def __init__(self, request: TuneRequest, pictures: Catalogue, embedder: Embedder, side: int, ranks: Ranks) -> None:
        self._request, self._embedder, self._side, self._ranks = request, embedder, side, ranks
        self._pictures = pictures
        held = hold_out(pictures.classes, request.held_out, request.seed)
        self._trained, self._held = np.flatnonzero(~held), np.flatnonzero(held)
        loaders = request.loaders or max(2, usable_cores() // ranks.local_size)
        self._feeder = Feeder(pictures.pictures, request.seed, request.strength, request.clean, loaders)
        self._base_sha256 = embedder.fingerprint
        self.width = _width(embedder, side)
        self._small = _small_side(embedder, side)
        self._trainer = Trainer(embedder, self._pictures.classes, self.width, request.recipe, request.seed, ranks)
        self._seconds, self._loss = 0.0, math.nan
        self._before: dict[str, Recall] = {}
        self._best: Recall | None = None
        self.best_weights: dict[str, torch.Tensor] = {}
        self.checkpoint = request.out / CHECKPOINT

    @property
    def _seen(self) -> int:
        return self._trainer.steps * self._request.recipe.batch

    @property
    def _done(self) -> float:
        """How much of the training is done, from 0; at 1 it ends."""
        if self._request.epochs is not None:
            return self._seen / (self._request.epochs * len(self._trained))
        return self._seconds / (60 * self._request.minutes)

    def begin(self) -> None:
        """Resume from a checkpoint, or measure the model as it is and start the proxies."""
        if self._request.resume and self.checkpoint.exists():
            self._restore()
            return
        if self._ranks.leads:
            self._before = self.measured(self._embedder)
            for name, found in self._before.items():
                say(f"Recall@1 before, cards {name}: {found}")
        ours = np.array_split(self._trained, self._ranks.size)[self._ranks.rank]
        with Progress("Embedding", len(ours), "pictures") as progress:
            pictures = self._feeder.clean_pictures(ours.tolist(), self._small)
            features, there = embedded(self._embedder, pictures, progress.advance)
        for rows, each in self._ranks.everyones((ours[there], features)):
            self._trainer.start(rows, each)

    def train(self) -> None:
        """Train until it is done, or raise what stopped it, with a checkpoint."""
        recipe, ranks = self._request.recipe, self._ranks
        share = recipe.batch // ranks.size
        draws = self._feeder.draws(
            self._trained, self._seen + ranks.rank, step=ranks.size, batch=recipe.batch, side=self._side_now
        )
        say(f"Training on {len(self._trained):,} pictures; {len(self._held):,} are held out")
        with (
            Progress("Tuning", 0, "pictures", self._note, before=self._seen) as progress,
            closing(self._feeder.samples(draws, ahead=4 * share)) as coming,
            self._kept_if_stopped(),
        ):
            saved = time.monotonic()
            while (done := ranks.from_leader(self._done)) < 1:
                started = time.monotonic()
                self._loss = self._trainer.step([sample for sample in islice(coming, share) if sample], done)
                self._seconds += time.monotonic() - started
                progress.expect(round(self._seen / self._done))
                progress.advance(recipe.batch)
                if math.floor(self._done * LOOKS) > math.floor(done * LOOKS):
                    self._look()
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()

    def _look(self) -> None:
        """Measure the weights on the held-out cards, and keep them if they are the best so far."""
        if not self._ranks.leads:
            return
        found = self._recall(self._embedder, self._held) if len(self._held) else None
        if found is None or self._best is None or found.share >= self._best.share:
            self._best, self.best_weights = found, merged(self._embedder.tower)

    def measured(self, embedder: Embedder) -> dict[str, Recall]:
        """Recall of the held-out cards and of others."""
        groups = {"held out": self._held, "tuned on": self._trained}
        return {name: self._recall(embedder, rows) for name, rows in groups.items() if len(rows)}

    def _recall(self, embedder: Embedder, rows: NDArray[np.int64]) -> Recall:
        random = np.random.default_rng(self._request.seed)
        asked = random.permutation(rows)[:ASKED]
        others = random.permutation(np.setdiff1d(np.arange(len(self._pictures)), asked))[:OTHERS]
        return recall(embedder, self._feeder, self._pictures.classes, asked, others, self._side)

    def _side_now(self) -> int:
        return self._small if self._done < SMALL_UNTIL else self._side

    def _note(self) -> str:
        held_out = f", held-out recall {self._best.share:.3f}" if self._best else ""
        return f"loss {self._loss:.3f}{held_out}"

    # ------------------------------------------------------------------------------------------ checkpoint, provenance

    @contextmanager
    def _kept_if_stopped(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._save()
            raise

    def _save(self) -> None:
        if not self._ranks.leads:
            return
        state = {
            "key": self._key(),
            "trainer": self._trainer.state(),
            "seconds": self._seconds,
            "before": msgspec.to_builtins(self._before),
            "best": msgspec.to_builtins(self._best),
            "best_weights": self.best_weights,
        }
        with atomic_path(self.checkpoint) as part:
            torch.save(state, part)

    def _restore(self) -> None:
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            differences = [f"{name} was {state['key'][name]}, now {ours}" for name, ours in self._key().items()
                           if state["key"][name] != ours]  # fmt: skip
        except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            differences = [f"it is damaged: {error}"]
        if differences:
            raise PipelineError.of(
                Category.CONFIGURATION,
                f"the checkpoint in {self._request.out} is of another tuning",
                details="; ".join(differences),
                suggestion="use --no-resume to begin anew, or another --out",
            )
        self._trainer.restore(state["trainer"])
        self._seconds = state["seconds"]
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
        request, source = self._request, self._embedder.source
        base = source.tuning or {}
        return {
            "version": VERSION,
            "timestamp": utc_timestamp(),
            "base": source.display_name,
            "settings": self._key() | {"minutes": request.minutes, "epochs": request.epochs, "blend": request.blend},
            "text": "kept" if request.blend < 1 else NOT_ALIGNED,
            **msgspec.to_builtins(summary),
            **({"recognition": base["recognition"]} if "recognition" in base else {}),
        }

    def summary(self, after: dict[str, Recall]) -> Summary:
        """The summary, with the recall `after` the tuning."""
        if self._feeder.broken:
            path, reason = next(iter(self._feeder.broken.items()))
            warn(f"{len(self._feeder.broken):,} pictures were left out; the first: {path}: {reason}")
        both = {name: {"before": self._before[name], "after": found} for name, found in after.items()}
        return Summary(
            pictures=len(self._pictures),
            cards=int(self._pictures.classes.max()) + 1,
            steps=self._trainer.steps,
            seconds=round(self._seconds, 1),
            pictures_per_second=round(self._seen / max(self._seconds, 1e-9), 1),
            held_out=both.get("held out", {}),
            tuned_on=both.get("tuned on", {}),
            broken_pictures=len(self._feeder.broken),
        )


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
