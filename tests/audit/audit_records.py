"""What tests of the export formats share: records made by hand, and texts that somebody hostile would choose."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

from hypothesis import strategies as st

from appliance.audit.formats.entry import ExportedRecord, exported
from appliance.audit.header import NO_KEY, NO_NONCE, SHA256_OF_NOTHING, RecordHeader, RecordKind, log_id_of
from appliance.audit.reader import RecordView

ORIGIN = "clinic.example/audit/0b6f1c2d-0000-4000-8000-000000000001/e1"
TIME_MS = 1_767_225_600_123

HOSTILE = (
    "a\nb",
    "a\r\nCEF:0|Evil|Evil|1|1|forged|10|",
    '\n<110>1 2026-01-01T00:00:00Z h cloister - x [audit@1 seq="9"]',
    '"] [audit@32473 seq="9"',
    "a=b c\\=d \\",
    "x suser=root outcome=completed",
    "|name|10|",
    '","event":"forged","x":"',
    '=HYPERLINK("http://x.test";"y")',
    "@SUM(1)",
    "+1",
    "-1",
    "x,=1+1",
    "a;  -2",
    "\t=1",
    "user\u202e3:resu",
    "nul\x00byte",
    "half \ud800 pair",
    "\udfff",
    "zero\u200bwidth\ufeff",
    "line\u2028para\u2029",
    "\\u{a}",
    "\\\\u{5c}u{a}",
    "\\u{",
    "\\",
    "]",
    '"',
    "",
    " ",
    "\x1b[2J\x7f\x9b",
    "\U000e0041\U0010ffff\uffff",
    "https://例え.テスト/ü",
)
LONG = ("x" * 65536, "\n" * 65536, '\\"]=|' * 13000, "\u202e" * 22000)
hostile = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=60),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), max_size=20),
    st.text('\\u{a5c}"]=|,;@+- \n', max_size=30),
)


def paired(text: str) -> str:
    """`text` as JSON carries it: two halves of a surrogate pair side by side are one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def header_of(seq: int = 7, *, public: bool = False, time_ms: int = TIME_MS, content: bool = False) -> RecordHeader:
    """A header as a writer makes it, with ids that follow from `seq`."""
    record_id = hashlib.sha256(b"record %d" % seq).digest()[:16]
    return RecordHeader(
        log_id=log_id_of(ORIGIN),
        seq=seq,
        t_commit_ms=time_ms,
        record_class=0 if public else 1,
        month=0 if public else 672,
        kind=RecordKind.PUBLIC if public else RecordKind.SEALED,
        record_id=record_id,
        env_key=NO_KEY if public else bytes([1] * 16),
        con_scope=bytes([2] * 16) if content else NO_KEY,
        env_nonce=NO_NONCE if public else bytes([3] * 24),
        con_nonce=bytes([4] * 24) if content else NO_NONCE,
        env_length=100,
        con_length=50 if content else 0,
        env_sha256=hashlib.sha256(b"env").digest(),
        con_sha256=hashlib.sha256(b"con").digest() if content else SHA256_OF_NOTHING,
    )


def view_of(header: RecordHeader, **said: object) -> RecordView:
    """What a reader shows of the record under `header`."""
    fields = {
        "event": "session.sign_in",
        "outcome": "completed",
        "actor": "user:7",
        "exchange_id": "",
        "attributes": {"address": "10.0.0.7"},
        "readable": True,
    } | said
    return RecordView(
        seq=header.seq,
        record_id=header.record_id.hex(),
        time=datetime.fromtimestamp(header.t_commit_ms / 1000, UTC),
        kind="public" if header.kind == RecordKind.PUBLIC else "sealed",
        has_content=header.con_scope != NO_KEY,
        size=300,
        **fields,
    )


def record_of(seq: int = 7, *, public: bool = False, content: bytes | None = None, **said: object) -> ExportedRecord:
    """A record as it is exported."""
    header = header_of(seq, public=public, content=content is not None)
    return exported(ORIGIN, header.encode(), view_of(header, **said), content=content)


values = st.one_of(hostile, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))


@st.composite
def records(draw: st.DrawFn) -> ExportedRecord:
    """Any record, with hostile text wherever a record holds text."""
    return record_of(
        draw(st.integers(0, 2**63 - 1)),
        public=draw(st.booleans()),
        event=draw(hostile),
        outcome=draw(st.sampled_from(["accepted", "completed", "refused", "failed", "cancelled", "odd\n"])),
        actor=draw(hostile),
        exchange_id=draw(hostile),
        attributes=draw(st.dictionaries(hostile, values, max_size=4)),
    )


def has_raw_danger(line: str) -> list[str]:
    """Characters in a written line that a person does not see, or that end or reorder it."""
    return [
        character
        for character in line
        if ord(character) < 32
        or 0x7F <= ord(character) < 0xA0
        or character
        in "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
        or 0xD800 <= ord(character) < 0xE000
    ]


def formula_cells(line: str) -> list[str]:
    """Cells that a spreadsheet would compute, if it split the line at commas, semicolons, bars or tabs."""
    pieces = [line]
    for separator in ",;|\t":
        pieces = [part for piece in pieces for part in piece.split(separator)]
    stripped = (piece.strip(" \"'") for piece in pieces)
    number = re.compile(r"[+-][0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
    return [piece for piece in stripped if piece[:1] in ("=", "+", "@", "-") and not number.fullmatch(piece)]
