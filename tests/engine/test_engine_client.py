"""The engine from outside: real worker processes, no model. Bounds, deadlines, cancellation, and many callers at once.

One engine with the echo backend serves the whole file; a test that needs other limits starts its own. Coroutines run on
one asyncio.Runner, because an engine belongs to one loop.
"""

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from appliance.config import EngineConfig
from appliance.engine.client import Engine
from appliance.engine.echo import echo_states
from appliance.errors import (
    DeadlineExceeded,
    EngineUnavailable,
    InputTooLong,
    InvalidRequest,
    ModelFileRefused,
    QueueFull,
    SpecialistFileInvalid,
    SpecialistNotFound,
)
from appliance.types import Adapter, EncodeInput, Head

PLAIN = Adapter("plain", None, None, Head("none", 0, None, None, None, None))
TOKEN_HEAD = Head("token", 0, None, None, np.eye(384, 3, dtype=np.float32), np.zeros(3, np.float32))
TAG = Adapter("tag", None, None, TOKEN_HEAD)
RNG = np.random.default_rng(4)


def text(tokens: int) -> EncodeInput:
    return EncodeInput(RNG.integers(0, 30000, tokens).astype(np.int32))


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "base.gguf"
    path.write_bytes(b"echo needs none")
    return path


async def started(base, on_event=lambda event: None, **values) -> Engine:
    config = EngineConfig(backend="echo", restart_backoff_s=0.01, **values)
    return await Engine.start(
        config, base, hashlib.sha256(base.read_bytes()).hexdigest(), base.parent, on_event=on_event
    )


@asynccontextmanager
async def running(base, **values):
    engine = await started(base, **values)
    try:
        await engine.load(PLAIN)
        await engine.load(TAG)
        yield engine
    finally:
        await engine.close()


@pytest.fixture(scope="module")
def engine(runner, base):
    engine = runner.run(started(base))
    runner.run(engine.load(PLAIN))
    runner.run(engine.load(TAG))
    yield engine
    runner.run(engine.close())


def test_an_answer_has_one_output_per_input_in_order(runner, engine):
    inputs = [text(n) for n in (5, 300, 1)]
    outputs = runner.run(engine.encode("tag", inputs))
    for entry, output in zip(inputs, outputs, strict=True):
        assert np.allclose(output, echo_states(entry.token_ids, None)[:, :3], atol=1e-5)


def test_many_callers_at_once_each_get_their_own_answer(runner, engine):
    async def all_of_them():
        calls = [(key, [text(int(n)) for n in RNG.integers(1, 200, 6)]) for key in ("plain", "tag") * 15]
        return calls, await asyncio.gather(*(engine.encode(*call) for call in calls))

    calls, answers = runner.run(all_of_them())
    for (key, inputs), outputs in zip(calls, answers, strict=True):
        for entry, output in zip(inputs, outputs, strict=True):
            states = echo_states(entry.token_ids, None)
            assert np.allclose(output, states.mean(0) if key == "plain" else states[:, :3], atol=1e-4)
    assert engine.status().queued_sequences == 0 and engine.status().queued_tokens == 0


def test_the_server_process_never_imports_llama_cpp():
    script = "import sys, appliance.engine.client; print('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_a_connect_from_inside_the_worker_fails(runner, engine):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = runner.run(engine.probe_network("127.0.0.1", listener.getsockname()[1]))
    assert error in ("EPERM", "ENETUNREACH")
    assert engine.status().isolated and engine.status().isolation.startswith("no network: ")


def test_the_worker_inherits_no_credentials_and_no_proxy(runner, engine):
    environment = Path(f"/proc/{engine.status().pid}/environ").read_bytes()
    names = {entry.split(b"=")[0].decode() for entry in environment.split(b"\0") if entry}
    assert {"OMP_NUM_THREADS", "GGML_NO_BACKTRACE"} <= names
    assert not [name for name in names if "PROXY" in name.upper() or "TOKEN" in name or "SECRET" in name]


