"""Where a server runs is believed of the file that it wrote itself, and looking for it keeps no server from starting.

The locks are the kernel's; this process is the server.
"""

import fcntl
import json
import os

import pytest

from appliance.cli.server_file import RunningServer, read_server_file, server_file
from appliance.config import Home
from appliance.errors import HomeInUse
from appliance.service import home as module
from appliance.service.home import hold_server_lock

URL = "http://127.0.0.1:8443"
GONE = 4_194_305  # no process has this number, which is beyond the largest


@pytest.fixture
def home(tmp_path) -> Home:
    made = Home(tmp_path / "home")
    made.runtime.mkdir(parents=True)
    return made


def left_by_a_crash(home: Home) -> None:
    (home.runtime / "server.json").write_text(json.dumps({"pid": GONE, "url": URL}))


def test_a_running_server_is_found_until_it_stops(home):
    assert read_server_file(home) is None
    with hold_server_lock(home):
        assert read_server_file(home) is None  # it does not listen yet
        with server_file(home, URL):
            assert read_server_file(home) == RunningServer(os.getpid(), URL)
        assert read_server_file(home) is None


def test_what_a_crash_left_is_not_believed_while_the_next_server_starts(home):
    left_by_a_crash(home)
    assert read_server_file(home) is None
    with hold_server_lock(home):
        assert read_server_file(home) is None
        with server_file(home, URL):
            assert read_server_file(home) == RunningServer(os.getpid(), URL)


def test_whoever_only_looks_keeps_no_server_from_starting(home, monkeypatch):
    looking = os.open(home.runtime / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(module.time, "sleep", lambda _s: fcntl.flock(looking, fcntl.LOCK_UN))
    with hold_server_lock(home), pytest.raises(HomeInUse, match=str(os.getpid())), hold_server_lock(home):
        pass
    os.close(looking)


def test_looking_does_not_take_for_ever(home, monkeypatch):
    looking = os.open(home.runtime / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(module, "_LOOKED_AT_S", 0.05)
    with pytest.raises(HomeInUse), hold_server_lock(home):
        pass
    os.close(looking)
