"""A declared loss closes one log and begins the next; a quarantined log is read and not written.

Files are put back as a careless or dishonest operator would, and the recovery is cut off at each of its steps.
"""

import asyncio
import shutil

import pytest
from audit_home import an_event, config_of, opened

import migrations
from appliance.audit import epochs
from appliance.audit.control import parse_control
from appliance.audit.epochs import recover_declaring_loss
from appliance.audit.header import epoch_of
from appliance.audit.keystore import open_keystore
from appliance.audit.log import AuditLog, HoldRequest
from appliance.crypto.note import verify_note
from appliance.errors import AuditLogInvalid, AuditQuarantined, HomeInUse, NotFound, UnderLegalHold
from appliance.storage.database import open_database, reading


def create_tables(home):
    migrations.upgrade(home.root)


def fill(home, count):
    async def run():
        async with opened(home) as log:
            events = [an_event(i, content=b"text") for i in range(count)]
            receipts = [await log.append(event) for event in events]
            return events, receipts

    return asyncio.run(run())


def recover(home, root_key, notes=()):
    return recover_declaring_loss(config_of(home), root_key, create_tables, notes=notes)


def put_back_older_copy(home, tmp_path, count=4):
    """As a restored backup: the database is older than the signer's memory."""
    older = shutil.copy(home.audit_database, tmp_path / "older.db")
    _, receipts = fill(home, count)
    for path in home.audit_database.parent.glob("log.db*"):
        path.unlink()
    shutil.copy(older, home.audit_database)
    return receipts


def epoch_body(home):
    engine = open_database(home.audit_database, mode="ro", connections=1)
    try:
        with reading(engine) as connection:
            bodies = connection.exec_driver_sql("SELECT body FROM public_body ORDER BY seq LIMIT 2").scalars().all()
    finally:
        engine.dispose()
    return [parse_control(body) for body in bodies]


def test_a_declared_loss_begins_a_new_log_that_names_what_is_lost(home, root_key, tmp_path):
    events, _ = fill(home, 3)  # genesis, start, three records, stop
    receipts = put_back_older_copy(home, tmp_path)  # start, four records, stop
    with pytest.raises(AuditLogInvalid):
        asyncio.run(AuditLog.open(config_of(home), root_key))
    keystore = open_keystore(home, root_key)
    old_origin, old_key = keystore.origin, keystore.public_key
    recovery = recover(home, root_key)
    # The stop of the copy is there, but its signature is not: nobody can prove it.
    assert (recovery.lost_from, recovery.lost_to) == (5, 11)
    genesis, epoch = epoch_body(home)
    assert genesis["event"] == "genesis" and genesis["origin"] == recovery.origin
    assert (epoch["event"], epoch["lost_from"], epoch["lost_to"]) == ("epoch", 5, 11)
    assert verify_note(epoch["previous"], old_origin, old_key).split("\n")[1] == "12"
    assert epoch_of(recovery.origin) == 2

    async def run():
        async with opened(home) as log:
            await log.append(an_event(9))
            assert [(view.number, view.size) for view in log.epochs()] == [(2, 4), (1, 6)]
            assert [view.event for view in log.records(epoch=1)][:2] == ["stop", "deidentify"]
            assert log.content(events[0].record_id, epoch=1) == b"text"
            assert log.verifier_key(epoch=1).startswith(old_origin)
            with pytest.raises(NotFound):
                log.records(epoch=3)
            with pytest.raises(ValueError, match="not signed by"):
                verify_note(log.checkpoint(), old_origin, old_key)
            return log.checkpoint()

    assert asyncio.run(run()).startswith(recovery.origin)
    assert receipts[-1].size == 11
    fresh = open_keystore(home, root_key)
    assert old_key not in [key.public for key in fresh.public_keys() if key.origin == fresh.origin]
    assert len(fresh.signing_seeds()) == 1  # nothing can be signed under the old name again


