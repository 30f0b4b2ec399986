"""A streamed answer: every piece is in the log before it leaves, and exactly one record closes the exchange.

The log is in memory and refuses the appends it is told to; consumers stop, are cancelled and fail at every step. After
each run the next start's recovery is applied, as it would be, and the records are counted.
"""

import asyncio
import hashlib
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ApplianceError, AuditPaused, AuditQuarantined, AuditUnavailable, EngineUnavailable
from appliance.service.event_names import WINDOW
from appliance.service.exchange import StreamEnd, recorded_exchange, stream_exchange
from appliance.service.recovery import _close, open_exchanges
from appliance.types import Outcome, Principal
from tests.service.service_fakes import MemoryLog

ANA = Principal("user:1", "ana", "user", frozenset({"user"}))


async def pieces(chunks: list[bytes], fails_after: int | None = None):
    for number, chunk in enumerate(chunks):
        if number == fails_after:
            raise EngineUnavailable("the worker died")
        await asyncio.sleep(0)
        yield chunk


async def streamed(log: MemoryLog, chunks, released: list, *, stop_after: int | None = None):
    """What a route does: release each piece as it comes; `stop_after`: the client has enough."""
    async with recorded_exchange(log, ANA, "specialist.run", {"via": "server"}) as exchange:
        answer = stream_exchange(exchange, b"question", {}, chunks, lambda: {"tokens": 7})
        async with aclosing(answer):
            async for piece in answer:
                released.append(piece.value)
                if stop_after is not None and len(released) >= stop_after:
                    raise asyncio.CancelledError


def windows_of(log: MemoryLog) -> list[bytes]:
    return [event.content for event in log.events if event.event == WINDOW]


def closings_of(log: MemoryLog) -> list:
    return [event for event in log.events if event.outcome != Outcome.ACCEPTED]


def recovered(log: MemoryLog) -> None:
    log.fail_at = frozenset()
    asyncio.run(_close(log, open_exchanges(log.records(limit=1000), lambda view: True)))


def test_each_piece_is_recorded_before_it_leaves_and_the_closing_record_binds_the_whole():
    log, released = MemoryLog(), []
    asyncio.run(streamed(log, pieces([b"Die ", b"Antwort", b""]), released))
    end = StreamEnd(2, 11, hashlib.sha256(b"Die Antwort").hexdigest())
    assert released == [b"Die ", b"Antwort", end]
    assert windows_of(log) == [b"Die ", b"Antwort"]
    assert [event.outcome for event in log.events] == [Outcome.ACCEPTED] * 3 + [Outcome.COMPLETED]
    closing = log.events[-1].attributes
    assert (closing["windows"], closing["answer_bytes"], closing["tokens"]) == (2, 11, 7)
    assert closing["answer_sha256"] == end.sha256
    assert log.events[1].attributes["window"] == 0


@pytest.mark.parametrize("error", [AuditUnavailable, AuditPaused, AuditQuarantined])
def test_piece_that_cannot_be_recorded_does_not_leave_and_nothing_after_it(error):
    log, released = MemoryLog(fail_at=frozenset({2}), error=lambda: error("no")), []
    with pytest.raises(error):
        asyncio.run(streamed(log, pieces([b"a", b"b", b"c"]), released))
    assert released == [b"a"]
    assert [event.outcome for event in closings_of(log)] == [Outcome.FAILED]
    assert closings_of(log)[0].attributes["windows"] == 1


def test_client_that_goes_away_closes_the_exchange_as_cancelled_with_what_was_recorded():
    log, released = MemoryLog(), []
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(streamed(log, pieces([b"a", b"b", b"c"]), released, stop_after=2))
    (closing,) = closings_of(log)
    assert closing.outcome == Outcome.CANCELLED
    assert closing.attributes["answer_sha256"] == hashlib.sha256(b"ab").hexdigest()


def test_window_after_one_that_was_not_recorded_is_a_mistake_of_ours():
    log = MemoryLog(fail_at=frozenset({1}))

    async def goes_on():
        async with recorded_exchange(log, ANA, "specialist.run", {}) as exchange:
            await exchange.open(b"question", {})
            try:
                await exchange.window(b"a")
            except AuditUnavailable:
                await exchange.window(b"b")

    with pytest.raises(AssertionError):
        asyncio.run(goes_on())
    assert windows_of(log) == []


def test_producer_is_stopped_when_the_consumer_is_gone():
    stopped = []

    async def endless():
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x"
        finally:
            stopped.append(True)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(streamed(MemoryLog(), endless(), [], stop_after=3))
    assert stopped == [True]


chunk_lists = st.lists(st.binary(min_size=0, max_size=5), max_size=5)


@given(
    chunks=chunk_lists,
    fail_at=st.frozensets(st.integers(0, 8), max_size=3),
    error=st.sampled_from([AuditUnavailable, AuditPaused, AuditQuarantined]),
    stop_after=st.none() | st.integers(1, 6),
    engine_fails_after=st.none() | st.integers(0, 5),
    cancelled_after=st.none() | st.integers(0, 30),
)
def test_whatever_happens_released_is_part_of_recorded_and_one_record_closes(
    chunks, fail_at, error, stop_after, engine_fails_after, cancelled_after
):
    log, released = MemoryLog(fail_at=fail_at, error=lambda: error("told to")), []

    async def serve():
        task = asyncio.create_task(streamed(log, pieces(chunks, engine_fails_after), released, stop_after=stop_after))
        for _ in range(cancelled_after if cancelled_after is not None else 0):
            await asyncio.sleep(0)
        if cancelled_after is not None:
            task.cancel()
        await asyncio.wait({task})
        return None if task.cancelled() else task.exception()

    failure = asyncio.run(serve())
    assert failure is None or isinstance(failure, ApplianceError)
    leaving = [piece for piece in released if isinstance(piece, bytes)]
    assert windows_of(log)[: len(leaving)] == leaving
    recovered(log)
    opened = [event for event in log.events if event.outcome == Outcome.ACCEPTED and event.event != WINDOW]
    assert len(opened) <= 1 and len(closings_of(log)) <= 1
    if opened:
        assert len(closings_of(log)) == 1
    if any(isinstance(piece, StreamEnd) for piece in released):
        assert closings_of(log)[0].outcome == Outcome.COMPLETED
        assert closings_of(log)[0].attributes["answer_sha256"] == hashlib.sha256(b"".join(leaving)).hexdigest()
