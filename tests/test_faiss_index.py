from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.embed.vectors import unit_rows
from helpers.errors import PipelineError
from helpers.index.faiss_index import EF_SEARCH_LADDER, TARGET_RECALL_AT_10, CardIndex, HashIndex


def near_twins(count: int, width: int = 32) -> NDArray[np.float32]:
    """Rows in groups of ten near-twins, as reprints are."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((count // 10 + 1, width))
    return unit_rows((centres[np.arange(count) // 10] + 0.3 * rng.standard_normal((count, width))).astype(np.float32))


def test_ef_search_is_the_smallest_that_reaches_the_target_and_is_saved(tmp_path: Path) -> None:
    rows = unit_rows(np.random.default_rng(1).standard_normal((4000, 32)).astype(np.float32))
    index = CardIndex.build(rows, m=8, ef_construction=16)
    measured = index.tune_ef_search(rows)
    *too_low, chosen = measured.items()
    assert too_low, "this index is too easy to show anything"
    assert all(recall < TARGET_RECALL_AT_10 for _, recall in too_low)
    assert chosen[1] >= TARGET_RECALL_AT_10
    index.save(tmp_path / "index")
    loaded = CardIndex.load(tmp_path / "index")
    assert (loaded.ef_search, len(loaded), loaded.width) == (chosen[0], 4000, 32)
    assert loaded.ef_search != 16  # FAISS's default


def test_scores_are_cosines_and_each_row_finds_itself() -> None:
    rows = near_twins(500)
    index = CardIndex.build(rows, m=32, ef_construction=200)
    scores, ids = index.search(rows, 3)
    assert np.array_equal(ids[:, 0], np.arange(500))
    assert np.allclose(scores, np.take_along_axis(rows @ rows.T, ids, axis=1), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("count", [1, 2, 5, 33])
def test_an_index_smaller_than_m_and_k_answers_with_what_it_has(count: int) -> None:
    rows = near_twins(count)
    index = CardIndex.build(rows, m=32, ef_construction=200)
    assert index.tune_ef_search(rows) == {EF_SEARCH_LADDER[0]: 1.0}
    _, ids = index.search(rows[:1], 1000)
    assert sorted(ids[0]) == list(range(count))


def test_more_matches_than_ef_search_are_found_when_asked_for() -> None:
    rows = near_twins(1000)
    index = CardIndex.build(rows, m=32, ef_construction=200)
    index.ef_search = 1
    assert (index.search(rows[:1], 200)[1] >= 0).all()


def test_an_index_with_another_metric_is_a_known_failure(tmp_path: Path) -> None:
    other = faiss.IndexHNSWFlat(8, 8)
    other.add(np.eye(8, dtype=np.float32))
    faiss.write_index(other, str(tmp_path / "index"))
    with pytest.raises(PipelineError, match="is not a usable index"):
        CardIndex.load(tmp_path / "index")


@pytest.mark.parametrize("content", [b"", b"<html>", b"IHNf" + b"\0" * 50])
def test_a_file_that_is_no_index_is_a_known_failure(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mtg_cards.faiss"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"mtg_cards\.faiss is not a usable index"):
        CardIndex.load(path)


@settings(deadline=None)
@given(
    count=st.integers(1, 300),
    asked=st.integers(1, 50),
    k=st.integers(1, 400),
    values=st.sampled_from([1, 2, 256]),  # all alike, many twins, random
    seed=st.integers(0, 9),
)
def test_hashes_are_found_as_by_brute_force(count: int, asked: int, k: int, values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, queries = (rng.integers(0, values, (number, 32), np.uint8) for number in (count, asked))
    differing = np.unpackbits(queries[:, None] ^ rows[None], axis=2).sum(axis=2)
    index = HashIndex(rows)
    bits, ids = index.search(queries, k)
    assert len(index) == count
    assert bits.dtype == np.int32
    assert ids.dtype == np.int64
    assert bits.shape == ids.shape == (asked, min(k, count))
    assert np.array_equal(bits, np.sort(differing, axis=1)[:, :k])
    assert np.array_equal(bits, np.take_along_axis(differing, ids, axis=1))
    assert all(len(set(row)) == len(row) for row in ids.tolist())
