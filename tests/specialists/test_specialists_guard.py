"""Identifiers never reach the model under `mask`, come back to the one who asked exactly as they were written however
the answer is cut into pieces, and an answer that is being written is shown no further than what is certain.
"""

import re
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from appliance.specialists.guard import Placeholders, Restorer, mask, release_point, restore
from appliance.types import Span

NAMES = ("Ana Lima", "Jon Roe", "Bo", "[NAME 1]", "O'Neill")
pieces = st.sampled_from((*NAMES, " ", "and ", "[", "]", "[NAME", "[NAME 2]", "[NAME 10]", "[MRN 1]", "é", "\n", "1] "))


def spans_of(text: str, words=("Ana Lima", "Jon Roe")) -> list[Span]:
    found = re.finditer("|".join(map(re.escape, words)), text)
    return [Span(match.start(), match.end(), "NAME", 1.0) for match in found]


def test_masked_text_holds_no_identifier_and_the_answer_has_them_back():
    text = "Ana Lima met Jon Roe. Ana Lima left."
    masked = mask(text, spans_of(text), Placeholders())
    assert masked.text == "[NAME 1] met [NAME 2]. [NAME 1] left."
    assert restore("Dear [NAME 2], [NAME 1] wrote; [NAME 3] did not.", masked.placeholders) == (
        "Dear Jon Roe, Ana Lima wrote; [NAME 3] did not."
    )


def test_later_turn_keeps_the_numbers_of_earlier_ones_and_a_person_written_otherwise_keeps_theirs():
    first = mask("Ana Lima", spans_of("Ana Lima"), Placeholders())
    text = "Jon Roe saw LIMA, ANA"
    second = mask(text, spans_of(text, ("Jon Roe", "LIMA, ANA")), first.placeholders)
    assert second.text == "[NAME 2] saw [NAME 1]"
    assert restore("[NAME 1]", second.placeholders) == "Ana Lima"


def test_value_written_with_other_separators_is_the_same_value():
    text = "MRN 47-11 or 4711"
    spans = [Span(4, 9, "MRN", 1.0), Span(13, 17, "MRN", 1.0)]
    assert mask(text, spans, Placeholders()).text == "MRN [MRN 1] or [MRN 1]"


def test_placeholder_that_a_person_typed_is_nobody_elses():
    text = "[NAME 1] is not Ana Lima"
    masked = mask(text, spans_of(text), Placeholders())
    assert masked.text == "[NAME 1] is not [NAME 2]"
    assert restore(masked.text, masked.placeholders) == text


def test_original_that_looks_like_a_placeholder_is_put_back_once():
    text = "[NAME 2] x Jon Roe"
    spans = [Span(0, 8, "NAME", 1.0), Span(11, 18, "NAME", 1.0)]
    masked = mask(text, spans, Placeholders())
    assert restore(masked.text, masked.placeholders) == text


@given(st.lists(pieces, max_size=20))
def test_masking_and_restoring_gives_the_text_back(parts):
    text = "".join(parts)
    masked = mask(text, spans_of(text), Placeholders())
    assert "Ana Lima" not in masked.text and "Jon Roe" not in masked.text
    assert restore(masked.text, masked.placeholders) == text


@given(st.lists(pieces, max_size=20), st.lists(st.integers(0, 60), max_size=12))
@example(["[NAME", " ", "1] "], [5, 6, 7])
def test_restoring_piece_by_piece_is_restoring_the_whole(parts, cuts):
    text = "".join(parts)
    placeholders = mask("Ana Lima, Jon Roe", spans_of("Ana Lima, Jon Roe"), Placeholders()).placeholders
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    restorer = Restorer(placeholders)
    shown = [restorer.feed(text[start:end]) for start, end in pairwise(places)]
    assert "".join(shown) + restorer.finish() == restore(text, placeholders)


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_restorer_holds_back_less_than_the_longest_placeholder(text):
    restorer = Restorer(Placeholders((("NAME", 1, "Ana Lima"),)))
    shown = "".join(restorer.feed(character) for character in text)
    assert len(text) - len(shown) <= 41 or "[NAME 1]" in text


@given(
    st.lists(st.sampled_from(("Ana Lima", "Jon", "Roe", " ", "word ", ", ", "x" * 30)), max_size=40), st.integers(9, 40)
)
def test_streamed_answer_shows_what_the_whole_one_would_and_cuts_no_identifier(parts, lookahead):
    whole = "".join(parts)
    expected = spans_of(whole)
    released, text, shown = 0, "", []
    for character in whole:
        text += character
        point = release_point(text, released, spans_of(text), lookahead=lookahead)
        assert released <= point <= max(released, len(text) - lookahead)
        assert not any(span.start < point < span.end for span in expected)
        shown.append(text[released:point])
        released = point
    point = release_point(text, released, spans_of(text), lookahead=lookahead, final=True)
    assert "".join(shown) + text[released:point] == whole


def test_long_word_is_not_held_back_for_ever():
    text = "y" * 500
    assert 0 < release_point(text, 0, [], lookahead=100) <= 400
    assert release_point("short text ", 0, [], lookahead=100) == 0
