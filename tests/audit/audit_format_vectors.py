"""Makes `vectors/formats.json`: records and what each format writes for them. A change of it is a change of a format.

    .venv/bin/python tests/audit/audit_format_vectors.py > tests/audit/vectors/formats.json

`{version}` stands for the release, which CEF and FHIR name.
"""

from __future__ import annotations

import json
from typing import Any

from audit_records import HOSTILE, record_of

from appliance import __version__
from appliance.audit.formats import cef, fhir, jsonl, syslog
from appliance.audit.formats.entry import ExportedRecord, visible

SENDER = syslog.Sender("box.clinic.example", 32473, "-", "9:" + "00" * 32)
RECORDS: tuple[dict[str, Any], ...] = (
    {
        "seq": 7,
        "event": "specialist.deidentify",
        "exchange_id": "00112233445566778899aabbccddeeff",
        "attributes": {"specialist": "phi-deid", "specialist_version": "1.1.0", "chars": 512, "elapsed_ms": 12.5},
    },
    {"seq": 8, "event": "session.sign_in", "outcome": "refused", "attributes": {"address": "10.0.0.7"}},
    {"seq": 9, "public": True, "event": "tombstone", "actor": "sequencer", "attributes": {"seqs": "5-7", "v": 1}},
    {"seq": 10, "readable": False, "event": "", "outcome": "", "actor": "", "attributes": {}},
    {
        "seq": 11,
        "event": "a|b\\c=d\ne",
        "outcome": "failed",
        "actor": '=x"],|\\\r\n\u202e\x00\u00fc',
        "exchange_id": "\\u{a}",
        "attributes": {"=a b": "@1,-2", "other": "]", "n": -5, "yes": True},
    },
)


def written(record: ExportedRecord) -> dict[str, str]:
    """The line of every format, without its line break and without the release."""
    lines = {
        "jsonl": jsonl.to_line(record),
        "fhir": fhir.to_line(record),
        "syslog": syslog.to_line(record, SENDER),
        "cef": cef.to_line(record),
    }
    released = f"Cloister {__version__}", "Cloister {version}"
    texts = {name: line.decode().rstrip("\n").replace(*released) for name, line in lines.items()}
    texts["cef"] = texts["cef"].replace(f"|Appliance|{__version__}|", "|Appliance|{version}|")
    return texts


def vectors() -> dict[str, Any]:
    """The content of the file."""
    texts = [text for text in HOSTILE if not any(0xD800 <= ord(character) < 0xE000 for character in text)]
    return {
        "about": "Export formats: texts and their visible form; records and their line in each format.",
        "texts": [{"text": text, "visible": visible(text)} for text in texts],
        "records": [{"record": fields, "written": written(record_of(**fields))} for fields in RECORDS],
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1, ensure_ascii=True))
