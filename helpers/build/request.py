"""The options of a build; their defaults are those of the flags."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from helpers.cards.faces import Selection
from helpers.cards.image_cache import ImageCache
from helpers.cards.own_pictures import KIND
from helpers.index.manifest import Parameters
from helpers.session import Http
from helpers.talk import text_of

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """The options of `build`; each field is the flag of that name."""

    cache: Path = Path("image_cache")
    pictures: Path | None = None  # one's own, in place of a cache and its list
    table: Path | None = None  # which names them
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
    whiten: bool = True
    whiten_dim: int | None = None  # None: half of the model's
    whiten_ridge: float = 1.0  # in mean eigenvalues
    checkpoint_frequency: int = 500  # images; 0: off
    resume: bool = True
    rebuild: bool = False

    @property
    def images(self) -> ImageCache:
        """Where the pictures are."""
        return ImageCache(self.pictures or self.cache)

    @property
    def wanted(self) -> Selection:
        """Which faces."""
        return Selection(KIND, "", self.selection.limit) if self.pictures else self.selection

    def parameters(self, ef_search: int, batch_size: int) -> Parameters:
        """The same for the manifest, with what the build chose."""
        return Parameters(
            kind=self.wanted.kind,
            batch_size=batch_size,
            target_size=self.size,
            hnsw_m=self.hnsw_m,
            hnsw_ef_construction=self.hnsw_ef_construction,
            hnsw_ef_search=ef_search,
            image_key=self.wanted.image_key,
            fit=self.fit,
            limit=self.wanted.limit,
            validate_cache=self.validate_cache,
            filters=self.wanted.filters,
            cache=_from(self.out, self.images.root),
            table=_from(self.out, self.table) if self.table else None,
            whiten=self.whiten,
            whiten_dim=self.whiten_dim,
            whiten_ridge=self.whiten_ridge,
        )


def _from(out: Path, path: Path) -> str:
    """`path`, relative to `out`, so that both may be moved together; links are followed, since .. leaves them."""
    return text_of(os.path.relpath(path.resolve(), out.resolve()))
