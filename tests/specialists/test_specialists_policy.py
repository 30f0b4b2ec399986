"""Safe Harbor as a filter: what it lets stand is dropped, everything else is kept, titles and degrees leave a name,
and the filter only ever removes or shortens spans. Words are looked at, never the rest of the text.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.specialists.deid.policy import apply, identifies
from appliance.specialists.deid.words import tidy, words
from appliance.types import Span


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("AGE", "72"),
        ("AGE", "45-year-old"),
        ("AGE", "eighty-nine"),
        ("DATE", "1998"),
        ("DATE", "2019-2020"),
        ("DATE", "the 1990s"),
        ("DATE", "Monday"),
        ("DATE", "TUESDAY"),
        ("DATE", "Mon, Wed and Fri"),
        ("DATE", "Christmas Day"),
        ("DATE", "New Year’s Eve"),
        ("DATE", "10:30 am"),
        ("DATE", "yesterday"),
        ("LOCATION", "Texas"),
        ("LOCATION", "MA"),
        ("LOCATION", "the United States"),
        ("LOCATION", "Ohio, USA"),
    ],
)
def test_what_safe_harbor_lets_stand_is_dropped(label, text):
    assert not identifies(label, text)
    assert apply(text, [Span(0, len(text), label, 0.99)]) == ()


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("AGE", "90"),
        ("AGE", "102-year-old"),
        ("AGE", "ninety-three"),
        ("AGE", "in her nineties"),
        ("DATE", "March 1998"),
        ("DATE", "Monday, March 4"),
        ("DATE", "3/14"),
        ("LOCATION", "Salem, MA"),
        ("LOCATION", "New York"),
        ("LOCATION", "12 Elm Street"),
        ("NAME", "Monday"),
        ("ORGANIZATION", "Texas"),
        ("PHONE", "1998"),
    ],
)
def test_what_identifies_is_kept(label, text):
    assert apply(text, [Span(0, len(text), label, 0.9)]) == (Span(0, len(text), label, 0.9),)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Dr. Okoro", "Okoro"),
        ("Dr.Okoro", "Okoro"),
        ("DR OKORO", "OKORO"),
        ("Prof. Dr. Ana Lima", "Ana Lima"),
        ("Mrs. O'Neill", "O'Neill"),
        ("Ngozi Okafor, MD", "Ngozi Okafor"),
        ("Ngozi Okafor, M.D., PhD", "Ngozi Okafor"),
        ("Ngozi Okafor RN", "Ngozi Okafor"),
        ("Kim Do", "Kim Do"),
        ("KIM DO", "KIM DO"),
        ("Judge", None),
    ],
)
def test_titles_and_degrees_stay_outside_the_name(text, name):
    kept = apply(text, [Span(0, len(text), "NAME", 0.9)])
    assert [text[span.start : span.end] for span in kept] == ([name] if name else [])


@given(st.text(max_size=60), st.sampled_from(["NAME", "DATE", "AGE", "LOCATION"]), st.data())
def test_result_lies_inside_the_span_for_any_text(text, label, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    for span in apply(text, [Span(start, end, label, 0.5)]):
        assert start <= span.start < span.end <= end
        assert (span.label, span.score) == (label, 0.5)


@given(st.text(max_size=80), st.data())
def test_tidy_span_cuts_no_word_and_ends_on_no_blank(text, data):
    if not text:
        return
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    found = words(text)
    span = tidy(found, Span(start, end, "NAME", 0.5))
    covered = {number for number in map(found.at, range(start, end)) if number is not None}
    if span is None:
        assert not covered
        return
    for number in covered:
        assert span.start <= found.starts[number] < found.ends[number] <= span.end
    assert not text[span.start].isspace()
    assert not text[span.end - 1].isspace()


@pytest.mark.parametrize(
    ("text", "part", "whole"),
    [
        ("call 93yo now", "93", "93yo"),
        ("नमस्ते दुनिया", "स्", "नमस्ते"),
        ("e\u0301milie here", "milie", "e\u0301milie"),
        ("at (617) 555-0123.", "(617) 555-0123.", "(617) 555-0123"),
        ("(Okafor), ok", "(Okafor),", "Okafor"),
        ("שלום עולם", "לום", "שלום"),
    ],
)
def test_span_grows_to_whole_words_of_any_script_and_drops_punctuation(text, part, whole):
    start = text.index(part)
    span = tidy(words(text), Span(start, start + len(part), "NAME", 0.5))
    assert text[span.start : span.end] == whole
