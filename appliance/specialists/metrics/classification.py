"""Figures of classifications: accuracy, F1 by label, confusion, calibration, abstention. Pure; weighted by item.

    outcomes = Labels(("a", "b"), truth, said, answered, scores)
    measure = labels_measure(outcomes)       # for `intervals.bootstrap`
    confusion(outcomes), reliability(scores, right)

A *said* label is the best one whatever its score; `answered` False: the contender abstained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15
NO_LABEL = -1  # of a truth: out of scope; of what was said: nothing that can be read as a label


@dataclass(frozen=True, slots=True)
class Labels:
    """One label each: columns over items, labels as numbers of `labels`. `scores` None: the contender gives none."""

    labels: tuple[str, ...]
    truth: np.ndarray  # (items,) int, NO_LABEL: out of scope
    said: np.ndarray  # (items,) int, NO_LABEL: nothing readable
    answered: np.ndarray  # (items,) bool
    scores: np.ndarray | None


@dataclass(frozen=True, slots=True)
class LabelSets:
    """Any number of labels each: matrices (items, labels) of truths and of what was assigned."""

    labels: tuple[str, ...]
    truth: np.ndarray
    said: np.ndarray


@dataclass(frozen=True, slots=True)
class Bin:
    """Items whose score is between `low` and `high`: how many, their mean score, and the share that is right."""

    low: float
    high: float
    items: int
    score: float
    right: float


def f1(truth: np.ndarray, said: np.ndarray) -> float:
    """F1 of one label from booleans (items,); 1 where there was nothing to find and nothing was found."""
    found = int((truth & said).sum())
    total = int(truth.sum() + said.sum())
    return 2 * found / total if total else 1.0


def labels_measure(outcomes: Labels) -> Callable[[np.ndarray], Mapping[str, float]]:
    """`accuracy` and `macro_f1` of the best label in scope, whatever its score; with scores `calibration_error`; where
    a contender may abstain `answered`, `accuracy_answered`; where items are out of scope `out_of_scope_recall`.
    """
    inside = outcomes.truth != NO_LABEL
    right = inside & (outcomes.said == outcomes.truth)
    abstains = not outcomes.answered.all() or not inside.all()
    scores = outcomes.scores
    names = _macro_labels(outcomes)

    def measure(weights: np.ndarray) -> Mapping[str, float]:
        asked = weights * inside
        found = {"accuracy": _share(weights * right, asked), "macro_f1": _macro(outcomes, weights * inside, names)}
        if scores is not None:
            chosen = outcomes.said != NO_LABEL
            found["calibration_error"] = calibration_error(scores, right, asked * chosen)
        if abstains:
            answered = asked * outcomes.answered
            found["answered"] = _share(answered, asked)
            found["accuracy_answered"] = _share(answered * right, answered)
        if not inside.all():
            outside = weights * ~inside
            found["out_of_scope_recall"] = _share(outside * ~outcomes.answered, outside)
        return found

    return measure


def label_figures(outcomes: Labels) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of items of every label that occurs, in scope, whatever the score."""
    inside = outcomes.truth != NO_LABEL
    found = {}
    for number in _macro_labels(outcomes):
        truth, said = outcomes.truth[inside] == number, outcomes.said[inside] == number
        found[outcomes.labels[number]] = _prf(truth, said)
    return found


def confusion(outcomes: Labels) -> np.ndarray:
    """Counts (labels + 1, labels + 1): rows true, columns said; last row out of scope, last column no answer."""
    count = len(outcomes.labels)
    said = np.where(outcomes.answered & (outcomes.said != NO_LABEL), outcomes.said, count)
    truth = np.where(outcomes.truth == NO_LABEL, count, outcomes.truth)
    matrix = np.bincount(truth * (count + 1) + said, minlength=(count + 1) ** 2)
    return matrix.reshape(count + 1, count + 1)


def sets_measure(outcomes: LabelSets) -> Callable[[np.ndarray], Mapping[str, float]]:
    """`macro_f1` over labels that occur, `micro_f1` over decisions, `exact`: items with exactly their labels."""
    truth, said = outcomes.truth.astype(bool), outcomes.said.astype(bool)
    both, size = (truth & said).astype(float), truth.astype(float) + said
    exact = (truth == said).all(axis=1)

    def measure(weights: np.ndarray) -> Mapping[str, float]:
        found, total = weights @ both, weights @ size
        with np.errstate(invalid="ignore"):
            by_label = 2 * found[total > 0] / total[total > 0]
        return {
            "macro_f1": float(by_label.mean()) if len(by_label) else math.nan,
            "micro_f1": float(2 * found.sum() / total.sum()) if total.sum() else math.nan,
            "exact": _share(weights * exact, weights),
        }

    return measure


def set_figures(outcomes: LabelSets) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of items of every label."""
    return {
        label: _prf(outcomes.truth[:, column].astype(bool), outcomes.said[:, column].astype(bool))
        for column, label in enumerate(outcomes.labels)
        if outcomes.truth[:, column].any() or outcomes.said[:, column].any()
    }


def expected_calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean distance between score and share that is right, over equal bins of the score, weighted by their size."""
    return calibration_error(scores, right, np.ones(len(scores)))


def calibration_error(scores: np.ndarray, right: np.ndarray, weights: np.ndarray) -> float:
    """The same where items count as often as `weights` says (Naeini et al. 2015)."""
    total = weights.sum()
    if not total:
        return math.nan
    bins = _bin_of(scores)
    score = np.bincount(bins, weights * scores, minlength=BINS)
    good = np.bincount(bins, weights * right, minlength=BINS)
    return float(np.abs(score - good).sum() / total)


def reliability(scores: np.ndarray, right: np.ndarray) -> list[Bin]:
    """The bins of a reliability diagram that are not empty."""
    bins = _bin_of(scores)
    return [
        Bin(
            number / BINS,
            (number + 1) / BINS,
            int(inside.sum()),
            float(scores[inside].mean()),
            float(right[inside].mean()),
        )
        for number in range(BINS)
        if (inside := bins == number).any()
    ]


def _bin_of(scores: np.ndarray) -> np.ndarray:
    return np.minimum((scores * BINS).astype(int), BINS - 1)


def _macro_labels(outcomes: Labels) -> Sequence[int]:
    return sorted({int(number) for number in outcomes.truth} - {NO_LABEL})


def _macro(outcomes: Labels, weights: np.ndarray, numbers: Sequence[int]) -> float:
    """Mean F1 over the labels that occur among the items as weighted."""
    count = len(outcomes.labels)
    inside = outcomes.truth != NO_LABEL
    truth = np.bincount(outcomes.truth[inside], weights[inside], minlength=count)
    readable = inside & (outcomes.said != NO_LABEL)
    said = np.bincount(outcomes.said[readable], weights[readable], minlength=count)
    right = readable & (outcomes.said == outcomes.truth)
    both = np.bincount(outcomes.said[right], weights[right], minlength=count)
    kept = [number for number in numbers if truth[number] > 0]
    return float(np.mean([2 * both[kept] / (truth[kept] + said[kept])])) if kept else math.nan


def _prf(truth: np.ndarray, said: np.ndarray) -> dict[str, float]:
    found = int((truth & said).sum())
    return {
        "items": int(truth.sum()),
        "precision": found / int(said.sum()) if said.any() else math.nan,
        "recall": found / int(truth.sum()) if truth.any() else math.nan,
        "f1": f1(truth, said),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    total = float(whole.sum())
    return float(part.sum()) / total if total else math.nan
