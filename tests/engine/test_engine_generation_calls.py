"""Calls of tools are read from an answer in the forms that models write, wherever it is cut; what is no call of an
offered tool stays the text that it was, character for character, and no more of it is held back than the bound.
"""

import json
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.engine.generation.calls import CALL_CHARS_MAX, CALLS_MAX, CallReader, WrittenCall, form_of
from appliance.engine.generation.schema_check import fits

OFFERED = {"weather": None, "notes_search-2": None}
FORMS = ("hermes", "llama", "mistral")
OSLO = WrittenCall("weather", '{"city": "Oslo"}')
HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
LLAMA = '{"name": "weather", "parameters": {"city": "Oslo"}}'
MISTRAL = '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo"}}]'
TAGS = "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>"
NAMED = '[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}'
PIECES = (
    *(
        HERMES,
        LLAMA,
        MISTRAL,
        NAMED,
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|python_tag|>",
        "{",
        "}",
    ),
    *("[", "]", '"', "\\", "\\u00", "\n", " ", ";", ",", "weather", '{"name": ', '"arguments": {}', "<tool", "a", "é"),
    *('{"name": "weather"}', '{"name": "rm", "arguments": {}}', '{"name": "weather", "arguments": [1]}', "[" * 3000),
    *('{"name": "weather", "arguments": {"x": NaN}}', '{"name": "weather", "arguments": {"x": "\\ud800"}}', " " * 100),
    *(
        TAGS,
        "<function=",
        "<function=weather>",
        "</function>",
        "<parameter=x>",
        "</parameter>",
        "<function=rm></function>",
    ),
    *("[TOOL_CALLS]weather", "[CALL_ID]x1", '{"type": "function", "function": ' + LLAMA + "}"),
)
pieces = st.sampled_from(PIECES)


def read(form: str, parts, *, offered=OFFERED, **values) -> tuple[str, list[WrittenCall]]:
    reader = CallReader(form, offered, **values)
    found = [piece for part in parts for piece in reader.feed(part)] + reader.finish()
    return "".join(x for x in found if isinstance(x, str)), [x for x in found if not isinstance(x, str)]


@pytest.mark.parametrize(
    ("form", "answer", "text", "calls"),
    [
        ("hermes", HERMES, "", 1),
        ("hermes", f"Let me look.\n\n{HERMES}\n", "Let me look.", 1),
        ("hermes", f"{HERMES}\n{HERMES}\n Done.", "\n Done.", 2),
        ("hermes", HERMES.removesuffix("\n</tool_call>"), "", 1),
        ("hermes", LLAMA, LLAMA, 0),
        ("hermes", HERMES.replace("weather", "rm"), HERMES.replace("weather", "rm"), 0),
        ("hermes", HERMES[:40], HERMES[:40], 0),
        ("hermes", "<tool_call> is how I write it", "<tool_call> is how I write it", 0),
        ("hermes", f"Let me look. {TAGS}", "Let me look.", 1),
        ("hermes", TAGS.replace("weather", "rm"), TAGS.replace("weather", "rm"), 0),
        ("hermes", TAGS.replace("\n<parameter", " and <parameter"), TAGS.replace("\n<parameter", " and <parameter"), 0),
        ("hermes", TAGS[:-30], TAGS[:-30], 0),
        ("hermes", "<tool_call><func", "<tool_call><func", 0),
        ("llama", LLAMA, "", 1),
        ("llama", f"\n<|python_tag|>{LLAMA}; {LLAMA}", "", 2),
        ("llama", f"I say {LLAMA}", f"I say {LLAMA}", 0),
        ("llama", '{"city": "Oslo", "name": "weather"}', '{"city": "Oslo", "name": "weather"}', 0),
        ("llama", '{"type": "function", "name": "weather", "parameters": {"city": "Oslo"}}', "", 1),
        ("mistral", MISTRAL, "", 1),
        ("mistral", f"See: {NAMED}{NAMED}", "See:", 2),
        ("mistral", NAMED.replace("[ARGS]", "[CALL_ID]abc123XYZ[ARGS]"), "", 1),
        ("mistral", "[TOOL_CALLS] [1, 2]", "[TOOL_CALLS] [1, 2]", 0),
        ("mistral", MISTRAL.replace("]", ', {"name": "rm"}]'), MISTRAL.replace("]", ', {"name": "rm"}]', 1), None),
    ],
)
def test_written_forms_are_read(form, answer, text, calls):
    found = read(form, [answer])
    assert read(form, list(answer)) == found
    if calls is None:
        assert found[1] == [] and found[0] == answer
    else:
        assert found == (text, [OSLO] * calls)


def test_text_goes_on_and_a_beginning_is_held_back():
    reader = CallReader("hermes", OFFERED)
    assert reader.feed("Let me <b>look</b>") == ["Let me <b>look</b>"]
    assert reader.feed(" up <tool") == [" up"]
    assert reader.feed("box> and") == [" <toolbox> and"]
    assert reader.feed(HERMES[:60]) == []
    assert reader.feed(HERMES[60:]) == [OSLO]


def test_mistral_list_is_read_without_its_marker_only_where_a_grammar_asked_for_it():
    bare = MISTRAL.removeprefix("[TOOL_CALLS] ")
    assert read("mistral", [bare]) == (bare, [])
    assert read("mistral", [bare], bound=True) == ("", [OSLO])


def test_one_call_at_a_time_where_that_was_asked_for():
    assert read("hermes", [f"a{HERMES}{HERMES} b"], parallel=False) == ("a", [OSLO])
    both = MISTRAL.replace("}}]", '}}, {"name": "weather", "arguments": {}}]')
    assert len(read("mistral", [both])[1]) == 2 and len(read("mistral", [both], parallel=False)[1]) == 1


