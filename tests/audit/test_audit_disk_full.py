"""The disk fills up: new work is refused as paused, the log says so from its reserve, and goes on by itself.

Real small file systems, mounted where only the test sees them; a quota stands for itself as a limit of the size of a
file. Whatever happened, the log verifies afterwards and holds exactly what was acknowledged.
"""

import asyncio
import json
import resource
from pathlib import Path

import pytest
from audit_home import WAIT_S, an_event, config_of, opened, until

from appliance.audit import store
from appliance.audit.keystore import open_keystore
from appliance.audit.log import _start
from appliance.errors import AuditUnavailable
from appliance.storage.database import open_database, reading
from tests.audit.faults.look import verdict
from tests.audit.faults.small_disk import run_in_namespace


def on_small_disk(home, folder, case, options="size=24m"):
    return run_in_namespace(home, folder, options, case)


def control_events(home):
    engine = open_database(home.audit_database, mode="ro", connections=1)
    try:
        with reading(engine) as connection:
            rows = store.read_records(connection, 0, 10_000)
    finally:
        engine.dispose()
    return [json.loads(row.body) for row in rows if row.body is not None]


def pauses(home):
    return [body["event"] for body in control_events(home) if body["event"] in ("audit.paused", "audit.resumed")]


def verifies(home, root_key, folder):
    assert verdict(_start(config_of(home), open_keystore(home, root_key)), None, folder) == 0


def test_nearly_full_disk_pauses_recording_and_it_resumes_by_itself(home, root_key, tmp_path):
    found = on_small_disk(home, tmp_path, "nearly full")
    assert found["before"] == ["recorded"] * 2
    assert found["during"] == ["paused"] * 2
    assert found["urgent"] == "recorded"  # what must not be lost has the reserve
    assert found["lively"]  # pausing is no crash
    assert found["after"] == ["recorded"] * 2
    assert found["stored"] == [True, True, False, False, True, True]
    assert pauses(home) == ["audit.paused", "audit.resumed"]
    assert [body["reason"] for body in control_events(home) if body["event"] == "audit.paused"] == ["disk_full"]
    verifies(home, root_key, tmp_path)


def test_disk_without_a_byte_left_ends_the_writer_and_nothing_half_is_left(home, root_key, tmp_path):
    found = on_small_disk(home, tmp_path, "quite full", "size=16m")
    assert found["recorded"] > 0 and found["refused"] > 0
    assert found["stored"] and found["absent"]
    verifies(home, root_key, tmp_path)


def test_disk_that_is_full_when_the_log_opens_is_said_in_the_log(home, root_key, tmp_path):
    found = on_small_disk(home, tmp_path, "started full")
    assert found["during"] == "paused"
    assert pauses(home) == ["audit.paused", "audit.resumed"]
    verifies(home, root_key, tmp_path)


def test_file_system_without_inodes_stops_nothing_that_is_open(home, root_key, tmp_path):
    found = on_small_disk(home, tmp_path, "no inodes", "size=24m,nr_inodes=400")
    assert set(found["during"]) <= {"recorded", "unavailable", "no keys"}
    assert found["after"] == "recorded"
    verifies(home, root_key, tmp_path)


def test_quota_that_ends_a_write_in_its_middle_ends_the_writer(home, root_key, tmp_path):
    async def run():
        recorded = []
        async with opened(home, append_s=WAIT_S) as log:
            pid = log.client.hello.pid
            size = sum(path.stat().st_size for path in Path(home.audit_database.parent).glob("log.db*"))
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 100_000, size + 100_000))
            with pytest.raises(AuditUnavailable):
                for number in range(200):
                    event = an_event(number, content=bytes(20_000))
                    await log.append(event)
                    recorded.append(event.record_id)
            await until(lambda: log.alive and log.client.hello.pid != pid)
            assert await log.resolve(event.record_id) is None
            for record_id in recorded:
                assert await log.resolve(record_id) is not None
            await log.append(event)

    asyncio.run(run())
    verifies(home, root_key, tmp_path)
