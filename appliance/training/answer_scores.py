"""How good answers are: words shared with a right quote, the right sentence, and whether there was an answer. Pure.

    judged = [Judged(question, candidate), ...]      # candidates before calibration
    calibration = calibrate(judged)                  # on the development part
    metrics(judged, calibration)                     # f1, exact, sentence_hit, abstention_accuracy, ...

`f1` and `exact` are those of SQuAD (Rajpurkar et al. 2016): case, punctuation and articles do not count, the best of
the right quotes does; over questions that have an answer, whatever the score. `f1_all` is that of SQuAD 2.0: over all
questions, with "not found" right where there is no answer and wrong where there is.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.specialists.manifest import Calibration
from appliance.specialists.tasks.answer import Candidate, score_of
from appliance.training.collections.questions import Question, sentence_spans

NEWTON_STEPS, NEWTON_ENOUGH = 50, 1e-9
RIDGE = 1e-3  # margins that tell the two apart without a fault would have no finite weight
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Judged:
    """A question and the best candidate for its answer; None: the context has no token."""

    question: Question
    candidate: Candidate | None


def words_of(text: str) -> list[str]:
    """What counts of a quote.

    >>> words_of("The Cat, a dog.")
    ['cat', 'dog']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def word_f1(said: str, right: str) -> float:
    """Harmonic mean of the shares of words that two quotes have in common."""
    one, other = Counter(words_of(said)), Counter(words_of(right))
    if not one or not other:
        return float(one == other)
    common = (one & other).total()
    return 2 * common / (one.total() + other.total())


def best_f1(judged: Judged) -> float:
    """F1 with the nearest of the right quotes; 0 without a candidate."""
    question, found = judged.question, judged.candidate
    if found is None:
        return 0.0
    said = question.context[found.start : found.end]
    return max(word_f1(said, question.context[start:end]) for start, end in question.answers)


def hits_sentence(judged: Judged) -> bool:
    """Whether the candidate touches a sentence that holds a right quote."""
    question, found = judged.question, judged.candidate
    if found is None:
        return False
    for start, end in question.answers:
        for first, last in sentence_spans(question.context):
            if first < end and start < last and first < found.end and found.start < last:
                return True
    return False


def calibrate(judged: Sequence[Judged]) -> Calibration:
    """Temperature and bias by logistic regression of "there is an answer" on the margin; the threshold by `f1_all`."""
    margins, answered = _margins(judged)
    weight, bias = _logistic(margins, answered)
    scores = 0.5 * (1.0 + np.tanh(0.5 * (weight * margins + bias)))
    values = np.array([best_f1(one) if one.question.answers else 0.0 for one in judged])
    order = np.argsort(-scores)
    # f1_all when the k surest are answered: their F1, and the unanswerable among the others.
    gained = np.concatenate(([0.0], np.cumsum(values[order])))
    left = np.concatenate(([0.0], np.cumsum(~answered[order])))
    totals = gained + (left[-1] - left)
    best = int(totals.argmax())
    ranked = scores[order]
    threshold = (
        0.0 if best == len(order) else float(ranked[best] if best == 0 else (ranked[best - 1] + ranked[best]) / 2)
    )
    temperature = min(max(1 / weight, 0.01), 100.0)
    return Calibration(
        temperature=round(temperature, 4),
        recall_bias=round(float(np.clip(bias * temperature, -20, 20)), 4),
        abstain_below=round(threshold, 4),
    )


def metrics(judged: Sequence[Judged], calibration: Calibration) -> dict[str, float]:
    """See the module. `calibration_error`: mean distance of score and share that has an answer, over ten bins."""
    margins, answered = _margins(judged)
    scores = np.array([score_of(margin, calibration.temperature, calibration.recall_bias) for margin in margins])
    gives = scores >= calibration.abstain_below
    right = np.array([best_f1(one) if one.question.answers else 0.0 for one in judged])
    found = {
        "f1": float(right[answered].mean()),
        "exact": float((right[answered] == 1.0).mean()),
        "sentence_hit": float(np.mean([hits_sentence(one) for one in judged if one.question.answers])),
        "answered": float(gives[answered].mean()),
    }
    if not answered.all():
        found["f1_all"] = float(np.where(answered, right * gives, ~gives).mean())
        found["abstention_accuracy"] = float((gives == answered).mean())
        found["not_found_recall"] = float((~gives[~answered]).mean())
        found["calibration_error"] = _calibration_error(scores, answered)
    return {name: round(value, 4) for name, value in found.items()}


def _margins(judged: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray]:
    margins = np.array([-30.0 if one.candidate is None else one.candidate.margin for one in judged])
    return margins, np.array([bool(one.question.answers) for one in judged])


def _logistic(margins: np.ndarray, answered: np.ndarray) -> tuple[float, float]:
    """Weight and bias of the regression, by Newton's method on margins of unit variance with halved steps."""
    centre, scale = float(margins.mean()), max(float(margins.std()), 1e-9)
    rows = np.stack(((margins - centre) / scale, np.ones_like(margins)), axis=1)
    truth = answered.astype(np.float64)

    def loss(beta: np.ndarray) -> float:
        logits = rows @ beta
        return float((np.logaddexp(0.0, logits) - truth * logits).sum() + RIDGE * (beta @ beta) / 2)

    beta = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        shares = 0.5 * (1.0 + np.tanh(0.5 * (rows @ beta)))
        gradient = rows.T @ (shares - truth) + RIDGE * beta
        curvature = rows.T @ (rows * (shares * (1 - shares))[:, None]) + RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        before = loss(beta)
        while loss(beta - step) > before and float(np.abs(step).max()) > NEWTON_ENOUGH:
            step = step / 2
        beta = beta - step
        if float(np.abs(step).max()) <= NEWTON_ENOUGH:
            break
    weight = max(float(beta[0]) / scale, 0.01)
    return weight, float(beta[1]) - float(beta[0]) / scale * centre


def _calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    bins = np.minimum((scores * 10).astype(int), 9)
    return sum(
        float(abs(scores[bins == index].mean() - right[bins == index].mean()) * (bins == index).mean())
        for index in range(10)
        if (bins == index).any()
    )
