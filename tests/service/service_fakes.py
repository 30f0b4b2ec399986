"""A log in memory and an engine that can be told to fail: hand-written stand-ins with the real signatures."""

import asyncio
from collections.abc import Callable

import numpy as np

from appliance.errors import AuditUnavailable
from appliance.types import AuditEvent, Receipt


class MemoryLog:
    """Keeps what is appended. `fail_at` names appends (0 is the first) that cannot be recorded."""

    def __init__(self, fail_at: frozenset[int] = frozenset()) -> None:
        self.events: list[AuditEvent] = []
        self.attempts = 0
        self.fail_at = fail_at
        self.alive = True

    async def append(self, event: AuditEvent) -> Receipt:
        attempt, self.attempts = self.attempts, self.attempts + 1
        await asyncio.sleep(0)  # a real append always lets other tasks run
        if attempt in self.fail_at:
            raise AuditUnavailable("the log in memory was told to fail")
        self.events.append(event)
        seq = len(self.events) - 1
        return Receipt(event.record_id, seq, bytes(32), seq + 1, (), "test/log\n1\n\n")

    def outcomes(self) -> list[str]:
        return [event.outcome for event in self.events]


class ScriptedEngine:
    """Zero logits of the right shape, unless told to raise or to wait."""

    def __init__(
        self,
        columns: int = 39,
        *,
        on_load: Callable[[], None] = lambda: None,
        on_encode: Callable[[], None] = lambda: None,
        waiting: asyncio.Event | None = None,
    ) -> None:
        self.columns = columns
        self.on_load = on_load
        self.on_encode = on_encode
        self.waiting = waiting
        self.encoded = 0

    async def load(self, adapter) -> None:
        self.on_load()

    async def encode(self, key, inputs, *, deadline_s=None):
        self.encoded += 1
        self.on_encode()
        if self.waiting is not None:
            self.waiting.set()
            await asyncio.Event().wait()
        return [np.zeros((len(item.token_ids), self.columns), np.float32) for item in inputs]
