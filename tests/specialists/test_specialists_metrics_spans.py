"""Spans are right with their exact place and label; characters are found whatever the label; weights repeat items."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.specialists.metrics.spans import covered, span_counts, span_label_figures, spans_measure
from appliance.types import Span

TEXT = "Ana Ruiz came on 4 May."
ANA, DAY = Span(0, 8, "NAME", 1.0), Span(17, 22, "DATE", 1.0)


def figures(items, weights=None):
    counts = span_counts(items, ("NAME", "DATE"))
    ones = np.ones(len(items), dtype=np.int64) if weights is None else np.array(weights)
    return dict(spans_measure(counts)(ones)), counts


def test_perfect_and_empty_predictions():
    perfect, _ = figures([(TEXT, [ANA, DAY], [ANA, DAY])])
    assert set(perfect.values()) == {1.0}
    nothing, _ = figures([(TEXT, [ANA, DAY], [])])
    assert (nothing["span_recall"], nothing["character_recall"], nothing["items_without_miss"]) == (0, 0, 0)
    assert math.isnan(nothing["span_precision"])


def test_half_a_name_is_no_span_and_half_the_characters():
    found, _ = figures([(TEXT, [ANA], [Span(0, 3, "NAME", 0.9)])])
    assert found["span_recall"] == 0
    assert found["character_recall"] == pytest.approx(3 / 7)  # the space between the words counts for nothing
    assert found["character_precision"] == 1


def test_wrong_label_finds_the_characters_and_not_the_span():
    found, counts = figures([(TEXT, [ANA], [Span(0, 8, "DATE", 0.9)])])
    assert (found["span_f1"], found["character_recall"]) == (0, 1)
    by_label = span_label_figures(counts)
    assert by_label["NAME"]["character_recall"] == 0 and by_label["NAME"]["recall"] == 0
    assert by_label["DATE"]["precision"] == 0 and math.isnan(by_label["DATE"]["recall"])


def test_label_that_the_specialist_does_not_have_is_counted_too():
    counts = span_counts([(TEXT, [ANA], [Span(0, 8, "PERSON", 1.0)])], ("NAME",))
    assert counts.labels == ("NAME", "PERSON")


def test_name_is_covered_when_every_letter_is():
    assert covered(TEXT, [ANA], [Span(0, 3, "X", 1.0), Span(4, 8, "X", 1.0)]) == (1, 1)
    assert covered(TEXT, [ANA, DAY], [Span(0, 7, "X", 1.0)]) == (0, 2)


spans = st.lists(st.sampled_from([ANA, DAY, Span(0, 3, "NAME", 1.0), Span(9, 13, "DATE", 1.0)]), max_size=3)


def disjoint(chosen):
    kept = []
    for span in sorted(chosen, key=lambda one: one.start):
        if not kept or kept[-1].end <= span.start:
            kept.append(span)
    return kept


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(spans, spans, st.integers(0, 3)), min_size=1, max_size=6))
def test_weights_are_the_same_as_repeating_items_and_figures_are_shares(rows):
    items = [(TEXT, disjoint(true), disjoint(said)) for true, said, _ in rows]
    weights = [weight for *_, weight in rows]
    repeated = [item for item, weight in zip(items, weights, strict=True) for _ in range(weight)]
    weighted, _ = figures(items, weights)
    assert all(math.isnan(value) or 0 <= value <= 1 for value in weighted.values())
    if repeated:
        assert weighted == pytest.approx(figures(repeated)[0], nan_ok=True)
