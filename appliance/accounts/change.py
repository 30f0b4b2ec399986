"""One administrative change and the proof that it happened, in one transaction that the audit record outlives.

    with directory.change(event.record_id, by=principal.id) as change:
        account = change.create_account("ana", password, {"user"})
        await audit.append(event)        # durable and signed before anything is visible
        change.commit()                  # the change and its `applied_change` row, together

Leaving the block without `commit` undoes everything. If the process dies between the two lines, the record is there
and the change is not: at the next start `Directory.unapplied` names such records, and they are voided in the log.
The opposite, a change without a record, cannot happen. A `Change` belongs to one task, which MAY run its methods in
other threads and MAY leave the block, being cancelled, while one still runs: that one finishes and is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import wraps
from threading import RLock
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from appliance.accounts import store
from appliance.accounts.actions import check_roles
from appliance.accounts.api_keys import (
    API_KEYS_PER_ACCOUNT_MAX,
    ApiKeyView,
    check_days,
    check_scopes,
    format_api_key,
)
from appliance.accounts.guard_rules import GuardRules, decode_rules, encode_rules
from appliance.accounts.names import check_key_name, check_user_name, fold
from appliance.accounts.passwords import Passwords
from appliance.accounts.setup import SETUP_ROLES, new_setup_token, setup_token_hash
from appliance.accounts.store import StoredAccount
from appliance.accounts.views import AccountView, account_view, api_key_view
from appliance.config import AccountsConfig
from appliance.crypto.secrets import hash_api_secret, new_api_secret
from appliance.errors import AccountNotFound, ApplianceError, ConfigInvalid, Conflict, NotFound, SetupLinkInvalid
from appliance.storage.database import Connection, Engine, writing

GUARD_SETTING = "guard"
_DAY_MS = 24 * 3600 * 1000
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _step(
    method: Callable[Concatenate[Change, _Parameters], _Result],
) -> Callable[Concatenate[Change, _Parameters], _Result]:
    """A step of a change: one at a time, none after the block was left, undone if it was left meanwhile."""

    @wraps(method)
    def step(self: Change, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            with self._lock:
                return method(self, *args, **kwargs)
        finally:
            # Asked after the lock is free: whoever leaves the block marks it first and then tries the lock, so that
            # of the two at least one sees the other and no transaction stays open.
            if self._left:
                self._undo()

    return step


class Change:
    """An open transaction on the accounts. Its write lock is taken by the first change, not before."""

    def __init__(
        self, engine: Engine, config: AccountsConfig, passwords: Passwords, record_id: bytes, by: str, now_ms: int
    ) -> None:
        self._engine = engine
        self._config = config
        self._passwords = passwords
        self._record_id = record_id
        self._by = by
        self._now_ms = now_ms
        self._resources = ExitStack()
        self._connection: Connection | None = None
        self._lock = RLock()
        self._left = False

    def __enter__(self) -> Change:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left = True
        if self._lock.acquire(blocking=False):  # otherwise a step still runs, and undoes itself when it ends
            try:
                self._undo()
            finally:
                self._lock.release()

    @_step
    def commit(self) -> None:
        """Make the change visible, together with the row that ties it to its audit record."""
        store.insert_applied_change(self._transaction(), self._record_id, self._now_ms)
        self._connection = None
        self._resources.close()  # leaves `writing` without an exception, which commits

    @_step
    def create_account(self, name: str, password: str, roles: Iterable[str]) -> AccountView:
        """A new account. Raises `InvalidRequest`, `AccountExists`."""
        checked = check_roles(roles)
        self._passwords.check_new(password, check_user_name(name))
        hashed = self._passwords.hash(password)  # slow: before the write lock is taken
        connection = self._transaction()
        store.insert_account(connection, name, fold(name), hashed, checked, self._now_ms, self._by)
        if "admin" in checked:
            # Somebody can administer from here on, so a link that lies about somewhere must not add another.
            store.delete_open_setup_links(connection)
        return account_view(self._account(name))

    @_step
    def disable_account(self, name: str) -> AccountView:
        """The account may do nothing any more, from this commit: its sessions end and its API keys are refused."""
        account = self._account(name)
        connection = self._transaction()
        if account.disabled_ms is None:
            if "admin" in account.roles and store.active_administrators(connection) == 1:
                raise Conflict(f"{account.name!r} is the only administrator", hint="make another administrator first")
            store.set_disabled(connection, account.id, self._now_ms)
        store.delete_sessions_of(connection, account.id)
        return account_view(self._account(name))

    @_step
    def enable_account(self, name: str) -> AccountView:
        """A disabled account works again, with its API keys; its sessions stay ended."""
        account = self._account(name)
        store.set_disabled(self._transaction(), account.id, None)
        if "admin" in account.roles:
            store.delete_open_setup_links(self._transaction())
        return account_view(self._account(name))

    @_step
    def set_password(self, name: str, password: str) -> AccountView:
        """Another password; every session of the account ends."""
        self._passwords.check_new(password, name)
        hashed = self._passwords.hash(password)
        account = self._account(name)
        store.set_password_hash(self._transaction(), account.id, hashed)
        store.delete_sessions_of(self._transaction(), account.id)
        return account_view(account)

    @_step
    def create_api_key(
        self, owner: str, name: str, scopes: Iterable[str], days: int | None = None
    ) -> tuple[ApiKeyView, str]:
        """A new key and its text, which cannot be shown again. Raises `InvalidRequest`, `Conflict`."""
        name = check_key_name(name)
        lifetime = check_days(self._config.api_key_days_default if days is None else days)
        account = self._account(owner)
        if account.disabled_ms is not None:
            raise Conflict(f"the account {account.name!r} is disabled", hint="enable it first")
        checked = check_scopes(scopes, account.roles)
        connection = self._transaction()
        if store.usable_api_keys(connection, account.id, self._now_ms) >= API_KEYS_PER_ACCOUNT_MAX:
            raise Conflict(
                f"{account.name!r} has {API_KEYS_PER_ACCOUNT_MAX} API keys already", hint="revoke one that is not used"
            )
        expires_ms = self._now_ms + lifetime * _DAY_MS
        key_id = store.reserve_api_key(connection, account.id, name, checked, self._now_ms, expires_ms)
        text = format_api_key(key_id, new_api_secret())
        store.set_api_key_hash(connection, key_id, hash_api_secret(text))
        stored = store.api_key_by_id(connection, key_id)
        assert stored is not None, "the row was written in this transaction"
        return api_key_view(stored), text

    @_step
    def revoke_api_key(self, key_id: int, *, owner: str | None = None) -> ApiKeyView:
        """The key is refused from this commit. With `owner`, keys of others are not found."""
        connection = self._transaction()
        stored = store.api_key_by_id(connection, key_id)
        if stored is None or (owner is not None and fold(stored.owner.name) != fold(owner)):
            raise NotFound(
                f"there is no API key {key_id}", hint="list them: GET /v1/api-keys or `appliance api-keys list`"
            )
        store.set_api_key_revoked(connection, key_id, self._now_ms)
        stored = store.api_key_by_id(connection, key_id)
        assert stored is not None, "keys are never deleted"
        return api_key_view(stored)

    @_step
    def create_setup_link(self, *, recover: bool = False) -> str:
        """The token of a new one-time link; earlier ones stop working.

        Refused with `Conflict` while somebody can administer, except with `recover`, which MUST be reachable only by
        the operator of the machine: it is how a site gets back in whose administrator has left.
        """
        connection = self._transaction()
        if not recover and store.active_administrators(connection) > 0:
            raise Conflict(
                "this appliance has an administrator",
                hint="ask them for an account; where they have left: appliance users setup-link --recover",
            )
        store.delete_open_setup_links(connection)
        token = new_setup_token()
        hashed = setup_token_hash(token)
        assert hashed is not None, "a token of our own making has a hash"
        store.insert_setup_link(
            connection, hashed, self._now_ms, self._now_ms + self._config.setup_link_s * 1000, self._by
        )
        return token

    @_step
    def use_setup_link(self, token: str, name: str, password: str) -> AccountView:
        """The administrator that the link was for. Raises `SetupLinkInvalid` before it looks at anything else."""
        hashed = setup_token_hash(token)
        if hashed is None or not store.use_setup_link(self._transaction(), hashed, self._now_ms):
            raise SetupLinkInvalid(
                "this link is not valid: it was used, has expired or was replaced by a newer one",
                hint="the operator of the machine makes a new one with `appliance users setup-link`",
            )
        return self.create_account(name, password, SETUP_ROLES)

    @_step
    def set_guard_policy(self, workspace: str, policy: str) -> GuardRules:
        """What happens to identifiers in the chats of a workspace. Raises `InvalidRequest`, `Conflict`."""
        return self._set_guard(self._guard().with_policy(workspace, policy))

    @_step
    def assign_workspace(self, name: str, workspace: str) -> GuardRules:
        """In which workspace an account works. Raises `InvalidRequest`, `AccountNotFound`."""
        return self._set_guard(self._guard().with_member(self._account(name).name, workspace))

    def _guard(self) -> GuardRules:
        return rules_from(store.setting(self._transaction(), GUARD_SETTING))

    def _set_guard(self, rules: GuardRules) -> GuardRules:
        store.set_setting(self._transaction(), GUARD_SETTING, encode_rules(rules))
        return rules

    def _undo(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.rollback()
                self._connection = None
            self._resources.close()

    def _transaction(self) -> Connection:
        if self._left:
            raise Conflict("this change was given up before it was complete", hint="try again")
        if self._connection is None:
            self._connection = self._resources.enter_context(writing(self._engine))
        return self._connection

    def _account(self, name: str) -> StoredAccount:
        found = store.account_by_name(self._transaction(), fold(name))
        if found is None:
            raise AccountNotFound(
                f"there is no account {name[:64]!r}", hint="list them: GET /v1/accounts or `appliance users list`"
            )
        return found


def rules_from(stored: str | None) -> GuardRules:
    """The stored rules of the guard, or those of a site that decided nothing. Raises `ConfigInvalid`."""
    if stored is None:
        return GuardRules()
    try:
        return decode_rules(stored)
    except (ValueError, KeyError, TypeError, AttributeError, ApplianceError):
        raise ConfigInvalid(
            "what this site decided about identifiers in chats cannot be read", hint="restore the newest backup"
        ) from None
