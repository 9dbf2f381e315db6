"""Which model, and from where: what can be checked before importing torch, so that a hopeless run fails at once."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from helpers.about import DEFAULT_USER_AGENT
from helpers.artifacts import unreadable
from helpers.errors import BAD_JSON, Category, PipelineError
from helpers.net.probe import probe
from helpers.talk import path_of, text_of

LOCAL_DIR = "local-dir:"  # open_clip's prefix for a folder with open_clip_config.json and weights
SHIPPED = "cards"  # our own encoder, which comes with the project
HUB = "hf-hub:"  # open_clip's prefix for a repository on the model hub that holds both
HUB_ADDRESS = "https://huggingface.co"
CONFIGURATION = "open_clip_config.json"  # in a model folder, as open_clip names it
TUNING = "tuning.json"  # in a model folder: how the model was tuned
NOT_ALIGNED = "not aligned"  # the value of `text` there if the text tower fits no longer
_SHIPPED_FOLDER = Path(__file__).resolve().parents[2] / "models" / SHIPPED


@dataclass(frozen=True, slots=True)
class ModelSource:
    """An open_clip model by name and weights (a tag or a file), or a folder or hub repository that holds both."""

    model: str
    pretrained: str | None  # None: the folder or repository has them

    @property
    def folder(self) -> Path | None:
        """The local folder that holds it."""
        if self.model == SHIPPED:
            return _SHIPPED_FOLDER
        return path_of(self.model.removeprefix(LOCAL_DIR)) if self.model.startswith(LOCAL_DIR) else None

    @property
    def address(self) -> str:
        """`model`, as open_clip knows it."""
        return f"{LOCAL_DIR}{self.folder}" if self.folder else self.model

    @property
    def names_weights(self) -> bool:
        """Whether `model` implies its weights."""
        return self.address.startswith((LOCAL_DIR, HUB))

    @property
    def is_local(self) -> bool:
        """Whether its weights are on this machine."""
        return self.folder is not None or (
            self.pretrained is not None and not self.model.startswith(HUB) and _is_file(path_of(self.pretrained))
        )

    @property
    def tuning(self) -> dict[str, Any] | None:
        """How tune_model.py made it; None for other models.

        PipelineError if the file that says so is damaged or can't be read.
        """
        if not self.folder:
            return None
        path = self.folder / TUNING
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error) from error
        except BAD_JSON as error:
            raise PipelineError.of(
                Category.CONFIGURATION,
                f"{path} is damaged",
                details=str(error),
                suggestion="restore the model's folder, or delete that file: it says how the model was tuned",
            ) from error

    @property
    def name(self) -> str:
        """`model`, without the parents of a local folder: they are nobody's business."""
        return (
            LOCAL_DIR + text_of(path_of(self.model.removeprefix(LOCAL_DIR)).name)
            if self.model.startswith(LOCAL_DIR)
            else self.model
        )

    @property
    def display_name(self) -> str:
        """What people call it: OpenAI's `ViT-B/32` for open_clip's `ViT-B-32-quickgelu`. Several may share it."""
        if self.names_weights:
            return self.name
        return re.sub(r"(ViT-[A-Za-z]+)-(\d+)", r"\1/\2", self.model.removesuffix("-quickgelu"))

    @property
    def weights(self) -> str | None:
        """The tag or the file's name, without its folder; None if the model names its weights."""
        return self.pretrained and Path(self.pretrained).name

    def __str__(self) -> str:
        """Model and weights, so that it can't be taken for another one."""
        return f"{self.name} ({self.weights})" if self.weights else self.name


def find_model(model: str, pretrained: str) -> ModelSource:
    """Find the model; local paths become absolute, so that a query finds it from any directory.

    Raises PipelineError (Configuration Error) if a local one does not exist or is damaged.
    """
    if model == SHIPPED or model.startswith(LOCAL_DIR):
        if model != SHIPPED:
            model = LOCAL_DIR + text_of(path_of(model.removeprefix(LOCAL_DIR)).absolute())
        source = ModelSource(model, None)
        _require_model(source)
        return source
    if os.sep in model and _is_file(path_of(model) / CONFIGURATION):
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"open_clip has no model {model}",
            details="a folder of that name holds one",
            suggestion=f"use --model {LOCAL_DIR}{model}",
        )
    if model.startswith(HUB):
        return ModelSource(model, None)
    weights = path_of(pretrained)
    return ModelSource(model, text_of(weights.absolute()) if _is_file(weights) else pretrained)


def _require_model(source: ModelSource) -> None:
    """PipelineError if a folder that should hold a model does not, or what it says of itself is damaged."""
    assert source.folder  # noqa: S101  # it is local
    path = source.folder / CONFIGURATION
    try:
        os.stat(path)  # noqa: PTH116  # `_is_file` would take an error of the disk for a folder without a model
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        advice = "pass the model's folder as --model local-dir:PATH, or restore the one that the index was built with; "
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"{source.folder} holds no open_clip model",
            details=f"{path} does not exist",
            suggestion="restore this project's models/cards: git checkout models/cards, or make card-encoder"
            if source.model == SHIPPED
            else advice + "--model cards comes with this project",
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    _ = source.tuning


def prefer_cached_weights(source: ModelSource, *, offline: bool) -> None:
    """Set HF_HUB_OFFLINE, so that open_clip uses only its cache, if `offline` or the model hub can't be reached.

    Otherwise it would retry for most of a minute. Call before importing torch and open_clip.
    """
    if source.is_local and not offline:
        return
    # A local model, too: its configuration may name parts that are on the hub
    if offline or not hub_answers():
        os.environ["HF_HUB_OFFLINE"] = "1"


def hub_answers() -> bool:
    """Whether the model hub can be reached; one request."""
    return 200 <= (probe(os.environ.get("HF_ENDPOINT", HUB_ADDRESS), DEFAULT_USER_AGENT) or 0) < 500


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  # pathlib's raises if a name is too long or forbidden
