"""Whatever dies, fills up, hangs or is put back: what was acknowledged is stored, and nothing is acknowledged twice.

Real processes are killed, stopped and starved. After each fault the log is opened again, which verifies its end, and
compared with the receipts that were given out: acknowledged is a subset of stored, and sizes and roots fit.
"""

import asyncio
import base64
import dataclasses
import os
import random
import resource
import secrets
import select
import shutil
import signal
from pathlib import Path

import pytest
from audit_home import WAIT_S, an_event, config_of, opened, until
from pysqlite3 import dbapi2

from appliance.audit import hardening
from appliance.audit.hardening import FSYNC_MS_MIN, check_medium, file_system_of, measure_fsync_ms
from appliance.audit.keystore import open_keystore
from appliance.audit.log import AuditLog
from appliance.audit.reader import LogReader
from appliance.config import Home
from appliance.errors import AuditLogInvalid, AuditPaused, AuditUnavailable, HomeNotInitialised, WrongKey

SEED = random.SystemRandom().randrange(2**32)


def stored_ids(home, root_key):
    reader = LogReader(home, open_keystore(home, root_key))
    try:
        return {view.record_id: view.seq for view in reader.records(limit=100_000)}
    finally:
        reader.close()


def test_killing_the_sequencer_again_and_again_loses_nothing_that_was_acknowledged(home, root_key):
    print("seed", SEED)
    chance = random.Random(SEED)
    acknowledged = {}
    refused = []
    killed = asyncio.Event()

    async def submit(log, worker):
        for i in range(1000):
            if i >= 40 and killed.is_set():
                return
            event = an_event(worker * 1000 + i, content=secrets.token_bytes(chance.randrange(4000)))
            try:
                receipt = await log.append(event)
            except AuditUnavailable:
                refused.append(event.record_id)
            else:
                acknowledged[event.record_id] = receipt

    async def killer(log):
        for _ in range(4):
            enough = len(acknowledged) + chance.randrange(1, 30)
            await until(lambda enough=enough: len(acknowledged) >= enough and log.alive)
            pid = log.client.hello.pid
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: log.alive and log.client.hello.pid != pid)
        killed.set()

    async def run():
        async with opened(home, append_s=WAIT_S) as log:
            await asyncio.gather(killer(log), *(submit(log, worker) for worker in range(8)))
            assert log.client.restarts == 4
            for record_id, receipt in acknowledged.items():
                assert log.receipt(record_id).seq == receipt.seq
            for record_id in refused:
                assert await log.resolve(record_id) is None

    asyncio.run(run())
    stored = stored_ids(home, root_key)
    assert {record_id.hex() for record_id in acknowledged} <= stored.keys()
    assert sorted(stored.values()) == list(range(len(stored)))


def test_no_receipt_when_the_process_dies_before_the_commit(home, root_key):
    async def run():
        async with opened(home) as log:
            pid = log.client.hello.pid
            os.kill(pid, signal.SIGSTOP)
            event = an_event()
            waiting = asyncio.create_task(log.append(event))
            await until(lambda: log.client.in_flight == 1)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(AuditUnavailable, match="before this was recorded"):
                await waiting
            assert await log.resolve(event.record_id) is None
            return event, await log.append(event)

    event, receipt = asyncio.run(run())
    assert stored_ids(home, root_key)[event.record_id.hex()] == receipt.seq


def test_a_sequencer_that_hangs_is_given_up_in_time_and_replaced(home):
    async def run():
        async with opened(home, append_s=0.3) as log:
            pid = log.client.hello.pid
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(AuditUnavailable, match=r"within 0\.3 s"):
                await log.append(an_event())
            await until(lambda: log.alive and log.client.hello.pid != pid)
        async with opened(home) as log:
            await log.append(an_event())

    asyncio.run(run())


def test_more_waiting_records_than_the_queue_holds_are_refused_at_once(home):
    async def run():
        async with opened(home, queue_max=2) as log:
            os.kill(log.client.hello.pid, signal.SIGSTOP)
            waiting = [asyncio.create_task(log.append(an_event(i))) for i in range(2)]
            await until(lambda: log.client.in_flight == 2)
            with pytest.raises(AuditUnavailable, match="too many records"):
                await log.append(an_event())
            os.kill(log.client.hello.pid, signal.SIGCONT)
            await asyncio.gather(*waiting)

    asyncio.run(run())


