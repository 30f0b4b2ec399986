"""A name means one person, however it is typed, and nothing that could be mistaken for another or break a log line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts.names import check_key_name, check_user_name, fold
from appliance.errors import InvalidRequest


@pytest.mark.parametrize("name", ["a", "Ana.Silva", "ana@hospital.example", "r2-d2_", "x" * 64])
def test_ordinary_names_are_accepted(name):
    assert check_user_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "ana silva", "ana\n", "аna", "ана", "ana/1", "a\u200bb", "ana\0", "ﬁ", "ı", "a\u0301"]
)
def test_names_that_look_alike_or_break_a_line_are_refused(name):
    with pytest.raises(InvalidRequest):
        check_user_name(name)


@given(st.from_regex(r"[A-Za-z0-9._@-]{1,64}", fullmatch=True))
def test_names_that_fold_alike_differ_in_case_only(name):
    assert fold(name) == fold(name.upper()) == fold(name.lower())
    assert fold(fold(name)) == fold(name)


@given(st.text(max_size=300))
def test_folding_never_fails_and_is_bounded(name):
    assert len(fold(name)) <= 65 * 3


def test_a_name_that_is_too_long_does_not_fold_to_a_shorter_one():
    assert fold("x" * 65) != fold("x" * 64)


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 65, "\u202eabc"])
def test_key_names_that_cannot_be_shown_are_refused(name):
    with pytest.raises(InvalidRequest):
        check_key_name(name)


def test_key_names_lose_their_outer_spaces():
    assert check_key_name("  discharge letters ") == "discharge letters"
