"""How candidates are ranked by both signatures, and how clear that is, on toy indexes."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from helpers.embed.vectors import check_unit_rows, unit_rows
from helpers.index.faiss_index import CardIndex
from helpers.index.manifest import Recognition
from helpers.index.whitening import MIN_ROWS, Whitening
from helpers.recognise.query import QueryEngine
from helpers.recognise.ranking import CANDIDATES, CutOut, Ranker, Ranking
from helpers.recognise.regions import Photo
from helpers.recognise.seen import Seen
from tests.faces import face_with, records_of

WIDTH = 32
PLAIN = Recognition(hash_weight=1.5, sure_above=0.5, conditions="")


def random_rows(count: int, seed: int = 0, width: int = WIDTH) -> NDArray[np.float32]:
    """Unit rows that have much in common, some directions more than others: as a model's."""
    rng = np.random.default_rng(seed)
    return unit_rows((3 + rng.standard_normal((count, width)) * np.linspace(0.1, 2, width)).astype(np.float32))


def random_hashes(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)


def ranker(
    folder: Path,
    rows: NDArray[np.float32],
    hashes: NDArray[np.uint8] | None,
    names: list[str] | None = None,
    recognition: Recognition | None = None,
    among: NDArray[np.int64] | None = None,
) -> Ranker:
    names = names or [f"Card {row}" for row in range(len(rows))]
    made = records_of(folder / "mtg_meta.jsonl", [face_with(name=name) for name in names])
    whitening = Whitening.fit(rows, 1.0)
    index = CardIndex.build(rows if whitening is None else whitening(rows), 16, 100)
    return Ranker(index, hashes, made, recognition or PLAIN, whitening, among)


