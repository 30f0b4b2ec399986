"""Checkpoints that witnesses signed, cursors of sinks and backups are kept by the sequencer, and only true ones are."""

import asyncio
import secrets
from datetime import UTC, datetime

import pytest
from audit_home import an_event, opened

from appliance.audit import store
from appliance.audit.log import Cursor
from appliance.crypto.note import SignatureLine, verify_note
from appliance.errors import InvalidRequest


def witnessed(note, name="witness.example/w1"):
    return note + str(SignatureLine(name, b"wit1", secrets.token_bytes(72)))


def kept(log):
    with log._reader.snapshot() as connection:
        return [row for row in store.read_checkpoints(connection, 0, 1000) if row.cosigs]


def test_the_newest_cosigned_checkpoint_is_kept_and_one_of_every_minute_before_it(home):
    async def run():
        async with opened(home) as log:
            notes = []
            for i in range(6):
                notes.append(witnessed((await log.append(an_event(i))).checkpoint))
                await log.keep_cosigned(notes[-1])
            rows = kept(log)
            assert [row.note + row.cosigs for row in rows] == [notes[0], notes[-1]]
            verify_note(rows[-1].note + rows[-1].cosigs, log._keystore.origin, log._keystore.public_key)
            await log.keep_cosigned(notes[-1] + str(SignatureLine("w2", b"wit2", bytes(72))))
            assert kept(log)[-1].cosigs.count("\n") == 2

    asyncio.run(run())


def test_a_checkpoint_that_is_not_ours_or_nobody_witnessed_is_refused(home):
    async def run():
        async with opened(home) as log:
            note = (await log.append(an_event())).checkpoint
            for wrong in (
                note,
                "no note",
                witnessed(note).replace(log._keystore.origin, "other.example/x/e1"),
                witnessed(note).replace("\n3\n", "\n300\n"),
                witnessed(note).replace("\n3\n", "\n2\n"),
            ):
                with pytest.raises(InvalidRequest):
                    await log.keep_cosigned(wrong)
            assert kept(log) == []
            # Nothing of this is a record.
            assert [view.event for view in reversed(log.records())] == ["genesis", "start", "deidentify"]

    asyncio.run(run())


def test_cursors_are_remembered_over_restarts_and_are_never_beyond_the_log(home):
    async def write():
        async with opened(home) as log:
            await log.append(an_event())
            await log.move_cursor("siem", 2, 0, 0)
            await log.move_cursor("siem", 3, 3, 1_767_225_600_000)
            await log.move_cursor("witness", 0, 2, 5)
            with pytest.raises(InvalidRequest):
                await log.move_cursor("siem", 4, 0, 0)
            with pytest.raises(InvalidRequest):
                await log.move_cursor("two words", 0, 0, 0)

    async def read():
        async with opened(home) as log:
            return log.cursors()

    asyncio.run(write())
    assert asyncio.run(read()) == {"siem": Cursor(3, 3, 1_767_225_600_000), "witness": Cursor(0, 2, 5)}


def test_a_backup_is_a_record_with_a_label(home):
    async def run():
        async with opened(home) as log:
            expires = datetime(2027, 1, 1, tzinfo=UTC)
            for until, expires_ms in ((expires, 1_798_761_600_000), (None, 0)):
                view = log.record((await log.backup_made("tape-7", 2, until)).record_id)
                assert (view.event, view.attributes) == (
                    "backup",
                    {"target": "tape-7", "size": 2, "expires_ms": expires_ms, "v": 1},
                )
            for wrong in (
                ("a path with spaces", 2, expires),
                ("tape-7", -1, expires),
                ("tape-7", 2, datetime(1969, 7, 20, tzinfo=UTC)),
            ):
                with pytest.raises(InvalidRequest):
                    await log.backup_made(*wrong)

    asyncio.run(run())
