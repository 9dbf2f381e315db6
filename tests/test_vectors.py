import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from helpers.embed.vectors import QUANTIZATION, best_scale, check_unit_rows, dequantize, quantize, unit_rows
from helpers.errors import PipelineError

components = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=16), elements=st.floats(-1, 1, width=32)
)
wild = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=16),
    elements=st.floats(-(2.0**60), 2.0**60, width=32).filter(lambda x: x == 0 or abs(x) > 1e-30),
)


@given(components)
def test_a_component_comes_back_within_half_a_step(rows: NDArray[np.float32]) -> None:
    assert np.abs(dequantize(quantize(rows)) - rows).max() <= 0.5 / 127 + 1e-6


@given(hnp.arrays(np.int8, (3, 5), elements=st.integers(-127, 127)))
def test_every_code_survives_the_round_trip(codes: NDArray[np.int8]) -> None:
    assert np.array_equal(quantize(dequantize(codes)), codes)


def test_a_row_can_score_above_one_with_itself_in_int8_and_the_note_says_so() -> None:
    rows = dequantize(quantize(unit_rows(np.random.default_rng(0).standard_normal((500, 512)).astype(np.float32))))
    assert 1 < np.sum(rows * rows, axis=1).max() < 1.02
    assert "above 1" in QUANTIZATION["note"]


def test_codes_are_rounded_to_the_nearest_not_truncated() -> None:
    rows = np.array([[1.0, -1.0, 0.6 / 127, -0.6 / 127, 0.4 / 127]], dtype=np.float32)
    assert quantize(rows).tolist() == [[127, -127, 1, -1, 0]]


@given(wild)
def test_unit_rows_have_norm_one_and_their_direction(rows: NDArray[np.float32]) -> None:
    rows = rows[np.any(rows != 0, axis=1)]
    unit = unit_rows(rows)
    check_unit_rows(unit, "unit_rows")
    cosines = np.sum(unit.astype(np.float64) * rows, axis=1) / np.linalg.norm(rows.astype(np.float64), axis=1)
    assert np.allclose(cosines, 1, atol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_rows_whose_squares_no_float32_holds_become_unit_rows(size: float) -> None:
    assert np.allclose(unit_rows(np.array([[3 * size, 4 * size]], np.float32)), [[0.6, 0.8]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1.0001])
def test_a_row_that_is_no_unit_vector_is_named(bad: float) -> None:
    rows = np.zeros((5, 4), dtype=np.float32)
    rows[:, 0] = 1
    check_unit_rows(rows, "vectors.npy")
    rows[3, 0] = bad
    with pytest.raises(PipelineError, match=r"vectors\.npy") as caught:
        check_unit_rows(rows, "vectors.npy")
    assert "row 3" in caught.value.problems[0].details


@pytest.mark.parametrize("tail", [1, 3, 30])  # of the values: normal, and ever more large ones
def test_the_scale_that_is_chosen_keeps_cosines(tail: int) -> None:
    rows = unit_rows((np.random.default_rng(tail).standard_normal((200, 64)) ** tail).astype(np.float32))
    exact = rows @ rows.T
    own = np.diag(exact)

    def off(scale: float) -> float:
        decoded = quantize(rows, scale) / np.float32(scale)
        return float(np.abs(np.einsum("ij,ij->i", rows, decoded) - own).mean())

    scale = best_scale(rows)
    assert off(scale) <= 1.05 * off(127)
    assert off(scale) < 0.005
    if tail == 1:
        assert scale > 200  # normal values fill but a part of -1..1
