"""The options of a build; their defaults are those of the flags."""

from dataclasses import dataclass, field
from pathlib import Path

from helpers.cards.faces import Selection
from helpers.session import Http

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """The options of `build`; each field is the flag of that name."""

    cache: Path = Path("image_cache")
    out: Path = Path("index_out")
    selection: Selection = field(default_factory=Selection)
    http: Http = field(default_factory=Http)
    refresh: bool = False
    offline: bool = False
    model: str = "ViT-B-32-quickgelu"
    pretrained: str = "openai"
    device: str = "auto"
    size: int = 384  # side of the canvas, pixels
    fit: str = "pad"
    precision: str = "auto"  # of PRECISIONS
    batch: int | None = None  # None: chosen by device
    loaders: int | None = None
    validate_cache: bool = True
    hnsw_m: int = 32
    hnsw_ef_construction: int = 200
    checkpoint_frequency: int = 500  # images; 0: off
    resume: bool = True
    rebuild: bool = False
