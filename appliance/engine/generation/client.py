"""Generation as the rest of the appliance sees it: one `Generator` per loaded decoder. Owns the worker's life.

    generator = await Generator.start(config.generation, path, sha256, config.home.runtime)
    stream = await generator.generate(GenerationRequest("Once upon", principal="user:7"))
    async for chunk in stream: ...                     # the last one has `finish`
    await stream.aclose()                              # or leave early: the sequence is freed within one step
    await generator.close()

The contract. `generate` returns when the worker has understood the request and queued it: everything that can be
refused for what it is, is refused by then. A stream ends with exactly one chunk with `finish`, or raises. A reader
that is slow holds up nobody: what it has not fetched is joined into one chunk, which `max_tokens` bounds. When the
worker dies, requests of which nothing was handed out are sent once more to the next worker, the others fail with
`EngineUnavailable`. All methods belong to one event loop.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from appliance.config import GenerationConfig
from appliance.engine import protocol
from appliance.engine.generation import messages
from appliance.engine.generation.sampling import SEEDS, check_request, seed_of
from appliance.engine.generation.status import GeneratorStatus
from appliance.engine.generation.values import Chunk, Finish, GenerationRequest, TokenLogprob, Usage
from appliance.engine.ledger import fail
from appliance.engine.machine import usable_cores
from appliance.engine.status import EngineEvent, EngineState, EventValue
from appliance.engine.worker_process import Ending, WorkerProcess
from appliance.errors import (
    ApplianceError,
    DeadlineExceeded,
    EngineUnavailable,
    InputEmpty,
    InputTooLong,
    InvalidRequest,
    ModelFileRefused,
    QueueFull,
    RequestCancelled,
    SpecialistFileInvalid,
    SpecialistNotFound,
)

_WORKER = "appliance.engine.generation.worker"
_WATCHDOG_INTERVALS = 4
_SENDS_MAX = 2  # a request is tried once more after the death of a worker
_GRACE_S = 2.0  # the worker ends a request at its deadline; a worker that cannot is given this long
_SECONDS_GUESS = 10.0  # of one answer, until the first ones say better
_REFUSALS: dict[str, type[ApplianceError]] = {
    cls.code: cls
    for cls in (
        DeadlineExceeded,
        InputEmpty,
        InputTooLong,
        InvalidRequest,
        ModelFileRefused,
        QueueFull,
        SpecialistFileInvalid,
        SpecialistNotFound,
    )
}


class GenerationStream:
    """The answer to one request. Iterate it once, inside `async with`: a stream that is neither read nor left keeps
    its place in the engine's bound."""

    def __init__(self, generator: Generator, command: messages.Generate, limit_s: float) -> None:
        self._generator = generator
        self.command = command
        self.sends = 0
        self.prompt_tokens = 0
        self.began = time.monotonic()
        self.gives_up = self.began + limit_s + _GRACE_S
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.handed_out = False
        self._news = asyncio.Event()
        self._text: list[str] = []
        self._tokens = 0
        self._logprobs: list[TokenLogprob] = []
        self._finish: Finish | None = None
        self._error: ApplianceError | None = None
        self._over = False

    @property
    def number(self) -> int:
        return self.command.request_id

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """What has come since the last chunk. Raises what ended the answer instead."""
        if self._over:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(max(0.0, self.gives_up - time.monotonic())):
                await self._news.wait()
        except TimeoutError:
            self._end()
            raise DeadlineExceeded(
                "the engine did not finish the answer in time", hint="ask for fewer tokens, or try again later"
            ) from None
        except asyncio.CancelledError:
            self._end()
            raise
        if not self._text and not self._tokens and self._error is not None:
            error = self._error
            self._end()
            raise error
        chunk = Chunk("".join(self._text), self._tokens, tuple(self._logprobs), self._finish)
        self.handed_out = True
        self._text, self._tokens, self._logprobs = [], 0, []
        if self._finish is not None:
            self._end()
        elif self._error is None:
            self._news.clear()
        return chunk

    async def aclose(self) -> None:
        """Leave: what is not finished is cancelled. A second time is no work."""
        self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # Called by the generator

    def take(self, part: messages.Part) -> None:
        """What a step brought."""
        self._text.append(part.text)
        self._tokens += part.tokens
        self._logprobs += part.logprobs
        if part.ended is not None:
            ended = part.ended
            usage = Usage(ended.prompt_tokens, ended.reused_tokens, ended.generated_tokens)
            self._finish = Finish(ended.reason, usage, ended.stop_text)
        self._news.set()

    def fail(self, error: ApplianceError) -> None:
        """The answer ends here."""
        self._error = error
        fail(self.accepted, error)
        self._news.set()

    @property
    def has_news(self) -> bool:
        return bool(self._text)

    @property
    def complete(self) -> bool:
        return self._finish is not None or self._error is not None

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._generator.release(self)


