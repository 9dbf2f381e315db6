"""open_clip: pictures -> unit rows, texts too.

Imports torch and open_clip, which take seconds: import it only when there is work for it.
"""

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip import transform as open_clip_transform
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2 as tensor_transforms

from helpers.embed.model_source import NOT_ALIGNED, ModelSource
from helpers.embed.models import (
    architecture,
    chosen_device,
    computes_quick_gelu,
    configuration,
    fingerprint,
    load_model,
    load_tokenizer,
    memory_named,
)
from helpers.embed.preprocess import Preparation
from helpers.embed.settings import Settings
from helpers.embed.vectors import unit_rows
from helpers.errors import Category, PipelineError
from helpers.machine_limits import usable_cores

Item = TypeVar("Item")

TORCH_VERSION = str(torch.__version__)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# On a CPU large batches only mean large intermediate results: with two threads ViT-B/32 embeds 13 images/s in batches
# of 8 to 32 and 12 in batches of 64, the offline model 40 in batches of 8 and 28 in batches of 64. Ctrl-C also cancels
# a small batch sooner. CUDA: as clip-retrieval; that and MPS were not measured. torch.compile with freezing does not
# help ViT-B/32 in fp32: 0.89 of the rate with a batch on each core, after 35 s of compiling.
BATCH = {"cpu": 8, "cuda": 256, "mps": 64}
# One thread stacks and pins a batch while the device works on the other's. On MPS there is only one: torch crashes
# with more (github.com/pytorch/pytorch/issues/197805).
CUDA_MODEL_THREADS = 2
_SPATIAL = (
    transforms.Resize,
    transforms.CenterCrop,
    open_clip_transform.ResizeKeepRatio,
    open_clip_transform.CenterCropOrPad,
)


