"""Browser sessions: who gets one, how long it lives, and everything that ends it at once.

The real database and real Argon2id; the clock moves only when a test moves it. What lies in the file is compared with
what the browser holds, so that a stolen database opens no session.
"""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.accounts.directory import Directory
from appliance.accounts.sessions import SESSIONS_PER_ACCOUNT_MAX, csrf_of, is_alive
from appliance.config import AccountsConfig
from appliance.errors import AccountNotFound, TooManyAttempts, Unauthenticated


def is_signed_in(site, secret):
    try:
        site.directory.session(secret)
    except Unauthenticated:
        return False
    return True


def test_the_right_password_opens_a_session_of_that_person(site):
    account = site.add("Ana.Silva", "user", "admin")
    signed_in = site.sign_in("ana.silva")
    principal = site.directory.authenticate_session(signed_in.secret)
    assert principal == signed_in.session.principal
    assert (principal.id, principal.name, principal.kind) == (f"user:{account.id}", "Ana.Silva", "user")
    assert principal.roles == {"user", "admin"}
    assert principal.scopes is None


def test_every_reason_for_refusal_reads_the_same(site):
    site.add("ana")
    site.add("gone")
    with site.change() as change:
        change.disable_account("gone")
        change.commit()
    said = set()
    for name, password in [("ana", "wrong password"), ("nobody", site.password), ("gone", site.password), ("", "")]:
        with pytest.raises(Unauthenticated) as caught:
            site.sign_in(name, password)
        said.add((str(caught.value), caught.value.hint))
    assert len(said) == 1


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.text(max_size=80), password=st.text(max_size=300))
def test_no_text_signs_anybody_in_by_accident(site, name, password):
    with pytest.raises((Unauthenticated, TooManyAttempts)):
        site.sign_in(name, password)


def test_the_database_holds_neither_the_password_nor_the_secret_nor_the_token(site):
    site.add("ana")
    signed_in = site.sign_in("ana")
    site.engine.dispose()
    stored = b"".join(path.read_bytes() for path in site.home.database.parent.iterdir())
    csrf = signed_in.session.csrf
    for secret in (site.password.encode(), signed_in.secret.encode(), csrf.encode(), bytes.fromhex(csrf)):
        assert secret not in stored


def test_secrets_do_not_repeat_and_tokens_belong_to_one_session(site):
    site.add("ana")
    one, other = site.sign_in("ana"), site.sign_in("ana")
    assert one.secret != other.secret
    assert one.session.csrf == csrf_of(one.secret) == site.directory.session(one.secret).csrf
    assert one.session.csrf != other.session.csrf


@pytest.mark.parametrize("secret", ["", "x", "ä" * 43, "A" * 43, "A" * 5000, "\0"])
def test_unknown_secrets_open_nothing(site, secret):
    site.add("ana")
    site.sign_in("ana")
    with pytest.raises(Unauthenticated):
        site.directory.session(secret)


def test_an_idle_session_ends_and_looking_at_it_does_not_prolong_it(site):
    site.add("ana")
    secret = site.sign_in("ana").secret
    for _ in range(14):
        site.clock.advance(minutes=1)
        site.directory.session(secret)
    site.clock.advance(seconds=59)
    assert is_signed_in(site, secret)
    site.clock.advance(seconds=1)
    assert not is_signed_in(site, secret)


def test_doing_something_prolongs_a_session_up_to_its_absolute_end(site):
    site.add("ana")
    signed_in = site.sign_in("ana")
    ends = site.clock.time + timedelta(seconds=site.config.session_absolute_s)
    assert signed_in.session.expires == ends == site.directory.session(signed_in.secret).expires
    while site.clock.time + timedelta(minutes=10) < ends:
        site.clock.advance(minutes=10)
        site.directory.touch(signed_in.secret)
    site.clock.time = ends - timedelta(seconds=1)
    assert is_signed_in(site, signed_in.secret)
    site.clock.time = ends
    assert not is_signed_in(site, signed_in.secret)


