"""Tools as the official client of OpenAI's API offers and calls them, in chats and in responses, whole and streamed:
calls come back as calls, a call that was asked for always fits the tool's schema, results go in again, and tools that
cannot be offered are refused with the reason. Which tools were called is in the log, what with is content.

Where a model decides by itself, the one here says once more what it was asked, so the test writes its answer.
"""

import json
from datetime import date
from typing import Literal

import openai
import pytest
from pydantic import BaseModel, Field

from tests.conftest import ADMIN_PASSWORD, USER_PASSWORD

WHEN = {
    "type": "object",
    "properties": {"ward": {"enum": ["north", "south"]}, "urgent": {"type": "boolean"}},
    "required": ["ward", "urgent"],
    "additionalProperties": False,
}


def tool(name: str = "free_beds", parameters: dict | None = WHEN, **more) -> dict:
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": parameters, **more}}


BEDS = tool()
ARGUMENTS = '{"ward": "north", "urgent": true}'
CALL = '<tool_call>\n{"name": "free_beds", "arguments": ' + ARGUMENTS + "}\n</tool_call>"


def client_of(running, name: str) -> openai.OpenAI:
    with running.client(name, USER_PASSWORD) as person:
        scopes = ["specialist.run", "audit.read_own"]
        key = person.post("/v1/api-keys", json={"name": "tools", "scopes": scopes}).json()["secret"]
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0, timeout=100)


@pytest.fixture(scope="module")
def client(server):
    with client_of(server, "ana") as made:
        yield made


@pytest.fixture(scope="module")
def boss(small_server):
    with small_server.client("admin", ADMIN_PASSWORD) as admin:
        account = {"username": "toolmaker", "password": USER_PASSWORD, "roles": ["user"]}
        assert admin.post("/v1/accounts", json=account).status_code == 201
        yield admin


@pytest.fixture(scope="module")
def echo(small_server, boss):
    with client_of(small_server, "toolmaker") as made:
        yield made


def asked(*turns: str, tools=(BEDS,), model="tiny-writer", **more) -> dict:
    messages = [{"role": "user", "content": turn} for turn in turns]
    return {"model": model, "messages": messages, "tools": list(tools), "max_tokens": 4000, **more}


def said_calls(message) -> list[tuple[str, dict]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]


def test_calls_come_back_as_calls_and_the_text_before_them_as_text(echo):
    answer = echo.chat.completions.create(**asked(f"Let me look.\n{CALL}\n{CALL}"))
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert said_calls(choice.message) == [("free_beds", json.loads(ARGUMENTS))] * 2
    assert choice.message.content.endswith("</tool_call>Let me look.") and CALL not in choice.message.content
    first, second = choice.message.tool_calls
    assert first.type == "function" and first.id.startswith("call_") and first.id != second.id


def test_stream_has_the_same_calls_as_deltas_with_their_index(echo):
    events = list(echo.chat.completions.create(**asked(f"Let me look.\n{CALL}\n{CALL}"), stream=True))
    deltas = [event.choices[0].delta for event in events if event.choices]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert [call.index for call in calls] == [0, 1] and calls[0].function.arguments == ARGUMENTS
    text = "".join(delta.content or "" for delta in deltas)
    assert text.endswith("Let me look.") and CALL not in text
    assert events[-1].choices[0].finish_reason == "tool_calls" and events[-1].receipt["proof_file"]


def test_client_s_own_helper_puts_the_stream_together(echo):
    strict = tool(strict=True)
    with echo.chat.completions.stream(**asked(CALL, tools=[strict])) as stream:
        final = stream.get_final_completion()
    assert said_calls(final.choices[0].message) == [("free_beds", json.loads(ARGUMENTS))]
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == json.loads(ARGUMENTS)


@pytest.mark.parametrize(
    ("written", "tools"),
    [
        (CALL.replace("free_beds", "shut_down"), [BEDS]),
        (CALL.replace("}\n", "\n"), [BEDS]),
        (CALL.replace("north", "moon"), [tool(strict=True)]),
    ],
    ids=["not offered", "no JSON", "does not fit a strict schema"],
)
def test_what_is_no_call_of_an_offered_tool_stays_text(echo, written, tools):
    (choice,) = echo.chat.completions.create(**asked(written, tools=tools)).choices
    assert choice.message.tool_calls is None and choice.message.content.endswith(written)
    assert choice.finish_reason == "stop"


def test_no_call_where_none_is_wanted_and_one_where_no_more_are(echo):
    (none,) = echo.chat.completions.create(**asked(CALL, tool_choice="none")).choices
    assert none.message.tool_calls is None and none.message.content == CALL
    (one,) = echo.chat.completions.create(**asked(CALL + CALL, parallel_tool_calls=False)).choices
    assert len(one.message.tool_calls) == 1


