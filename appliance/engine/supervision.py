"""Keeps one worker process alive: serves it, watches it, buries it, starts the next with back-off. Owns which it is.

    supervisor = Supervisor(work, timing, on_event)
    await supervisor.begin()                 # raises what the first worker refused with
    supervisor.worker                        # None between two workers
    await supervisor.end()

What the worker is for, which requests it owes answers to and whose fault its death was, its client knows (`Work`).
Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from appliance.engine import protocol
from appliance.engine.ledger import fail
from appliance.engine.status import EngineEvent, EngineState, EventValue
from appliance.engine.worker_process import Ending, WorkerProcess
from appliance.errors import ApplianceError, EngineUnavailable

_WATCHDOG_INTERVALS = 4
_DOUBLINGS_MAX = 16


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a start may take, a worker may be silent, and how long is waited before the next one, in seconds."""

    start_s: float
    watchdog_s: float
    backoff_s: float
    backoff_max_s: float


class Work(Protocol):
    """What a supervisor asks of its owner. Only `start_worker` may wait."""

    async def start_worker(self) -> tuple[WorkerProcess, dict[str, EventValue]]:
        """A worker that is ready, and what the event says of it. Raises what it refused with."""

    def hand_over(self, worker: WorkerProcess) -> None:
        """Give a new worker all that is owed. Nobody else can send to it before this returns."""

    def take(self, report: Any) -> None:
        """A report of the worker. Raises `ProtocolError` for one that makes no sense."""

    def bury(self, ending: Ending, *, stuck: bool) -> dict[str, EventValue]:
        """The worker is gone: settle what its death means for files; what the event says besides the reason."""

    def mourn(self, error: EngineUnavailable) -> None:
        """After the event: fail what does not survive the worker."""

    def fail_all(self, error: ApplianceError) -> None:
        """There is no next worker for now, or never: fail everything that waits."""