class _OneThread:
    """Torch's number of threads, which all of the process shares: one while anybody needs it so, then as before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = self._before = 0

    def enter(self) -> None:
        """From now on torch uses one thread."""
        with self._lock:
            if not self._users:
                self._before = torch.get_num_threads()
                torch.set_num_threads(1)
            self._users += 1

    def leave(self) -> None:
        """The last to leave restores what was before."""
        with self._lock:
            self._users -= 1
            if not self._users:
                torch.set_num_threads(self._before)


_ONE_THREAD = _OneThread()


class Embedder:
    """A model's image tower on a device, and the one way from a decoded picture to a vector."""

    def __init__(self, source: ModelSource, preparation: Preparation, device: torch.device, model: Any) -> None:
        """`model` is an open_clip model with its weights, in fp32; only its image tower is kept, on the device."""
        self.source = source
        self.preparation = preparation
        self.precision = "fp32"
        self.architecture = architecture(source)
        self._device = device
        self.fingerprint = fingerprint(model.visual)
        with memory_named(device):
            self.tower: torch.nn.Module = model.visual.to(device, memory_format=torch.channels_last)
        preprocessing = open_clip_transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        # open_clip's own: size, mean and deviation, interpolation
        self.preprocessing = f"{preprocessing}, resized by torch"
        self.model_input = {**asdict(preprocessing), "size": preprocessing.input_size[1:]}  # the same as numbers
        self.quick_gelu = computes_quick_gelu(source)
        self._to_input = _spatial_part(preprocessing, preparation.size)
        self._mean, self._deviation = (
            torch.tensor(values, device=device).reshape(1, 3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )

    @classmethod
    def load(cls, source: ModelSource, preparation: Preparation, device: str, number: int = 0) -> "Embedder":
        """Load the model and its weights, in fp32, onto the device; PipelineError if that fails.

        `number` selects one of several CUDA devices.
        """
        chosen = chosen_device(device, number)
        return cls(source, preparation, chosen, load_model(source))

    @property
    def device(self) -> str:
        """The device it runs on: cpu, cuda, mps."""
        return self._device.type

    def use(self, precision: str) -> None:
        """Convert the weights to `precision`: fp32, bf16 or fp16. Rounding can't be undone."""
        with memory_named(self._device):
            self.tower.to(DTYPES[precision])
        self.precision = precision
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # torch would keep the memory of the weights as they were

    @contextmanager
    def tried_in(self, precision: str) -> Iterator[None]:
        """Within the block the weights are in `precision`; then they are as they were, to the bit.

        Meanwhile the exact ones are in the host's memory: the device never holds two models.
        """
        before, exact = self.precision, {name: tensor.data.cpu() for name, tensor in self._tensors()}
        try:
            self.use(precision)
            yield
        finally:
            for name, tensor in self._tensors():
                tensor.data = exact[name].to(self._device)
            self.precision = before

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """All that `use` converts."""
        yield from self.tower.named_parameters()
        yield from self.tower.named_buffers()

    def model_threads(self, cores: int) -> int:
        """How many threads should call `encode` at a time on `cores` cores, for the highest throughput.

        On a CPU one per core: a batch on each core embeds 13 % more than one batch across both (ViT-B/32), and a loader
        that takes a core for a moment does not keep the other one waiting at a barrier.
        """
        return {"cpu": cores, "cuda": CUDA_MODEL_THREADS}.get(self._device.type, 1)

    @contextmanager
    def for_many(self) -> Iterator[None]:
        """Within the block, each thread that calls `prepare` or `encode` uses one core, see `model_threads`."""
        _ONE_THREAD.enter()
        try:
            yield
        finally:
            _ONE_THREAD.leave()

    @contextmanager
    def can_be_given_up(self) -> Iterator[Callable[[], None]]:
        """Yield a function that cancels batches in the model at its next layer, with CancelledError.

        So Ctrl-C need not wait for them: with a large model that takes many seconds.
        """
        given_up = threading.Event()

        def go_on(_module: torch.nn.Module, _inputs: object) -> None:
            if given_up.is_set():
                raise CancelledError

        hook = torch.nn.modules.module.register_module_forward_pre_hook(go_on)
        try:
            yield given_up.set
        finally:
            hook.remove()

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """A decoded picture -> input for `encode`, uint8 [3, H, W]; thread-safe."""
        prepared: torch.Tensor = self._to_input(self.preparation.apply(image))
        return prepared

    def embed(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Decoded pictures -> float32 [B, D], unit rows, by all cores; thread-safe.

        Each core has a part of them, for torch's own threads wait for each other: where another process takes a core,
        they are ten times slower.
        """
        return self._by_all_cores(pictures, lambda part: self.encode([self.prepare(picture) for picture in part]))

    def encode_all(self, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """`encode` by all cores."""
        return self._by_all_cores(prepared, self.encode)

    def _by_all_cores(
        self, items: Sequence[Item], encode: Callable[[Sequence[Item]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        threads = self.model_threads(usable_cores()) if self.device == "cpu" else 1
        places = np.array_split(np.arange(len(items)), min(threads, len(items)))
        parts = [[items[place] for place in part.tolist()] for part in places]
        with self.for_many(), ThreadPoolExecutor(len(parts)) as pool:
            return np.concatenate(list(pool.map(encode, parts)))

    def encode(self, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Prepared pictures -> float32 [B, D], unit rows; thread-safe.

        PipelineError (Build Error) if the model's output overflows.
        """
        with memory_named(self._device), torch.inference_mode():
            rows = self.features(torch.stack(list(prepared))).float().cpu().numpy()
        if not np.isfinite(rows).all():
            raise PipelineError.of(
                Category.BUILD,
                "the model's output overflows",
                details=f"{self.source} in {self.precision} on {self.device}",
                suggestion="use --precision fp32",
            )
        return unit_rows(rows)

    def features(self, batch: torch.Tensor) -> torch.Tensor:
        """Prepared pictures, uint8 [B, 3, H, W] -> the model's features, [B, D], on its device, of any norm."""
        pinned = self._device.type == "cuda"
        # Only pinned memory may be copied asynchronously: other memory might be reused too early
        # (github.com/pytorch/pytorch/issues/139550)
        batch = (batch.pin_memory() if pinned else batch).to(self._device, non_blocking=pinned).float()
        # ToTensor and Normalize, for the whole batch at once, on the model's device
        batch = batch.div_(255).sub_(self._mean).div_(self._deviation)
        batch = batch.to(DTYPES[self.precision], memory_format=torch.channels_last)
        return features_of(self.tower(batch))

    @property
    def settings(self) -> Settings:
        """What its rows depend on besides their pictures."""
        return Settings(
            model=self.source.name,
            weights_sha256=self.fingerprint,
            precision=self.precision,
            preprocessing=self.preprocessing,
            target_size=self.preparation.size,
            fit=self.preparation.fit,
            architecture_sha256=self.architecture,
        )


class TextEmbedder:
    """A model's text tower, in fp32, and the one way from a text to a vector."""

    def __init__(self, source: ModelSource, device: torch.device, model: Any) -> None:
        """`model` is an open_clip model with its weights, in fp32; its image tower is dropped."""
        self.fingerprint = fingerprint(model.visual)  # of the image tower that it was trained with
        self._device = device
        del model.visual
        with memory_named(device):
            self._model = model.to(device)
        self._tokenize = load_tokenizer(source)

    @classmethod
    def load(cls, source: ModelSource, device: str) -> "TextEmbedder":
        """Load the model and its weights; PipelineError if that fails, or if its text tower is not trained."""
        chosen = chosen_device(device, 0)
        config = configuration(source)
        if (source.tuning or {}).get("text") == NOT_ALIGNED:
            raise _no_text_tower(source, "it was tuned on pictures alone (tune_model.py --blend keeps text search)")
        if config is not None and "text_cfg" not in config:
            raise _no_text_tower(source, "its configuration has no text_cfg")
        model = load_model(source)
        if _is_untrained(model.logit_scale, (config or {}).get("init_logit_scale", _initial_logit_scale(model))):
            raise _no_text_tower(
                source, f"its logit_scale is {float(model.logit_scale):.4f}, where open_clip starts the training"
            )
        return cls(source, chosen, model)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts -> float32 [B, D], unit rows; a text is cut where it exceeds the model's context (CLIP: 77 tokens)."""
        with memory_named(self._device), torch.inference_mode():
            rows = self._model.encode_text(self._tokenize(list(texts)).to(self._device))
            return unit_rows(rows.float().cpu().numpy())


def features_of(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """An image tower's output -> its features, [B, D]: CoCa's returns its tokens, too."""
    return output if isinstance(output, torch.Tensor) else output[0]


def _no_text_tower(source: ModelSource, reason: str) -> PipelineError:
    return PipelineError.of(
        Category.CONFIGURATION,
        f"{source} has no trained text tower, so it can't search by text",
        details=reason,
        suggestion="build the index with a model that was trained on pictures with texts, as the default was "
        "(no --model); any index can be searched by a card's name: query_index.py --name",
    )


def _initial_logit_scale(model: Any) -> float:
    """The default of open_clip's constructor: ln(1 / 0.07) = 2.6593."""
    return float(inspect.signature(type(model).__init__).parameters["init_logit_scale"].default)


def _is_untrained(logit_scale: torch.Tensor, initial: float) -> bool:
    """Whether the temperature is where it began, to the precision of the weights: contrastive training moves it."""
    return any(float(logit_scale) == float(torch.tensor(initial, dtype=dtype)) for dtype in DTYPES.values())


def _spatial_part(
    preprocessing: open_clip_transform.PreprocessCfg, side: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The geometric steps of open_clip's preprocessing, for a canvas uint8 [3, side, side]."""
    steps = [
        step
        for step in open_clip_transform.image_transform_v2(preprocessing, is_train=False).transforms
        if isinstance(step, _SPATIAL)
    ]
    composed: Callable[[torch.Tensor], torch.Tensor] = transforms.Compose(
        [
            # Its own path for tensors goes through float32, which takes three times as long
            tensor_transforms.Resize(_resized_to(step, side), interpolation=step.interpolation, antialias=True)
            if isinstance(step, (transforms.Resize, open_clip_transform.ResizeKeepRatio))
            else step
            for step in steps
        ]
    )
    return composed


def _resized_to(step: transforms.Resize | open_clip_transform.ResizeKeepRatio, side: int) -> int | list[int]:
    """The size to which `step`, the first of all, resizes a square of `side` pixels."""
    if isinstance(step, transforms.Resize):
        return step.size  # type: ignore[no-any-return]
    height, width = step.get_params(Image.new("1", (side, side)), step.size, step.longest)
    return [height, width]
