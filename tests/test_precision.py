"""Which precision a build takes, and why."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import build_embeddings
from helpers.embed import precision
from helpers.embed.embedder import Embedder
from helpers.embed.model_source import ModelSource
from helpers.embed.precision import least_centred_cosine, settle_precision
from helpers.embed.preprocess import Preparation
from helpers.embed.vectors import unit_rows
from helpers.errors import PipelineError
from helpers.validation import decode_image
from tests.made_cache import make_cache, make_tiny_model
from tests.pictures import encoded

SOME = [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 16


class Pretended:
    """An embedder whose rows in the quick precision are off by `noise`; 0.9 of each row is what all have in common."""

    device = "cpu"

    def __init__(self, noise: float, precision: str = "fp32") -> None:
        self.noise, self.precision = noise, precision

    def at(self, precision: str) -> "Pretended":
        return Pretended(self.noise, precision)

    def encode(self, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        if self.noise == float("inf") and self.precision != "fp32":
            raise RuntimeError('"layer_norm" not implemented for this\nmore')
        random = np.random.default_rng(0)
        common, own = random.standard_normal(64), random.standard_normal((len(prepared), 64))
        off = random.standard_normal(own.shape) * (self.noise if self.precision != "fp32" else 0)
        return unit_rows((3 * common + own + off).astype(np.float32))


def settle(noise: float, wanted: str = "auto", there: Sequence[str] = (), count: int = 16) -> tuple[str, str]:
    pretended = cast(Any, Pretended(noise))
    embedder, why = settle_precision(pretended, wanted, there, lambda: SOME[:count])
    return embedder.precision, why


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Say what the device computes quickest in."""
    return lambda name: monkeypatch.setattr(precision, "quick_precision", lambda device: name)


def test_what_is_asked_for_is_taken(quick: Callable[[str], None]) -> None:
    quick("fp32")
    assert settle(9, "bf16") == ("bf16", "--precision bf16")
    assert settle(9, "fp16", there=["bf16"])[0] == "fp16"


def test_auto_takes_the_quick_one_if_its_rows_are_as_good(quick: Callable[[str], None]) -> None:
    quick("bf16")
    assert settle(0.01)[0] == "bf16"
    chosen, why = settle(0.1)  # a cosine above 0.999 with what all rows have in common, below without it
    assert chosen == "fp32"
    assert "0.999 is asked for" in why


def test_auto_takes_fp32_where_the_quick_one_fails_or_can_not_be_tried(quick: Callable[[str], None]) -> None:
    quick("fp16")
    assert settle(float("inf")) == ("fp32", 'auto: fp16 fails here ("layer_norm" not implemented for this)')
    for count in (0, 1):
        chosen, why = settle(0, count=count)
        assert chosen == "fp32"
        assert "too few" in why


def test_auto_keeps_to_the_rows_that_are_there(quick: Callable[[str], None]) -> None:
    quick("bf16")
    assert settle(9, there=["bf16"])[0] == "bf16"  # was tried when they were made
    assert settle(0, there=["fp32"])[0] == "fp32"
    assert settle(0.01, there=["fp16"])[0] == "bf16"  # which this device would not take
    assert settle(0, there=["fp16", "fp32"])[0] == "fp32"
    quick("fp32")
    assert settle(0, there=["bf16"])[0] == "fp32"


def test_a_slow_precision_is_taken_with_a_word(
    quick: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for able, wanted, slow in (("fp32", "bf16", True), ("bf16", "bf16", False), ("bf16", "fp16", True)):
        quick(able)
        assert settle(9, wanted)[0] == wanted
        assert (f"no arithmetic for {wanted}" in capsys.readouterr().err) == slow


@pytest.mark.parametrize(("least", "taken"), [(0.9, "bf16"), (0.9999, "fp32")])
def test_auto_tries_on_the_pictures_of_the_run(
    quick: Callable[[str], None],
    tmp_path: Path,
    least: float,
    taken: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, out = make_cache(tmp_path / "cache", ["tst"] * 20).root, tmp_path / "out"
    words = ["--cache", cache, "--out", out, "--offline", "--model", f"local-dir:{make_tiny_model(tmp_path / 'tiny')}"]
    quick("bf16")
    monkeypatch.setattr(precision, "MIN_COSINE", least)  # of random weights
    assert build_embeddings.main(list(map(str, words))) == 0
    manifest = json.loads((out / "build_manifest.json").read_text())
    chosen = manifest["embedding"]["precision_chosen"]
    assert manifest["model"]["precision"] == taken
    assert re.match(r"auto: rows in bf16 have a cosine of at least 0\.9\d+ to fp32 on 16 pictures", chosen)
    assert f"Precision: {taken} ({chosen})" in capsys.readouterr().err


def test_rows_that_hardly_differ_say_nothing() -> None:
    same = unit_rows(np.ones((4, 8), np.float32))
    assert least_centred_cosine(same, same) is None


def test_a_real_model_in_bf16_makes_nearly_the_rows_of_fp32(model: Path) -> None:
    embedder = Embedder.load(ModelSource(f"local-dir:{model}", None), Preparation(384, "pad"), "cpu")
    prepared = [embedder.prepare(decode_image(encoded(size=(488, 680), seed=seed))) for seed in range(4)]
    other = embedder.at("bf16")
    rows = other.encode(prepared)
    assert rows.dtype == np.float32
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    exact = embedder.encode(prepared)
    assert float((rows * exact).sum(axis=1).min()) >= 0.99
    assert not np.array_equal(rows, exact)
    assert other.fingerprint == embedder.fingerprint


def test_numbers_that_overflow_are_said_at_once(model: Path) -> None:
    embedder = Embedder.load(ModelSource(f"local-dir:{model}", None), Preparation(64, "pad"), "cpu")
    embedder._deviation = embedder._deviation * 0
    prepared = embedder.prepare(decode_image(encoded()))
    with pytest.raises(PipelineError, match="overflow") as caught:
        embedder.encode([prepared])
    assert "--precision fp32" in caught.value.problems[0].suggestion
