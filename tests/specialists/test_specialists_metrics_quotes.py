"""Quotes are compared word by word as SQuAD does; declining is right exactly where there is no answer."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.specialists.metrics.quotes import (
    judge_quote,
    normalised,
    quotes_measure,
    sentences_of,
    word_f1,
)

CONTEXT = "The lease began in 2016. It expires on 4 June 2026, unless renewed.\nRent is 900."


def test_articles_case_and_punctuation_do_not_count():
    assert normalised("The 4 June, 2026!") == "4 june 2026"
    assert word_f1("the 4 June", "4 june.") == 1


def test_part_of_the_words_is_part_of_the_score():
    judged = judge_quote(CONTEXT, ("4 June 2026",), "June 2026", CONTEXT.index("June 2026"))
    assert judged.exact == 0
    assert judged.f1 == pytest.approx(2 * 2 / 5)
    assert judged.sentence == 1


def test_best_of_several_answers_counts():
    assert judge_quote(CONTEXT, ("900", "2016"), "2016", CONTEXT.index("2016")).exact == 1


def test_quote_from_another_sentence_is_no_sentence_hit():
    assert judge_quote(CONTEXT, ("2016",), "900", CONTEXT.index("900")).sentence == 0


@pytest.mark.parametrize(
    ("truths", "said", "score"), [((), None, 1.0), ((), "2016", 0.0), (("2016",), None, 0.0)], ids=str
)
def test_declining_is_right_where_there_is_no_answer_and_nowhere_else(truths, said, score):
    judged = judge_quote(CONTEXT, truths, said)
    assert (judged.exact, judged.f1) == (score, score)


def test_figures_over_all_and_over_the_answerable():
    judged = [
        judge_quote(CONTEXT, ("2016",), "2016", CONTEXT.index("2016")),
        judge_quote(CONTEXT, (), "900"),
        judge_quote(CONTEXT, ("900",), None),
        judge_quote(CONTEXT, (), None),
    ]
    found = quotes_measure(judged)(np.ones(4))
    assert (found["f1"], found["f1_answerable"], found["sentence_hit"], found["abstention"]) == (0.5, 0.5, 0.5, 0.5)


def test_sentences_cover_every_word():
    assert [CONTEXT[start:end] for start, end in sentences_of(CONTEXT)] == [
        "The lease began in 2016.",
        "It expires on 4 June 2026, unless renewed.",
        "Rent is 900.",
    ]


@given(st.text(alphabet="ab .!\n", max_size=40))
def test_sentences_are_in_order_and_hold_all_letters(text):
    places = sentences_of(text)
    assert all(before[1] <= after[0] for before, after in pairwise(places))
    inside = "".join(text[start:end] for start, end in places)
    assert [letter for letter in inside if letter.isalpha()] == [letter for letter in text if letter.isalpha()]


@given(
    st.lists(st.sampled_from(["one", "two", "three"]), max_size=5),
    st.lists(st.sampled_from(["one", "four"]), max_size=5),
)
def test_word_f1_is_symmetric_and_a_share(first, second):
    forward, backward = word_f1(" ".join(first), " ".join(second)), word_f1(" ".join(second), " ".join(first))
    assert forward == pytest.approx(backward)
    assert 0 <= forward <= 1
