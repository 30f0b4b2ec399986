"""Tools and calls of tools in JSON, as the chats and the responses of OpenAI's clients share them. Pure.

    choice = tool_choice_of("required", tools)         # which tools go to the model, and which it must call
    call_body(call)                                    # {"id": …, "type": "function", "function": {…}}

What a tool's schema may be is decided where it is used: `engine/generation/tools.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from appliance.engine.generation.values import ToolCall
from appliance.errors import InvalidRequest, UnknownOption

CALLS_MAX = 128  # of one earlier answer


class CalledFunction(BaseModel):
    """Which tool an earlier answer called, and the text of the arguments."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(max_length=64)
    arguments: str


class Call(BaseModel):
    """A call of an earlier answer. Clients send it back as they got it, with members of their own beside it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(max_length=256)
    type: str = "function"
    function: CalledFunction


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The tools that the model is offered, and the names of those of which it must call one."""

    tools: tuple[Mapping[str, Any], ...] = ()
    must_call: tuple[str, ...] = ()


def tool_choice_of(choice: Any, tools: Sequence[Mapping[str, Any]]) -> ToolChoice:
    """What `tool_choice` asks for. Raises `InvalidRequest`, `UnknownOption`."""
    for tool in tools:
        if tool.get("type") != "function":
            raise InvalidRequest(
                f"tools has one of the type {str(tool.get('type'))[:32]!r}; only functions can be called from here",
                hint="offer it as a tool of the type 'function', which your program carries out",
            )
    if choice in (None, "auto"):
        return ToolChoice(tuple(tools))
    if choice == "none":
        return ToolChoice()
    if not tools:
        raise InvalidRequest("tool_choice asks for a call, and no tools are offered", hint="put them into tools")
    if choice == "required":
        return ToolChoice(tuple(tools), tuple(_name(tool) for tool in tools))
    if isinstance(choice, Mapping) and choice.get("type") == "function" and _name(choice):
        return ToolChoice(tuple(tools), (_name(choice),))
    raise UnknownOption(
        "tool_choice must be 'auto', 'none', 'required' or the name of one function",
        hint='name it as {"type": "function", "function": {"name": "…"}}',
    )


def _name(named: Mapping[str, Any]) -> str:
    """Where chats have it, or where responses have it; empty for what has none."""
    function = named.get("function", named)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""


def call_body(call: ToolCall) -> dict[str, Any]:
    """A call as a chat has it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
