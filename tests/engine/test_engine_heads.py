"""The head formula, checked against a version written with one loop per token and no batch.

A property test varies lengths, widths and feature counts; refusals are listed one by one.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.heads import apply_head, check_head, label_count
from appliance.errors import SpecialistFileInvalid
from appliance.types import Head

STATES = 6


def random_head(rng, kind="token", features=2, width=3, hidden=5, labels=4) -> Head:
    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    rows = STATES + features
    convolution = (normal(width, rows, hidden), normal(hidden)) if width else (None, None)
    return Head(kind, features, *convolution, normal(hidden if width else rows, labels), normal(labels))


def naive(head: Head, states: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    x = states if features is None else np.concatenate((states, features), axis=1)
    x = x.astype(np.float64)
    if head.conv_weight is not None:
        width, hidden = head.conv_weight.shape[0], np.tile(head.conv_bias.astype(np.float64), (len(x), 1))
        for t in range(len(x)):
            for k in range(width):
                if 0 <= t + k - width // 2 < len(x):
                    hidden[t] += x[t + k - width // 2] @ head.conv_weight[k]
        x = 0.5 * hidden * (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    if head.kind == "pooled":
        x = x.mean(axis=0)
    return x @ head.out_weight + head.out_bias


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    features=st.integers(0, 3),
    width=st.integers(0, 6),
    kind=st.sampled_from(["token", "pooled"]),
    seed=st.integers(0, 99),
)
def test_a_batch_gives_each_sequence_what_the_formula_gives_it_alone(lengths, features, width, kind, seed):
    rng = np.random.default_rng(seed)
    head = random_head(rng, kind, features, width)
    check_head(head, STATES)
    states = rng.standard_normal((sum(lengths), STATES)).astype(np.float32)
    rows = rng.standard_normal((sum(lengths), features)).astype(np.float32) if features else None
    outputs = apply_head(head, states, lengths, rows)
    start = 0
    for length, output in zip(lengths, outputs, strict=True):
        piece = slice(start, start + length)
        expected = naive(head, states[piece], None if rows is None else rows[piece])
        assert output.shape == expected.shape and output.dtype == np.float32
        assert np.allclose(output, expected, rtol=1e-4, atol=1e-4)
        start += length


def test_without_a_head_the_output_is_the_mean_of_the_states():
    states = np.arange(5 * STATES, dtype=np.float32).reshape(5, STATES)
    first, second = apply_head(Head("none", 0, None, None, None, None), states, [2, 3], None)
    assert np.allclose(first, states[:2].mean(0)) and np.allclose(second, states[2:].mean(0))


def test_the_number_of_labels_is_the_number_of_columns():
    assert label_count(random_head(np.random.default_rng(0), labels=7), STATES) == 7
    assert label_count(Head("none", 0, None, None, None, None), STATES) == STATES


GOOD = random_head(np.random.default_rng(1))


@pytest.mark.parametrize(
    "head",
    [
        replace(GOOD, out_weight=None),
        replace(GOOD, out_bias=None),
        replace(GOOD, conv_bias=None),
        replace(GOOD, feature_count=1),
        replace(GOOD, out_weight=GOOD.out_weight[1:]),
        replace(GOOD, out_bias=GOOD.out_bias[1:]),
        replace(GOOD, out_bias=GOOD.out_bias[None]),
        replace(GOOD, conv_weight=GOOD.conv_weight[0]),
        replace(GOOD, conv_weight=GOOD.conv_weight[:0]),
        replace(GOOD, conv_weight=np.repeat(GOOD.conv_weight, 20, axis=0)),
        replace(GOOD, conv_bias=GOOD.conv_bias[1:]),
        replace(GOOD, out_bias=GOOD.out_bias * np.float32("nan")),
        replace(GOOD, kind="none"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(head):
    with pytest.raises(SpecialistFileInvalid):
        check_head(head, STATES)


def test_a_head_for_another_base_is_refused_with_the_figures():
    with pytest.raises(SpecialistFileInvalid, match="needs 10 inputs"):
        check_head(GOOD, 8)
