"""The weights of what is read, and of confidence: fitted to made-up cards whose weights are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.evaluate.fusion import (
    PRIOR,
    Choices,
    Logistic,
    Loss,
    chances,
    choice_loss,
    conditional_logit,
    fitted_choice,
    logistic,
    logistic_loss,
    standard_errors,
)
from helpers.index.manifest import Recognition
from helpers.recognise.evaluation import FOLDS


def choices_of(seed: int, count: int, weights: tuple[float, float], names: int = 5) -> Choices:
    """Queries whose right name is drawn by the model itself."""
    rng = np.random.default_rng(seed)
    each = []
    for _ in range(count):
        features = rng.uniform(0, 1, (rng.integers(2, names + 1), 2))
        utility = features @ weights + rng.gumbel(size=len(features))
        order = np.argsort(-utility)
        each.append((features[order, 0], features[order, 1]))
    return Choices.of(each)


def test_weights_that_made_the_choices_are_found_again() -> None:
    found = conditional_logit(choices_of(0, 4000, (6.0, 3.0)).features(None))
    assert found == pytest.approx([6.0, 3.0], rel=0.1)


@given(st.integers(0, 99))
@settings(max_examples=15)
def test_no_weights_near_the_fitted_ones_are_likelier(seed: int) -> None:
    features = choices_of(seed, 60, (4.0, 2.0)).features(None)
    found = conditional_logit(features)
    best = choice_loss(chances(features, found)).log
    for step in np.random.default_rng(seed).normal(0, 0.3, (20, 2)):
        assert choice_loss(chances(features, found + step)).log >= best - 1e-3  # but for the prior


def test_titles_that_are_never_wrong_get_a_large_weight_and_not_an_endless_one() -> None:
    sure = [(np.array([0.5, 0.5 + 0.01 * (i % 3)]), np.array([1.0, 0.0])) for i in range(50)]
    found = fitted_choice(Choices.of(sure), np.arange(50) % FOLDS)
    assert 5 < found.print < 100
    assert found.held_out.log < 0.01


def test_an_error_is_the_prior_s_where_nothing_is_known_and_covers_the_truth_where_it_is() -> None:
    blind = choices_of(0, 50, (5.0, 0.0))
    assert fitted_choice(Choices(blind.looks, 0 * blind.print), np.arange(50) % FOLDS).print_error == pytest.approx(
        PRIOR
    )
    off = []
    for seed in range(20):
        features = choices_of(seed, 200, (6.0, 3.0)).features(None)
        found = conditional_logit(features)
        off.append((found - [6.0, 3.0]) / standard_errors(features, found))
    assert 0.7 < np.std(off) < 1.4


def test_what_is_not_worth_reading_gets_no_weight_and_costs_more_if_it_has_one() -> None:
    choices, fold = choices_of(3, 1500, (8.0, 0.0)), np.arange(1500) % FOLDS
    found = fitted_choice(choices, fold)
    assert abs(found.print / found.looks) < 0.1
    assert found.held_out.log < fitted_choice(choices, fold, 1.0).held_out.log
    assert fitted_choice(choices, fold, 1.0).read_weight == pytest.approx(1.0)


def test_held_out_is_not_what_it_was_fitted_on() -> None:
    """Of five cards each is a fold: the one that is unlike the others is judged by them."""
    liar = (np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    honest = (np.array([1.0, 0.0]), np.array([0.0, 0.0]))
    choices = Choices.of([honest] * 4 + [liar])
    features = choices.features(None)
    fitted_on = choice_loss(chances(features, conditional_logit(features)))
    assert fitted_choice(choices, np.arange(FOLDS)).held_out.log > fitted_on.log


def test_confidence_is_what_a_query_computes_from_the_same_weights() -> None:
    rng = np.random.default_rng(1)
    clear = rng.uniform(0, 2, 5000)
    made = Logistic(6.0, 0.7)
    right = rng.uniform(size=5000) < made(clear)
    found = logistic(clear, right)
    assert found == pytest.approx(made, rel=0.1)
    recorded = Recognition(1.0, 0.5, "", slope=found.slope, even=found.even)
    given = [recorded.confidence(value / 2, value / 2) for value in clear[:5]]
    assert given == pytest.approx(found(clear[:5]).tolist())
    assert logistic_loss(found(clear), right).log < logistic_loss(Logistic(2.0, 0.3)(clear), right).log
    assert logistic_loss(np.array([1.0, 0.0]), np.array([True, False])) == Loss(0.0, 0.0)
    assert logistic_loss(np.array([0.5]), np.array([True])).brier == 0.25
