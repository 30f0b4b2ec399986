"""The one-time link that makes the first administrator, as a value. No I/O; the rules of use are in `change.py`.

    token = new_setup_token()         # into the link that `appliance init` prints, once
    setup_token_hash(token)           # what is stored

There is no default password: a machine that nobody has set up yet can be entered by nobody.
"""

from __future__ import annotations

from appliance.crypto.secrets import hash_api_secret, new_api_secret

SETUP_ROLES = frozenset({"admin", "user"})
_TOKEN_CHARS_MAX = 256


def new_setup_token() -> str:
    """256 random bits as text."""
    return new_api_secret()


def setup_token_hash(token: str) -> bytes | None:
    """What is stored and looked up; None for what was never one of our tokens."""
    if not token or len(token) > _TOKEN_CHARS_MAX or not token.isascii():
        return None
    return hash_api_secret(f"setup\n{token}")
