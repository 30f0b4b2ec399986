"""Whether a value fits a JSON schema of those that `grammar.py` can enforce. Pure.

    fits({"city": "Oslo"}, {"type": "object", "properties": {"city": {"type": "string"}}})       # True

For arguments that a model wrote with no grammar around them. MUST only be asked about a schema that
`grammar_of_schema` takes: that bounds its depth, forbids references in circles and leaves no unknown keyword.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from appliance.engine.generation.grammar import implied_type

_KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_FORMATS = {
    "date": re.compile(_DATE, re.ASCII),
    "time": re.compile(_TIME, re.ASCII),
    "date-time": re.compile(f"{_DATE}T{_TIME}", re.ASCII),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
}


def fits(value: Any, schema: Any, root: Mapping[str, Any] | None = None) -> bool:
    """Whether it does. `root`: what `$ref` refers into, the schema itself unless it is a part of another one."""
    root = schema if root is None else root
    if schema is True or schema == {}:
        return True
    if "$ref" in schema:
        return fits(value, _target(schema["$ref"], root), root)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return any(fits(value, option, root) for option in schema[word])
    if "const" in schema:
        return _same(value, schema["const"])
    if "enum" in schema:
        return any(_same(value, each) for each in schema["enum"])
    kinds = schema.get("type", implied_type(schema))
    if kinds is not None and not any(_KINDS[kind](value) for kind in (kinds if isinstance(kinds, list) else [kinds])):
        return False
    if isinstance(value, dict):
        return _fits_object(value, schema, root)
    if isinstance(value, list):
        return _fits_list(value, schema, root)
    return _fits_text(value, schema) if isinstance(value, str) else True


def _fits_object(value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    properties = schema.get("properties")
    if properties is None and "additionalProperties" not in schema:
        return True
    known, extra = properties or {}, schema.get("additionalProperties", False)
    return all(name in value for name in schema.get("required", ())) and all(
        fits(each, known[name], root) if name in known else extra is not False and fits(each, extra, root)
        for name, each in value.items()
    )


def _fits_list(value: list[Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    if "prefixItems" in schema:
        expected = schema["prefixItems"]
        return len(value) == len(expected) and all(map(lambda each, own: fits(each, own, root), value, expected))
    items = schema.get("items", True)
    return _counted(value, schema, "minItems", "maxItems") and all(fits(each, items, root) for each in value)


def _fits_text(value: str, schema: Mapping[str, Any]) -> bool:
    form = schema.get("format", "")
    if not _counted(value, schema, "minLength", "maxLength") or (form and _FORMATS[form].fullmatch(value) is None):
        return False
    return not form.startswith("date") or _is_day(value[:10])


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _counted(value: str | list[Any], schema: Mapping[str, Any], least: str, most: str) -> bool:
    return schema.get(least, 0) <= len(value) <= schema.get(most, len(value))


def _same(one: Any, other: Any) -> bool:
    """As JSON: `true` is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _target(reference: str, root: Mapping[str, Any]) -> Any:
    target: Any = root
    for part in filter(None, reference.lstrip("#").strip("/").split("/")):
        target = target[part.replace("~1", "/").replace("~0", "~")]
    return target
