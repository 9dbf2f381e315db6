"""open_clip models: loading them, and what identifies them.

Imports torch and open_clip, which take seconds: import it only when there is work for it.
"""

import difflib
import hashlib
import json
import logging
import pickle
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import save

from helpers.atomic_io import atomic_set, atomic_write_json
from helpers.embed.model_source import CONFIGURATION, LOCAL_DIR, ModelSource
from helpers.errors import Category, PipelineError, first_line

logging.getLogger().addHandler(logging.NullHandler())  # open_clip uses the root logger; we see errors as exceptions
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # as CUDA and MPS word it, and the CPU
# What open_clip raises for a model or weights that can't be loaded; safetensors' error is a plain Exception.
LOAD_ERRORS = (
    *(RuntimeError, OSError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError),
    SafetensorError,
)
WEIGHTS = "open_clip_model.safetensors"
_LOADING = threading.Lock()  # catch_warnings and torch's initialisers change what all threads share


def load_model(source: ModelSource, device: torch.device) -> Any:
    """The open_clip model with its weights, in fp32; PipelineError if it can't be loaded."""
    try:
        with _LOADING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with memory_named(device):
                model = open_clip.create_model(
                    source.address, pretrained=source.pretrained, device=device, require_pretrained=True
                )
    except LOAD_ERRORS as error:
        raise _unavailable(source, error) from error
    return model.eval().requires_grad_(False)


def set_width(tower: torch.nn.Module, width: int) -> None:
    """Give the image tower embeddings of another width: a random orthogonal map of the old ones, or from them.

    PipelineError (Configuration Error) if it does not end in one linear map.
    """
    owner: Any = getattr(tower, "head", tower)
    before: Any = getattr(owner, "proj", None)
    linear = isinstance(before, torch.nn.Linear) and before.bias is None
    if not linear and not (isinstance(before, torch.nn.Parameter) and before.ndim == 2):
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the width of this model can't be changed",
            details="it does not end in one linear map without a bias",
            suggestion="leave --width out",
        )
    matrix = before.weight if linear else before.T  # [old width, features]
    change = torch.empty(width, len(matrix))
    torch.nn.init.orthogonal_(change, generator=torch.Generator().manual_seed(0))
    after = torch.nn.Parameter((change.to(matrix.device) @ matrix).detach(), requires_grad=False)
    if linear:
        before.weight, before.out_features = after, width
    else:
        owner.proj = torch.nn.Parameter(after.T.contiguous(), requires_grad=False)


@contextmanager
def saved_model(
    folder: Path, source: ModelSource, model: Any, tower: dict[str, torch.Tensor], width: int
) -> Iterator[Path]:
    """Write `model`, of `source`, with these weights for its image tower, for `--model local-dir:folder`.

    It lies in the folder that is yielded, to be tried and described, and gets to `folder` if the block succeeds.
    Matrices are stored in float16, for half the size; vectors, among them the small variances of batch norms, are not.
    """
    with atomic_set(folder, marker=CONFIGURATION) as staging:
        _write_configuration(staging, source, model, width)
        whole = model
        if width != (configuration(source) or {}).get("embed_dim"):  # its text tower needs the new width, too
            whole = open_clip.create_model(f"{LOCAL_DIR}{staging}", load_weights=False)
        others = {name: value for name, value in whole.state_dict().items() if not name.startswith("visual.")}
        stored = {
            name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).cpu().contiguous()
            for name, value in (others | {f"visual.{name}": value for name, value in tower.items()}).items()
        }
        (staging / WEIGHTS).write_bytes(save(stored))
        yield staging


def _write_configuration(folder: Path, source: ModelSource, model: Any, width: int) -> None:
    config = (configuration(source) or {}) | {"embed_dim": width}
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False  # its weights are in the folder
    of_tower = {name: value for name, value in model.visual.preprocess_cfg.items() if name != "size"}
    atomic_write_json(folder / CONFIGURATION, {"model_cfg": config, "preprocess_cfg": of_tower})


def load_tokenizer(source: ModelSource) -> Any:
    """The model's tokenizer; PipelineError if it can't be loaded."""
    try:
        return open_clip.get_tokenizer(_config_name(source))
    except (*LOAD_ERRORS, ImportError) as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"the tokenizer of {source.display_name} could not be loaded",
            details=first_line(error),
            suggestion="check the connection to the model hub; some need: pip install transformers sentencepiece",
        ) from error


def fingerprint(tower: torch.nn.Module) -> str:
    """SHA-256 of the image tower's weights: identifies a model among those of its architecture."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def memory_named(device: torch.device) -> Iterator[None]:
    """Raise PipelineError (Build Error), with advice, if the device runs out of memory in the block."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        raise PipelineError.of(
            Category.BUILD,
            f"the {device.type} device is out of memory",
            details=first_line(error),
            suggestion="stop other programs on it, or use another --device; a build needs less with a smaller --batch",
        ) from error


def configuration(source: ModelSource) -> dict[str, Any] | None:
    """The model's configuration, as open_clip has it; PipelineError if it can't be read."""
    try:
        config: dict[str, Any] | None = open_clip.get_model_config(_config_name(source))
    except LOAD_ERRORS as error:
        raise _unavailable(source, error) from error
    return config


def _config_name(source: ModelSource) -> str:
    """The model's name as open_clip reads it."""
    return source.address if source.names_weights else source.model.replace("/", "-")


def architecture(source: ModelSource) -> str:
    """SHA-256 of the image tower's configuration: weights don't show the number of heads, for one."""
    config = configuration(source) or {}
    image_side = {name: value for name, value in config.items() if not name.startswith(("text", "multimodal"))}
    return hashlib.sha256(json.dumps(image_side, sort_keys=True).encode()).hexdigest()


def chosen_device(wanted: str, number: int = 0) -> torch.device:
    """The device that `wanted` (auto, cpu, cuda, mps) means here, the CUDA device with `number`; else PipelineError."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[wanted]:
        missing = "run nvidia-smi: the driver or the GPU is missing" if wanted == "cuda" and torch.version.cuda else ""
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"torch finds no {wanted} device here",
            details=f"received --device {wanted}; available: {', '.join(n for n, there in available.items() if there)}",
            suggestion=f"use --device auto, or {missing or 'install a torch built for this device'}",
        )
    return torch.device(wanted, number % torch.cuda.device_count()) if wanted == "cuda" else torch.device(wanted)


def _unavailable(source: ModelSource, error: Exception) -> PipelineError:
    if not source.names_weights and source.model not in open_clip.list_models():
        near = difflib.get_close_matches(source.model, open_clip.list_models(), n=3)
        return PipelineError.of(
            Category.CONFIGURATION,
            f"open_clip has no model {source.model}",
            details=f"received --model {source.model}",
            suggestion=(f"did you mean {', '.join(near)}? " if near else "")
            + 'list them: python -c "import open_clip; print(open_clip.list_models())"; '
            "for a model in a local folder use --model local-dir:PATH",
        )
    tags = open_clip.list_pretrained_tags_by_model(source.model)
    return PipelineError.of(
        Category.CONFIGURATION,
        f"the weights of {source.model} could not be loaded",
        details=f"--pretrained {source.pretrained}: {error}" if source.pretrained else str(error),
        suggestion="check the connection to the model hub, or use local weights: --pretrained FILE, or --model "
        "local-dir:PATH, or --model cards, the encoder that comes with this project"
        + (f"; tags of this model: {', '.join(tags)}" if tags else ""),
    )