def test_arguments_of_a_strict_tool_fit_its_schema_or_are_text():
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    assert read("hermes", [HERMES], offered={"weather": schema}) == (HERMES, [])
    rome = HERMES.replace("Oslo", "Rome")
    assert read("hermes", [rome], offered={"weather": schema})[1][0].arguments == '{"city": "Rome"}'


def test_values_in_tags_are_what_the_schema_says():
    schema = {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": "object"}}}
    values = {"a": "12", "b": "12", "c": '{"x": [1]}', "d": "true", "e": "two\nlines <b>", "f": "NaN"}
    inner = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in values.items())
    reader = CallReader("hermes", {"weather": None}, {"weather": schema})
    (call,) = reader.feed(f"<tool_call><function=weather>{inner}</function></tool_call>")
    made = {"a": "12", "b": 12, "c": {"x": [1]}, "d": True, "e": "two\nlines <b>", "f": "NaN"}
    assert json.loads(call.arguments) == made


def test_form_is_seen_in_the_template():
    assert form_of("{% for m in messages %}{{ m.content }}{% endfor %}") is None and form_of(None) is None
    assert form_of('<tools></tools>… <tool_call>{"name": <name>, "arguments": <args>}</tool_call>') == "hermes"
    assert form_of('{{ "<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <args>}" }}') == "hermes"
    assert form_of("<tool_call>\n<function=example>\n<parameter=one>") == "hermes"
    assert form_of("<tool_call>name\n<arg_key>{{ key }}</arg_key>") is None
    assert form_of('<tool_calls>[{"name": …, "arguments": …}]</tool_calls> or <tool_call>') is None
    assert form_of("{'name': function name, 'parameters': …}") == "llama"
    assert form_of('{"name": function name, "parameters": …}') == "llama"
    assert form_of('{"tool_name": "x", "parameters": {}} with tools') is None
    assert form_of("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]") == "mistral"


def test_hostile_answers_are_bounded():
    endless = '<tool_call>{"name": "weather", "arguments": {"x": "'
    reader = CallReader("hermes", OFFERED)
    released = "".join("".join(map(str, reader.feed("y" * 1000))) for _ in [reader.feed(endless)] for _ in range(100))
    assert len(released) > 100_000 + len(endless) - CALL_CHARS_MAX - 2000
    assert len(read("hermes", [HERMES * (CALLS_MAX + 5)])[1]) == CALLS_MAX
    deep = '<tool_call>{"name": "weather", "arguments": ' + '{"a":' * 5000 + "1" + "}" * 5001
    assert read("hermes", [deep]) == (deep, [])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMS), st.lists(pieces, max_size=14), st.lists(st.integers(0, 400), max_size=12), st.booleans())
@example("hermes", [HERMES, " " * 100, HERMES], [1, 2, 60, 90, 120], True)
@example("mistral", ["[TOOL_CALLS]", " " * 100, "[", "]"], [12, 13, 14, 15], True)
@example("hermes", ["<tool_call>", " " * 100, " " * 100], [171], True)
@example("mistral", ["[TOOL_CALLS]", *["weather"] * 30], [], True)
@example("llama", ['{"foo": "', "<|python_tag|>", LLAMA, '"}'], [], True)
@example("llama", [" ", "<|python_tag|>", "{", '"arguments": {}'], [1, 5, 16], True)
def test_answer_is_the_same_wherever_it_is_cut(form, parts, cuts, bound):
    answer = "".join(parts)
    places = sorted({0, len(answer), *(min(cut, len(answer)) for cut in cuts)})
    cut = [answer[start:end] for start, end in pairwise(places)]
    whole = read(form, [answer], bound=bound)
    assert read(form, cut, bound=bound) == whole
    assert read(form, list(answer), bound=bound) == whole
    for call in whole[1]:
        assert call.name in OFFERED and isinstance(json.loads(call.arguments), dict)


@given(st.sampled_from(FORMS), st.lists(pieces, max_size=14), st.booleans())
def test_nothing_is_lost_where_no_tool_counts(form, parts, bound):
    assert read(form, parts, offered={}, bound=bound) == ("".join(parts), [])


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        (1, {"type": "integer"}, True),
        (True, {"type": "integer"}, False),
        (True, {"const": 1}, False),
        ({"a": 1}, {"properties": {"a": {"type": "integer"}}}, True),
        ([], {"properties": {"a": {}}}, False),
        ({"b": 1}, {"properties": {"a": {}}}, False),
        ({"b": 1}, {"properties": {}, "additionalProperties": {"type": "null"}}, False),
        (["a", 1], {"prefixItems": [{"type": "string"}, {"type": "number"}], "items": False}, True),
        (["a"], {"prefixItems": [{"type": "string"}, {"type": "number"}], "items": False}, False),
        ("2026-02-28", {"type": "string", "format": "date"}, True),
        ("2026-02-30", {"type": "string", "format": "date"}, False),
        ("2026-02-28T", {"type": "string", "format": "date"}, False),
        ("2024-02-29T23:59:59.5Z", {"type": "string", "format": "date-time"}, True),
        ("2023-02-29T23:59:59Z", {"type": "string", "format": "date-time"}, False),
        ("24:00:00Z", {"type": "string", "format": "time"}, False),
        (None, {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": ["null", "string"]}}}, True),
    ],
)
def test_values_are_checked_against_their_schema(value, schema, expected):
    assert fits(value, schema) is expected
