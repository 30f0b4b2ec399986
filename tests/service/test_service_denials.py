"""A flood of refused requests leaves a bounded number of records and still tells how many there were.

Time is the test's own; the log is one in memory that can refuse.
"""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from appliance.service.denials import ADDRESSES_MAX, MINUTE_S, Denial, Denials
from appliance.types import Outcome
from tests.service.service_fakes import MemoryLog


def denial(address: str = "10.0.0.7") -> Denial:
    return Denial("unauthenticated", "GET", "/v1/accounts", address)


def flooded(log: MemoryLog, times: list[float], addresses: list[str], per_minute: int = 3) -> None:
    """Refuse one request at each time, then let the last minute end."""

    async def send():
        now = 0.0
        denials = Denials(log, per_minute, now=lambda: now)
        for now, address in zip(times, addresses, strict=True):  # noqa: B007  # read through the closure
            await denials.record(denial(address))
        await denials.flush(everything=True)

    asyncio.run(send())


def told(log: MemoryLog) -> int:
    """How many refusals the records speak of."""
    return sum(int(event.attributes.get("count", 1)) for event in log.events)


def test_few_refusals_are_recorded_one_by_one_with_code_route_and_address():
    log = MemoryLog()
    flooded(log, [0, 1], ["10.0.0.7"] * 2)
    assert [event.event for event in log.events] == ["request.denied"] * 2
    assert log.events[0].outcome == Outcome.REFUSED
    expected = {"error": "unauthenticated", "method": "GET", "route": "/v1/accounts", "address": "10.0.0.7"}
    assert log.events[0].attributes == expected


def test_flood_of_one_address_is_bounded_and_counted():
    log = MemoryLog()
    flooded(log, [number / 100 for number in range(1000)], ["10.0.0.7"] * 1000)
    assert len(log.events) == 4
    assert log.events[-1].attributes == {"address": "10.0.0.7", "count": 997}


def test_summary_comes_when_the_minute_ends_and_the_next_one_counts_anew():
    log = MemoryLog()
    flooded(log, [0, 1, 2, 3, MINUTE_S + 1], ["10.0.0.7"] * 5)
    assert [event.attributes.get("count") for event in log.events] == [None, None, None, 1, None]


def test_flood_from_many_addresses_is_bounded_too():
    log = MemoryLog()
    addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(3 * ADDRESSES_MAX)]
    flooded(log, [0.0] * len(addresses), addresses)
    assert len(log.events) <= ADDRESSES_MAX + 4
    assert told(log) == len(addresses)


def test_refusal_that_cannot_be_recorded_is_counted_instead():
    log = MemoryLog(fail_at=frozenset({0}))
    flooded(log, [0, 1], ["10.0.0.7"] * 2)
    assert told(log) == 2


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 3)), max_size=60), st.integers(1, 5))
def test_every_refusal_is_told_and_no_minute_of_an_address_has_more_records_than_allowed(steps, per_minute):
    log, times, now = MemoryLog(), [], 0.0
    for wait, _ in steps:
        now += wait
        times.append(now)
    flooded(log, times, [str(address) for _, address in steps], per_minute)
    assert told(log) == len(steps)
    minutes = max(1, len(steps))
    assert len(log.events) <= minutes * (per_minute + 1)
