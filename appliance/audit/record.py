"""From an event to the sealed record that goes to the sequencer, and back. Pure, but for the random nonces.

    sealed = seal(event, keys_for(keystore, event, moment, index=True), moment)
    envelope = open_envelope(header, env_ct, keystore.key_by_id(header.env_key))
    content = open_content(header, con_ct, keystore.key_by_id(header.con_scope))

The envelope (who, what, when, how it ended) and the content (what was typed, what was answered) are sealed apart,
under different keys: the content can be destroyed and the account of what happened stays. Both are padded, so that
their length says little, and bound to log, record, part, key, class and month: moved anywhere else, they do not open.
The sequence number is not bound, because it is not known yet; the header binds it, under the tree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

import msgspec

from appliance.audit.clock import ClockReading
from appliance.audit.header import NO_KEY, NO_NONCE, RecordHeader, aad
from appliance.audit.index import tokens_of
from appliance.audit.keystore import Keystore, ScopeKey
from appliance.audit.protocol import SealedRecord
from appliance.crypto.keys import random_nonce
from appliance.crypto.padding import pad, unpad
from appliance.crypto.xaes import open_sealed
from appliance.crypto.xaes import seal as seal_bytes
from appliance.errors import AuditLogInvalid, InputNotText, InputTooLong
from appliance.types import AttributeValue, AuditEvent

ENVELOPE_VERSION = 1
ENVELOPE_BYTES_MAX = 32 * 1024


class RecordClass(IntEnum):
    """What a record is about, in clear in its header: retention may differ between them."""

    PUBLIC = 0
    EXCHANGE = 1  # part of an exchange with a specialist
    ADMINISTRATION = 2  # accounts, sign-ins, reading of the log itself


@dataclass(frozen=True, slots=True)
class Moment:
    """When an event was sealed, by this machine's clocks."""

    clock: ClockReading
    boot_id: str


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the sealed envelope says. Field names are part of the format."""

    v: int
    event: str
    outcome: str
    actor: str
    exchange_id: str
    attributes: dict[str, AttributeValue]
    wall_ms: int
    monotonic_ms: int
    boot_id: str


@dataclass(frozen=True, slots=True, repr=False)
class SealingKeys:
    """The keys for records of one class, month and owner; the same until the month ends."""

    log_id: bytes
    record_class: RecordClass
    month: int
    env: ScopeKey
    con: ScopeKey | None  # None: for records without content
    idx: ScopeKey | None = None  # None: without the index


def keys_for(keystore: Keystore, event: AuditEvent, moment: Moment, *, index: bool) -> SealingKeys:
    """The keys for `event`. MAY wait for the disk: the first record of a month, or of an owner in it, makes one."""
    record_class, month = place_of(event, moment)
    con = None if event.content is None else keystore.content_key(record_class, month, owner_of(event))
    idx = keystore.index_key(month) if index else None
    return SealingKeys(keystore.log_id, record_class, month, keystore.env_key(record_class, month), con, idx)


def owner_of(event: AuditEvent) -> str:
    """Whose key seals the content: that of whom it is about, else that of who acted."""
    return subject_owner(event.subject) if event.subject else event.actor


def subject_owner(subject: str) -> str:
    """How the keystore knows a subject; no actor is named like that."""
    return f"subject:{subject}"


def place_of(event: AuditEvent, moment: Moment) -> tuple[RecordClass, int]:
    """The class and the month under which `event` is kept."""
    record_class = RecordClass.EXCHANGE if event.exchange_id else RecordClass.ADMINISTRATION
    return record_class, month_of(moment.clock.wall_ms)


def seal(event: AuditEvent, keys: SealingKeys, moment: Moment) -> SealedRecord:
    """Seal both parts, each under its own key and a fresh random nonce. Raises `InputTooLong` or `InputNotText`."""
    place = (keys.record_class, keys.month)
    env_nonce, con_nonce = random_nonce(), NO_NONCE
    con_scope, con_ct = NO_KEY, None
    if event.content is not None:
        assert keys.con is not None, "the keys were made for an event with content"
        con_nonce, con_scope = random_nonce(), keys.con.id
        bound = aad(keys.log_id, event.record_id, "con", con_scope, *place)
        con_ct = seal_bytes(keys.con.key, con_nonce, pad(event.content), bound)
    bound = aad(keys.log_id, event.record_id, "env", keys.env.id, *place)
    env_ct = seal_bytes(keys.env.key, env_nonce, pad(encode_envelope(event, moment)), bound)
    tokens = () if keys.idx is None else tokens_of(keys.idx.key, event)
    return SealedRecord(
        event.record_id,
        *place,
        keys.env.id,
        con_scope,
        env_nonce,
        con_nonce,
        env_ct,
        con_ct,
        tokens,
        event.urgent,
    )


def open_envelope(header: RecordHeader, env_ct: bytes, key: bytes) -> Envelope:
    """The envelope. Raises `DecryptionFailed`, or `AuditLogInvalid` where it decrypts to something else."""
    bound = aad(header.log_id, header.record_id, "env", header.env_key, header.record_class, header.month)
    plain = unpad(open_sealed(key, header.env_nonce, env_ct, bound))
    try:
        return msgspec.json.decode(plain, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise AuditLogInvalid(f"the envelope of record {header.seq} is not one") from None


def open_content(header: RecordHeader, con_ct: bytes, key: bytes) -> bytes:
    """The content. Raises `DecryptionFailed`."""
    bound = aad(header.log_id, header.record_id, "con", header.con_scope, header.record_class, header.month)
    return unpad(open_sealed(key, header.con_nonce, con_ct, bound))


def encode_envelope(event: AuditEvent, moment: Moment) -> bytes:
    """Canonical JSON: keys sorted, no spaces, UTF-8."""
    fields = {
        "v": ENVELOPE_VERSION,
        "event": event.event,
        "outcome": str(event.outcome),
        "actor": event.actor,
        "exchange_id": event.exchange_id,
        "attributes": _plain(event.attributes),
        "wall_ms": moment.clock.wall_ms,
        "monotonic_ms": moment.clock.monotonic_ms,
        "boot_id": moment.boot_id,
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise InputNotText("an attribute of the record is not valid text") from None
    if len(encoded) > ENVELOPE_BYTES_MAX:
        raise InputTooLong(f"the attributes of the record need more than {ENVELOPE_BYTES_MAX} bytes")
    return encoded


def month_of(wall_ms: int) -> int:
    """Months since January 1970, UTC; bounded to what the header can hold, because a clock may say anything."""
    moment = datetime.fromtimestamp(max(0, wall_ms) / 1000, UTC)
    return (moment.year - 1970) * 12 + moment.month - 1


def _plain(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    return {str(name): value for name, value in attributes.items()}
