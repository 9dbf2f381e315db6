"""Which precision a build takes, and why."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from helpers.embed.models import fingerprint
from helpers.embed.precision import largest_shift, precision_of_query, settle_precision
from helpers.embed.preprocess import Preparation
from helpers.embed.vectors import unit_rows
from helpers.errors import PipelineError
from helpers.validation import decode_image
from tests.made_cache import make_cache, make_tiny_model
from tests.pictures import encoded

SOME = [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 16


class Pretended:
    """An embedder whose rows of 16 pictures are off by `noise` where it rounds; most of each row all have in common."""

    device = "cpu"

    def __init__(self, noise: dict[str, float], precision: str = "fp32") -> None:
        self.noise, self.precision = noise, precision

    @contextmanager
    def tried_in(self, precision: str) -> Iterator[None]:
        before, self.precision = self.precision, precision
        try:
            yield
        finally:
            self.precision = before

    def use(self, precision: str) -> None:
        self.precision = precision

    def encode(self, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        noise = self.noise.get(self.precision, 0)
        if noise == float("inf"):
            raise RuntimeError('"layer_norm" not implemented for this\nmore')
        random = np.random.default_rng(0)
        common, own = random.standard_normal(64), random.standard_normal((len(prepared), 64))
        off = random.standard_normal(own.shape) * noise
        return unit_rows((3 * common + own + off).astype(np.float32))


def settle(
    noise: float | dict[str, float], wanted: str = "auto", there: Sequence[str] = (), count: int = 16
) -> tuple[str, str]:
    """The precision that is used in the end, and why."""
    noises = noise if isinstance(noise, dict) else {"bf16": noise, "fp16": noise}
    pretended = cast(Any, Pretended(noises))
    why = settle_precision(pretended, wanted, there, lambda: SOME[:count])
    return pretended.precision, why


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what the device computes faster in than in fp32."""
    return lambda *names: monkeypatch.setattr(precision, "fast_precisions", lambda device: names)


def test_what_is_asked_for_is_taken(fast: Callable[..., None]) -> None:
    fast()
    assert settle(9, "bf16") == ("bf16", "--precision bf16")
    assert settle(9, "fp16", there=["bf16"])[0] == "fp16"


def test_auto_takes_a_fast_one_whose_rows_stay_far_from_all_others(fast: Callable[..., None]) -> None:
    fast("bf16")
    chosen, why = settle(0.2)  # a fifth of the way; what all rows have in common must not make it a twentieth
    assert chosen == "bf16"
    assert re.fullmatch(r"auto: shifts embeddings by 2\d% of the distance to their nearest neighbour", why)
    chosen, why = settle(0.3)
    assert chosen == "fp32"
    assert re.fullmatch(r"auto: bf16 shifts embeddings by 3\d% of .* neighbour, more than 25%", why)


def test_auto_tries_the_most_exact_one_first(fast: Callable[..., None]) -> None:
    fast("fp16", "bf16")
    assert settle(0.01)[0] == "fp16"
    chosen, why = settle({"fp16": float("inf"), "bf16": 0.1})
    assert chosen == "bf16"
    assert re.match(r"auto: shifts embeddings by \d+% of .* neighbour; fp16 fails here \(\"layer_norm\" not impl", why)
    assert settle({"fp16": 0.5, "bf16": 0.6})[0] == "fp32"


def test_auto_takes_fp32_where_a_fast_one_fails_or_can_not_be_tried(fast: Callable[..., None]) -> None:
    fast("fp16")
    why = 'auto: fp16 fails here ("layer_norm" not implemented for this)'
    assert settle(float("inf")) == ("fp32", why)
    for count in (0, 1):
        chosen, why = settle(0, count=count)
        assert chosen == "fp32"
        assert "too few" in why
    fast()
    assert settle(0) == ("fp32", "auto: no faster one is known for this cpu")


def test_auto_keeps_to_the_rows_that_are_there(fast: Callable[..., None]) -> None:
    fast("bf16")
    assert settle(9, there=["bf16"])[0] == "bf16"  # was tried when they were made
    assert settle(0, there=["fp32"])[0] == "fp32"
    assert settle(0.01, there=["fp16"])[0] == "bf16"  # which this device would not take
    assert settle(0, there=["fp16", "fp32"])[0] == "fp32"
    fast()
    assert settle(0, there=["bf16"])[0] == "fp32"


