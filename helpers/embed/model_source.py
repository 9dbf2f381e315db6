"""Which model, from where: what can be said about it before torch is imported, so that a hopeless run ends at once."""

import os
from dataclasses import dataclass
from pathlib import Path

from helpers.about import DEFAULT_USER_AGENT
from helpers.errors import Category, PipelineError
from helpers.net.probe import probe

LOCAL_DIR = "local-dir:"  # open_clip's own word for a folder with open_clip_config.json and weights
HUB = "hf-hub:"  # open_clip's own word for a repository on the model hub that holds both
HUB_ADDRESS = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """An open_clip model by name and weights (a tag or a file), or a folder or hub repository that holds both."""

    model: str
    pretrained: str | None  # None: the folder or repository has them

    @property
    def names_weights(self) -> bool:
        """Whether `model` names its weights too."""
        return self.model.startswith((LOCAL_DIR, HUB))

    @property
    def is_local(self) -> bool:
        """Whether its weights lie on this machine."""
        return self.model.startswith(LOCAL_DIR) or (
            self.pretrained is not None and not self.model.startswith(HUB) and _is_file(Path(self.pretrained))
        )

    @property
    def name(self) -> str:
        """`model`, wherever a local folder lies: the folders above are nobody's business."""
        return (
            LOCAL_DIR + Path(self.model.removeprefix(LOCAL_DIR)).name
            if self.model.startswith(LOCAL_DIR)
            else self.model
        )

    @property
    def display_name(self) -> str:
        """What people call it: OpenAI's `ViT-B/32` for open_clip's `ViT-B-32-quickgelu`."""
        if self.names_weights:
            return self.name
        family, _, patch = self.model.removesuffix("-quickgelu").rpartition("-")
        return f"{family}/{patch}" if family else patch


def find_model(model: str, pretrained: str) -> ModelSource:
    """Say where the model comes from, with local paths made absolute so that a query finds it from anywhere.

    Raises PipelineError (Configuration Error) where a local one is not there.
    """
    if model.startswith(LOCAL_DIR):
        folder = Path(model.removeprefix(LOCAL_DIR)).absolute()
        if not _is_file(folder / "open_clip_config.json"):
            raise PipelineError.of(
                Category.CONFIGURATION,
                f"{folder} holds no open_clip model",
                details=f"there is no {folder / 'open_clip_config.json'}",
                suggestion="name the folder with --model local-dir:PATH, or restore the one that the index was built "
                "with; scripts/make_offline_model.py --out makes one for trying out",
            )
        return ModelSource(f"{LOCAL_DIR}{folder}", None)
    if os.sep in model and _is_file(Path(model) / "open_clip_config.json"):
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"open_clip knows no model {model}",
            details="there is a folder of that name which holds one",
            suggestion=f"use --model {LOCAL_DIR}{model}",
        )
    if model.startswith(HUB):
        return ModelSource(model, None)
    return ModelSource(model, str(Path(pretrained).absolute()) if _is_file(Path(pretrained)) else pretrained)


def prefer_cached_weights(source: ModelSource, *, offline: bool) -> None:
    """Tell open_clip to look only into its own cache where the model hub can't be reached, or must not be.

    It would retry for most of a minute. Call before torch and open_clip are imported.
    """
    if source.is_local:
        return
    if offline or not 200 <= (probe(os.environ.get("HF_ENDPOINT", HUB_ADDRESS), DEFAULT_USER_AGENT) or 0) < 500:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  # pathlib's raises where a name is too long or forbidden