def test_a_session_that_has_ended_is_not_revived_by_touching_it(site):
    site.add("ana")
    secret = site.sign_in("ana").secret
    site.clock.advance(minutes=15)
    with pytest.raises(Unauthenticated):
        site.directory.touch(secret)
    assert not is_signed_in(site, secret)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(60, 10**4), st.integers(60, 10**5))
def test_a_session_is_alive_exactly_until_the_first_of_its_two_ends(idle_s, age_s, idle_max, absolute_max):
    config = AccountsConfig(session_idle_s=idle_max, session_absolute_s=absolute_max)
    now_ms = 10**12
    alive = is_alive(config, created_ms=now_ms - age_s * 1000, seen_ms=now_ms - idle_s * 1000, now_ms=now_ms)
    assert alive is (idle_s < idle_max and age_s < absolute_max)


def test_signing_out_ends_that_session_only(site):
    site.add("ana")
    one, other = site.sign_in("ana").secret, site.sign_in("ana").secret
    site.directory.sign_out(one)
    site.directory.sign_out(one)
    site.directory.sign_out("never one of ours")
    assert (is_signed_in(site, one), is_signed_in(site, other)) == (False, True)


def test_signing_out_everywhere_ends_the_sessions_of_one_account(site):
    site.add("ana")
    site.add("bob")
    secrets = [site.sign_in("ana").secret, site.sign_in("ana").secret, site.sign_in("bob").secret]
    site.directory.sign_out_everywhere("ANA")
    assert [is_signed_in(site, secret) for secret in secrets] == [False, False, True]
    with pytest.raises(AccountNotFound):
        site.directory.sign_out_everywhere("nobody")


def test_a_disabled_account_is_out_at_once_and_its_sessions_stay_ended(site):
    site.add("ana")
    secret = site.sign_in("ana").secret
    with site.change() as change:
        change.disable_account("ana")
        change.commit()
    assert not is_signed_in(site, secret)
    with site.change() as change:
        change.enable_account("ana")
        change.commit()
    assert not is_signed_in(site, secret)
    assert is_signed_in(site, site.sign_in("ana").secret)


def test_another_password_ends_every_session(site):
    site.add("ana")
    secret = site.sign_in("ana").secret
    with site.change() as change:
        change.set_password("ana", "quite another password")
        change.commit()
    assert not is_signed_in(site, secret)
    with pytest.raises(Unauthenticated):
        site.sign_in("ana")
    assert is_signed_in(site, site.sign_in("ana", "quite another password").secret)


def test_the_number_of_sessions_of_an_account_is_bounded_and_the_oldest_gives_way(site):
    site.add("ana")
    secrets = []
    for _ in range(SESSIONS_PER_ACCOUNT_MAX + 3):
        secrets.append(site.sign_in("ana").secret)
        site.clock.advance(seconds=1)
    assert [is_signed_in(site, secret) for secret in secrets] == [False] * 3 + [True] * SESSIONS_PER_ACCOUNT_MAX


def test_guessing_is_slowed_down_and_the_right_password_clears_the_count(site):
    site.add("ana")
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            site.sign_in("ana", "wrong password")
    with pytest.raises(TooManyAttempts) as caught:
        site.sign_in("ana")
    site.clock.advance(seconds=caught.value.retry_after_s)
    site.sign_in("ana")
    with pytest.raises(Unauthenticated):
        site.sign_in("ana", "wrong password")
    site.sign_in("ana")


def test_a_hash_of_older_parameters_is_renewed_at_the_next_sign_in(site):
    site.add("ana")
    stronger = Directory(site.engine, site.config.model_copy(update={"argon2_time_cost": 2}), site.clock)
    stronger.sign_in("ana", site.password, "10.0.0.7")
    with site.engine.connect() as connection:
        assert ",t=2," in connection.exec_driver_sql("SELECT password_hash FROM account").scalar_one()
    stronger.sign_in("ana", site.password, "10.0.0.7")
