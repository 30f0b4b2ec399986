"""Where a running server of a data folder can be reached: `run/server.json`, believed only while it lives.

The server's lock decides whether it lives: a file left by a crash is not believed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from appliance.config import Home

_FILE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that holds the data folder's lock."""

    pid: int
    url: str


@contextmanager
def server_file(home: Home, url: str) -> Iterator[None]:
    """Say where this process serves `home`, as long as the block lasts."""
    path = home.runtime / "server.json"
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"pid": os.getpid(), "url": url}) + "\n")
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read_server_file(home: Home) -> RunningServer | None:
    """The server that serves `home` now, or None."""
    try:
        with (home.runtime / "server.json").open("rb") as file:
            content = json.loads(file.read(_FILE_BYTES_MAX))
        if not _is_locked(home):
            return None
        return RunningServer(int(content["pid"]), str(content["url"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _is_locked(home: Home) -> bool:
    descriptor = os.open(home.runtime / "server.lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
