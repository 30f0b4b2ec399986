"""Asking a model that writes: recorded when it is accepted, released piece by piece as each piece is recorded.

    wanted = Wanted("qwen3-4b", GenerationRequest(prompt, principal.id))
    released = await generate(appliance, principal, wanted)                # Released[Written]: the whole answer
    async for released in stream(appliance, principal, wanted):            # Released[Piece], at last Released[Ended]
        ...

The order of the steps is this module's rule. Everything that can be refused for what it is, is refused before the
first piece; a client that goes away cancels the answer within one step of the model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.audit.gate import Released
from appliance.config import GenerationConfig, LimitsConfig
from appliance.engine.generation.client import GenerationStream
from appliance.engine.generation.loaded import LoadedModels, ModelFile
from appliance.engine.generation.sampling import check_request
from appliance.engine.generation.upstream import UpstreamGenerator, UpstreamStream
from appliance.engine.generation.values import Chunk, Finish, GenerationRequest, Message, TokenLogprob, ToolCall
from appliance.errors import InputTooLong
from appliance.service.appliance import Appliance
from appliance.service.exchange import Exchange, StreamEnd, recorded_exchange, stream_exchange
from appliance.service.guard import Guard, GuardReport, guard_rule
from appliance.service.models import library_of
from appliance.service.shortening import accepted, within_chars
from appliance.service.subjects import check_subject
from appliance.specialists.language_models.library import ModelEntry
from appliance.types import AttributeValue, Principal

EVENT = "model.generate"
Chunks = GenerationStream | UpstreamStream


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request. `model`: an id of the library. `subject`: whom the conversation is about, as everywhere.

    `routed`: how the router came to this model, for the records. `may_shorten`: the oldest turns of a conversation
    that does not fit are left out (`service/shortening.py`); otherwise it is refused.
    """

    model: str
    request: GenerationRequest
    subject: str = ""
    routed: tuple[tuple[str, AttributeValue], ...] = ()
    may_shorten: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """A whole answer. `logprobs` None: nobody asked. `guard` None: the policy looks for nothing."""

    text: str
    finish: Finish
    logprobs: tuple[TokenLogprob, ...] | None
    guard: GuardReport | None = None
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended(Finish):
    """The end of a streamed answer. `guard` None: the policy looks for nothing. `left_out`: turns, the oldest."""

    guard: GuardReport | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer that is being written. `logprobs` None: nobody asked."""

    text: str
    logprobs: tuple[TokenLogprob, ...] | None
    calls: tuple[ToolCall, ...] = ()


async def generate(appliance: Appliance, principal: Principal, wanted: Wanted) -> Released[Written]:
    """The whole answer, under one closing record. Every exit after the first line leaves exactly one.

    Raises `PermissionDenied`, `InvalidRequest` and its kinds, `ModelNotFound`, `ModelFileRefused`, `QueueFull`,
    `EngineUnavailable`, `DeadlineExceeded`, `GuardUnavailable`, `AuditUnavailable` (nothing is released).
    """
    async with recorded_exchange(appliance.audit, principal, EVENT, dict(appliance.process)) as exchange:
        writer, guard = await _admit(appliance, principal, wanted, exchange)
        await exchange.open(request_content(wanted.request), _about(writer, wanted, guard))
        request = wanted.request if guard is None else await guard.screened()
        async with _answering(appliance, writer, request) as (chunks, _):
            answer = await _collected(chunks, request)
        if guard is not None:
            calls = await _screened_calls(guard, answer.calls)
            shown = await guard.feed(answer.text, final=True)
            answer = replace(answer, text=shown, calls=calls, guard=guard.report())
        said = {"finish": answer.finish.reason, **_figures(answer.finish), **_called(answer.calls)}
        return await exchange.close(answer, answer_content(answer), said)


async def stream(
    appliance: Appliance, principal: Principal, wanted: Wanted
) -> AsyncGenerator[Released[Piece] | Released[Ended], None]:
    """The answer as it is written: each piece leaves after its record. Raises as `generate`, before the first piece.

    A consumer that stops early MUST close it; the exchange is then recorded as cancelled.
    """
    left_out = 0
    if wanted.may_shorten:
        shortened = within_chars(wanted.request, appliance.config.limits.text_chars_max)
        wanted, left_out = replace(wanted, request=shortened.request), shortened.left_out
    async with recorded_exchange(appliance.audit, principal, EVENT, dict(appliance.process)) as exchange:
        writer, guard = await _admit(appliance, principal, wanted, exchange)
        writing = _Writing(appliance, writer, wanted, guard)
        writing.left_out = left_out
        opened = stream_exchange(
            exchange,
            request_content(wanted.request),
            _about(writer, wanted, guard),
            writing.windows(),
            writing.closing,
            read=writing.read,
            ended=writing.ended,
        )
        async with aclosing(opened):  # type: ignore[type-var]  # an asynchronous generator, as its rule of closing says
            async for released in opened:
                yield released


async def _admit(
    appliance: Appliance, principal: Principal, wanted: Wanted, exchange: Exchange
) -> tuple[_Writer, Guard | None]:
    """Everything that can be refused before anything runs, and the guard where the policy wants one."""
    authorize(principal, Action.SPECIALIST_RUN)
    check_request(wanted.request)
    check_length(wanted.request, appliance.config.limits)
    exchange.subject = check_subject(wanted.subject)
    upstream = None if appliance.upstreams is None else appliance.upstreams.get(wanted.model)
    entry = None if upstream else await asyncio.to_thread(library_of(appliance.config).get, wanted.model)
    rule = await guard_rule(appliance, principal)
    return _Writer(wanted.model, entry, upstream), None if rule.detector is None else Guard(
        appliance, exchange, rule, wanted.request
    )


def check_length(request: GenerationRequest, limits: LimitsConfig) -> None:
    """Refuse a prompt beyond the site's bound on texts, its tools included. Raises `InputTooLong`."""
    if isinstance(request.prompt, str):
        chars = len(request.prompt)
    else:
        turns = [turn for turn in request.prompt if isinstance(turn, Message)]
        chars = sum(len(turn.content) for turn in turns)
        more = [*(turn.fields for turn in turns if turn.fields), *request.tools]
        chars += sum(len(msgspec.json.encode(dict(one))) for one in more)
    if chars > limits.text_chars_max:
        raise InputTooLong(
            f"the prompt has {chars} characters; this site takes {limits.text_chars_max}",
            hint="shorten the conversation, or raise limits.text_chars_max in config.toml",
        )


