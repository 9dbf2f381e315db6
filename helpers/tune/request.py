"""The options of a tuning; their defaults are those of the flags."""

from dataclasses import dataclass, field
from pathlib import Path

LAYERS = ("last", "all", "lora")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train; the defaults were measured, see docs/tuning.md."""

    layers: str = "last"  # of LAYERS
    batch: int = 48  # pictures per step
    temperature: float = 0.07
    rate: float = 3e-4  # of AdamW, for the tower
    proxy_rate: float = 2e-3  # of Adam, for the proxies


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneRequest:
    """The options of `tune`; each field is the flag of that name."""

    out: Path
    device: str = "auto"
    minutes: float | None = 30.0  # None: by epochs
    epochs: float | None = None  # passes over the pictures
    width: int | None = None  # None: the model's own
    strength: float = 1.0  # of the views
    clean: float = 0.25  # share of the pictures that are shown as they are
    held_out: float = 10.0  # percent of the cards
    blend: float = 1.0  # share of the tuned weights in the result; the rest is the model's own (WiSE-FT)
    seed: int = 0
    loaders: int | None = None  # threads; None: one per core
    resume: bool = True
    recipe: Recipe = field(default_factory=Recipe)