def test_a_slow_precision_is_taken_with_a_word(fast: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    for able, wanted, slow in (((), "bf16", True), (("bf16",), "bf16", False), (("bf16",), "fp16", True)):
        fast(*able)
        assert settle(9, wanted)[0] == wanted
        assert (f"no known hardware support for {wanted}" in capsys.readouterr().err) == slow


@pytest.mark.parametrize(("most", "taken"), [(0.9, "bf16"), (0.0001, "fp32")])
def test_auto_tries_on_the_pictures_of_the_run(
    fast: Callable[..., None],
    tmp_path: Path,
    most: float,
    taken: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, out = make_cache(tmp_path / "cache", ["tst"] * 20).root, tmp_path / "out"
    words = ["--cache", cache, "--out", out, "--offline", "--model", f"local-dir:{make_tiny_model(tmp_path / 'tiny')}"]
    fast("bf16")
    monkeypatch.setattr(precision, "MAX_SHIFT", most)  # of random weights
    assert build_embeddings.main(list(map(str, words))) == 0
    manifest = json.loads((out / "build_manifest.json").read_text())
    chosen = manifest["embedding"]["precision_chosen"]
    assert manifest["model"]["precision"] == taken
    assert re.match(r"auto: (bf16 )?shifts embeddings by \d+% of the distance to their nearest neighbour", chosen)
    assert chosen.count("bf16") == (taken != "bf16")  # the line names the one that is taken before
    captured = capsys.readouterr()
    assert (captured.err + captured.out).count(f"Precision: {taken} ({chosen})") == 1  # told once


def test_how_far_rows_move_is_measured_without_what_all_have_in_common() -> None:
    corners = np.eye(4, dtype=np.float32)
    moved = unit_rows(corners + 0.1 * np.roll(corners, 1, axis=1))
    alone, beside = (largest_shift(unit_rows(rows + c), unit_rows(other + c)) for rows, other, c in (
        (corners, moved, np.float32(0)), (corners, moved, np.float32(30))))  # fmt: skip
    assert alone is not None
    assert beside is not None
    assert 0.05 < alone < 0.2
    assert beside == pytest.approx(alone, rel=0.3)


def test_rows_that_hardly_differ_say_nothing() -> None:
    same = unit_rows(np.ones((4, 8), np.float32))
    assert largest_shift(same, same) is None


@pytest.mark.parametrize(("precision", "asked"), [("bf16", "bf16"), ("fp16", "fp32"), ("fp32", "fp32")])
def test_an_index_is_asked_in_its_precision_where_that_is_fast(
    fast: Callable[..., None], precision: str, asked: str
) -> None:
    fast("bf16")
    assert precision_of_query("cpu", precision) == asked


def test_a_real_model_in_bf16_makes_nearly_the_rows_of_fp32(model: Path) -> None:
    embedder = Embedder.load(ModelSource(f"local-dir:{model}", None), Preparation(384, "pad"), "cpu")
    prepared = [embedder.prepare(decode_image(encoded(size=(488, 680), seed=seed))) for seed in range(4)]
    exact, settings = embedder.encode(prepared), embedder.settings
    with embedder.tried_in("bf16"):
        rows = embedder.encode(prepared)
        tried = embedder.settings
    assert np.array_equal(embedder.encode(prepared), exact)
    assert (embedder.settings, fingerprint(embedder.tower)) == (settings, embedder.fingerprint)
    assert rows.dtype == np.float32
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    assert float((rows * exact).sum(axis=1).min()) >= 0.99
    assert not np.array_equal(rows, exact)
    embedder.use("bf16")
    assert np.array_equal(embedder.encode(prepared), rows)
    assert embedder.settings == tried


def test_numbers_that_overflow_are_said_at_once(model: Path) -> None:
    embedder = Embedder.load(ModelSource(f"local-dir:{model}", None), Preparation(64, "pad"), "cpu")
    embedder._deviation = embedder._deviation * 0
    prepared = embedder.prepare(decode_image(encoded()))
    with pytest.raises(PipelineError, match="overflow") as caught:
        embedder.encode([prepared])
    assert "--precision fp32" in caught.value.problems[0].suggestion
