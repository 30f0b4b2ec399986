"""A worker may die; the engine does not. Real signals, and adapter files that really make llama.cpp crash.

After every fault: the caller has a clear error or an answer, a new worker serves, and the other adapters are back.
"""

import asyncio
import hashlib
import os
import signal
from contextlib import asynccontextmanager

import numpy as np
import pytest
from engine_clock import Clock, passes_until
from engine_tiny_bert import Lora, encode, merged, random_bert, random_lora, write_base, write_lora

from appliance.config import EngineConfig
from appliance.engine.client import Engine
from appliance.errors import EngineUnavailable, ModelFileRefused, SpecialistFileInvalid
from appliance.types import Adapter, EncodeInput, Head

MODEL = random_bert(np.random.default_rng(7))
GOOD = random_lora(np.random.default_rng(1), MODEL)
NO_HEAD = Head("none", 0, None, None, None, None)
IDS = np.array([2, 17, 40, 3], dtype=np.int32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crash")
    write_base(folder / "base.gguf", MODEL)
    write_lora(folder / "good.gguf", GOOD)
    # Both pass every check of the loader and break the arithmetic: integers instead of floats, one dimension too many.
    integers = {name: (a.astype(np.int32), b.astype(np.int32)) for name, (a, b) in GOOD.pairs.items()}
    write_lora(folder / "integers.gguf", Lora(4.0, integers))
    stacked = {name: (np.stack([a, a]), np.stack([b, b])) for name, (a, b) in GOOD.pairs.items()}
    write_lora(folder / "stacked.gguf", Lora(4.0, stacked))
    write_lora(folder / "nan.gguf", Lora(float("nan"), GOOD.pairs))
    whole = (folder / "good.gguf").read_bytes()
    (folder / "truncated.gguf").write_bytes(whole[: len(whole) // 2])
    (folder / "foreign.gguf").write_bytes(b"PK\3\4 no GGUF at all" * 50)
    (folder / "endless.gguf").write_bytes(whole[:8] + (1 << 60).to_bytes(8, "little") + whole[16:])
    return folder


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def adapter(folder, name: str) -> Adapter:
    return Adapter(name, folder / f"{name}.gguf", sha256(folder / f"{name}.gguf"), NO_HEAD)


@asynccontextmanager
async def running(folder, events=None, **values):
    base = folder / "base.gguf"
    config = EngineConfig(threads=1, restart_backoff_s=0.01, **values)
    record = (lambda event: None) if events is None else events.append
    engine = await Engine.start(config, base, sha256(base), folder, on_event=record)
    try:
        await engine.load(adapter(folder, "good"))
        yield engine
    finally:
        await engine.close()


async def good_answer(engine: Engine) -> bool:
    (output,) = await engine.encode("good", [EncodeInput(IDS)])
    return bool(np.abs(output - encode(merged(MODEL, GOOD), list(IDS)).mean(0)).max() < 0.01)


@pytest.mark.parametrize("name", ["truncated", "foreign", "endless", "nan"])
def test_a_file_that_the_library_refuses_costs_nothing(folder, name):
    async def scenario():
        async with running(folder) as engine:
            with pytest.raises(SpecialistFileInvalid):
                await engine.load(adapter(folder, name))
            assert await good_answer(engine)
            return engine.status()

    status = asyncio.run(scenario())
    assert status.restarts == 0 and status.adapters == ("good",)


@pytest.mark.parametrize(("name", "death"), [("integers", "SIG"), ("stacked", "SIGABRT: GGML_ASSERT")])
def test_a_file_that_kills_the_worker_is_refused_and_the_others_are_served_again(folder, name, death):
    async def scenario():
        events = []
        async with running(folder, events) as engine:
            with pytest.raises(SpecialistFileInvalid, match=death):
                await engine.load(adapter(folder, name))
            assert await good_answer(engine)
            with pytest.raises(SpecialistFileInvalid, match="refused from now on"):
                await engine.load(adapter(folder, name))
            assert await good_answer(engine)
            return engine.status(), events

    status, events = asyncio.run(scenario())
    assert (status.restarts, status.adapters, status.refused_adapters) == (1, ("good",), (name,))
    kinds = [event.kind for event in events]
    assert kinds == ["worker_started", "adapter_loaded", "adapter_refused", "worker_died", "worker_started"]
    assert events[3].attributes["adapter"] == name


def test_a_refused_file_may_be_tried_again_after_it_was_removed(folder):
    async def scenario():
        async with running(folder) as engine:
            with pytest.raises(SpecialistFileInvalid):
                await engine.load(adapter(folder, "stacked"))
            await engine.unload("stacked")
            with pytest.raises(SpecialistFileInvalid):
                await engine.load(adapter(folder, "stacked"))
            return engine.status().restarts

    assert asyncio.run(scenario()) >= 1


def test_a_request_in_flight_is_answered_by_the_next_worker(folder):
    async def scenario():
        async with running(folder) as engine:
            pid = engine.status().pid
            os.kill(pid, signal.SIGSTOP)
            call = asyncio.ensure_future(good_answer(engine))
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            return await call, engine.status().restarts

    assert asyncio.run(scenario()) == (True, 1)


def test_a_request_that_sees_two_workers_die_fails(folder):
    async def scenario():
        events, workers = asyncio.Queue(), []
        base = folder / "base.gguf"
        config = EngineConfig(threads=1, restart_backoff_s=0.01)

        def told(event):
            if event.kind == "worker_started":
                workers.append(event.attributes["pid"])
                if len(workers) == 2:  # before it is given the request, which it might answer before it is killed
                    os.kill(workers[1], signal.SIGSTOP)
            events.put_nowait(event)

        engine = await Engine.start(config, base, sha256(base), folder, on_event=told)
        try:
            await engine.load(adapter(folder, "good"))
            os.kill(engine.status().pid, signal.SIGSTOP)
            call = asyncio.ensure_future(good_answer(engine))
            await asyncio.sleep(0)
            os.kill(engine.status().pid, signal.SIGKILL)
            while (await events.get()).kind != "worker_died":
                pass
            assert (await events.get()).kind == "worker_started"
            os.kill(workers[1], signal.SIGKILL)
            with pytest.raises(EngineUnavailable, match="SIGKILL") as caught:
                await call
            assert caught.value.retry_after_s > 0
            with pytest.raises(EngineUnavailable, match="restarting"):  # two deaths in a row: nobody waits for a third
                await good_answer(engine)
            while (await events.get()).kind != "worker_started":
                pass
            return await good_answer(engine)
        finally:
            await engine.close()

    assert asyncio.run(scenario())


def test_a_stuck_worker_is_killed_and_its_request_is_answered(folder):
    async def scenario():
        events = []
        async with running(folder, events, request_s=600.0) as engine:
            os.kill(engine.status().pid, signal.SIGSTOP)
            call = asyncio.ensure_future(good_answer(engine))
            await passes_until(lambda: "worker_stuck" in [event.kind for event in events], most_s=120)
            return await call, [event.kind for event in events]

    with asyncio.Runner(loop_factory=Clock) as runner:
        answer, kinds = runner.run(scenario())
    assert answer and kinds[-3:] == ["worker_stuck", "worker_died", "worker_started"]


def test_a_worker_that_cannot_start_again_fails_requests_and_keeps_trying(folder, tmp_path):
    base = tmp_path / "base.gguf"
    base.write_bytes((folder / "base.gguf").read_bytes())
    good = base.read_bytes()

    async def scenario():
        config = EngineConfig(threads=1, restart_backoff_s=0.01, restart_backoff_max_s=0.05)
        engine = await Engine.start(config, base, sha256(base), tmp_path)
        try:
            await engine.load(adapter(folder, "good"))
            os.kill(engine.status().pid, signal.SIGSTOP)
            call = asyncio.ensure_future(good_answer(engine))
            await asyncio.sleep(0)
            base.write_bytes(b"overwritten")
            os.kill(engine.status().pid, signal.SIGKILL)
            with pytest.raises(EngineUnavailable, match="not the registered one"):
                await call
            base.write_bytes(good)
            while engine.status().state != "ready":
                await asyncio.sleep(0.005)
            return await good_answer(engine)
        finally:
            await engine.close()

    assert asyncio.run(scenario())


def test_a_base_that_is_no_model_is_refused(folder):
    async def scenario():
        foreign = folder / "foreign.gguf"
        await Engine.start(EngineConfig(threads=1), foreign, sha256(foreign), folder)

    with pytest.raises(ModelFileRefused, match="cannot load the base model"):
        asyncio.run(scenario())


def test_a_base_that_does_not_fit_is_refused_with_the_figures(folder):
    async def scenario():
        base = folder / "base.gguf"
        config = EngineConfig(threads=4, memory_bytes_max=64 * 1024**2, microbatch_tokens=512)
        await Engine.start(config, base, sha256(base), folder)

    with pytest.raises(ModelFileRefused, match="allows 64 MiB"):
        asyncio.run(scenario())


def test_a_file_is_not_blamed_for_a_kill_from_outside(folder):
    async def scenario():
        async with running(folder) as engine:
            os.kill(engine.status().pid, signal.SIGSTOP)
            call = asyncio.ensure_future(engine.load(adapter(folder, "second")))
            await asyncio.sleep(0)
            os.kill(engine.status().pid, signal.SIGKILL)
            await call
            return engine.status()

    (folder / "second.gguf").write_bytes((folder / "good.gguf").read_bytes())
    status = asyncio.run(scenario())
    assert (status.adapters, status.refused_adapters) == (("good", "second"), ())
