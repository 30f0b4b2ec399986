"""A log on a disk of its own that can be filled: run inside a namespace whose mounts nobody else sees.

    unshare -rm python -m tests.audit.faults.small_disk HOME MOUNT_POINT OPTIONS CASE      # prints JSON

The data folder is copied to a small memory file system, where running out of room and of inodes is real.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from appliance.audit.log import AuditLog
from appliance.config import Home
from appliance.errors import AuditPaused, AuditUnavailable, HomeError
from appliance.types import AuditEvent
from tests.audit.audit_home import WAIT_S, an_event, opened
from tests.audit.faults.zygote import ROOT

MIB = 1024 * 1024
FREE_MIN, RESERVE = 4 * MIB, 2 * MIB
_ENTRIES_MAX = 20_000


def run_in_namespace(home: Home, folder: Path, options: str, case: str) -> dict:
    """Run a case of this module in a mount namespace of its own. Raises `PermissionError` where that is forbidden."""
    mount_point = folder / "disk"
    mount_point.mkdir()
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "tests.audit.faults.small_disk"]
    done = subprocess.run(
        [*command, home.root, mount_point, options, case], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    if "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        raise PermissionError(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Filler:
    """Files that take the room of a disk, and give it back."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._ballast = disk / "ballast"

    def leave(self, free: int) -> None:
        """Fill up until `free` bytes are left."""
        status = os.statvfs(self._disk)
        size = status.f_bavail * status.f_frsize - free
        with self._ballast.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), max(1, size))

    def take_entries(self) -> None:
        """Use up every inode."""
        folder = self._disk / "entries"
        folder.mkdir()
        for number in range(_ENTRIES_MAX):
            try:
                (folder / str(number)).touch()
            except OSError:
                return
        raise AssertionError("this file system does not run out of inodes")

    def give_back(self) -> None:
        """Everything that was taken."""
        self._ballast.unlink(missing_ok=True)
        shutil.rmtree(self._disk / "entries", ignore_errors=True)


async def _outcome(log: AuditLog, event: AuditEvent) -> str:
    try:
        await log.append(event)
    except AuditPaused:
        return "paused"
    except AuditUnavailable:
        return "unavailable"
    except HomeError:
        return "no keys"  # a key that is needed for the first time could not be stored: nothing was sent
    return "recorded"


async def _until_recorded(log: AuditLog, event: Callable[[], AuditEvent]) -> int:
    """Append until recording has resumed by itself; how often it was refused before."""
    async with asyncio.timeout(WAIT_S):
        refused = 0
        while await _outcome(log, event()) != "recorded":
            refused += 1
            await asyncio.sleep(0.1)
        return refused


async def _nearly_full(home: Home, filler: Filler) -> dict:
    """Less is free than recording needs: it pauses in order, and resumes by itself."""
    async with opened(home, disk_free_bytes_min=FREE_MIN, reserve_bytes=RESERVE) as log:
        events = [an_event(i, content=bytes(2000)) for i in range(6)]
        urgent = dataclasses.replace(an_event(7), urgent=True)
        before = [await _outcome(log, event) for event in events[:2]]
        pid = log.client.hello.pid
        filler.leave(FREE_MIN // 2)
        during = [await _outcome(log, event) for event in events[2:4]]
        said = await _outcome(log, urgent)
        lively = log.client.hello.pid == pid
        filler.give_back()
        await _until_recorded(log, lambda: events[4])
        after = [await _outcome(log, event) for event in events[4:]]
        stored = [(await log.resolve(event.record_id)) is not None for event in events]
    return {"before": before, "during": during, "urgent": said, "lively": lively, "after": after, "stored": stored}


async def _quite_full(home: Home, filler: Filler) -> dict:
    """Not a byte is left and no rule watched: the writer ends, and the next one goes on when there is room."""
    recorded, refused = [], []
    async with opened(home, disk_free_bytes_min=0, reserve_bytes=0) as log:
        filler.leave(300_000)
        for number in range(60):
            event = an_event(number, content=bytes(30_000))
            (recorded if await _outcome(log, event) == "recorded" else refused).append(event)
            if len(refused) > 2:
                break
        filler.give_back()
        last = an_event(99)
        await _until_recorded(log, lambda: last)
        stored = [(await log.resolve(event.record_id)) is not None for event in recorded]
        absent = [(await log.resolve(event.record_id)) is None for event in refused]
    return {"recorded": len(recorded), "refused": len(refused), "stored": all(stored), "absent": all(absent)}


async def _started_full(home: Home, filler: Filler) -> dict:
    """The disk is full before the sequencer starts: it says so in the log, from the reserve, and waits for room."""
    async with opened(home, disk_free_bytes_min=FREE_MIN, reserve_bytes=RESERVE) as log:
        await log.append(an_event(1))
    filler.leave(64 * 1024)
    event = an_event(2, content=bytes(2000))
    async with opened(home, disk_free_bytes_min=FREE_MIN, reserve_bytes=RESERVE) as log:
        during = await _outcome(log, event)
        filler.give_back()
        await _until_recorded(log, lambda: event)
    return {"during": during}


async def _no_inodes(home: Home, filler: Filler) -> dict:
    """No new file can be made while the log is open, nor when it is opened again."""
    async with opened(home, disk_free_bytes_min=FREE_MIN, reserve_bytes=RESERVE) as log:
        await log.append(an_event(1))
        filler.take_entries()
        during = [await _outcome(log, an_event(i, content=bytes(2000))) for i in range(3)]
    filler.give_back()
    async with opened(home, disk_free_bytes_min=FREE_MIN) as log:
        after = await _outcome(log, an_event(9))
    return {"during": during, "after": after}


CASES = {"nearly full": _nearly_full, "quite full": _quite_full, "started full": _started_full, "no inodes": _no_inodes}


def _main(source: Path, mount_point: Path, options: str, case: str) -> None:
    mounting = ["mount", "-t", "tmpfs", "-o", options, "none", str(mount_point)]
    mounted = subprocess.run(mounting, capture_output=True, text=True)
    if mounted.returncode:
        raise SystemExit(f"Operation not permitted: {mounted.stderr}")
    home = Home(mount_point / "home")
    shutil.copytree(source, home.root)
    result = asyncio.run(CASES[case](home, Filler(mount_point)))
    shutil.rmtree(source)
    shutil.copytree(home.root, source)  # what the disk holds at the end, for whoever asked
    print(json.dumps(result))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