def request_content(request: GenerationRequest) -> bytes:
    """The request as it is sealed into the record: canonical JSON of what was asked and how."""
    prompt: Any = request.prompt
    if not isinstance(prompt, str):
        prompt = [
            {"role": turn.role, "content": turn.content, **dict(turn.fields)} if isinstance(turn, Message) else turn
            for turn in prompt
        ]
    body = {
        "prompt": prompt,
        "sampling": request.sampling,
        "max_tokens": request.max_tokens,
        "stop": request.stop,
        "json_schema": request.json_schema,
        "grammar": request.grammar,
        "tools": request.tools,
        "must_call": request.must_call,
        "parallel_calls": None if request.parallel_calls else False,
    }
    return msgspec.json.encode(
        {name: value for name, value in body.items() if value not in (None, (), [])}, order="sorted"
    )


def answer_content(answer: Written) -> bytes:
    """The answer as it is sealed into the record: its text, or JSON where probabilities or calls leave with it."""
    return _encoded(answer.text, answer.logprobs, answer.calls)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Who writes: a model of this machine, or one of another server."""

    id: str
    entry: ModelEntry | None
    upstream: UpstreamGenerator | None


@asynccontextmanager
async def _answering(
    appliance: Appliance, writer: _Writer, request: GenerationRequest, may_shorten: bool = False
) -> AsyncIterator[tuple[Chunks, int]]:
    """The answer of whoever writes, and how many turns were left out for it; leaving it ends the work."""
    if writer.upstream is not None:
        async with await writer.upstream.generate(request) as chunks:
            yield chunks, 0
        return
    assert writer.entry is not None, "a writer is here or elsewhere"
    async with _writers(appliance).lease(_file(writer.entry)) as generator:
        left_out = 0
        if may_shorten:
            stream, left_out = await accepted(generator, request, appliance.config.conversations.answer_room_tokens)
        else:
            stream = await generator.generate(request)
        async with stream:
            yield stream, left_out


@dataclass(slots=True)
class _Writing:
    """One streamed answer: what is known of it once it is complete. Owned by the task that serves it."""

    appliance: Appliance
    writer: _Writer
    wanted: Wanted
    guard: Guard | None
    finish: Finish | None = field(default=None, init=False)
    calls: list[ToolCall] = field(default_factory=list, init=False)
    left_out: int = field(default=0, init=False)
    _held: list[ToolCall] = field(default_factory=list, init=False)

    async def windows(self) -> AsyncGenerator[bytes, None]:
        """The pieces as they are recorded: what came since the last one, the first at once."""
        config, request = self.appliance.config.generation, self.wanted.request
        if self.guard is not None:
            request = await self.guard.screened()
        async with _answering(self.appliance, self.writer, request, self.wanted.may_shorten) as (chunks, left_out):
            self.left_out += left_out
            async for chunk in _gathered(chunks, config):
                self.finish = chunk.finish
                if self.guard is not None:
                    chunk = await self._screened(self.guard, chunk)
                self.calls += chunk.calls
                if chunk.text or chunk.calls or (request.logprobs is not None and chunk.logprobs):
                    logprobs = chunk.logprobs if request.logprobs is not None else None
                    yield _encoded(chunk.text, logprobs, chunk.calls, structured=bool(request.tools))

    async def _screened(self, guard: Guard, chunk: Chunk) -> Chunk:
        """What may be shown of it. Calls come last: none leaves before the text that a guard still looks at."""
        self._held += await _screened_calls(guard, chunk.calls)
        final = chunk.finish is not None
        shown = await guard.feed(chunk.text, final=final)
        return replace(chunk, text=shown, calls=tuple(self._held) if final else ())

    def closing(self) -> dict[str, AttributeValue]:
        """For the record that closes the exchange."""
        assert self.finish is not None, "a stream of the engine ends with a reason or raises"
        left_out: dict[str, AttributeValue] = {"turns_left_out": self.left_out} if self.left_out else {}
        return {"finish": self.finish.reason, **_figures(self.finish), **_called(self.calls), **left_out}

    def read(self, window: bytes) -> Piece:
        """What leaves is read back from what was recorded, so it cannot be anything else."""
        if self.wanted.request.logprobs is None and not self.wanted.request.tools:
            return Piece(window.decode(), None)
        recorded = msgspec.json.decode(window, type=_Structured)
        asked = self.wanted.request.logprobs is not None
        return Piece(recorded.text, recorded.logprobs if asked else None, recorded.calls)

    def ended(self, _end: StreamEnd) -> Ended:
        """What leaves at last."""
        finish = self.finish
        assert finish is not None, "a stream of the engine ends with a reason or raises"
        report = None if self.guard is None else self.guard.report()
        return Ended(finish.reason, finish.usage, finish.stop_text, report, self.left_out)


async def _gathered(chunks: Chunks, config: GenerationConfig) -> AsyncIterator[Chunk]:
    """Chunks joined until there are enough tokens or enough time has passed: one record each, not one a token."""
    held: list[Chunk] = []
    last = float("-inf")
    async for chunk in chunks:
        held.append(chunk)
        due = time.monotonic() - last >= config.window_s or sum(each.tokens for each in held) >= config.window_tokens
        if due or chunk.finish is not None:
            yield _joined(held)
            held, last = [], time.monotonic()


async def _collected(chunks: Chunks, request: GenerationRequest) -> Written:
    whole = _joined([chunk async for chunk in chunks])
    assert whole.finish is not None, "a stream of the engine ends with a reason or raises"
    logprobs = whole.logprobs if request.logprobs is not None else None
    return Written(whole.text, whole.finish, logprobs, calls=whole.calls)


def _joined(chunks: list[Chunk]) -> Chunk:
    logprobs = tuple(logprob for chunk in chunks for logprob in chunk.logprobs)
    text, tokens = "".join(chunk.text for chunk in chunks), sum(chunk.tokens for chunk in chunks)
    return Chunk(text, tokens, logprobs, chunks[-1].finish, tuple(call for chunk in chunks for call in chunk.calls))


async def _screened_calls(guard: Guard, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
    return tuple([replace(call, arguments=await guard.screened_arguments(call.arguments)) for call in calls])


def _called(calls: Sequence[ToolCall]) -> dict[str, AttributeValue]:
    """Which tools are called, for the envelope: offered names, never arguments."""
    if not calls:
        return {}
    return {"tool_calls": len(calls), "tools_called": ",".join(sorted({call.name for call in calls}))}


class _Structured(msgspec.Struct, frozen=True, omit_defaults=True):
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    calls: tuple[ToolCall, ...] = ()


def _encoded(
    text: str,
    logprobs: tuple[TokenLogprob, ...] | None,
    calls: tuple[ToolCall, ...] = (),
    *,
    structured: bool = False,
) -> bytes:
    """A part of an answer as it is recorded: its text, or JSON where more leaves with it."""
    if logprobs is None and not calls and not structured:
        return text.encode()
    return msgspec.json.encode(_Structured(text, logprobs or (), calls))


def _writers(appliance: Appliance) -> LoadedModels:
    assert appliance.writers is not None, "an opened appliance has them"
    return appliance.writers


def _file(entry: ModelEntry) -> ModelFile:
    return ModelFile(entry.id, entry.path, entry.manifest.sha256)


def _about(writer: _Writer, wanted: Wanted, guard: Guard | None) -> dict[str, AttributeValue]:
    request = wanted.request
    which = {"upstream": True} if writer.entry is None else {"model_sha256": writer.entry.manifest.sha256}
    about: dict[str, AttributeValue] = {
        "model": writer.id,
        **which,
        "temperature": request.sampling.temperature,
        **dict(wanted.routed),
        **(guard.rule.attributes() if guard is not None else {}),
    }
    if not isinstance(request.prompt, str):
        about["turns"] = len(request.prompt)
    if request.tools:
        about["tools"] = len(request.tools)
    if request.max_tokens is not None:
        about["max_tokens"] = request.max_tokens
    if request.sampling.seed is not None:
        about["seed"] = request.sampling.seed
    return about


def _figures(finish: Finish) -> dict[str, AttributeValue]:
    usage = finish.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "reused_tokens": usage.reused_tokens,
        "completion_tokens": usage.generated_tokens,
    }
