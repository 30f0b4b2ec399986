"""Identifiers in HL7-like pipe lines: which field of which segment is what. A table and a splitter, no parser.

Clinical texts quote segments (`PID|1||12345^^^MRN||DOE^JANE||19310314|F`); their fields carry no words around them,
so position is the only context. Unknown segments and fields are left to the rest of the pattern layer.

>>> line = "PID|1||12345^^^HOSP||DOE^JANE^A||19310314|F"
>>> [(span.label, line[span.start : span.end]) for span in segment_spans(line)]
[('MRN', '12345'), ('NAME', 'DOE'), ('NAME', 'JANE'), ('NAME', 'A'), ('DATE', '19310314')]
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from appliance.types import Span

FIELDS_MAX = 64

# Per segment: field number to label. Components of a field are found one by one; see `_COMPONENTS`.
SEGMENTS: dict[str, dict[int, str]] = {
    "PID": {2: "MRN", 3: "MRN", 4: "MRN", 5: "NAME", 6: "NAME", 7: "DATE", 9: "NAME", 11: "LOCATION", 12: "LOCATION",
            13: "PHONE", 14: "PHONE", 18: "ACCOUNT", 19: "SSN", 20: "LICENSE", 29: "DATE"},
    "NK1": {2: "NAME", 4: "LOCATION", 5: "PHONE", 6: "PHONE"},
    "PV1": {7: "NAME", 8: "NAME", 9: "NAME", 17: "NAME", 19: "ACCOUNT", 44: "DATE", 45: "DATE"},
    "GT1": {3: "NAME", 5: "LOCATION", 6: "PHONE", 7: "PHONE", 8: "DATE", 12: "SSN"},
    "IN1": {2: "HEALTH_PLAN", 4: "ORGANIZATION", 5: "LOCATION", 7: "PHONE", 8: "HEALTH_PLAN", 16: "NAME", 18: "DATE",
            36: "HEALTH_PLAN", 49: "HEALTH_PLAN"},
    "OBR": {2: "MRN", 3: "MRN", 7: "DATE", 16: "NAME", 32: "NAME"},
    "MSH": {4: "ORGANIZATION", 6: "ORGANIZATION", 7: "DATE"},
}  # fmt: skip

# Which components (from 1) of a label's field identify; None means all. A state or a country alone does not.
_COMPONENTS: dict[str, frozenset[int] | None] = {
    "MRN": frozenset({1}),
    "HEALTH_PLAN": frozenset({1}),
    "ACCOUNT": frozenset({1}),
    "LOCATION": frozenset({1, 2, 3, 5}),
    "NAME": frozenset({1, 2, 3}),
}
# Anywhere on a line: segments end with a carriage return, and pasted messages often lost even that.
_OTHERS = "EVN|PV2|AL1|DG1|PR1|OBX|ORC|NTE|IN2|IN3|PD1|SCH|TXA|FT1|RXA|RXE|MSA|ZPI"
_SEGMENT_START = re.compile(rf"(?<![A-Z0-9|^])(?P<name>{'|'.join(SEGMENTS)}|{_OTHERS})\|", re.IGNORECASE)
_LINE_END = re.compile(r"[\r\n]")
_SEGMENT_CHARS_MAX = 8000
# Patient classes and hospital services that senders put one field too far.
_SERVICES = frozenset(
    "med sur car obs ob gyn ped peds psy pul uro ort onc neu eme er ed icu inp out opt amb nbn".split()
)
_PART = re.compile(r"[^\^~&\s](?:[^\^~&\r\n]{0,200}[^\^~&\s])?")
_WORDS = frozenset({"NAME", "LOCATION", "ORGANIZATION"})  # the others are numbers: a component without one is a code


def segment_spans(text: str) -> Iterator[Span]:
    """Identifying components of every known segment, in either case."""
    headers = list(_SEGMENT_START.finditer(text))
    ends = [*(header.start() for header in headers[1:]), len(text)]
    for header, end in zip(headers, ends, strict=bool(headers)):
        name, start = header["name"].upper(), header.end()
        if name not in SEGMENTS:
            continue
        limit = min(end, start + _SEGMENT_CHARS_MAX)
        line_end = _LINE_END.search(text, start, limit)
        # MSH counts the separator itself as its first field.
        number = 2 if name == "MSH" else 1
        for value in text[start : line_end.start() if line_end else limit].split("|")[:FIELDS_MAX]:
            if number in SEGMENTS[name]:
                yield from _field_spans(text, start, start + len(value), SEGMENTS[name][number])
            start += len(value) + 1
            number += 1


def _field_spans(text: str, start: int, end: int, label: str) -> Iterator[Span]:
    wanted = _COMPONENTS.get(label)
    component, place = 1, start
    for piece in re.split(r"([\^~])", text[start:end]):
        if piece == "^":
            component += 1
        elif piece == "~":
            component = 1  # the next repetition of the field
        elif wanted is None or component in wanted:
            yield from _component_spans(text, place, place + len(piece), label)
        place += len(piece)


def _component_spans(text: str, start: int, end: int, label: str) -> Iterator[Span]:
    for part in _PART.finditer(text, start, end):
        value = part[0]
        if not any(character.isalnum() for character in value):
            continue
        if label == "NAME" and value.casefold() in _SERVICES:
            continue
        if label == "NAME" and value.isdigit():
            yield Span(*part.span(), "LICENSE", 1.0)  # the number of a clinician before the name
        elif label in _WORDS or any(character.isdigit() for character in value):
            yield Span(*part.span(), label, 1.0)
