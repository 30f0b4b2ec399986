"""BIO classes and their constrained decoding: logits per token in, labelled token ranges out. Pure; no text here.

For labels `("NAME", "DATE")` the classes are `O, B-NAME, I-NAME, B-DATE, I-DATE`, in that order: class `2k + 1` begins
label k and class `2k + 2` continues it. `I-x` may only follow `B-x` or `I-x`; among all sequences that keep to
this rule the decoder returns one of highest total logit (Viterbi).

>>> import numpy as np
>>> logits = np.array([[0.0, 5.0, 0.0], [0.0, 0.0, 5.0], [5.0, 0.0, 0.0]], dtype=np.float32)
>>> [(span.first, span.end, span.label) for span in decode(logits)]
[(0, 2, 0)]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Tokens `first` to `end` (exclusive) carry label number `label`; `score` is the mean probability of it."""

    first: int
    end: int
    label: int
    score: float


def class_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The classes of a head over `labels`, in the order of its output columns."""
    return ("O", *(f"{position}-{label}" for label in labels for position in "BI"))


def class_count(label_count: int) -> int:
    """How many columns a head over that many labels has."""
    return 1 + 2 * label_count


def decode(logits: np.ndarray, recall_bias: float = 0.0) -> tuple[TokenSpan, ...]:
    """The best legal BIO reading of `logits` (T, 1 + 2 * labels), left to right.

    `recall_bias` is taken off the logit of O before decoding, so a positive value finds more and errs more. Scores
    are probabilities of the unbiased logits: a span found only thanks to the bias shows its low score.
    """
    if logits.ndim != 2 or logits.shape[1] < 3 or logits.shape[1] % 2 == 0:
        raise ValueError(f"expected (tokens, 1 + 2 * labels) logits, got shape {logits.shape}")
    if logits.shape[0] == 0:
        return ()
    biased = logits.astype(np.float64)
    biased[:, 0] -= recall_bias
    path = best_path(biased)
    return _token_spans(path, _label_probabilities(logits))


def best_path(logits: np.ndarray) -> np.ndarray:
    """Class per token (T,) of the legal sequence with the highest sum of logits."""
    greedy = logits.argmax(axis=1)
    if _is_legal(greedy):
        return greedy  # no legal sequence can beat the unconstrained best, so the search is only needed otherwise
    return _viterbi(logits)


def _is_legal(path: np.ndarray) -> bool:
    inside = (path > 0) & (path % 2 == 0)
    before = np.concatenate(([0], path[:-1]))
    continues = (before == path) | (before == path - 1)
    return bool(np.all(continues[inside]))


def _viterbi(logits: np.ndarray) -> np.ndarray:
    """O and B-x may follow anything, I-x only its own label; so a step costs a few operations on one row.

    Two back-pointers suffice: the best class of the step before (for O and every B), and per label whether I or B
    was the better one to continue from.
    """
    count = logits.shape[0]
    outside, begins, insides = logits[:, 0].tolist(), logits[:, 1::2], logits[:, 2::2]
    labels = begins.shape[1]
    best_before = np.zeros(count, dtype=np.int64)
    from_inside = np.zeros((count, labels), dtype=bool)
    score_outside, begin, inside = outside[0], begins[0].copy(), np.full(labels, -np.inf)
    entry = np.empty(labels)
    for step in range(1, count):
        np.greater(inside, begin, out=from_inside[step])
        np.maximum(inside, begin, out=entry)
        label = int(entry.argmax())
        best = float(entry[label])
        if score_outside >= best:
            best, best_before[step] = score_outside, 0
        else:
            best_before[step] = 2 * label + 1 + from_inside[step, label]
        np.add(entry, insides[step], out=inside)
        np.add(begins[step], best, out=begin)
        score_outside = best + outside[step]
    last = np.empty(1 + 2 * labels)
    last[0], last[1::2], last[2::2] = score_outside, begin, inside
    return _trace(int(last.argmax()), best_before, from_inside)


def _trace(last: int, best_before: np.ndarray, from_inside: np.ndarray) -> np.ndarray:
    path = np.empty(best_before.shape[0], dtype=np.int64)
    current = last
    for step in range(path.shape[0] - 1, -1, -1):
        path[step] = current
        if current and current % 2 == 0:
            label = current // 2 - 1
            current = 2 * label + 1 + int(from_inside[step, label])
        else:
            current = int(best_before[step])
    return path


def _label_probabilities(logits: np.ndarray) -> np.ndarray:
    """(T, labels): probability that a token belongs to the label, whether it begins or continues it."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    return (weights[:, 1::2] + weights[:, 2::2]) / weights.sum(axis=1, keepdims=True)


def _token_spans(path: np.ndarray, probabilities: np.ndarray) -> tuple[TokenSpan, ...]:
    spans = []
    begins = np.flatnonzero(path % 2 == 1)
    for first in begins.tolist():
        label = (int(path[first]) - 1) // 2
        end = first + 1
        while end < path.shape[0] and path[end] == 2 * label + 2:
            end += 1
        score = float(probabilities[first:end, label].mean())
        spans.append(TokenSpan(first, end, label, min(score, 1.0)))
    return tuple(spans)
