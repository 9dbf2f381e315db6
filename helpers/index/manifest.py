"""build_manifest.json: the provenance of an index, and what a query needs to know."""

import math
import platform
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from helpers.cards.faces import Filters, Selection
from helpers.embed.model_source import ModelSource
from helpers.embed.preprocess import Preparation
from helpers.embed.settings import Settings

_ROOT = Path(__file__).resolve().parents[2]
MANIFEST_VERSION = "1.0.0"


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """The build's parameters, and the efSearch that it chose."""

    kind: str
    batch_size: int
    target_size: int
    hnsw_m: int
    hnsw_ef_construction: int
    hnsw_ef_search: int
    image_key: str
    fit: str
    limit: int | None
    validate_cache: bool = False  # older indexes lack it
    filters: Filters = Filters()  # older indexes lack them
    cache: str | None = None  # the pictures' directory, relative to the index; older indexes lack it
    table: str | None = None  # the CSV that names one's own pictures, likewise
    whiten: bool | None = None  # older indexes lack it, and the next two
    whiten_dim: int | None = None  # None: half of the model's
    whiten_ridge: float | None = None

    @property
    def selection(self) -> Selection:
        """Which faces it covers."""
        return Selection(self.kind, self.image_key, self.limit, self.filters)


class Statistics(msgspec.Struct, frozen=True):
    """total = successful + failed; failed counts faces whose picture is missing from the cache or invalid."""

    total_records: int
    successful_embeddings: int
    failed_embeddings: int
    success_rate: float
    missing_from_cache: int
    validation_failures: int


class Environment(msgspec.Struct, frozen=True):
    """What it was built with."""

    python_version: str
    numpy_version: str
    torch_version: str
    faiss_version: str
    clip_model: str
    device: str

    @classmethod
    def here(cls, torch_version: str, faiss_version: str, clip_model: str, device: str) -> "Environment":
        """The environment of this process."""
        return cls(platform.python_version(), np.__version__, torch_version, faiss_version, clip_model, device)


