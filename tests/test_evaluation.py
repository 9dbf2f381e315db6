"""Labels and answers, shares and their intervals, held-out thresholds: known answers and properties."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.recognise.evaluation import (
    FOLDS,
    LOST,
    MOST_DRAWN,
    SAME_CARD,
    Share,
    folds,
    held_out,
    interval,
    lost_at,
    ratio_interval,
    served,
    threshold,
    wilson,
)

NAN = math.nan


def matched(ranks: list[list[int]], ious: list[list[float]]) -> list[int | None]:
    return served(np.array(ranks), np.array(ious))


def test_a_card_serves_the_label_that_it_names_and_lies_on() -> None:
    assert matched([[1, 0], [0, 1]], [[0.9, 0.0], [0.0, 0.9]]) == [0, 1]
    assert matched([[1]], [[0.39]]) == [None]  # elsewhere
    assert matched([[0]], [[0.99]]) == [None]  # another name
    assert matched([[1]], [[NAN]]) == [0]  # no outline
    assert matched([[4]], [[0.8]]) == [0]


def test_one_card_serves_one_label_the_best_rank_first_then_the_best_place() -> None:
    assert matched([[1], [1]], [[0.5], [0.9]]) == [None, 0]
    assert matched([[2], [1]], [[0.9], [0.5]]) == [None, 0]
    assert matched([[1, 1], [1, 1]], [[NAN, NAN], [0.9, 0.0]]) == [1, 0]  # two of a name, one without an outline


def test_without_cards_or_labels_none_is_served() -> None:
    assert served(np.empty((2, 0), np.int64), np.empty((2, 0))) == [None, None]
    assert served(np.empty((0, 2), np.int64), np.empty((0, 2))) == []


@st.composite
def pairings(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    labels, cards = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    size = labels * cards
    ranks = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
    ious = draw(st.lists(st.floats(0, 1) | st.just(NAN), min_size=size, max_size=size))
    return np.array(ranks, np.int64).reshape(labels, cards), np.array(ious).reshape(labels, cards)


@given(pairings())
def test_who_serves_fits_serves_once_and_nobody_who_could_is_left(
    pairing: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    ranks, ious = pairing
    cards = served(ranks, ious)
    assert len(cards) == len(ranks)
    assert all(times == 1 for card, times in Counter(cards).items() if card is not None)
    for label, card in enumerate(cards):
        free = [other for other in range(ranks.shape[1]) if other not in cards]
        fits = [c for c in range(ranks.shape[1]) if ranks[label, c] and not ious[label, c] <= SAME_CARD]
        assert card in fits if card is not None else not set(fits) & set(free)


@pytest.mark.parametrize(
    ("ious", "asked", "first", "where"),
    [
        ([0.7, 0.1], [True, True], [True, False], "detection"),
        ([0.9, 0.1], [False, True], [False, True], "not asked"),
        ([0.9, 0.85], [True, True], [False, True], "choice"),
        ([0.9, 0.1], [True, True], [False, True], "recognition"),
        ([NAN, NAN], [True, True], [False, True], "choice"),
        ([NAN, NAN], [True, True], [False, False], "recognition"),
    ],
)
def test_where_a_card_was_lost(ious: list[float], asked: list[bool], first: list[bool], where: str) -> None:
    assert lost_at(np.array(ious), np.array(asked), np.array(first)) == where
    assert where in LOST


def test_wilsons_interval_is_the_known_one() -> None:
    assert wilson(45, 50) == pytest.approx((0.7864, 0.9565), abs=1e-4)
    assert wilson(0, 50) == pytest.approx((0, 0.0713), abs=1e-4)
    assert wilson(50, 50) == pytest.approx((0.9287, 1), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


shares = st.lists(st.integers(1, 9).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))), min_size=1)


@given(shares)
def test_an_interval_holds_its_share_and_is_no_narrower_than_wilsons(counts: list[tuple[int, int]]) -> None:
    hits, totals = np.array(counts).T
    low, high = interval(hits, totals)
    share = hits.sum() / totals.sum()
    assert 0 <= low <= share <= high <= 1
    narrow = wilson(int(hits.sum()), int(totals.sum()))
    assert low <= narrow[0] + 1e-12
    assert high >= narrow[1] - 1e-12


def test_cards_of_one_photograph_count_less_than_as_many_photographs() -> None:
    hits = np.array([10, 0] * 5)
    together = interval(hits, np.full(10, 10))
    apart = interval(np.repeat(hits, 10) // 10, np.ones(100, np.int64))
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])
    assert interval(np.array([40]), np.array([40]))[0] == pytest.approx(wilson(1, 1)[0])  # all, but of one photograph


def test_many_clusters_have_the_interval_of_few_without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 10, MOST_DRAWN)
    sums = rng.binomial(counts, rng.beta(2, 1, MOST_DRAWN)).astype(float)
    drawn = ratio_interval(sums, counts)
    monkeypatch.setattr("helpers.recognise.evaluation.MOST_DRAWN", MOST_DRAWN - 1)
    monkeypatch.setattr(np.random, "default_rng", None)
    found = ratio_interval(sums, counts)
    assert found == pytest.approx(drawn, abs=0.05 * (drawn[1] - drawn[0]))
    assert found != drawn
    assert ratio_interval(np.ones(MOST_DRAWN), np.ones(MOST_DRAWN, np.int64)) == (1, 1)


def test_a_share_is_written_with_its_numbers() -> None:
    photos = [str(i) for i in range(50)]
    assert str(Share.of(photos, [i < 45 for i in range(50)])) == "45/50 90.0 % [78.6, 95.7]"
    assert str(Share.of([], [])) == "N/A"
    turned = Share.of(photos * 4, [True] * 200)  # four ways each, and still fifty photographs
    assert (turned.hits, turned.total, turned.low) == (200, 200, wilson(50, 50)[0])


def test_a_threshold_lets_two_percent_of_the_strangers_pass() -> None:
    hundred = np.arange(100) / 100
    assert (hundred >= threshold(hundred)).sum() == 2
    assert threshold(hundred) == pytest.approx(0.97)
    fifty = np.arange(50) / 50
    assert (fifty >= threshold(fifty)).sum() == 1
    assert (fifty[:49] >= threshold(fifty[:49])).sum() == 0
    assert threshold(np.empty(0)) == -math.inf
    assert threshold(np.full(60, -math.inf)) == -math.inf  # none was answered with a second name: all pass
    assert threshold(np.array([0.5, *[-math.inf] * 59])) == -math.inf


@given(st.lists(st.floats(0, 2), max_size=300), st.floats(0, 1))
def test_a_threshold_is_the_smallest_that_passes_no_more(strangers: list[float], at_most: float) -> None:
    values = np.array(strangers)
    least = threshold(values, at_most)
    assert (values >= least).sum() <= at_most * len(values) + 1e-6
    if least > -math.inf:
        assert (values >= np.nextafter(least, -math.inf)).sum() > at_most * len(values) - 1e-6


@given(st.lists(st.integers(0, 40).map(str), min_size=1))
def test_a_photograph_is_in_one_fold_and_folds_are_even(photos: list[str]) -> None:
    fold = folds(photos)
    assert (fold == folds(photos)).all()
    of = dict(zip(photos, fold.tolist(), strict=True))
    assert [of[photo] for photo in photos] == fold.tolist()
    sizes = [list(of.values()).count(i) for i in range(FOLDS)]
    assert max(sizes) - min(sizes) <= 1


def test_held_out_folds_do_not_see_their_own_strangers() -> None:
    photos = [str(i) for i in range(50)]
    strangers = np.where(np.arange(50) == 7, 0.9, 0.1)  # one that looks like a card
    known = np.where(np.arange(50) == 3, -math.inf, 0.5)  # one that was not named
    found = held_out(known, photos, strangers, photos)
    own = folds(photos)
    assert found.thresholds[own[7]] < 0.5
    assert max(found.thresholds) > 0.9
    assert found.strangers.tolist() == [i == 7 for i in range(50)]
    assert found.known.tolist() == [own[i] == own[7] and i != 3 for i in range(50)]


def test_without_strangers_every_card_that_was_named_is_accepted() -> None:
    found = held_out(np.array([0.1, -math.inf]), ["a", "b"], np.empty(0), [])
    assert found.known.tolist() == [True, False]
    assert not len(found.strangers)
