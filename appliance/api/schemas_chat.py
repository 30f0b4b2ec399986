"""JSON of `/v1/chat/completions` and `/v1/completions`, as OpenAI's clients send and read it. Pure.

    body.request("user:7")                       # GenerationRequest; every refusal names the field
    chat_chunk(stream, "text")                   # one event of a stream

Fields that would change the answer and cannot be honoured are refused, never ignored: more than one choice, biases of
tokens, sound. Fields that change nothing here (`user`, `metadata`, `store: false`) are accepted and not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from appliance.api.schemas_audit import ReceiptBody
from appliance.api.schemas_tools import CALLS_MAX, Call, call_body, tool_choice_of
from appliance.engine.generation.values import Finish, GenerationRequest, Message, Sampling, TokenLogprob, ToolCall
from appliance.errors import InvalidRequest, UnknownOption

MESSAGES_MAX = 2048
STOPS_MAX = 16
# A number is a number: `true` is none, and neither is a text of digits.
Number = Annotated[float, Strict()] | None
Whole = Annotated[int, Strict()] | None


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(BaseModel):
    """A part of a message. Only text is understood here: `ChatMessage` refuses the others by their type."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    text: str | None = None


class ChatMessage(_Body):
    """One turn. `content`: a text, or parts of type `text`; null beside `tool_calls`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = Field(default=None, max_length=256)
    tool_calls: list[Call] | None = Field(default=None, max_length=CALLS_MAX)
    tool_call_id: str | None = Field(default=None, max_length=256)
    refusal: str | None = None

    def turn(self) -> Message:
        """As the engine takes it. `developer` is the newer name of `system`."""
        calls = [call.model_dump() for call in self.tool_calls] if self.tool_calls else None
        fields = {"name": self.name, "tool_calls": calls, "tool_call_id": self.tool_call_id}
        role = "system" if self.role == "developer" else self.role
        return Message(role, self._text(), {name: value for name, value in fields.items() if value is not None})

    def _text(self) -> str:
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        for part in self.content:
            if part.type != "text" or part.text is None:
                raise InvalidRequest(
                    f"a message has a part of the type {part.type[:32]!r}; only text is understood here",
                    hint="send the content as text, or as parts of type 'text'",
                )
            if part.model_extra:
                raise UnknownOption(
                    f"a part of a message has the field {min(part.model_extra)[:64]!r}, which is not known here",
                    hint="leave it out",
                )
        return "".join(part.text or "" for part in self.content)


class StreamOptions(_Body):
    """`include_usage`: one event more, with the figures and no choice."""

    include_usage: bool = False
    include_obfuscation: bool = False


class JsonSchema(_Body):
    """The schema of a structured answer. Strict or not, the answer always fits it."""

    name: str = Field(max_length=64)
    description: str | None = Field(default=None, max_length=1024)
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Body):
    """`text`, any `json_object`, or what fits a `json_schema`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_of_answer(self) -> dict[str, Any] | None:
        """The schema to be enforced, or None for text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        if self.json_schema is None or self.json_schema.schema_ is None:
            raise InvalidRequest(
                "response_format of the type json_schema has no schema",
                hint="put it at response_format.json_schema.schema",
            )
        return self.json_schema.schema_


class _Sampled(_Body):
    """What chats and completions share."""

    model: str = Field(min_length=1, max_length=96)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Whole = Field(default=None, ge=1)
    temperature: Number = Field(default=None, ge=0, le=2)
    top_p: Number = Field(default=None, gt=0, le=1)
    top_k: Whole = Field(default=None, ge=0, le=1_000_000)
    min_p: Number = Field(default=None, ge=0, le=1)
    presence_penalty: Number = Field(default=None, ge=-2, le=2)
    frequency_penalty: Number = Field(default=None, ge=-2, le=2)
    repetition_penalty: Number = Field(default=None, ge=0.1, le=10)
    seed: Whole = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    n: int | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    subject: str = Field(default="", description="whom the conversation is about; see the other routes")

    def sampling(self) -> Sampling:
        """The sampling parameters, with the defaults of OpenAI's API."""
        given = {name: getattr(self, name) for name in Sampling.__dataclass_fields__ if name != "seed"}
        return Sampling(seed=self.seed, **{name: value for name, value in given.items() if value is not None})

    def stops(self) -> tuple[str, ...]:
        """The texts that end the answer."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stops) > STOPS_MAX:
            raise InvalidRequest(f"stop has {len(stops)} texts; at most {STOPS_MAX} are taken")
        return stops

    def check_honoured(self) -> None:
        """Refuse what would change the answer and cannot be done here."""
        if self.n not in (None, 1):
            raise UnknownOption(
                "n must be 1: one answer is made for a request", hint="send the request again for another"
            )
        if self.logit_bias:
            raise UnknownOption("logit_bias is not offered here", hint="leave it out")
        if self.store:
            raise UnknownOption("store must be false: nothing is kept but the record in the log", hint="leave it out")

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the figures in an event of their own."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatCompletionRequest(_Sampled):
    """A conversation to be continued."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MESSAGES_MAX)
    max_completion_tokens: Whole = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: Whole = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None

    def request(self, principal: str) -> GenerationRequest:
        """As the engine takes it. Raises `InvalidRequest`, `UnknownOption`."""
        self.check_honoured()
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs: true", hint="set both or neither")
        choice = tool_choice_of(self.tool_choice, self.tools or ())
        return GenerationRequest(
            prompt=tuple(message.turn() for message in self.messages),
            principal=principal,
            sampling=self.sampling(),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=self.stops(),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            json_schema=self.response_format.schema_of_answer() if self.response_format else None,
            tools=choice.tools,
            must_call=choice.must_call,
            parallel_calls=self.parallel_tool_calls is not False,
        )