def test_result_goes_in_again_as_the_client_sends_it(echo):
    request = asked(CALL)
    (choice,) = echo.chat.completions.create(**request).choices
    result = {"role": "tool", "tool_call_id": choice.message.tool_calls[0].id, "content": "three are free"}
    messages = [*request["messages"], choice.message, result]
    (after,) = echo.chat.completions.create(**request | {"messages": messages, "tool_choice": "none"}).choices
    said = after.message.content  # the conversation, as the model read it
    assert "three are free" in said and said.count('"arguments": {"ward": "north"') == 2


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "free_beds"}}])
def test_call_that_is_asked_for_fits_the_schema_whatever_the_model(client, model, choice):
    other = tool("ring", {"type": "object", "properties": {"times": {"enum": [1, 2]}}, "required": ["times"]})
    request = asked("Is a bed free?", tools=[BEDS, other], model=model, tool_choice=choice)
    for seed in range(4):
        (answer,) = client.chat.completions.create(**request, temperature=1.0, seed=seed).choices
        assert answer.finish_reason == "tool_calls" and answer.message.content is None
        for name, arguments in said_calls(answer.message):
            if name == "free_beds":
                assert arguments["ward"] in ("north", "south") and isinstance(arguments["urgent"], bool)
            else:
                assert choice == "required" and arguments["times"] in (1, 2)
    (alone,) = client.chat.completions.create(**request, seed=1, parallel_tool_calls=False).choices
    assert len(alone.message.tool_calls) == 1


class Bed(BaseModel):
    """A bed, as a program would describe it."""

    ward: Literal["north", "south"]
    window: bool | None
    free_from: date
    floors: list[Literal[1, 2]] = Field(description="where to look", max_length=2)


class Reserve(BaseModel):
    bed: Bed
    other: Bed | None
    nights: Literal[1, 2, 3]


def test_tools_made_from_python_classes_come_back_as_their_objects(client, model):
    answer = client.chat.completions.parse(
        **asked("A bed, please.", tools=[openai.pydantic_function_tool(Reserve)], model=model, tool_choice="required"),
        parallel_tool_calls=False,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Reserve) and call.function.parsed_arguments.nights in (1, 2, 3)


def test_answer_with_a_schema_is_a_call_or_fits_it(client, model):
    schema = {"type": "object", "properties": {"side": {"enum": ["left", "right"]}}, "required": ["side"]}
    form = {"type": "json_schema", "json_schema": {"name": "finding", "schema": schema}}
    seen = set()
    for seed in range(8):
        request = asked("Which side?", model=model, response_format=form, seed=seed)
        (choice,) = client.chat.completions.create(**request).choices
        seen.add(choice.finish_reason)
        if choice.message.content:
            assert json.loads(choice.message.content)["side"] in ("left", "right")
    assert seen <= {"tool_calls", "stop"}


CIRCLE = {"type": "object", "properties": {"next": {"$ref": "#"}}}
DEEP: dict = {"type": "null"}
for _ in range(40):
    DEEP = {"type": "array", "items": DEEP}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"tools": [tool(f"t{n}") for n in range(1000)]}, openai.APIStatusError, "1000 tools; at most 128"),
        ({"tools": [tool("rm -rf / \n")]}, openai.BadRequestError, "name"),
        ({"tools": [tool("ünïcode")]}, openai.BadRequestError, "name"),
        ({"tools": [tool("")]}, openai.BadRequestError, "name"),
        ({"tools": [tool("x" * 65)]}, openai.BadRequestError, "name"),
        ({"tools": [BEDS, BEDS]}, openai.BadRequestError, "twice"),
        ({"tools": [tool(parameters={"type": "banana"})]}, openai.BadRequestError, "type 'object'"),
        ({"tools": [tool(parameters=CIRCLE)]}, openai.BadRequestError, "recursive"),
        ({"tools": [tool(parameters={"properties": {"a": {"$ref": "#/no"}}})]}, openai.BadRequestError, "nothing"),
        ({"tools": [tool(parameters={"properties": {"a": DEEP}})]}, openai.BadRequestError, "deep"),
        ({"tools": [tool(parameters={"description": "y" * 70_000})]}, openai.APIStatusError, "65536"),
        ({"tools": [tool(parameters={"properties": {"a": {"pattern": "^a"}}}, strict=True)]},
         openai.BadRequestError, "pattern"),
        ({"tools": [tool(parameters={"properties": {"a": {"pattern": "^a"}}})], "tool_choice": "required"},
         openai.BadRequestError, "pattern"),
        ({"tools": [{"type": "code_interpreter"}]}, openai.BadRequestError, "code_interpreter"),
        ({"tools": [{"type": "function", "function": None}]}, openai.BadRequestError, "function"),
        ({"tools": [tool() | {"function": {"name": ["a"]}}]}, openai.BadRequestError, "name"),
        ({"tool_choice": "sometimes"}, openai.BadRequestError, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "nobody"}}}, openai.BadRequestError, "not offered"),
        ({"tools": [], "tool_choice": "required"}, openai.BadRequestError, "no tools"),
        ({"model": "phi-deid"}, openai.BadRequestError, "tools"),
    ],
)  # fmt: skip
def test_tools_that_cannot_be_offered_are_refused_with_the_reason(client, model, change, error, words):
    request = asked("hello", model=model) | change
    for stream in (False, True):
        with pytest.raises(error) as refused:
            client.chat.completions.create(**request, stream=stream)
        said = f"{refused.value.body.get('message')} {refused.value.body.get('hint')}"
        assert words in said, said
    assert client.chat.completions.create(**asked("hello", tools=(), model=model, max_tokens=1)).choices


