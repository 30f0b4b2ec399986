"""The tools that a request offers to a model: what they may be, and how they reach its chat template. Pure.

    check_tools(request)                         # InvalidRequest names the tool and what is wrong with it
    call_grammar(request, "hermes")              # GBNF where the answer must be a call, else None
    turns_for("hermes", chat, tools)             # the conversation and the tools as the model's template takes them

A tool is a mapping as OpenAI's chats have it: `{"type": "function", "function": {"name": …, "parameters": …}}`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from appliance.engine.generation.grammar import CallForm, grammar_of_calls, grammar_of_schema
from appliance.engine.generation.values import GenerationRequest
from appliance.errors import InputTooLong, InvalidRequest

TOOLS_MAX = 128
TOOL_CHARS_MAX = 64 * 1024
TOOLS_CHARS_MAX = 256 * 1024
DEPTH_MAX = 24
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # in the text of JSON
_MISTRAL_ID = re.compile(r"[a-zA-Z0-9]{9}")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_INSTRUCTIONS = """You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def check_tools(request: GenerationRequest) -> None:
    """Raise `InvalidRequest` or a narrower class for tools that could not be offered or called."""
    if len(request.tools) > TOOLS_MAX:
        raise InputTooLong(
            f"there are {len(request.tools)} tools; at most {TOOLS_MAX} may be offered", hint="offer fewer tools"
        )
    seen: set[str] = set()
    chars = 0
    for tool in request.tools:
        name = _checked_name(tool)
        if name in seen:
            raise InvalidRequest(f"the tool {name!r} is offered twice", hint="give each tool a name of its own")
        seen.add(name)
        chars += _check_size(name, tool)
        _check_parameters(name, tool["function"])
    if chars > TOOLS_CHARS_MAX:
        raise InputTooLong(
            f"the tools have {chars} characters; {TOOLS_CHARS_MAX} are taken", hint="offer fewer or smaller tools"
        )
    if not set(request.must_call) <= seen:
        raise InvalidRequest("tool_choice names a tool that is not offered", hint="put it into tools, or name another")
    if request.tools and request.grammar is not None:
        raise InvalidRequest("a request has either a grammar or tools, not both")


def parameters_of(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The schema of the arguments of each tool, by name."""
    return {tool["function"]["name"]: tool["function"].get("parameters") or _NO_ARGUMENTS for tool in tools}


def strict_parameters(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any] | None]:
    """The same for tools whose arguments always fit; None for the others, which take what the model writes."""
    strict = {tool["function"]["name"] for tool in tools if tool["function"].get("strict")}
    return {name: schema if name in strict else None for name, schema in parameters_of(tools).items()}


def call_grammar(request: GenerationRequest, form: CallForm) -> str | None:
    """The grammar of an answer that must be a call, or may be one beside a schema; None: the model is free."""
    parameters = parameters_of(request.tools)
    if request.must_call:
        called = {name: schema for name, schema in parameters.items() if name in request.must_call}
        return grammar_of_calls(called, form, parallel=request.parallel_calls)
    if request.tools and request.json_schema is not None:
        return grammar_of_calls(parameters, form, parallel=request.parallel_calls, answer=request.json_schema)
    return None


def turns_for(
    form: CallForm | None, chat: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[Mapping[str, Any]]]:
    """The conversation and the tools for the template. `form` None: it knows no tools, so they are told in words."""
    if form is None:
        turns = [_in_words(turn) for turn in chat]
        return _instructed(turns, tools) if tools else turns, []
    return [_with_objects(turn, form) for turn in chat], list(tools)


def without_system(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """The conversation for a template that takes no turn of the system: the user's says it. None: it has none."""
    if len(turns) < 2 or turns[0]["role"] != "system" or turns[1]["role"] != "user":
        return None
    told = f"{turns[0]['content']}\n\n{turns[1]['content']}"
    return [{**turns[1], "content": told}, *map(dict, turns[2:])]


class _Arguments(dict[str, Any]):
    """The arguments of an earlier call. Templates take them as a mapping, or put them beside texts as they are."""

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False)

    def __add__(self, other: Any) -> str:
        return str(self) + other if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> str:
        return other + str(self) if isinstance(other, str) else NotImplemented

    @classmethod
    def of(cls, text: Any) -> Self | Any:
        """Of a text that is a JSON object; anything else stays what it is."""
        try:
            parsed = json.loads(text) if isinstance(text, str) else text
        except (ValueError, RecursionError):
            return text
        return cls(parsed) if isinstance(parsed, dict) else text


