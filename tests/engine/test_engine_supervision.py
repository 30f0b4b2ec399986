"""A worker is kept alive: served, watched, buried, and followed by the next one, later each time until one succeeds.

Workers here are fakes that say what a test puts into their queue; the real ones are in the tests of crashes.
"""

import asyncio

import pytest

from appliance.engine import protocol
from appliance.engine.supervision import Supervisor, Timing
from appliance.engine.worker_process import Ending
from appliance.errors import EngineUnavailable, ModelFileRefused

GONE = None


class Worker:
    """A worker that says what is put into `reports`; `GONE` ends it."""

    def __init__(self, pid):
        self.pid, self.reports, self.posted = pid, asyncio.Queue(), []

    async def send(self, command):
        self.posted.append(command)

    def post(self, command):
        self.posted.append(command)

    async def receive(self):
        return await self.reports.get()

    def kill(self):
        self.reports.put_nowait(GONE)

    async def ended(self):
        return Ending(f"worker {self.pid} ended", crashed=True)


class Work:
    """An owner that notes what it is asked. `refused`: how many starts fail before the next worker comes."""

    def __init__(self, refused=0):
        self.refused, self.workers, self.said, self.started = refused, [], [], asyncio.Event()

    async def start_worker(self):
        if self.workers and self.refused:
            self.refused -= 1
            raise ModelFileRefused("the file is gone")
        self.workers.append(Worker(len(self.workers) + 1))
        return self.workers[-1], {"device": "cpu"}

    def hand_over(self, worker):
        self.said.append(("hand over", worker.pid))
        self.started.set()

    def take(self, report):
        self.said.append(("take", report))

    def bury(self, ending, *, stuck):
        self.said.append(("bury", ending.reason, stuck))
        return {"adapter": "a"}

    def mourn(self, error):
        self.said.append(("mourn", error.message))

    def fail_all(self, error):
        self.said.append(("fail all", error.message))

    async def next_worker(self):
        self.started.clear()
        await self.started.wait()


def supervised(test, *, watchdog_s=60.0, backoff_s=0.001, refused=0):
    """Run `test(supervisor, work, events)` with a supervisor that has begun."""

    async def run():
        work, events = Work(refused), []
        timing = Timing(start_s=5.0, watchdog_s=watchdog_s, backoff_s=backoff_s, backoff_max_s=4 * backoff_s)
        supervisor = Supervisor(work, timing, lambda event: events.append((event.kind, dict(event.attributes))))
        await supervisor.begin()
        try:
            async with asyncio.timeout(120):
                await test(supervisor, work, events)
        finally:
            await supervisor.end()

    asyncio.run(run())


def test_worker_that_dies_is_buried_before_the_next_one_is_given_what_is_owed():
    async def test(supervisor, work, events):
        work.workers[0].reports.put_nowait("a report")
        work.workers[0].kill()
        await work.next_worker()
        assert work.said == [
            ("hand over", 1),
            ("take", "a report"),
            ("bury", "worker 1 ended", False),
            ("mourn", "the engine lost its worker (worker 1 ended)"),
            ("hand over", 2),
        ]
        assert [kind for kind, _ in events] == ["worker_started", "worker_died", "worker_started"]
        assert events[1][1] == {"reason": "worker 1 ended", "restarts": 0, "adapter": "a"}
        await asyncio.sleep(0)
        assert (supervisor.state, supervisor.restarts, supervisor.worker) == ("ready", 1, work.workers[1])

    supervised(test)


def test_start_that_fails_fails_what_waits_and_is_tried_again():
    async def test(supervisor, work, events):
        work.workers[0].kill()
        await work.next_worker()
        assert [said for said in work.said if said[0] == "fail all"] == [
            ("fail all", "the engine cannot be restarted: the file is gone")
        ] * 2
        assert supervisor.failures == 3
        supervisor.succeeded()
        assert supervisor.failures == 0

    supervised(test, refused=2)


def test_first_start_that_fails_is_raised_to_who_asked():
    class Refusing(Work):
        async def start_worker(self):
            raise ModelFileRefused("no such file")

    async def run():
        supervisor = Supervisor(Refusing(), Timing(1, 1, 1, 1), lambda event: None)
        with pytest.raises(ModelFileRefused):
            await supervisor.begin()
        await supervisor.end()

    asyncio.run(run())


def test_silent_worker_is_killed_and_said_to_be_stuck():
    async def test(supervisor, work, events):
        await work.next_worker()
        assert ("bury", "worker 1 ended", True) in work.said
        assert [kind for kind, _ in events][:3] == ["worker_started", "worker_stuck", "worker_died"]
        assert work.workers[0].posted == [protocol.Ping(nonce=0)] * 4

    supervised(test, watchdog_s=0.04)


def test_wait_before_the_next_worker_doubles_up_to_its_bound_and_is_told():
    async def test(supervisor, work, events):
        waits = []
        for failures in (0, 1, 2, 3, 4, 50):
            supervisor.failures = failures
            waits.append(round(supervisor.unavailable("is restarting").retry_after_s / 10))
        assert waits == [1, 1, 2, 4, 4, 4]
        supervisor.failures = 0

    supervised(test, backoff_s=10.0)


def test_request_is_refused_without_waiting_while_workers_die_one_after_another():
    async def test(supervisor, work, events):
        supervisor.refuse_if_restarting()
        supervisor.worker, supervisor.failures = None, 1
        supervisor.refuse_if_restarting()
        supervisor.failures = 2
        with pytest.raises(EngineUnavailable, match="is restarting"):
            supervisor.refuse_if_restarting()
        supervisor.worker = work.workers[0]

    supervised(test)


def test_probe_is_answered_and_fails_with_its_worker():
    async def test(supervisor, work, events):
        first = asyncio.create_task(supervisor.probe_network("10.0.0.1", 80))
        second = asyncio.create_task(supervisor.probe_network("10.0.0.2", 80))
        await asyncio.sleep(0)
        work.workers[0].reports.put_nowait(protocol.Probed(1, "ENETUNREACH"))
        assert await first == "ENETUNREACH"
        work.workers[0].kill()
        with pytest.raises(EngineUnavailable, match="lost its worker"):
            await second
        assert not [said for said in work.said if said[0] == "take"]

    supervised(test)


def test_end_fails_what_is_in_flight_once_and_closes():
    async def test(supervisor, work, events):
        await supervisor.end()
        await supervisor.end()
        assert [said for said in work.said if said[0] == "fail all"] == [("fail all", "the engine is closed")]
        assert (supervisor.state, supervisor.worker) == ("closed", None)
        with pytest.raises(EngineUnavailable, match="closed"):
            supervisor.refuse_if_closed()
        with pytest.raises(EngineUnavailable, match="closed"):
            await supervisor.probe_network("10.0.0.1", 80)

    supervised(test)
