"""Guesses are what followed the latest earlier occurrence of the last tokens, and there are none without one."""

from array import array

import pytest

from appliance.engine.generation.speculation import MATCH_TOKENS_MIN, propose


@pytest.mark.parametrize(
    ("tokens", "drafts"),
    [
        ([], ()),
        ([1, 2, 3], ()),
        ([1, 2, 3, 4, 5], ()),
        ([5, 6, 7, 8, 1, 5, 6, 7], (8, 1, 5, 6)),
        ([5, 6, 7, 1, 5, 6, 7, 2, 5, 6, 7], (2, 5, 6, 7)),  # the latest one
        ([9, 9, 9, 9], (9,)),
        ([6, 7, 1, 6, 7], ()),  # shorter than what counts as a repetition
    ],
)
def test_what_followed_last_time_is_proposed(tokens, drafts):
    assert propose(array("i", tokens)) == drafts


def test_no_more_is_proposed_than_asked_for():
    tokens = array("i", [*range(50), *range(MATCH_TOKENS_MIN)])
    assert propose(tokens, 2) == (3, 4) and len(propose(tokens)) == 4
