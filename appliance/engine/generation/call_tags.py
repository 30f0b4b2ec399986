"""Calls that a model writes as tags, as Qwen3-Coder and its relatives do. Pure.

    <function=weather>
    <parameter=city>
    Oslo
    </parameter>
    </function>

    call_of_tags(block, {"weather": schema})     # ("weather", {"city": "Oslo"}), or None for what is none

A value is text. What it means is in the tool's schema: where that wants a text it is one, otherwise it is read as JSON,
and stays a text where it is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

OPENING, CLOSING = "<function=", "</function>"
_FUNCTION = re.compile(r"<function=([\w-]{1,64})>(.*)</function>", re.ASCII | re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]{1,128})>\n?(.*?)\n?</parameter>", re.DOTALL)


def call_of_tags(block: str, schemas: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments; None: not complete, or text between the tags. `schemas`: each tool's arguments."""
    found = _FUNCTION.fullmatch(block)
    if found is None:
        return None
    name, inner = found[1], found[2]
    properties = schemas.get(name, {}).get("properties")
    arguments: dict[str, Any] = {}
    place = 0
    while (parameter := _PARAMETER.match(inner, place)) is not None:
        known = properties.get(parameter[1]) if isinstance(properties, Mapping) else None
        arguments[parameter[1]] = _value(parameter[2], known)
        place = parameter.end()
    return None if inner[place:].strip() else (name, arguments)


def _value(text: str, schema: Any) -> Any:
    if isinstance(schema, Mapping) and schema.get("type") == "string":
        return text
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
