"""Guaranteed here: a family name that is a word is taken with the name before it, and a verb never is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.specialists.deid.adjoining import with_adjoining
from appliance.specialists.deid.words import words
from appliance.types import Span


def grown(text: str, name: str) -> list[str]:
    start = text.index(name)
    spans = with_adjoining(text, [Span(start, start + len(name), "NAME", 0.9)], words(text))
    return [text[span.start : span.end] for span in spans]


@pytest.mark.parametrize(
    ("text", "name", "whole"),
    [
        ("Thank you for referring Mrs. Sangmi Son for evaluation.", "Sangmi", "Sangmi Son"),
        ("is Lam Diep Pho related to Luan Do", "Luan", "Luan Do"),
        ("Signed: Yalgin Can, RN", "Yalgin", "Yalgin Can"),
        ("Discussed with Jiyeon Son the need", "Jiyeon", "Jiyeon Son"),
        ("SON, DUNG was brought in", "DUNG", "SON, DUNG"),
        ("Patient: He, Fang", "Fang", "He, Fang"),
        ("So, Mary said", "Mary", "Mary"),
        ("his son, Mary", "Mary", "Mary"),
        ("Mr. SANGMI SON was seen.", "SANGMI", "SANGMI SON"),
        # a verb, a sentence, another word, another case, a word of shouting, and nothing behind it
        ("Hi Mary Can you call me", "Mary", "Mary"),
        ("Seen by Mary. Do not resuscitate.", "Mary", "Mary"),
        ("Mary son of nobody", "Mary", "Mary"),
        ("MARY CAN WALK TODAY", "MARY", "MARY"),
        ("Mary\nSon called", "Mary", "Mary"),
        ("Mary Sonata", "Mary", "Mary"),
        ("Mary Son-in-law came", "Mary", "Mary"),
        ("seen by Mary", "Mary", "Mary"),
    ],
)
def test_the_family_name_belongs_to_the_name(text: str, name: str, whole: str) -> None:
    assert grown(text, name) == [whole]


@given(st.text(alphabet="Son DoMary.\n ", max_size=40), st.data())
def test_spans_stay_sorted_disjoint_and_only_grow(text: str, data: st.DataObject) -> None:
    cuts = sorted(set(data.draw(st.lists(st.integers(0, len(text)), max_size=6))))
    spans = [
        Span(start, end, data.draw(st.sampled_from(["NAME", "DATE"])), 0.9)
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    found = with_adjoining(text, spans, words(text))
    for before, after in pairwise(found):
        assert before.end <= after.start
    for old, new in zip(spans, found, strict=True):
        assert 0 <= new.start <= old.start
        assert old.end <= new.end <= len(text)
        assert new == old or old.label == "NAME"
