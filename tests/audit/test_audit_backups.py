"""The certificate of a destruction tells the truth about backups: it counts those that the log knows of and that may
hold what was destroyed, recorded in this epoch or an earlier one, and says until when.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from audit_home import an_event, config_of, opened

import migrations
from appliance.audit.backups import Backup, backups_sentence, last_expiry, that_may_hold
from appliance.audit.epochs import recover_declaring_loss
from appliance.audit.record import month_of

NOW = datetime.now(UTC).replace(microsecond=0)
SOON, LATER = NOW + timedelta(days=30), NOW + timedelta(days=90)


def a_backup(*, made=NOW, expires=LATER, target="b-1"):
    return Backup(target, 7, made, expires)


def month(time):
    return month_of(int(time.timestamp() * 1000))


async def shredded(log, subject="case 1"):
    await log.append(replace(an_event(content=b"note"), subject=subject))
    return await log.shred(subject, "request", "user:3")


def test_backup_may_hold_a_key_unless_it_was_made_before_its_month_or_has_expired():
    march, day = datetime(2027, 3, 17, tzinfo=UTC), timedelta(days=1)
    older = a_backup(made=datetime(2027, 2, 28, 23, 59, tzinfo=UTC), expires=march + day)
    first = a_backup(made=datetime(2027, 3, 1, tzinfo=UTC), expires=march + day)
    lasting = a_backup(made=march, expires=None)
    every = [lasting, first, older]
    assert that_may_hold(every, month(march), march) == [lasting, first]
    assert that_may_hold(every, month(march), march + day) == [lasting]
    assert that_may_hold(every, month(older.made), march) == every


def test_last_expiry_is_none_without_backups_and_where_one_has_no_end():
    assert last_expiry([]) is None
    assert last_expiry([a_backup(expires=SOON), a_backup(expires=LATER), a_backup(expires=SOON)]) == LATER
    assert last_expiry([a_backup(), a_backup(expires=None)]) is None


def test_sentence_names_the_day_or_the_backup_that_has_no_end():
    assert "knows of no backup" in backups_sentence([])
    one = backups_sentence([a_backup()])
    assert "one of 1 recorded backup " in one and f"expires, on {LATER:%Y-%m-%d}." in one
    endless = backups_sentence([a_backup(), a_backup(target="tape-7", expires=None)])
    assert "2 recorded backups" in endless and "tape-7 has no date of expiry" in endless
    assert all("not known to the log" in said for said in (one, endless))


def test_certificate_counts_what_was_recorded_and_says_until_when(home):
    async def run():
        async with opened(home) as log:
            before = await shredded(log, "case 0")
            assert (before.backups, before.backups_expire) == (0, None)
            assert "knows of no backup" in before.statement
            await log.backup_made("b-1", 3, LATER)
            await log.backup_made("b-2", 4, SOON)
            await log.backup_made("b-0", 4, NOW - timedelta(days=1))
            dated = await shredded(log)
            assert (dated.backups, dated.backups_expire) == (2, LATER)
            assert "Grade B" in dated.statement and f"{LATER:%Y-%m-%d}" in dated.statement
            await log.backup_made("tape-7", 5, None)
            endless = await shredded(log, "case 2")
            assert (endless.backups, endless.backups_expire) == (3, None)
            assert "tape-7" in endless.statement

    asyncio.run(run())


def test_backups_of_an_epoch_that_a_loss_closed_count_too(home, root_key):
    async def record():
        async with opened(home) as log:
            await log.backup_made("b-1", 3, LATER)

    async def shred():
        async with opened(home) as log:
            assert len(log.epochs()) == 2
            await log.backup_made("b-2", 3, SOON)
            return await shredded(log)

    asyncio.run(record())
    recover_declaring_loss(config_of(home), root_key, lambda home: migrations.upgrade(home.root))
    certificate = asyncio.run(shred())
    assert (certificate.backups, certificate.backups_expire) == (2, LATER)
