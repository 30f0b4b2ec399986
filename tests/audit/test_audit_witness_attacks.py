"""A log that was cut, put back, forked or resumed twice is stopped by the witness or by a receipt that somebody kept.

Real logs with their sequencer, a real witness application. T9, T10, T12 and the second half of T26 of the list of
attacks; each ends in quarantine: nothing is appended any more, reading and receipts work, and it stays so.
"""

import asyncio
import dataclasses
import shutil
from contextlib import asynccontextmanager

import pytest
from audit_home import an_event, config_of, opened
from witness_service import NAME, running_witness

from appliance.audit.anchors import Publisher
from appliance.audit.keystore import public_material
from appliance.audit.quarantine import read_quarantine
from appliance.audit.receipt_check import check_receipt
from appliance.audit.stored_view import StoredView
from appliance.audit.witness_client import Cosigned, Forked, Refused
from appliance.audit.witness_folder import add_log
from appliance.config import Home
from appliance.errors import AuditQuarantined
from appliance.service.anchoring import Anchors, ask_before_recording

SINK = f"witness:{NAME}"


@pytest.fixture
def witness(tmp_path, home):
    with running_witness(tmp_path / "witness", *public_material(home).verifier_keys) as running:
        yield running


@pytest.fixture
def keys(home):
    return list(public_material(home).verifier_keys)


async def append(log, count):
    receipts = [await log.append(an_event(number)) for number in range(count)]
    return receipts[-1]


def publisher_of(log, home, witness):
    return Publisher(log, StoredView(home), witness.client(), every_s=10)


def witnessed(config, witness):
    return dataclasses.replace(config, witness=witness.settings)


def copied(home, target):
    """A copy of all files, as a backup or a snapshot of a disk is."""
    shutil.copytree(home.root, target, ignore=shutil.ignore_patterns("*.sock", "*.lock"))
    (target / "run").mkdir(exist_ok=True)
    return Home(target)


def put_back(backup, home):
    shutil.rmtree(home.root)
    shutil.copytree(backup.root, home.root)


@asynccontextmanager
async def quarantined(home):
    """The log, which must open, be read, and refuse to be written."""
    async with opened(home) as log:
        assert log.quarantine
        with pytest.raises(AuditQuarantined):
            await log.append(an_event())
        assert len(log.records()) > 2
        assert log.checkpoint()
        yield log


def test_a_growing_log_is_cosigned_round_by_round(home, witness):
    async def run():
        async with opened(home) as log:
            publisher = publisher_of(log, home, witness)
            for count in (1, 5, 300):
                last = await append(log, count)
                verdict = await publisher.publish()
                assert isinstance(verdict, Cosigned)
                assert verdict.size > last.seq
                assert log.cursors()[SINK].anchored_size == verdict.size
            anchors = Anchors(witnessed(config_of(home), witness), log)
            window = anchors.exposure()
            assert (window.anchored_size, window.alarm) == (verdict.size, False)
            assert window.age_s < 60

    asyncio.run(run())


def test_t10_all_files_replaced_by_an_older_backup_stay_quarantined(home, witness, tmp_path):
    async def write(count, publish=True):
        async with opened(home) as log:
            await append(log, count)
            if publish:
                await publisher_of(log, home, witness).publish()

    async def start_and_read():
        await ask_before_recording(witnessed(config_of(home), witness), transport=witness.transport())
        before = StoredView(home).checkpoint()
        async with quarantined(home) as log:
            assert "here are" in log.quarantine
            assert log.checkpoint() == before, "not even its start was recorded"

    asyncio.run(write(5))
    backup = copied(home, tmp_path / "backup")
    asyncio.run(write(20))
    put_back(backup, home)
    asyncio.run(start_and_read())
    asyncio.run(start_and_read())


def test_t10_a_receipt_is_enough_where_there_is_no_witness(home, tmp_path, keys):
    async def write(count):
        async with opened(home) as log:
            return log.proof_text((await append(log, count)).record_id)

    async def bring(proof):
        async with opened(home) as log:
            checked = await check_receipt(log, StoredView(home), keys, proof)
            return checked.verdict, log.quarantine

    kept = asyncio.run(write(5))
    backup = copied(home, tmp_path / "backup")
    lost = asyncio.run(write(20))
    assert asyncio.run(bring(lost)) == ("in_log", None)
    put_back(backup, home)
    assert asyncio.run(bring(kept)) == ("in_log", None)
    verdict, why = asyncio.run(bring(lost))
    assert verdict == "beyond"
    assert "the log was cut" in why
    assert read_quarantine(home.audit_database.parent).note == lost.split("\n\n", 1)[1]


