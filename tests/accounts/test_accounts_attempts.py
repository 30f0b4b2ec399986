"""Guessing is slow from one address and slow for one account; a colleague is never locked out; memory is bounded.

Time is a parameter: every test says when an attempt happens, in seconds from an arbitrary start.
"""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts.attempts import DELAY_MAX_S, FREE_ATTEMPTS, Attempts, delay_s, group
from appliance.config import AccountsConfig
from appliance.errors import TooManyAttempts

CONFIG = AccountsConfig(attempts_per_address=5, attempts_window_s=100)
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


@pytest.fixture
def attempts():
    return Attempts(CONFIG)


def test_an_address_has_its_number_of_failures_in_the_window(attempts):
    for i in range(5):
        attempts.admit(f"account{i}", "10.0.0.7", at(i))
    with pytest.raises(TooManyAttempts) as caught:
        attempts.admit("another", "10.0.0.7", at(10))
    assert caught.value.retry_after_s == pytest.approx(90, abs=1)
    attempts.admit("another", "10.0.0.8", at(10))
    attempts.admit("another2", "10.0.0.7", at(100))


def test_the_delay_of_an_account_grows_and_counts_for_every_address(attempts):
    for i in range(FREE_ATTEMPTS):
        attempts.admit("ana", f"10.0.0.{i}", at(0))
    with pytest.raises(TooManyAttempts, match="this account") as caught:
        attempts.admit("ana", "10.0.0.50", at(0.5))
    assert caught.value.retry_after_s == 1
    attempts.admit("ana", "10.0.0.50", at(1))
    with pytest.raises(TooManyAttempts):
        attempts.admit("ana", "10.0.0.51", at(2.9))
    attempts.admit("ana", "10.0.0.51", at(3))


def test_a_refused_attempt_prolongs_nothing(attempts):
    for i in range(FREE_ATTEMPTS):
        attempts.admit("ana", f"10.0.0.{i}", at(0))
    for i in range(50):
        with pytest.raises(TooManyAttempts):
            attempts.admit("ana", f"10.0.1.{i}", at(0.9))
    attempts.admit("ana", "10.0.0.99", at(1))


def test_the_delay_is_the_same_for_accounts_that_do_not_exist():
    assert [delay_s(n) for n in range(10)] == [0, 0, 0, 1, 2, 4, 8, 16, 30, 30]


@given(st.integers(min_value=0, max_value=10**9))
def test_nobody_waits_longer_than_the_longest_delay(failures):
    assert 0 <= delay_s(failures) <= DELAY_MAX_S


def test_success_takes_the_charge_back(attempts):
    for i in range(50):
        attempts.admit("ana", "10.0.0.7", at(i / 100))
        attempts.forgive("ana", "10.0.0.7")


def test_failures_are_forgotten_after_the_window(attempts):
    for i in range(FREE_ATTEMPTS):
        attempts.admit("ana", f"10.0.0.{i}", at(0))
    for i in range(FREE_ATTEMPTS):
        attempts.admit("ana", f"10.0.2.{i}", at(200))


def test_parallel_guesses_are_charged_before_any_is_checked(attempts):
    admitted = 0
    for i in range(100):
        try:
            attempts.admit("ana", f"10.1.0.{i}", at(0))
            admitted += 1
        except TooManyAttempts:
            pass
    assert admitted == FREE_ATTEMPTS


def test_a_clock_set_back_does_not_shut_anybody_out(attempts):
    for i in range(5):
        attempts.admit("ana" if i < 3 else f"b{i}", "10.0.0.7", at(3600))
    attempts.admit("ana", "10.0.0.7", at(0))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.7", "10.0.0.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.7", "10.0.0.7", True),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.8", False),
        ("unknown", "unknown", True),
    ],
)
def test_a_customers_ipv6_network_counts_as_one_address(one, other, same):
    assert (group(one) == group(other)) is same


def test_the_tables_are_bounded():
    attempts = Attempts(CONFIG, entries_max=10)
    for i in range(1000):
        attempts.admit(f"name{i}", f"10.0.{i // 250}.{i % 250}", at(i))
    assert len(attempts._accounts) == len(attempts._addresses) == 10
