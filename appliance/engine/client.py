"""The engine as the rest of the appliance sees it: `load`, `encode`, `status`, `close`. Owns the worker's life.

    engine = await Engine.start(config.engine, base_path, base_sha256, config.home.runtime)
    await engine.load(adapter)
    logits = await engine.encode(adapter.key, [EncodeInput(token_ids)])
    await engine.close()

The contract. `encode` returns all outputs of a request or raises; nothing of a request is released before it is
complete, so a request may be run twice and its caller cannot tell. It MUST NOT wait longer than its deadline. When
the worker dies, requests in flight are sent once more to the next worker; the second death fails them with
`EngineUnavailable`. A cancelled caller frees its sequences within one batch. An adapter whose file killed a worker is
remembered and refused until `unload`; the others are loaded again.

Events are handed to `on_event` in the order in which they happen. All methods belong to one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from appliance.config import EngineConfig
from appliance.engine import protocol
from appliance.engine.ledger import Ledger, Request, fail
from appliance.engine.machine import usable_cores
from appliance.engine.status import EngineEvent, EngineState, EngineStatus, EventValue
from appliance.engine.worker_process import Ending, WorkerProcess
from appliance.errors import (
    ApplianceError,
    DeadlineExceeded,
    EngineUnavailable,
    InvalidRequest,
    ModelFileRefused,
    QueueFull,
    SpecialistFileInvalid,
    SpecialistNotFound,
)
from appliance.types import Adapter, EncodeInput

_WATCHDOG_INTERVALS = 4
_LANES_AUTOMATIC_MAX = 8  # a lane costs about 20 MiB; more is for the site to decide
_SENDS_MAX = 2  # a request is tried once more after the death of a worker
# What a worker may answer a request with; anything else it says is an `EngineUnavailable`.
_REFUSALS: dict[str, type[ApplianceError]] = {
    cls.code: cls for cls in (InvalidRequest, ModelFileRefused, QueueFull, SpecialistFileInvalid, SpecialistNotFound)
}


class Engine:
    """One worker at a time and the requests it owes answers to."""

    def __init__(
        self,
        config: EngineConfig,
        base_path: Path,
        base_sha256: str,
        runtime: Path,
        on_event: Callable[[EngineEvent], None],
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._threads = config.threads or min(usable_cores(), _LANES_AUTOMATIC_MAX)
        self._start_command = protocol.Start(
            backend=config.backend,
            base_path=str(base_path),
            base_sha256=base_sha256,
            lanes=self._threads,
            microbatch_tokens=config.microbatch_tokens,
            queue_sequences_max=config.queue_sequences_max,
            adapters_max=config.adapters_max,
            memory_bytes_max=config.memory_bytes_max,
        )
        self._on_event = on_event
        self._state: EngineState = "starting"
        self._worker: WorkerProcess | None = None
        self._ready: protocol.Ready | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._adapters: dict[str, Adapter] = {}
        self._loads: dict[str, tuple[Adapter, asyncio.Future[None]]] = {}
        self._loading: str | None = None  # the file that the worker is reading at this moment
        self._suspect: str | None = None  # the file that was being read when the last worker died
        self._poisoned: dict[str, str] = {}
        self._stuck = False  # the watchdog has killed the worker
        self._ledger = Ledger(config)
        self._probes: dict[int, asyncio.Future[str | None]] = {}
        self._probe_number = 0
        self._restarts = 0
        self._failures = 0  # deaths since the last answered request: the exponent of the back-off
        self._unavailable_until: float | None = None
        self._reports = 0
        self._memory_bytes = 0
        self._pong = protocol.Pong(0, 0, 0, 0)

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        base_path: Path,
        base_sha256: str,
        runtime: Path,
        *,
        on_event: Callable[[EngineEvent], None] = lambda _event: None,
    ) -> Engine:
        """Start the worker and load the base; ready when this returns.

        Raises `ModelFileRefused` for a base that is not the registered one or does not fit, `EngineUnavailable`
        when the worker dies over it. `on_event` is called in the loop and must not block.
        """
        engine = cls(config, base_path, base_sha256, runtime, on_event)
        worker = await engine._start_worker()
        engine._supervisor = asyncio.create_task(engine._supervise(worker))
        return engine

    async def load(self, adapter: Adapter) -> None:
        """Make an adapter ready; a second time is no work.

        Raises `ModelFileRefused` (wrong hash, does not fit), `SpecialistFileInvalid` (malformed, or it killed a
        worker now or before), `EngineUnavailable`.
        """
        self._refuse_if_closed()
        key = adapter.key
        if key in self._poisoned:
            raise _poisoned_error(self._poisoned[key])
        if key in self._adapters:
            return
        if key not in self._loads:
            command = _load_command(adapter)
            if protocol.wire_bytes(command) > self._config.message_bytes_max:
                raise ModelFileRefused(f"the head of the specialist {key[:12]} is larger than a message may be")
            self._loads[key] = adapter, asyncio.get_running_loop().create_future()
            if self._worker is not None:
                await self._worker.send(command)
        try:
            async with asyncio.timeout(self._config.start_s):
                await asyncio.shield(self._loads[key][1])
        except TimeoutError:
            error = EngineUnavailable(
                f"the engine did not load the specialist {key[:12]} within {self._config.start_s:g} s",
                hint="see `appliance doctor`",
            )
            _, waiting = self._loads.pop(key, (None, None))
            if waiting is not None:
                fail(waiting, error)
            raise error from None

    async def unload(self, key: str) -> None:
        """Forget an adapter, its refusal included. Its requests in flight fail with `SpecialistNotFound`."""
        self._poisoned.pop(key, None)
        if self._adapters.pop(key, None) is not None and self._worker is not None:
            await self._worker.send(protocol.Unload(key))

    async def encode(
        self, key: str, inputs: Sequence[EncodeInput], *, deadline_s: float | None = None
    ) -> list[np.ndarray]:
        """Outputs of the adapter's head, one float32 array per input: (T, labels), (labels,) or (states,).

        Raises `QueueFull`, `DeadlineExceeded`, `EngineUnavailable`, `SpecialistNotFound`, `InputTooLong`.
        """
        self._refuse_if_closed()
        adapter = self._adapters.get(key)
        if adapter is None:
            raise SpecialistNotFound(f"the specialist {key[:12]} is not loaded", hint="load it before it is used")
        if self._worker is None and self._failures > 1:
            raise self._unavailable("is restarting")
        assert self._ready is not None
        request = self._ledger.admit(adapter, inputs, self._ready.states)
        limit_s = deadline_s or self._config.request_s
        try:
            async with asyncio.timeout(limit_s):
                await self._send(request)
                return await request.answer
        except TimeoutError:
            raise DeadlineExceeded(
                f"the engine did not answer within {limit_s:g} s", hint="send less text at once, or try again later"
            ) from None
        finally:
            answered = request.answer.done() and not request.answer.cancelled()
            self._ledger.forget(request)
            if not answered and self._worker is not None:
                self._worker.post(protocol.Cancel(request.number))

    async def probe_network(self, host: str, port: int) -> str | None:
        """Have the worker try to connect: the errno name of its failure, None if it got through (it must not)."""
        self._refuse_if_closed()
        if self._worker is None:
            raise self._unavailable("is restarting")
        self._probe_number += 1
        answer = self._probes[self._probe_number] = asyncio.get_running_loop().create_future()
        await self._worker.send(protocol.ProbeNetwork(self._probe_number, host, port))
        async with asyncio.timeout(self._config.start_s):
            return await answer

    def status(self) -> EngineStatus:
        """Figures of this moment; costs nothing."""
        return EngineStatus(
            state=self._state,
            restarts=self._restarts,
            threads=self._threads,
            pid=None if self._worker is None else self._worker.pid,
            queued_sequences=self._ledger.sequences,
            queued_tokens=self._ledger.tokens,
            device="" if self._ready is None else self._ready.device,
            isolation="" if self._ready is None else self._ready.isolation,
            isolated=self._ready is not None and self._ready.isolated,
            memory_bytes=self._memory_bytes,
            pss_bytes=self._pong.pss_bytes,
            batches=self._pong.batches,
            tokens=self._pong.tokens,
            adapters=tuple(self._adapters),
            refused_adapters=tuple(self._poisoned),
        )

    async def close(self) -> None:
        """End the worker and fail what is in flight. A second time is no work."""
        if self._state == "closed":
            return
        self._state = "closed"
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if self._worker is not None:  # the supervisor was cancelled before it began to serve this one
            await self._worker.ended()
            self._worker = None
        self._fail_all(EngineUnavailable("the engine is closed"))

    # The worker's life

    async def _start_worker(self) -> WorkerProcess:
        """A worker that has loaded the base. Raises what it refused with, or `EngineUnavailable`."""
        worker = await WorkerProcess.spawn(message_bytes_max=self._config.message_bytes_max, folder=self._runtime)
        report: protocol.Report | None = None
        try:
            async with asyncio.timeout(self._config.start_s):
                await worker.send(self._start_command)
                report = await worker.receive()
        except (TimeoutError, protocol.ProtocolError):
            worker.kill()
        finally:
            if not isinstance(report, protocol.Ready):
                ending = await worker.ended()
        if isinstance(report, protocol.StartRefused):
            raise _refusal(report.code, report.message, report.hint)
        if not isinstance(report, protocol.Ready):
            raise EngineUnavailable(
                f"the engine's worker could not load the base model: {ending.reason}", hint="fetch the base model again"
            )
        self._ready, self._memory_bytes = report, report.memory_bytes
        self._state, self._unavailable_until = "ready", None
        details: dict[str, EventValue] = {"pid": worker.pid, "device": report.device, "isolation": report.isolation}
        self._on_event(EngineEvent("worker_started", details))
        self._hand_over(worker)
        return worker

    def _hand_over(self, worker: WorkerProcess) -> None:
        """Give a new worker all that is owed: adapters first, then requests. Nobody else can send in between."""
        for adapter in (*self._adapters.values(), *(adapter for adapter, _ in self._loads.values())):
            worker.post(_load_command(adapter))
        for request in self._ledger:
            if not request.answer.done():
                request.sends += 1
                worker.post(request.message)
        self._worker = worker

    async def _supervise(self, worker: WorkerProcess) -> None:
        """Serve, bury, wait, start again; until cancelled by `close`."""
        alive: WorkerProcess | None = worker
        while True:
            if alive is not None:
                self._bury(await self._serve(alive))
            delay_s = self._backoff_s()
            self._unavailable_until = time.monotonic() + delay_s
            await asyncio.sleep(delay_s)
            try:
                alive = await self._start_worker()
                self._restarts += 1
            except ApplianceError as error:
                alive = None
                self._failures += 1
                self._on_event(EngineEvent("worker_died", {"reason": error.message, "restarts": self._restarts}))
                self._fail_all(self._unavailable(f"cannot be restarted: {error.message}"))

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
            self._worker = None
            watchdog.cancel()
            ending = await worker.ended()
        return ending

    async def _watch(self, worker: WorkerProcess) -> None:
        """Kill a worker that has said nothing for too long; pings see to it that a healthy one has something to say.

        Counts intervals without a report and not seconds, so that a server that was itself suspended blames nobody.
        """
        interval_s = self._config.watchdog_s / _WATCHDOG_INTERVALS
        heard, missed = self._reports, 0
        while missed < _WATCHDOG_INTERVALS:
            worker.post(protocol.Ping(nonce=heard))
            await asyncio.sleep(interval_s)
            missed = missed + 1 if self._reports == heard else 0
            heard = self._reports
        self._stuck = True
        self._on_event(EngineEvent("worker_stuck", {"pid": worker.pid, "silent_s": self._config.watchdog_s}))
        worker.kill()

    def _bury(self, ending: Ending) -> None:
        """Decide what the death means for files and requests.

        A file is to blame if the worker crashed or hung over it, or died of whatever over it twice in a row; one
        kill from outside while it was read says nothing about it.
        """
        self._state = "restarting"
        self._failures += 1
        reason, file = ending.reason, self._loading
        attributes: dict[str, EventValue] = {"reason": reason, "restarts": self._restarts}
        if file is not None:
            attributes["adapter"] = file
            if ending.crashed or self._stuck or file == self._suspect:
                self._poison(file, reason)
        self._suspect, self._loading, self._stuck = file, None, False
        self._on_event(EngineEvent("worker_died", attributes))
        error = self._unavailable(f"lost its worker ({reason})")
        for request in self._ledger:
            if request.sends >= _SENDS_MAX or request.message.key not in self._adapters:
                fail(request.answer, error)
        for probe in self._probes.values():
            fail(probe, error)
        self._probes.clear()

    def _poison(self, key: str, reason: str) -> None:
        self._poisoned[key] = reason
        self._adapters.pop(key, None)
        waiting = self._loads.pop(key, None)
        if waiting is not None:
            fail(waiting[1], _poisoned_error(reason))
        self._on_event(EngineEvent("adapter_refused", {"adapter": key, "code": SpecialistFileInvalid.code}))

    def _backoff_s(self) -> float:
        doubled = self._config.restart_backoff_s * 2 ** min(max(self._failures - 1, 0), 16)
        return min(doubled, self._config.restart_backoff_max_s)

    # Reports

    def _take(self, report: protocol.Report) -> None:
        match report:
            case protocol.Encoded():
                if self._ledger.answer(report):
                    self._failures = 0
            case protocol.EncodeRefused():
                self._ledger.refuse(report.request_id, _refusal(report.code, report.message, report.hint))
            case protocol.Loading():
                self._loading = report.key
            case protocol.Loaded():
                self._loading, self._memory_bytes = None, report.memory_bytes
                self._settle(report.key, None)
            case protocol.LoadRefused():
                self._loading = None
                self._settle(report.key, _refusal(report.code, report.message, report.hint))
            case protocol.Pong():
                self._pong = report
            case protocol.Probed():
                probe = self._probes.pop(report.nonce, None)
                if probe is not None and not probe.done():
                    probe.set_result(report.error)
            case protocol.Ready() | protocol.StartRefused():
                raise protocol.ProtocolError("the worker started twice")

    def _settle(self, key: str, error: ApplianceError | None) -> None:
        """A load ended, the first or one after a restart."""
        adapter, waiting = self._loads.pop(key, (None, None))
        if error is not None:
            self._adapters.pop(key, None)
            self._on_event(EngineEvent("adapter_refused", {"adapter": key, "code": error.code}))
            if waiting is not None:
                fail(waiting, error)
        elif adapter is not None and waiting is not None:
            self._adapters[key] = adapter
            self._on_event(EngineEvent("adapter_loaded", {"adapter": key}))
            if not waiting.done():
                waiting.set_result(None)

    async def _send(self, request: Request) -> None:
        """To the worker if there is one; otherwise `_hand_over` does it when there is."""
        if self._worker is not None:
            request.sends += 1
            await self._worker.send(request.message)

    def _fail_all(self, error: ApplianceError) -> None:
        for request in self._ledger:
            fail(request.answer, error)
        for _, waiting in self._loads.values():
            fail(waiting, error)
        self._loads.clear()
        for probe in self._probes.values():
            fail(probe, error)
        self._probes.clear()

    def _refuse_if_closed(self) -> None:
        if self._state == "closed":
            raise EngineUnavailable("the engine is closed", hint="start the server again")

    def _unavailable(self, what: str) -> EngineUnavailable:
        left_s = max((self._unavailable_until or 0.0) - time.monotonic(), self._backoff_s())
        return EngineUnavailable(f"the engine {what}", hint="try again in a moment", retry_after_s=left_s)


def _load_command(adapter: Adapter) -> protocol.Load:
    path = None if adapter.path is None else str(adapter.path)
    return protocol.Load(adapter.key, path, adapter.sha256, protocol.pack_head(adapter.head))


def _refusal(code: str, message: str, hint: str | None) -> ApplianceError:
    return _REFUSALS.get(code, EngineUnavailable)(message, hint=hint)


def _poisoned_error(reason: str) -> SpecialistFileInvalid:
    return SpecialistFileInvalid(
        f"the specialist's file made the engine's worker stop ({reason}); it is refused from now on",
        hint="remove it and install it again from a source you trust",
    )
