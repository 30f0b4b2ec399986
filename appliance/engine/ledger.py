"""The requests that the engine owes an answer, and what bounds them. No I/O; belongs to the engine's event loop.

ledger = Ledger(config)
request = ledger.admit(adapter, inputs, states=384)      # QueueFull, InputTooLong
ledger.answer(encoded)                                   # sets request.answer
ledger.forget(request)                                   # by whoever admitted it, in every case
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.config import EngineConfig
from appliance.engine import protocol
from appliance.engine.heads import label_count
from appliance.errors import ApplianceError, InputTooLong, InvalidRequest, QueueFull
from appliance.types import Adapter, EncodeInput

_TOKENS_PER_S_GUESS = 1000.0  # until the first answers say better
_RETRY_AFTER_S_MIN, _RETRY_AFTER_S_MAX = 0.1, 60.0


@dataclass(slots=True, eq=False)
class Request:
    """One call of `Engine.encode`. `sends` counts the workers it was given to."""

    message: protocol.Encode
    tokens: int
    answer: asyncio.Future[list[np.ndarray]]
    sends: int = 0

    @property
    def number(self) -> int:
        return self.message.request_id


class Ledger:
    """Admission, answers and the rate from which a full queue estimates its wait."""

    def __init__(self, config: EngineConfig) -> None:
        self._sequences_max = config.queue_sequences_max
        # A quarter is left for what frames a message; both directions have the same bound.
        self._payload_bytes_max = config.message_bytes_max * 3 // 4
        self._requests: dict[int, Request] = {}
        self._admitted = 0
        self._tokens_per_s = _TOKENS_PER_S_GUESS
        self._last_answer = 0.0
        self.sequences = 0
        self.tokens = 0

    def __iter__(self) -> Iterator[Request]:
        """A snapshot, oldest first."""
        return iter(list(self._requests.values()))

    def admit(self, adapter: Adapter, inputs: Sequence[EncodeInput], states: int) -> Request:
        """Register a request or refuse it by its size or by what waits already. The caller MUST `forget` it."""
        if not inputs:
            raise InvalidRequest("a request to the engine holds no sequence")
        tokens = sum(len(entry.token_ids) for entry in inputs)
        rows = tokens if adapter.head.kind == "token" else len(inputs)
        payload = 4 * max(tokens * (1 + adapter.head.feature_count), rows * label_count(adapter.head, states))
        if payload > self._payload_bytes_max or len(inputs) > self._sequences_max:
            raise InputTooLong(
                f"the text makes {len(inputs)} sequences of {tokens} tokens together, more than one request may hold",
                hint="send it in parts",
            )
        if self.sequences + len(inputs) > self._sequences_max:
            wait_s = min(max(self.tokens / self._tokens_per_s, _RETRY_AFTER_S_MIN), _RETRY_AFTER_S_MAX)
            raise QueueFull(
                f"{self.sequences} sequences wait for the engine; it may hold {self._sequences_max}",
                hint=f"try again in about {max(wait_s, 1):.0f} s",
                retry_after_s=wait_s,
            )
        if not self._requests:
            self._last_answer = time.monotonic()  # an idle time is no slow answer
        self._admitted += 1
        message = protocol.Encode(self._admitted, adapter.key, [_pack(entry) for entry in inputs])
        request = Request(message, tokens, asyncio.get_running_loop().create_future())
        self._requests[request.number] = request
        self.sequences += len(inputs)
        self.tokens += tokens
        return request

    def forget(self, request: Request) -> None:
        """Release what the request held."""
        del self._requests[request.number]
        self.sequences -= len(request.message.sequences)
        self.tokens -= request.tokens
        assert self.sequences >= 0 and self.tokens >= 0

    def answer(self, report: protocol.Encoded) -> bool:
        """Hand outputs to their request; False when it was cancelled while they were on their way."""
        request = self._requests.get(report.request_id)
        if request is None or request.answer.done():
            return False
        if len(report.outputs) != len(request.message.sequences):
            raise protocol.ProtocolError("an answer has another number of outputs than its request has sequences")
        request.answer.set_result([protocol.unpack_array(output) for output in report.outputs])
        now = time.monotonic()
        rate = request.tokens / max(now - self._last_answer, 1e-3)
        self._tokens_per_s += 0.1 * (rate - self._tokens_per_s)
        self._last_answer = now
        return True

    def refuse(self, number: int, error: ApplianceError) -> None:
        """The worker would not do this one."""
        request = self._requests.get(number)
        if request is not None:
            fail(request.answer, error)


def fail(future: asyncio.Future, error: ApplianceError) -> None:
    """End a wait with an error, unless it has ended."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # its reader may have left; asyncio would report that as a mistake


def _pack(entry: EncodeInput) -> protocol.Sequence:
    features = None if entry.features is None else protocol.pack_array(entry.features)
    return protocol.Sequence(np.ascontiguousarray(entry.token_ids, dtype="<i4").tobytes(), features)