def test_a_receipt_of_another_history_differs_and_one_that_proves_nothing_changes_nothing(home, tmp_path, keys):
    async def write(home, count):
        async with opened(home) as log:
            receipt = await append(log, count)
            return log.proof_text(receipt.record_id)

    async def bring(proof):
        async with opened(home) as log:
            checked = await check_receipt(log, StoredView(home), keys, proof)
            return checked.verdict, log.quarantine

    asyncio.run(write(home, 3))
    twin = copied(home, tmp_path / "twin")
    ours, theirs = asyncio.run(write(home, 8)), asyncio.run(write(twin, 2))
    lines = ours.split("\n")
    index = next(number for number, line in enumerate(lines) if line.startswith("index ")) + 1
    other = "A" if lines[index][0] != "A" else "B"
    altered = "\n".join([*lines[:index], other + lines[index][1:], *lines[index + 1 :]])
    for proof, verdict in ((altered, "invalid"), ("", "invalid"), (ours, "in_log")):
        assert asyncio.run(bring(proof)) == (verdict, None)

    async def foreign():
        async with opened(home) as log:
            return (await check_receipt(log, StoredView(home), [], ours)).verdict, log.quarantine

    assert asyncio.run(foreign()) == ("foreign", None)
    verdict, why = asyncio.run(bring(theirs))
    assert verdict == "differs"
    assert why


def test_t12_the_second_of_two_heads_of_one_size_is_refused_and_both_are_kept(home, witness, tmp_path):
    async def write(home, count):
        async with opened(home) as log:
            await append(log, count)
            return await publisher_of(log, home, witness).publish()

    async def begin():
        async with opened(home) as log:
            await append(log, 3)

    asyncio.run(begin())
    twin = copied(home, tmp_path / "twin")
    first = asyncio.run(write(home, 4))
    second = asyncio.run(write(twin, 4))
    assert (type(first), type(second)) == (Cosigned, Forked)
    assert "another history" in second.why
    evidence = sorted(path for path in (witness.folder / "evidence").iterdir())
    cosigned, refused = (path.read_text() for path in evidence)
    assert first.note.startswith(cosigned)
    assert refused == second.note
    sizes = [note.split("\n")[1] for note in (cosigned, refused)]
    assert sizes[0] == sizes[1]


def test_t26_of_two_machines_resumed_from_one_snapshot_the_second_is_stopped(home, witness, tmp_path):
    async def run():
        async with opened(home) as log:
            await append(log, 5)
            await publisher_of(log, home, witness).publish()
        twin = copied(home, tmp_path / "twin")
        async with opened(home) as first, opened(twin) as second:
            one, two = publisher_of(first, home, witness), publisher_of(second, twin, witness)
            await append(first, 3)
            assert isinstance(await one.publish(), Cosigned)
            await append(second, 9)
            assert isinstance(await two.publish(), Forked)
            assert second.quarantine
            with pytest.raises(AuditQuarantined):
                await second.append(an_event())
            await append(first, 2)
            assert isinstance(await one.publish(), Cosigned)
        async with quarantined(twin):
            pass

    asyncio.run(run())


def test_t9_a_log_cut_with_its_signers_memory_is_stopped_before_its_start_is_recorded(home, witness, tmp_path):
    """The end is cut and an older genuine head put back beside it: by themselves the files are in order."""

    async def write(count):
        async with opened(home) as log:
            await append(log, count)
            await publisher_of(log, home, witness).publish()

    asyncio.run(write(2))
    older = copied(home, tmp_path / "older")
    asyncio.run(write(100))
    keystore = home.keystore.read_bytes()
    put_back(older, home)
    home.keystore.write_bytes(keystore)

    async def start():
        await ask_before_recording(witnessed(config_of(home), witness), transport=witness.transport())
        async with quarantined(home):
            pass

    asyncio.run(start())


def test_a_witness_that_does_not_answer_stops_nothing(home, witness):
    async def run():
        settings = witness.settings.model_copy(update={"url": "http://127.0.0.1:9", "timeout_s": 1.0})
        config = dataclasses.replace(config_of(home), witness=settings)
        await ask_before_recording(config)
        async with opened(home) as log:
            await append(log, 1)
        await ask_before_recording(config)
        assert read_quarantine(home.audit_database.parent) is None

    asyncio.run(run())


def test_the_alarm_is_recorded_when_it_begins_and_when_it_ends(home, witness):
    async def run():
        async with opened(home) as log:
            await append(log, 1)
            config = witnessed(config_of(home), witness)
            anchors = Anchors(config, log, transport=witness.transport())
            quiet = anchors.exposure()
            assert not quiet.alarm
            loud = dataclasses.replace(quiet, alarm=True, age_s=500.0)
            for window in (quiet, loud, loud, quiet, quiet):
                await anchors.note_alarm(window)
            views = log.records(event="audit.exposure_alarm")
            assert [view.attributes["state"] for view in views] == ["ended", "began"]
            assert views[1].attributes["age_s"] == 500

    asyncio.run(run())


def test_a_log_that_rotates_its_key_is_witnessed_on_once_the_witness_knows_the_new_one(home, witness):
    async def run():
        async with opened(home, signing_overlap_s=1e-6) as log:  # from its own record on the new key signs alone
            publisher = publisher_of(log, home, witness)
            assert isinstance(await publisher.publish(), Cosigned)
            await log.rotate_signing_key("scheduled")
            await append(log, 3)
            refused = await publisher.publish()
            assert isinstance(refused, Refused)
            assert (refused.status, log.quarantine) == (403, None)
            add_log(witness.folder, public_material(home).verifier_keys[0])
            assert isinstance(await publisher.publish(), Cosigned)

    asyncio.run(run())
