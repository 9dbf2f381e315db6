from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.build.publish import search_quality
from helpers.embed.vectors import unit_rows
from helpers.errors import PipelineError
from helpers.index.faiss_index import EF_SEARCH_LADDER, TARGET_RECALL_AT_10, CardIndex, HashIndex
from helpers.index.manifest import FoundByItself


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


def beside_a_group(size: int, distance: float) -> NDArray[np.float32]:
    """300 distinct rows and `size` that are about `distance` from each other, mixed."""
    rng = np.random.default_rng(3)
    centres = unit_rows(1 + rng.standard_normal((301, 128), dtype=np.float32))
    off = unit_rows(rng.standard_normal((size, 128), dtype=np.float32))
    group = unit_rows(centres[-1] + np.float32(distance / np.sqrt(2)) * off)
    return rng.permutation(np.concatenate([centres[:-1], group]))


@pytest.mark.parametrize(("m", "distance"), [(8, 0), (32, 0), (4, 1e-4), (128, 1e-5), (8, 1e-3), (32, 1e-2)])
def test_every_row_is_found_beside_many_twins(tmp_path: Path, m: int, distance: float) -> None:
    rows = beside_a_group(300, distance)
    index = CardIndex.build(rows, m, ef_construction=200)
    recall = list(index.tune_ef_search(rows).values())[-1]
    assert recall >= (TARGET_RECALL_AT_10 if m >= 32 else 0.95)
    assert index.link_unfound(rows) == FoundByItself(600, 600)
    assert not index.unreachable().size
    index.save(tmp_path / "index")
    read = faiss.read_index(str(tmp_path / "index"))  # as others read it
    assert np.array_equal(read.reconstruct_n(0, 600), rows)
    assert (read.search(rows, 1)[0][:, 0] >= np.sum(rows * rows, axis=1) - 1e-6).all()
    wide = faiss.SearchParametersHNSW(efSearch=600)  # type: ignore[attr-defined]  # missing in faiss's stubs
    assert (np.sort(read.search(rows[:50], 600, params=wide)[1], axis=1) == np.arange(600)).all()


@settings(max_examples=20)
@given(
    sizes=st.lists(st.sampled_from([1, 1, 1, 2, 3, 17, 40]), min_size=1, max_size=30),
    m=st.sampled_from([4, 5, 16]),
    seed=st.integers(0, 9),
)
def test_every_row_can_be_reached_whatever_twins_there_are(sizes: list[int], m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.repeat(unit_rows(rng.standard_normal((len(sizes), 16), dtype=np.float32)), sizes, axis=0))
    index = CardIndex.build(rows, m, ef_construction=m)
    scores, found = index.search(rows, len(rows))
    assert (np.sort(found, axis=1) == np.arange(len(rows))).all()
    assert np.allclose(scores, np.take_along_axis(rows @ rows.T, found, axis=1), atol=1e-6)


def test_an_index_is_the_same_with_any_number_of_threads() -> None:
    rows = beside_a_group(300, 1e-4)
    made = []
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        index = CardIndex.build(rows, 8, 40)
        index.tune_ef_search(rows)
        index.link_unfound(rows)
        made.append(index.search(rows, 50)[1])
    assert np.array_equal(made[0], made[1])


def test_rows_that_no_search_can_reach_are_told() -> None:
    hnsw = faiss.IndexHNSWFlat(128, 8, faiss.METRIC_INNER_PRODUCT)
    hnsw.add(beside_a_group(300, 0))
    assert CardIndex(hnsw).unreachable().size


def test_an_index_that_falls_short_says_what_it_reached(capsys: pytest.CaptureFixture[str]) -> None:
    rows = unit_rows(np.random.default_rng(0).standard_normal((4000, 64), dtype=np.float32))
    index = CardIndex.build(rows, m=4, ef_construction=4)
    ef, recall = list(index.tune_ef_search(rows).items())[-1]
    assert (ef, recall < TARGET_RECALL_AT_10) == (1024, True)
    said = search_quality(ef, {ef: recall}, FoundByItself(4000, 3990))
    assert f"recall@10 {recall:.3f}, short of 0.999; 10 of 4,000 rows are not found by their own vector" in said
    warned = capsys.readouterr().err
    assert f"recall@10 is {recall:.3f}, short of 0.999" in warned
    assert "10 of 4,000 rows are not found by their own vector" in warned
    assert search_quality(64, {64: 1.0}, FoundByItself(4000, 4000)) == "efSearch 64 (measured)"
    assert not capsys.readouterr().err


def test_twins_count_as_one_when_recall_is_measured() -> None:
    """A thousand rows around one point: which of them come first says nothing."""
    rows = beside_a_group(1000, 1e-4)
    index = CardIndex.build(rows, 32, 200)
    assert list(index.tune_ef_search(rows).items())[-1][0] <= 128
