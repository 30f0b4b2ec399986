"""Figures of classifications agree with counting by hand and with repeated items where they are weighted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.specialists.metrics.classification import (
    NO_LABEL,
    Labels,
    LabelSets,
    calibration_error,
    confusion,
    expected_calibration_error,
    f1,
    label_figures,
    labels_measure,
    reliability,
    set_figures,
    sets_measure,
)

NAMES = ("a", "b", "c")


def outcomes(pairs, answered=None, scores=None) -> Labels:
    truth, said = (np.array(column) for column in zip(*pairs, strict=True))
    kept = np.ones(len(pairs), bool) if answered is None else np.array(answered)
    return Labels(NAMES, truth, said, kept, None if scores is None else np.array(scores))


def figures(measured, count) -> dict[str, float]:
    return dict(measured(np.ones(count, dtype=np.int64)))


def test_accuracy_and_macro_f1_by_hand():
    found = figures(labels_measure(outcomes([(0, 0), (0, 1), (1, 1), (2, 2)])), 4)
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert set(found) == {"accuracy", "macro_f1"}


def test_what_cannot_be_read_is_wrong():
    assert figures(labels_measure(outcomes([(0, 0), (0, NO_LABEL)])), 2)["accuracy"] == 0.5


def test_abstention_costs_answers_and_catches_what_is_out_of_scope():
    pairs = [(0, 0), (0, 1), (NO_LABEL, 1), (NO_LABEL, 0)]
    found = figures(labels_measure(outcomes(pairs, answered=[True, False, False, True])), 4)
    assert found["accuracy"] == 0.5
    assert (found["answered"], found["accuracy_answered"], found["out_of_scope_recall"]) == (0.5, 1.0, 0.5)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 2), st.integers(0, 4)), min_size=1, max_size=12).filter(
        lambda rows: any(weight for *_, weight in rows)
    )
)
def test_weights_are_the_same_as_repeating_items(rows):
    weights = np.array([weight for *_, weight in rows])
    pairs = [(truth, said) for truth, said, _ in rows]
    repeated = [pair for pair, weight in zip(pairs, weights, strict=True) for _ in range(weight)]
    scores = [0.1 * (place % 10) for place in range(len(pairs))]
    again = [score for score, weight in zip(scores, weights, strict=True) for _ in range(weight)]
    weighted = labels_measure(outcomes(pairs, scores=scores))(weights)
    counted = figures(labels_measure(outcomes(repeated, scores=again)), len(repeated))
    assert {name: weighted[name] for name in counted} == pytest.approx(counted, nan_ok=True)


def test_confusion_counts_every_item_once_and_has_places_for_none():
    matrix = confusion(outcomes([(0, 0), (0, 1), (NO_LABEL, 2), (1, 1)], answered=[True, True, True, False]))
    assert matrix.sum() == 4
    assert (matrix[0, 0], matrix[0, 1], matrix[3, 2], matrix[1, 3]) == (1, 1, 1, 1)


def test_label_figures_leave_out_labels_that_do_not_occur():
    found = label_figures(outcomes([(0, 0), (0, 1)]))
    assert set(found) == {"a"}
    assert found["a"] == {"items": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}


def test_scores_that_mean_what_they_say_have_no_calibration_error():
    scores = np.array([0.75] * 4 + [0.25] * 4)
    right = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    assert expected_calibration_error(scores, right) == pytest.approx(0)
    assert expected_calibration_error(np.ones(4), np.array([1, 1, 0, 0], bool)) == 0.5
    assert math.isnan(calibration_error(scores, right, np.zeros(8)))


def test_reliability_has_one_bin_for_scores_that_are_near():
    bins = reliability(np.array([0.9, 0.91, 0.1]), np.array([True, False, True]))
    assert [(one.items, one.right) for one in bins] == [(1, 1.0), (2, 0.5)]
    assert sum(one.items for one in bins) == 3


def test_several_labels_by_hand():
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
    said = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], bool)
    found = figures(sets_measure(LabelSets(NAMES, truth, said)), 3)
    assert found == {"macro_f1": 0.5, "micro_f1": pytest.approx(2 * 2 / 6), "exact": pytest.approx(1 / 3)}
    by_label = set_figures(LabelSets(NAMES, truth, said))
    assert set(by_label) == {"a", "b"}
    assert by_label["b"]["recall"] == 0 and by_label["a"]["f1"] == 1


def test_nothing_to_find_and_nothing_found_is_right():
    assert f1(np.zeros(3, bool), np.zeros(3, bool)) == 1.0
    empty = LabelSets(NAMES, np.zeros((2, 3), bool), np.zeros((2, 3), bool))
    found = figures(sets_measure(empty), 2)
    assert found["exact"] == 1 and math.isnan(found["macro_f1"])
