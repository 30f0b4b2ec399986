"""Every account has one policy about identifiers, by any spelling of its name; what is stored is what the README shows,
and what cannot be read lets nobody through.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts.change import rules_from
from appliance.accounts.guard_rules import DEFAULT, POLICIES, GuardRules, decode_rules, encode_rules
from appliance.errors import ConfigInvalid, Conflict, InvalidRequest
from tests.conftest import ROOT

WRITTEN = '{"members":{"ana":"cardiology"},"policies":{"cardiology":"mask","default":"allow"},"version":1}'
workspaces = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9._@-]{1,12}", fullmatch=True)


def test_stored_form_is_the_documented_one():
    rules = GuardRules().with_policy("cardiology", "mask").with_member("Ana", "cardiology")
    assert encode_rules(rules) == WRITTEN and decode_rules(WRITTEN) == rules
    assert WRITTEN in (ROOT / "appliance" / "accounts" / "README.md").read_text()


def test_account_is_in_one_workspace_and_in_default_until_somebody_decides():
    rules = GuardRules().with_policy("a", "block").with_policy("b", "mark").with_member("Ana", "a")
    assert rules.policy_of("ANA") == ("a", "block") and rules.policy_of("ben") == (DEFAULT, "allow")
    assert rules.with_member("ana", "b").policy_of("Ana") == ("b", "mark")
    assert rules.with_member("ana", DEFAULT).members == {}
    assert rules.with_policy(DEFAULT, "mask").policy_of("ben") == (DEFAULT, "mask")


@pytest.mark.parametrize(("workspace", "policy"), [("", "mask"), ("A", "mask"), ("a b", "mask"), ("x" * 33, "mask"),
                                                   ("a", "forget"), ("a", "")])  # fmt: skip
def test_what_is_no_name_and_no_policy_is_refused(workspace, policy):
    with pytest.raises(InvalidRequest):
        GuardRules().with_policy(workspace, policy)


def test_workspaces_are_bounded_and_one_without_a_policy_takes_nobody():
    rules = GuardRules()
    for number in range(255):
        rules = rules.with_policy(f"w{number}", "mark")
    with pytest.raises(Conflict):
        rules.with_policy("one-more", "mark")
    with pytest.raises(InvalidRequest):
        rules.with_member("ana", "one-more")


@given(st.dictionaries(workspaces, st.sampled_from(POLICIES), max_size=5), st.lists(names, max_size=5), st.data())
def test_rules_are_read_as_they_were_written(policies, accounts, data):
    rules = GuardRules()
    for workspace, policy in policies.items():
        rules = rules.with_policy(workspace, policy)
    for account in accounts:
        rules = rules.with_member(account, data.draw(st.sampled_from(sorted(rules.policies))))
    assert decode_rules(encode_rules(rules)) == rules


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "{}",
        "[]",
        WRITTEN.replace('"version":1', '"version":2'),
        WRITTEN.replace("mask", "shrug"),
        WRITTEN.replace('"default":"allow"', '"other":"allow"'),
        WRITTEN.replace('"ana":"cardiology"', '"ana":"gone"'),
    ],
)
def test_what_cannot_be_read_is_an_error_and_no_policy(stored):
    with pytest.raises(ConfigInvalid):
        rules_from(stored)
    assert rules_from(None) == GuardRules()
