"""What a caller of generation hands in and gets back. Frozen; rooms above pass them on as they are.

request = GenerationRequest(prompt=(Message("user", "What is a holdout?"),), principal="user:7", max_tokens=200)
Chunk(text="A set", tokens=2)                              # and at last one with `finish`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. `fields` is what else the model's template may ask for (name, tool_calls, tool_call_id)."""

    role: str
    content: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; the bounds are in `sampling.py`. Temperature 0 takes the likeliest.

    `top_k` 0: all; `top_p` 1 and `min_p` 0: off; penalties 1 and 0: off. The same `seed` gives the same answer; None
    draws one.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer to be generated.

    `prompt`: a chat (rendered with the model's own template), a text, or token ids. `principal` is for fair shares.
    `max_tokens` None: until the model ends or its context is full. `stop`: texts that end the answer and are not part
    of it. `logprobs`: None for none, else how many alternatives beside the chosen token. At most one of `grammar`
    (GBNF with a rule `root`) and `json_schema`. `adapter` was loaded before. `tools` are offered to the model
    (`tools.py`); `must_call`: names of those of which the answer must call one; without `parallel_calls`, at most one.
    """

    prompt: tuple[Message, ...] | str | tuple[int, ...]
    principal: str
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    grammar: str | None = None
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    must_call: tuple[str, ...] = ()
    parallel_calls: bool = True
    adapter: str | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of an offered tool, for the client to make. `arguments`: the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token with its natural log-probability before any sampling parameter, and the likeliest ones.

    `text` of a token that is part of a character holds U+FFFD; `data` is exact.
    """

    text: str
    data: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompt, how many of those were reused from a prefix, and tokens generated (the end token too)."""

    prompt_tokens: int
    reused_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Why an answer is complete. `stop`: the model ended it, or one of the stop texts, which is named; `tool_calls`:
    it calls tools, and goes on once their results are sent."""

    reason: FinishReason
    usage: Usage
    stop_text: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer: whole characters, never a part of a stop text. `finish` is set on the last one only.

    `calls` are whole, and are not part of the text.
    """

    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    calls: tuple[ToolCall, ...] = ()
