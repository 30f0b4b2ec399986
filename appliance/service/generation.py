"""Asking a model that writes: recorded when it is accepted, released piece by piece as each piece is recorded.

    wanted = Wanted("qwen3-4b", GenerationRequest(prompt, principal.id))
    released = await generate(appliance, principal, wanted)                # Released[Written]: the whole answer
    async for released in stream(appliance, principal, wanted):            # Released[Piece], at last Released[Finish]
        ...

The order of the steps is this module's rule. Everything that can be refused for what it is, is refused before the
first piece; a client that goes away cancels the answer within one step of the model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.audit.gate import Released
from appliance.config import GenerationConfig, LimitsConfig
from appliance.engine.generation.client import GenerationStream
from appliance.engine.generation.loaded import LoadedModels, ModelFile
from appliance.engine.generation.sampling import check_request
from appliance.engine.generation.values import Chunk, Finish, GenerationRequest, Message, TokenLogprob
from appliance.errors import InputTooLong
from appliance.service.appliance import Appliance
from appliance.service.exchange import Exchange, StreamEnd, recorded_exchange, stream_exchange
from appliance.service.models import library_of
from appliance.service.subjects import check_subject
from appliance.specialists.language_models.library import ModelEntry
from appliance.types import AttributeValue, Principal

EVENT = "model.generate"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request. `model`: an id of the library. `subject`: whom the conversation is about, as everywhere."""

    model: str
    request: GenerationRequest
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A whole answer. `logprobs` None: nobody asked."""

    text: str
    finish: Finish
    logprobs: tuple[TokenLogprob, ...] | None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer that is being written. `logprobs` None: nobody asked."""

    text: str
    logprobs: tuple[TokenLogprob, ...] | None


async def generate(appliance: Appliance, principal: Principal, wanted: Wanted) -> Released[Written]:
    """The whole answer, under one closing record. Every exit after the first line leaves exactly one.

    Raises `PermissionDenied`, `InvalidRequest` and its kinds, `ModelNotFound`, `ModelFileRefused`, `QueueFull`,
    `EngineUnavailable`, `DeadlineExceeded`, `AuditUnavailable` (nothing is released).
    """
    async with recorded_exchange(appliance.audit, principal, EVENT, dict(appliance.process)) as exchange:
        entry = await _admit(appliance, principal, wanted, exchange)
        await exchange.open(request_content(wanted.request), _about(entry, wanted))
        async with (
            _writers(appliance).lease(_file(entry)) as generator,
            await generator.generate(wanted.request) as chunks,
        ):
            answer = await _collected(chunks, wanted.request)
        said = {"finish": answer.finish.reason, **_figures(answer.finish)}
        return await exchange.close(answer, answer_content(answer), said)


async def stream(
    appliance: Appliance, principal: Principal, wanted: Wanted
) -> AsyncGenerator[Released[Piece] | Released[Finish], None]:
    """The answer as it is written: each piece leaves after its record. Raises as `generate`, before the first piece.

    A consumer that stops early MUST close it; the exchange is then recorded as cancelled.
    """
    async with recorded_exchange(appliance.audit, principal, EVENT, dict(appliance.process)) as exchange:
        entry = await _admit(appliance, principal, wanted, exchange)
        writing = _Writing(appliance, entry, wanted)
        opened = stream_exchange(
            exchange,
            request_content(wanted.request),
            _about(entry, wanted),
            writing.windows(),
            writing.closing,
            read=writing.read,
            ended=writing.ended,
        )
        async with aclosing(opened):  # type: ignore[type-var]  # an asynchronous generator, as its rule of closing says
            async for released in opened:
                yield released


async def _admit(appliance: Appliance, principal: Principal, wanted: Wanted, exchange: Exchange) -> ModelEntry:
    """Everything that can be refused before a model is asked."""
    authorize(principal, Action.SPECIALIST_RUN)
    check_length(wanted.request, appliance.config.limits)
    check_request(wanted.request)
    exchange.subject = check_subject(wanted.subject)
    return await asyncio.to_thread(library_of(appliance.config).get, wanted.model)