class Generator:
    """One worker at a time and the streams that it feeds."""

    def __init__(
        self,
        config: GenerationConfig,
        path: Path,
        sha256: str,
        runtime: Path,
        on_event: Callable[[EngineEvent], None],
    ) -> None:
        self._config, self._path, self._runtime, self._on_event = config, path, runtime, on_event
        self._start_command = messages.StartDecoder(
            backend=config.backend,
            path=str(path),
            sha256=sha256,
            threads=config.threads or usable_cores(),
            gpu_layers=config.gpu_layers,
            slots=config.slots,
            context_tokens=config.context_tokens,
            step_tokens=config.step_tokens,
            waiting_max=config.queue_max,
            adapters_max=config.adapters_max,
            memory_bytes_max=config.memory_bytes_max,
            share_prefixes=config.share_prefixes,
            speculate=config.speculate,
        )
        self._state: EngineState = "starting"
        self._worker: WorkerProcess | None = None
        self._ready: messages.DecoderReady | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._streams: dict[int, GenerationStream] = {}
        self._admitted = 0
        self._adapters: dict[str, messages.LoadAdapter] = {}
        self._loads: dict[str, tuple[messages.LoadAdapter, asyncio.Future[None]]] = {}
        self._loading: str | None = None
        self._poisoned: dict[str, str] = {}
        self._probes: dict[int, asyncio.Future[str | None]] = {}
        self._restarts = 0
        self._failures = 0
        self._reports = 0
        self._memory_bytes = 0
        self._unavailable_until = 0.0
        self._answer_s = _SECONDS_GUESS
        self._pong = messages.DecoderPong(0)

    @classmethod
    async def start(
        cls,
        config: GenerationConfig,
        path: Path,
        sha256: str,
        runtime: Path,
        *,
        on_event: Callable[[EngineEvent], None] = lambda _event: None,
    ) -> Generator:
        """Start the worker and load the model; ready when this returns.

        Raises `ModelFileRefused` for a file that is not the registered one, is no decoder, does not fit (with the
        figures) or makes the worker crash, and `EngineUnavailable` otherwise. `on_event` MUST not block.
        """
        generator = cls(config, path, sha256, runtime, on_event)
        worker = await generator._start_worker()
        generator._supervisor = asyncio.create_task(generator._supervise(worker))
        return generator

    async def generate(self, request: GenerationRequest) -> GenerationStream:
        """Queue a request; returns when the worker has accepted it.

        Raises `InvalidRequest` and its kinds, `QueueFull` with `retry_after_s`, `SpecialistNotFound` for an adapter
        that is not loaded, `EngineUnavailable`, `DeadlineExceeded`.
        """
        grammar = check_request(request)
        self._refuse_if_closed()
        if request.adapter is not None and request.adapter not in self._adapters:
            raise SpecialistNotFound(
                f"the adapter {request.adapter[:12]} is not loaded", hint="load it before it is used"
            )
        if self._worker is None and self._failures > 1:
            raise self._unavailable("is restarting")
        self._refuse_if_full()
        limit_s = min(request.deadline_s or self._config.request_s, self._config.request_s)
        seed = secrets.randbelow(SEEDS) if request.sampling.seed is None else seed_of(request.sampling.seed)
        self._admitted += 1
        command = messages.pack_request(self._admitted, request, grammar=grammar, seed=seed, deadline_s=limit_s)
        try:
            if protocol.wire_bytes(command) > self._config.message_bytes_max:
                raise InputTooLong("the request is longer than a message to the engine may be", hint="shorten it")
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise InvalidRequest("the chat or its tools hold something that is no JSON value") from None
        stream = GenerationStream(self, command, limit_s)
        self._streams[stream.number] = stream
        try:
            await self._send(stream)
            async with asyncio.timeout(limit_s + _GRACE_S):
                await asyncio.shield(stream.accepted)
        except TimeoutError:
            await stream.aclose()
            raise DeadlineExceeded(
                f"the engine did not accept the request within {limit_s:g} s", hint="try again later"
            ) from None
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def load(self, key: str, path: Path, sha256: str) -> None:
        """Make an adapter ready; a second time is no work.

        Raises `ModelFileRefused`, `SpecialistFileInvalid` (malformed, or it killed a worker), `EngineUnavailable`.
        """
        self._refuse_if_closed()
        if key in self._poisoned:
            raise _poisoned_error(self._poisoned[key])
        if key in self._adapters:
            return
        if key not in self._loads:
            command = messages.LoadAdapter(key, str(path), sha256)
            self._loads[key] = command, asyncio.get_running_loop().create_future()
            if self._worker is not None:
                await self._worker.send(command)
        try:
            async with asyncio.timeout(self._config.start_s):
                await asyncio.shield(self._loads[key][1])
        except TimeoutError:
            self._loads.pop(key, None)
            raise EngineUnavailable(
                f"the engine did not load the adapter {key[:12]} within {self._config.start_s:g} s",
                hint="see `appliance doctor`",
            ) from None

    async def unload(self, key: str) -> None:
        """Forget an adapter, its refusal included. Its requests in flight fail with `SpecialistNotFound`."""
        self._poisoned.pop(key, None)
        if self._adapters.pop(key, None) is not None and self._worker is not None:
            await self._worker.send(protocol.Unload(key))

    async def probe_network(self, host: str, port: int) -> str | None:
        """Have the worker try to connect: the errno name of its failure, None if it got through (it must not)."""
        self._refuse_if_closed()
        if self._worker is None:
            raise self._unavailable("is restarting")
        number = len(self._probes) + 1
        answer = self._probes[number] = asyncio.get_running_loop().create_future()
        await self._worker.send(protocol.ProbeNetwork(number, host, port))
        async with asyncio.timeout(self._config.start_s):
            return await answer

    def status(self) -> GeneratorStatus:
        """Figures of this moment; costs nothing. Counters are those of the last ping."""
        ready, pong = self._ready, self._pong
        return GeneratorStatus(
            state=self._state,
            restarts=self._restarts,
            pid=None if self._worker is None else self._worker.pid,
            architecture="" if ready is None else ready.architecture,
            context_tokens=0 if ready is None else ready.context_tokens,
            chat=ready is not None and ready.chat,
            slots=self._config.slots,
            in_flight=len(self._streams),
            device="" if ready is None else ready.device,
            isolation="" if ready is None else ready.isolation,
            isolated=ready is not None and ready.isolated,
            memory_bytes=self._memory_bytes,
            pss_bytes=pong.pss_bytes,
            waiting=pong.waiting,
            running=pong.running,
            steps=pong.steps,
            prompt_tokens=pong.prompt_tokens,
            generated_tokens=pong.generated_tokens,
            reused_tokens=pong.reused_tokens,
            prefix_hits=pong.prefix_hits,
            drafted_tokens=pong.drafted_tokens,
            accepted_tokens=pong.accepted_tokens,
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

    def release(self, stream: GenerationStream) -> None:
        """A stream was read to its end or left; what is not complete is cancelled."""
        if self._streams.pop(stream.number, None) is None:
            return
        if not stream.complete:
            fail(stream.accepted, RequestCancelled("the request was cancelled"))
            if self._worker is not None:
                self._worker.post(protocol.Cancel(stream.number))

    # The worker's life

    async def _start_worker(self) -> WorkerProcess:
        """A worker that has loaded the model. Raises what it refused with, or `EngineUnavailable`."""
        worker = await WorkerProcess.spawn(
            message_bytes_max=self._config.message_bytes_max,
            folder=self._runtime,
            module=_WORKER,
            decode=messages.decode_report,
        )
        report: messages.Report | None = None
        late = False
        try:
            async with asyncio.timeout(self._config.start_s):
                await worker.send(self._start_command)
                report = await worker.receive()
        except (TimeoutError, protocol.ProtocolError):
            late = True
            worker.kill()
        finally:
            if not isinstance(report, messages.DecoderReady):
                ending = await worker.ended()
        if isinstance(report, protocol.StartRefused):
            raise _REFUSALS.get(report.code, EngineUnavailable)(report.message, hint=report.hint)
        if not isinstance(report, messages.DecoderReady):
            what = (
                f"did not load within {self._config.start_s:g} s" if late else f"made the worker stop: {ending.reason}"
            )
            if ending.crashed and not late:
                raise ModelFileRefused(
                    f"the model file {self._path.name} {what}", hint="use another file; this one is damaged or unusual"
                )
            raise EngineUnavailable(f"the model {self._path.name} {what}", hint="see `appliance doctor`")
        self._ready, self._memory_bytes = report, report.memory_bytes
        self._state = "ready"
        details: dict[str, EventValue] = {"pid": worker.pid, "device": report.device, "isolation": report.isolation}
        self._on_event(EngineEvent("worker_started", details))
        self._hand_over(worker)
        return worker

    def _hand_over(self, worker: WorkerProcess) -> None:
        """Give a new worker all that is owed: adapters first, then requests. Nobody else can send in between."""
        for command in (*self._adapters.values(), *(command for command, _ in self._loads.values())):
            worker.post(command)
        for stream in list(self._streams.values()):
            if not stream.complete:
                stream.sends += 1
                worker.post(stream.command)
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
        """Kill a worker that has said nothing for too long. Counts intervals without a report, not seconds."""
        interval_s = self._config.watchdog_s / _WATCHDOG_INTERVALS
        heard, missed = self._reports, 0
        while missed < _WATCHDOG_INTERVALS:
            worker.post(protocol.Ping(nonce=heard))
            await asyncio.sleep(interval_s)
            missed = missed + 1 if self._reports == heard else 0
            heard = self._reports
        self._on_event(EngineEvent("worker_stuck", {"pid": worker.pid, "silent_s": self._config.watchdog_s}))
        worker.kill()

    def _bury(self, ending: Ending) -> None:
        """Decide what the death means for files and requests."""
        self._state = "restarting"
        self._failures += 1
        attributes: dict[str, EventValue] = {"reason": ending.reason, "restarts": self._restarts}
        if self._loading is not None:
            attributes["adapter"] = self._loading
            if ending.crashed:
                self._poison(self._loading, ending.reason)
        self._loading = None
        self._pong = messages.DecoderPong(0)
        self._on_event(EngineEvent("worker_died", attributes))
        error = self._unavailable(f"lost its worker ({ending.reason})")
        for stream in list(self._streams.values()):
            begun = stream.handed_out or stream.has_news
            if stream.sends >= _SENDS_MAX or begun or stream.command.adapter in self._poisoned:
                stream.fail(error)
        for probe in self._probes.values():
            fail(probe, error)
        self._probes.clear()

    def _poison(self, key: str, reason: str) -> None:
        self._poisoned[key] = reason
        self._adapters.pop(key, None)
        _, waiting = self._loads.pop(key, (None, None))
        if waiting is not None:
            fail(waiting, _poisoned_error(reason))
        self._on_event(EngineEvent("adapter_refused", {"adapter": key, "code": SpecialistFileInvalid.code}))

    def _backoff_s(self) -> float:
        doubled = self._config.restart_backoff_s * 2 ** min(max(self._failures - 1, 0), 16)
        return min(doubled, self._config.restart_backoff_max_s)

    # Reports

    def _take(self, report: messages.Report) -> None:
        match report:
            case messages.Chunks():
                for part in report.parts:
                    self._take_part(part)
            case messages.Accepted():
                stream = self._streams.get(report.request_id)
                if stream is not None:
                    stream.prompt_tokens = report.prompt_tokens
                    if not stream.accepted.done():
                        stream.accepted.set_result(None)
            case messages.GenerateRefused():
                stream = self._streams.get(report.request_id)
                if stream is not None:
                    kind = _REFUSALS.get(report.code, EngineUnavailable)
                    stream.fail(kind(report.message, hint=report.hint, retry_after_s=report.retry_after_s))
            case protocol.Loading():
                self._loading = report.key
            case protocol.Loaded():
                self._loading, self._memory_bytes = None, report.memory_bytes
                self._settle(report.key, None)
            case protocol.LoadRefused():
                self._loading = None
                kind = _REFUSALS.get(report.code, EngineUnavailable)
                self._settle(report.key, kind(report.message, hint=report.hint))
            case messages.DecoderPong():
                self._pong = report
            case protocol.Probed():
                probe = self._probes.pop(report.nonce, None)
                if probe is not None and not probe.done():
                    probe.set_result(report.error)
            case _:
                raise protocol.ProtocolError("the worker started twice")

    def _take_part(self, part: messages.Part) -> None:
        stream = self._streams.get(part.request_id)
        if stream is None or stream.complete:
            return
        stream.take(part)
        if part.ended is not None:
            self._failures = 0
            self._answer_s += 0.1 * (time.monotonic() - stream.began - self._answer_s)

    def _settle(self, key: str, error: ApplianceError | None) -> None:
        """A load ended, the first or one after a restart."""
        command, waiting = self._loads.pop(key, (None, None))
        if error is not None:
            self._adapters.pop(key, None)
            self._on_event(EngineEvent("adapter_refused", {"adapter": key, "code": error.code}))
            if waiting is not None:
                fail(waiting, error)
        elif command is not None and waiting is not None:
            self._adapters[key] = command
            self._on_event(EngineEvent("adapter_loaded", {"adapter": key}))
            if not waiting.done():
                waiting.set_result(None)

    async def _send(self, stream: GenerationStream) -> None:
        """To the worker if there is one; otherwise `_hand_over` does it when there is."""
        if self._worker is not None:
            stream.sends += 1
            await self._worker.send(stream.command)

    def _fail_all(self, error: ApplianceError) -> None:
        for stream in list(self._streams.values()):
            if not stream.complete:
                stream.fail(error)
        for _, waiting in self._loads.values():
            fail(waiting, error)
        self._loads.clear()
        for probe in self._probes.values():
            fail(probe, error)
        self._probes.clear()

    def _refuse_if_closed(self) -> None:
        if self._state == "closed":
            raise EngineUnavailable("the engine is closed", hint="start the server again")

    def _refuse_if_full(self) -> None:
        """A stream counts until it was read to its end: a reader that never reads uses up its own place only."""
        most = self._config.queue_max + self._config.slots
        if len(self._streams) >= most:
            wait_s = min(max(self._answer_s * len(self._streams) / self._config.slots, 0.5), 120.0)
            raise QueueFull(
                f"{len(self._streams)} answers are being written or wait; the engine may hold {most}",
                hint=f"try again in about {max(wait_s, 1):.0f} s",
                retry_after_s=wait_s,
            )

    def _unavailable(self, what: str) -> EngineUnavailable:
        left_s = max(self._unavailable_until - time.monotonic(), self._backoff_s())
        return EngineUnavailable(f"the engine {what}", hint="try again in a moment", retry_after_s=left_s)


def _poisoned_error(reason: str) -> SpecialistFileInvalid:
    return SpecialistFileInvalid(
        f"the adapter's file made the engine's worker stop ({reason}); it is refused from now on",
        hint="remove it and install it again from a source you trust",
    )
