"""Tools reach a model as its template takes them, and a grammar for calls makes calls that fit their schemas, in the
form in which the answer is read. Tools that could not be called are refused before anything else happens.

The templates are written after those of well-known models: the same statements, in the parts that concern tools.
"""

import json
import socket
from dataclasses import replace

import pytest
from engine_grammar_draws import Draws
from test_engine_generation_worker import START

from appliance.engine import protocol
from appliance.engine.echo import EchoDecoder
from appliance.engine.generation import messages
from appliance.engine.generation.calls import CallReader, form_of
from appliance.engine.generation.grammar import grammar_of_calls
from appliance.engine.generation.llama_decoder import LlamaDecoder
from appliance.engine.generation.model_file import estimate, read_header
from appliance.engine.generation.sampling import check_request
from appliance.engine.generation.schema_check import fits
from appliance.engine.generation.template import ChatTemplate
from appliance.engine.generation.tools import parameters_of, turns_for, without_system
from appliance.engine.generation.values import GenerationRequest, Message, Sampling
from appliance.engine.generation.worker import GenerationWorker
from appliance.errors import InputTooLong, InvalidRequest
from benchmarks.random_decoder import TINY, write_decoder

CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 5},
        "days": {"type": "integer"},
        "kind": {"$ref": "#/$defs/kind"},
        "when": {"type": ["string", "null"], "format": "date"},
    },
    "required": ["city", "kind"],
    "additionalProperties": False,
    "$defs": {"kind": {"enum": ["rain", 'a "dry" one']}},
}


def tool(name="weather", parameters=CITY, **more) -> dict:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


WEATHER = (tool(),)
QWEN = """{%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif -%}
{%- for message in messages %}{% if message.role == "assistant" and message.tool_calls %}
{%- for call in message.tool_calls %}{% if call.function %}{% set call = call.function %}{% endif -%}
<tool_call>{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}</tool_call>{% endfor %}
{%- elif message.role == "tool" %}<tool_response>{{ message.content }}</tool_response>
{%- else %}{{ message.content }}{% endif %}{% endfor %}"""
LLAMA = """{%- if tools is not none and tools %}Respond in the format {"name": function name, "parameters": …}
{%- endif %}{% for message in messages %}{% if 'tool_calls' in message %}
{%- if not message.tool_calls | length == 1 %}{{ raise_exception("only single tool-calls") }}{% endif %}
{%- set call = message.tool_calls[0].function %}{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}
{%- elif message.role == "tool" %}[ipython] {{ message.content }}{% else %}{{ message.content }}{% endif -%}
{% endfor %}"""
MISTRAL = """{%- if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for message in messages %}{% if message.tool_calls %}[TOOL_CALLS][{% for call in message.tool_calls -%}
{%- if call.id is not defined or call.id | length != 9 %}{{ raise_exception("IDs have length 9") }}{% endif -%}
{{ call.function | tojson }}{% endfor %}]{% elif message.role == "tool" -%}
{%- if message.tool_call_id | length != 9 %}{{ raise_exception("IDs have length 9") }}{% endif -%}
[TOOL_RESULTS]{"content": {{ message.content }}, "call_id": "{{ message.tool_call_id }}"}
{%- else %}{{ message.content }}{% endif %}{% endfor %}"""
TEXTUAL = """{# {"name": …, "arguments": …} #}
{%- for message in messages %}{% if message.tool_calls %}{{ message.tool_calls[0].function.name
 + '<tool_call>```json\\n' + message.tool_calls[0].function.arguments + '```' }}{% else -%}
{{ message.content }}{% endif -%}
{%- endfor %}{{ tools | length }}"""
PLAIN = "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
CALL = {"id": "call_0123456789", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ålo"}'}}
CHAT = [
    {"role": "user", "content": "How is it?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "rain", "tool_call_id": "call_0123456789"},
]


def rendered(source, chat=CHAT, tools=WEATHER) -> str:
    turns, offered = turns_for(form_of(source), chat, tools)
    return ChatTemplate(source, bos="", eos="").render(turns, offered or None)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (QWEN, ['<tool_call>{"name": "weather", "arguments": {"city": "Ålo"}}</tool_call>', "<tool_response>rain"]),
        (LLAMA, ['{"name": "weather", "parameters": {"city": "Ålo"}}[ipython] rain', "Respond in the format"]),
        (MISTRAL, ['[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Ålo"}}][TOOL_RESULTS]{"content": rain']),
        (TEXTUAL, ['weather<tool_call>```json\n{"city": "Ålo"}```', "rain1"]),
        (
            PLAIN,
            ["[system] You may call", '{"type": "function"', '[assistant] <tool_call>\n{"name"', "[user] <tool_r"],
        ),
    ],
    ids=["qwen", "llama", "mistral", "as a text", "knows no tools"],
)
def test_conversation_with_tools_is_written_as_the_template_takes_it(source, parts):
    prompt = rendered(source)
    assert all(part in prompt for part in parts), prompt


