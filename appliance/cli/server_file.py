"""Where a running server of a data folder can be reached: `run/server.json`, believed only while it lives.

The server's lock decides whether it lives, and whose file it is: what a crash left is not believed, neither before
the next server has started nor while it starts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from appliance.config import Home
from appliance.service.home import server_pid

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
        running = RunningServer(int(content["pid"]), str(content["url"]))
        return running if server_pid(home) == running.pid else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
