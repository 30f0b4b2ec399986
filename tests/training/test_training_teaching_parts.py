"""Guaranteed here: texts that share a passage stay on one side, every label that can spare texts is tested, none is
tested on what it learned, and the division is the same each time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.training.teaching.parts import COMMON_MAX, alike, divide

FORM = "we are writing to you about the fee that was charged on account {} by your branch"


def test_letters_of_one_form_are_one_group_whatever_their_numbers():
    texts = [FORM.format(number) for number in (17, 4711, 9)] + ["something quite different about my card", "hello"]
    groups = alike(texts)
    assert groups[0] == groups[1] == groups[2]
    assert len({int(group) for group in groups}) == 3


def test_a_footer_that_everybody_sends_joins_nobody():
    texts = [
        f"question number {'abcdefghij'[n % 10] * (n // 10 + 2)} here " + FORM.format(1) for n in range(COMMON_MAX + 20)
    ]
    assert len(set(alike(texts).tolist())) > COMMON_MAX // 2


def test_short_texts_are_alike_only_if_all_their_words_are():
    groups = alike(["lost card", "Lost card!", "lost my card", "invoice 12", "invoice 13"])
    assert groups[0] == groups[1] != groups[2]
    assert groups[3] == groups[4]


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=1, max_size=120))
def test_no_group_is_on_two_sides_and_every_text_is_on_one(rows):
    groups = np.array([group for group, _ in rows])
    labels = [label for _, label in rows]
    parts = divide(groups, labels, seed="s")
    sides = [set(groups[part].tolist()) for part in (parts.fit, parts.choose, parts.held_out)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sorted(np.concatenate((parts.fit, parts.choose, parts.held_out)).tolist()) == list(range(len(rows)))
    again = divide(groups, labels, seed="s")
    assert all(np.array_equal(one, other) for one, other in zip(
        (parts.fit, parts.choose, parts.held_out), (again.fit, again.choose, again.held_out), strict=True))  # fmt: skip


def test_a_fifth_is_held_out_of_labels_that_can_spare_it():
    labels = ["many"] * 100 + ["few"] * 5 + ["single"]
    parts = divide(np.arange(106), labels, seed="s")
    held = [labels[at] for at in parts.held_out]
    assert (held.count("many"), held.count("few"), held.count("single")) == (20, 1, 0)
    assert [labels[at] for at in parts.choose].count("many") == 16