def test_a_disk_that_fills_ends_the_writer_and_recording_resumes_when_there_is_space(home, root_key):
    async def run():
        acknowledged = []
        async with opened(home, append_s=WAIT_S) as log:
            pid = log.client.hello.pid
            # No file may grow beyond this: SQLite sees an I/O error in the middle of its write-ahead log.
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
            with pytest.raises(AuditUnavailable):
                for i in range(100):
                    event = an_event(i, content=bytes(20_000))
                    await log.append(event)
                    acknowledged.append(event.record_id)
            await until(lambda: log.alive and log.client.hello.pid != pid)  # the next process has no limit
            assert await log.resolve(event.record_id) is None
            await log.append(event)
            return [*acknowledged, event.record_id]

    acknowledged = asyncio.run(run())
    assert len(acknowledged) > 1
    assert {record_id.hex() for record_id in acknowledged} <= stored_ids(home, root_key).keys()


def test_a_nearly_full_disk_pauses_recording_and_takes_only_what_is_urgent(home):
    async def run():
        async with opened(home, disk_free_bytes_min=2**60) as log:
            with pytest.raises(AuditPaused, match="nearly full") as refusal:
                await log.append(an_event())
            assert "free space" in refusal.value.hint
            with pytest.raises(AuditPaused, match="nearly full"):
                log.require_space()
            await log.append(dataclasses.replace(an_event(), event="session.sign_in", urgent=True))
            with pytest.raises(AuditPaused):
                await log.append(an_event())
            return [view.event for view in reversed(log.records())]

    assert asyncio.run(run()) == ["genesis", "start", "audit.paused", "session.sign_in"]

    async def resume():
        async with opened(home) as log:
            await log.append(an_event())
            assert (home.audit_database.parent / "reserve").stat().st_blocks * 512 >= 8 * 1024 * 1024
            return [view.event for view in reversed(log.records())][4:]

    assert asyncio.run(resume()) == ["stop", "start", "audit.resumed", "deidentify"]


# --- put back, cut off, swapped ---------------------------------------------------------------------------------------


def fill(home, count):
    async def run():
        async with opened(home) as log:
            await asyncio.gather(*(log.append(an_event(i)) for i in range(count)))

    asyncio.run(run())


def put_back(home, copy):
    """An old copy of the database, without the side files of the newer one."""
    for path in home.audit_database.parent.glob("log.db*"):
        path.unlink()
    shutil.copy(copy, home.audit_database)


def refuses_to_open(home, root_key):
    with pytest.raises(AuditLogInvalid) as refusal:
        asyncio.run(AuditLog.open(config_of(home), root_key))
    assert refusal.value.hint
    return str(refusal.value)


def test_a_database_put_back_to_an_older_copy_is_refused(home, root_key, tmp_path):
    fill(home, 5)
    older = shutil.copy(home.audit_database, tmp_path / "older.db")
    fill(home, 5)
    put_back(home, older)
    assert "put back to an older state" in refuses_to_open(home, root_key)


def test_an_emptied_database_is_refused(home, root_key, tmp_path):
    empty = shutil.copy(home.audit_database, tmp_path / "empty.db")
    fill(home, 5)
    put_back(home, empty)
    assert "put back to an older state" in refuses_to_open(home, root_key)


def test_another_log_of_the_same_size_under_the_same_key_is_refused(home, root_key, tmp_path):
    fork = tmp_path / "fork"
    shutil.copytree(home.root, fork)
    fill(home, 5)
    signer_state = home.signer_state.read_bytes()
    shutil.rmtree(home.root)
    shutil.copytree(fork, home.root)
    fill(home, 5)
    home.signer_state.write_bytes(signer_state)
    assert "not those that were signed" in refuses_to_open(home, root_key)


