"""Guaranteed here: quotes are scored as SQuAD scores them, and calibration finds the probabilities and the threshold
that were put into the data. Candidates by hand."""

import numpy as np
import pytest

from appliance.specialists.manifest import Calibration
from appliance.specialists.tasks.answer import Candidate
from appliance.training.answer_scores import Judged, best_f1, calibrate, hits_sentence, metrics, word_f1
from appliance.training.collections.questions import Question

CONTEXT = "The cat sat on a mat. The dog barked at noon. Nobody came."


def judged(said: str | None, *right: str, margin: float = 1.0) -> Judged:
    answers = tuple((CONTEXT.index(one), CONTEXT.index(one) + len(one)) for one in right)
    start = CONTEXT.index(said) if said else 0
    found = None if said is None else Candidate(start, start + len(said), margin)
    return Judged(Question("what?", CONTEXT, answers, "any", "any"), found)


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("The cat", "cat", 1.0),
        ("the CAT!", "a cat.", 1.0),
        ("cat sat", "cat", 2 / 3),
        ("dog", "cat", 0.0),
        ("the", "a", 1.0),
        ("the", "cat", 0.0),
        ("cat cat dog", "cat dog dog", 2 / 3),
    ],
)
def test_words_count_without_case_punctuation_and_articles(said: str, right: str, expected: float) -> None:
    assert word_f1(said, right) == pytest.approx(expected)


def test_the_nearest_of_the_right_quotes_counts_and_nothing_said_is_nothing_right() -> None:
    assert best_f1(judged("cat", "The dog barked", "The cat")) == 1.0
    assert best_f1(judged(None, "The cat")) == 0.0


def test_a_quote_hits_where_it_touches_the_right_sentence() -> None:
    assert hits_sentence(judged("barked", "noon"))
    assert not hits_sentence(judged("mat", "noon"))
    assert not hits_sentence(judged(None, "noon"))


def test_calibration_finds_the_probabilities_that_were_put_in() -> None:
    rng = np.random.default_rng(5)
    margins = rng.normal(0, 4, 4000)
    there = rng.random(4000) < 1 / (1 + np.exp(-(margins + 1.0) / 2.0))
    cases = [judged("cat", *(["cat"] if has else []), margin=m) for m, has in zip(margins, there, strict=True)]
    found = calibrate(cases)
    assert found.temperature == pytest.approx(2.0, abs=0.25)
    assert found.recall_bias == pytest.approx(1.0, abs=0.3)
    assert metrics(cases, found)["calibration_error"] < 0.03


def test_the_threshold_separates_what_can_be_separated() -> None:
    cases = [judged("cat", "cat", margin=3.0 + n / 10) for n in range(20)]
    cases += [judged("cat", margin=-3.0 - n / 10) for n in range(20)]
    figures = metrics(cases, calibrate(cases))
    assert figures["f1"] == figures["f1_all"] == figures["abstention_accuracy"] == figures["not_found_recall"] == 1.0


def test_margins_far_apart_and_of_any_size_are_calibrated_without_overflow() -> None:
    rng = np.random.default_rng(6)
    margins = np.concatenate((rng.normal(60, 20, 300), rng.normal(-90, 30, 200)))
    with np.errstate(all="raise"):
        cases = [judged("cat", *(["cat"] if n < 300 else []), margin=float(m)) for n, m in enumerate(margins)]
        figures = metrics(cases, calibrate(cases))
    assert figures["calibration_error"] < 0.02
    assert figures["abstention_accuracy"] > 0.98


def test_figures_count_what_they_say() -> None:
    sure = Calibration(temperature=1.0, abstain_below=0.5)
    cases = [
        judged("cat", "cat"),
        judged("mat", "noon", margin=-1.0),
        judged("dog", margin=2.0),
        judged("dog", margin=-2),
    ]
    figures = metrics(cases, sure)
    assert (figures["f1"], figures["exact"], figures["sentence_hit"], figures["answered"]) == (0.5, 0.5, 0.5, 0.5)
    assert (figures["f1_all"], figures["abstention_accuracy"], figures["not_found_recall"]) == (0.5, 0.5, 0.5)
