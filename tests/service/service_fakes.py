"""A log in memory, an engine that can be told to fail, and steps that can be held: hand-written stand-ins with the
real signatures. Everything else in the tests of this room is the real thing.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from appliance.audit.log import RecordView
from appliance.crypto.merkle import leaf_hash
from appliance.errors import AuditUnavailable
from appliance.types import AuditEvent, Outcome, Receipt
from tests.audit.audit_records import header_of


class Hold:
    """Stops a request at one named step until the test lets go, so that it is cancelled exactly there."""

    def __init__(self, step: str = "") -> None:
        self.step = step
        self.reached = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._let_go = threading.Event()
        self._let_go_here = asyncio.Event()

    async def at(self, step: str) -> None:
        """For steps that run in the loop."""
        if step == self.step:
            self.reached.set()
            await self._let_go_here.wait()

    def in_thread(self, step: str) -> None:
        """For steps that run in another thread."""
        if step == self.step:
            self._loop.call_soon_threadsafe(self.reached.set)
            assert self._let_go.wait(timeout=120)

    def let_go(self) -> None:
        self._let_go.set()
        self._let_go_here.set()


class MemoryLog:
    """Keeps what is appended. `fail_at` names appends (0 is the first) that cannot be recorded, `error` says how."""

    def __init__(
        self,
        fail_at: frozenset[int] = frozenset(),
        *,
        error: Callable[[], Exception] = lambda: AuditUnavailable("the log in memory was told to fail"),
        hold: Hold | None = None,
    ) -> None:
        self.events: list[AuditEvent] = []
        self.attempts = 0
        self.fail_at = fail_at
        self.error = error
        self.hold = hold
        self.alive = True

    async def append(self, event: AuditEvent) -> Receipt:
        attempt, self.attempts = self.attempts, self.attempts + 1
        await asyncio.sleep(0)  # a real append always lets other tasks run
        await self._hold(event, "before")
        if attempt in self.fail_at:
            raise self.error()
        self.events.append(event)
        seq = len(self.events) - 1
        await self._hold(event, "after")
        header = replace(header_of(seq), record_id=event.record_id).encode()
        return Receipt(event.record_id, seq, leaf_hash(header), seq + 1, (), "test/log\n1\n\n", header)

    def records(self, after_seq: int | None = None, limit: int = 50) -> list[RecordView]:
        """Newest first, as the real reader gives them."""
        numbered = list(enumerate(self.events))[: after_seq if after_seq is not None else None]
        return [view_of(event, seq) for seq, event in reversed(numbered)][:limit]

    def outcomes(self) -> list[str]:
        return [event.outcome for event in self.events]

    async def _hold(self, event: AuditEvent, when: str) -> None:
        names = {Outcome.ACCEPTED: "opening", Outcome.COMPLETED: "closing"}
        if self.hold is not None and event.outcome in names:
            await self.hold.at(f"{when} {names[event.outcome]}")


def view_of(event: AuditEvent, seq: int) -> RecordView:
    """An event as it is read back."""
    return RecordView(
        seq=seq,
        record_id=event.record_id.hex(),
        time=datetime.fromtimestamp(seq, UTC),
        kind="sealed",
        event=event.event,
        outcome=event.outcome,
        actor=event.actor,
        exchange_id=event.exchange_id,
        attributes=event.attributes,
        has_content=event.content is not None,
        size=0,
    )


class ScriptedEngine:
    """Logits that mean "outside" everywhere, in the given number of columns, unless told to raise."""

    def __init__(
        self,
        columns: int,
        *,
        on_load: Callable[[], None] = lambda: None,
        on_encode: Callable[[], None] = lambda: None,
        hold: Hold | None = None,
    ) -> None:
        self.columns = columns
        self.on_load = on_load
        self.on_encode = on_encode
        self.hold = hold
        self.calls: list[str] = []

    async def load(self, adapter) -> None:
        self.calls.append("load")
        if self.hold is not None:
            await self.hold.at("load")
        self.on_load()

    async def encode(self, key, inputs, *, deadline_s=None):
        self.calls.append("encode")
        if self.hold is not None:
            await self.hold.at("encode")
        self.on_encode()
        outputs = HeldOutputs(np.zeros((len(item.token_ids), self.columns), np.float32) for item in inputs)
        for output in outputs:
            output[:, 0] = 1.0
        outputs.hold = self.hold
        return outputs


class HeldOutputs(list):
    """A worker's outputs, of which the first reading can be held."""

    hold: Hold | None = None

    def __iter__(self):
        if self.hold is not None:
            self.hold.in_thread("finish")
        return super().__iter__()


class HeldRegistry:
    """The real registry, whose look-up can be held."""

    def __init__(self, registry, hold: Hold) -> None:
        self._registry = registry
        self._hold = hold

    def get(self, specialist_id: str):
        self._hold.in_thread("registry")
        return self._registry.get(specialist_id)


class HeldWordPiece:
    """The real vocabulary, whose use can be held."""

    def __init__(self, wordpiece, hold: Hold) -> None:
        self._wordpiece = wordpiece
        self._hold = hold
        self.cls_id, self.sep_id = wordpiece.cls_id, wordpiece.sep_id

    def encode(self, text: str):
        self._hold.in_thread("prepare")
        return self._wordpiece.encode(text)
