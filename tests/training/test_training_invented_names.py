"""Invented names: new, spelled like those they are modelled on, none of the held-back side, the same every time."""

import random

import pytest

from appliance.training.notes.invented_names import LETTERS_MAX, Chain, invented
from appliance.training.notes.sources import Sources, training_side
from appliance.training.partition import partition

NAMES = ("Nguyen", "Tran", "Le", "Pham", "Huynh", "Phan", "Vu", "Vo", "Dang", "Bui", "Do", "Ho", "Ngo", "Duong", "Ly")


def test_names_are_new_and_made_of_the_pairs_of_letters_that_were_seen() -> None:
    found = invented(NAMES, 40, random.Random(1), lambda name: True)
    pairs = {word[n : n + 2] for name in NAMES for word in [name.lower()] for n in range(len(word) - 1)}
    assert len(found) == len(set(found)) > 10
    for name in found:
        assert name not in NAMES
        assert name == name.capitalize()
        assert 2 <= len(name) <= LETTERS_MAX
        assert {name.lower()[n : n + 2] for n in range(len(name) - 1)} <= pairs


def test_the_same_seed_invents_the_same_and_what_is_not_allowed_is_left_out() -> None:
    once, again = (invented(NAMES, 20, random.Random(5), lambda name: not name.startswith("D")) for _ in range(2))
    assert once == again
    assert not any(name.startswith("D") for name in once)


@pytest.mark.parametrize("names", [(), ("Li",)])
def test_a_poor_list_gives_few_names_and_an_end(names: tuple[str, ...]) -> None:
    assert invented(names, 10, random.Random(2), lambda name: True) == ()


def test_parts_of_a_double_name_begin_with_a_capital() -> None:
    words = {Chain.over(("Min-jun", "Seo-yeon", "Ji-woo")).word(random.Random(seed)) for seed in range(60)} - {None}
    assert all(part[:1].isupper() for word in words for part in word.split("-") if part)


def test_no_invented_name_of_any_origin_is_held_back() -> None:
    for origin in Sources.tiny().origins.values():
        made = origin.with_invented(random.Random(3))
        assert made.invented_given
        assert all(training_side(name) and partition(name) == "train" for name in made.invented_given)
