"""Blind tokens: what lets the log be asked for an exact value without saying what the value is. Pure.

    tokens_of(key, event)                        # of one record, stored beside it
    token(key, "actor", "user:7")                # of a question, compared with them

    token = HMAC-SHA-256(key of the month, field || 0x00 || value in NFC)[:12]

The key changes every month, so that equal values are seen as equal within a month only. A content is found by the
first bytes of the random id of its key: no secret, and gone when the key is. Whom a content is about is asked for that
way, through the keys of that subject; a token of its own would outlive them. A sealed record without tokens, written
with the index switched off, stands under `NOT_INDEXED`, so that no search misses it.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Iterator
from typing import Final, Literal, get_args

from appliance.types import AuditEvent

TOKEN_BYTES: Final = 12
NOT_INDEXED: Final = bytes(TOKEN_BYTES)

# Rarest first: a search follows the first of these that it was given, and opens what it finds.
Field = Literal["exchange", "address", "actor", "specialist", "event"]
FIELDS: Final[tuple[Field, ...]] = get_args(Field)


def token(key: bytes, field: Field, value: str) -> bytes:
    """The token of one value under the key of one month."""
    normal = unicodedata.normalize("NFC", value).encode(errors="surrogatepass")
    return hmac.digest(key, field.encode() + b"\0" + normal, "sha256")[:TOKEN_BYTES]


def scope_token(con_scope: bytes) -> bytes:
    """The token of a content: the start of the id of its key."""
    return con_scope[:TOKEN_BYTES]


def public_token(event: str) -> bytes:
    """The token of a public record, which hides nothing: a hash of its event."""
    return hashlib.sha256(b"public\0" + event.encode()).digest()[:TOKEN_BYTES]


def tokens_of(key: bytes, event: AuditEvent) -> tuple[bytes, ...]:
    """The tokens of one record, one for each field that it has."""
    return tuple(token(key, field, value) for field, value in _values_of(event))


def _values_of(event: AuditEvent) -> Iterator[tuple[Field, str]]:
    named = {"exchange": event.exchange_id, "actor": event.actor, "event": event.event}
    for field in FIELDS:
        value = named.get(field) or event.attributes.get(field)
        if isinstance(value, str) and value:
            yield field, value
