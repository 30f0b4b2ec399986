r"""The value that every format takes, and the text rules that all of them share. Pure; no format is known here.

    record = exported(origin, header, view)          # a page of `AuditLog.read_page` gives header and view
    visible("a\nb")                                  # 'a\u{a}b': one line, and nothing in it is invisible
    restored(visible(text)) == text                  # always

What a record says may have been chosen by an attacker: a user's name, an address, a reason. A format MUST NOT let it
end a line, add a field, hide or reorder what an auditor sees, or begin a spreadsheet's formula, and MUST let a reader
get the original back. JSON does both with escapes of its own (`ascii_json`); text formats write what is dangerous as
`\u{…}` (`visible`) before they apply their own escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from appliance.audit.header import RecordHeader
from appliance.audit.reader import RecordView, ViewKind
from appliance.crypto.merkle import leaf_hash
from appliance.types import AttributeValue, Outcome

ContentState = Literal["none", "sealed", "exported", "destroyed", "unreadable"]
CLASS_NAMES = {0: "public", 1: "exchange", 2: "administration"}
UNREADABLE = "unreadable"  # the event of a record whose envelope does not open with the keys that are here

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_MS_MAX = 253_402_300_799_999  # the last millisecond that RFC 3339 can say; the header has the exact number

# Controls, zero-width and bidirectional marks, line separators, surrogates, tags, and what no XML may contain.
_INVISIBLE = (
    "\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\ufff9-\uffff\U000e0000-\U000e0fff"
)
_FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_OURS = r"\\(?=u\{)"  # a backslash that would read as the beginning of an escape
_ESCAPE = re.compile(r"\\u\{([0-9a-f]{1,6})\}")
# A spreadsheet takes a cell for a formula by its first character, and begins a cell behind any of these.
_CELL = re.compile(rf"(\A|[,;|\"'\t\r\n])( *)([{_FORMULA}])")
_SUSPECT = re.compile(rf"[{_INVISIBLE}{_FORMULA}]|\\u\{{")
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?(e[+-]?[0-9]{1,4})?")  # computed, it is itself
_JSON_CELL = re.compile(r"([\"',;|]|\\[nrt])( *)([=+\-@])")


@dataclass(frozen=True, slots=True)
class ExportedRecord:
    """One record as it leaves: what it says, the bytes that prove it, and the name of its log.

    `header` are the 200 bytes under the tree and `leaf` their hash, so that whoever reads any format can match a
    line with the log. `content` only where it was asked for; `subject` only where the caller knows and wants it.
    """

    origin: str
    seq: int
    record_id: str
    time_ms: int
    kind: ViewKind
    record_class: int
    event: str
    outcome: str
    actor: str
    exchange_id: str
    attributes: Mapping[str, AttributeValue]
    readable: bool
    content_state: ContentState
    header: bytes
    leaf: bytes
    content: bytes | None = field(default=None, repr=False)
    subject: str = field(default="", repr=False)
    proof: str = field(default="", repr=False)

    @property
    def time(self) -> str:
        """The commit time, RFC 3339 in UTC with milliseconds."""
        return timestamp(self.time_ms)

    @property
    def log_id(self) -> str:
        """The log's id as its headers carry it, hex."""
        return self.header[4:12].hex()


def exported(
    origin: str,
    header: bytes,
    view: RecordView,
    *,
    content: bytes | None = None,
    content_state: ContentState | None = None,
    proof: str = "",
) -> ExportedRecord:
    """The value for one record of a page. Raises `ValueError` where header and view are not of one record."""
    parsed = RecordHeader.decode(header)
    if (parsed.seq, parsed.record_id.hex()) != (view.seq, view.record_id):
        raise ValueError(f"the header of record {parsed.seq} is not that of record {view.seq}")
    state: ContentState = "exported" if content is not None else "sealed" if view.has_content else "none"
    return ExportedRecord(
        origin=origin,
        seq=view.seq,
        record_id=view.record_id,
        time_ms=parsed.t_commit_ms,
        kind=view.kind,
        record_class=parsed.record_class,
        event=view.event if view.readable else UNREADABLE,
        outcome=view.outcome,
        actor=view.actor,
        exchange_id=view.exchange_id,
        attributes=view.attributes,
        readable=view.readable,
        content_state=content_state or state,
        header=header,
        leaf=leaf_hash(header),
        content=content,
        proof=proof,
    )