class CompletionRequest(_Sampled):
    """A text to be continued, without the model's chat template."""

    prompt: str
    logprobs: Whole = Field(default=None, ge=0, le=5)
    echo: bool | None = False
    best_of: int | None = None
    suffix: str | None = None

    def request(self, principal: str) -> GenerationRequest:
        """As the engine takes it. Raises `InvalidRequest`, `UnknownOption`."""
        self.check_honoured()
        if self.echo or self.suffix or self.best_of not in (None, 1):
            raise UnknownOption("echo, suffix and best_of are not offered here", hint="leave them out")
        return GenerationRequest(
            prompt=self.prompt,
            principal=principal,
            sampling=self.sampling(),
            max_tokens=self.max_tokens,
            stop=self.stops(),
            logprobs=self.logprobs,
        )


Kind = Literal["chat", "text"]


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What every event of one answer repeats. `created`: seconds since 1970."""

    kind: Kind
    id: str
    model: str
    created: int

    def fields(self, event: bool) -> dict[str, Any]:
        """The common members; `event`: of a stream."""
        kind = ("chat.completion.chunk" if event else "chat.completion") if self.kind == "chat" else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def whole_answer(
    head: AnswerHead,
    text: str,
    finish: Finish,
    logprobs: Sequence[TokenLogprob] | None,
    receipt: ReceiptBody,
    calls: Sequence[ToolCall] = (),
) -> dict[str, Any]:
    """The response of a request that does not stream."""
    reason = finish.reason
    if head.kind == "chat":
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message |= {"content": text or None, "tool_calls": [call_body(call) for call in calls]}
        choice = {"index": 0, "message": message, "logprobs": _chat_logprobs(logprobs), "finish_reason": reason}
    else:
        choice = {"index": 0, "text": text, "logprobs": _text_logprobs(logprobs), "finish_reason": reason}
    return {**head.fields(False), "choices": [choice], "usage": usage_body(finish), "receipt": receipt.model_dump()}


def piece_event(
    head: AnswerHead, text: str, logprobs: Sequence[TokenLogprob] | None = None, *, first: bool = False
) -> dict[str, Any]:
    """One event with a piece of the answer; the `first` names the role."""
    if head.kind == "chat":
        delta = ({"role": "assistant"} if first else {}) | {"content": text}
        choice = {"index": 0, "delta": delta, "logprobs": _chat_logprobs(logprobs), "finish_reason": None}
    else:
        choice = {"index": 0, "text": text, "logprobs": _text_logprobs(logprobs), "finish_reason": None}
    return {**head.fields(True), "choices": [choice]}


def calls_event(head: AnswerHead, calls: Sequence[ToolCall], index: int, *, first: bool = False) -> dict[str, Any]:
    """One event with calls, each whole, the first of them at `index` among those of the answer."""
    numbered = [{"index": number, **call_body(call)} for number, call in enumerate(calls, index)]
    delta: dict[str, Any] = ({"role": "assistant", "content": None} if first else {}) | {"tool_calls": numbered}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return {**head.fields(True), "choices": [choice]}


def last_event(
    head: AnswerHead, finish: Finish, receipt: ReceiptBody, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The event that says why the answer ended, with the receipt of the record that closes it."""
    body: dict[str, Any] = {"delta": {}} if head.kind == "chat" else {"text": ""}
    choice = {"index": 0, **body, "logprobs": None, "finish_reason": finish.reason}
    return {**head.fields(True), "choices": [choice], "receipt": receipt.model_dump(), **(extra or {})}


def usage_event(head: AnswerHead, finish: Finish) -> dict[str, Any]:
    """The event with the figures, for who asked for it."""
    return {**head.fields(True), "choices": [], "usage": usage_body(finish)}


def usage_body(finish: Finish) -> dict[str, Any]:
    """Tokens in, out, and reused from an earlier prompt."""
    usage = finish.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generated_tokens,
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.reused_tokens},
    }


def _chat_logprobs(logprobs: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    if logprobs is None:
        return None

    def entry(text: str, raw: bytes, value: float) -> dict[str, Any]:
        return {"token": text, "logprob": value, "bytes": list(raw)}

    content = [
        {**entry(token.text, token.data, token.logprob), "top_logprobs": [entry(*other) for other in token.top]}
        for token in logprobs
    ]
    return {"content": content, "refusal": None}


def _text_logprobs(logprobs: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    """The older form. Offsets of characters are left out: a token may be part of one."""
    if logprobs is None:
        return None
    return {
        "tokens": [token.text for token in logprobs],
        "token_logprobs": [token.logprob for token in logprobs],
        "top_logprobs": [{text: value for text, _, value in token.top} for token in logprobs],
    }
