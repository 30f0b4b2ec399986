"""From raw logits to decisions that mean what they say: temperature, abstention, thresholds. NumPy only.

    calibration, figures = calibrate(logits, targets, labels, multi_label=False, in_scope_share=0.02)

The temperature minimises the negative log-likelihood of the in-scope texts (Guo et al. 2017); the abstention threshold
is the score that a stated share of them stays under; thresholds of a multi-label head maximise each label's F1, or for
rare labels that of all together. All come from the development part; their effect is measured on the held-back one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliance.specialists.manifest import Calibration
from appliance.specialists.metrics.classification import expected_calibration_error, f1

TEMPERATURES = np.geomspace(0.25, 4.0, 97)
THRESHOLDS = np.linspace(0.05, 0.95, 91)
OWN_THRESHOLD_ITEMS = 10  # a label with fewer development texts takes the threshold of all labels together


def calibrate(
    logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], *, multi_label: bool, in_scope_share: float
) -> tuple[Calibration, dict[str, float]]:
    """The calibration, and the figures of the development part under it. `targets` as training has them."""
    if multi_label:
        thresholds, figures = _label_thresholds(logits, targets > 0.5, labels)
        return Calibration(thresholds=thresholds), figures
    in_scope = targets.max(axis=1) > 1.5 / targets.shape[1]  # without a label every share is the same
    truth = targets.argmax(axis=1)
    temperature = best_temperature(logits[in_scope], truth[in_scope])
    scores = softmax(logits / temperature)
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    threshold = float(np.quantile(best[in_scope], in_scope_share)) if in_scope_share else 0.0
    figures = {
        "accuracy": float(right[in_scope].mean()),
        "calibration_error": expected_calibration_error(best[in_scope], right[in_scope]),
    }
    if threshold:
        figures["accuracy_answered"] = float((right & (best >= threshold))[in_scope].mean())
        figures["answered"] = float((best >= threshold)[in_scope].mean())
    if threshold and not in_scope.all():
        figures["out_of_scope_recall"] = float((best < threshold)[~in_scope].mean())
    return Calibration(temperature=temperature, abstain_below=round(threshold, 4)), figures


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of probabilities."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def best_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature under which the true labels are most likely."""
    rows = np.arange(len(truth))

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits / temperature)[rows, truth] + 1e-12).mean())

    return round(float(min(TEMPERATURES, key=loss)), 4)


def best_threshold(truth: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the best F1; of equally good ones the nearest to a half, which gives way least elsewhere."""
    values = [(f1(truth, scores >= at), -abs(at - 0.5), at) for at in THRESHOLDS.tolist()]
    return max(values)[2]


def _label_thresholds(
    logits: np.ndarray, truth: np.ndarray, labels: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    scores = 0.5 * (1.0 + np.tanh(0.5 * logits))
    common = best_threshold(truth.ravel(), scores.ravel())
    thresholds, figures = {}, {}
    for column, label in enumerate(labels):
        enough = int(truth[:, column].sum()) >= OWN_THRESHOLD_ITEMS
        best = best_threshold(truth[:, column], scores[:, column]) if enough else common
        thresholds[label] = round(float(best), 3)
        figures[f"f1_{label}"] = f1(truth[:, column], scores[:, column] >= best)
    figures["macro_f1"] = float(np.mean([figures[f"f1_{label}"] for label in labels]))
    return thresholds, figures
