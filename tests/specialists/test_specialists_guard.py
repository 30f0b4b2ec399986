"""Identifiers never reach the model under `mask`, and come back to the one who asked exactly as they were written;
what was found in one place of a conversation is found in all of it.
"""

import re

from hypothesis import given
from hypothesis import strategies as st

from appliance.specialists.guard import Placeholders, Value, carry, mask, restore, restored_places
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


@given(st.lists(pieces, max_size=20))
def test_places_of_what_was_put_back_are_where_it_stands(parts):
    text = "".join(parts)
    placeholders = mask("Ana Lima, Jon Roe", spans_of("Ana Lima, Jon Roe"), Placeholders()).placeholders
    shown = restore(text, placeholders)
    places = restored_places(text, placeholders)
    assert [shown[span.start : span.end] for span, _ in places] == [placeholders.originals()[put] for _, put in places]
    assert len(places) == text.count("[NAME 1]") + text.count("[NAME 2]")


def test_numbers_of_others_are_given_to_nobody():
    others = Placeholders((("NAME", 1, "Eve Poe"),))
    assert mask("Ana Lima", spans_of("Ana Lima"), Placeholders(), others.taken()).text == "[NAME 2]"


def test_value_found_elsewhere_is_found_here_by_the_rules_of_the_detector():
    known = [Value("NAME", "Hannah Okafor", 1.0), Value("MRN", "48213377", 1.0)]
    text = "Okafor, MRN 48213377: Okafor disease is unrelated."
    assert [(text[span.start : span.end], span.label) for span in carry(text, (), known)] == [
        ("Okafor", "NAME"), ("48213377", "MRN"),
    ]  # fmt: skip
    assert [span.start for span in carry(text.lower(), (), known)] == [0, 12]
    own = (Span(0, 6, "ORGANIZATION", 0.9),)
    assert carry(text, own, known)[0] == own[0]
    assert carry("Okafor", (), [Value("NAME", "Hannah Okafor", 0.5)]) == ()
