"""Locks of the kernel on open files: tried, never waited for; a process lets go of them however it ends.

The lock of a log, which its sequencer holds, and whoever puts another log in its place:

with only_sequencer(home.runtime):
    ...                                  # nobody else writes to the log meanwhile
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.audit.sockets import LOCK_FILE
from appliance.errors import HomeInUse, HomeReadOnly


def try_lock(descriptor: int) -> bool:
    """Whether the open file is now locked for its holder alone, until it is closed; False where another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def only_sequencer(runtime: Path) -> Iterator[None]:
    """Hold the lock; the kernel lets go of it however we end. Raises `HomeInUse`, `HomeReadOnly`."""
    try:
        descriptor = os.open(runtime / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HomeReadOnly(
            f"cannot write in {runtime}: {error.strerror}",
            hint="check owner and mode of the data folder and that it is mounted rw",
        ) from None
    try:
        if not try_lock(descriptor):
            raise HomeInUse("another process runs the sequencer of this log", hint="submit through its socket")
        yield
    finally:
        os.close(descriptor)
