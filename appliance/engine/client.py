"""The engine as the rest of the appliance sees it: `load`, `encode`, `status`, `close`.

    engine = await Engine.start(config.engine, base_path, base_sha256, config.home.runtime)
    await engine.load(adapter)
    logits = await engine.encode(adapter.key, [EncodeInput(token_ids)])
    await engine.close()

The contract. `encode` returns all outputs of a request or raises; nothing of a request is released before it is
complete, so a request may be run twice and its caller cannot tell. It MUST NOT wait longer than its deadline. When
the worker dies, requests in flight are sent once more to the next worker; the second death fails them with
`EngineUnavailable`. A cancelled caller frees its sequences within one batch. An adapter whose file killed a worker is
remembered and refused until `unload`; the others are loaded again. `supervision.py` keeps the worker alive.

Events are handed to `on_event` in the order in which they happen. All methods belong to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from appliance.config import EngineConfig
from appliance.engine import protocol
from appliance.engine.adapters import Adapters
from appliance.engine.ledger import Ledger, Request, fail
from appliance.engine.machine import usable_cores
from appliance.engine.status import EngineEvent, EngineStatus, EventValue
from appliance.engine.supervision import Supervisor, Timing
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
        timing = Timing(config.start_s, config.watchdog_s, config.restart_backoff_s, config.restart_backoff_max_s)
        self._supervisor = Supervisor(self, timing, on_event)
        self._adapters: Adapters[Adapter] = Adapters(
            self._load_command, _refusal, start_s=config.start_s, noun="specialist", on_event=on_event
        )
        self._ready: protocol.Ready | None = None
        self._ledger = Ledger(config)
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
        await engine._supervisor.begin()
        return engine

    async def load(self, adapter: Adapter) -> None:
        """Make an adapter ready; a second time is no work.

        Raises `ModelFileRefused` (wrong hash, does not fit), `SpecialistFileInvalid` (malformed, or it killed a
        worker now or before), `EngineUnavailable`.
        """
        self._supervisor.refuse_if_closed()
        await self._adapters.load(adapter.key, adapter, lambda: self._supervisor.worker)

    async def unload(self, key: str) -> None:
        """Forget an adapter, its refusal included. Its requests in flight fail with `SpecialistNotFound`."""
        if self._adapters.forget(key) and self._supervisor.worker is not None:
            await self._supervisor.worker.send(protocol.Unload(key))

    async def encode(
        self, key: str, inputs: Sequence[EncodeInput], *, deadline_s: float | None = None
    ) -> list[np.ndarray]:
        """Outputs of the adapter's head, one float32 array per input: (T, labels), (labels,) or (states,).

        Raises `QueueFull`, `DeadlineExceeded`, `EngineUnavailable`, `SpecialistNotFound`, `InputTooLong`.
        """
        self._supervisor.refuse_if_closed()
        adapter = self._adapters.loaded.get(key)
        if adapter is None:
            raise SpecialistNotFound(f"the specialist {key[:12]} is not loaded", hint="load it before it is used")
        self._supervisor.refuse_if_restarting()
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
            if not answered and self._supervisor.worker is not None:
                self._supervisor.worker.post(protocol.Cancel(request.number))

    async def probe_network(self, host: str, port: int) -> str | None:
        """Have the worker try to connect: the errno name of its failure, None if it got through (it must not)."""
        return await self._supervisor.probe_network(host, port)

    def status(self) -> EngineStatus:
        """Figures of this moment; costs nothing."""
        return EngineStatus(
            state=self._supervisor.state,
            restarts=self._supervisor.restarts,
            threads=self._threads,
            pid=None if self._supervisor.worker is None else self._supervisor.worker.pid,
            queued_sequences=self._ledger.sequences,
            queued_tokens=self._ledger.tokens,
            device="" if self._ready is None else self._ready.device,
            isolation="" if self._ready is None else self._ready.isolation,
            isolated=self._ready is not None and self._ready.isolated,
            memory_bytes=self._adapters.memory_bytes,
            pss_bytes=self._pong.pss_bytes,
            batches=self._pong.batches,
            tokens=self._pong.tokens,
            adapters=tuple(self._adapters.loaded),
            refused_adapters=tuple(self._adapters.poisoned),
        )

    async def close(self) -> None:
        """End the worker and fail what is in flight. A second time is no work."""
        await self._supervisor.end()

    # What the supervisor asks (`supervision.Work`)

    async def start_worker(self) -> tuple[WorkerProcess, dict[str, EventValue]]:
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
        self._ready, self._adapters.memory_bytes = report, report.memory_bytes
        return worker, {"device": report.device, "isolation": report.isolation}

    def hand_over(self, worker: WorkerProcess) -> None:
        """Adapters first, then requests."""
        for command in self._adapters.commands():
            worker.post(command)
        for request in self._ledger:
            if not request.answer.done():
                request.sends += 1
                worker.post(request.message)

    def take(self, report: protocol.Report) -> None:
        """A report of the worker."""
        match report:
            case protocol.Encoded():
                if self._ledger.answer(report):
                    self._supervisor.succeeded()
            case protocol.EncodeRefused():
                self._ledger.refuse(report.request_id, _refusal(report.code, report.message, report.hint))
            case protocol.Loading() | protocol.Loaded() | protocol.LoadRefused():
                self._adapters.take(report)
            case protocol.Pong():
                self._pong = report
            case _:
                raise protocol.ProtocolError("the worker started twice")

    def bury(self, ending: Ending, *, stuck: bool) -> dict[str, EventValue]:
        """Whether a file is to blame."""
        return self._adapters.bury(ending, stuck=stuck)

    def mourn(self, error: EngineUnavailable) -> None:
        """Requests that died with a worker for the second time, or whose adapter is gone, fail."""
        for request in self._ledger:
            if request.sends >= _SENDS_MAX or request.message.key not in self._adapters.loaded:
                fail(request.answer, error)

    def fail_all(self, error: ApplianceError) -> None:
        """Requests and loads."""
        for request in self._ledger:
            fail(request.answer, error)
        self._adapters.fail_all(error)

    # Private

    def _load_command(self, adapter: Adapter) -> protocol.Load:
        path = None if adapter.path is None else str(adapter.path)
        command = protocol.Load(adapter.key, path, adapter.sha256, protocol.pack_head(adapter.head), adapter.merge)
        if protocol.wire_bytes(command) > self._config.message_bytes_max:
            raise ModelFileRefused(f"the head of the specialist {adapter.key[:12]} is larger than a message may be")
        return command

    async def _send(self, request: Request) -> None:
        """To the worker if there is one; otherwise `hand_over` does it when there is."""
        if self._supervisor.worker is not None:
            request.sends += 1
            await self._supervisor.worker.send(request.message)


def _refusal(code: str, message: str, hint: str | None) -> ApplianceError:
    return _REFUSALS.get(code, EngineUnavailable)(message, hint=hint)