class Model(msgspec.Struct, frozen=True):
    """What a query needs to make comparable vectors."""

    name: str
    pretrained: str | None
    weights_sha256: str
    embedding_dim: int
    precision: str = "fp32"
    preprocessing: str = ""  # open_clip's own, as its text: rows with another one can't be mixed; older indexes lack it
    architecture_sha256: str = ""  # of the image tower's configuration; older indexes lack it
    tuning: dict[str, Any] | None = None  # how tune_model.py made it; other models have none
    input: dict[str, Any] | None = None  # `preprocessing` as open_clip's PreprocessCfg has it; older indexes lack it
    quick_gelu: bool | None = None  # whether it computes QuickGELU in place of GELU; older indexes lack it

    @classmethod
    def of(
        cls, source: ModelSource, settings: Settings, width: int, model_input: dict[str, Any], *, quick_gelu: bool
    ) -> "Model":
        """The model of `source`, whose rows have `width` dimensions and `settings`."""
        return cls(
            source.model,
            source.pretrained,
            settings.weights_sha256,
            width,
            settings.precision,
            settings.preprocessing,
            settings.architecture_sha256,
            source.tuning,
            model_input,
            quick_gelu,
        )


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows came from, and how fast."""

    ranks: int  # processes (torchrun)
    loaders: int  # threads per rank that read, decode and prepare
    encoders: int  # threads per rank that call the model
    precision_chosen: str  # as requested, or why it was chosen
    reused: int  # rows of the previous index
    resumed: int  # rows of interrupted builds
    embedded: int  # rows made by this run
    waiting_for_loaders: float  # share of the embedding in which the model (on a CPU: a core) had no batch, 0..1
    images_per_second: dict[str, float]  # by phase
    dropped: int = 0  # rows of the previous index whose pictures are no longer in the list


class Recognition(msgspec.Struct, frozen=True):
    """How a query ranks faces, and when it is sure."""

    hash_weight: float  # score = cosine - this x share of differing bits
    sure_above: float  # of margin + gap
    conditions: str  # what these were chosen on
    # Older indexes lack the rest
    even: float = 0.4  # margin + gap of a name that is as likely right as wrong
    slope: float = 14.0  # of the logistic function of margin + gap
    read_weight: float = 1.0  # score += this x what was read (0 to 1) and verified (1)
    printing_reach: float = 0.2  # printings whose scores are no farther from the best can't be told apart by looks

    def confidence(self, margin: float | None, gap: float | None) -> float | None:
        """How likely the best name is right, 0..1, by its margin and gap; None if there is no other name."""
        if margin is None or gap is None:
            return None
        return 1 / (1 + math.exp(-self.slope * (margin + gap - self.even)))

    @classmethod
    def of(cls, model: Model, *, whitened: bool) -> "Recognition":
        """What was measured with models that were tuned to cards, or else with one that was not."""
        return _MEASURED[bool(model.tuning), whitened]


_CONDITIONS = "7,350 simulated cut-outs of 1,050 real cards, 25 scenes of 1 to 8 of them; see docs/choices.md"
_MEASURED = {  # whether the model was tuned to cards, and whether the vectors are whitened
    (False, False): Recognition(2.0, 0.4, _CONDITIONS, even=0.21, slope=22.0),
    (False, True): Recognition(3.0, 0.7, _CONDITIONS, even=0.36, slope=12.0),
    (True, False): Recognition(2.0, 0.6, _CONDITIONS, even=0.42, slope=16.0),
    (True, True): Recognition(2.0, 0.65, _CONDITIONS, even=0.45, slope=14.0),
}


class Whitened(msgspec.Struct, frozen=True, kw_only=True):
    """The whitened rows, and their index."""

    dimensions: int  # K
    ridge: float  # in mean eigenvalues
    hnsw_ef_search: int
    ef_search_recall_at_10: dict[int, float]
    found_by_itself: "FoundByItself"


class FoundByItself(msgspec.Struct, frozen=True):
    """How many rows were asked for with their own vector, and how many came first or tied (with a twin)."""

    checked: int  # all rows, or a sample of them
    found: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file. Readers ignore fields they don't know."""

    version: str
    timestamp: str
    parameters: Parameters
    statistics: Statistics
    environment: Environment
    git_commit: str | None
    tool_version: str
    model: Model
    card_list: str  # file name of the list in the image cache, which carries its version; of the table or directory
    ef_search_recall_at_10: dict[int, float]  # on this index's own rows, moved by noise
    target_recall_at_10: float | None = None  # the smallest efSearch that reaches it was chosen; older indexes lack it
    found_by_itself: FoundByItself | None = None  # older indexes lack it
    seconds: dict[str, float]  # by phase
    images_per_second: float  # of the phase "embedding"
    sha256: dict[str, str]  # by file name
    embedding: Embedding | None = None  # older indexes lack it
    recognition: Recognition = _MEASURED[False, False]  # older indexes lack it
    whitening: Whitened | None = None  # None: built without, with too few rows, or by an earlier version

    def recognition_by(self, *, whitened: bool) -> Recognition:
        """How to rank by whitened or raw vectors: `recognition` is for whitened ones, if there are any.

        Earlier versions whitened when an index was loaded: what they recorded fits neither.
        """
        if self.parameters.whiten is not None and whitened == (self.whitening is not None):
            return self.recognition
        return Recognition.of(self.model, whitened=whitened)

    @property
    def source(self) -> ModelSource:
        """The model to load for a query."""
        return ModelSource(self.model.name, self.model.pretrained)

    @property
    def preparation(self) -> Preparation:
        """How a query's picture is prepared."""
        return Preparation(self.parameters.target_size, self.parameters.fit)

    @property
    def settings(self) -> Settings:
        """What the rows depend on besides their pictures."""
        return Settings(
            model=self.source.name,
            weights_sha256=self.model.weights_sha256,
            precision=self.model.precision,
            preprocessing=self.model.preprocessing,
            target_size=self.parameters.target_size,
            fit=self.parameters.fit,
            architecture_sha256=self.model.architecture_sha256,
        )


def git_commit() -> str | None:
    """The commit of this tool, if it runs from a checkout of its own."""
    repository = _ROOT / ".git"  # named, or git would take that of a folder above, or $GIT_DIR
    command = ["git", "--git-dir", str(repository), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
