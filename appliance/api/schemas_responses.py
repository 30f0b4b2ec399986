"""JSON of `/v1/responses`, as OpenAI's clients send and read it. Pure.

    body.request("user:7")                             # GenerationRequest; every refusal names the field
    events = ResponseEvents(ResponseHead.of(body, "resp_1", 1700000000))
    events.begin(); events.delta("text"); events.end(finish, receipt)      # lists of (name, data)

Nothing is kept between two requests: a conversation is sent whole, and `store` and `previous_response_id` are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.api.schemas import ReceiptBody
from appliance.api.schemas_chat import MESSAGES_MAX, Number, Whole
from appliance.api.schemas_tools import ToolChoice, call_body, tool_choice_of
from appliance.engine.generation.values import Finish, GenerationRequest, Message, Sampling, ToolCall
from appliance.errors import InvalidRequest, UnknownOption

Event = tuple[str, dict[str, Any]]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputItem(BaseModel):
    """One turn of the conversation, a call of a tool, or its result. Other kinds of items are refused by name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[dict[str, Any]] | None = None
    call_id: str | None = Field(default=None, max_length=256)
    name: str | None = Field(default=None, max_length=64)
    arguments: str | None = None
    output: str | list[dict[str, Any]] | None = None

    def turn(self) -> Message:
        """As the engine takes it. Raises `InvalidRequest`."""
        if self.type == "function_call" and self.call_id and self.name and self.arguments is not None:
            call = ToolCall(self.call_id, self.name, self.arguments)
            return Message("assistant", "", {"tool_calls": [call_body(call)]})
        if self.type == "function_call_output" and self.call_id and self.output is not None:
            return Message("tool", self._text(self.output), {"tool_call_id": self.call_id})
        if self.type != "message" or self.role is None:
            raise InvalidRequest(
                f"input has an item of the type {self.type[:32]!r} that is not understood here, or is not complete",
                hint="send messages with role and content, function_call with call_id, name and arguments, or "
                "function_call_output with call_id and output",
            )
        return Message("system" if self.role == "developer" else self.role, self._text(self.content))

    def _text(self, content: str | list[dict[str, Any]] | None) -> str:
        if content is None or isinstance(content, str):
            return content or ""
        texts = []
        for part in content:
            kind, text = part.get("type"), part.get("text")
            if kind not in ("input_text", "output_text", "text") or not isinstance(text, str):
                raise InvalidRequest(
                    f"a message has a part of the type {str(kind)[:32]!r}; only text is understood here",
                    hint="send the content as text, or as parts of type 'input_text'",
                )
            texts.append(text)
        return "".join(texts)


def turns_of(items: Sequence[InputItem]) -> list[Message]:
    """The conversation. What one answer said and called is one turn, as chats have it."""
    turns: list[Message] = []
    for item in items:
        turn = item.turn()
        if item.type == "function_call" and turns and turns[-1].role == "assistant":
            said = turns.pop()
            calls = [*said.fields.get("tool_calls", ()), *turn.fields["tool_calls"]]
            turn = Message("assistant", said.content, {"tool_calls": calls})
        turns.append(turn)
    return turns


class TextFormat(_Body):
    """`text`, any `json_object`, or what fits a `json_schema`."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = Field(default=None, max_length=64)
    description: str | None = Field(default=None, max_length=1024)
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    def schema_of_answer(self) -> dict[str, Any] | None:
        """The schema to be enforced, or None for text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        if self.schema_ is None:
            raise InvalidRequest("text.format of the type json_schema has no schema", hint="put it at .schema")
        return self.schema_


class TextConfig(_Body):
    """How the text of the answer is to be. `verbosity` asks for nothing that a model here would understand."""

    format: TextFormat = TextFormat()
    verbosity: str | None = None


