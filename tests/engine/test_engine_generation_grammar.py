"""A grammar made from a JSON schema produces only values of that schema, and what cannot be enforced is refused.

A small recogniser and a random generator of GBNF stand in for llama.cpp, whose parser is asked in
`test_engine_llamacpp_decoder.py`: sentences drawn from the grammar are parsed and checked against the schema.
"""

import json
import random
import re

import pytest

from appliance.engine.generation.grammar import check_grammar, grammar_of_schema
from appliance.errors import InvalidRequest

TOKEN = re.compile(r'\s*("(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|\{[0-9,]+\}|[()|?*+]|[a-z][a-z0-9-]*)')
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


class Draws:
    """Sentences of a grammar, drawn at random; deep ones end soon, because repetition gets rarer with depth."""

    def __init__(self, grammar: str, seed: int) -> None:
        rules = dict(line.split(" ::= ", 1) for line in grammar.splitlines())
        self.rules = {name: self._parse(body) for name, body in rules.items()}
        self.random = random.Random(seed)

    def _parse(self, body):
        words, place = [], 0
        while match := TOKEN.match(body, place):
            words.append(match[1])
            place = match.end()
        assert not body[place:].strip(), body[place:]
        return words

    def draw(self, name="root", depth=0):
        text, rest = self._alternatives(list(self.rules[name]), depth)
        assert not rest
        return text

    def _alternatives(self, words, depth):
        options, rest = [[]], words
        level = 0
        while rest:
            word = rest.pop(0)
            level += {"(": 1, ")": -1}.get(word, 0)
            if level < 0:
                break
            if word == "|" and level == 0:
                options.append([])
            else:
                options[-1].append(word)
        simple = [option for option in options if not {"object", "array"} & set(option)]
        chosen = self.random.choice(simple if depth > 4 and simple else options)
        return self._sequence(chosen, depth), rest

    def _sequence(self, words, depth):
        text = ""
        while words:
            word = words.pop(0)
            group = None
            if word == "(":
                level, group = 1, []
                while level:
                    inner = words.pop(0)
                    level += {"(": 1, ")": -1}.get(inner, 0)
                    group.append(inner)
                group.pop()
            low, high = 1, 1
            if words and (words[0] in "?*+" or words[0][0] == "{"):
                sign = words.pop(0)
                spread = 1 if depth > 4 else 3
                low, high = {"?": (0, 1), "*": (0, spread), "+": (1, spread)}.get(sign, (0, 0))
                if sign[0] == "{":
                    numbers = sign[1:-1].split(",")
                    low = int(numbers[0])
                    high = low if len(numbers) == 1 else int(numbers[1]) if numbers[1] else low + 2
            for _ in range(self.random.randint(low, high)):
                text += self._one(word, group, depth)
        return text

    def _one(self, word, group, depth):
        if group is not None:
            return self._alternatives(list(group), depth)[0]
        if word[0] == '"':
            return re.sub(r"\\(.)", lambda match: ESCAPES[match[1]], word[1:-1])
        if word[0] == "[":
            allowed = re.compile(word)
            return self.random.choice([c for c in map(chr, [*range(32, 127), 0xE9, 0x1F600]) if allowed.fullmatch(c)])
        return self.draw(word, depth + 1)


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
        ({"type": "string", "format": "date-time"}, lambda value: value[10] == "T"),
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
