"""Checks that need the packages: do these work, is there a GPU, are models and Scryfall within reach?

It imports torch and open_clip, which takes seconds.
"""

import importlib
import os
import shutil
import warnings
from pathlib import Path

from safetensors import SafetensorError, safe_open

from helpers.about import DEFAULT_USER_AGENT
from helpers.build.request import BuildRequest
from helpers.cards.bulk_list import kept_lists
from helpers.doctor.finding import MISSING, NOTE, OK, Finding
from helpers.embed.model_source import SHIPPED, ModelSource, find_model, hub_answers
from helpers.errors import PipelineError, first_line
from helpers.net.probe import probe
from helpers.packages import requirements
from helpers.session import Http

BROKEN = (ImportError, OSError, AttributeError, RuntimeError, TypeError, ValueError)  # what a damaged package raises


def imports() -> Finding:
    """Whether each package can be imported."""
    for wanted in requirements():
        try:
            importlib.import_module(wanted.module)
        except BROKEN as error:
            advice = "make the environment anew: remove it, then run make env"
            return Finding(MISSING, "imports", f"{wanted.package} is there but fails: {first_line(error)}", advice)
    return Finding(OK, "imports", "each package can be imported")


def device() -> Finding:
    """What the model will run on, and why it is no NVIDIA GPU if there is a driver for one."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        import torch

        from helpers.embed.models import chosen_device

        chosen = chosen_device("auto").type
    if chosen == "cuda":
        return Finding(OK, "device", f"cuda: {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    if chosen != "cpu" or not shutil.which("nvidia-smi"):
        return Finding(OK, "device", chosen)
    if not torch.version.cuda:
        found = f"cpu, though there is an NVIDIA driver: PyTorch {torch.__version__} has no CUDA"
        return Finding(NOTE, "device", found, "for the GPU run make env VENV=.venv-cuda")
    why = "; ".join(first_line(warning.message) for warning in said if isinstance(warning.message, Warning))
    found = f"cpu: PyTorch's CUDA {torch.version.cuda} can't use the NVIDIA driver" + (f" ({why})" if why else "")
    return Finding(NOTE, "device", found, "run nvidia-smi; update the driver, or install a PyTorch that fits it")


def card_encoder() -> Finding:
    """Whether the model that comes with the project is there and whole."""
    from helpers.embed.models import WEIGHTS

    try:
        weights = Path(find_model(SHIPPED, "").folder or "") / WEIGHTS
        with safe_open(weights, framework="numpy") as file:  # it compares the size with what the header says
            return Finding(OK, "encoder", f"models/cards is whole: {len(file.keys())} tensors")
    except (PipelineError, OSError, SafetensorError) as error:
        return Finding(MISSING, "encoder", f"models/cards: {first_line(error)}", "git checkout models/cards")


def clip(offline: bool) -> Finding:
    """Whether the default model's weights are here or at hand; a build can take `--model cards` instead."""
    from helpers.embed.models import weights_are_kept

    source = ModelSource(BuildRequest().model, BuildRequest().pretrained)
    if weights_are_kept(source):
        return Finding(OK, "CLIP", f"{source.display_name} is on this machine")
    if offline:
        return Finding(NOTE, "CLIP", f"{source.display_name} is not on this machine", "use --model cards")
    if hub_answers():
        return Finding(OK, "CLIP", f"{source.display_name} is fetched from the model hub when it is first needed")
    found = f"{source.display_name} is not on this machine, and the model hub can't be reached"
    return Finding(NOTE, "CLIP", found, "use --model cards, or check the network or HF_ENDPOINT")


def scryfall(api_url: str | None, cache: Path) -> Finding:
    """Whether the server with the card lists answers: one request."""
    address = api_url or Http().api_url
    status = probe(f"{address}/bulk-data", DEFAULT_USER_AGENT)
    if status is not None and 200 <= status < 400:
        return Finding(OK, "Scryfall", f"{address} answers")
    found = (
        f"{address} can't be reached"
        if status is None
        else f"{address} answers with status {status}"
        if status
        else f"{address} has no proper answer"
    )
    if _has_list(cache):
        return Finding(NOTE, "Scryfall", found, f"use the list in {cache}: --offline")
    advice = "check the network and HTTPS_PROXY; to try things without: make demo"
    return Finding(MISSING, "Scryfall", found, advice)


def card_list(cache: Path) -> Finding:
    """Whether there is a list to work with, where the network is left out."""
    if _has_list(cache):
        return Finding(OK, "Scryfall", f"not asked; there is a list in {cache}")
    return Finding(NOTE, "Scryfall", f"not asked; there is no list in {cache}", "a build needs one, or --pictures")


def _has_list(cache: Path) -> bool:
    return os.access(cache, os.R_OK | os.X_OK) and bool(kept_lists(cache))