def flipped(digest: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The hash with its first bits inverted."""
    return digest ^ np.packbits(np.arange(256) < bits)


# ----------------------------------------------------------------------------------------------------------- whitening


def test_few_rows_are_left_as_they_are() -> None:
    assert Whitening.fit(random_rows(MIN_ROWS - 1), 1.0) is None
    assert Whitening.fit(random_rows(MIN_ROWS), 1.0) is not None


@settings(max_examples=20)
@given(st.integers(0, 999), st.floats(1e-3, 10))
def test_whitened_rows_have_norm_one(seed: int, ridge: float) -> None:
    whitening = Whitening.fit(random_rows(300, seed), ridge)
    assert whitening is not None
    check_unit_rows(whitening(random_rows(40, seed + 1)), "whitened")
    check_unit_rows(whitening(random_rows(1, seed + 2)), "whitened")


@pytest.mark.parametrize("ridge", [1e-6, 0.3, 3.0])
def test_the_covariance_of_whitened_rows_is_the_identity_up_to_the_ridge(ridge: float) -> None:
    rows = random_rows(5000)
    whitening = Whitening.fit(rows, ridge)
    assert whitening is not None
    mapped = (rows - whitening.mean) @ whitening.axes  # before they are brought to norm 1
    covariance = np.cov(mapped.T, bias=True)
    spread = np.linalg.eigvalsh(np.cov(rows.T.astype(np.float64), bias=True))[::-1]
    assert np.allclose(covariance, np.diag(spread / (spread + ridge * spread.mean())), atol=2e-3)
    assert np.allclose(mapped.mean(axis=0), 0, atol=1e-3)


def test_what_all_rows_have_in_common_no_longer_counts() -> None:
    rows = random_rows(2000)
    whitening = Whitening.fit(rows, 0.3)
    assert whitening is not None
    raw, whitened = rows[:200] @ rows[200:400].T, whitening(rows[:200]) @ whitening(rows[200:400]).T
    assert raw.mean() > 0.5
    assert abs(whitened.mean()) < 0.01


def test_rows_that_are_all_the_same_are_left_as_they_are() -> None:
    assert Whitening.fit(np.repeat(random_rows(1), 300, axis=0), 1.0) is None


def test_near_duplicates_do_not_shape_the_map() -> None:
    rows = random_rows(300)
    reprints = unit_rows(rows[:1] + 0.002 * np.random.default_rng(0).standard_normal((600, WIDTH)).astype(np.float32))
    alone, beside = (Whitening.fit(some, 1.0) for some in (rows, np.concatenate([rows, reprints])))
    assert alone is not None
    assert beside is not None
    cosines = [whitening(rows) @ whitening(rows).T for whitening in (alone, beside)]
    assert np.abs(cosines[0] - cosines[1]).max() < 0.02


def test_fewer_dimensions_are_the_first_of_all() -> None:
    rows = random_rows(300)
    all_, few = Whitening.fit(rows, 1.0), Whitening.fit(rows, 1.0, 8)
    assert all_ is not None
    assert few is not None
    assert (all_.dimensions, few.dimensions) == (WIDTH, 8)
    assert np.array_equal(few.axes, all_.axes[:, :8])
    spread = ((rows - all_.mean) @ all_.axes).var(axis=0)
    assert (np.diff(spread) < 1e-3).all()  # the strongest first


def test_a_whitening_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = Whitening.fit(random_rows(300), 1.0, 8)
    assert made is not None
    made.save(tmp_path / "whitening.npz")
    read = Whitening.load(tmp_path / "whitening.npz")
    assert np.array_equal(read.mean, made.mean)
    assert np.array_equal(read.axes, made.axes)


@pytest.mark.parametrize("exact", [False, True])
def test_whitened_rows_are_compared_with_whitened_vectors(tmp_path: Path, exact: bool) -> None:
    rows, asked = random_rows(300), random_rows(5, 1)
    whitening = Whitening.fit(rows, 1.0, 16)
    assert whitening is not None
    made = records_of(tmp_path / "mtg_meta.jsonl", [face_with(name=f"Card {row}") for row in range(300)])
    index = CardIndex.build(whitening(rows), 16, 100)
    ranked = Ranker(index, None, made, PLAIN, whitening, exact=exact).rank(asked, random_hashes(5))
    for ranking, scores in zip(ranked, whitening(asked) @ whitening(rows).T, strict=True):
        assert ranking.rows[0] == scores.argmax()
        assert np.allclose(ranking.scores, scores[ranking.rows], atol=1e-6)


def test_exact_candidates_are_the_nearest_where_a_graph_misses_some(tmp_path: Path) -> None:
    rows = unit_rows(np.random.default_rng(0).standard_normal((4000, 64), dtype=np.float32))
    asked = unit_rows(np.random.default_rng(1).standard_normal((5, 64), dtype=np.float32))
    made = records_of(tmp_path / "mtg_meta.jsonl", [face_with(name=f"Card {row}") for row in range(4000)])
    index = CardIndex.build(rows, 4, 4)
    nearest = np.argsort(-asked @ rows.T, axis=1)[:, :CANDIDATES]
    found = {
        exact: Ranker(index, None, made, PLAIN, exact=exact).rank(asked, random_hashes(5)) for exact in (False, True)
    }
    assert [ranking.rows.tolist() for ranking in found[True]] == nearest.tolist()
    assert [ranking.rows.tolist() for ranking in found[False]] != nearest.tolist()


def test_a_card_has_all_printings_of_its_names_however_few_matches_are_wanted(tmp_path: Path) -> None:
    rows = random_rows(6)
    engine = QueryEngine(cast(Any, None), ranker(tmp_path, rows, None, list("abacab")), cast(Any, None))
    (ranking,) = engine.ranker.rank(rows[2:3], random_hashes(1))
    cut_out = CutOut(ranking, rows[2], random_hashes(1)[0])
    card = engine.card(Seen(Photo(Image.new("RGB", (63, 88))).whole(), cut_out), 1)
    assert [match.rank for match in card.matches] == [1]
    (printings,) = card.names
    assert [match.face.name for match in printings] == ["a", "a", "a"]
    assert printings[0].rank == 1


# ------------------------------------------------------------------------------------------------------------- ranking


@pytest.mark.parametrize("count", [50, 600])
def test_a_row_that_is_asked_scores_one_and_is_first(tmp_path: Path, count: int) -> None:
    rows, hashes = random_rows(count), random_hashes(count)
    asked = np.arange(0, count, 7)
    rankings = ranker(tmp_path, rows, hashes).rank(rows[asked], hashes[asked])
    assert [int(ranking.rows[0]) for ranking in rankings] == asked.tolist()
    for ranking in rankings:
        assert ranking.scores[0] == pytest.approx(1.0, abs=1e-5)
        assert ranking.scores.tolist() == sorted(ranking.scores.tolist(), reverse=True)
        assert len(set(ranking.rows.tolist())) == len(ranking.rows)
        assert ranking.sure


def test_a_batch_is_ranked_as_one_at_a_time(tmp_path: Path) -> None:
    rows, hashes = random_rows(300), random_hashes(300)
    made = ranker(tmp_path, rows, hashes)
    together = made.rank(rows[:5], hashes[:5])
    for row in range(5):
        (alone,) = made.rank(rows[row : row + 1], hashes[row : row + 1])
        assert np.array_equal(alone.rows[:10], together[row].rows[:10])
        assert np.allclose(alone.scores[:10], together[row].scores[:10], atol=1e-6)


@pytest.mark.parametrize("count", [40, 500])
@pytest.mark.parametrize("masked", [[0], [3, 5, 8], list(range(0, 40, 2))])
def test_masked_rows_never_appear_and_the_others_are_ranked_as_if_they_were_not_there(
    tmp_path: Path, count: int, masked: list[int]
) -> None:
    rows, hashes, hidden = random_rows(count), random_hashes(count), np.array(masked)
    made = ranker(tmp_path, rows, hashes)
    asked = [masked[0]]
    (shown,), (ranking,) = made.rank(rows[asked], hashes[asked]), made.rank(rows[asked], hashes[asked], hidden)
    assert shown.rows[0] == masked[0]
    assert not np.isin(ranking.rows, hidden).any()
    rest = np.setdiff1d(shown.rows, hidden, assume_unique=True)
    assert ranking.rows[:5].tolist() == rest[:5].tolist()
    assert len(ranking.rows) >= min(count - len(masked), 64)


def test_however_many_near_rows_are_masked_others_are_ranked(tmp_path: Path) -> None:
    rows = random_rows(500)
    whitening = Whitening.fit(rows, 1.0)
    assert whitening is not None
    nearest = np.argsort(-whitening(rows) @ whitening(rows[:1])[0])
    (ranking,) = ranker(tmp_path, rows, None).rank(rows[:1], random_hashes(1), nearest[:200])
    assert np.isin(nearest[200:220], ranking.rows).all()


def test_masking_every_row_leaves_no_candidates(tmp_path: Path) -> None:
    rows, hashes = random_rows(10), random_hashes(10)
    (ranking,) = ranker(tmp_path, rows, hashes).rank(rows[:1], hashes[:1], np.arange(10))
    assert len(ranking.rows) == 0
    assert (ranking.margin, ranking.gap, ranking.sure, ranking.likely) == (None, None, None, None)


def test_the_rows_of_names_are_found_whatever_their_number(tmp_path: Path) -> None:
    names = ["Bear", "Elf", "Bear", "Goblin", "Elf"]
    made = ranker(tmp_path, random_rows(5), None, names)
    assert made.rows_of(["Elf", "Bear"]).tolist() == [0, 1, 2, 4]
    assert made.rows_of(["Dragon"]).tolist() == []


def test_the_nearest_hash_is_that_of_a_row_that_is_not_masked(tmp_path: Path) -> None:
    hashes = random_hashes(20)
    made = ranker(tmp_path, random_rows(20), hashes)
    asked = np.stack([hashes[4], flipped(hashes[9], 11)])
    assert np.asarray(made.nearest_hashes(asked)).tolist() == [0, 11]
    masked = np.asarray(made.nearest_hashes(asked, np.array([4, 9]))).tolist()
    others = np.delete(hashes, [4, 9], axis=0)
    assert masked == [int(np.unpackbits(others ^ one, axis=1).sum(axis=1).min()) for one in asked]


# ------------------------------------------------------------------------------------------------ scores by hand

# In the plane, by their angles: cosines that a pocket calculator gives
ANGLES = np.radians([0, 10, 60, 90])
TOY = np.pad(np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), ((0, 0), (0, 6))).astype(np.float32)


def asked_toy(folder: Path, names: list[str], recognition: Recognition | None = None, bits: int = 0) -> Ranking:
    """Row 0 asked, with a hash that differs in `bits` bits from all rows'."""
    hashes = np.zeros((4, 32), np.uint8)
    digest = flipped(hashes[0], bits)
    (ranking,) = ranker(folder, TOY, hashes, names, recognition).rank(TOY[:1], digest[None])
    return ranking


def test_margin_and_gap_are_as_computed_by_hand(tmp_path: Path) -> None:
    ranking = asked_toy(tmp_path, ["a", "b", "c", "d"])
    assert ranking.rows.tolist() == [0, 1, 2, 3]
    assert np.allclose(ranking.scores, [1, 0.98481, 0.5, 0], atol=1e-4)
    assert ranking.margin == pytest.approx(1 - 0.98481, abs=1e-4)
    assert ranking.gap == pytest.approx(1 - (0.98481 + 0.5 + 0) / 3, abs=1e-4)
    assert ranking.strength == pytest.approx(1 + 0.01519 + 0.50506, abs=1e-4)


def test_other_pictures_of_the_best_name_are_no_rivals(tmp_path: Path) -> None:
    ranking = asked_toy(tmp_path, ["a", "a", "c", "c"])
    assert ranking.margin == pytest.approx(0.5, abs=1e-4)
    assert ranking.gap == pytest.approx(0.5, abs=1e-4)  # each name counts once, by its best row


def test_the_gap_is_to_ten_other_names_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.index.whitening.MIN_ROWS", 100)  # plain cosines, to compute by hand
    angles = np.radians(np.arange(0, 90, 6))  # fifteen of them
    rows = np.pad(np.stack([np.cos(angles), np.sin(angles)], axis=1), ((0, 0), (0, 6))).astype(np.float32)
    (ranking,) = ranker(tmp_path, rows, None).rank(rows[:1], random_hashes(1))
    assert len(ranking.rows) == 15
    assert ranking.gap == pytest.approx(1 - np.cos(angles[1:11]).mean(), abs=1e-5)


def test_bits_that_differ_cost_their_share_times_the_weight(tmp_path: Path) -> None:
    for weight, bits in ((1.5, 64), (1.0, 128), (0.0, 200)):
        ranking = asked_toy(tmp_path, ["a", "b", "c", "d"], replace(PLAIN, hash_weight=weight), bits)
        assert ranking.scores[0] == pytest.approx(1 - weight * bits / 256, abs=1e-5)


def test_sure_and_likely_are_said_above_what_the_index_asks_for(tmp_path: Path) -> None:
    summed = 0.01519 + 0.50506  # margin + gap
    for sure_above, expected in ((summed - 0.01, (True, True)), (summed + 0.01, (False, True)), (1.06, (False, False))):
        ranking = asked_toy(tmp_path, ["a", "b", "c", "d"], replace(PLAIN, sure_above=sure_above))
        assert (ranking.sure, ranking.likely) == expected


def test_an_index_of_one_name_can_not_be_sure(tmp_path: Path) -> None:
    ranking = asked_toy(tmp_path, ["a"] * 4)
    assert (ranking.margin, ranking.gap, ranking.sure, ranking.likely) == (None, None, None, None)
    assert ranking.rows.tolist() == [0, 1, 2, 3]
    assert ranking.strength == pytest.approx(1.0)


# -------------------------------------------------------------------------------------------- one helps the other


def test_the_right_hash_repairs_a_bad_vector(tmp_path: Path) -> None:
    rows, hashes, asked = random_rows(600, width=256), random_hashes(600), list(range(0, 600, 25))
    blind = np.repeat(random_rows(1, seed=99, width=256), len(asked), axis=0)
    seen = np.array([flipped(hashes[row], 8) for row in asked])
    assert first_rows(ranker(tmp_path, rows, hashes).rank(blind, seen)) == asked
    assert len(set(first_rows(ranker(tmp_path, rows, None).rank(blind, seen)))) == 1  # the vector alone knows nothing


def test_the_right_vector_repairs_a_bad_hash(tmp_path: Path) -> None:
    rows, hashes, asked = random_rows(600, width=256), random_hashes(600), list(range(0, 600, 25))
    noise = np.repeat(random_hashes(1, seed=99), len(asked), axis=0)
    assert first_rows(ranker(tmp_path, rows, hashes).rank(rows[asked], noise)) == asked


def first_rows(rankings: list[Ranking]) -> list[int]:
    return [int(ranking.rows[0]) for ranking in rankings]


def test_an_index_without_hashes_ranks_by_the_vectors(tmp_path: Path) -> None:
    rows = random_rows(400)
    made = ranker(tmp_path, rows, None)
    assert made.nearest_hashes(random_hashes(3)) is None
    (one,), (other,) = (made.rank(rows[7:8], random_hashes(1, seed)) for seed in range(2))
    assert one.rows[0] == 7
    assert one.scores[0] == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(one.scores, other.scores)  # whatever the picture's hash


def test_an_index_with_less_rows_than_candidates_ranks_them_all(tmp_path: Path) -> None:
    rows, hashes = random_rows(5), random_hashes(5)
    (ranking,) = ranker(tmp_path, rows, hashes).rank(rows[2:3], hashes[2:3])
    assert sorted(ranking.rows.tolist()) == [0, 1, 2, 3, 4]
