"""The worker process: one backend, one loop, some lanes, no network. Started by `worker_process.py`, never by hand.

    python -m appliance.engine.worker --socket 5 --parent 4242 --message-bytes-max 67108864

The loop: take every command that has arrived, send what is finished, give free lanes a batch, sleep until something
happens. So a cancellation is seen at once and a new request within one batch. A closed socket is the order to stop.
Everything but the arithmetic happens in the loop's thread, which owns all state; lanes only compute.

A file that makes llama.cpp abort ends this process; `Loading` was sent before, so the server knows which file it was.
"""

from __future__ import annotations

import argparse
import errno
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from appliance.engine import protocol
from appliance.engine.backend import Backend, ModelFacts, check_memory, descriptor_path, open_checked, pss_bytes
from appliance.engine.batching import Backlog, Batch, Shape
from appliance.engine.echo import EchoEncoder
from appliance.engine.heads import apply_head, check_head
from appliance.engine.isolation import IsolationVerdict, isolate
from appliance.engine.lanes import Lanes
from appliance.engine.llama_encoder import LlamaEncoder, compute_bytes
from appliance.engine.protocol import WorkerChannel
from appliance.errors import (
    ApplianceError,
    EngineUnavailable,
    InvalidRequest,
    ModelFileRefused,
    QueueFull,
    SpecialistFileInvalid,
    SpecialistNotFound,
)
from appliance.types import Adapter

BATCH_SEQUENCES_MAX = 64  # sequences of one batch; llama.cpp keeps a little state for each
PROBE_S = 2.0


@dataclass(slots=True)
class _Running:
    """A request with sequences in the backlog."""

    key: str
    token_ids: list[np.ndarray]
    features: list[np.ndarray] | None
    outputs: list[protocol.Array | None]
    remaining: int


