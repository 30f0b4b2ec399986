r"""RFC 5424 messages, as a file or for the stream to a SIEM (`audit/siem.py`).

    <110>1 2026-01-31T23:59:59.999Z host cloister - session.sign_in [audit@32473 seq="7" leaf="…" …][said@32473 …] …

`audit@<PEN>` says where the record is in the log and what happened, `said@<PEN>` repeats its attributes, the message
is a sentence for people. Facility 13 (log audit); the severity follows event and outcome (`entry.severity_of`). Values
are written by `entry.visible` and then as RFC 5424 wants: `"`, `\` and `]` behind a backslash. Nothing in a message is
a line break, so a file holds one message a line.

A message has at most 8 KiB, which is what receivers commonly take. Over that, attributes go first, the longest one
before the others, then outcome's message, exchange, actor and event; `truncated="1"` says so. `seq`, `leaf`, `log` and
`record` are never dropped.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import quote

from appliance.audit.formats.entry import (
    CLASS_NAMES,
    ExportedRecord,
    sentence,
    severity_of,
    timestamp,
    value_text,
    visible,
)

FACILITY = 13
MESSAGE_BYTES_MAX = 8 * 1024
BOM = "\ufeff"
CHECKPOINT = "checkpoint"
_SD_NAME = re.compile(r"[!#-<>-\\^-~]{1,32}")  # printable ASCII without space, '"', '=', ']'
_NOT_PRINTABLE = re.compile(r"[^!-~]")
_NOTICE = 5
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: the host's name, the enterprise number of the structured data, and what is known of the tree."""

    host: str = "-"
    enterprise: int = 32473
    process: str = "-"
    checkpoint: str = ""  # the `cp` of every message: size and root of the newest tree, `size:base64`


def to_line(record: ExportedRecord, sender: Sender) -> bytes:
    """One message and a line break, for a file."""
    return to_message(record, sender) + b"\n"


def to_message(record: ExportedRecord, sender: Sender) -> bytes:
    """One message, at most `MESSAGE_BYTES_MAX` bytes, without framing."""
    placed = [
        ("seq", str(record.seq)),
        ("leaf", record.leaf.hex()),
        ("log", record.log_id),
        ("record", record.record_id),
    ]
    told = [
        ("event", record.event),
        ("outcome", record.outcome),
        ("actor", record.actor),
        ("exchange", record.exchange_id),
    ]
    after = [("class", CLASS_NAMES.get(record.record_class, str(record.record_class))), ("cp", sender.checkpoint)]
    said = [_named(name, value_text(record.attributes[name])) for name in sorted(record.attributes)]
    head = _head(severity_of(record), record.time, record.event, sender)
    text = sentence(record)
    dropped: list[tuple[str, str]] = []
    while True:
        marks = [("truncated", "1")] if dropped else []
        written = [(name, value) for name, value in placed + told + after if value] + marks
        data = _element("audit", sender.enterprise, written)
        data += _element("said", sender.enterprise, said) if said else ""
        message = f"{head} {data} {BOM}{visible(text)}".encode(errors="strict")
        if len(message) <= MESSAGE_BYTES_MAX:
            return message
        if said:
            # The longest goes first, of equals the one whose name comes last: as few as possible are lost.
            dropped.append(said.pop(max(range(len(said)), key=lambda index: (len(said[index][1]), index))))
        elif text:
            dropped.append(("", text))
            text = ""
        else:
            dropped.append(told.pop())  # exchange, actor, outcome, event


def checkpoint_message(origin: str, note: str, size: int, time_ms: int, sender: Sender) -> bytes:
    """A signed checkpoint as a message of its own: kept by the SIEM, it anchors every record before it."""
    fields = [("size", str(size)), ("origin", origin), ("note", base64.b64encode(note.encode()).decode())]
    head = _head(_NOTICE, timestamp(time_ms), CHECKPOINT, sender)
    data = _element("audit", sender.enterprise, fields)
    return f"{head} {data} {BOM}signed checkpoint of {size} records".encode()


def frame(message: bytes) -> bytes:
    """Octet counting of RFC 5425: the length in decimal, a space, the message."""
    return b"%d %b" % (len(message), message)


def _head(severity: int, time: str, event: str, sender: Sender) -> str:
    priority = FACILITY * 8 + severity
    host, process = _token(sender.host, 255), _token(sender.process, 128)
    return f"<{priority}>1 {time} {host} cloister {process} {_token(event, 32)}"


def _token(text: str, length: int) -> str:
    """A header field: printable ASCII without spaces, cut to its length; `-` where there is nothing."""
    return _NOT_PRINTABLE.sub("_", text[:length]) or "-"


def _element(name: str, enterprise: int, fields: list[tuple[str, str]]) -> str:
    written = "".join(f' {key}="{_value(value)}"' for key, value in fields)
    return f"[{name}@{enterprise}{written}]"


def _value(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _named(name: str, value: str) -> tuple[str, str]:
    """An attribute as a parameter; one whose name RFC 5424 does not allow becomes `other="name=value"`."""
    if _SD_NAME.fullmatch(name) and name != _OTHER:
        return name, value
    return _OTHER, f"{quote(name, safe='', errors='surrogatepass')}={value}"