class Supervisor:
    """One worker at a time. `failures` counts deaths since `succeeded`: the exponent of the back-off."""

    def __init__(self, work: Work, timing: Timing, on_event: Callable[[EngineEvent], None]) -> None:
        self._work = work
        self._timing = timing
        self._on_event = on_event
        self.state: EngineState = "starting"
        self.worker: WorkerProcess | None = None
        self.restarts = 0
        self.failures = 0
        self._task: asyncio.Task[None] | None = None
        self._reports = 0
        self._stuck = False  # the watchdog has killed the worker
        self._unavailable_until = 0.0
        self._probes: dict[int, asyncio.Future[str | None]] = {}
        self._probed = 0

    async def begin(self) -> None:
        """Start the first worker and keep one alive from then on."""
        self._task = asyncio.create_task(self._supervise(await self._start()))

    async def end(self) -> None:
        """End the worker and fail what is in flight. A second time is no work."""
        if self.state == "closed":
            return
        self.state = "closed"
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.worker is not None:  # the task was cancelled before it began to serve this one
            await self.worker.ended()
            self.worker = None
        self._fail_all(EngineUnavailable("the engine is closed"))

    def succeeded(self) -> None:
        """A worker did what it is for: the next death is the first again."""
        self.failures = 0

    def refuse_if_closed(self) -> None:
        """Raises `EngineUnavailable` after `end`."""
        if self.state == "closed":
            raise EngineUnavailable("the engine is closed", hint="start the server again")

    def refuse_if_restarting(self) -> None:
        """Raises `EngineUnavailable` while there is no worker and the last ones died one after another."""
        if self.worker is None and self.failures > 1:
            raise self.unavailable("is restarting")

    def unavailable(self, what: str) -> EngineUnavailable:
        """The error, with how long to wait."""
        left_s = max(self._unavailable_until - time.monotonic(), self._backoff_s())
        return EngineUnavailable(f"the engine {what}", hint="try again in a moment", retry_after_s=left_s)

    async def probe_network(self, host: str, port: int) -> str | None:
        """Have the worker try to connect: the errno name of its failure, None if it got through (it must not)."""
        self.refuse_if_closed()
        if self.worker is None:
            raise self.unavailable("is restarting")
        self._probed += 1
        answer = self._probes[self._probed] = asyncio.get_running_loop().create_future()
        await self.worker.send(protocol.ProbeNetwork(self._probed, host, port))
        async with asyncio.timeout(self._timing.start_s):
            return await answer

    # --- inside

    async def _start(self) -> WorkerProcess:
        worker, details = await self._work.start_worker()
        self.state = "ready"
        self._on_event(EngineEvent("worker_started", {"pid": worker.pid, **details}))
        self._work.hand_over(worker)
        self.worker = worker
        return worker

    async def _supervise(self, worker: WorkerProcess) -> None:
        """Serve, bury, wait, start again; until cancelled by `end`."""
        alive: WorkerProcess | None = worker
        while True:
            if alive is not None:
                self._bury(await self._serve(alive))
            delay_s = self._backoff_s()
            self._unavailable_until = time.monotonic() + delay_s
            await asyncio.sleep(delay_s)
            try:
                alive = await self._start()
                self.restarts += 1
            except ApplianceError as error:
                alive = None
                self.failures += 1
                self._on_event(EngineEvent("worker_died", {"reason": error.message, "restarts": self.restarts}))
                self._fail_all(self.unavailable(f"cannot be restarted: {error.message}"))

    async def _serve(self, worker: WorkerProcess) -> Ending:
        """Take the worker's reports until it is gone; returns how it ended."""
        watchdog = asyncio.create_task(self._watch(worker))
        try:
            while (report := await worker.receive()) is not None:
                self._reports += 1
                self._take(report)
        except protocol.ProtocolError:
            worker.kill()
        finally:
            self.worker = None
            watchdog.cancel()
            ending = await worker.ended()
        return ending

    async def _watch(self, worker: WorkerProcess) -> None:
        """Kill a worker that has said nothing for too long; pings see to it that a healthy one has something to say.

        Counts intervals without a report and not seconds, so that a server that was itself suspended blames nobody.
        """
        interval_s = self._timing.watchdog_s / _WATCHDOG_INTERVALS
        heard, missed = self._reports, 0
        while missed < _WATCHDOG_INTERVALS:
            worker.post(protocol.Ping(nonce=heard))
            await asyncio.sleep(interval_s)
            missed = missed + 1 if self._reports == heard else 0
            heard = self._reports
        self._stuck = True
        self._on_event(EngineEvent("worker_stuck", {"pid": worker.pid, "silent_s": self._timing.watchdog_s}))
        worker.kill()

    def _bury(self, ending: Ending) -> None:
        self.state = "restarting"
        self.failures += 1
        details = self._work.bury(ending, stuck=self._stuck)
        self._stuck = False
        about: dict[str, EventValue] = {"reason": ending.reason, "restarts": self.restarts, **details}
        self._on_event(EngineEvent("worker_died", about))
        error = self.unavailable(f"lost its worker ({ending.reason})")
        self._work.mourn(error)
        self._fail_probes(error)

    def _take(self, report: Any) -> None:
        if not isinstance(report, protocol.Probed):
            self._work.take(report)
            return
        probe = self._probes.pop(report.nonce, None)
        if probe is not None and not probe.done():
            probe.set_result(report.error)

    def _fail_all(self, error: ApplianceError) -> None:
        self._work.fail_all(error)
        self._fail_probes(error)

    def _fail_probes(self, error: ApplianceError) -> None:
        for probe in self._probes.values():
            fail(probe, error)
        self._probes.clear()

    def _backoff_s(self) -> float:
        doubled = self._timing.backoff_s * 2 ** min(max(self.failures - 1, 0), _DOUBLINGS_MAX)
        return min(doubled, self._timing.backoff_max_s)