@dataclass(slots=True)
class _Counters:
    batches: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Worker:
    """All state of the process. `step` is the loop's body."""

    channel: WorkerChannel
    backend: Backend
    start: protocol.Start
    backlog: Backlog = field(init=False)
    lanes: Lanes = field(init=False)
    adapters: dict[str, Adapter] = field(init=False, default_factory=dict)
    adapter_bytes: dict[str, int] = field(init=False, default_factory=dict)
    running: dict[int, _Running] = field(init=False, default_factory=dict)
    counters: _Counters = field(init=False, default_factory=_Counters)

    def __post_init__(self) -> None:
        self.backlog = Backlog(Shape(self.start.microbatch_tokens, BATCH_SEQUENCES_MAX))
        self.lanes = Lanes(self.start.lanes)

    def step(self) -> None:
        """Sleep until a result or a command is there, take all of both, then keep the lanes busy."""
        channel, lanes = self.channel.fileno(), self.lanes.fileno()
        readable = select.select((channel, lanes), (), ())[0]
        if lanes in readable:  # before the commands: one of them may wait for the lanes and fetch this itself
            self._collect()
        if channel in readable:
            # Bounded: the server sends no more than `queue_sequences_max` sequences before it has answers.
            while (command := self.channel.receive(wait=False)) is not None:
                self._take(command)
        while self.lanes.free:
            batch = self.backlog.next_batch(self.lanes.free, self.lanes.next)
            if batch is None:
                break
            self._submit(batch)

    def _take(self, command: protocol.Command) -> None:
        match command:
            case protocol.Encode():
                self._admit(command)
            case protocol.Cancel():
                self._forget(command.request_id)
            case protocol.Load():
                self._load(command)
            case protocol.Unload():
                self._unload(command.key)
            case protocol.Ping():
                counters = self.counters
                self.channel.send(protocol.Pong(command.nonce, pss_bytes(), counters.batches, counters.tokens))
            case protocol.ProbeNetwork():
                self.channel.send(protocol.Probed(command.nonce, probe(command.host, command.port)))
            case protocol.Start():
                raise protocol.ProtocolError("started twice")

    def _load(self, command: protocol.Load) -> None:
        self._quiesce()
        self.channel.send(protocol.Loading(command.key))
        try:
            self._load_adapter(command)
        except ApplianceError as error:
            self._unload(command.key)
            self.channel.send(protocol.LoadRefused(command.key, error.code, error.message, error.hint))
        else:
            self.channel.send(protocol.Loaded(command.key, self._memory_bytes()))

    def _load_adapter(self, command: protocol.Load) -> None:
        if command.key in self.adapters:
            return
        if len(self.adapters) >= self.start.adapters_max:
            raise ModelFileRefused(
                f"{len(self.adapters)} specialists are loaded, which is the most engine.adapters_max allows",
                hint="raise engine.adapters_max or remove specialists",
            )
        head = protocol.unpack_head(command.head)
        check_head(head, self.backend.facts.states)
        path = None if command.path is None else Path(command.path)
        if path is not None:
            with open_checked(path, command.sha256 or "") as file:
                size = path.stat().st_size
                if command.merge:  # the layers once more, in what is left of the base's size
                    size += Path(self.start.base_path).stat().st_size
                left = max(0, self.start.memory_bytes_max - self._memory_bytes())
                check_memory(size, left, f"the specialist {path.name}")
                self.backend.load_adapter(command.key, descriptor_path(file, path), merge=command.merge)
            self.adapter_bytes[command.key] = size
        self._try_out(command.key if path is not None else None)
        self.adapters[command.key] = Adapter(command.key, path, command.sha256, head, command.merge)

    def _quiesce(self) -> None:
        """Let the lanes finish: adapters change only while none computes, and a crash then has one possible cause."""
        while self.lanes.busy:
            self._collect()

    def _unload(self, key: str) -> None:
        self._quiesce()
        self.adapters.pop(key, None)
        self.adapter_bytes.pop(key, None)
        self.backend.unload_adapter(key)
        for request_id in [n for n, request in self.running.items() if request.key == key]:
            self._refuse(request_id, _not_loaded(key))

    def _memory_bytes(self) -> int:
        return self.backend.facts.memory_bytes + sum(self.adapter_bytes.values())

    def _try_out(self, adapter: str | None) -> None:
        """Run two tokens, so that a file that breaks the arithmetic is caught while it is known which file it is."""
        states = self.backend.encode(0, adapter, [np.array([0, 1], dtype=np.int32)])
        if not np.isfinite(states).all():
            raise SpecialistFileInvalid(
                "the specialist's adapter makes the model compute values that are not numbers",
                hint="install the file again from its source",
            )

    def _admit(self, command: protocol.Encode) -> None:
        try:
            request = self._checked(command)
        except ApplianceError as error:
            self._refuse(command.request_id, error)
            return
        assert command.request_id not in self.running
        self.running[command.request_id] = request
        self.backlog.add(command.request_id, command.key, [len(ids) for ids in request.token_ids])

    def _checked(self, command: protocol.Encode) -> _Running:
        """Every value that reaches the backend is checked here: a wrong id or length would abort the process."""
        adapter = self.adapters.get(command.key)
        if adapter is None:
            raise _not_loaded(command.key)
        if len(self.backlog) + len(command.sequences) > self.start.queue_sequences_max:
            raise QueueFull("the engine's queue is full", hint="try again in a moment", retry_after_s=1.0)
        if not command.sequences:
            raise InvalidRequest("a request to the engine holds no sequence")
        facts, count = self.backend.facts, adapter.head.feature_count
        token_ids = [_checked_ids(sequence.token_ids, facts) for sequence in command.sequences]
        features = [_checked_features(s, len(ids), count) for s, ids in zip(command.sequences, token_ids, strict=True)]
        return _Running(
            key=command.key,
            token_ids=token_ids,
            features=features if count else None,
            outputs=[None] * len(token_ids),
            remaining=len(token_ids),
        )

    def _submit(self, batch: Batch) -> None:
        """Give the batch to a lane with all it needs: a cancellation may drop the request meanwhile."""
        adapter = self.adapters[batch.key]
        requests = [self.running[item.request_id] for item in batch.items]
        sequences = [request.token_ids[item.index] for request, item in zip(requests, batch.items, strict=True)]
        features = None
        if adapter.head.feature_count:
            features = np.concatenate(
                [
                    r.features[item.index]
                    for r, item in zip(requests, batch.items, strict=True)
                    if r.features is not None
                ]
            )
        self.lanes.submit(batch, partial(_compute, self.backend, adapter, sequences, features))

    def _collect(self) -> None:
        """Put outputs where they belong and answer the requests that are complete."""
        for done in self.lanes.finished():
            self.counters.batches += 1
            self.counters.tokens += done.batch.tokens
            if done.error is not None:
                for request_id in {item.request_id for item in done.batch.items} & self.running.keys():
                    self._refuse(request_id, done.error)
                continue
            for item, output in zip(done.batch.items, done.outputs, strict=True):
                request = self.running.get(item.request_id)
                if request is None:
                    continue  # cancelled while it was computed
                request.outputs[item.index] = protocol.pack_array(output)
                request.remaining -= 1
                if request.remaining == 0:
                    self._answer(item.request_id)

    def _answer(self, request_id: int) -> None:
        outputs = self.running.pop(request_id).outputs
        complete = [output for output in outputs if output is not None]
        assert len(complete) == len(outputs)
        self.channel.send(protocol.Encoded(request_id, complete))

    def _refuse(self, request_id: int, error: ApplianceError) -> None:
        self._forget(request_id)
        self.channel.send(protocol.EncodeRefused(request_id, error.code, error.message, error.hint))

    def _forget(self, request_id: int) -> None:
        if self.running.pop(request_id, None) is not None:
            self.backlog.cancel(request_id)


