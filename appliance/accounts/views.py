"""Rows as other rooms see them: times as `datetime`, no hashes. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.accounts.api_keys import ApiKeyView
from appliance.accounts.store import StoredAccount, StoredApiKey
from appliance.types import Principal, Role


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as an administrator sees it."""

    id: int
    name: str
    roles: frozenset[Role]
    created: datetime
    disabled: datetime | None


@dataclass(frozen=True, slots=True)
class NamedActor:
    """Who has an id of the log now, `user:7` or `api-key:3`, and since when."""

    name: str
    created: datetime


def account_view(account: StoredAccount) -> AccountView:
    """Everything but the password's hash."""
    return AccountView(
        account.id, account.name, account.roles, as_time(account.created_ms), _as_time_or_none(account.disabled_ms)
    )


def api_key_view(key: StoredApiKey) -> ApiKeyView:
    """Everything but the secret's hash."""
    return ApiKeyView(
        key.id,
        key.name,
        key.owner.name,
        key.scopes,
        as_time(key.created_ms),
        as_time(key.expires_ms),
        _as_time_or_none(key.revoked_ms),
        _as_time_or_none(key.last_used_ms),
    )


def named_account(account: StoredAccount) -> NamedActor:
    """A person."""
    return NamedActor(account.name, as_time(account.created_ms))


def named_api_key(key: StoredApiKey) -> NamedActor:
    """A program: whose key it uses, and which."""
    return NamedActor(f"{key.owner.name}/{key.name}", as_time(key.created_ms))


def user_principal(account: StoredAccount) -> Principal:
    """The person behind an account."""
    return Principal(id=f"user:{account.id}", name=account.name, kind="user", roles=account.roles)


def api_key_principal(key: StoredApiKey) -> Principal:
    """A program with a key: the roles its owner has now, narrowed by the key's scopes."""
    return Principal(
        id=f"api-key:{key.id}",
        name=named_api_key(key).name,
        kind="api_key",
        roles=key.owner.roles,
        scopes=key.scopes,
    )


def as_ms(time: datetime) -> int:
    """Milliseconds since the epoch."""
    return int(time.timestamp() * 1000)


def as_time(milliseconds: int) -> datetime:
    """A time in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _as_time_or_none(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else as_time(milliseconds)
