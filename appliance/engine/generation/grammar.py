"""What an answer must look like: JSON Schema to a GBNF grammar, and the bounds on grammars. Pure.

    grammar_of_schema({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})
    # 'root ::= "{" ws "\\"age\\"" ws ":" ws integer ws "}"\\n…'

The library has a converter; it is not used, because it lets values through that no JSON parser takes (a backslash in
a constant, half a surrogate pair), ignores keywords that it does not know, and has no bounds. Here an answer that is
complete always parses, and a keyword that could not be enforced is refused. Understood are: type (also a list), enum,
const, properties, required, additionalProperties, items, prefixItems, minItems, maxItems, minLength, maxLength, anyOf,
oneOf (as anyOf), allOf of one, $ref into the schema itself, format date, time, date-time and uuid; notes are skipped.
Objects have the declared properties in the declared order, and no others unless `additionalProperties` says so.

GBNF is described in llama.cpp's `grammars/README.md`. Its parser and matcher recurse; hence the bounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from appliance.errors import InvalidRequest

GRAMMAR_CHARS_MAX = 64 * 1024
SCHEMA_CHARS_MAX = 64 * 1024
DEPTH_MAX = 24
RULES_MAX = 1000
ENUM_MAX = 500
REPEAT_MAX = 200  # of a counted repetition; llama.cpp expands it into that many rules
CALLS_AT_ONCE_MAX = 8  # of an answer that must be calls
CallForm = Literal["hermes", "llama", "mistral"]

# What stands before, between and after calls, and what each form names their arguments (`calls.py`).
_AROUND_CALL: dict[CallForm, tuple[str, str, str]] = {
    "hermes": ("<tool_call>\n", "\n", "\n</tool_call>"),
    "llama": ("", "; ", ""),
    "mistral": ("", ", ", ""),
}
_ARGUMENTS: dict[CallForm, str] = {"hermes": "arguments", "llama": "parameters", "mistral": "arguments"}

_NOTES = frozenset(
    "title description default examples $schema $id $comment $defs definitions deprecated readOnly writeOnly".split()
)
_BY_TYPE: dict[str, frozenset[str]] = {
    "object": frozenset(("properties", "required", "additionalProperties")),
    "array": frozenset(("items", "prefixItems", "minItems", "maxItems")),
    "string": frozenset(("minLength", "maxLength", "format")),
    "integer": frozenset(),
    "number": frozenset(),
    "boolean": frozenset(),
    "null": frozenset(),
}
_KNOWN = frozenset(("type", "enum", "const")).union(*_BY_TYPE.values())
_FORMATS = ("date", "time", "date-time", "uuid")
# Numbers are short enough for every parser to read them as finite values; \u escapes are never halves of pairs.
_PRIMITIVES = {
    "ws": '" "?',
    "hex": "[0-9a-fA-F]",
    # Ranges and not "anything but": a matcher of bytes would take sequences that are no characters for anything.
    "char": "[\\x20-\\x21\\x23-\\x5B\\x5D-\\x7E\\u0080-\\uD7FF\\uE000-\\uFFFF\\U00010000-\\U0010FFFF]"
    ' | "\\\\" ( ["\\\\/bfnrt] | "u" escape )',
    "escape": "[0-9a-cA-CefEF] hex hex hex | [dD] [0-7] hex hex",
    "string": '"\\"" char* "\\""',
    "integer": '"-"? ( "0" | [1-9] [0-9]{0,14} )',
    "number": 'integer ( "." [0-9]{1,15} )? ( [eE] [-+]? [0-9]{1,2} )?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    # Days that every year has, in years that every calendar knows.
    "date": '[12] [0-9]{3} "-" ( ( "0" [13578] | "1" [02] ) "-" ( day | "29" | "30" | "31" ) '
    '| ( "0" [469] | "11" ) "-" ( day | "29" | "30" ) | "02-" day )',
    "day": '"0" [1-9] | "1" [0-9] | "2" [0-8]',
    "time": '( [01] [0-9] | "2" [0-3] ) ":" [0-5] [0-9] ":" [0-5] [0-9] ( "." [0-9]{1,6} )? '
    '( "Z" | [+-] ( [01] [0-9] | "2" [0-3] ) ":" [0-5] [0-9] )',
    "uuid": 'hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}',
    "value": "object | array | string | number | boolean | null",
    "object": '"{" ws ( string ws ":" ws value ws ( "," ws string ws ":" ws value ws )* )? "}"',
    "array": '"[" ws ( value ws ( "," ws value ws )* )? "]"',
}
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def grammar_of_schema(schema: Mapping[str, Any]) -> str:
    """GBNF for the values that a schema allows. Raises `InvalidRequest` naming the place and the keyword."""
    converter = _Converter(schema)
    return converter.grammar(converter.root_rule(schema))


def grammar_of_calls(
    tools: Mapping[str, Mapping[str, Any]],
    form: CallForm,
    *,
    parallel: bool,
    answer: Mapping[str, Any] | None = None,
) -> str:
    """GBNF for calls of these tools (the schema of the arguments of each), as a model of this form writes them.

    `answer`: a schema that the text may fit instead. Raises `InvalidRequest` naming the tool.
    """
    converter = _Converter({})
    calls = []
    before, between, after = _AROUND_CALL[form]
    for name, parameters in tools.items():
        try:
            arguments = converter.root_rule(parameters)
        except InvalidRequest as error:
            raise InvalidRequest(f"the tool {name!r} cannot be enforced: {error.message}", hint=error.hint) from None
        head = f'{{"name": {json.dumps(name)}, "{_ARGUMENTS[form]}": '
        calls.append(f"{_literal(before + head)} {arguments} {_literal('}' + after)}")
    call = converter.named(" | ".join(calls))
    more = f" ( {_literal(between)} {call} ){{0,{CALLS_AT_ONCE_MAX - 1}}}" if parallel else ""
    root = f'"[" {call}{more} "]"' if form == "mistral" else f"{call}{more}"
    if answer is not None:
        root = f"{converter.named(root)} | {converter.root_rule(answer)}"
    return converter.grammar(root)


def check_grammar(grammar: str) -> None:
    """Raise `InvalidRequest` for a grammar that is too large or nested too deeply to be given to the parser."""
    if len(grammar) > GRAMMAR_CHARS_MAX:
        raise InvalidRequest(f"the grammar has {len(grammar)} characters, at most {GRAMMAR_CHARS_MAX} are taken")
    if "\0" in grammar or grammar.count("::=") > RULES_MAX:
        raise InvalidRequest(f"a grammar may have at most {RULES_MAX} rules and no NUL character")
    depth = deepest = 0
    for bracket in re.findall(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|([()])', grammar):
        depth += {"(": 1, ")": -1}.get(bracket, 0)
        deepest = max(deepest, depth)
    if deepest > DEPTH_MAX * 2:
        raise InvalidRequest(f"the grammar nests {deepest} groups, at most {DEPTH_MAX * 2} are taken")
    for numbers in re.findall(r"\{([0-9, ]*)\}", grammar):
        if any(len(part.strip()) > 4 or int(part) > REPEAT_MAX for part in numbers.split(",") if part.strip()):
            raise InvalidRequest(f"a grammar may repeat at most {REPEAT_MAX} times")
    if re.search(r"^\s*root\s*::=", grammar, re.MULTILINE) is None:
        raise InvalidRequest("the grammar has no rule named root")


class _Converter:
    """Rules by name, in the order in which they were needed."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.rules: dict[str, str] = {}
        self._schema = schema
        self._number = 0

    def root_rule(self, schema: Mapping[str, Any]) -> str:
        """An expression for what a whole schema allows, into which its own references refer."""
        try:
            text = json.dumps(schema, allow_nan=False)
            json.dumps(schema, ensure_ascii=False).encode()  # half a surrogate pair is no character, escaped or not
        except (TypeError, ValueError, RecursionError):
            raise InvalidRequest("the JSON schema holds something that is no JSON value") from None
        if len(text) > SCHEMA_CHARS_MAX:
            raise InvalidRequest(f"the JSON schema has {len(text)} characters, at most {SCHEMA_CHARS_MAX} are taken")
        self._schema = schema
        return self.rule(schema, "#", (), 0)

    def grammar(self, root: str) -> str:
        """The whole text, checked. `root` is what the rule of this name says."""
        grammar = "\n".join([f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self.rules.items()), ""])
        check_grammar(grammar)
        return grammar

    def rule(self, schema: Any, place: str, open_refs: tuple[str, ...], depth: int) -> str:
        """An expression for what `schema` allows. `open_refs` are the references that are being followed."""
        if depth > DEPTH_MAX:
            raise _refused(place, f"is nested more than {DEPTH_MAX} deep")
        if schema is True or schema == {}:
            return self._primitive("value")
        if not isinstance(schema, Mapping):
            raise _refused(place, "is not an object")
        if "$ref" in schema:
            _only(schema, place, {"$ref"})
            return self._reference(schema["$ref"], place, open_refs, depth)
        for word in ("anyOf", "oneOf", "allOf"):
            if word in schema:
                _only(schema, place, {word, "type"} if "properties" not in schema else {word})
                return self._alternatives(word, schema[word], place, open_refs, depth)
        _only(schema, place, _KNOWN)
        if "const" in schema:
            _only(schema, place, {"const", "type"})
            return _literal(json.dumps(schema["const"]))
        if "enum" in schema:
            _only(schema, place, {"enum", "type"})
            values = schema["enum"]
            if not isinstance(values, list) or not 1 <= len(values) <= ENUM_MAX:
                raise _refused(f"{place}/enum", f"must be a list of 1 to {ENUM_MAX} values")
            return self.named(" | ".join(_literal(json.dumps(value)) for value in values))
        return self._typed(schema, place, open_refs, depth)

    def _typed(self, schema: Mapping[str, Any], place: str, open_refs: tuple[str, ...], depth: int) -> str:
        kinds = schema.get("type", implied_type(schema))
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if not kinds or any(not isinstance(kind, str) or kind not in _BY_TYPE for kind in kinds):
            raise _refused(f"{place}/type", "must be one of " + ", ".join(sorted(_BY_TYPE)))
        _only(schema, place, {"type"}.union(*(_BY_TYPE[kind] for kind in kinds)))
        made = []
        for kind in kinds:
            if kind == "object":
                made.append(self._object(schema, place, open_refs, depth))
            elif kind == "array":
                made.append(self._array(schema, place, open_refs, depth))
            elif kind == "string":
                made.append(self._string(schema, place))
            else:
                made.append(self._primitive(kind))
        return made[0] if len(made) == 1 else self.named(" | ".join(made))

    def _object(self, schema: Mapping[str, Any], place: str, open_refs: tuple[str, ...], depth: int) -> str:
        properties, extra = schema.get("properties"), schema.get("additionalProperties")
        if properties is None and "additionalProperties" not in schema:
            return self._primitive("object")
        properties = {} if properties is None else properties
        if not isinstance(properties, Mapping):
            raise _refused(f"{place}/properties", "is not an object")
        required = schema.get("required", [])
        if not isinstance(required, list) or any(name not in properties for name in required):
            raise _refused(f"{place}/required", "names a property that is not declared")
        # From the last property to the first: `more` goes on after a comma, `first` begins without one.
        more, first = "", ""
        if extra is not None and extra is not False:
            value = self.rule(extra, f"{place}/additionalProperties", open_refs, depth + 1)
            pair = self.named(f'{self._primitive("string")} ws ":" ws {value}')
            more = self.named(f'( "," ws {pair} ws )*')
            first = self.named(f"( {pair} ws {more} )?")
        for name, inner in reversed(list(properties.items())):
            value = self.rule(inner, f"{place}/properties/{name}", open_refs, depth + 1)
            pair = f'{_literal(json.dumps(name))} ws ":" ws {value} ws'
            if name in required:
                more, first = self.named(f'"," ws {pair} {more}'), self.named(f"{pair} {more}")
            else:
                present = self.named(f"{pair} {more}")
                more, first = (
                    self.named(f'( "," ws {present} ) | {more or _EMPTY}'),
                    self.named(f"{present} | {first or _EMPTY}"),
                )
        self._primitive("ws")
        return self.named(f'"{{" ws {first} "}}"')

    def _array(self, schema: Mapping[str, Any], place: str, open_refs: tuple[str, ...], depth: int) -> str:
        low, high = _range(schema, place, "minItems", "maxItems")
        self._primitive("ws")
        if "prefixItems" in schema:
            items = schema["prefixItems"]
            if not isinstance(items, list) or schema.get("items", False) is not False or not items:
                raise _refused(f"{place}/prefixItems", "must be a list, beside items: false")
            rules = [self.rule(item, f"{place}/prefixItems/{n}", open_refs, depth + 1) for n, item in enumerate(items)]
            return self.named('"[" ws ' + ' ws "," ws '.join(rules) + ' ws "]"')
        if "items" not in schema and low == 0 and high is None:
            return self._primitive("array")
        item = self.rule(schema.get("items", True), f"{place}/items", open_refs, depth + 1)
        if high == 0:
            return '"[" ws "]"'
        tail = self.named(f'"," ws {item} ws')
        least, most = max(0, low - 1), "" if high is None else str(high - 1)
        body = f"{item} ws {tail}{{{least},{most}}}" if most else f"{item} ws {tail}{{{least},}}"
        return self.named(f'"[" ws {body} "]"' if low else f'"[" ws ( {body} )? "]"')

    def _string(self, schema: Mapping[str, Any], place: str) -> str:
        form = schema.get("format")
        low, high = _range(schema, place, "minLength", "maxLength")
        if form is not None:
            if form not in _FORMATS or low or high is not None:
                raise _refused(f"{place}/format", "must be one of " + ", ".join(_FORMATS) + ", without a length")
            parts = ("date", "time") if form == "date-time" else (form,)
            return self.named('"\\"" ' + ' "T" '.join(map(self._primitive, parts)) + ' "\\""')
        if low == 0 and high is None:
            return self._primitive("string")
        return self.named(f'"\\"" {self._primitive("char")}{{{low},{"" if high is None else high}}} "\\""')

    def _alternatives(self, word: str, options: Any, place: str, open_refs: tuple[str, ...], depth: int) -> str:
        if not isinstance(options, list) or not 1 <= len(options) <= (1 if word == "allOf" else ENUM_MAX):
            most = "exactly one schema" if word == "allOf" else f"1 to {ENUM_MAX} schemas"
            raise _refused(f"{place}/{word}", f"must hold {most}")
        rules = [self.rule(option, f"{place}/{word}/{n}", open_refs, depth + 1) for n, option in enumerate(options)]
        return rules[0] if len(rules) == 1 else self.named(" | ".join(rules))

    def _reference(self, reference: Any, place: str, open_refs: tuple[str, ...], depth: int) -> str:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _refused(place, "refers to something outside the schema")
        if reference in open_refs:
            raise _refused(place, "refers to itself; recursive schemas are not taken")
        target: Any = self._schema
        for part in reference.lstrip("#").strip("/").split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            if name:
                if not isinstance(target, Mapping) or name not in target:
                    raise _refused(place, "refers to nothing")
                target = target[name]
        return self.rule(target, reference, (*open_refs, reference), depth + 1)

    def _primitive(self, name: str) -> str:
        if name not in self.rules:
            self.rules[name] = _PRIMITIVES[name]
            for word in _WORD.findall(re.sub(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]', "", _PRIMITIVES[name])):
                self._primitive(word)
        return name

    def named(self, body: str) -> str:
        """A rule of its own, so that nothing is nested in the grammar's text."""
        self._number += 1
        if self._number > RULES_MAX:
            raise InvalidRequest(f"the JSON schema makes more than {RULES_MAX} rules", hint="make it smaller")
        name = f"rule{self._number}"
        self.rules[name] = body
        return name


_EMPTY = '""'


def _literal(text: str) -> str:
    """A GBNF literal of exactly this ASCII text, whose contents `json.dumps` has escaped already."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def implied_type(schema: Mapping[str, Any]) -> str | None:
    """The one type whose keywords a schema without a type uses."""
    return next((kind for kind, words in _BY_TYPE.items() if words & schema.keys()), None)


def _only(schema: Mapping[str, Any], place: str, known: frozenset[str] | set[str]) -> None:
    for word in schema:
        if word not in known and word not in _NOTES:
            raise _refused(place, f"has the keyword {str(word)[:64]!r}, which cannot be enforced here")


def _range(schema: Mapping[str, Any], place: str, least: str, most: str) -> tuple[int, int | None]:
    low, high = schema.get(least, 0), schema.get(most)
    for name, value in ((least, low), (most, high)):
        if value is not None and (
            not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= REPEAT_MAX
        ):
            raise _refused(f"{place}/{name}", f"must be a whole number from 0 to {REPEAT_MAX}")
    if high is not None and low > high:
        raise _refused(f"{place}/{least}", f"is above {most}")
    return low, high


def _refused(place: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"the JSON schema at {place[:200]} {what}", hint="change the schema or leave it out")