def test_a_head_that_was_kept_elsewhere_says_how_much_is_lost(home, root_key, tmp_path):
    fill(home, 1)
    copy = tmp_path / "copy"
    shutil.copytree(home.root, copy)
    _, receipts = fill(home, 5)
    shutil.rmtree(home.root)
    shutil.copytree(copy, home.root)  # everything was put back: the files alone look perfect
    assert recover(home, root_key, notes=[receipts[-1].checkpoint]).lost_to == receipts[-1].size - 1


def test_nothing_lost_is_an_empty_range_and_a_missing_database_loses_everything(home, root_key):
    fill(home, 2)
    recovery = recover(home, root_key)
    assert (recovery.lost_from, recovery.lost_to) == (5, 4)
    home.audit_database.unlink()
    recovery = recover(home, root_key)
    assert (recovery.lost_from, recovery.lost_to) == (0, 1)
    assert epoch_of(recovery.origin) == 3


def test_holds_and_retention_go_on_in_the_new_log(home, root_key):
    async def before():
        async with opened(home) as log:
            await log.append(an_event(1, content=b"text"))
            await log.set_retention(1, 48)
            await log.set_hold(HoldRequest(b"h" * 8, ("case 1",), (1,), "litigation"))
            await log.set_hold(HoldRequest(b"r" * 8, ("case 2",), (), "litigation"))
            await log.release_hold(b"r" * 8, "user:1,user:2")

    async def after():
        async with opened(home) as log:
            assert log.retention() == {1: 48}
            assert [(view.hold_id, view.released_seq) for view in log.holds()] == [((b"h" * 8).hex(), None)]
            month = log._keystore.months()[0][1]
            with pytest.raises(UnderLegalHold):
                await log.purge(1, month, "retention", "")

    asyncio.run(before())
    recover(home, root_key)
    asyncio.run(after())


@pytest.mark.parametrize("cut", ["begin_epoch", "_move_away", "create_tables", "_begin", "unlink"])
def test_a_recovery_that_was_cut_off_goes_on_where_it_was(home, root_key, monkeypatch, cut):
    fill(home, 2)

    class Cut(Exception):
        pass

    def cut_off(*_):
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        if cut == "begin_epoch":
            patch.setattr("appliance.audit.keystore.Keystore.begin_epoch", cut_off)
        elif cut == "unlink":
            begin = epochs._begin
            patch.setattr(epochs, "_begin", lambda *given: (begin(*given), cut_off()))
        elif cut != "create_tables":
            patch.setattr(epochs, cut, cut_off)
        recover_declaring_loss(config_of(home), root_key, cut_off if cut == "create_tables" else create_tables)
    recovery = recover(home, root_key)
    assert epoch_of(recovery.origin) == 2 and (recovery.lost_from, recovery.lost_to) == (5, 4)
    assert [body["event"] for body in epoch_body(home)] == ["genesis", "epoch"]

    async def run():
        async with opened(home) as log:
            assert [(view.number, view.size) for view in log.epochs()] == [(2, 3), (1, 5)]

    asyncio.run(run())
    assert not list(home.audit_database.parent.glob("recovery*"))


def test_nothing_is_recovered_while_a_sequencer_runs(home, root_key):
    async def run():
        async with opened(home):
            with pytest.raises(HomeInUse):
                recover(home, root_key)

    asyncio.run(run())


def test_a_quarantined_log_is_read_and_not_written_until_the_loss_is_declared(home, root_key):
    events, receipts = fill(home, 2)

    async def contradict():
        async with opened(home) as log:
            assert log.quarantine is None
            await log.enter_quarantine("a witness remembers more", receipts[-1].checkpoint)
            with pytest.raises(AuditQuarantined, match="witness remembers more"):
                await log.append(an_event())
            assert not log.alive

    async def read_only():
        async with opened(home) as log:
            assert log.quarantine == "a witness remembers more"
            with pytest.raises(AuditQuarantined):
                await log.append(an_event())
            assert log.content(events[0].record_id) == b"text"
            return len(log.records())

    asyncio.run(contradict())
    assert asyncio.run(read_only()) == asyncio.run(read_only()) == 7
    recover(home, root_key)

    async def goes_on():
        async with opened(home) as log:
            assert log.quarantine is None
            await log.append(an_event())

    asyncio.run(goes_on())
