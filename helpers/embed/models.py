"""open_clip models: loading them, and what identifies them.

Imports torch and open_clip, which take seconds: import it only when there is work for it.
"""

import difflib
import errno
import hashlib
import json
import logging
import os
import pickle
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import save

from helpers.artifacts import unreadable
from helpers.atomic_io import atomic_set, atomic_write_json
from helpers.embed.model_source import CONFIGURATION, LOCAL_DIR, SHIPPED, ModelSource
from helpers.errors import Category, PipelineError, first_line
from helpers.talk import path_of, say, warn

# open_clip warns through the root logger, whose functions add a handler of their own where there is none. What it warns
# of while a model or a tokenizer is loaded is told, see `_heard`.
logging.getLogger().addHandler(logging.NullHandler())
_DISK_ERRORS = (errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM)  # of a file that is there
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # as CUDA and MPS word it, and the CPU
# What open_clip raises for a model or weights that can't be loaded; safetensors' error is a plain Exception.
LOAD_ERRORS = (
    *(RuntimeError, OSError, ValueError, KeyError, TypeError, EOFError, AssertionError, AttributeError),
    pickle.UnpicklingError,
    SafetensorError,
)
WEIGHTS = "open_clip_model.safetensors"
QUICK_GELU = "-quickgelu"  # how open_clip ends the name of a model that computes QuickGELU in place of GELU
_ACTIVATION = {True: "QuickGELU", False: "GELU"}
_OF_ALL_WEIGHTS = ("mean", "std", "interpolation", "resize_mode")  # the size depends on the model alone
_LOADING = threading.Lock()  # catch_warnings, the root logger and torch's initialisers: all threads share them


def load_model(source: ModelSource) -> Any:
    """The open_clip model with its weights, in fp32, on the CPU; what open_clip warns of is told.

    PipelineError if it can't be loaded, or would compute something else than it was trained to.
    """
    _require_activation(source)
    with _heard() as said:
        try:
            with memory_named(torch.device("cpu")):
                model = open_clip.create_model(
                    source.address,
                    pretrained=source.pretrained and str(path_of(source.pretrained)),
                    require_pretrained=True,
                    force_preprocess_cfg=_preprocessing_of_file(source),
                )
        except LOAD_ERRORS as error:
            raise _unavailable(source, error, said) from error
    _tell(said)
    if (other := other_activation(source)) and _weights_file(source):
        quick = computes_quick_gelu(source)
        say(
            f"It computes {_ACTIVATION[quick]}; if {source.weights} was trained with {_ACTIVATION[not quick]}, "
            f"use --model {other}"
        )
    return model.eval().requires_grad_(False)


def weights_are_kept(source: ModelSource) -> bool:
    """Whether weights that open_clip gets from the hub are on this machine; nothing is fetched.

    HF_HUB_OFFLINE must have been set before this module was imported.
    """
    published = open_clip.get_pretrained_cfg(_config_name(source), source.pretrained)
    if not published.get("hf_hub"):
        return False
    try:
        return bool(open_clip.download_pretrained(published))
    except LOAD_ERRORS:
        return False


def _require_activation(source: ModelSource) -> None:
    """PipelineError if the weights were trained with another activation than the model has: open_clip only warns.

    A model without a namesake that has the other one is what it should be: roberta-ViT-B-32 computes QuickGELU, which
    only open_clip's list of its weights does not say.
    """
    name, other = _config_name(source), other_activation(source)
    if other is None or source.pretrained is None or source.is_local:
        return
    weights = open_clip.get_pretrained_cfg(name, source.pretrained) or open_clip.get_pretrained_cfg(
        other, source.pretrained
    )
    computes, wanted = computes_quick_gelu(source), bool(weights.get("quick_gelu"))
    if weights and computes != wanted:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"{name} computes {_ACTIVATION[computes]}, but the weights {source.pretrained} were trained with "
            f"{_ACTIVATION[wanted]}",
            details="every embedding would be wrong",
            suggestion=f"use --model {other} --pretrained {source.pretrained}; rebuild indexes made with {name}",
        )


def computes_quick_gelu(source: ModelSource) -> bool:
    """Whether the model computes QuickGELU in place of GELU."""
    return bool((configuration(source) or {}).get("quick_gelu"))


