"""Generation as the rest of the appliance sees it: one `Generator` per loaded decoder.

    generator = await Generator.start(config.generation, path, sha256, config.home.runtime)
    stream = await generator.generate(GenerationRequest("Once upon", principal="user:7"))
    async for chunk in stream: ...                     # the last one has `finish`
    await stream.aclose()                              # or leave early: the sequence is freed within one step
    await generator.close()

The contract. `generate` returns when the worker has understood the request and queued it: everything that can be
refused for what it is, is refused by then. A stream ends with exactly one chunk with `finish`, or raises. A reader
that is slow holds up nobody: what it has not fetched is joined into one chunk, which `max_tokens` bounds. When the
worker dies, requests of which nothing was handed out are sent once more to the next worker, the others fail with
`EngineUnavailable`. All methods belong to one event loop; `engine/supervision.py` keeps the worker alive.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from appliance.config import GenerationConfig, gpu_folder
from appliance.engine import protocol
from appliance.engine.adapters import Adapters
from appliance.engine.generation import messages
from appliance.engine.generation.calls import AnswerCalls
from appliance.engine.generation.sampling import SEEDS, check_request, seed_of
from appliance.engine.generation.status import GeneratorStatus
from appliance.engine.generation.values import Chunk, Finish, GenerationRequest, TokenLogprob, Usage
from appliance.engine.gpu_pack import MANIFEST
from appliance.engine.ledger import fail
from appliance.engine.machine import usable_cores
from appliance.engine.status import EngineEvent, EventValue
from appliance.engine.supervision import Supervisor, Timing
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
_SENDS_MAX = 2  # a request is tried once more after the death of a worker
_GRACE_S = 2.0  # the worker ends a request at its deadline; a worker that cannot is given this long
_REASON_CHARS_MAX = 300  # of how a worker ended, in what a model computes on
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

    def __init__(
        self, generator: Generator, command: messages.Generate, limit_s: float, calls: AnswerCalls | None = None
    ) -> None:
        self._generator, self._calls = generator, calls
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
        if self._calls is None:
            return await self._next()
        while (chunk := self._calls.read(await self._next())) is None:
            pass
        return chunk

    async def _next(self) -> Chunk:
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
        self._config, self._path, self._runtime = config, path, runtime
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
        timing = Timing(config.start_s, config.watchdog_s, config.restart_backoff_s, config.restart_backoff_max_s)
        self._supervisor = Supervisor(self, timing, on_event)
        self._adapters: Adapters[messages.LoadAdapter] = Adapters(
            lambda command: command, _refusal, start_s=config.start_s, noun="adapter", on_event=on_event
        )
        self._ready: messages.DecoderReady | None = None
        self._streams: dict[int, GenerationStream] = {}
        self._admitted = 0
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
        await generator._supervisor.begin()
        return generator

    async def generate(self, request: GenerationRequest) -> GenerationStream:
        """Queue a request; returns when the worker has accepted it.

        Raises `InvalidRequest` and its kinds, `QueueFull` with `retry_after_s`, `SpecialistNotFound` for an adapter
        that is not loaded, `EngineUnavailable`, `DeadlineExceeded`.
        """
        form = "hermes" if self._ready is None else self._ready.call_form
        grammar = check_request(request, form)
        self._supervisor.refuse_if_closed()
        if request.adapter is not None and request.adapter not in self._adapters.loaded:
            raise SpecialistNotFound(
                f"the adapter {request.adapter[:12]} is not loaded", hint="load it before it is used"
            )
        self._supervisor.refuse_if_restarting()
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
        calls = AnswerCalls(request, form, bound=grammar is not None) if request.tools else None
        stream = GenerationStream(self, command, limit_s, calls)
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
        self._supervisor.refuse_if_closed()
        command = messages.LoadAdapter(key, str(path), sha256)
        await self._adapters.load(key, command, lambda: self._supervisor.worker)

    async def unload(self, key: str) -> None:
        """Forget an adapter, its refusal included. Its requests in flight fail with `SpecialistNotFound`."""
        if self._adapters.forget(key) and self._supervisor.worker is not None:
            await self._supervisor.worker.send(protocol.Unload(key))

    async def probe_network(self, host: str, port: int) -> str | None:
        """Have the worker try to connect: the errno name of its failure, None if it got through (it must not)."""
        return await self._supervisor.probe_network(host, port)

    def status(self) -> GeneratorStatus:
        """Figures of this moment; costs nothing. Counters are those of the last ping."""
        ready, pong = self._ready, self._pong
        return GeneratorStatus(
            state=self._supervisor.state,
            restarts=self._supervisor.restarts,
            pid=None if self._supervisor.worker is None else self._supervisor.worker.pid,
            architecture="" if ready is None else ready.architecture,
            context_tokens=0 if ready is None else ready.context_tokens,
            chat=ready is not None and ready.chat,
            slots=self._config.slots,
            in_flight=len(self._streams),
            device="" if ready is None else ready.device,
            isolation="" if ready is None else ready.isolation,
            isolated=ready is not None and ready.isolated,
            memory_bytes=self._adapters.memory_bytes,
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
            adapters=tuple(self._adapters.loaded),
            refused_adapters=tuple(self._adapters.poisoned),
        )

    async def close(self) -> None:
        """End the worker and fail what is in flight. A second time is no work."""
        await self._supervisor.end()

    def release(self, stream: GenerationStream) -> None:
        """A stream was read to its end or left; what is not complete is cancelled."""
        if self._streams.pop(stream.number, None) is None:
            return
        if not stream.complete:
            fail(stream.accepted, RequestCancelled("the request was cancelled"))
            if self._supervisor.worker is not None:
                self._supervisor.worker.post(protocol.Cancel(stream.number))

    # What the supervisor asks (`supervision.Work`)

    async def start_worker(self) -> tuple[WorkerProcess, dict[str, EventValue]]:
        """A worker that has loaded the model. Raises what it refused with, or `EngineUnavailable`.

        Where it crashes with a GPU pack, the pack's driver may be to blame or the file: a worker without one tells.
        """
        pack = _gpu_pack(self._config)
        started = await self._started(self._start_command, pack)
        if isinstance(started, Ending) and pack:
            why = f"the worker crashed with it: {started.reason[:_REASON_CHARS_MAX]}"
            started = await self._started(msgspec.structs.replace(self._start_command, gpu_refused=why), ())
        if isinstance(started, Ending):
            raise ModelFileRefused(
                f"the model file {self._path.name} made the worker stop: {started.reason}",
                hint="use another file; this one is damaged or unusual",
            )
        worker, report = started
        self._ready, self._adapters.memory_bytes = report, report.memory_bytes
        return worker, {"device": report.device, "isolation": report.isolation}

    async def _started(
        self, command: messages.StartDecoder, pack: tuple[str, ...]
    ) -> tuple[WorkerProcess, messages.DecoderReady] | Ending:
        """A worker that is ready, or how it crashed. Raises what it refused with, or `EngineUnavailable`."""
        worker = await WorkerProcess.spawn(
            message_bytes_max=self._config.message_bytes_max,
            folder=self._runtime,
            module=_WORKER,
            decode=messages.decode_report,
            more=pack,
        )
        report: messages.Report | None = None
        late = False
        try:
            async with asyncio.timeout(self._config.start_s):
                await worker.send(command)
                report = await worker.receive()
        except (TimeoutError, protocol.ProtocolError):
            late = True
            worker.kill()
        finally:
            if not isinstance(report, messages.DecoderReady):
                ending = await worker.ended()
        if isinstance(report, protocol.StartRefused):
            raise _refusal(report.code, report.message, report.hint)
        if not isinstance(report, messages.DecoderReady):
            what = (
                f"did not load within {self._config.start_s:g} s" if late else f"made the worker stop: {ending.reason}"
            )
            if ending.crashed and not late:
                return ending
            raise EngineUnavailable(f"the model {self._path.name} {what}", hint="see `appliance doctor`")
        return worker, report

    def hand_over(self, worker: WorkerProcess) -> None:
        """Adapters first, then requests."""
        for command in self._adapters.commands():
            worker.post(command)
        for stream in list(self._streams.values()):
            if not stream.complete:
                stream.sends += 1
                worker.post(stream.command)

    def bury(self, ending: Ending, *, stuck: bool) -> dict[str, EventValue]:
        """Whether a file is to blame. Its counters went with the worker."""
        self._pong = messages.DecoderPong(0)
        return self._adapters.bury(ending, stuck=stuck)

    def mourn(self, error: EngineUnavailable) -> None:
        """Answers that had begun, that died with a worker for the second time, or whose adapter is gone, fail."""
        for stream in list(self._streams.values()):
            begun = stream.handed_out or stream.has_news
            if stream.sends >= _SENDS_MAX or begun or stream.command.adapter in self._adapters.poisoned:
                stream.fail(error)

    def fail_all(self, error: ApplianceError) -> None:
        """Answers and loads."""
        for stream in list(self._streams.values()):
            if not stream.complete:
                stream.fail(error)
        self._adapters.fail_all(error)

    def take(self, report: messages.Report) -> None:
        """A report of the worker."""
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
            case protocol.Loading() | protocol.Loaded() | protocol.LoadRefused():
                self._adapters.take(report)
            case messages.DecoderPong():
                self._pong = report
            case _:
                raise protocol.ProtocolError("the worker started twice")

    def _take_part(self, part: messages.Part) -> None:
        stream = self._streams.get(part.request_id)
        if stream is None or stream.complete:
            return
        stream.take(part)
        if part.ended is not None:
            self._supervisor.succeeded()
            self._answer_s += 0.1 * (time.monotonic() - stream.began - self._answer_s)

    async def _send(self, stream: GenerationStream) -> None:
        """To the worker if there is one; otherwise `hand_over` does it when there is."""
        if self._supervisor.worker is not None:
            stream.sends += 1
            await self._supervisor.worker.send(stream.command)

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


def _refusal(code: str, message: str, hint: str | None) -> ApplianceError:
    return _REFUSALS.get(code, EngineUnavailable)(message, hint=hint)


def _gpu_pack(config: GenerationConfig) -> tuple[str, ...]:
    """What a worker is told of a GPU: nothing where none is wanted or no pack is installed."""
    folder = gpu_folder()
    if config.gpu_layers == 0 or config.backend == "echo" or not (folder / MANIFEST).exists():
        return ()
    return ("--gpu-pack", str(folder))
