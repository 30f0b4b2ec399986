"""Bodies of public control records: what the log says about itself, in clear, for whoever verifies without keys.

    genesis(log_id, origin, public_key, "0.1.0")     # the first record of every log
    tombstone(parts="content", seqs=[(5, 9)], ...)   # authorises the absence of ciphertexts before it destroys them
    parse_control(body)                              # {"event": "tombstone", "seqs": "5-9", ...}

A body is a flat JSON object in one canonical form: keys sorted, no spaces, UTF-8, values strings or integers. It holds
no personal data: times, counts, ids and codes. The header hashes it as it hashes a ciphertext.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal

from appliance.audit.header import NUMBER_MAX

BODY_BYTES_MAX = 64 * 1024
VERSION = 1
Value = str | int
Destroyed = Literal["content", "all"]
Grade = Literal["A", "B"]  # how final the destruction of keys is; see README, "Shredding"


def genesis(log_id: bytes, origin: str, public_key: bytes, software: str) -> bytes:
    """The first record: which log this is and which key signs it."""
    return _body("genesis", log_id=log_id.hex(), origin=origin, public_key=public_key.hex(), software=software)


def started(software: str, warnings: Sequence[str]) -> bytes:
    """Recording began. A start without a stop before it says that the last run was cut off."""
    return _body("start", software=software, warnings="\n".join(warnings))


def stopped() -> bytes:
    """Recording ended in order."""
    return _body("stop")


def heartbeat() -> bytes:
    """Recording goes on and nothing happened. Silence without it is an interruption."""
    return _body("heartbeat")


def clock_anomaly(jump_ms: int) -> bytes:
    """The wall clock moved by itself: forwards, or (negative) backwards. Commit times never go back."""
    return _body("clock.anomaly", jump_ms=jump_ms)


def key_rotation(old_public_key: bytes, new_public_key: bytes, reason: str) -> bytes:
    """The signing key changed. `reason` is a code (`scheduled`, `compromised`)."""
    return _body("key.rotate", old=old_public_key.hex(), new=new_public_key.hex(), reason=reason)


def backup_made(target: str, size: int, expires_ms: int) -> bytes:
    """A copy of keystore and log, `size` records, was made. `target` is a label, never a path with a name in it.

    `expires_ms` (UTC): when it is deleted at the latest; 0: it is kept until somebody deletes it.
    """
    return _body("backup", target=target, size=size, expires_ms=expires_ms)


def tombstone(parts: Destroyed, seqs: Iterable[tuple[int, int]], reason: str, approvals: str) -> bytes:
    """The ciphertexts of these records (ranges, both ends included) are about to be destroyed, on purpose.

    MUST be durable before the first of them is gone. A verifier takes an absent ciphertext for lawful only if a
    tombstone of this log covers it: `content` covers contents, `all` covers envelopes as well. Public records and
    headers are never destroyed.
    """
    return _body("tombstone", parts=parts, seqs=format_ranges(seqs), reason=reason, approvals=approvals)


def epoch_begun(previous_checkpoint: str, lost_from: int, lost_to: int) -> bytes:
    """A log that continues another after a declared loss: its last signed head, and the numbers that were lost."""
    return _body("epoch", previous=previous_checkpoint, lost_from=lost_from, lost_to=lost_to)


def purge(record_class: int, month: int, parts: Destroyed, reason: str, approvals: str) -> bytes:
    """The ciphertexts of every earlier record of this class and month are about to be destroyed: retention ended.

    As `tombstone`, without naming records: their headers say class and month, so that a verifier decides alike.
    """
    return _body("purge", **{"class": record_class}, month=month, parts=parts, reason=reason, approvals=approvals)


def shred(scopes: Iterable[bytes], subject: str, grade: Grade, reason: str, approvals: str) -> bytes:
    """The contents of every earlier record sealed under these keys (`con_scope`) are about to be destroyed.

    `subject` is the keyed hash (hex) of whom they are about, empty when the keys are named for another reason.
    """
    return _body("shred", scopes=format_ids(scopes), subject=subject, grade=grade, reason=reason, approvals=approvals)


def erased(authorised_by: int, records: int) -> bytes:
    """What the record `authorised_by` announced is done: the ciphertexts of so many records are gone."""
    return _body("erased", authorised_by=authorised_by, records=records)


def hold_set(
    hold: bytes, scopes: Iterable[bytes], subjects: Iterable[bytes], classes: Iterable[int], reason: str
) -> bytes:
    """Nothing that this covers may be destroyed until it is released: keys, subjects (keyed hashes), whole classes."""
    listed = ",".join(str(number) for number in sorted(set(classes)))
    return _body(
        "hold.set",
        hold=hold.hex(),
        scopes=format_ids(scopes),
        subjects=format_ids(subjects),
        classes=listed,
        reason=reason,
    )


def hold_released(hold: bytes, approvals: str) -> bytes:
    """Two people let it go: `approvals` names both ids."""
    return _body("hold.release", hold=hold.hex(), approvals=approvals)


def retention_set(record_class: int, months: int) -> bytes:
    """How long records of this class are kept from now on; never less than before."""
    return _body("retention", **{"class": record_class}, months=months)


def paused(reason: str) -> bytes:
    """Recording pauses, and with it every answer. `reason` is a code (`disk_full`)."""
    return _body("audit.paused", reason=reason)


def resumed() -> bytes:
    """Recording goes on after a pause."""
    return _body("audit.resumed")


def key_distrusted(public_key: bytes, after_size: int) -> bytes:
    """This signing key was compromised: what it signed beyond `after_size` records proves nothing."""
    return _body("key.distrust", key=public_key.hex(), after_size=after_size)


def parse_control(body: bytes) -> dict[str, Value]:
    """The fields of a body. Raises `ValueError` unless it is in canonical form, so that a body has one reading."""
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a control record has at most {BODY_BYTES_MAX} bytes")
    try:
        fields = json.loads(body)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError("a control record is not JSON") from None
    if not isinstance(fields, dict) or not all(type(value) in (str, int) for value in fields.values()):
        raise ValueError("a control record is not a flat object of strings and integers")
    if fields.get("v") != VERSION or not isinstance(fields.get("event"), str) or _canonical(fields) != body:
        raise ValueError("a control record is not in canonical form")
    return fields


def format_ranges(seqs: Iterable[tuple[int, int]]) -> str:
    """`5-9,12`: ascending, apart, both ends included. Raises `ValueError` for ranges that are not."""
    end, pieces = -2, []
    for first, last in seqs:
        if not end + 1 < first <= last <= NUMBER_MAX:
            raise ValueError("ranges of sequence numbers ascend and neither touch nor overlap")
        pieces.append(str(first) if first == last else f"{first}-{last}")
        end = last
    if not pieces:
        raise ValueError("no sequence number is named")
    return ",".join(pieces)


def parse_ranges(text: str) -> list[tuple[int, int]]:
    """The inverse of `format_ranges`. Raises `ValueError`."""
    ranges = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        if not all(number.isascii() and number.isdigit() and len(number) <= 19 for number in (first, last or first)):
            raise ValueError("not ranges of sequence numbers")
        ranges.append((int(first), int(last or first)))
    if format_ranges(ranges) != text:
        raise ValueError("ranges of sequence numbers are not in canonical form")
    return ranges


def format_ids(ids: Iterable[bytes]) -> str:
    """Hex, ascending, each once, separated by commas; empty for none."""
    return ",".join(sorted({identifier.hex() for identifier in ids}))


def parse_ids(text: str, length: int) -> list[bytes]:
    """The inverse of `format_ids` for ids of `length` bytes. Raises `ValueError`."""
    if not text:
        return []
    pieces = text.split(",")
    ids = [bytes.fromhex(piece) for piece in pieces if len(piece) == 2 * length]
    if len(ids) != len(pieces) or format_ids(ids) != text:
        raise ValueError("ids are not in canonical form")
    return ids


def _body(event: str, **fields: Value) -> bytes:
    body = _canonical({"v": VERSION, "event": event, **fields})
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a control record has at most {BODY_BYTES_MAX} bytes")
    return body


def _canonical(fields: dict[str, Value]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