def test_an_adapter_that_is_not_loaded_is_not_found(runner, engine):
    with pytest.raises(SpecialistNotFound):
        runner.run(engine.encode("nobody", [text(3)]))


def test_no_sequence_or_a_bad_one_is_an_invalid_request(runner, engine):
    for inputs in ([], [text(513)], [EncodeInput(np.array([-1], np.int32))]):
        with pytest.raises(InvalidRequest):
            runner.run(engine.encode("plain", inputs))


def test_a_wrong_hash_is_refused_and_the_engine_goes_on(runner, engine, base):
    with pytest.raises(ModelFileRefused, match="not the registered one"):
        runner.run(engine.load(Adapter("x", base, "0" * 64, PLAIN.head)))
    assert "x" not in engine.status().adapters
    assert len(runner.run(engine.encode("plain", [text(3)]))) == 1


def test_a_head_that_does_not_fit_is_invalid(runner, engine):
    head = Head("token", 0, None, None, np.zeros((10, 2), np.float32), np.zeros(2, np.float32))
    with pytest.raises(SpecialistFileInvalid):
        runner.run(engine.load(Adapter("y", None, None, head)))


def test_an_unregistered_base_is_refused_at_start(runner, base):
    with pytest.raises(ModelFileRefused, match="not the registered one"):
        runner.run(Engine.start(EngineConfig(backend="echo"), base, "0" * 64, base.parent))


def test_a_full_queue_says_when_to_come_back(runner, base):
    async def overfill():
        async with running(base, queue_sequences_max=8) as engine:
            os.kill(engine.status().pid, signal.SIGSTOP)  # so that nothing drains while we look
            first = asyncio.ensure_future(engine.encode("plain", [text(3)] * 8))
            await asyncio.sleep(0)
            with pytest.raises(QueueFull) as caught:
                await engine.encode("plain", [text(3)])
            os.kill(engine.status().pid, signal.SIGCONT)
            return caught.value, await first

    error, answer = runner.run(overfill())
    assert 0 < error.retry_after_s <= 60
    assert len(answer) == 8


def test_a_request_that_can_never_fit_is_too_long(runner, base):
    async def oversize():
        async with running(base, queue_sequences_max=64, message_bytes_max=1 << 16) as engine:
            with pytest.raises(InputTooLong):
                await engine.encode("plain", [text(3)] * 65)
            with pytest.raises(InputTooLong):  # few sequences, but more answer than a message may hold
                await engine.encode("tag", [text(512)] * 9)

    runner.run(oversize())


def test_a_deadline_ends_the_wait_and_frees_the_queue(runner, base):
    async def late():
        async with running(base) as engine:
            os.kill(engine.status().pid, signal.SIGSTOP)
            with pytest.raises(DeadlineExceeded):
                await engine.encode("plain", [text(3)], deadline_s=0.02)
            queued = engine.status().queued_sequences
            os.kill(engine.status().pid, signal.SIGCONT)
            return queued, await engine.encode("plain", [text(3)])

    queued, answer = runner.run(late())
    assert queued == 0 and len(answer) == 1


def test_a_caller_that_leaves_frees_its_sequences(runner, engine):
    async def leave():
        call = asyncio.ensure_future(engine.encode("plain", [text(200)] * 400))
        while engine.status().queued_sequences == 0:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        return call.cancelled(), engine.status().queued_sequences, await engine.encode("plain", [text(3)])

    cancelled, queued, answer = runner.run(leave())
    assert cancelled and queued == 0 and len(answer) == 1


def test_a_closed_engine_refuses_everything_and_its_worker_is_gone(runner, base):
    async def close():
        engine = await started(base)
        pid = engine.status().pid
        await engine.close()
        await engine.close()
        for call in (engine.load(PLAIN), engine.encode("plain", [text(3)]), engine.probe_network("127.0.0.1", 9)):
            with pytest.raises(EngineUnavailable):
                await call
        return pid

    with pytest.raises(ProcessLookupError):
        os.kill(runner.run(close()), 0)