def test_template_that_knows_no_tools_sees_nothing_of_them_where_none_are_offered():
    assert rendered(PLAIN, CHAT[:1], ()) == "[user] How is it?\n"
    told = rendered(PLAIN, [{"role": "system", "content": "Be kind."}, *CHAT[:1]])
    assert told.startswith("[system] Be kind.\n\nYou may call") and told.count("[system]") == 1


def test_system_is_told_by_the_first_user_where_a_template_takes_none():
    turns, _ = turns_for(None, [{"role": "system", "content": "Be kind."}, *CHAT[:1]], [tool()])
    folded = without_system(turns)
    assert [turn["role"] for turn in folded] == ["user"] and folded[0]["content"].startswith("Be kind.\n\nYou may call")
    assert folded[0]["content"].endswith("How is it?") and without_system(CHAT) is None


def test_arguments_that_are_no_json_stay_what_they_are():
    call = CALL | {"function": {"name": "weather", "arguments": '{"city": '}}
    assert '{"city": ' in rendered(TEXTUAL, [CHAT[0], CHAT[1] | {"tool_calls": [call]}])


@pytest.mark.parametrize("form", ["hermes", "llama", "mistral"])
@pytest.mark.parametrize("parallel", [True, False])
def test_drawn_calls_are_read_as_calls_that_fit(form, parallel):
    tools = [tool(), tool("ring_2", {"type": "object", "properties": {"n": {"enum": [1]}}}), tool("stop-it", None)]
    schemas = parameters_of(tools)
    draws = Draws(grammar_of_calls(schemas, form, parallel=parallel), seed=5)
    seen = set()
    for _ in range(60):
        reader = CallReader(form, dict.fromkeys(schemas), bound=True)
        found = reader.feed(draws.draw()) + reader.finish()
        assert found and (parallel or len(found) == 1)
        for call in found:
            assert not isinstance(call, str), found
            assert fits(json.loads(call.arguments), schemas[call.name])
            seen.add(call.name)
    assert seen == {"weather", "ring_2", "stop-it"}


def test_grammar_beside_a_schema_takes_both():
    draws = Draws(grammar_of_calls({"ring": {"type": "object"}}, "hermes", parallel=False, answer={"const": 5}), seed=5)
    assert {draws.draw()[:1] for _ in range(20)} == {"<", "5"}


REQUEST = GenerationRequest((Message("user", "hi"),), "user:1", Sampling(), tools=(tool(),))


def test_grammar_is_applied_where_the_answer_must_be_a_call():
    assert check_request(REQUEST) is None
    assert "<tool_call>" in check_request(replace(REQUEST, must_call=("weather",)))
    assert "parameters" in check_request(replace(REQUEST, must_call=("weather",)), "llama")
    assert "<tool_call>" in check_request(replace(REQUEST, json_schema={"type": "null"}))