def timestamp(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, as in `2026-01-31T23:59:59.999Z`."""
    moment = _EPOCH + timedelta(milliseconds=min(time_ms, _TIME_MS_MAX))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def value_text(value: AttributeValue) -> str:
    """An attribute's value as text: `true`, `5`, `1.5`, `de`. Its type is lost; JSON lines keep it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def visible(text: str, keep: str = "") -> str:
    r"""`text` in one line, with what is invisible and what begins a formula as `\u{hex}`; reversible by `restored`.

    `keep` are characters that the caller escapes itself. Ordinary text comes back unchanged.
    """
    if not _SUSPECT.search(text) or _NUMBER.fullmatch(text):
        return text
    formulas_out = _CELL.sub(lambda found: found[1] + found[2] + _escape(found[3]), _hide_ours(text))
    return _invisible(keep).sub(lambda found: _escape(found[0]), formulas_out)


def restored(text: str) -> str:
    """The original of what `visible` wrote. Raises `ValueError` for an escape that it never writes."""
    return _ESCAPE.sub(_unescape, text)


def ascii_json(value: Any) -> str:
    r"""Compact JSON in ASCII: whatever is not ASCII, and whatever begins a formula, is written `\uXXXX`.

    Parses to exactly `value` with any JSON reader; keys keep their order. Lists of numbers are not supported,
    because the pass over the finished line takes a comma for the end of a cell.
    """
    line = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return _JSON_CELL.sub(lambda found: f"{found[1]}{found[2]}\\u{ord(found[3]):04x}", line)


def sorted_attributes(record: ExportedRecord) -> dict[str, AttributeValue]:
    """The attributes by name, so that equal records give equal lines."""
    return {name: record.attributes[name] for name in sorted(record.attributes)}


# --- how serious a record is ------------------------------------------------------------------------------------

# Severities of RFC 5424: 2 critical, 3 error, 4 warning, 5 notice, 6 informational. First by event, then by outcome.
_BY_EVENT = {
    "audit.paused": 2,
    "key.distrust": 2,
    "epoch": 2,
    "clock.anomaly": 4,
    "tombstone": 5,
    "purge": 5,
    "shred": 5,
    "erased": 5,
    "hold.set": 5,
    "hold.release": 5,
    "retention": 5,
    "key.rotate": 5,
    UNREADABLE: 3,
}
_BY_OUTCOME: dict[str, int] = {
    Outcome.ACCEPTED: 6,
    Outcome.COMPLETED: 6,
    Outcome.CANCELLED: 5,
    Outcome.REFUSED: 4,
    Outcome.FAILED: 3,
}


def severity_of(record: ExportedRecord) -> int:
    """2 (critical) to 6 (informational), as syslog counts; an outcome that nobody knows is a warning."""
    return _BY_EVENT.get(record.event) or _BY_OUTCOME.get(record.outcome, 4)


def sentence(record: ExportedRecord) -> str:
    """One line for people: what happened, by whom, where it is in the log. Not yet escaped."""
    if not record.readable:
        return f"record {record.seq} does not open with the keys that are here"
    by = f" by {record.actor}" if record.actor else ""
    return f"{record.event} {record.outcome}{by}, record {record.seq}"


# --- private ----------------------------------------------------------------------------------------------------

_PATTERNS: dict[str, re.Pattern[str]] = {}  # one for each `keep` that a format uses: two


def _invisible(keep: str) -> re.Pattern[str]:
    pattern = _PATTERNS.get(keep)
    if pattern is None:
        kept = f"(?![{re.escape(keep)}])" if keep else ""
        pattern = _PATTERNS[keep] = re.compile(f"{kept}[{_INVISIBLE}]")
    return pattern


def _hide_ours(text: str) -> str:
    return re.sub(_OURS, lambda _: _escape("\\"), text) if "\\u{" in text else text


def _escape(character: str) -> str:
    return f"\\u{{{ord(character):x}}}"


def _unescape(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    if number > 0x10FFFF or f"{number:x}" != found[1]:
        raise ValueError("not an escape of this format")
    return chr(number)
