"""A key works for its scopes, its time and its owner, and stops working the moment one of the three ends."""

from datetime import timedelta

import pytest

from appliance.accounts.actions import Action, actions_of
from appliance.accounts.api_keys import API_KEYS_PER_ACCOUNT_MAX, format_api_key
from appliance.crypto.secrets import new_api_secret
from appliance.errors import Conflict, InvalidRequest, NotFound, Unauthenticated


def message(site, text):
    with pytest.raises(Unauthenticated) as caught:
        site.directory.authenticate_api_key(text)
    return caught.value.message


def test_a_key_stands_for_its_owner_within_its_scopes(site):
    site.add("ana", "user")
    view, text = site.add_key("ana", "specialist.run", "specialist.list")
    principal = site.directory.authenticate_api_key(text)
    assert (principal.id, principal.kind, principal.name) == (f"api-key:{view.id}", "api_key", "ana/letters")
    assert actions_of(principal) == {Action.SPECIALIST_RUN, Action.SPECIALIST_LIST}
    assert text.startswith(f"clk_{view.id}_")


def test_the_database_does_not_hold_the_key(site):
    site.add("ana")
    _, text = site.add_key("ana")
    site.engine.dispose()
    stored = b"".join(path.read_bytes() for path in site.home.database.parent.iterdir())
    assert text.encode() not in stored
    assert text.split("_", 2)[2].encode() not in stored


def test_unknown_keys_read_the_same_whether_the_number_exists_or_not(site):
    site.add("ana")
    view, text = site.add_key("ana")
    guesses = [
        "",
        "clk_",
        "Bearer x",
        format_api_key(view.id, new_api_secret()),
        format_api_key(999, new_api_secret()),
        text[:-1],
    ]
    assert {message(site, guess) for guess in guesses} == {"the API key is not known here"}


def test_a_revoked_key_is_refused_and_the_first_revocation_counts(site):
    site.add("ana")
    view, text = site.add_key("ana")
    for _ in range(2):
        with site.change() as change:
            revoked = change.revoke_api_key(view.id)
            change.commit()
        site.clock.advance(hours=1)
    assert revoked.revoked == site.clock.time - timedelta(hours=2)
    assert "revoked" in message(site, text)


def test_a_key_expires_to_the_second(site):
    site.add("ana")
    view, text = site.add_key("ana", days=7)
    assert view.expires == site.clock.time + timedelta(days=7)
    site.clock.time = view.expires - timedelta(seconds=1)
    site.directory.authenticate_api_key(text)
    site.clock.time = view.expires
    assert "expired" in message(site, text)


def test_without_a_lifetime_a_key_gets_the_default_and_never_none(site):
    site.add("ana")
    view, _ = site.add_key("ana")
    assert view.expires == site.clock.time + timedelta(days=site.config.api_key_days_default)
    for days in (0, -5, 4000):
        with pytest.raises(InvalidRequest):
            site.add_key("ana", days=days)


def test_the_keys_of_a_disabled_owner_are_refused_and_none_is_made(site):
    site.add("ana")
    _, text = site.add_key("ana")
    with site.change() as change:
        change.disable_account("ana")
        change.commit()
    assert "disabled" in message(site, text)
    with pytest.raises(Conflict):
        site.add_key("ana")


def test_a_key_carries_no_scope_that_its_owner_lacks(site):
    site.add("eve", "auditor")
    with pytest.raises(InvalidRequest, match=r"specialist\.run"):
        site.add_key("eve", "specialist.run")
    site.add_key("eve", "audit.export")


def test_use_is_noted_to_the_hour(site):
    site.add("ana")
    view, text = site.add_key("ana")
    assert view.last_used is None
    first = site.clock.time
    for minutes in (0, 30, 29):
        site.clock.advance(minutes=minutes)
        site.directory.authenticate_api_key(text)
    assert site.directory.list_api_keys("ana")[0].last_used == first
    site.clock.advance(minutes=1)
    site.directory.authenticate_api_key(text)
    assert site.directory.list_api_keys("ana")[0].last_used == site.clock.time


def test_people_list_and_revoke_their_own_keys_only(site):
    site.add("ana")
    site.add("bob")
    anas, _ = site.add_key("ana")
    bobs, _ = site.add_key("bob")
    assert site.directory.list_api_keys("ANA") == (anas,)
    assert site.directory.list_api_keys() == (anas, bobs)
    assert site.directory.list_api_keys("nobody") == ()
    with pytest.raises(NotFound), site.change() as change:
        change.revoke_api_key(bobs.id, owner="ana")
    with pytest.raises(NotFound), site.change() as change:
        change.revoke_api_key(12345)
    with site.change() as change:
        assert change.revoke_api_key(anas.id, owner="Ana").revoked == site.clock.time
        change.commit()


def test_a_persons_records_include_those_of_their_keys(site):
    account = site.add("ana")
    site.add("bob")
    view, text = site.add_key("ana")
    site.add_key("bob")
    person = site.sign_in("ana").session.principal
    assert site.directory.actors_of(person) == {f"user:{account.id}", f"api-key:{view.id}"}
    program = site.directory.authenticate_api_key(text)
    assert site.directory.actors_of(program) == {f"api-key:{view.id}"}


def test_the_number_of_usable_keys_of_an_account_is_bounded(site):
    site.add("ana")
    with site.change() as change:
        for number in range(API_KEYS_PER_ACCOUNT_MAX):
            last, _ = change.create_api_key("ana", f"key {number}", ["specialist.run"])
        change.commit()
    with pytest.raises(Conflict):
        site.add_key("ana")
    with site.change() as change:
        change.revoke_api_key(last.id)
        change.commit()
    site.add_key("ana")
