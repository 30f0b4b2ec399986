"""Figures of spans: exact entities by label, and characters whatever the entity boundaries. Pure; weighted by item.

    counts = span_counts([(text, true_spans, said_spans), …], labels)
    measure = spans_measure(counts)          # for `intervals.bootstrap`

A span is right if start, end and label are. A character counts if it is a letter or a digit: white space and
punctuation are not what anybody looks for; it is found if a span of any label covers it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.types import Span

TaggedItem = tuple[str, Sequence[Span], Sequence[Span]]


@dataclass(frozen=True, slots=True)
class SpanCounts:
    """Per item and label (items, labels): spans right, true, said; characters right (own label), true, said. Per item
    (items,): characters found under any label, true ones and said ones.
    """

    labels: tuple[str, ...]
    right: np.ndarray
    true: np.ndarray
    said: np.ndarray
    chars_right: np.ndarray
    chars_true: np.ndarray
    chars_said: np.ndarray
    any_found: np.ndarray
    any_true: np.ndarray
    any_said: np.ndarray


def span_counts(items: Sequence[TaggedItem], labels: Iterable[str]) -> SpanCounts:
    """Count once; every figure and every resample is made of these. Spans of other labels are counted as well."""
    seen = {span.label for _, true, said in items for span in (*true, *said)}
    names = tuple(dict.fromkeys([*labels, *sorted(seen)]))
    column = {label: number for number, label in enumerate(names)}
    tables = {name: np.zeros((len(items), len(names))) for name in ("right", "true", "said", "cr", "ct", "cs")}
    anyone = np.zeros((3, len(items)))
    for row, (text, true, said) in enumerate(items):
        wanted = {(span.start, span.end, span.label) for span in true}
        given = {(span.start, span.end, span.label) for span in said}
        for name, spans in (("right", wanted & given), ("true", wanted), ("said", given)):
            for _, _, label in spans:
                tables[name][row, column[label]] += 1
        truth, guess = _characters(text, true, column), _characters(text, said, column)
        for name, chars in (("ct", truth[truth >= 0]), ("cs", guess[guess >= 0])):
            tables[name][row] = np.bincount(chars, minlength=len(names))
        tables["cr"][row] = np.bincount(truth[(truth >= 0) & (truth == guess)], minlength=len(names))
        anyone[:, row] = ((truth >= 0) & (guess >= 0)).sum(), (truth >= 0).sum(), (guess >= 0).sum()
    return SpanCounts(
        names,
        tables["right"],
        tables["true"],
        tables["said"],
        tables["cr"],
        tables["ct"],
        tables["cs"],
        anyone[0],
        anyone[1],
        anyone[2],
    )


def spans_measure(counts: SpanCounts) -> Callable[[np.ndarray], Mapping[str, float]]:
    """Micro figures of spans (`span_…`) and of characters under any label (`character_…`), the mean F1 of labels, and
    `items_without_miss`: items whose true characters were all found.
    """
    whole = counts.any_found == counts.any_true

    def measure(weights: np.ndarray) -> Mapping[str, float]:
        right, true, said = weights @ counts.right, weights @ counts.true, weights @ counts.said
        found, wanted, given = (float(weights @ part) for part in (counts.any_found, counts.any_true, counts.any_said))
        occurs = true > 0
        return {
            "span_precision": _ratio(right.sum(), said.sum()),
            "span_recall": _ratio(right.sum(), true.sum()),
            "span_f1": _ratio(2 * right.sum(), true.sum() + said.sum()),
            "span_macro_f1": float((2 * right[occurs] / (true + said)[occurs]).mean()) if occurs.any() else math.nan,
            "character_precision": _ratio(found, given),
            "character_recall": _ratio(found, wanted),
            "character_f1": _ratio(2 * found, wanted + given),
            "items_without_miss": _ratio(float(weights @ whole), float(weights.sum())),
        }

    return measure


def span_label_figures(counts: SpanCounts) -> dict[str, dict[str, float]]:
    """By label: spans, their precision, recall and F1, and the same of characters under the own label."""
    found = {}
    for number, label in enumerate(counts.labels):
        right, true, said = (float(part[:, number].sum()) for part in (counts.right, counts.true, counts.said))
        if not true and not said:
            continue
        chars = [float(part[:, number].sum()) for part in (counts.chars_right, counts.chars_true, counts.chars_said)]
        found[label] = {
            "items": int(true),
            "precision": _ratio(right, said),
            "recall": _ratio(right, true),
            "f1": _ratio(2 * right, true + said),
            "character_precision": _ratio(chars[0], chars[2]),
            "character_recall": _ratio(chars[0], chars[1]),
        }
    return found


def covered(text: str, true: Iterable[Span], said: Iterable[Span]) -> tuple[int, int]:
    """(spans of which every letter and digit is covered by something said, all) of `true`."""
    left = _characters(text, said, None) < 0
    counted = _counted(text)
    found = total = 0
    for span in true:
        total += 1
        found += not (left & counted)[span.start : span.end].any()
    return found, total


def _characters(text: str, spans: Iterable[Span], column: Mapping[str, int] | None) -> np.ndarray:
    """Per character the number of its label, -1 where there is none or the character does not count."""
    numbers = np.full(len(text), -1)
    for span in spans:
        numbers[span.start : span.end] = 0 if column is None else column[span.label]
    numbers[~_counted(text)] = -1
    return numbers


def _counted(text: str) -> np.ndarray:
    return np.array([character.isalnum() for character in text], dtype=bool)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
