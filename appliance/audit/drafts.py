"""What is to be recorded becomes rows: its form is checked, its header packed, its tokens gathered. Pure.

    check_record(submitted)                                  # raises RecordMalformed
    header = sealed_header(submitted, log_id, seq, commit_ms)

A draft is a sealed record as it was submitted, or the body of a public one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from appliance.audit import control
from appliance.audit.header import NO_KEY, NO_NONCE, SHA256_OF_NOTHING, RecordHeader, RecordKind
from appliance.audit.index import NOT_INDEXED, TOKEN_BYTES, public_token, scope_token
from appliance.audit.protocol import TOKENS_MAX, SealedRecord
from appliance.audit.store import StoredRecord
from appliance.crypto.keys import random_id

Draft = SealedRecord | bytes


class RecordMalformed(Exception):
    """A submitted record does not have the shape of one."""


def check_record(record: SealedRecord) -> None:
    """Refuse what no header could describe. Raises `RecordMalformed`, with no byte of the record in its message."""
    sizes = (
        (record.record_id, 16), (record.env_key, 16), (record.con_scope, 16),
        (record.env_nonce, 24), (record.con_nonce, 24),
    )  # fmt: skip
    if any(len(value) != size for value, size in sizes):
        raise RecordMalformed("an id or a nonce has the wrong length")
    if not 0 <= record.record_class <= 255 or not 0 <= record.month <= 0xFFFF:
        raise RecordMalformed("class or month is out of range")
    if not record.env_ct or record.env_key == NO_KEY:
        raise RecordMalformed("the envelope is missing")
    has_content = record.con_ct is not None
    if has_content != (record.con_scope != NO_KEY) or has_content != (record.con_nonce != NO_NONCE):
        raise RecordMalformed("content, its key and its nonce come together or not at all")
    if record.con_ct == b"":
        raise RecordMalformed("the content is empty")
    if len(record.tokens) > TOKENS_MAX or any(len(token) != TOKEN_BYTES for token in record.tokens):
        raise RecordMalformed("the index takes a few tokens of one length")


def sealed_header(draft: SealedRecord, log_id: bytes, seq: int, commit_ms: int) -> RecordHeader:
    """The hashes are taken here, over the bytes that are stored, whatever the submitter says."""
    content = draft.con_ct or b""
    return RecordHeader(
        log_id=log_id,
        seq=seq,
        t_commit_ms=commit_ms,
        record_class=draft.record_class,
        month=draft.month,
        kind=RecordKind.SEALED,
        record_id=draft.record_id,
        env_key=draft.env_key,
        con_scope=draft.con_scope,
        env_nonce=draft.env_nonce,
        con_nonce=draft.con_nonce,
        env_length=len(draft.env_ct),
        con_length=len(content),
        env_sha256=hashlib.sha256(draft.env_ct).digest(),
        con_sha256=hashlib.sha256(content).digest(),
    )


def public_header(body: bytes, log_id: bytes, seq: int, commit_ms: int) -> RecordHeader:
    """The header of a public record, which gets its id here."""
    return RecordHeader(
        log_id=log_id,
        seq=seq,
        t_commit_ms=commit_ms,
        record_class=0,
        month=0,
        kind=RecordKind.PUBLIC,
        record_id=random_id(),
        env_key=NO_KEY,
        con_scope=NO_KEY,
        env_nonce=NO_NONCE,
        con_nonce=NO_NONCE,
        env_length=len(body),
        con_length=0,
        env_sha256=hashlib.sha256(body).digest(),
        con_sha256=SHA256_OF_NOTHING,
    )


def tokens_of(rows: Sequence[StoredRecord], drafts: Sequence[Draft]) -> list[tuple[bytes, int]]:
    """What the index gets: the submitter's tokens, and those that need no key."""
    tokens: list[tuple[bytes, int]] = []
    for row, draft in zip(rows, drafts, strict=True):
        if isinstance(draft, bytes):
            tokens.append((public_token(str(control.parse_control(draft)["event"])), row.seq))
            continue
        tokens += [(token, row.seq) for token in draft.tokens or (NOT_INDEXED,)]
        if draft.con_ct is not None:
            tokens.append((scope_token(draft.con_scope), row.seq))
    return tokens


def without_repeats(drafts: Sequence[Draft], known: dict[bytes, int]) -> list[Draft]:
    """The drafts that are not stored yet, each once."""
    seen = set(known)
    fresh: list[Draft] = []
    for draft in drafts:
        if isinstance(draft, SealedRecord):
            if draft.record_id in seen:
                continue
            seen.add(draft.record_id)
        fresh.append(draft)
    return fresh
