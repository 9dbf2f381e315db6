"""In which precision the model computes: what the device does well, if the rows are as good as in fp32."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from helpers.embed.embedder import Embedder
from helpers.errors import PipelineError, first_line
from helpers.talk import warn

SAMPLE = 16  # pictures that are embedded both ways
LEAST_COSINE = 0.999  # of a row to the one made in fp32, both less the mean: what all cards share would hide the rest


def settle_precision(
    embedder: Embedder, wanted: str, rows_there: Sequence[str], sample: Callable[[], Sequence[torch.Tensor]]
) -> tuple[Embedder, str]:
    """The embedder in the precision to use, and why that one.

    `auto` takes the first of those that `rows_there` have, which could not be used else, that is fp32 or what is quick
    here: they were tried when they were made, or asked for by name. Else `sample` gives a few prepared pictures to try
    it on.
    """
    quick = quick_precision(embedder.device)
    if wanted != "auto":
        if embedder.device == "cpu" and wanted not in ("fp32", quick):
            warn(f"this CPU has no arithmetic for {wanted} that we know of: expect a tenth of the speed of fp32")
        return embedder.at(wanted), f"--precision {wanted}"
    for there in rows_there:
        if there in ("fp32", quick):
            return embedder.at(there), "auto: the rows that are there have it"
    if quick == "fp32":
        return embedder, f"auto: nothing else is known to be quicker on this {embedder.device}"
    return _tried(embedder, quick, sample())


def _tried(embedder: Embedder, quick: str, pictures: Sequence[torch.Tensor]) -> tuple[Embedder, str]:
    """The embedder in the `quick` precision, if its rows of `pictures` are good enough, and what was found."""
    exact = embedder.encode(pictures) if pictures else None
    try:
        other = embedder.at(quick)
        cosine = None if exact is None else least_centred_cosine(exact, other.encode(pictures))
    except (RuntimeError, PipelineError) as error:  # of the device: it can't compute so, or its numbers overflow
        return embedder, f"auto: {quick} fails here ({first_line(error)})"
    if cosine is None:
        return embedder, f"auto: too few different pictures to try {quick} on"
    found = f"rows in {quick} have a cosine of at least {cosine:.5f} to fp32 on {len(pictures)} pictures"
    if cosine < LEAST_COSINE:
        return embedder, f"auto: {found}, {LEAST_COSINE} is asked for"
    return other, f"auto: {found}"


def as_built(embedder: Embedder, precision: str) -> Embedder:
    """The embedder in the precision of an index's rows, if the device is quick with it; else in fp32.

    Rows are near enough to fp32's for that, or the build would not have taken another precision by itself.
    """
    return embedder.at(precision) if precision == quick_precision(embedder.device) else embedder


def quick_precision(device: str) -> str:
    """The precision that `device` computes in the quickest, as far as we know.

    bf16 weights are twice as quick as fp32 on CPUs with arithmetic for them (AVX512-BF16, AMX); without it they are
    emulated, seven times as slow. CUDA has bf16 from Ampere on, fp16 on tensor cores from Volta on. On MPS nothing was
    measured, so nothing but fp32 is taken there.
    """
    if device == "cpu":
        able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    if device == "cuda":
        major, _ = torch.cuda.get_device_capability()
        return "bf16" if major >= 8 else "fp16" if major >= 7 else "fp32"
    return "fp32"


def least_centred_cosine(exact: NDArray[np.float32], other: NDArray[np.float32]) -> float | None:
    """The least cosine of a row of `other` to its row of `exact`, float32 [N, D], both less the mean of `exact`.

    None where the rows hardly differ from each other, so that there is nothing to compare.
    """
    mean = exact.mean(axis=0)
    a, b = exact - mean, other - mean
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if len(exact) < 2 or float(lengths.min()) < 1e-8:
        return None
    return float((np.sum(a * b, axis=1) / lengths).min())
