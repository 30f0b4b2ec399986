"""Propagation: what was found with confidence is found in the whole note, whatever its case; what was doubtful, common,
or an eponym is not carried on. Spans given are never moved, and crafted notes stay linear.
"""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.specialists.deid.propagation import propagate
from appliance.types import Span


def recurring(text, first, label="NAME", score=0.99):
    """What is found beside the first occurrence of `first`."""
    start = text.index(first)
    seed = Span(start, start + len(first), label, score)
    spans = propagate(text, [seed])
    assert seed in spans
    return [text[span.start : span.end] for span in spans if span != seed]


@pytest.mark.parametrize(
    ("text", "first", "expected"),
    [
        ("Ngozi Okafor came. Mrs. Okafor said Ngozi is well.", "Ngozi Okafor", ["Okafor", "Ngozi"]),
        ("Ngozi Okafor came. OKAFOR, NGOZI", "Ngozi Okafor", ["OKAFOR", "NGOZI"]),
        ("OKAFOR, NGOZI came. Ngozi Okafor left", "OKAFOR, NGOZI", ["Ngozi", "Okafor"]),
        ("Ngozi Okafor and ngozi okafor", "Ngozi Okafor", ["ngozi okafor"]),
        ("Ngozi Okafor\nNgozi\nOkafor", "Ngozi Okafor", ["Ngozi\nOkafor"]),
        ("Margaret O'Neill; Neill", "Margaret O'Neill", ["Neill"]),
        ("ngozi okafor came. okafor left", "ngozi okafor", ["okafor"]),
        ("김민준 님. 김민준 퇴원", "김민준", ["김민준"]),
    ],
)
def test_name_is_found_again(text, first, expected):
    assert recurring(text, first) == expected


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Ruth Graves has Graves disease", "Ruth Graves"),
        ("Ida Hodgkin had Hodgkin's lymphoma", "Ida Hodgkin"),
        ("Tom Foley got a Foley catheter", "Tom Foley"),
        ("Grace Young. Young man with grace", "Grace Young"),
        ("Ana Lima: ANA positive", "Ana Lima"),
        ("Ngozi Okafor. the okafor family", "Ngozi Okafor"),
        ("Ngozi Okafor. Okafors", "Ngozi Okafor"),
        ("Will May. May return in May, will call", "Will May"),
    ],
)
def test_eponym_common_word_and_other_case_are_not_carried_on(text, first):
    assert recurring(text, first) == []


def test_common_word_behind_a_title_is_the_person():
    assert recurring("Grace Young came. Mr. Young left. Young man", "Grace Young") == ["Young"]


@pytest.mark.parametrize("score", [0.5, 0.89])
def test_doubtful_name_is_not_carried_on(score):
    assert recurring("Ngozi Okafor. Ngozi Okafor. Okafor", "Ngozi Okafor", score=score) == []


def test_between_the_two_thresholds_only_the_whole_name_is_carried_on():
    assert recurring("Ngozi Okafor. NGOZI OKAFOR. Okafor", "Ngozi Okafor", score=0.92) == ["NGOZI OKAFOR"]


@pytest.mark.parametrize(
    ("label", "text", "first", "expected"),
    [
        ("MRN", "MRN 00-12345. again 00-12345 here", "00-12345", ["00-12345"]),
        ("MRN", "MRN 123. dose 123", "123", []),
        ("MRN", "MRN 12345. not 123456", "12345", []),
        ("ORGANIZATION", "Elmwood Clinic. at ELMWOOD CLINIC", "Elmwood Clinic", ["ELMWOOD CLINIC"]),
        ("ORGANIZATION", "Medical Center. the Medical Center", "Medical Center", []),
        ("EMAIL", "a.b@cd.org or a.b@cd.org", "a.b@cd.org", ["a.b@cd.org"]),
        ("DATE", "03/14/2019 and 03/14/2019", "03/14/2019", []),
    ],
)
def test_numbers_and_organisations_recur_as_a_whole(label, text, first, expected):
    assert recurring(text, first, label) == expected


@given(st.text(alphabet="AaBbNn ,.'-é\u0301\n", max_size=80), st.data())
@settings(max_examples=200, deadline=None)
def test_given_spans_stay_and_nothing_overlaps(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans = [Span(a, b, "NAME", 0.99) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    result = propagate(text, spans)
    assert set(spans) <= set(result)
    end = 0
    for span in result:
        assert end <= span.start < span.end <= len(text)
        end = span.end


def test_note_crafted_of_one_repeated_name_stays_fast():
    text = "Okafor " * 28_000
    spans = [Span(place * 7, place * 7 + 7 * (1 + place % 9) - 1, "NAME", 0.99) for place in range(0, 9_000, 10)]
    started = time.process_time()
    propagate(text, spans)
    assert time.process_time() - started < 5
