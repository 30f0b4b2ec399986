"""The log is read newest first, in pages, by filter, and what cannot be opened is shown as such and hides nothing.

Records are appended through the real sequencer and read while it runs and after it has ended.
"""

import asyncio
import dataclasses
import secrets

import pytest
from audit_home import an_event, opened
from pysqlite3 import dbapi2

from appliance.audit.gate import Released, ReleasedWindow, release, release_window
from appliance.audit.proof import parse_proof
from appliance.errors import RecordNotFound


def test_pages_follow_each_other_without_gap_or_repeat(home):
    async def run():
        async with opened(home) as log:
            await asyncio.gather(*(log.append(an_event(i)) for i in range(23)))
            seqs, after = [], None
            while page := log.records(after, 10):
                seqs += [view.seq for view in page]
                after = page[-1].seq
            return seqs

    assert asyncio.run(run()) == list(range(24, -1, -1))


def test_filters_look_behind_the_page_they_fill(home):
    async def run():
        async with opened(home) as log:
            for i in range(6):
                event = dataclasses.replace(an_event(i), actor=f"user:{i % 2}", event=("run", "deidentify")[i % 3 == 0])
                await log.append(event)
            assert [view.seq for view in log.records(actors={"user:1"})] == [7, 5, 3]
            assert [view.seq for view in log.records(event="deidentify")] == [5, 2]
            assert [view.event for view in log.records(kind="public")] == ["start", "genesis"]
            assert log.records(actors={"user:1"}, event="start") == []

    asyncio.run(run())


def test_an_unknown_record_is_not_found(home):
    async def run():
        async with opened(home) as log:
            absent = secrets.token_bytes(16)
            for read in (log.record, log.content, log.receipt, log.proof_text):
                with pytest.raises(RecordNotFound, match=absent.hex()):
                    read(absent)
            assert await log.resolve(absent) is None

    asyncio.run(run())


def test_a_record_whose_key_was_destroyed_is_listed_unreadable_and_its_receipt_still_holds(home):
    event = an_event(content=b"text")

    async def write():
        async with opened(home) as log:
            await log.append(event)

    async def read():
        async with opened(home) as log:
            view = log.record(event.record_id)
            assert (view.readable, view.event, view.actor) == (False, "", "")
            receipt, _ = parse_proof(log.proof_text(event.record_id))
            assert receipt == log.receipt(event.record_id)

    asyncio.run(write())
    connection = dbapi2.connect(home.keystore)
    with connection:
        connection.execute("DELETE FROM scope_key WHERE kind = 'env'")
    connection.close()
    asyncio.run(read())


def test_nothing_is_released_without_a_receipt_that_covers_it(home):
    async def run():
        async with opened(home) as log:
            return await log.append(an_event())

    receipt = asyncio.run(run())
    assert release(b"answer", receipt).value == b"answer"
    with pytest.raises(TypeError):
        Released(b"answer", None)
    with pytest.raises(ValueError, match="does not cover"):
        release(b"answer", dataclasses.replace(receipt, size=receipt.seq))


def test_pieces_of_a_stream_leave_in_order_each_under_a_record_of_its_own(home):
    async def run():
        async with opened(home) as log:
            return [await log.append(an_event(i)) for i in range(3)]

    receipts = asyncio.run(run())
    piece = None
    for i, receipt in enumerate(receipts):
        piece = release_window(f"piece {i}", receipt, after=piece)
        assert piece.index == i
    for receipt in receipts:
        with pytest.raises(ValueError, match="earlier piece"):
            release_window("again", receipt, after=piece)
    with pytest.raises(TypeError):
        ReleasedWindow("piece", None, 0)
