"""Guaranteed here: the temperature undoes overconfidence, the abstention threshold leaves out the share it should, and
a label gets a threshold of its own only where enough texts speak for it."""

import numpy as np
import pytest

from appliance.training.calibration import (
    OWN_THRESHOLD_ITEMS,
    best_temperature,
    best_threshold,
    calibrate,
    expected_calibration_error,
    f1,
    softmax,
)


def drawn(temperature: float, rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sharp by `temperature`, and classes drawn from what they mean."""
    rng = np.random.default_rng(11)
    meant = rng.normal(size=(rows, 4)) * 2
    truth = np.array([rng.choice(4, p=row) for row in softmax(meant)])
    return meant * temperature, truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_sharpened_the_scores(temperature: float) -> None:
    logits, truth = drawn(temperature)
    found = best_temperature(logits, truth)
    assert found == pytest.approx(temperature, rel=0.15)
    scores = softmax(logits / found)
    right = scores.argmax(axis=1) == truth
    assert expected_calibration_error(scores.max(axis=1), right) < 0.03


def test_the_abstention_threshold_leaves_out_the_stated_share_and_most_that_is_out_of_scope() -> None:
    logits, truth = drawn(1.0)
    outside = np.random.default_rng(2).normal(size=(500, 4)) * 0.2
    targets = np.concatenate((np.eye(4)[truth], np.full((500, 4), 0.25)))
    calibration, figures = calibrate(
        np.concatenate((logits * 3, outside)), targets, list("abcd"), multi_label=False, in_scope_share=0.05
    )
    assert figures["answered"] == pytest.approx(0.95, abs=0.01)
    assert figures["out_of_scope_recall"] > 0.5
    assert 0.25 < calibration.abstain_below < 1


def test_a_rare_label_takes_the_threshold_of_all_labels_together() -> None:
    rng = np.random.default_rng(5)
    rows = 400
    truth = np.zeros((rows, 2), dtype=np.float32)
    truth[: rows // 2, 0] = 1
    truth[: OWN_THRESHOLD_ITEMS - 1, 1] = 1
    scores = np.where(truth > 0, 0.6, 0.2) + rng.normal(size=truth.shape) * 0.02
    scores[0, 1] = 0.95  # one lucky text must not decide
    calibration, _ = calibrate(
        np.log(scores / (1 - scores)), truth, ["often", "rare"], multi_label=True, in_scope_share=0
    )
    assert calibration.thresholds["rare"] == calibration.thresholds["often"]
    truth[: OWN_THRESHOLD_ITEMS + 5, 1] = 1
    scores[:, 1] = np.where(truth[:, 1] > 0, 0.9, 0.75)
    calibration, figures = calibrate(
        np.log(scores / (1 - scores)), truth, ["often", "rare"], multi_label=True, in_scope_share=0
    )
    assert calibration.thresholds["rare"] > 0.75 > calibration.thresholds["often"]
    assert figures["macro_f1"] > 0.99


def test_f1_of_nothing_to_find_is_one_and_a_threshold_in_the_middle_wins_a_tie() -> None:
    none = np.zeros(3, dtype=bool)
    assert f1(none, none) == 1
    assert f1(np.array([True, True, False]), np.array([True, False, False])) == pytest.approx(2 / 3)
    assert best_threshold(np.array([True, False]), np.array([0.9, 0.1])) == pytest.approx(0.5)
