"""The people and programs of one site: who is asking, and the changes an administrator makes.

    directory = Directory(engine, config.accounts)
    signed_in = directory.sign_in("ana", password, "10.0.0.7")
    directory.session(signed_in.secret).principal
    with directory.change(event.record_id, by=principal.id) as change: ...

Every method blocks (SQLite, Argon2id) and may be called from any thread. Anything unknown is refused: no session, no
key, no scope and no administrator all mean closed. One message for every reason a sign-in fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from appliance.accounts import store
from appliance.accounts.api_keys import LAST_USED_STEP_MS, ApiKeyView, parse_api_key
from appliance.accounts.attempts import Attempts
from appliance.accounts.change import GUARD_SETTING, Change, rules_from
from appliance.accounts.guard_rules import GuardRules
from appliance.accounts.names import fold
from appliance.accounts.passwords import Passwords
from appliance.accounts.sessions import (
    SESSIONS_PER_ACCOUNT_MAX,
    SessionView,
    SignedIn,
    csrf_of,
    is_alive,
    new_session_secret,
    secret_hash,
    seen_step_ms,
)
from appliance.accounts.setup import setup_token_hash
from appliance.accounts.store import StoredAccount, StoredSession
from appliance.accounts.views import (
    AccountView,
    NamedActor,
    account_view,
    api_key_principal,
    api_key_view,
    as_ms,
    as_time,
    named_account,
    named_api_key,
    user_principal,
)
from appliance.config import AccountsConfig
from appliance.crypto.secrets import constant_time_equal
from appliance.errors import AccountNotFound, Unauthenticated
from appliance.storage.database import Connection, Engine, reading, writing
from appliance.types import Principal

__all__ = ["AccountView", "ApiKeyView", "Change", "Directory", "NamedActor", "SessionView", "SignedIn"]

_ACTOR = re.compile(r"(user|api-key):([1-9][0-9]{0,17})")


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Directory:
    """Accounts, sessions and API keys over one database. Owns the memory of failed sign-ins; all else is rows."""

    def __init__(self, engine: Engine, config: AccountsConfig, now: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._config = config
        self._now = now
        self._passwords = Passwords(config)
        self._attempts = Attempts(config)

    # --- who is asking ----------------------------------------------------------------------------------------

    def sign_in(self, name: str, password: str, address: str) -> SignedIn:
        """A new browser session. Raises `TooManyAttempts`, or `Unauthenticated` without saying what was wrong."""
        folded, now = fold(name), self._now()
        self._attempts.admit(folded, address, now)
        with reading(self._engine) as connection:
            account = store.account_by_name(connection, folded)
        # Verified even when there is no such account, or a disabled one: the time taken must not tell them apart.
        matches = self._passwords.verify(account.password_hash if account else None, password)
        if account is None or not matches or account.disabled_ms is not None:
            raise _wrong_name_or_password()
        self._attempts.forgive(folded, address)
        return self._begin_session(account, password, as_ms(now))

    def session(self, secret: str) -> SessionView:
        """The live session of a cookie. Does not prolong it: polling by a forgotten tab must not keep it alive.

        Raises `Unauthenticated` when it is unknown, expired or its account was disabled.
        """
        stored = self._live_session(secret)
        expires_ms = stored.created_ms + self._config.session_absolute_s * 1000
        return SessionView(user_principal(stored.account), csrf_of(secret), as_time(expires_ms))

    def authenticate_session(self, secret: str) -> Principal:
        """The person of a cookie; see `session`."""
        return self.session(secret).principal

    def touch(self, secret: str) -> None:
        """The person did something: the idle time starts again. A session that has ended stays ended."""
        stored = self._live_session(secret)
        now_ms = as_ms(self._now())
        if now_ms - stored.seen_ms >= seen_step_ms(self._config):
            with writing(self._engine) as connection:
                store.set_session_seen(connection, stored.secret_hash, now_ms)

    def sign_out(self, secret: str) -> None:
        """End a session. Ending one that is not there is no error."""
        hashed = secret_hash(secret)
        if hashed is not None:
            with writing(self._engine) as connection:
                store.delete_session(connection, hashed)

    def sign_out_everywhere(self, name: str) -> None:
        """End every session of an account. Raises `AccountNotFound`."""
        with writing(self._engine) as connection:
            account = store.account_by_name(connection, fold(name))
            if account is None:
                raise AccountNotFound(f"there is no account {name[:64]!r}")
            store.delete_sessions_of(connection, account.id)

    def authenticate_api_key(self, text: str) -> Principal:
        """The program behind a key, with what its owner may do now. Raises `Unauthenticated`.

        Only somebody who holds the whole key learns that it was revoked or has expired.
        """
        parsed = parse_api_key(text)
        if parsed is None:
            raise _unknown_api_key()
        with reading(self._engine) as connection:
            stored = store.api_key_by_id(connection, parsed.id)
        if stored is None or not constant_time_equal(stored.secret_hash, parsed.secret_hash):
            raise _unknown_api_key()
        now_ms = as_ms(self._now())
        if stored.revoked_ms is not None:
            raise Unauthenticated(f"API key {stored.id} was revoked", hint="ask its owner for another key")
        if stored.expires_ms <= now_ms:
            raise Unauthenticated(f"API key {stored.id} has expired", hint="ask its owner for another key")
        if stored.owner.disabled_ms is not None:
            raise Unauthenticated(f"the owner of API key {stored.id} is disabled", hint="ask an administrator")
        if stored.last_used_ms is None or now_ms - stored.last_used_ms >= LAST_USED_STEP_MS:
            with writing(self._engine) as connection:
                store.set_api_key_used(connection, stored.id, now_ms)
        return api_key_principal(stored)

    # --- what an administrator sees and changes ---------------------------------------------------------------

    def change(self, record_id: bytes, by: str) -> Change:
        """Open an administrative change that the audit record `record_id` (16 bytes) announces; see `change.py`."""
        return Change(self._engine, self._config, self._passwords, record_id, by, as_ms(self._now()))

    def unapplied(self, record_ids: Collection[bytes]) -> frozenset[bytes]:
        """Those audit records whose change was never committed: recovery voids them in the log."""
        if not record_ids:
            return frozenset()
        # Under the write lock: a change that another process has recorded and is about to commit is waited for.
        with writing(self._engine) as connection:
            return frozenset(record_ids) - store.applied_changes(connection, list(record_ids))

    def list_accounts(self) -> tuple[AccountView, ...]:
        """Every account, by name."""
        with reading(self._engine) as connection:
            return tuple(account_view(account) for account in store.accounts(connection))

    def list_api_keys(self, owner: str | None = None) -> tuple[ApiKeyView, ...]:
        """Every key, or those of one account; oldest first."""
        with reading(self._engine) as connection:
            if owner is None:
                return tuple(api_key_view(key) for key in store.api_keys(connection))
            account = store.account_by_name(connection, fold(owner))
            return tuple(api_key_view(key) for key in store.api_keys(connection, account.id)) if account else ()

    def actors_of(self, principal: Principal) -> frozenset[str]:
        """Every id under which this caller's own requests are recorded: a person's include those of their keys."""
        if principal.kind != "user":
            return frozenset({principal.id})
        keys = self.list_api_keys(principal.name)
        return frozenset({principal.id, *(f"api-key:{key.id}" for key in keys)})

    @staticmethod
    def keeps(actor: str) -> bool:
        """Whether an id of the log is of the kind that this room gives out: of a person or of an API key."""
        return _ACTOR.fullmatch(actor) is not None

    def named(self, actors: Collection[str]) -> dict[str, NamedActor]:
        """Who has these ids now; without those that nobody has, and those of another kind (`local:uid-0`)."""
        found: dict[str, NamedActor] = {}
        numbers: dict[str, list[int]] = {"user": [], "api-key": []}
        for match in map(_ACTOR.fullmatch, actors):
            if match is not None:
                numbers[match[1]].append(int(match[2]))
        with reading(self._engine) as connection:
            for ids in _parts(numbers["user"]):
                found |= {f"user:{one.id}": named_account(one) for one in store.accounts(connection, ids)}
            for ids in _parts(numbers["api-key"]):
                found |= {f"api-key:{one.id}": named_api_key(one) for one in store.api_keys_by_id(connection, ids)}
        return found

    def guard_rules(self) -> GuardRules:
        """What the site decided about identifiers in chats. Raises `ConfigInvalid` where that cannot be read."""
        with reading(self._engine) as connection:
            return rules_from(store.setting(connection, GUARD_SETTING))

    def has_administrator(self) -> bool:
        """Whether anybody can administer; until then the only way in is the one-time link."""
        with reading(self._engine) as connection:
            return store.active_administrators(connection) > 0

    def setup_open(self, token: str | None = None) -> bool:
        """Whether a one-time link waits to be used; with `token`: whether this one does."""
        hashed = None if token is None else setup_token_hash(token)
        if token is not None and hashed is None:
            return False
        with reading(self._engine) as connection:
            return store.setup_link_is_open(connection, as_ms(self._now()), hashed)

    # --- private ----------------------------------------------------------------------------------------------

    def _begin_session(self, account: StoredAccount, password: str, now_ms: int) -> SignedIn:
        rehashed = self._passwords.hash(password) if self._passwords.is_outdated(account.password_hash) else None
        secret = new_session_secret()
        hashed = secret_hash(secret)
        assert hashed is not None, "a secret of our own making has a hash"
        with writing(self._engine) as connection:
            # Read again under the write lock: between the check of the password and now it may have been changed,
            # or the account disabled, and both end sessions that this one must not outlive.
            current = store.account_by_name(connection, fold(account.name))
            if current != account:
                raise _wrong_name_or_password()
            if rehashed is not None:
                store.set_password_hash(connection, account.id, rehashed)
            self._forget_dead_sessions(connection, now_ms)
            store.keep_newest_sessions(connection, account.id, SESSIONS_PER_ACCOUNT_MAX - 1)
            store.insert_session(connection, hashed, account.id, now_ms)
        expires = as_time(now_ms) + timedelta(seconds=self._config.session_absolute_s)
        return SignedIn(secret, SessionView(user_principal(account), csrf_of(secret), expires))

    def _forget_dead_sessions(self, connection: Connection, now_ms: int) -> None:
        store.delete_dead_sessions(
            connection,
            created_before_ms=now_ms - self._config.session_absolute_s * 1000,
            seen_before_ms=now_ms - self._config.session_idle_s * 1000,
        )

    def _live_session(self, secret: str) -> StoredSession:
        hashed = secret_hash(secret)
        stored = None
        if hashed is not None:
            with reading(self._engine) as connection:
                stored = store.session_by_hash(connection, hashed)
        if (
            stored is None
            or stored.account.disabled_ms is not None
            or not is_alive(
                self._config, created_ms=stored.created_ms, seen_ms=stored.seen_ms, now_ms=as_ms(self._now())
            )
        ):
            raise Unauthenticated("the session has ended", hint="sign in again")
        return stored


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Few enough for one statement."""
    return (ids[start : start + store.IDS_AT_ONCE] for start in range(0, len(ids), store.IDS_AT_ONCE))


def _wrong_name_or_password() -> Unauthenticated:
    return Unauthenticated("the user name or the password is wrong", hint="ask an administrator if you forgot it")


def _unknown_api_key() -> Unauthenticated:
    return Unauthenticated("the API key is not known here", hint="Authorization: Bearer clk_…")
