"""What is destroyed was announced first, what is held is not destroyed, and what was cut off is finished.

Real sequencers and keystores. Races are run many times with a printed seed: whoever comes first wins, and no key is
ever destroyed under a hold that the log holds already.
"""

import asyncio
import fcntl
import random
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from audit_home import WAIT_S, an_event, opened, until
from pysqlite3 import dbapi2

from appliance.audit import log as audit_log
from appliance.audit.administration import LOCK_FILE as ERASURE_LOCK
from appliance.audit.clock import read_clock
from appliance.audit.log import HoldRequest
from appliance.audit.protocol import Shred
from appliance.audit.record import month_of, subject_owner
from appliance.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    RetentionShortened,
    UnderLegalHold,
)

SEED = random.SystemRandom().randrange(2**32)
EXCHANGE = 1


def about(subject, number=0):
    return replace(an_event(number, content=f"note about {subject}".encode()), subject=subject)


def hold_on(*subjects, classes=()):
    return HoldRequest(secrets.token_bytes(8), subjects, classes, "litigation")


@pytest.fixture(autouse=True)
def no_month_ends_meanwhile(monkeypatch):
    began = read_clock()
    monkeypatch.setattr("appliance.audit.log.read_clock", lambda: began)


def now_month():
    """The month of the keys under which this test records."""
    return month_of(audit_log.read_clock().wall_ms)


