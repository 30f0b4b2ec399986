"""How well a taught classifier does on the part that was held out. NumPy only.

    report = measured(logits, truth, labels, calibration, multi_label=False)

Intervals are 95 %: Wilson's for shares, 1,000 bootstrap samples with a fixed seed for means over labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from appliance.specialists.manifest import Calibration
from appliance.training.calibration import expected_calibration_error, f1, softmax

RESAMPLES = 1000
CONFUSION_LABELS_MAX = 40
_Z = 1.959964
_THRESHOLD = 0.5


def measured(
    logits: np.ndarray, truth: np.ndarray, labels: Sequence[str], calibration: Calibration, *, multi_label: bool
) -> dict[str, Any]:
    """`truth` (texts, labels) of 0 and 1. A metric is {"value", "low", "high"}."""
    said, scores = _decided(logits, labels, calibration, multi_label)
    report: dict[str, Any] = {
        "items": len(truth),
        "per_label": [_label(name, truth[:, at], said[:, at]) for at, name in enumerate(labels)],
    }
    macro = _bootstrapped(len(truth), lambda rows: _macro_f1(truth[rows], said[rows]))
    if multi_label:
        exact = int((truth == said).all(axis=1).sum())
        return report | {"metrics": {"macro_f1": macro, "exact": share(exact, len(truth))}}
    best, right = scores.max(axis=1), scores.argmax(axis=1) == truth.argmax(axis=1)
    answered = best >= calibration.abstain_below
    common = int(np.bincount(truth.argmax(axis=1)).max())
    report["metrics"] = {
        "accuracy": share(int(right.sum()), len(truth)),
        "macro_f1": macro,
        "answered": share(int(answered.sum()), len(truth)),
        "accuracy_answered": share(int((right & answered).sum()), int(answered.sum())),
        "always_the_commonest": share(common, len(truth)),
    }
    report["calibration_error"] = round(expected_calibration_error(best, right), 4)
    report["confusion"] = _confusion(truth.argmax(axis=1), scores.argmax(axis=1), labels)
    return report


def share(part: int, whole: int) -> dict[str, float]:
    """A share with Wilson's interval; of nothing, all that can be said is 0 to 1."""
    if whole == 0:
        return {"value": 0.0, "low": 0.0, "high": 1.0}
    value, square = part / whole, _Z * _Z
    centre = (value + square / (2 * whole)) / (1 + square / whole)
    spread = _Z / (1 + square / whole) * math.sqrt(value * (1 - value) / whole + square / (4 * whole * whole))
    return _metric(value, max(0.0, centre - spread), min(1.0, centre + spread))


def _decided(
    logits: np.ndarray, labels: Sequence[str], calibration: Calibration, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """What is said (texts, labels) whatever the score of the best, and the scores."""
    scaled = logits.astype(np.float64) / calibration.temperature
    if multi_label:
        scores = 0.5 * (1.0 + np.tanh(0.5 * scaled))
        return scores >= np.array([calibration.thresholds.get(label, _THRESHOLD) for label in labels]), scores
    scores = softmax(scaled)
    return scores.argmax(axis=1)[:, None] == np.arange(len(labels)), scores


def _label(name: str, truth: np.ndarray, said: np.ndarray) -> dict[str, Any]:
    found, true, given = int((truth.astype(bool) & said).sum()), int(truth.sum()), int(said.sum())
    return {
        "label": name,
        "items": true,
        "recall": share(found, true),
        "precision": share(found, given),
        "f1": round(f1(truth.astype(bool), said), 4),
    }


def _macro_f1(truth: np.ndarray, said: np.ndarray) -> float:
    """Over the labels that occur, so that one without a held-out text neither helps nor harms."""
    occurs = truth.any(axis=0)
    found = (truth.astype(bool) & said).sum(axis=0)
    total = truth.sum(axis=0) + said.sum(axis=0)
    return float((2 * found[occurs] / np.maximum(total[occurs], 1)).mean()) if occurs.any() else 0.0


def _bootstrapped(items: int, of: Callable[[np.ndarray], float]) -> dict[str, float]:
    rng = np.random.default_rng(0)
    drawn = [of(rng.integers(items, size=items)) for _ in range(RESAMPLES)]
    return _metric(of(np.arange(items)), float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975)))


def _confusion(truth: np.ndarray, said: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Rows are true labels, columns what was said; of many labels, those that are confused most."""
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, (truth, said), 1)
    if len(labels) > CONFUSION_LABELS_MAX:
        wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
        kept = np.sort(np.argsort(-wrong, kind="stable")[:CONFUSION_LABELS_MAX])
        counts, labels = counts[np.ix_(kept, kept)], [labels[at] for at in kept]
    return {"labels": list(labels), "counts": counts.tolist()}


def _metric(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
