"""API keys as values: `clk_<id>_<secret>`, how one is read, and which scopes one may carry.

    text = format_api_key(3, new_api_secret())     # "clk_3_Vn0…", shown once
    parse_api_key(text)                        # ParsedKey(id=3, secret_hash=…), or None

The hash is over the whole text, so an id cannot be exchanged. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from appliance.accounts.actions import SCOPES, actions_of_roles
from appliance.crypto.secrets import hash_api_secret
from appliance.errors import InvalidRequest
from appliance.types import Role

PREFIX = "clk"
DAYS_MAX = 3650
API_KEYS_PER_ACCOUNT_MAX = 100
LAST_USED_STEP_MS = 3_600_000  # "in use this hour" is what the administrator asks; a write per request is not worth it
_PATTERN = re.compile(rf"{PREFIX}_([1-9][0-9]{{0,17}})_([A-Za-z0-9_-]{{43}})")


@dataclass(frozen=True, slots=True)
class ApiKeyView:
    """An API key as its owner and the administrator see it: everything but the secret."""

    id: int
    name: str
    owner: str
    scopes: frozenset[str]
    created: datetime
    expires: datetime
    revoked: datetime | None
    last_used: datetime | None  # to the hour


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """What a request presented."""

    id: int
    secret_hash: bytes


def format_api_key(key_id: int, secret: str) -> str:
    """The text that the owner copies."""
    return f"{PREFIX}_{key_id}_{secret}"


def parse_api_key(text: str) -> ParsedKey | None:
    """What `text` presents, or None if it cannot be one of our keys."""
    found = _PATTERN.fullmatch(text)
    return ParsedKey(int(found[1]), hash_api_secret(text)) if found else None


def check_scopes(scopes: Iterable[str], owner_roles: frozenset[Role]) -> frozenset[str]:
    """The scopes, if a key of this owner may carry them. Raises `InvalidRequest`."""
    wanted = frozenset(scopes)
    allowed = frozenset(action.value for action in actions_of_roles(owner_roles) & SCOPES)
    if not wanted:
        raise InvalidRequest("an API key needs at least one scope", hint=f"scopes: {', '.join(sorted(allowed))}")
    refused = sorted(wanted - allowed)
    if refused:
        raise InvalidRequest(
            f"a key of this account cannot have the scope {refused[0][:32]!r}",
            hint=f"scopes it can have: {', '.join(sorted(allowed))}",
        )
    return wanted


def check_days(days: int) -> int:
    """The lifetime, if it is one: every key expires."""
    if not 1 <= days <= DAYS_MAX:
        raise InvalidRequest(f"an API key lives 1 to {DAYS_MAX} days, not {days}")
    return days
