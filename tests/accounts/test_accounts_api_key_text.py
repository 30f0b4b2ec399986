"""The text of an API key is read strictly: what is not exactly one of ours is nothing, whatever it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts.actions import SCOPES
from appliance.accounts.api_keys import check_days, check_scopes, format_api_key, parse_api_key
from appliance.crypto.secrets import new_api_secret
from appliance.errors import InvalidRequest


@given(st.integers(min_value=1, max_value=10**18 - 1))
def test_what_is_formatted_is_read_back(key_id):
    text = format_api_key(key_id, new_api_secret())
    parsed = parse_api_key(text)
    assert parsed.id == key_id
    assert len(parsed.secret_hash) == 32
    assert text.startswith("clk_")


@given(st.text(max_size=100))
def test_other_text_is_no_key(text):
    assert parse_api_key(text) is None


def test_nearly_a_key_is_no_key():
    good = format_api_key(7, new_api_secret())
    for text in (good[:-1], good + "A", " " + good, good + "\n", good.upper(), good.replace("_7_", "_07_"), good[4:]):
        assert parse_api_key(text) is None


def test_the_hash_covers_the_number():
    secret = new_api_secret()
    one, other = (parse_api_key(format_api_key(n, secret)) for n in (1, 2))
    assert one.secret_hash != other.secret_hash


def test_secrets_do_not_repeat():
    assert len({new_api_secret() for _ in range(1000)}) == 1000


def test_scopes_are_a_part_of_what_the_owner_may_do():
    assert check_scopes(["specialist.run"], frozenset({"user"})) == {"specialist.run"}
    for scopes in (
        [],
        ["audit.export"],
        ["api_keys.own"],
        ["accounts.manage"],
        ["everything"],
        ["specialist.run", "x"],
    ):
        with pytest.raises(InvalidRequest):
            check_scopes(scopes, frozenset({"user", "admin"}))
    assert {action.value for action in SCOPES} == check_scopes(
        [action.value for action in SCOPES], frozenset({"user", "admin", "auditor"})
    )


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_every_key_expires(days):
    with pytest.raises(InvalidRequest):
        check_days(days)
