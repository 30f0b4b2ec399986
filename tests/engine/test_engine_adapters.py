"""The list of adapters: loaded once for all who wait, given to the next worker, refused when a file is to blame.

No worker runs: what one would say is handed in.
"""

import asyncio

import pytest

from appliance.engine import protocol
from appliance.engine.adapters import Adapters
from appliance.engine.worker_process import Ending
from appliance.errors import EngineUnavailable, ModelFileRefused, SpecialistFileInvalid

CRASHED, KILLED = Ending("killed by SIGABRT", crashed=True), Ending("killed by SIGKILL", crashed=False)


class Worker:
    """Takes commands and says nothing."""

    def __init__(self):
        self.sent = []

    async def send(self, command):
        self.sent.append(command)


class Bench:
    """The list under test, a worker, and the events that came."""

    def __init__(self, start_s=60.0):
        self.events, self.worker = [], Worker()
        self.adapters = Adapters(
            lambda item: f"load {item}",
            lambda code, message, hint: ModelFileRefused(message, hint=hint),
            start_s=start_s,
            noun="adapter",
            on_event=lambda event: self.events.append((event.kind, dict(event.attributes))),
        )

    def begin(self, key):
        return asyncio.create_task(self.adapters.load(key, key, lambda: self.worker))

    async def loaded(self, key):
        waiting = self.begin(key)
        await asyncio.sleep(0)
        self.adapters.take(protocol.Loading(key))
        self.adapters.take(protocol.Loaded(key, 1000))
        await waiting


def test_adapter_is_asked_for_once_and_everybody_who_waits_is_told():
    async def run():
        bench = Bench()
        waiting = [bench.begin("a"), bench.begin("a")]
        await asyncio.sleep(0)
        assert bench.worker.sent == ["load a"] and list(bench.adapters.commands()) == ["load a"]
        bench.adapters.take(protocol.Loaded("a", 1000))
        await asyncio.gather(*waiting)
        await bench.adapters.load("a", "a", lambda: None)
        assert (bench.worker.sent, bench.adapters.memory_bytes) == (["load a"], 1000)
        assert bench.events == [("adapter_loaded", {"adapter": "a"})]

    asyncio.run(run())


def test_refusal_reaches_who_waits_and_one_after_a_restart_takes_the_adapter_away():
    async def run():
        bench = Bench()
        waiting = bench.begin("a")
        await asyncio.sleep(0)
        bench.adapters.take(protocol.LoadRefused("a", "model_file_refused", "does not fit", None))
        with pytest.raises(ModelFileRefused, match="does not fit"):
            await waiting
        await bench.loaded("b")
        bench.adapters.take(protocol.LoadRefused("b", "model_file_refused", "changed", None))
        assert bench.adapters.loaded == {}
        assert [kind for kind, _ in bench.events] == ["adapter_refused", "adapter_loaded", "adapter_refused"]

    asyncio.run(run())


@pytest.mark.parametrize(("ending", "stuck"), [(CRASHED, False), (KILLED, True)])
def test_file_that_a_worker_crashed_or_hung_over_is_refused_until_it_is_forgotten(ending, stuck):
    async def run():
        bench = Bench()
        await bench.loaded("good")
        waiting = bench.begin("bad")
        await asyncio.sleep(0)
        bench.adapters.take(protocol.Loading("bad"))
        assert bench.adapters.bury(ending, stuck=stuck) == {"adapter": "bad"}
        with pytest.raises(SpecialistFileInvalid, match="made the engine's worker stop"):
            await waiting
        with pytest.raises(SpecialistFileInvalid):
            await bench.adapters.load("bad", "bad", lambda: bench.worker)
        assert list(bench.adapters.commands()) == ["load good"]
        assert not bench.adapters.forget("bad") and bench.adapters.poisoned == {}

    asyncio.run(run())


def test_one_kill_from_outside_blames_no_file_and_a_second_over_the_same_one_does():
    async def run():
        bench = Bench()
        waiting = bench.begin("a")
        await asyncio.sleep(0)
        bench.adapters.take(protocol.Loading("a"))
        bench.adapters.bury(KILLED, stuck=False)
        assert list(bench.adapters.commands()) == ["load a"] and not waiting.done()
        bench.adapters.take(protocol.Loading("a"))
        bench.adapters.bury(KILLED, stuck=False)
        with pytest.raises(SpecialistFileInvalid):
            await waiting

    asyncio.run(run())


def test_death_while_no_file_was_read_blames_none():
    async def run():
        bench = Bench()
        await bench.loaded("a")
        assert bench.adapters.bury(CRASHED, stuck=True) == {}
        assert list(bench.adapters.commands()) == ["load a"] and bench.adapters.poisoned == {}

    asyncio.run(run())


def test_wait_for_a_load_is_bounded_and_ends_for_all():
    async def run():
        bench = Bench(start_s=0.01)
        waiting = [bench.begin("a"), bench.begin("a")]
        for done in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(done, EngineUnavailable) and "did not load the adapter a" in done.message
        assert list(bench.adapters.commands()) == []

    asyncio.run(run())


def test_adapters_that_wait_fail_when_nobody_will_load_them():
    async def run():
        bench = Bench()
        waiting = bench.begin("a")
        await asyncio.sleep(0)
        bench.adapters.fail_all(EngineUnavailable("the engine is closed"))
        with pytest.raises(EngineUnavailable):
            await waiting

    asyncio.run(run())