def rows(home, statement):
    connection = dbapi2.connect(f"file:{home.audit_database}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def events_of(log):
    return [view.event for view in reversed(log.records(limit=1000, kind="public"))]


def test_a_shredded_subject_is_gone_and_nobody_else_is(home):
    async def run():
        async with opened(home) as log:
            mine = [about("case 1", i) for i in range(5)]
            other, actors_own = about("case 2"), an_event(content=b"of the actor")
            for event in (*mine, other, actors_own):
                await log.append(event)
            before = [log.receipt(event.record_id) for event in mine]
            certificate = await log.shred("case 1", "request", "user:3")
            assert (certificate.grade, certificate.scopes, certificate.records) == ("B", 1, 5)
            assert "Grade B" in certificate.statement and "5 records" in certificate.statement
            for event, receipt in zip(mine, before, strict=True):
                assert log.content(event.record_id) is None
                assert log.record(event.record_id).readable
                assert log.receipt(event.record_id).leaf == receipt.leaf
            assert log.content(other.record_id) == b"note about case 2"
            assert log.content(actors_own.record_id) == b"of the actor"
            assert events_of(log)[-2:] == ["shred", "erased"]
            (erasure,) = log.erasures()
            assert (erasure.kind, erasure.erased, erasure.done) == ("shred", 5, True)
            with pytest.raises(NotFound):
                await log.shred("case 1", "request", "user:3")
            # The same subject may come again: under a new key.
            again = about("case 1")
            await log.append(again)
            assert log.content(again.record_id) == b"note about case 1"

    asyncio.run(run())
    # One token of the index for each content that is left: case 2, the actor's own, and the one that came again.
    scopes = rows(home, "SELECT count(*) FROM blind JOIN record USING (seq) WHERE token = substr(header, 65, 12)")
    assert scopes == [(3,)]


def test_a_purge_takes_envelopes_contents_and_tokens_and_leaves_headers(home):
    async def run():
        async with opened(home) as log:
            await log.append(an_event(1, content=b"text"))
            kept = replace(an_event(2), exchange_id="")  # administration
            await log.append(kept)
            certificate = await log.purge(EXCHANGE, now_month(), "retention", "")
            assert certificate.records == 1
            assert log.record(kept.record_id).readable
            assert [view.readable for view in log.records(kind="sealed")] == [True, False]
            assert log.expired(datetime.now(UTC)) == []
            with pytest.raises(NotFound):
                await log.purge(EXCHANGE, now_month(), "retention", "")
            fresh = an_event(3, content=b"afterwards")
            await log.append(fresh)
            assert log.content(fresh.record_id) == b"afterwards"

    asyncio.run(run())
    assert rows(home, "SELECT count(*) FROM record WHERE seq = 2 AND env_ct IS NULL AND con_ct IS NULL") == [(1,)]
    assert rows(home, "SELECT count(*) FROM blind WHERE seq = 2") == [(0,)]
    assert rows(home, "SELECT length(header) FROM record WHERE seq = 2") == [(200,)]


def test_the_index_key_goes_with_the_last_class_of_its_month(home):
    async def run():
        async with opened(home) as log:
            await log.append(an_event(1))
            await log.append(replace(an_event(2), exchange_id=""))
            await log.purge(EXCHANGE, now_month(), "retention", "")
            assert len(log._keystore.scopes_of(0, now_month())) == 1
            await log.purge(2, now_month(), "retention", "")
            assert log._keystore.scopes_of(0, now_month()) == []

    asyncio.run(run())


@pytest.mark.parametrize("how", ["subject", "class"])
def test_a_hold_beats_every_destruction_until_it_is_released(home, how):
    async def run():
        async with opened(home) as log:
            held, free = about("case 1"), about("case 2")
            for event in (held, free):
                await log.append(event)
            hold = hold_on("case 1") if how == "subject" else hold_on(classes=(EXCHANGE,))
            await log.set_hold(hold)
            with pytest.raises(Conflict):
                await log.set_hold(hold)
            with pytest.raises(UnderLegalHold, match=hold.hold_id.hex()):
                await log.shred("case 1", "request", "user:3")
            with pytest.raises(UnderLegalHold):
                await log.purge(EXCHANGE, now_month(), "retention", "")
            assert log.content(held.record_id) == b"note about case 1"
            assert len(log.unheld_scopes(EXCHANGE, now_month())) == (1 if how == "subject" else 0)
            if how == "subject":
                await log.shred_scopes(log.unheld_scopes(EXCHANGE, now_month()), "retention", "")
                assert log.content(free.record_id) is None
            await log.release_hold(hold.hold_id, "user:3,user:7")
            with pytest.raises(Conflict):
                await log.release_hold(hold.hold_id, "user:3,user:7")
            (view,) = log.holds()
            assert (view.reason, view.approvals, view.released_seq is not None) == ("litigation", "user:3,user:7", True)
            await log.shred("case 1", "request", "user:3")
            assert log.content(held.record_id) is None

    asyncio.run(run())


def test_requests_that_make_no_sense_are_refused_and_change_nothing(home):
    async def run():
        async with opened(home) as log:
            with pytest.raises(InvalidRequest):
                await log.set_hold(hold_on())
            with pytest.raises(InvalidRequest):
                await log.set_hold(replace(hold_on("a"), reason="two words"))
            with pytest.raises(InvalidRequest):
                await log.set_hold(replace(hold_on("a"), hold_id=b"short"))
            with pytest.raises(NotFound):
                await log.release_hold(bytes(8), "user:1,user:2")
            with pytest.raises(NotFound):
                await log.shred("nobody", "request", "user:1")
            assert log.holds() == [] and log.erasures() == []
            assert events_of(log) == ["genesis", "start"]

    asyncio.run(run())


def test_retention_is_lengthened_only_and_says_what_is_over(home):
    async def run():
        async with opened(home) as log:
            await log.append(an_event())
            await log.set_retention(EXCHANGE, 24)
            await log.set_retention(EXCHANGE, 36)
            with pytest.raises(RetentionShortened, match="36 months"):
                await log.set_retention(EXCHANGE, 35)
            with pytest.raises(RetentionShortened, match="6 months"):
                await log.set_retention(2, 5)
            assert log.retention() == {EXCHANGE: 36}
            now = datetime.now(UTC)
            assert log.expired(now + timedelta(days=35 * 30)) == []
            assert log.expired(now + timedelta(days=40 * 31)) == [(EXCHANGE, now_month())]
            return events_of(log)

    assert asyncio.run(run()) == ["genesis", "start", "retention", "retention"]

    async def again():
        async with opened(home) as log:
            assert log.retention() == {EXCHANGE: 36}

    asyncio.run(again())


def test_a_destruction_that_was_cut_off_after_its_announcement_is_finished_at_the_next_start(home):
    event = about("case 1")

    async def announce():
        async with opened(home) as log:
            await log.append(event)
            owner = log._keystore.owner_id(subject_owner("case 1"))
            scopes = tuple(key.scope_id for key in log._keystore.scopes_of_owner(owner))
            # What `shred` does first; then the process is gone.
            await log._administration.ask(Shred(0, scopes, (1,), (owner,), owner, "B", "request", "user:3"))
            assert log.content(event.record_id) == b"note about case 1"

    async def finish():
        async with opened(home) as log:
            assert await log.finish_erasures() == 1
            await until(lambda: log.erasures()[0].done)
            assert log.content(event.record_id) is None
            assert await log.finish_erasures() == 0
            await log.append(about("case 1"))

    asyncio.run(announce())
    asyncio.run(finish())


def test_a_hold_that_comes_while_keys_are_being_destroyed_waits_for_them(home):
    async def run():
        async with opened(home) as log:
            await log.append(about("case 1"))
            owner = log._keystore.owner_id(subject_owner("case 1"))
            scopes = tuple(key.scope_id for key in log._keystore.scopes_of_owner(owner))
            await log._administration.ask(Shred(0, scopes, (1,), (owner,), owner, "B", "request", "user:3"))
            receipt = await log.set_hold(hold_on("case 1"))
            assert log._keystore.scopes_of_owner(owner) == []
            assert receipt.seq > log.erasures()[0].seq

    asyncio.run(run())


def test_whoever_still_has_a_destroyed_key_in_memory_seals_under_another(home):
    async def run():
        async with opened(home) as one, opened(home) as other:
            first = about("case 1")
            await one.append(first)
            await other.append(about("case 1"))
            await one.shred("case 1", "request", "user:3")
            second = about("case 1")
            await other.append(second)
            assert one.content(first.record_id) is None
            assert other.content(second.record_id) == b"note about case 1"

    asyncio.run(run())


def test_a_thousand_records_are_erased_in_small_steps_while_others_are_appended(home):
    async def run():
        async with opened(home) as log:
            await asyncio.gather(*(log.append(about("case 1", i)) for i in range(900)))
            shredding = asyncio.create_task(log.shred("case 1", "request", "user:3"))
            while not shredding.done():
                await log.append(about("case 2"))
            assert (await shredding).records == 900

    asyncio.run(run())


def test_who_gives_up_waiting_for_another_process_that_destroys_does_not_wait_at_the_end(home):
    async def run():
        async with opened(home) as log:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(log.finish_erasures(), 0.1)

    (home.runtime / ERASURE_LOCK).touch()
    with (home.runtime / ERASURE_LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        asyncio.run(run())

    async def again():
        async with opened(home) as log:
            return await log.finish_erasures()

    assert asyncio.run(again()) == 0


# --- races ------------------------------------------------------------------------------------------------------------


def noting_sizes(log):
    """The size of the log whenever keys were destroyed."""
    sizes, destroy = [], log._keystore.destroy

    def destroy_and_note(ids):
        count = destroy(ids)
        sizes.append(log._reader.signed_head().size)
        return count

    log._keystore.destroy = destroy_and_note
    return sizes


async def race(log, chance, number):
    """One destruction against one hold; whether the hold won. In the first race it does, in the second it does not."""
    subject = f"case {number}"
    event = about(subject, number)
    await log.append(event)
    purge = chance.random() < 0.3
    hold = hold_on(subject) if chance.random() < 0.5 else hold_on(classes=(EXCHANGE,))

    async def destroy():
        if number == 0:
            await asyncio.wait({holding})
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        if purge:
            return await log.purge(EXCHANGE, now_month(), "retention", "")
        return await log.shred(subject, "request", "user:3")

    async def set_hold():
        if number == 1:
            await asyncio.wait({destroying})
        # A destruction looks up more before it is announced than a hold does: some holds must come much later.
        for _ in range(chance.randrange(chance.choice((30, 300, 3000, 30_000)))):
            await asyncio.sleep(0)
        return await log.set_hold(hold)

    sizes = noting_sizes(log)
    destroying, holding = asyncio.create_task(destroy()), asyncio.create_task(set_hold())
    destroyed, held = await asyncio.gather(destroying, holding, return_exceptions=True)
    del log._keystore.destroy
    if isinstance(destroyed, UnderLegalHold):
        assert log.content(event.record_id) == f"note about {subject}".encode()
        assert sizes == []
    else:
        assert destroyed.seq < held.seq
        assert all(size <= held.seq for size in sizes), "a key was destroyed under a hold"
    await log.release_hold(hold.hold_id, "user:3,user:7")
    return isinstance(destroyed, UnderLegalHold)


def run_races(home, count):
    print("seed", SEED)
    chance = random.Random(SEED)

    async def run():
        async with opened(home, append_s=WAIT_S) as log:
            return [await race(log, chance, number) for number in range(count)]

    outcomes = asyncio.run(run())
    assert 0 < sum(outcomes) < count, "both orders happened"


def test_in_every_race_either_the_hold_wins_or_the_announcement_precedes_it(home):
    run_races(home, 50)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_in_a_thousand_races_no_key_is_destroyed_under_a_hold(home):
    run_races(home, 1000)
