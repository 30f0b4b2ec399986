"""Secrets that people and programs present: made, hashed for storage, compared without a timing trace.

secret = new_api_secret()              # shown once
stored = hash_api_secret(secret)       # what the database keeps
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

_SECRET_BYTES = 32


def new_api_secret() -> str:
    """256 random bits as URL-safe text."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def hash_api_secret(secret: str) -> bytes:
    """SHA-256 of a secret with full entropy (32 bytes).

    No salt and no stretching: a secret of 256 random bits cannot be guessed from its hash at any speed. Passwords
    are another matter and go through Argon2id (`accounts/passwords.py`).
    """
    return hashlib.sha256(b"cloister-api-secret-1\0" + secret.encode()).digest()


def constant_time_equal(left: bytes, right: bytes) -> bool:
    """Compare without telling by the time taken where the first difference is."""
    return hmac.compare_digest(left, right)