def other_activation(source: ModelSource) -> str | None:
    """open_clip's model that differs from this one only in its activation; None if it has none."""
    name = _config_name(source)
    other = name.removesuffix(QUICK_GELU) if name.endswith(QUICK_GELU) else name + QUICK_GELU
    return other if other in open_clip.list_models() else None


def _preprocessing_of_file(source: ModelSource) -> dict[str, Any] | None:
    """For weights from a file, what all published weights of the model agree on: open_clip would take OpenAI's.

    SigLIP's, for one, want another mean and deviation. None if they don't agree, or there are none.
    """
    if not _weights_file(source):
        return None
    name = _config_name(source)
    published = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    wanted = [{key: weights[key] for key in _OF_ALL_WEIGHTS} for weights in published]
    return wanted[0] if wanted and all(one == wanted[0] for one in wanted) else None


def _weights_file(source: ModelSource) -> bool:
    return source.is_local and not source.folder


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect what libraries warn of in the block, but for deprecations; filters that are set stay in force."""
    said: list[str] = []

    def hear(message: Warning | str, category: type[Warning], *_more: object) -> None:
        if issubclass(category, (UserWarning, RuntimeWarning)):
            said.append(str(message))

    handler = logging.Handler()
    handler.addFilter(lambda record: record.levelno == logging.WARNING)  # errors are raised as well
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    with _LOADING, warnings.catch_warnings():
        warnings.simplefilter("always", append=True)
        warnings.showwarning = hear  # type: ignore[assignment]
        logging.getLogger().addHandler(handler)
        try:
            yield said
        finally:
            logging.getLogger().removeHandler(handler)


def _tell(said: Iterable[str]) -> None:
    for words in dict.fromkeys(said):
        warn(f"open_clip: {words}")


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
        with _heard() as said:
            tokenizer = open_clip.get_tokenizer(_config_name(source))
    except (*LOAD_ERRORS, ImportError) as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"the tokenizer of {source} could not be loaded",
            details=first_line(error),
            suggestion="check the connection to the model hub; some need: pip install transformers sentencepiece",
        ) from error
    _tell(said)
    return tokenizer


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


def _unavailable(source: ModelSource, error: Exception, said: Iterable[str] = ()) -> PipelineError:
    """The error for a model that can't be loaded, with what open_clip `said` before it gave up."""
    if failure := _failure_of_disk(error):
        return unreadable(source.folder or Path(source.pretrained or source.model), failure)
    if not source.names_weights and _config_name(source) not in open_clip.list_models():
        near = difflib.get_close_matches(source.model, [SHIPPED, *open_clip.list_models()], n=3)
        return PipelineError.of(
            Category.CONFIGURATION,
            f"open_clip has no model {source.model}",
            details=f"received --model {source.model}",
            suggestion=(f"did you mean {', '.join(near)}? " if near else "")
            + 'list them: python -c "import open_clip; print(open_clip.list_models())"; '
            "for a model in a local folder use --model local-dir:PATH",
        )
    tags = open_clip.list_pretrained_tags_by_model(_config_name(source))
    pretrained = [f"--pretrained {source.pretrained}"] if source.pretrained else []
    return PipelineError.of(
        Category.CONFIGURATION,
        f"the weights of {source.model} could not be loaded",
        details=" ".join("; ".join([*pretrained, str(error), *said]).split()),  # the hub's answers have many lines
        suggestion="check the connection to the model hub, or use local weights: --pretrained FILE, or --model "
        "local-dir:PATH, or --model cards, the encoder that comes with this project"
        + (f"; tags of this model: {', '.join(tags)}" if tags else ""),
    )


def _failure_of_disk(error: BaseException | None) -> OSError | None:
    """The error of the disk that made open_clip raise `error`, if one did: what lies there may be whole."""
    while error is not None:
        in_words = re.search(r"\(os error (\d+)\)", str(error))  # safetensors', which is written in Rust
        number = (isinstance(error, OSError) and error.errno) or (int(in_words[1]) if in_words else 0)
        if number in _DISK_ERRORS:
            return OSError(number, os.strerror(number))
        error = error.__cause__ or error.__context__
    return None
