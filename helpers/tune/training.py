"""Training an image tower to give a card and its photographs the same vector.

Each picture has a proxy: a unit vector that its embedding and those of its views are drawn to, and those of other cards
are pushed from. The loss is a softmax over cosines with the proxies, which are learnt with the tower (Movshovitz-Attias
et al., No fuss distance metric learning using proxies, 2017; Zhai & Wu, Classification is a strong baseline for deep
metric learning, 2019). Pictures of one class, a name or an illustration, are never pushed apart.

All proxies begin as the embeddings of their clean pictures, before the first step: one that started later would only
have pushed others away until then, while the tower drifts from it. Beyond MAX_PROXIES each step compares with a sample
of them, so that a step costs the same for a million cards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from helpers.atomic_io import signals_deferred
from helpers.build.ranks import Ranks
from helpers.embed.embedder import BATCH, Embedder
from helpers.embed.models import memory_named
from helpers.errors import Category, PipelineError
from helpers.machine_limits import usable_cores
from helpers.tune.feeding import Sample
from helpers.tune.layers import open_layers
from helpers.tune.request import Recipe

MAX_PROXIES = 4096  # that a step compares with
WARM_UP = 30  # steps in which the rate rises
MAX_NORM = 1.0  # of the gradient
WEIGHT_DECAY = 0.01


class Trainer:
    """A tower, the proxies of its pictures, and the optimisers of both."""

    def __init__(
        self, embedder: Embedder, classes: NDArray[np.int64], width: int, recipe: Recipe, seed: int, ranks: Ranks
    ) -> None:
        """`classes` [N] of the pictures; the embedder's tower is trained, and its rows have `width` dimensions."""
        open_layers(embedder.tower, recipe.layers, seed)
        self._embedder, self._recipe, self._ranks = embedder, recipe, ranks
        self._weights = [weight for weight in embedder.tower.parameters() if weight.requires_grad]
        self._device = self._weights[0].device
        self._classes = torch.from_numpy(classes).to(self._device)
        self._proxies = torch.zeros(len(classes), width, device=self._device, requires_grad=True)
        self._started = torch.zeros(len(classes), dtype=torch.bool, device=self._device)
        self._optimizer = torch.optim.AdamW(self._weights, lr=recipe.rate, weight_decay=WEIGHT_DECAY)
        self._of_proxies = torch.optim.SparseAdam([self._proxies], lr=recipe.proxy_rate)
        self._random = torch.Generator().manual_seed(seed)  # the same in all ranks
        # On a CPU each core has parts of the batch, see Embedder.embed; small ones, for Ctrl-C waits for them
        on_cpu = embedder.device == "cpu"
        self._part = BATCH["cpu"] if on_cpu else recipe.batch
        self._pool = ThreadPoolExecutor(max(1, usable_cores() // ranks.local_size) if on_cpu else 1)
        self.steps = 0

    @property
    def started(self) -> NDArray[np.bool_]:
        """Which pictures [N] have a proxy: only those may be drawn."""
        return self._started.cpu().numpy()

    def start(self, rows: NDArray[np.int64], features: NDArray[np.float32]) -> None:
        """Start the proxies of the pictures `rows` [M] at their embeddings [M, D]."""
        where = torch.from_numpy(rows).to(self._device)
        with torch.no_grad():
            self._proxies[where] = torch.from_numpy(features).to(self._device)
        self._started[where] = True

    def step(self, samples: Sequence[Sample], done: float) -> float:
        """Learn from this rank's share of a batch; `done`, 0..1, of the whole training. Returns the loss.

        PipelineError (Build Error) if the training diverges, and nothing is learnt then.
        """
        rows = torch.tensor([sample.row for sample in samples], device=self._device)
        compared = self._compared(rows)
        near = self._proxies.detach()[compared].requires_grad_()

        def of_part(part: torch.Tensor) -> tuple[float, Sequence[torch.Tensor | None]]:
            with memory_named(self._device):
                pixels = torch.stack([samples[place].pixels for place in part.tolist()])
                loss = self._loss(pixels, rows[part.to(self._device)], compared, near) / self._recipe.batch
                return loss.item(), torch.autograd.grad(loss, [*self._weights, near], allow_unused=True)

        results = list(self._pool.map(of_part, torch.split(torch.arange(len(samples)), self._part)))
        *of_weights, of_near = [_sum(each) for each in zip(*(gradients for _, gradients in results), strict=True)]
        assert of_near is not None  # noqa: S101  # the loss depends on it
        self._ranks.add_up([of_near, *(gradient for gradient in of_weights if gradient is not None)])
        with signals_deferred():
            self._learn(of_weights, compared, of_near, done)
        return sum(loss for loss, _ in results) * self._recipe.batch / len(samples)

    def _compared(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows, in order, of the proxies that this step compares with: all, or a sample and those drawn."""
        started = self._started.nonzero()[:, 0]
        if len(started) <= MAX_PROXIES:
            return started
        some = started[torch.randperm(len(started), generator=self._random)[:MAX_PROXIES].to(self._device)]
        drawn = [torch.tensor(each, device=self._device) for each in self._ranks.everyones(rows.tolist())]
        compared: torch.Tensor = torch.unique(torch.cat([some, *drawn]))
        return compared

    def _loss(
        self, pixels: torch.Tensor, rows: torch.Tensor, compared: torch.Tensor, near: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy, summed over the pictures."""
        own = torch.searchsorted(compared, rows)
        same = self._classes[rows][:, None] == self._classes[compared][None]
        same[torch.arange(len(rows)), own] = False
        features = functional.normalize(self._embedder.features(pixels))
        cosines = features @ functional.normalize(near).T
        logits = (cosines / self._recipe.temperature).masked_fill(same, -math.inf)
        return functional.cross_entropy(logits, own, reduction="sum")

    def _learn(
        self, of_weights: Sequence[torch.Tensor | None], compared: torch.Tensor, of_near: torch.Tensor, done: float
    ) -> None:
        for weight, gradient in zip(self._weights, of_weights, strict=True):
            weight.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self._weights, MAX_NORM)
        if not math.isfinite(float(norm)):
            raise PipelineError.of(
                Category.BUILD,
                "the training diverges",
                details=f"the gradient of step {self.steps + 1:,} is {float(norm)}",
                suggestion=f"use a lower --rate ({self._recipe.rate / 3:g}) and --no-resume",
            )
        self._proxies.grad = torch.sparse_coo_tensor(
            compared[None], of_near, self._proxies.shape, is_coalesced=True, check_invariants=False
        )
        share = min(1.0, (self.steps + 1) / WARM_UP) * (1 - done)
        for optimizer, rate in ((self._optimizer, self._recipe.rate), (self._of_proxies, self._recipe.proxy_rate)):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.step()
        self.steps += 1

    def state(self) -> dict[str, Any]:
        """What `restore` needs to resume from here: tensors and plain data."""
        return {
            "steps": self.steps,
            "tower": self._embedder.tower.state_dict(),
            "proxies": self._proxies.detach(),
            "started": self._started,
            "optimizer": self._optimizer.state_dict(),
            "of_proxies": self._of_proxies.state_dict(),
            "random": self._random.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from `state`."""
        self.steps = state["steps"]
        self._embedder.tower.load_state_dict(state["tower"])
        with torch.no_grad():
            self._proxies.copy_(state["proxies"])
        self._started.copy_(state["started"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._of_proxies.load_state_dict(state["of_proxies"])
        self._random.set_state(state["random"].cpu())


def _sum(gradients: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    there = [gradient for gradient in gradients if gradient is not None]
    return sum(there[1:], there[0]) if there else None
