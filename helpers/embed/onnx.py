"""An image tower as ONNX, for runtimes of other languages: made, stored in few bytes, and compared with torch.

Imports torch and onnx, which take seconds: import it only when there is work for it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from helpers.embed.embedder import Embedder, features_of
from helpers.embed.vectors import SCALE_FACTOR
from helpers.errors import Category, PipelineError, first_line

OPSET = 20  # GELU is an operator from here on
MOST_BYTES = 2_000_000_000  # of a file: protobuf, which ONNX files are, ends at 2 GiB
# Least cosine of any picture's vector to torch's: below, something is broken. Measured with models/cards: 1.000000,
# 0.999996, 0.9963; the nearest other card is at 0.9 and less
FLOORS = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.97}
_SMALL = 1024  # values: tensors of fewer are kept as they are
_MATRICES = ("MatMul", "Gemm")


class Cosine(NamedTuple):
    """How near the vectors of pictures are to torch's."""

    least: float
    mean: float
    pictures: int


class _UnitFeatures(torch.nn.Module):
    """An image tower, from normalised pixels to features of norm 1."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self._tower = tower

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(features_of(self._tower(pixels)), dim=-1)


def tower_as_onnx(embedder: Embedder) -> onnx.ModelProto:
    """The image tower, in fp32: `pixels`, float32 [B, 3, H, W], normalised -> `embedding`, float32 [B, D], of norm 1.

    By torch's exporter of torch.export's graphs: the older one, of TorchScript, is no longer maintained. PipelineError
    (Build Error) if it can't be exported, or is too large for a file.
    """
    if (size := sum(value.numel() * 4 for value in embedder.tower.state_dict().values())) > MOST_BYTES:
        raise _failed(embedder, f"{size:,} bytes of weights; an ONNX file holds {MOST_BYTES:,}")
    pixels = torch.zeros(2, 3, *embedder.model_input["size"])
    try:
        program = torch.onnx.export(
            _UnitFeatures(embedder.tower).eval(),
            (pixels,),
            dynamo=True,
            input_names=["pixels"],
            output_names=["embedding"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise _failed(embedder, first_line(error)) from error
    assert program is not None  # noqa: S101  # no file was named
    model = program.model_proto
    _forget_where(model)
    return model


def _forget_where(model: onnx.ModelProto) -> None:
    """Remove the notes of the exporter: paths and lines of this machine."""
    graph = model.graph
    del model.metadata_props[:]
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""


def write_encoder(exact: onnx.ModelProto, precision: str, path: Path) -> None:
    """Write `exact`, of `tower_as_onnx`, with its weights in `precision`, one of FLOORS.

    Runtimes unfold the weights when they load the model, and compute in fp32: at its speed, in a half or a quarter of
    the download. Only where most weights are in matrices, int8 computes with them: transformers get twice as fast by
    onnxruntime's dynamic quantisation (ViT-B/32 on a core: 104 ms, then 44), and convolutions would get slower.
    """
    model = onnx.ModelProto()
    model.CopyFrom(exact)
    if precision == "int8" and _is_of_matrices(model):
        quantize_dynamic(model, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
        model = onnx.load(path)
    if precision != "fp32":
        _store(model, precision)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _is_of_matrices(model: onnx.ModelProto) -> bool:
    """Whether more than half of the weights are of products of matrices."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    used = {name for node in model.graph.node if node.op_type in _MATRICES for name in node.input}
    return 2 * sum(size for name, size in sizes.items() if name in used) > sum(sizes.values())


def _store(model: onnx.ModelProto, precision: str) -> None:
    """Store matrices and kernels as int8 with a scale for each output, if so asked; all other large tensors as fp16."""
    graph, outputs = model.graph, _outputs(model)
    unfolding: list[onnx.NodeProto] = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < _SMALL:
            continue
        graph.initializer.remove(tensor)
        as_int8 = precision == "int8" and tensor.name in outputs
        stored, nodes = _int8(tensor.name, values, outputs[tensor.name]) if as_int8 else _fp16(tensor.name, values)
        graph.initializer.extend(stored)
        unfolding += nodes
    nodes = [*unfolding, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _outputs(model: onnx.ModelProto) -> dict[str, int]:
    """The axis of a layer's outputs in its weights, by their names; without weights that are used otherwise, too."""
    uses = Counter(name for node in model.graph.node for name in node.input)
    axes = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", *_MATRICES) and uses[node.input[1]] == 1:
            transposed = any(one.name == "transB" and one.i for one in node.attribute)
            axes[node.input[1]] = 0 if node.op_type == "Conv" or transposed else -1
    return axes


_Stored = tuple[list[onnx.TensorProto], list[onnx.NodeProto]]


def _fp16(name: str, values: NDArray[np.float32]) -> _Stored:
    cast = onnx.helper.make_node("Cast", [f"{name}_fp16"], [name], to=onnx.TensorProto.FLOAT)
    return [numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16")], [cast]


def _int8(name: str, values: NDArray[np.float32], axis: int) -> _Stored:
    others = tuple(np.delete(np.arange(values.ndim), axis).tolist())
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / SCALE_FACTOR, 1).astype(np.float32)
    codes = numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}_int8")
    cast = onnx.helper.make_node("Cast", [f"{name}_int8"], [f"{name}_codes"], to=onnx.TensorProto.FLOAT)
    scaled = onnx.helper.make_node("Mul", [f"{name}_codes", f"{name}_scale"], [name])
    return [codes, numpy_helper.from_array(scale, f"{name}_scale")], [cast, scaled]


def check_encoder(path: Path, precision: str, embedder: Embedder, pictures: Sequence[torch.Tensor]) -> Cosine:
    """Run the encoder at `path` by onnxruntime on prepared pictures (at least 1), and compare it with torch.

    PipelineError (Build Error) if it is no valid ONNX, can't be run, or is farther from torch than FLOORS allows.
    """
    try:
        onnx.checker.check_model(path, full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        rows = np.concatenate([session.run(None, {"pixels": batch})[0] for batch in _batches(embedder, pictures)])
    except Exception as error:  # onnxruntime's have no common base
        raise _failed(embedder, f"{precision}: {first_line(error)}") from error
    apart = rows.astype(np.float64) - embedder.encode_all(pictures)
    cosines = 1 - np.square(apart).sum(axis=1) / 2  # of unit rows; where they are not, less than 1, too
    found = Cosine(round(float(cosines.min()), 6), round(float(cosines.mean()), 6), len(pictures))
    if not found.least >= FLOORS[precision]:  # NaN is not
        details = f"{precision}: least cosine {found.least:.4f} of {len(pictures)} cards, less than {FLOORS[precision]}"
        raise _failed(embedder, details, "export another precision (--encoder fp32), or leave --encoder out")
    return found


def _batches(embedder: Embedder, pictures: Sequence[torch.Tensor]) -> Iterator[NDArray[np.float32]]:
    """The pictures as input of the encoder: one alone, as clients ask, and the others."""
    mean, deviation = (np.array(embedder.model_input[name], np.float32)[:, None, None] for name in ("mean", "std"))
    for part in filter(None, (pictures[:1], pictures[1:])):
        yield np.asarray((torch.stack(list(part)).numpy() / np.float32(255) - mean) / deviation, np.float32)


def _failed(
    embedder: Embedder, details: str, suggestion: str = "leave --encoder out, or use another model"
) -> PipelineError:
    return PipelineError.of(
        Category.BUILD,
        f"{embedder.source} can't be exported as it should be; nothing was changed",
        details=details,
        suggestion=suggestion,
    )