def check_length(request: GenerationRequest, limits: LimitsConfig) -> None:
    """Refuse a prompt beyond the site's bound on texts. Raises `InputTooLong`."""
    if isinstance(request.prompt, str):
        chars = len(request.prompt)
    else:
        chars = sum(len(turn.content) for turn in request.prompt if isinstance(turn, Message))
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
    }
    return msgspec.json.encode(
        {name: value for name, value in body.items() if value not in (None, (), [])}, order="sorted"
    )


def answer_content(answer: Written) -> bytes:
    """The answer as it is sealed into the record: its text, or JSON where probabilities leave with it."""
    return _encoded(answer.text, answer.logprobs)


@dataclass(slots=True)
class _Writing:
    """One streamed answer: what is known of it once it is complete. Owned by the task that serves it."""

    appliance: Appliance
    entry: ModelEntry
    wanted: Wanted
    finish: Finish | None = field(default=None, init=False)

    async def windows(self) -> AsyncGenerator[bytes, None]:
        """The pieces as they are recorded: what came since the last one, the first at once."""
        config, request = self.appliance.config.generation, self.wanted.request
        async with (
            _writers(self.appliance).lease(_file(self.entry)) as generator,
            await generator.generate(request) as chunks,
        ):
            async for chunk in _gathered(chunks, config):
                self.finish = chunk.finish
                if chunk.text or (request.logprobs is not None and chunk.logprobs):
                    yield _encoded(chunk.text, chunk.logprobs if request.logprobs is not None else None)

    def closing(self) -> dict[str, AttributeValue]:
        """For the record that closes the exchange."""
        assert self.finish is not None, "a stream of the engine ends with a reason or raises"
        return {"finish": self.finish.reason, **_figures(self.finish)}

    def read(self, window: bytes) -> Piece:
        """What leaves is read back from what was recorded, so it cannot be anything else."""
        if self.wanted.request.logprobs is None:
            return Piece(window.decode(), None)
        recorded = msgspec.json.decode(window, type=_WithLogprobs)
        return Piece(recorded.text, recorded.logprobs)

    def ended(self, _end: StreamEnd) -> Finish:
        """What leaves at last."""
        assert self.finish is not None, "a stream of the engine ends with a reason or raises"
        return self.finish


async def _gathered(chunks: GenerationStream, config: GenerationConfig) -> AsyncIterator[Chunk]:
    """Chunks joined until there are enough tokens or enough time has passed: one record each, not one a token."""
    held: list[Chunk] = []
    last = float("-inf")
    async for chunk in chunks:
        held.append(chunk)
        due = time.monotonic() - last >= config.window_s or sum(each.tokens for each in held) >= config.window_tokens
        if due or chunk.finish is not None:
            yield _joined(held)
            held, last = [], time.monotonic()


async def _collected(chunks: GenerationStream, request: GenerationRequest) -> Written:
    whole = _joined([chunk async for chunk in chunks])
    assert whole.finish is not None, "a stream of the engine ends with a reason or raises"
    return Written(whole.text, whole.finish, whole.logprobs if request.logprobs is not None else None)


def _joined(chunks: list[Chunk]) -> Chunk:
    logprobs = tuple(logprob for chunk in chunks for logprob in chunk.logprobs)
    text, tokens = "".join(chunk.text for chunk in chunks), sum(chunk.tokens for chunk in chunks)
    return Chunk(text, tokens, logprobs, chunks[-1].finish)


class _WithLogprobs(msgspec.Struct, frozen=True):
    text: str
    logprobs: tuple[TokenLogprob, ...]


def _encoded(text: str, logprobs: tuple[TokenLogprob, ...] | None) -> bytes:
    return text.encode() if logprobs is None else msgspec.json.encode(_WithLogprobs(text, logprobs))


def _writers(appliance: Appliance) -> LoadedModels:
    assert appliance.writers is not None, "an opened appliance has them"
    return appliance.writers


def _file(entry: ModelEntry) -> ModelFile:
    return ModelFile(entry.id, entry.path, entry.manifest.sha256)


def _about(entry: ModelEntry, wanted: Wanted) -> dict[str, AttributeValue]:
    request = wanted.request
    about: dict[str, AttributeValue] = {
        "model": entry.id,
        "model_sha256": entry.manifest.sha256,
        "temperature": request.sampling.temperature,
    }
    if not isinstance(request.prompt, str):
        about["turns"] = len(request.prompt)
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