def test_log_names_the_tools_that_were_called_and_not_what_with(echo, boss):
    list(echo.chat.completions.create(**asked(CALL), stream=True))
    records = echo.get("/audit/records?limit=20", cast_to=object)["data"]
    closed = next(
        record for record in records if record["event"] == "model.generate" and record["outcome"] != "accepted"
    )
    assert closed["attributes"]["tools_called"] == "free_beds" and closed["attributes"]["tool_calls"] == 1
    assert closed["attributes"]["finish"] == "tool_calls" and "north" not in json.dumps(records)


def test_identifiers_in_arguments_are_the_asker_s_own_under_mask(echo, boss, neighbour):
    boss.put("/v1/guard/workspaces/tool-ward", json={"policy": "mask"})
    boss.put("/v1/guard/members/toolmaker", json={"workspace": "tool-ward"})
    note = "Write to Mrs. Hannah Okafor, MRN 48213377."
    request = asked(note, tools=[tool("write", {"type": "object"})], model="neighbour")
    try:
        whole = echo.chat.completions.create(**request)
        events = list(echo.chat.completions.create(**request, stream=True))
    finally:
        boss.put("/v1/guard/members/toolmaker", json={"workspace": "default"})
    told = neighbour.asked[-1]
    assert "48213377" not in json.dumps(told) and told["tools"][0]["function"]["name"] == "write"
    assert said_calls(whole.choices[0].message) == [("write", {"text": note})] and whole.guard["prompt"]["MRN"] == 1
    assert whole.choices[0].message.tool_calls[0].id == "call_there"
    calls = [call for event in events if event.choices for call in event.choices[0].delta.tool_calls or ()]
    assert [json.loads(call.function.arguments) for call in calls] == [{"text": note}]
    assert events[-1].choices[0].finish_reason == "tool_calls"


# Responses


def response_tool(**more) -> dict:
    return {"type": "function", "name": "free_beds", "parameters": WHEN, "strict": True, **more}


def test_response_has_calls_as_items_and_takes_their_results(echo):
    request = {"model": "tiny-writer", "tools": [response_tool()], "max_output_tokens": 4000}
    first = echo.responses.create(input=f"Let me look.\n{CALL}", **request)
    message, call = first.output
    assert first.status == "completed" and message.type == "message" and first.output_text.endswith("Let me look.")
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "free_beds", json.loads(ARGUMENTS))
    assert first.tools[0].name == "free_beds" and first.tool_choice == "auto"
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "three are free"}
    items = [{"role": "user", "content": "Is one free?"}, *first.output, result]
    after = echo.responses.create(input=items, **request | {"tool_choice": "none"})
    assert "three are free" in after.output_text and after.output_text.count('"arguments": {"ward": "north"') == 1


def test_streamed_response_has_the_events_of_a_call(echo):
    request = {
        "model": "tiny-writer",
        "tools": [response_tool()],
        "max_output_tokens": 4000,
        "input": CALL + "\n" + CALL,
    }
    events = list(echo.responses.create(**request, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert [json.loads(event.arguments) for event in done] == [json.loads(ARGUMENTS)] * 2
    assert [event.output_index for event in done] == [1, 2] and done[0].name == "free_beds"
    last = events[-1].response
    assert [item.type for item in last.output] == ["message", "function_call", "function_call"]
    with echo.responses.stream(**request) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert [item.name for item in final.output[1:]] == ["free_beds", "free_beds"]
    assert final.output[1].parsed_arguments == json.loads(ARGUMENTS)


def test_response_must_call_what_is_named(client, model):
    choice = {"type": "function", "name": "free_beds"}
    request = {"model": model, "input": "Is one free?", "tools": [response_tool()], "tool_choice": choice}
    answer = client.responses.create(**request, parallel_tool_calls=False, max_output_tokens=400)
    (call,) = answer.output
    assert json.loads(call.arguments)["ward"] in ("north", "south") and answer.parallel_tool_calls is False
    events = list(client.responses.create(**request, max_output_tokens=400, stream=True))
    added = next(event for event in events if event.type == "response.output_item.added")
    assert added.item.type == "function_call" and added.output_index == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [response_tool(name="a b")]}, "name"),
        ({"tools": [response_tool(parameters=CIRCLE)]}, "itself"),
        ({"input": [{"type": "function_call", "call_id": "x"}]}, "function_call"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "function_call_output"),
        ({"tool_choice": {"type": "function", "name": "nobody"}}, "not offered"),
    ],
)
def test_response_refuses_tools_with_the_reason(client, model, change, words):
    request = {"model": model, "input": "hello", "tools": [response_tool()], **change}
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**request)
    assert words in f"{refused.value.body.get('message')} {refused.value.body.get('hint')}"
