"""Swapping names changes names and nothing else: same texts around them, same number of spans, offsets moved along."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.specialists.evaluation.gold import GoldItem
from appliance.specialists.evaluation.swap_names import has_names, names_by_origin, read_names, swap_names
from appliance.types import Material, Span

TEXT = "Mrs. RUIZ, ANA M. (Ana Ruiz) saw Dr. o'neill on 4 May; Ana slept."
SPANS = tuple(
    Span(start, start + len(words), label, 1.0)
    for words, label, start in (
        ("RUIZ, ANA M.", "NAME", 5),
        ("Ana Ruiz", "NAME", 19),
        ("o'neill", "NAME", 37),
        ("4 May", "DATE", 48),
        ("Ana", "NAME", 55),
    )
)
ITEM = GoldItem(Material(TEXT), spans=SPANS)
ORIGINS = sorted(names_by_origin())


def without_names(item: GoldItem) -> str:
    text, place, kept = item.material.text, 0, []
    for span in item.spans:
        if span.label == "NAME":
            kept.append(text[place : span.start])
            place = span.end
    return "|".join([*kept, text[place:]])


@pytest.mark.parametrize("origin", ORIGINS)
def test_only_names_change_and_every_span_is_where_its_words_are(origin):
    swapped = swap_names(ITEM, origin, seed=0, number=3)
    assert without_names(swapped) == without_names(ITEM)
    assert [span.label for span in swapped.spans] == [span.label for span in ITEM.spans]
    words = [swapped.material.text[span.start : span.end] for span in swapped.spans]
    family, rest = words[0].split(", ")
    given = rest.split(" ")[0]
    assert words[1] == f"{given.capitalize()} {family.capitalize()}" or words[1].lower() == f"{given} {family}".lower()
    assert words[0].isupper() and words[2].islower()
    assert words[3] == "4 May"
    assert words[4].lower() == given.lower()


def test_names_come_from_the_lists_of_the_origin():
    names = names_by_origin()["Korean"]
    swapped = swap_names(ITEM, "Korean", seed=0, number=3)
    given, family = swapped.material.text[swapped.spans[1].start : swapped.spans[1].end].split(" ")
    assert given in names.given and family in names.family


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.integers(0, 100), st.sampled_from(ORIGINS))
def test_same_seed_number_and_origin_give_the_same_names(seed, number, origin):
    assert swap_names(ITEM, origin, seed=seed, number=number) == swap_names(ITEM, origin, seed=seed, number=number)


def test_text_without_names_has_nothing_to_swap():
    assert has_names(ITEM)
    assert not has_names(GoldItem(Material("on 4 May"), spans=(Span(3, 8, "DATE", 1.0),)))


def test_ten_origins_with_enough_names_of_one_word():
    assert len(ORIGINS) == 10
    for names in names_by_origin().values():
        assert min(len(names.given), len(names.family)) >= 15
        assert all(name.isalpha() for name in (*names.given, *names.family))


def test_lists_are_read_by_their_headings():
    found = read_names("# ours\n[Far Away given]\nA B\nC\n[Far Away family]\nD\n")
    assert found["Far Away"].given == ("A", "B", "C") and found["Far Away"].family == ("D",)
