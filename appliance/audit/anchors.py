"""How long ago a checkpoint left this machine, and the task that sends one to the witness every few seconds.

    found = exposure(log.cursors(), size, now_ms, target_s=60.0, sinks=["witness:witness.example/w1"])
    found.age_s, found.alarm                                  # the exposure window, and whether it is too long

    publisher = Publisher(log, StoredView(home), client, every_s=10.0)
    await publisher.run()                                     # until cancelled, or until the log is quarantined

Whoever holds this machine can rewrite what was recorded since the newest checkpoint outside of it, and nothing
before: the age of that checkpoint is the exposure window. It is a number that is shown, not a promise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from appliance.audit.witness_client import Behind, Cosigned, Forked, LogView, Refused, WitnessClient, WitnessVerdict
from appliance.errors import ApplianceError

ALARM_FACTOR = 2  # the alarm is raised beyond so many times the target
KEEP_EVERY_MS = 60_000  # cosigned checkpoints are kept for ever: not more than one a minute
logger = logging.getLogger(__name__)


class CursorView(Protocol):
    """How far a sink is, as the log keeps it."""

    @property
    def next_seq(self) -> int: ...

    @property
    def anchored_size(self) -> int: ...

    @property
    def anchored_ms(self) -> int: ...


class AnchoredLog(Protocol):
    """What the publisher needs of the log: `AuditLog`, and a fake in tests."""

    @property
    def quarantine(self) -> str | None: ...

    async def keep_cosigned(self, note: str) -> None: ...

    async def move_cursor(self, sink: str, next_seq: int, anchored_size: int, anchored_ms: int) -> None: ...

    async def enter_quarantine(self, why: str, note: str, *, cut: bool = False) -> None: ...

    def cursors(self) -> Mapping[str, CursorView]: ...


@dataclass(frozen=True, slots=True)
class SinkExposure:
    """One place outside: how many records its newest checkpoint covers and how old that is; `age_s` None: never."""

    sink: str
    size: int
    age_s: float | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Exposure:
    """Of `size` records, the newest checkpoint outside covers `anchored_size` and is `age_s` seconds old."""

    size: int
    anchored_size: int
    age_s: float | None
    target_s: float
    alarm: bool
    sinks: tuple[SinkExposure, ...] = field(default=())


def exposure(
    cursors: Mapping[str, CursorView],
    size: int,
    now_ms: int,
    *,
    target_s: float,
    sinks: Collection[str] = (),
    problems: Mapping[str, str] | None = None,
    since_ms: int = 0,
) -> Exposure:
    """The exposure window at `now_ms`.

    `sinks` are those that are configured; others that were anchored once count too, because what left the machine is
    still there. Without any, nobody asked for a target and there is no alarm. A sink that was never reached is given
    until twice the target after `since_ms`, when the server began. A checkpoint larger than the log is an alarm: the
    log was cut.
    """
    anchored = {sink: cursor for sink, cursor in cursors.items() if cursor.anchored_size}
    known = tuple(
        SinkExposure(
            sink,
            anchored[sink].anchored_size if sink in anchored else 0,
            _age_s(anchored[sink].anchored_ms, now_ms) if sink in anchored else None,
            (problems or {}).get(sink) or None,
        )
        for sink in sorted(anchored.keys() | set(sinks))
    )
    newest = max(anchored.values(), key=lambda cursor: (cursor.anchored_size, cursor.anchored_ms), default=None)
    age_s = _age_s(newest.anchored_ms, now_ms) if newest else None
    waited_s = _age_s(since_ms, now_ms) if age_s is None else age_s
    too_long = bool(sinks) and waited_s > ALARM_FACTOR * target_s
    cut = newest is not None and newest.anchored_size > size
    return Exposure(size, newest.anchored_size if newest else 0, age_s, target_s, too_long or cut, known)


def alarm_edge(before: bool, found: Exposure) -> str | None:
    """`began` or `ended` when the alarm changed, None while it goes on as it was: it is recorded once, not always."""
    return None if before == found.alarm else ("began" if found.alarm else "ended")


class Publisher:
    """Sends the newest checkpoint to one witness. `problem` says what went wrong last, empty when nothing did."""

    def __init__(
        self,
        log: AnchoredLog,
        view: LogView,
        client: WitnessClient,
        *,
        every_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._view = view
        self._client = client
        self._every_s = every_s
        self._clock = clock
        self._kept_ms = -KEEP_EVERY_MS
        self.problem = ""

    @property
    def sink(self) -> str:
        """The name of this witness's cursor."""
        return self._client.sink

    async def publish(self) -> WitnessVerdict:
        """Submit once. A contradiction quarantines the log; a cosignature moves the cursor to when it was asked for."""
        cursor = (await asyncio.to_thread(self._log.cursors)).get(self.sink)
        asked_ms = int(self._clock() * 1000)
        verdict = await self._client.submit(self._view, cursor.anchored_size if cursor else 0)
        self.problem = _problem(verdict)
        if isinstance(verdict, Forked):
            logger.error("the audit log is quarantined: %s", verdict.why)
            await self._log.enter_quarantine(verdict.why, verdict.note, cut=verdict.cut)
        elif isinstance(verdict, Cosigned):
            if asked_ms - self._kept_ms >= KEEP_EVERY_MS:
                await self._log.keep_cosigned(verdict.note)
                self._kept_ms = asked_ms
            await self._log.move_cursor(self.sink, 0, verdict.size, asked_ms)
        return verdict

    async def run(self) -> None:
        """Publish every `every_s` seconds until cancelled; ends by itself when the log is quarantined."""
        while self._log.quarantine is None:
            try:
                await self.publish()
            except ApplianceError as error:
                # The log cannot be read or written now; the next round tries again and the exposure grows meanwhile.
                self.problem = error.message
                logger.warning("no checkpoint was sent to %s: %s", self.sink, error.message)
            await asyncio.sleep(self._every_s)


def _problem(verdict: WitnessVerdict) -> str:
    if isinstance(verdict, Cosigned):
        return ""
    if isinstance(verdict, Behind):
        return f"another one submits too: the witness is at {verdict.size} records"
    if isinstance(verdict, Forked):
        return verdict.why
    return f"refused ({verdict.status}): {verdict.reason}" if isinstance(verdict, Refused) else verdict.reason


def _age_s(then_ms: int, now_ms: int) -> float:
    return max(0, now_ms - then_ms) / 1000
