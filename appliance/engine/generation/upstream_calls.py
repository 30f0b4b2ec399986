"""Tools on their way to another server that speaks OpenAI's API, and its calls on their way back. Pure.

tool_options(request)                        # {"tools": […], "tool_choice": "auto", …}; {} without tools
calls = PiecedCalls(request)
calls.take(delta["tool_calls"])              # fragments, by index; ValueError for what is none
calls.finished()                             # (calls of offered tools, the text of any others)
"""

from __future__ import annotations

import json
import re
from typing import Any

from appliance.engine.generation.calls import CALLS_MAX, new_call_id
from appliance.engine.generation.schema_check import fits
from appliance.engine.generation.tools import strict_parameters
from appliance.engine.generation.values import GenerationRequest, Message, ToolCall

_ID = re.compile(r"[!-~]{1,64}")


def tool_options(request: GenerationRequest) -> dict[str, Any]:
    """What a request's body says of tools."""
    if not request.tools:
        return {}
    options: dict[str, Any] = {"tools": [dict(tool) for tool in request.tools]}
    if len(request.must_call) == 1:
        options["tool_choice"] = {"type": "function", "function": {"name": request.must_call[0]}}
    elif request.must_call:
        options["tool_choice"] = "required"
    return options if request.parallel_calls else options | {"parallel_tool_calls": False}


def turn_body(turn: Message) -> dict[str, Any]:
    """A message as that API takes it: beside calls an empty content is none."""
    content = None if turn.fields.get("tool_calls") and not turn.content else turn.content
    return {**turn.fields, "role": turn.role, "content": content}


class PiecedCalls:
    """The calls of one answer, as their fragments arrive."""

    def __init__(self, request: GenerationRequest) -> None:
        self._offered, self._parallel = strict_parameters(request.tools), request.parallel_calls
        self._pieces: dict[int, dict[str, str]] = {}

    def take(self, fragments: Any) -> None:
        """Fragments of one event. Raises `ValueError`, `TypeError` or `KeyError` for what is none."""
        for fragment in fragments or ():
            index = fragment["index"]
            if not isinstance(index, int) or not 0 <= index < CALLS_MAX:
                raise ValueError("a call has no usable index")
            piece = self._pieces.setdefault(index, {"id": "", "name": "", "arguments": ""})
            function = fragment.get("function") or {}
            for name, value in (("id", fragment.get("id")), *((n, function.get(n)) for n in ("name", "arguments"))):
                if value is not None and not isinstance(value, str):
                    raise ValueError(f"the {name} of a call is no text")
                piece[name] = piece[name] + (value or "") if name == "arguments" else piece[name] or value or ""

    def finished(self) -> tuple[tuple[ToolCall, ...], str]:
        """The calls, and the text of what is none: a tool that was not offered, arguments that are no JSON object."""
        calls: list[ToolCall] = []
        text = ""
        for _, piece in sorted(self._pieces.items()):
            if not self._is_call(piece):
                text += json.dumps({"name": piece["name"], "arguments": piece["arguments"]}, ensure_ascii=False)
            elif self._parallel or not calls:
                call_id = piece["id"] if _ID.fullmatch(piece["id"]) else new_call_id()
                calls.append(ToolCall(call_id, piece["name"], piece["arguments"] or "{}"))
        self._pieces = {}
        return tuple(calls), text

    def _is_call(self, piece: dict[str, str]) -> bool:
        if piece["name"] not in self._offered:
            return False
        try:
            piece["arguments"].encode()
            arguments = json.loads(piece["arguments"] or "{}", parse_constant=no_number)
        except (ValueError, RecursionError):
            return False
        schema = self._offered[piece["name"]]
        return isinstance(arguments, dict) and (schema is None or fits(arguments, schema))


def no_number(name: str) -> Any:
    """For `json.loads`: NaN and the infinities are Python's, not JSON's."""
    raise ValueError(f"{name} is no JSON")
