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


def backup_made(target: str, size: int) -> bytes:
    """A copy of the first `size` records was made. `target` is a label, never a path with a name in it."""
    return _body("backup", target=target, size=size)


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


def _body(event: str, **fields: Value) -> bytes:
    body = _canonical({"v": VERSION, "event": event, **fields})
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a control record has at most {BODY_BYTES_MAX} bytes")
    return body


def _canonical(fields: dict[str, Value]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
