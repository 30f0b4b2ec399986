"""Browser sessions as values: the secret in the cookie, the token against forged requests, when a session ends.

    secret = new_session_secret()          # to the browser, once; the database keeps its hash
    csrf_of(secret)                        # in the page; derived, so nothing else is stored

No I/O: `store.py` keeps the rows, `directory.py` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance.config import AccountsConfig
from appliance.crypto.secrets import hash_api_secret, new_api_secret
from appliance.types import Principal

SESSIONS_PER_ACCOUNT_MAX = 16
_SECRET_CHARS_MAX = 256


@dataclass(frozen=True, slots=True)
class SessionView:
    """A signed-in browser. `csrf` MUST come back in a header with every request that changes something."""

    principal: Principal
    csrf: str
    expires: datetime  # at the latest; idle time may end it earlier


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a sign-in gives: the cookie's value, which is shown only here, and the session."""

    secret: str
    session: SessionView


def new_session_secret() -> str:
    """256 random bits as text."""
    return new_api_secret()


def secret_hash(secret: str) -> bytes | None:
    """What is stored and looked up; None for what was never one of our secrets."""
    if not secret or len(secret) > _SECRET_CHARS_MAX or not secret.isascii():
        return None
    return hash_api_secret(secret)


def csrf_of(secret: str) -> str:
    """The token of the session with this secret. A one-way function: it reveals neither the secret nor its hash."""
    return hash_api_secret(f"csrf\n{secret}").hex()


def is_alive(config: AccountsConfig, *, created_ms: int, seen_ms: int, now_ms: int) -> bool:
    """Whether neither the idle nor the absolute time has passed."""
    idle_ms, absolute_ms = now_ms - seen_ms, now_ms - created_ms
    return idle_ms < config.session_idle_s * 1000 and absolute_ms < config.session_absolute_s * 1000


def seen_step_ms(config: AccountsConfig) -> int:
    """How stale the last-seen time may become before it is written again: a minute, or a tenth of the idle time."""
    return min(60_000, config.session_idle_s * 100)