def _with_objects(turn: Mapping[str, Any], form: CallForm) -> dict[str, Any]:
    made = dict(turn)
    if turn.get("tool_calls"):
        made["tool_calls"] = [
            {**call, "id": _id_for(form, call.get("id")), "function": _function(call)} for call in turn["tool_calls"]
        ]
    if "tool_call_id" in turn:
        made["tool_call_id"] = _id_for(form, turn["tool_call_id"])
    return made


def _function(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    return {**function, "arguments": _Arguments.of(function.get("arguments", "{}"))}


def _id_for(form: CallForm, call_id: Any) -> Any:
    """Mistral's templates take ids of nine letters and digits only; any other id always becomes the same such one."""
    if form != "mistral" or not isinstance(call_id, str) or _MISTRAL_ID.fullmatch(call_id):
        return call_id
    digest = hashlib.sha256(call_id.encode(errors="replace")).digest()
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in digest[:9])


def _in_words(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn for a template that knows roles and contents only."""
    role, content = turn.get("role"), turn.get("content") or ""
    if role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    calls = "".join(
        "\n<tool_call>\n"
        + json.dumps({"name": function.get("name"), "arguments": function["arguments"]}, ensure_ascii=False)
        + "\n</tool_call>"
        for function in map(_function, turn.get("tool_calls") or ())
    )
    return {"role": role, "content": f"{content}{calls}".lstrip("\n") if calls else content}


def _instructed(turns: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    told = _INSTRUCTIONS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    if turns and turns[0]["role"] == "system":
        return [{"role": "system", "content": f"{turns[0]['content']}\n\n{told}"}, *turns[1:]]
    return [{"role": "system", "content": told}, *turns]


def _checked_name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, Mapping):
        raise InvalidRequest("a tool is no function", hint="only tools of the type 'function' are understood here")
    name = function.get("name")
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise InvalidRequest(
            "a tool has a name that is none", hint="1 to 64 letters of a to z, digits, hyphens and underscores"
        )
    return name


def _check_size(name: str, tool: Mapping[str, Any]) -> int:
    try:
        text = json.dumps(tool, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(
            f"the tool {name!r} holds something that is no JSON value, or is nested without end", hint="make it flatter"
        ) from None
    if len(text) > TOOL_CHARS_MAX:
        raise InputTooLong(
            f"the tool {name!r} has {len(text)} characters; {TOOL_CHARS_MAX} are taken", hint="shorten its schema"
        )
    if NUL.search(text):
        raise InvalidRequest(f"the tool {name!r} holds a NUL character", hint="take it out")
    return len(text)


def _check_parameters(name: str, function: Mapping[str, Any]) -> None:
    parameters, description = function.get("parameters"), function.get("description")
    if not isinstance(description, str | None):
        raise InvalidRequest(f"the description of the tool {name!r} is no text")
    if parameters is None:
        return
    place = f"the parameters of the tool {name!r}"
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise InvalidRequest(f"{place} are no schema of the type 'object'", hint="set type to 'object'")
    if function.get("strict"):
        try:
            grammar_of_schema(parameters)
        except InvalidRequest as error:
            raise InvalidRequest(
                f"{place} cannot be enforced, as strict asks for: {error.message}",
                hint="change them, or leave strict out",
            ) from None
    _Walk(parameters, place).follow(parameters, (), 0)


class _Walk:
    """Through every part of a schema, following references: what never ends is found before a model reads it."""

    def __init__(self, root: Mapping[str, Any], place: str) -> None:
        self._root, self._place = root, place
        self._known: set[str] = set()  # references that were followed to their end

    def follow(self, value: Any, open_refs: tuple[str, ...], depth: int) -> None:
        if depth > DEPTH_MAX:
            raise InvalidRequest(f"{self._place} are nested more than {DEPTH_MAX} deep", hint="make them flatter")
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        reference = value.get("$ref") if isinstance(value, Mapping) else None
        if isinstance(reference, str):
            self._refer(reference, open_refs, depth)
        for part in parts:
            self.follow(part, open_refs, depth + 1)

    def _refer(self, reference: str, open_refs: tuple[str, ...], depth: int) -> None:
        if reference in open_refs:
            raise InvalidRequest(
                f"{self._place} refer to themselves at {reference[:80]!r}; recursive schemas are not taken",
                hint="write out as many levels as are needed",
            )
        if reference in self._known:
            return
        target: Any = self._root
        for part in filter(None, reference.lstrip("#").strip("/").split("/")):
            step = part.replace("~1", "/").replace("~0", "~")
            target = target.get(step) if isinstance(target, Mapping) else None
        if not reference.startswith("#") or target is None:
            raise InvalidRequest(f"{self._place} refer to nothing at {reference[:80]!r}", hint="refer to #/$defs/…")
        self.follow(target, (*open_refs, reference), depth + 1)
        self._known.add(reference)
