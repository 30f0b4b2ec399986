"""Guaranteed here: the figures of a report are those of its definition, with intervals that hold them."""

import numpy as np
import pytest

from appliance.specialists.manifest import Calibration
from appliance.training.teaching.measures import CONFUSION_LABELS_MAX, measured, share


def one_hot(classes, count):
    return (np.asarray(classes)[:, None] == np.arange(count)).astype(np.float32)


def test_shares_have_wilsons_interval():
    assert share(81, 263) == {"value": 0.308, "low": 0.2553, "high": 0.3662}  # Newcombe 1998, table I
    assert share(0, 20)["low"] == 0.0 and share(0, 20)["high"] == pytest.approx(0.1611, abs=1e-4)
    assert share(0, 0) == {"value": 0.0, "low": 0.0, "high": 1.0}


def test_accuracy_confusion_and_labels_are_counted():
    truth = one_hot([0, 0, 0, 1, 1, 2], 3)
    said = one_hot([0, 0, 1, 1, 1, 0], 3) * 10
    report = measured(said, truth, ["a", "b", "c"], Calibration(abstain_below=0.1), multi_label=False)
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(4 / 6, abs=1e-4)
    assert report["metrics"]["always_the_commonest"]["value"] == 0.5
    assert report["confusion"] == {"labels": ["a", "b", "c"], "counts": [[2, 1, 0], [0, 2, 0], [1, 0, 0]]}
    a, b, c = report["per_label"]
    assert (a["recall"]["value"], a["precision"]["value"], a["items"]) == (0.6667, 0.6667, 3)
    assert (b["recall"]["value"], b["precision"]["value"]) == (1.0, 0.6667)
    assert (c["f1"], c["recall"]["value"]) == (0.0, 0.0)
    low, high = report["metrics"]["macro_f1"]["low"], report["metrics"]["macro_f1"]["high"]
    assert low <= report["metrics"]["macro_f1"]["value"] <= high


def test_abstention_is_what_serving_does():
    truth = one_hot([0, 1], 2)
    logits = np.array([[3.0, 0.0], [0.2, 0.1]])
    report = measured(logits, truth, ["a", "b"], Calibration(abstain_below=0.9), multi_label=False)
    assert report["metrics"]["answered"]["value"] == 0.5
    assert report["metrics"]["accuracy_answered"]["value"] == 1.0


def test_several_labels_at_once_follow_their_thresholds():
    truth = np.array([[1, 1], [0, 1], [0, 0]], dtype=np.float32)
    logits = np.array([[5.0, 5.0], [-5.0, 1.0], [-5.0, 1.0]])
    strict = measured(logits, truth, ["a", "b"], Calibration(thresholds={"b": 0.9}), multi_label=True)
    assert strict["metrics"]["exact"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    loose = measured(logits, truth, ["a", "b"], Calibration(), multi_label=True)
    assert loose["per_label"][1]["precision"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert "confusion" not in loose


def test_of_many_labels_the_confused_ones_are_shown():
    count = CONFUSION_LABELS_MAX + 30
    truth, said = np.arange(count), np.arange(count)
    said[50] = 51
    report = measured(one_hot(said, count) * 9, one_hot(truth, count), [f"l{n}" for n in range(count)], Calibration(),
                      multi_label=False)  # fmt: skip
    assert {"l50", "l51"} <= set(report["confusion"]["labels"])
    assert len(report["confusion"]["labels"]) == CONFUSION_LABELS_MAX