def _compute(
    backend: Backend, adapter: Adapter, sequences: list[np.ndarray], features: np.ndarray | None, lane: int
) -> list[np.ndarray]:
    """What a lane runs: the model, then the head."""
    states = backend.encode(lane, adapter.key if adapter.path is not None else None, sequences)
    outputs = apply_head(adapter.head, states, [len(ids) for ids in sequences], features)
    if not all(np.isfinite(output).all() for output in outputs):
        raise EngineUnavailable(
            "the model computed values that are not numbers", hint="check the specialist and its base model"
        )
    return outputs


def main() -> None:
    """Isolate, load the base, serve until the socket closes."""
    parser = argparse.ArgumentParser()
    for name in ("--socket", "--parent", "--message-bytes-max"):
        parser.add_argument(name, type=int, required=True)
    arguments = parser.parse_args()
    # The socket object is made first: where isolation has to fall back on an audit hook, it refuses making any.
    channel = WorkerChannel(socket.socket(fileno=arguments.socket), arguments.message_bytes_max)
    verdict = isolate(arguments.parent, keep_descriptors=(arguments.socket,))
    with until_the_server_goes():
        start = channel.receive(wait=True)
        if not isinstance(start, protocol.Start):
            raise protocol.ProtocolError("the first command is not a start")
        try:
            backend = _open_backend(start)
        except ApplianceError as error:
            channel.send(protocol.StartRefused(error.code, error.message, error.hint))
            return
        channel.send(_ready(backend.facts, verdict))
        worker = Worker(channel, backend, start)
        try:
            while True:
                worker.step()
        finally:
            worker.lanes.close()


@contextmanager
def until_the_server_goes() -> Iterator[None]:
    """A server that has gone is the order to stop, not an error."""
    try:
        yield
    except (EOFError, ConnectionError):
        return


def _open_backend(start: protocol.Start) -> Backend:
    path = Path(start.base_path)
    with open_checked(path, start.base_sha256) as file:
        if start.backend == "echo":
            return EchoEncoder()
        need = path.stat().st_size + compute_bytes(start.lanes, start.microbatch_tokens)
        check_memory(need, start.memory_bytes_max, f"the base model {path.name}")
        return LlamaEncoder.open(
            descriptor_path(file, path),
            lanes=start.lanes,
            microbatch_tokens=start.microbatch_tokens,
            sequences_max=BATCH_SEQUENCES_MAX,
        )


def _ready(facts: ModelFacts, verdict: IsolationVerdict) -> protocol.Ready:
    return protocol.Ready(
        states=facts.states,
        positions=facts.positions,
        vocabulary=facts.vocabulary,
        device=facts.device,
        isolation=str(verdict),
        isolated=verdict.kernel,
        memory_bytes=facts.memory_bytes,
    )


def _checked_ids(data: bytes, facts: ModelFacts) -> np.ndarray:
    if len(data) % 4 or not 4 <= len(data) <= 4 * facts.positions:
        raise InvalidRequest(f"a sequence has {len(data) // 4} tokens, the model takes 1 to {facts.positions}")
    ids = np.frombuffer(data, dtype="<i4")
    if ids.min() < 0 or ids.max() >= facts.vocabulary:
        raise InvalidRequest(f"a token id is outside the model's vocabulary of {facts.vocabulary}")
    return ids


def _checked_features(sequence: protocol.Sequence, tokens: int, count: int) -> np.ndarray:
    if sequence.features is None:
        if count:
            raise InvalidRequest(f"the specialist needs {count} features per token and got none")
        return np.zeros((tokens, 0), dtype=np.float32)
    rows = protocol.unpack_array(sequence.features)
    if rows.shape != (tokens, count):
        raise InvalidRequest(f"the specialist needs features of shape {(tokens, count)} and got {rows.shape}")
    return rows


def probe(host: str, port: int) -> str | None:
    """Try to connect: the errno name of the failure, None if it worked (it must not)."""
    try:
        with socket.create_connection((host, port), timeout=PROBE_S):
            return None
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _not_loaded(key: str) -> SpecialistNotFound:
    return SpecialistNotFound(f"the specialist {key[:12]} is not loaded", hint="load it before it is used")


if __name__ == "__main__":
    main()
