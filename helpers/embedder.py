"""open_clip: prepared pictures -> unit rows.

The only user of torch and open_clip. Import it only once there is work for it: that takes seconds.
"""

import functools
import hashlib
import logging
import pickle
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from helpers.errors import Category, PipelineError
from helpers.model_source import ModelSource
from helpers.preprocess import Preparation
from helpers.vectors import unit_rows

logging.getLogger().addHandler(logging.NullHandler())  # open_clip logs through the root: errors reach us as exceptions
# On a CPU a large batch only makes large intermediate results: on 2 cores, loaders running, the offline model embeds
# 47 images/s in batches of 16, 38 in batches of 32, 26 in batches of 64, and without channels_last half of that.
CPU_BATCH = 16
TORCH_VERSION = str(torch.__version__)


class Embedder:
    """A loaded model on a device, and the one way from a decoded picture to a vector."""

    def __init__(
        self,
        source: ModelSource,
        preparation: Preparation,
        device: torch.device,
        model: torch.nn.Module,
        preprocessing: PreprocessCfg,
    ) -> None:
        self.source = source
        self.preparation = preparation
        self._device = device
        self._model = model
        self._preprocess: Callable[[Image.Image], torch.Tensor] = image_transform_v2(preprocessing, is_train=False)
        self.preprocessing = str(preprocessing)  # open_clip's own: size, mean and deviation, interpolation
        self.precision = "float32"

    @classmethod
    def load(cls, source: ModelSource, preparation: Preparation, device: str) -> "Embedder":
        """Load the model with its weights onto the device; PipelineError where one of the three can't be had."""
        chosen = _device(device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = open_clip.create_model(
                    source.model, pretrained=source.pretrained, device=chosen, require_pretrained=True
                )
        except (RuntimeError, OSError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise _unavailable(source, error) from error
        model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        preprocessing = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        return cls(source, preparation, chosen, model, preprocessing)

    @property
    def device(self) -> str:
        """Where it runs: cpu, cuda, mps."""
        return self._device.type

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """A decoded picture -> the model's input, float32 [3, H, W]; safe to call from several threads."""
        return self._preprocess(self.preparation.apply(image))

    def encode(self, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Prepared pictures -> float32 [B, D], unit rows."""
        batch = torch.stack(list(prepared)).to(self._device, memory_format=torch.channels_last)
        at_once = CPU_BATCH if self._device.type == "cpu" else len(batch)
        with torch.inference_mode():
            features = torch.cat([self._model.encode_image(part) for part in torch.split(batch, at_once)])  # type: ignore[operator]
        return unit_rows(features.float().cpu().numpy())

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the image tower's weights: two models with the same one give the same vectors."""
        digest = hashlib.sha256()
        tower: torch.nn.Module = self._model.visual  # type: ignore[assignment]
        for name, tensor in sorted(tower.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _device(wanted: str) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[wanted]:
        raise PipelineError.of(
            Category.CONFIGURATION,
            f"torch finds no {wanted} device here",
            details=f"received --device {wanted}; available: {', '.join(n for n, there in available.items() if there)}",
            suggestion="use --device auto, or install a torch built for this device",
        )
    return torch.device(wanted)


def _unavailable(source: ModelSource, error: Exception) -> PipelineError:
    if not source.names_weights and source.model not in open_clip.list_models():
        return PipelineError.of(
            Category.CONFIGURATION,
            f"open_clip knows no model {source.model}",
            details=f"received --model {source.model}",
            suggestion='list them: python -c "import open_clip; print(open_clip.list_models())"',
        )
    tags = open_clip.list_pretrained_tags_by_model(source.model)
    return PipelineError.of(
        Category.CONFIGURATION,
        f"the weights of {source.model} could not be loaded",
        details=f"--pretrained {source.pretrained}: {error}" if source.pretrained else str(error),
        suggestion="check the connection to the model hub, or use weights that are here: --pretrained FILE, or --model "
        "local-dir:PATH (scripts/make_offline_model.py makes a small one for trying out; make demo uses it)"
        + (f"; tags of this model: {', '.join(tags)}" if tags else ""),
    )