@pytest.mark.parametrize("damage", [None, b"", b"{", b'{"origin":"else","size":1,"root":"","note":""}'])
def test_a_missing_or_damaged_signer_memory_is_refused(home, root_key, damage):
    fill(home, 1)
    home.signer_state.unlink()
    if damage is not None:
        home.signer_state.write_bytes(damage)
    assert "signer.json" in refuses_to_open(home, root_key)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM record WHERE seq = 5",
        "UPDATE record SET header = zeroblob(length(header)) WHERE seq = 6",
        "UPDATE record SET env_ct = zeroblob(length(env_ct)) WHERE seq = 6",
        "UPDATE log_head SET size = size - 1",
        "UPDATE log_head SET root = zeroblob(32)",
        "UPDATE public_body SET body = CAST(body || ' ' AS BLOB) WHERE seq = (SELECT max(seq) FROM public_body)",
    ],
)
def test_an_end_that_was_tampered_with_is_refused(home, root_key, statement):
    fill(home, 8)
    connection = dbapi2.connect(home.audit_database)
    with connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()
    refuses_to_open(home, root_key)


def test_a_log_beside_the_keystore_of_another_is_refused(home, root_key):
    fill(home, 1)
    connection = dbapi2.connect(home.audit_database)
    with connection:
        connection.execute("UPDATE log_head SET origin = 'other.example/audit'")
    connection.close()
    assert "do not belong together" in refuses_to_open(home, root_key)


# --- wrong key, wrong place -------------------------------------------------------------------------------------------


def contents(home):
    return {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}


def test_a_wrong_key_is_called_a_wrong_key_and_writes_nothing(home):
    fill(home, 1)
    before = contents(home)
    with pytest.raises(WrongKey, match=r"wrong key \(slot 0\)"):
        asyncio.run(AuditLog.open(config_of(home), secrets.token_bytes(32)))
    assert contents(home) == before


def test_a_folder_without_a_log_is_not_initialised(home, root_key):
    home.audit_database.unlink()
    with pytest.raises(HomeNotInitialised):
        asyncio.run(AuditLog.open(config_of(home), root_key))


def test_a_network_file_system_is_recognised_by_the_innermost_mount(tmp_path):
    mounts = (
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"30 21 0:40 / {tmp_path} rw - ext4 /dev/sdb1 rw\n"
        f"31 30 0:41 / {tmp_path}/a\\040share rw master:2 - nfs4 server:/export rw\n"
        "not a mount line\n"
    )
    assert file_system_of(tmp_path / "data", mounts) == "ext4"
    assert file_system_of(tmp_path / "a share" / "audit", mounts) == "nfs4"
    assert file_system_of(tmp_path, "") is None


def test_storage_that_answers_faster_than_a_disk_is_warned_of(tmp_path, monkeypatch):
    # Of many looks the shortest: whoever is held up in one of them takes memory for a disk.
    assert min(measure_fsync_ms(Path("/dev/shm")) for _ in range(100)) < FSYNC_MS_MIN
    for took_ms, warned in ((FSYNC_MS_MIN / 2, True), (FSYNC_MS_MIN * 2, False)):
        monkeypatch.setattr(hardening, "measure_fsync_ms", lambda _, took_ms=took_ms: took_ms)
        assert any("keeps data in memory" in warning for warning in check_medium(tmp_path)) == warned


# --- nothing readable is left anywhere --------------------------------------------------------------------------------


def killed_and_found(log, home):
    """The files as the death of the sequencer left them: the loop does not turn meanwhile, so that no other starts."""
    died = os.pidfd_open(log.client.hello.pid)
    try:
        os.kill(log.client.hello.pid, signal.SIGKILL)
        assert select.select([died], [], [], WAIT_S)[0]
        return contents(home)
    finally:
        os.close(died)


def test_no_file_of_the_data_folder_holds_what_was_typed_or_who_typed_it(home):
    canaries = [f"canary-{secrets.token_hex(12)}" for _ in range(50)]

    async def run():
        async with opened(home) as log:
            for canary in canaries:
                event = an_event(content=f"Patient {canary}, born 1961".encode())
                await log.append(event)
            return killed_and_found(log, home)  # whatever a crash leaves behind is searched too

    files = asyncio.run(run())
    assert any(path.name.endswith("-wal") and content for path, content in files.items())
    names = ["user:7", "deidentify", *canaries]
    for path, content in files.items():
        for name in names:
            for encoded in (
                name.encode(),
                name.encode("utf-16-le"),
                name.encode().hex().encode(),
                base64.b64encode(name.encode())[:-4],
            ):
                assert encoded not in content, f"{path.name} holds {name}"


def test_a_home_with_a_very_long_path_works(home, tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.parent.mkdir()
    home.root.rename(deep)
    fill(Home(deep), 1)
    assert len(str(deep / "run" / "audit.sock")) > 107
