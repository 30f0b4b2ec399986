"""Passwords are hashed with the site's parameters, checked at the same cost for everybody, and a few at a time.

Cheap parameters, real Argon2id. That an unknown account costs the same is shown by the parameters of the hash it is
checked against, not by a stop-watch.
"""

import threading

import pytest
from argon2 import extract_parameters

from appliance.accounts import passwords as module
from appliance.accounts.passwords import PASSWORD_CHARS_MAX, Passwords
from appliance.config import AccountsConfig
from appliance.errors import ApplianceError, InvalidRequest

CONFIG = AccountsConfig(argon2_time_cost=1, argon2_memory_kib=8 * 1024, argon2_parallelism=1)
GOOD = "four unrelated words"


@pytest.fixture
def passwords():
    return Passwords(CONFIG)


def test_the_right_password_verifies_and_others_do_not(passwords):
    stored = passwords.hash(GOOD)
    assert passwords.verify(stored, GOOD)
    for wrong in ("", GOOD + " ", GOOD.upper(), GOOD[:-1], "x" * 1000, "\ud800"):
        assert not passwords.verify(stored, wrong)


def test_the_hash_is_argon2id_with_the_sites_parameters_and_a_salt_of_its_own(passwords):
    one, other = passwords.hash(GOOD), passwords.hash(GOOD)
    assert one != other
    assert one.startswith("$argon2id$v=19$m=8192,t=1,p=1$")


def test_nobody_costs_as_much_as_somebody_and_never_matches(passwords):
    assert extract_parameters(passwords._nobody) == extract_parameters(passwords.hash(GOOD))
    assert not passwords.verify(None, GOOD)
    assert not passwords.verify(None, "")


def test_a_damaged_hash_matches_nothing(passwords):
    for stored in ("", "plain", "$argon2id$v=19$m=8192,t=1,p=1$AAAA", GOOD):
        assert not passwords.verify(stored, GOOD)
        assert not passwords.verify(stored, stored)


def test_a_hash_of_older_parameters_is_recognised(passwords):
    stored = passwords.hash(GOOD)
    stronger = Passwords(CONFIG.model_copy(update={"argon2_time_cost": 2}))
    assert not passwords.is_outdated(stored)
    assert stronger.is_outdated(stored)
    assert stronger.verify(stored, GOOD)


def test_one_password_typed_on_two_keyboards_is_one_password(passwords):
    assert passwords.verify(passwords.hash("pässword für alle"), "pa\u0308ssword fu\u0308r alle")


@pytest.mark.parametrize("password", ["x1y2z3a4b5c", "", "x" * (PASSWORD_CHARS_MAX + 1), "abc" * 100])
def test_length_is_bounded_on_both_sides(passwords, password):
    with pytest.raises(InvalidRequest, match="12 to 256"):
        passwords.check_new(password, "ana")


@pytest.mark.parametrize(
    ("password", "name"),
    [
        ("Ana.Silva.1234", "ana.silva.1234"),
        ("ana silva 1234", "Ana.Silva.1234"),
        ("Password1234", "ana"),
        ("correct-horse-battery-staple", "ana"),
        ("123456789012", "ana"),
        ("aaaaaaaaaaaaaaaa", "ana"),
        ("ababababababab", "ana"),
        ("half \ud800 surrogate", "ana"),
    ],
)
def test_what_is_tried_first_is_refused_and_never_repeated_in_the_message(passwords, password, name):
    with pytest.raises(InvalidRequest) as caught:
        passwords.check_new(password, name)
    assert password not in str(caught.value)


@pytest.mark.parametrize("password", [GOOD, "x1y2z3a4b5c6", "ünïcödé pässwörd", "n" * 100 + "opqrs"])
def test_other_passwords_are_accepted(passwords, password):
    passwords.check_new(password, "ana")


def test_more_checks_than_allowed_at_once_wait_and_all_succeed(monkeypatch):
    monkeypatch.setattr(module, "_WAIT_S", 120.0)  # each takes as long as the machine is busy
    passwords = Passwords(CONFIG.model_copy(update={"password_checks_at_once": 1}))
    stored = passwords.hash(GOOD)
    results = []

    def check():
        try:
            results.append(passwords.verify(stored, GOOD))
        except ApplianceError as error:
            results.append(error)

    threads = [threading.Thread(target=check) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
