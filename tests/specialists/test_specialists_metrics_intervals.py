"""Intervals contain what they should, narrow with more items, repeat with their seed; tests of gaps see gaps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.specialists.metrics.intervals import (
    bootstrap,
    gap_p_value,
    paired_differences,
    paired_gap_p_value,
    resampled_weights,
    wilson,
)


def mean_of(values):
    return lambda weights: {"mean": float(np.average(values, weights=weights))}


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_interval_contains_the_share_and_stays_a_share(successes, trials):
    successes = min(successes, trials)
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials + 1e-9 and successes / trials - 1e-9 <= high <= 1


def test_draws_count_as_many_items_as_there_are_and_repeat_with_the_seed():
    drawn = [weights.tolist() for weights in resampled_weights(7, seed=3, resamples=5)]
    assert all(sum(weights) == 7 for weights in drawn)
    assert drawn == [weights.tolist() for weights in resampled_weights(7, seed=3, resamples=5)]
    assert drawn != [weights.tolist() for weights in resampled_weights(7, seed=4, resamples=5)]


def test_bootstrap_contains_the_figure_and_narrows_with_more_items():
    values = np.tile([0.0, 1.0, 1.0], 20)
    few = bootstrap(mean_of(values[:30]), 30)["mean"]
    many = bootstrap(mean_of(np.tile(values, 10)), 600)["mean"]
    assert few[0] < 2 / 3 < few[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_bootstrap_of_a_mean_agrees_with_the_textbook():
    values = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap(mean_of(values), 400)["mean"]
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_figure_that_never_exists_has_no_interval():
    assert all(math.isnan(end) for end in bootstrap(lambda _: {"f1": math.nan}, 5)["f1"])


def test_pairing_sees_a_small_difference_that_separate_intervals_hide():
    hard = np.random.default_rng(2).random(300)
    mine, theirs = hard + 0.02, hard
    difference = paired_differences(mean_of(mine), mean_of(theirs), 300)["mean"]
    assert difference.value == pytest.approx(0.02) and difference.beyond_chance
    apart = bootstrap(mean_of(mine), 300)["mean"]
    assert apart[0] < theirs.mean() < apart[1]


def test_contender_compared_with_itself_differs_by_nothing():
    values = np.arange(50.0)
    difference = paired_differences(mean_of(values), mean_of(values), 50)["mean"]
    assert difference.value == 0 and difference.interval == (0, 0) and not difference.beyond_chance


def test_gap_test_sees_a_gap_and_none_where_there_is_none():
    even = {"a": [(1, 1)] * 40 + [(0, 1)] * 10, "b": [(1, 1)] * 41 + [(0, 1)] * 9}
    apart = {"a": [(1, 1)] * 48 + [(0, 1)] * 2, "b": [(1, 1)] * 25 + [(0, 1)] * 25}
    assert gap_p_value(even) > 0.3
    assert gap_p_value(apart) < 0.01
    assert gap_p_value({"a": [(1, 1)], "b": [(1, 1)]}) == 1.0


def test_paired_gap_test_is_not_fooled_by_hard_texts_and_sees_a_consistent_gap():
    hard = [(0, 1)] * 20 + [(1, 1)] * 20
    slightly = [(0, 1)] * 28 + [(1, 1)] * 12
    assert paired_gap_p_value({"a": hard, "b": hard}) == 1.0
    assert paired_gap_p_value({"a": hard, "b": slightly}) < 0.02


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(3, 5)), min_size=1, max_size=8))
def test_p_value_is_a_probability_and_does_not_depend_on_the_names_of_groups(people):
    first = gap_p_value({"a": people, "b": people[::-1]})
    assert 0 < first <= 1
    assert first == gap_p_value({"x": people, "y": people[::-1]})