@pytest.mark.parametrize(
    ("tools", "error", "words"),
    [
        ([tool("a b")], InvalidRequest, "name"),
        ([tool(5)], InvalidRequest, "name"),
        ([{"type": "function"}], InvalidRequest, "function"),
        ([tool(description="a\0b")], InvalidRequest, "NUL"),
        ([tool(parameters={"properties": {"a": {"pattern": "[^\\u0000]"}}})], None, ""),
        ([tool(parameters={"default": {1, 2}})], InvalidRequest, "no JSON"),
        ([tool(parameters={"default": float("nan")})], InvalidRequest, "no JSON"),
        ([tool(parameters=[1])], InvalidRequest, "type 'object'"),
        ([tool(description=5)], InvalidRequest, "description"),
        ([tool(f"t{n}", {"description": "x" * 4000}) for n in range(100)], InputTooLong, "262144"),
        ([tool(f"t{n}") for n in range(129)], InputTooLong, "128"),
        ([tool(parameters={"$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"items": {"$ref": "#/$defs/a"}}}})],
         InvalidRequest, "recursive"),
        ([tool(parameters={"properties": {"a": {"$ref": "http://x/y"}}})], InvalidRequest, "nothing"),
    ],
)  # fmt: skip
def test_tools_that_could_not_be_offered_are_refused(tools, error, words):
    request = replace(REQUEST, tools=tuple(tools))
    if error is None:
        assert check_request(request) is None
        return
    with pytest.raises(error, match=words):
        check_request(request)


def test_schema_that_refers_to_itself_many_times_over_is_walked_once():
    parts = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 30} for n in range(7)} | {"d7": {"type": "null"}}
    assert check_request(replace(REQUEST, tools=(tool(parameters={"$defs": parts}),))) is None


class Marking(EchoDecoder):
    """Takes what marks a call for control tokens, which have no text."""

    NAMES = ("[TOOL_CALLS]", "[ARGS]")

    @property
    def facts(self):
        template = "{% if tools or not tools %}[TOOL_CALLS]weather[ARGS]{}{% endif %}"
        return replace(super().facts, chat_template=template, control=frozenset(self.NAMES))

    def tokenize(self, pieces):
        tokens = super().tokenize([])
        for text, special in pieces:
            for number, name in enumerate(self.NAMES if special else ()):
                text = text.replace(name, chr(0xE000 + number))
            for character in text:
                tokens.extend([258 + ord(character) - 0xE000] if character >= "\ue000" else character.encode())
        return tokens


@pytest.mark.parametrize(("tools", "text"), [((tool(),), "[TOOL_CALLS]weather[ARGS]{}"), ((), "weather{}")])
def test_control_tokens_that_mark_a_call_have_a_text_where_tools_are_offered(tools, text):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = protocol.WorkerChannel(theirs, 1 << 20, decode=messages.decode_command)
        decoder = Marking(slots=2, context_tokens=128)
        worker = GenerationWorker(channel, decoder, START)
        command = messages.pack_request(1, replace(REQUEST, tools=tools), grammar=None, seed=1, deadline_s=60)
        ours.sendall(protocol.encode_frame(command, 1 << 20))
        said = ""
        worker.step()
        while worker.answers:
            worker.step()
        while isinstance(report := messages.decode_report(received(ours)), messages.Accepted | messages.Chunks):
            if isinstance(report, messages.Chunks):
                said += "".join(part.text for part in report.parts)
                if report.parts[-1].ended:
                    break
    assert said == text


def test_markers_are_found_among_a_real_model_s_tokens(tmp_path):
    path = tmp_path / "marking.gguf"
    write_decoder(path, TINY, seed=1, chat_template=MISTRAL, control=("[TOOL_CALLS]", "[ARGS]"))
    header = read_header(path)
    need = estimate(header, slots=1, context_tokens=64, step_tokens=64)
    decoder = LlamaDecoder.open_model(path, header, need, slots=1, context_tokens=64, step_tokens=64, threads=1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = protocol.WorkerChannel(theirs, 1 << 20, decode=messages.decode_command)
        found = GenerationWorker(channel, decoder, START)._marker_tokens()
    assert sorted(found.values()) == [b"[ARGS]", b"[TOOL_CALLS]"]
    assert all(decoder.piece(token) == b"" for token in found)


def received(sock: socket.socket) -> bytes:
    length = protocol.frame_length(sock.recv(4, socket.MSG_WAITALL), 1 << 20)
    return sock.recv(length, socket.MSG_WAITALL)
