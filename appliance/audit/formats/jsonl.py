r"""JSON lines: the lossless format. One object a line, fields in one order, ASCII only.

    {"format":"cloister-audit-jsonl/1","origin":"…","checkpoint":"…","from":null,"to":null,"content":false}
    {"seq":7,"record_id":"…","time":"2026-01-31T23:59:59.999Z",…,"leaf":"…","header":"…"}
    {"count":1,"first_seq":7,"last_seq":7}

The first line names the log and carries the signed checkpoint under which the records were read, the last one counts
them: a file that was cut says so. `header` is the record header in hex, `leaf` its RFC 6962 hash; with an inclusion
proof they place the line in the log. Values keep their types, and every JSON reader gets back the exact text: line
breaks, NUL, bidirectional marks, halves of surrogate pairs and beginnings of formulas are written `\uXXXX`.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from appliance.audit.formats.entry import CLASS_NAMES, ExportedRecord, ascii_json, sorted_attributes, timestamp
from appliance.audit.header import RecordHeader
from appliance.crypto.merkle import leaf_hash

FORMAT = "cloister-audit-jsonl/1"
LINE_CHARS_MAX = 80 * 1024 * 1024  # a content of the largest configurable size, escaped
_CLASS_NUMBERS = {name: number for number, name in CLASS_NAMES.items()}


def first_line(origin: str, checkpoint: str, from_ms: int | None, to_ms: int | None, *, content: bool) -> bytes:
    """What the file is. `from_ms` and `to_ms` as asked for; None: from the beginning, to the checkpoint."""
    begin, end = (None if moment is None else timestamp(moment) for moment in (from_ms, to_ms))
    fields = {"format": FORMAT, "origin": origin, "checkpoint": checkpoint, "from": begin, "to": end}
    return _line({**fields, "content": content})


def to_line(record: ExportedRecord) -> bytes:
    """One record; `content` (text) or `content_base64` (anything else) where the record carries it."""
    fields: dict[str, Any] = {
        "seq": record.seq,
        "record_id": record.record_id,
        "time": record.time,
        "kind": record.kind,
        "class": CLASS_NAMES.get(record.record_class, str(record.record_class)),
        "event": record.event,
        "outcome": record.outcome,
        "actor": record.actor,
        "exchange_id": record.exchange_id,
        "attributes": sorted_attributes(record),
        "readable": record.readable,
        "content_state": record.content_state,
        "leaf": record.leaf.hex(),
        "header": record.header.hex(),
    }
    if record.proof:
        fields["proof"] = record.proof
    if record.content is not None:
        try:
            fields["content"] = record.content.decode()
        except UnicodeDecodeError:
            fields["content_base64"] = base64.b64encode(record.content).decode()
    return _line(fields)


def last_line(count: int, first_seq: int | None, last_seq: int | None) -> bytes:
    """How many records there were, and their first and last numbers (None: there were none)."""
    return _line({"count": count, "first_seq": first_seq, "last_seq": last_seq})


def parse_line(line: bytes, origin: str) -> ExportedRecord:
    """The record of a line. `origin` is from the file's first line.

    Raises `ValueError` for a line that `to_line` does not write: time and leaf MUST be those of the header.
    """
    if len(line) > LINE_CHARS_MAX:
        raise ValueError("the line is too long")
    try:
        fields = json.loads(line)
        header = bytes.fromhex(fields["header"])
        parsed = RecordHeader.decode(header)
        record = ExportedRecord(
            origin=origin,
            seq=fields["seq"],
            record_id=fields["record_id"],
            time_ms=parsed.t_commit_ms,
            kind=fields["kind"],
            record_class=_CLASS_NUMBERS.get(fields["class"], parsed.record_class),
            event=fields["event"],
            outcome=fields["outcome"],
            actor=fields["actor"],
            exchange_id=fields["exchange_id"],
            attributes=fields["attributes"],
            readable=fields["readable"],
            content_state=fields["content_state"],
            header=header,
            leaf=leaf_hash(header),
            content=_content(fields),
            proof=fields.get("proof", ""),
        )
    except (KeyError, TypeError, RecursionError):
        raise ValueError("the line is not a record") from None
    placed = (record.seq, record.record_id, record.record_class)
    if placed != (parsed.seq, parsed.record_id.hex(), parsed.record_class) or to_line(record) != line:
        raise ValueError("the line is not in canonical form, or does not agree with its header")
    return record


def _content(fields: dict[str, Any]) -> bytes | None:
    if "content_base64" in fields:
        return base64.b64decode(fields["content_base64"], validate=True)
    return fields["content"].encode() if "content" in fields else None


def _line(fields: dict[str, Any]) -> bytes:
    return ascii_json(fields).encode("ascii") + b"\n"
