"""The model's precision: the fastest of the device, if it tells cards apart as well as fp32."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from helpers.embed.embedder import Embedder
from helpers.errors import PipelineError, first_line
from helpers.talk import warn

SAMPLE = 16  # pictures embedded in both precisions
MAX_SHIFT = 0.25  # of a row by rounding, as a share of the distance to its nearest neighbour


def settle_precision(
    embedder: Embedder, wanted: str, rows_there: Sequence[str], sample: Callable[[], Sequence[torch.Tensor]]
) -> str:
    """Set `embedder` to the `wanted` precision, or for `auto` to a suitable one; return the reason for it.

    `auto` takes the first of the existing rows' precisions (`rows_there`) that is fp32 or fast here, so that the rows
    can be reused. Otherwise it tries the fast ones on a few prepared pictures from `sample`.
    """
    fast = fast_precisions(embedder.device)
    if wanted != "auto":
        if embedder.device == "cpu" and wanted not in ("fp32", *fast):
            warn(f"this CPU has no known hardware support for {wanted}: expect a tenth of the speed of fp32")
        embedder.use(wanted)
        return f"--precision {wanted}"
    for there in rows_there:
        if there in ("fp32", *fast):
            embedder.use(there)
            return "auto: the existing rows have it"
    if not fast:
        return f"auto: no faster one is known for this {embedder.device}"
    return _tried(embedder, fast, sample())


def _tried(embedder: Embedder, fast: Sequence[str], pictures: Sequence[torch.Tensor]) -> str:
    """Set `embedder` to the first of the `fast` precisions that is exact enough on `pictures`; return the findings."""
    exact = embedder.encode(pictures) if pictures else np.empty((0, 1), np.float32)
    refused = []
    for precision in fast:
        try:
            with embedder.tried_in(precision):
                shift = largest_shift(exact, embedder.encode(pictures)) if len(exact) else None
        except (RuntimeError, PipelineError) as error:  # not supported by the device, or it overflows
            refused.append(f"{precision} fails here ({first_line(error)})")
            continue
        if shift is None:
            return "auto: too few different pictures to try another one on"
        measured = f"shifts embeddings by {shift:.0%} of the distance to their nearest neighbour"
        if shift <= MAX_SHIFT:
            embedder.use(precision)
            return f"auto: {'; '.join([measured, *refused])}"
        refused.append(f"{precision} {measured}, more than {MAX_SHIFT:.0%}")
    return f"auto: {'; '.join(refused)}"


def precision_of_query(device: str, precision: str) -> str:
    """The precision for querying an index in `precision`: the same if the device is fast in it, else fp32.

    Its rows are close enough to fp32's for that, or `auto` would not have chosen another precision.
    """
    return precision if precision in fast_precisions(device) else "fp32"


def fast_precisions(device: str) -> tuple[str, ...]:
    """The precisions known to be faster than fp32 on `device`; the most exact first.

    bf16 weights are two to four times as fast as fp32 on CPUs that compute in bf16 (AVX512-BF16, AMX). Others emulate
    it, seven times as slowly. CUDA has fp16 on tensor cores from Volta on, three bits more than bf16, and bf16,
    which can't overflow, from Ampere on. MPS was not measured.
    """
    if device == "cpu":
        able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return ("bf16",) if able.get("avx512_bf16") or able.get("amx_bf16") else ()
    if device == "cuda":
        major, _ = torch.cuda.get_device_capability()
        return ("fp16", "bf16") if major >= 8 else ("fp16",) if major >= 7 else ()
    return ()


def largest_shift(exact: NDArray[np.float32], other: NDArray[np.float32]) -> float | None:
    """How far rounding moves a row at most, as a share of the distance to its nearest neighbour in the sample.

    `exact` and `other` are rows of the same pictures, float32 [N, D]. The mean of `exact` is subtracted from both and
    they are normalised again: what all cards have in common would hide the rest. None if rows hardly differ.
    """
    if len(exact) < 2:
        return None
    mean = exact.mean(axis=0)
    a, b = (rows - mean for rows in (exact, other))
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    if float(min(lengths[0].min(), lengths[1].min())) < 1e-4:
        return None
    a, b = a / lengths[0][:, None], b / lengths[1][:, None]
    apart = np.linalg.norm(a[:, None] - a[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return float((np.linalg.norm(a - b, axis=1) / np.maximum(apart.min(axis=1), 1e-9)).max())
