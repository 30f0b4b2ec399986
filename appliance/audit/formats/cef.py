r"""CEF:0 (ArcSight Common Event Format), one event a line.

    CEF:0|Cloister|Appliance|0.1.0|session.sign_in|session.sign_in refused|6|rt=1767225600000 cn1Label=seq cn1=7 …

The signature id is the event, the severity follows event and outcome (0 to 10). Where a record is in the log stands in
`cn1` (seq), `cs1` (leaf) and `cs4` (log); attributes are JSON in `cs6`. Texts are written by `entry.visible`; then `|`
and `\` are escaped in the header, and `=`, `\`, CR and LF in the extension.
"""

from __future__ import annotations

import ipaddress

from appliance import __version__
from appliance.audit.formats.entry import (
    CLASS_NAMES,
    ExportedRecord,
    ascii_json,
    sentence,
    severity_of,
    sorted_attributes,
    visible,
)
from appliance.types import Outcome

VENDOR, PRODUCT = "Cloister", "Appliance"
# From syslog's severity: 0-3 low, 4-6 medium, 7-8 high, 9-10 very high.
SEVERITIES = {2: 9, 3: 7, 4: 6, 5: 4, 6: 2}
_ROUTINE = ("heartbeat", "start", "stop", "erased")
_CUSTOM = {"cn1": "seq", "cs1": "leaf", "cs2": "exchange", "cs3": "specialist", "cs4": "log", "cs5": "class"}
_ATTRIBUTES = ("cs6", "attributes")


def to_line(record: ExportedRecord) -> bytes:
    """One event and a line break."""
    header = [VENDOR, PRODUCT, __version__, record.event, f"{record.event} {record.outcome}".rstrip()]
    written = "|".join(_header(text) for text in header)
    extension = " ".join(f"{key}={_extension(value)}" for key, value in _fields(record) if value)
    return f"CEF:0|{written}|{severity(record)}|{extension}\n".encode()


def checkpoint_line(origin: str, note: str, size: int, time_ms: int) -> bytes:
    """The signed checkpoint under which the events before it were read; the last line of a file."""
    header = "|".join(_header(text) for text in (VENDOR, PRODUCT, __version__, "checkpoint", "signed checkpoint"))
    fields = [("rt", str(time_ms)), ("cn1Label", "size"), ("cn1", str(size)), ("cs4Label", "log"), ("cs4", origin)]
    extension = " ".join(f"{key}={_extension(value)}" for key, value in [*fields, ("msg", note)])
    return f"CEF:0|{header}|{SEVERITIES[6]}|{extension}\n".encode()


def severity(record: ExportedRecord) -> int:
    """0 for what only says that recording goes on, else 2 to 9."""
    if record.event in _ROUTINE and record.kind == "public" and record.outcome == Outcome.COMPLETED:
        return 0
    return SEVERITIES[severity_of(record)]


def _fields(record: ExportedRecord) -> list[tuple[str, str]]:
    specialist, version = (record.attributes.get(name, "") for name in ("specialist", "specialist_version"))
    custom = {
        "cn1": str(record.seq),
        "cs1": record.leaf.hex(),
        "cs2": record.exchange_id,
        "cs3": f"{specialist} {version}".strip(),
        "cs4": record.origin,
        "cs5": CLASS_NAMES.get(record.record_class, str(record.record_class)),
    }
    fields = [
        ("rt", str(record.time_ms)),
        ("externalId", record.record_id),
        ("suser", record.actor),
        ("outcome", record.outcome),
        *_address(record.attributes.get("address")),
    ]
    for key, value in custom.items():
        if value:
            fields += [(f"{key}Label", _CUSTOM[key]), (key, value)]
    if record.attributes:
        fields += [(f"{_ATTRIBUTES[0]}Label", _ATTRIBUTES[1]), (_ATTRIBUTES[0], ascii_json(sorted_attributes(record)))]
    return [*fields, ("msg", sentence(record))]


def _address(address: object) -> list[tuple[str, str]]:
    """`src` takes IPv4 only; IPv6 has a custom field; anything else is among the attributes."""
    try:
        parsed = ipaddress.ip_address(str(address))
    except ValueError:
        return []
    if parsed.version == 4:
        return [("src", str(parsed))]
    return [("c6a2Label", "source"), ("c6a2", parsed.compressed)]


def _header(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace("|", "\\|")


def _extension(text: str) -> str:
    escaped = visible(text, keep="\r\n").replace("\\", "\\\\").replace("=", "\\=")
    return escaped.replace("\n", "\\n").replace("\r", "\\r")
