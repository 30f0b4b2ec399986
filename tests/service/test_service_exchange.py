"""One request leaves at most one opening and exactly one closing record, whatever ends it.

The log is one in memory that can refuse; the cancellations are real task cancellations.
"""

import asyncio

import pytest

from appliance.errors import AuditUnavailable, EngineUnavailable, InputEmpty, PermissionDenied, QueueFull
from appliance.service.exchange import outcome_of, recorded_exchange
from appliance.types import Outcome, Principal
from tests.service.service_fakes import MemoryLog

ANA = Principal("user:1", "ana", "user", frozenset({"user"}))


def exchange(log: MemoryLog):
    return recorded_exchange(log, ANA, "specialist.run", {"via": "cli"})


async def answered(log: MemoryLog):
    async with exchange(log) as open_exchange:
        await open_exchange.open(b"text", {"chars": 4})
        return await open_exchange.close("answer", b"sealed answer", {"spans": 0})


def test_answer_is_released_with_the_receipt_of_the_record_that_holds_it():
    log = MemoryLog()
    released = asyncio.run(answered(log))
    assert released.value == "answer"
    assert released.receipt.record_id == log.events[1].record_id
    assert log.outcomes() == [Outcome.ACCEPTED, Outcome.COMPLETED]
    assert log.events[0].content == b"text"
    assert log.events[1].content == b"sealed answer"


def test_both_records_name_one_exchange_and_the_person():
    log = MemoryLog()
    asyncio.run(answered(log))
    assert len({event.exchange_id for event in log.events}) == 1
    assert {event.actor for event in log.events} == {"user:1"}
    assert log.events[1].attributes == {"via": "cli", "chars": 4, "spans": 0}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InputEmpty("empty"), Outcome.REFUSED),
        (PermissionDenied("no"), Outcome.REFUSED),
        (QueueFull("full"), Outcome.REFUSED),
        (EngineUnavailable("died"), Outcome.FAILED),
        (ZeroDivisionError(), Outcome.FAILED),
        (asyncio.CancelledError(), Outcome.CANCELLED),
    ],
)
@pytest.mark.parametrize("opened", [False, True])
def test_every_way_out_closes_once_and_says_why(error, outcome, opened):
    log = MemoryLog()

    async def fails():
        async with exchange(log) as open_exchange:
            if opened:
                await open_exchange.open(b"text", {})
            raise error

    with pytest.raises(type(error)):
        asyncio.run(fails())
    assert log.outcomes() == [Outcome.ACCEPTED] * opened + [outcome]
    assert outcome_of(error) is outcome
    assert log.events[-1].content is None


def test_nothing_is_released_when_the_answer_cannot_be_recorded():
    log = MemoryLog(fail_at=frozenset({1}))
    with pytest.raises(AuditUnavailable):
        asyncio.run(answered(log))
    assert log.outcomes() == [Outcome.ACCEPTED]


def test_nothing_runs_when_the_opening_cannot_be_recorded():
    log = MemoryLog(fail_at=frozenset({0}))
    with pytest.raises(AuditUnavailable):
        asyncio.run(answered(log))
    assert log.attempts == 1


def test_cancelled_task_still_closes_its_exchange():
    log = MemoryLog()

    async def cancelled_in_the_middle():
        opened = asyncio.Event()

        async def work():
            async with exchange(log) as open_exchange:
                await open_exchange.open(b"text", {})
                opened.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await opened.wait()
        task.cancel()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(cancelled_in_the_middle())
    assert log.outcomes() == [Outcome.ACCEPTED, Outcome.CANCELLED]


def test_original_error_survives_a_log_that_cannot_record_the_closing():
    log = MemoryLog(fail_at=frozenset({1}))

    async def fails():
        async with exchange(log) as open_exchange:
            await open_exchange.open(b"text", {})
            raise EngineUnavailable("died")

    with pytest.raises(EngineUnavailable):
        asyncio.run(fails())
