"""A search finds exactly what is there, by index or by opening everything, and tells how far it came.

The same questions are asked of a log with the index, of one without, and of one that had it for a while.
"""

import asyncio
import dataclasses

import pytest
from audit_home import an_event, opened

from appliance.audit.log import RecordView, SearchProgress, SearchQuery

EVENTS = [
    dataclasses.replace(
        an_event(i, content=f"note {i} of Mrs {'Müller' if i % 5 == 0 else 'Weber'}".encode()),
        actor=f"user:{i % 3}",
        event=("run", "deidentify")[i % 2],
        subject=f"case {i % 4}" if i % 7 else "",
        attributes={"specialist": f"s{i % 2}", "address": f"10.0.0.{i % 6}", "number": i},
    )
    for i in range(60)
]
QUESTIONS = [
    (SearchQuery(actor="user:1"), lambda e, i: i % 3 == 1),
    (SearchQuery(event="run"), lambda e, i: i % 2 == 0),
    (SearchQuery(exchange_id="x17"), lambda e, i: i == 17),
    (SearchQuery(specialist="s1", address="10.0.0.3"), lambda e, i: i % 2 == 1 and i % 6 == 3),
    (SearchQuery(actor="user:1", event="run"), lambda e, i: i % 3 == 1 and i % 2 == 0),
    (SearchQuery(subject="case 2"), lambda e, i: i % 7 and i % 4 == 2),
    (SearchQuery(text="müller"), lambda e, i: i % 5 == 0),
    (SearchQuery(text="weber", actor="user:0"), lambda e, i: i % 5 and i % 3 == 0),
    (SearchQuery(outcome="accepted"), lambda e, i: True),
    (SearchQuery(outcome="failed"), lambda e, i: False),
    (SearchQuery(actor="user:9"), lambda e, i: False),
]


def answers(log, query, **more):
    """Numbers of the hits, newest first, and the last progress."""
    steps = list(log.search(dataclasses.replace(query, **more)))
    assert isinstance(steps[-1], SearchProgress) and steps[-1].done
    assert all(step.scanned <= step.total for step in steps if isinstance(step, SearchProgress))
    return [
        step.attributes["number"] for step in steps if isinstance(step, RecordView) and "number" in step.attributes
    ], steps[-1]


@pytest.mark.parametrize("index", [(True, True), (False, False), (False, True)], ids=["on", "off", "later"])
def test_every_question_is_answered_alike_with_and_without_the_index(home, index):
    async def write(events, index):
        async with opened(home, index=index) as log:
            for event in events:
                await log.append(event)

    async def ask():
        async with opened(home) as log:
            for query, wanted in QUESTIONS:
                found, last = answers(log, query)
                assert found == [i for i in reversed(range(60)) if wanted(EVENTS[i], i)], query
                assert last.complete and last.found >= len(found)
            return last

    asyncio.run(write(EVENTS[:30], index[0]))
    asyncio.run(write(EVENTS[30:], index[1]))
    last = asyncio.run(ask())
    if index == (True, True):
        assert last.scanned == 0  # the index knows nobody of that name, so nothing had to be opened


def test_pages_time_and_bounds(home):
    async def run():
        async with opened(home, scanned_max=25) as log:
            for event in EVENTS:
                await log.append(event)
            found, last = answers(log, SearchQuery(event="run"), limit=4)
            assert found == [58, 56, 54, 52] and not last.complete
            seq = next(view.seq for view in log.records() if view.attributes["number"] == 52)
            assert answers(log, SearchQuery(event="run"), limit=4, after=seq)[0] == [50, 48, 46, 44]
            found, last = answers(log, SearchQuery(outcome="accepted"))
            assert (len(found), last.scanned, last.complete) == (25, 25, False)
            times = [int(view.time.timestamp() * 1000) for view in log.records(limit=62)]
            middle = times[len(times) // 2]
            later, earlier = answers(log, SearchQuery(text="mrs"), from_ms=middle, limit=99)[0], None
            log._settings = log._settings.model_copy(update={"scanned_max": 1000})
            later, _ = answers(log, SearchQuery(text="mrs"), from_ms=middle)
            earlier, _ = answers(log, SearchQuery(text="mrs"), to_ms=middle)
            assert later + earlier == list(reversed(range(60))) and later and earlier
            buckets = log.activity(min(times), max(times) + 1, 7)
            assert sum(bucket.exchange for bucket in buckets) == 60
            assert sum(bucket.public for bucket in buckets) == 2
            assert [view.event for view in log.records(event="start")] == ["start"]
            page = log.read_page(2, 5)
            assert [view.seq for _, view in page] == [2, 3, 4, 5, 6] and all(len(header) == 200 for header, _ in page)
            assert log.read_page(61, 5)[0][1].attributes["number"] == 59 and log.read_page(62, 5) == []

    asyncio.run(run())
