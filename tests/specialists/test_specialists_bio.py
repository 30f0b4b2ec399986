"""BIO decoding: the result is always legal, is never worse than any other legal sequence (checked by brute force),
and a bias against O finds at least as many tokens. Random logits with printed seeds come from hypothesis.
"""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.specialists.tasks.bio import best_path, class_count, class_names, decode


def legal(path) -> bool:
    before = 0
    for current in path:
        if current and current % 2 == 0 and before not in (current, current - 1):
            return False
        before = current
    return True


finite = st.floats(-20, 20, allow_nan=False, width=32)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(5)), elements=finite))
@settings(max_examples=150, deadline=None)
def test_path_is_legal_and_no_legal_sequence_scores_higher(logits):
    path = best_path(logits.astype(np.float64))
    assert legal(path)
    rows = range(logits.shape[0])
    reached = sum(float(logits[row, path[row]]) for row in rows)
    best = max(
        sum(float(logits[row, choice[row]]) for row in rows)
        for choice in itertools.product(range(5), repeat=logits.shape[0])
        if legal(choice)
    )
    assert reached == pytest.approx(best, abs=1e-3)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(7)), elements=finite), st.floats(0, 10))
@settings(max_examples=100, deadline=None)
def test_spans_are_ordered_disjoint_and_scored_between_zero_and_one(logits, bias):
    spans = decode(logits, bias)
    end = 0
    for span in spans:
        assert end <= span.first < span.end <= logits.shape[0]
        assert 0.0 <= span.score <= 1.0
        assert 0 <= span.label < 3
        end = span.end


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(5)), elements=finite), st.floats(0, 8))
@settings(max_examples=100, deadline=None)
def test_a_bias_against_outside_never_covers_fewer_tokens(logits, bias):
    covered = [sum(span.end - span.first for span in decode(logits, value)) for value in (0.0, bias)]
    assert covered[1] >= covered[0]


def test_inside_of_another_label_is_not_joined_to_the_label_before_it():
    logits = np.full((3, 5), -5.0, dtype=np.float32)
    logits[0, 1] = logits[1, 4] = logits[2, 4] = 5.0  # B-first, then I-second twice: illegal as it stands
    spans = decode(logits)
    assert all(legal_span.label == spans[-1].label for legal_span in spans[-1:])
    assert {span.label for span in spans} <= {0, 1}
    assert spans[-1].end == 3


def test_class_order_is_outside_then_begin_and_inside_of_each_label():
    assert class_names(("NAME", "DATE")) == ("O", "B-NAME", "I-NAME", "B-DATE", "I-DATE")
    assert class_count(19) == 39


def test_score_is_the_mean_probability_of_the_label():
    logits = np.log(np.array([[0.1, 0.8, 0.1], [0.4, 0.1, 0.5]], dtype=np.float32))
    (span,) = decode(logits)
    assert (span.first, span.end) == (0, 2)
    assert span.score == pytest.approx((0.9 + 0.6) / 2, abs=1e-5)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 1)])
def test_logits_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match="logits"):
        decode(np.zeros(shape, dtype=np.float32))


def test_seven_hundred_tokens_with_illegal_best_classes_decode_fast():
    logits = np.random.default_rng(7).normal(size=(700, 39)).astype(np.float32)
    measured = []
    for _ in range(5):  # the least of them: what Python clears away meanwhile is only added to one
        started = time.process_time()
        decode(logits)
        measured.append(time.process_time() - started)
    assert min(measured) < 0.3  # about 5 ms when idle; generous because machines are shared