class ResponsesRequest(_Body):
    """A text or a conversation to be answered."""

    model: str = Field(min_length=1, max_length=96)
    input: str | list[InputItem]
    instructions: str | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    max_output_tokens: Whole = Field(default=None, ge=1)
    temperature: Number = Field(default=None, ge=0, le=2)
    top_p: Number = Field(default=None, gt=0, le=1)
    text: TextConfig = TextConfig()
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    prompt: Any = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    max_tool_calls: int | None = None
    parallel_tool_calls: bool | None = None
    truncation: str | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    subject: str = Field(default="", description="whom the conversation is about; see the other routes")

    def request(self, principal: str) -> GenerationRequest:
        """As the engine takes it. Raises `InvalidRequest`, `UnknownOption`."""
        self._check_honoured()
        turns = [Message("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            turns.append(Message("user", self.input))
        else:
            turns += turns_of(self.input)
        if not turns or len(turns) > MESSAGES_MAX:
            raise InvalidRequest(f"input must be a text, or 1 to {MESSAGES_MAX} items")
        choice = self.choice()
        given: dict[str, Any] = {"temperature": self.temperature, "top_p": self.top_p}
        return GenerationRequest(
            prompt=tuple(turns),
            principal=principal,
            sampling=Sampling(**{name: value for name, value in given.items() if value is not None}),
            max_tokens=self.max_output_tokens,
            json_schema=self.text.format.schema_of_answer(),
            tools=choice.tools,
            must_call=choice.must_call,
            parallel_calls=self.parallel_tool_calls is not False,
        )

    def choice(self) -> ToolChoice:
        """The tools as chats have them, and which must be called. Raises `InvalidRequest`, `UnknownOption`."""
        return tool_choice_of(self.tool_choice, [_chat_tool(tool) for tool in self.tools or ()])

    def _check_honoured(self) -> None:
        """Refuse what would change the answer and cannot be done here."""
        if self.previous_response_id is not None or self.conversation is not None:
            raise UnknownOption(
                "previous_response_id and conversation are not offered: this API keeps no conversations, so that "
                "nothing of them lies about",
                hint="send the earlier turns again in input",
            )
        if self.store or self.background:
            raise UnknownOption(
                "store and background must be false: nothing is kept but the record in the log", hint="leave them out"
            )
        if self.prompt is not None:
            raise UnknownOption("prompt templates are not kept here", hint="send instructions and input")
        if self.truncation not in (None, "disabled"):
            raise UnknownOption(
                "truncation must be 'disabled': nothing of a conversation is left out unseen",
                hint="leave it out, and send fewer turns when the context is full",
            )
        if self.top_logprobs or self.include:
            raise UnknownOption(
                "include and top_logprobs are not offered by this route", hint="chat completions give logprobs"
            )


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What is known of a response before it is answered. `created`: seconds since 1970."""

    id: str
    item: str
    created: int
    said: Mapping[str, Any]

    @classmethod
    def of(cls, body: ResponsesRequest, response: str, created: int, model: str = "") -> ResponseHead:
        """For a request, with an id such as `resp_7f…`. `model`: who answers, where that was not named."""
        form = body.text.format.model_dump(by_alias=True, exclude_none=True)
        said: dict[str, Any] = {
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": model or body.model,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "text": {"format": form},
            "tool_choice": body.tool_choice or "auto",
            "tools": [{"strict": False, "parameters": None, **tool} for tool in body.tools or ()],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "user": body.user,
        }
        return cls(response, response.replace("resp_", "msg_", 1), created, said)

    def body(self, status: str, output: Sequence[Mapping[str, Any]] = (), **more: Any) -> dict[str, Any]:
        """A response as JSON in this state."""
        head = {"id": self.id, "object": "response", "created_at": self.created, "status": status}
        rest = {"error": None, "incomplete_details": None, "output": list(output), "usage": None} | more
        return {**head, **self.said, **rest}

    def complete(
        self,
        output: Sequence[Mapping[str, Any]],
        finish: Finish,
        receipt: ReceiptBody,
        extra: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The whole response; `extra` members beside those that every response has."""
        details = {"reason": "max_output_tokens"} if finish.reason == "length" else None
        more = {"usage": usage_body(finish), "receipt": receipt.model_dump(), **(extra or {})}
        return self.body(status_of(finish), output, incomplete_details=details, **more)

    def output(self, text: str, calls: Sequence[ToolCall], finish: Finish) -> list[dict[str, Any]]:
        """The items of an answer that came in one piece: what it says, then what it calls."""
        said = [self.message(text, status_of(finish))] if text or not calls else []
        return [*said, *map(call_item, calls)]

    def message(self, text: str | None, status: str) -> dict[str, Any]:
        """The item with what the answer says; `text` None: nothing yet."""
        content = [] if text is None else [text_part(text)]
        return {"id": self.item, "type": "message", "role": "assistant", "status": status, "content": content}


@dataclass(slots=True)
class ResponseEvents:
    """The events of one streamed response, numbered as they are made. Owned by the task that sends them."""

    head: ResponseHead
    text: list[str] = field(default_factory=list)
    number: int = 0
    items: list[dict[str, Any]] = field(default_factory=list)  # of the output, in their places
    said_at: int | None = None  # the place of the item with the text

    def begin(self) -> list[Event]:
        """Before anything is known of the answer."""
        started = self.head.body("in_progress")
        return [
            self._event("response.created", response=started),
            self._event("response.in_progress", response=started),
        ]

    def delta(self, text: str) -> list[Event]:
        """A piece of the text."""
        begun = self._begin_text()
        self.text.append(text)
        return [*begun, self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])]

    def called(self, calls: Sequence[ToolCall]) -> list[Event]:
        """Calls, each whole."""
        made: list[Event] = []
        for call in calls:
            item = call_item(call)
            place = {"item_id": item["id"], "output_index": len(self.items)}
            begun = item | {"status": "in_progress", "arguments": ""}
            made += [
                self._event("response.output_item.added", output_index=len(self.items), item=begun),
                self._event("response.function_call_arguments.delta", **place, delta=call.arguments),
                self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments),
                self._event("response.output_item.done", output_index=len(self.items), item=item),
            ]
            self.items.append(item)
        return made

    def end(self, finish: Finish, receipt: ReceiptBody, extra: Mapping[str, Any] | None = None) -> list[Event]:
        """After the last text, with figures and receipt."""
        made = [] if self.items else self._begin_text()
        if self.said_at is not None:
            text = "".join(self.text)
            item = self.items[self.said_at] = self.head.message(text, status_of(finish))
            made += [
                self._event("response.output_text.done", **self._place(), text=text, logprobs=[]),
                self._event("response.content_part.done", **self._place(), part=text_part(text)),
                self._event("response.output_item.done", output_index=self.said_at, item=item),
            ]
        whole = self.head.complete(self.items, finish, receipt, extra)
        return [*made, self._event(f"response.{whole['status']}", response=whole)]

    def _begin_text(self) -> list[Event]:
        if self.said_at is not None:
            return []
        self.said_at = len(self.items)
        item = self.head.message(None, "in_progress")
        self.items.append(item)
        return [
            self._event("response.output_item.added", output_index=self.said_at, item=item),
            self._event("response.content_part.added", **self._place(), part=text_part("")),
        ]

    def failed(self, code: str, message: str) -> list[Event]:
        """What went wrong after the first event."""
        response = self.head.body("failed", error={"code": code, "message": message})
        return [self._event("response.failed", response=response)]

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.head.item, "output_index": self.said_at, "content_index": 0}

    def _event(self, name: str, /, **members: Any) -> Event:
        self.number += 1
        return name, {"type": name, "sequence_number": self.number - 1, **members}


def status_of(finish: Finish) -> str:
    """Of a response that is over."""
    return "incomplete" if finish.reason == "length" else "completed"


def call_item(call: ToolCall) -> dict[str, Any]:
    """A call as an item of the output."""
    item = {"id": f"fc_{call.id.removeprefix('call_')}", "type": "function_call", "status": "completed"}
    return {**item, "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _chat_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool of this form as chats have it. What belongs to neither is left out."""
    function = {name: tool[name] for name in ("name", "description", "parameters", "strict") if name in tool}
    return {"type": tool.get("type"), "function": function}


def text_part(text: str) -> dict[str, Any]:
    """A text as a part of an item."""
    return {"type": "output_text", "text": text, "annotations": []}


def usage_body(finish: Finish) -> dict[str, Any]:
    """Tokens in, out, and reused from an earlier prompt."""
    usage = finish.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.reused_tokens},
        "output_tokens": usage.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
    }
