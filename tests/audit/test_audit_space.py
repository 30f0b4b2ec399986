"""A disk that fills up stops recording in order, with a record that says so, and recording goes on by itself.

On a small file system of its own, which needs the right to mount one; the rule itself on any.
"""

import asyncio
import dataclasses
import os
import shutil
import subprocess

import pytest
from audit_home import WAIT_S, an_event, opened, until

from appliance.audit.space import RESERVE_FILE, Space
from appliance.config import Home
from appliance.errors import AuditPaused, AuditUnavailable

MIB = 2**20


def free_of(folder):
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def test_the_reserve_is_made_once_given_up_and_made_again(tmp_path):
    space = Space(tmp_path, free_min=1, reserve=MIB)
    space.rebuild()
    assert (tmp_path / RESERVE_FILE).stat().st_blocks * 512 >= MIB
    space.rebuild()
    space.release()
    space.release()
    assert not (tmp_path / RESERVE_FILE).exists()


def test_short_begins_below_the_minimum_and_ends_only_with_room_for_the_reserve_besides(tmp_path):
    free = free_of(tmp_path)
    assert not Space(tmp_path, free_min=0, reserve=0).is_short()
    assert Space(tmp_path, free_min=free + 1024 * MIB, reserve=0).is_short()
    assert not Space(tmp_path, free_min=free // 2, reserve=MIB).is_short()
    assert Space(tmp_path, free_min=free // 2, reserve=MIB).is_back()
    # What the reserve itself would take does not count as room.
    assert not Space(tmp_path, free_min=free // 2, reserve=free).is_back()


def test_without_room_for_the_reserve_there_is_none(tmp_path):
    Space(tmp_path, free_min=1, reserve=free_of(tmp_path) + 1024 * MIB).rebuild()
    assert not (tmp_path / RESERVE_FILE).exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB."""
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(point)], check=True)
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def test_a_disk_that_fills_up_pauses_and_resumes_and_loses_nothing(home, small_disk):
    shutil.copytree(home.root, small_disk / "home")
    there = Home(small_disk / "home")
    acknowledged = []

    async def append(log, number, size, *, urgent=False):
        event = dataclasses.replace(an_event(number, content=bytes(size)), urgent=urgent)
        await log.append(event)
        acknowledged.append(event.record_id)

    async def run():
        async with opened(there, disk_free_bytes_min=4 * MIB, reserve_bytes=2 * MIB, append_s=WAIT_S) as log:
            await append(log, 0, 100)
            assert (there.audit_database.parent / RESERVE_FILE).exists()
            ballast = small_disk / "ballast"
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free_of(small_disk) - 5 * MIB)
            with pytest.raises(AuditPaused, match="nearly full") as refusal:
                for number in range(100):
                    await append(log, number, 200_000)
            assert isinstance(refusal.value, AuditUnavailable)
            pid = log.client.hello.pid
            assert not (there.audit_database.parent / RESERVE_FILE).exists()
            for number in range(3):
                await append(log, number, 1000, urgent=True)
            assert log.records(limit=4)[-1].event == "audit.paused"
            ballast.unlink()
            await until(lambda: log.records(limit=1)[0].event == "audit.resumed")
            assert (there.audit_database.parent / RESERVE_FILE).exists()
            await append(log, 0, 200_000)
            assert log.client.hello.pid == pid
            for record_id in acknowledged:
                assert log.content(record_id) is not None
            return [view.event for view in log.records(limit=1000, kind="public")]

    assert asyncio.run(run()) == ["audit.resumed", "audit.paused", "start", "genesis"]


def test_a_disk_without_a_byte_left_ends_the_writer_and_what_was_acknowledged_is_there(home, small_disk):
    shutil.copytree(home.root, small_disk / "home")
    there = Home(small_disk / "home")

    async def run():
        acknowledged = []
        async with opened(there, disk_free_bytes_min=0, reserve_bytes=0, append_s=WAIT_S) as log:
            with pytest.raises(AuditUnavailable):
                for number in range(400):
                    event = an_event(number, content=os.urandom(100_000))
                    await log.append(event)
                    acknowledged.append(event.record_id)
            (small_disk / "home" / "db" / "appliance.db").unlink()
            shutil.rmtree(small_disk / "home" / "models", ignore_errors=True)
            for record_id in acknowledged:
                assert log.content(record_id) is not None
        return len(acknowledged)

    assert asyncio.run(run()) > 10
