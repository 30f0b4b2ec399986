"""Which commands at a terminal are in the middle of an exchange: one locked file each, `run/command-<boot>-<pid>.mark`.

    with hold_mark(home, first_seq) as mark:     # as long as this process may hold exchanges
        mark.attributes()                        # {"pid": 812, "boot": "1f0c9a2b"}: part of every record of them
    for mark in take_abandoned(home): ...        # those whose process is gone; each held until the next step

A kernel lock says whether the process lives: killed, it cannot remove its file, and cannot keep the lock either, so a
later process that got the same number is not mistaken for it. The file names the length of the log at its beginning,
so that whoever closes what was left open need not look further back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.audit.clock import read_boot_id
from appliance.audit.lock import try_lock
from appliance.config import Home
from appliance.types import AttributeValue

_NAME = re.compile(r"command-([0-9a-f]{8})-([0-9]{1,10})\.mark")
_CONTENT_BYTES_MAX = 20
_MARKS_MAX = 1000  # looked at in one step; more are looked at by the next opening


@dataclass(frozen=True, slots=True)
class CommandMark:
    """One process that may hold exchanges, and the length of the log when it began."""

    boot: str
    pid: int
    first_seq: int

    def attributes(self) -> dict[str, AttributeValue]:
        """What ties a record to the process."""
        return {"pid": self.pid, "boot": self.boot}


def this_process(first_seq: int = 0) -> CommandMark:
    """The mark of the process that asks."""
    return CommandMark(read_boot_id().replace("-", "")[:8], os.getpid(), first_seq)


@contextmanager
def hold_mark(home: Home, first_seq: int) -> Iterator[CommandMark]:
    """Say that this process may hold exchanges, as long as the block lasts."""
    mark = this_process(first_seq)
    path = _path(home, mark)
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Locked before it has its name: nobody sees it unlocked while we live.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(first_seq).encode(), 0)
        draft.replace(path)
        yield mark
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_alive(home: Home, boot: str, pid: int) -> bool:
    """Whether the process of a record still holds its mark."""
    try:
        descriptor = os.open(_path(home, CommandMark(boot, pid, 0)), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def take_abandoned(home: Home) -> Iterator[CommandMark]:
    """The marks of processes that are gone. Each is held while the caller works on it, and removed when it goes on.

    A caller that stops early leaves the mark for the next one.
    """
    for path in sorted(home.runtime.glob("command-*.mark"))[:_MARKS_MAX]:
        named = _NAME.fullmatch(path.name)
        if named is None:
            continue
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # somebody else was faster
        try:
            if not try_lock(descriptor) or not _is_still(path, descriptor):
                continue
            content = os.pread(descriptor, _CONTENT_BYTES_MAX, 0)
            yield CommandMark(named[1], int(named[2]), int(content) if content.isdigit() else 0)
            with contextlib.suppress(OSError):
                path.unlink()
        finally:
            os.close(descriptor)


def _path(home: Home, mark: CommandMark) -> Path:
    return home.runtime / f"command-{mark.boot}-{mark.pid}.mark"


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the file that was locked is the one with that name: it may have been removed while we waited."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
