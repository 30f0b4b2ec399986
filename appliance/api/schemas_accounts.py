"""Bodies of the routes about people: signing in, accounts, API keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from appliance.accounts.api_keys import ApiKeyView
from appliance.accounts.views import AccountView
from appliance.types import Role


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SignInRequest(_Body):
    """Name and password of an account."""

    username: str = Field(max_length=64)
    password: str = Field(max_length=256)


class SetupRequest(_Body):
    """The one-time token and the administrator to be created."""

    token: str = Field(max_length=128)
    username: str = Field(max_length=64)
    password: str = Field(max_length=256)


class AccountRequest(_Body):
    """An account to be created."""

    username: str = Field(max_length=64)
    password: str = Field(max_length=256)
    roles: list[Role] = Field(min_length=1, max_length=3)


class PasswordRequest(_Body):
    """Another password for an account."""

    password: str = Field(max_length=256)


class OwnPasswordRequest(_Body):
    """One's own password, and the one that proves who asks."""

    current: str = Field(max_length=256)
    password: str = Field(max_length=256)


class ApiKeyRequest(_Body):
    """An API key to be created; its secret is shown once."""

    name: str = Field(min_length=1, max_length=64)
    scopes: list[str] = Field(default_factory=list, max_length=32)
    days: int | None = Field(default=None, ge=1, le=3650)


def account_body(account: AccountView) -> dict[str, Any]:
    """An account as JSON."""
    return {
        "id": account.id,
        "name": account.name,
        "roles": sorted(account.roles),
        "created": account.created.isoformat(),
        "disabled": account.disabled.isoformat() if account.disabled else None,
    }


def api_key_body(key: ApiKeyView) -> dict[str, Any]:
    """A key as JSON, without its secret."""
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "scopes": sorted(key.scopes),
        "created": key.created.isoformat(),
        "expires": key.expires.isoformat(),
        "revoked": key.revoked.isoformat() if key.revoked else None,
        "last_used": key.last_used.isoformat() if key.last_used else None,
    }
