"""A grammar made from a JSON schema produces only values of that schema, and what cannot be enforced is refused.

A small recogniser and a random generator of GBNF stand in for llama.cpp, whose parser is asked in
`test_engine_generation_llama_decoder.py`: sentences drawn from the grammar are parsed and checked against the schema.
"""

import json
import re
from datetime import date, datetime

import pytest
from engine_grammar_draws import Draws

from appliance.engine.generation.grammar import check_grammar, grammar_of_schema
from appliance.errors import InvalidRequest


def drawn(schema, count=60):
    draws = Draws(grammar_of_schema(schema), seed=5)
    return [json.loads(draws.draw()) for _ in range(count)]


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 4},
        "age": {"type": "integer"},
        "kind": {"enum": ["a", 'b"\n\\', None, 3]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 3},
        "born": {"type": "string", "format": "date"},
        "score": {"type": ["number", "null"]},
    },
    "required": ["name", "tags", "score"],
    "additionalProperties": False,
    "$defs": {"tag": {"anyOf": [{"const": "x\\y"}, {"type": "boolean", "title": "note"}]}},
}


def test_objects_have_what_is_required_and_nothing_that_is_not_declared():
    seen = set()
    for value in drawn(PERSON, 200):
        assert {"name", "tags", "score"} <= value.keys() <= PERSON["properties"].keys()
        assert list(value) == [name for name in PERSON["properties"] if name in value]
        assert 2 <= len(value["name"]) <= 4
        assert 1 <= len(value["tags"]) <= 3 and all(tag in ("x\\y", True, False) for tag in value["tags"])
        assert value["score"] is None or isinstance(value["score"], int | float)
        assert value.get("kind") in ["a", 'b"\n\\', None, 3]
        assert "age" not in value or isinstance(value["age"], int)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", value.get("born", "2000-01-01"))
        seen |= value.keys()
    assert seen == PERSON["properties"].keys()


@pytest.mark.parametrize(
    ("schema", "holds"),
    [
        ({}, lambda value: True),
        ({"type": "object"}, lambda value: isinstance(value, dict)),
        ({"type": "array"}, lambda value: isinstance(value, list)),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 0}, lambda value: value == []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, lambda value: len(value) >= 3),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}, lambda value: len(value) == 2),
        (
            {"prefixItems": [{"type": "null"}, {"type": "boolean"}], "items": False},
            lambda v: v[0] is None and len(v) == 2,
        ),
        ({"type": "string"}, lambda value: value.encode() is not None),  # no half of a surrogate pair
        ({"type": "number"}, lambda value: abs(value) < float("inf")),
        ({"const": {"a": [1, "é"]}}, lambda value: value == {"a": [1, "é"]}),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            lambda v: all(type(n) is int for n in v.values()),
        ),
        ({"type": "object", "properties": {}, "additionalProperties": False}, lambda value: value == {}),
        ({"allOf": [{"type": "boolean"}]}, lambda value: value in (True, False)),
        ({"oneOf": [{"type": "boolean"}, {"type": "null"}]}, lambda value: value in (True, False, None)),
        ({"type": "string", "format": "uuid"}, lambda value: len(value) == 36),
        ({"type": "string", "format": "date"}, lambda value: date.fromisoformat(value).isoformat() == value),
        ({"type": "string", "format": "date-time"}, lambda value: datetime.fromisoformat(value).tzinfo is not None),
        ({"properties": {"a": {"type": "null"}}, "required": ["a"]}, lambda value: value == {"a": None}),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, lambda value: value is None),
    ],
)
def test_drawn_values_are_values_of_the_schema(schema, holds):
    assert all(holds(value) for value in drawn(schema))


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"type": "banana"}, "must be one of"),
        ({"type": ["string", 3]}, "must be one of"),
        ({"type": "integer", "minimum": 3}, "minimum"),
        ({"type": "string", "pattern": "a+"}, "pattern"),
        ({"not": {}}, "not"),
        ({"$ref": "#"}, "refers to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}, "recursive"),
        ({"$ref": "#/nowhere"}, "refers to nothing"),
        ({"$ref": "https://example.org/schema"}, "outside the schema"),
        ({"enum": []}, "1 to 500"),
        ({"enum": list(range(501))}, "1 to 500"),
        ({"type": "object", "properties": [], "required": []}, "properties"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "not declared"),
        ({"type": "array", "items": {}, "maxItems": 10**9}, "0 to 200"),
        ({"type": "array", "items": {}, "minItems": 3, "maxItems": 2}, "above"),
        ({"type": "string", "maxLength": True}, "whole number"),
        ({"type": "string", "format": "hostname"}, "date-time"),
        ({"allOf": [{}, {}]}, "exactly one"),
        ({"anyOf": []}, "1 to"),
        ({"type": "object", "properties": {"a": 5}}, "not an object"),
        ({"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(600)}}, "rules"),
        ({"const": "x" * 70_000}, "characters"),
    ],
)
def test_what_cannot_be_enforced_is_refused_and_named(schema, what):
    with pytest.raises(InvalidRequest, match=what):
        grammar_of_schema(schema)


def test_a_schema_that_is_nested_too_deeply_is_refused():
    schema = {"type": "null"}
    for _ in range(2000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InvalidRequest):
        grammar_of_schema(schema)


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= " + "(" * 200 + '"a"' + ")" * 200,
        'root ::= "a"{100000}',
        'root ::= "a"{1,99999999999999999999}',
        'root ::= "' + "a" * 70_000 + '"',
        "\n".join(["root ::= r0", *(f"r{n} ::= [a]" for n in range(1100))]),
        'start ::= "a"',
        'root ::= "a\0"',
    ],
)
def test_a_grammar_that_the_parser_should_not_see_is_refused(grammar):
    with pytest.raises(InvalidRequest):
        check_grammar(grammar)


def test_brackets_within_texts_and_comments_do_not_count():
    check_grammar('root ::= "' + "(" * 100 + '" [(((] # ' + "(" * 100 + "\n")
