"""A server of a test's own: light, with one person, and with a look at its processes.

    with running_site(home, tmp_path) as site:
        site.client.post("/v1/deidentify", json={"text": "…"})
        site.child("audit.sequencer")          # process id of the server's sequencer

`ana` is its administrator and a user, so one session can ask, read its own records and verify. Nothing here sleeps
for a fixed time; what can only be observed from outside is polled through the API, with a bound.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.conftest import ANSWER_S, start_server

PASSWORD = "river-lantern-copper-7"
LIGHT = {
    "server": {"ui": "false"},
    "engine": {"backend": '"echo"', "threads": "1"},
    "accounts": {"argon2_time_cost": "1", "argon2_memory_kib": "8192"},
    "audit": {"append_s": "60", "start_s": "120"},  # a busy machine is not a log that is gone
}
STOP_S = 120.0  # a bound on waiting for the end of a server
_POLL_S = 0.02
PAGES_S = 240.0  # a bound on waiting for the pages: Gradio's import takes all of a core for several seconds
_WITHIN_S = 120.0


@dataclass
class Site:
    """A running server and somebody signed in to it."""

    process: subprocess.Popen
    url: str
    home: Path
    log: Path
    client: httpx.Client

    def children(self) -> dict[str, int]:
        """Process ids of the server's children by their module, `audit.sequencer` and `engine.worker`."""
        found = {}
        for pid in children_of(self.process.pid):
            if name := module_of(pid):
                found[name] = pid
        return found

    def child(self, name: str) -> int:
        """One child that must be there."""
        return eventually(lambda: self.children().get(name), f"{name} runs")

    def records(self, **wanted: str) -> list[dict]:
        """Ana's own records, newest first, that have these fields."""
        answer = self.client.get("/v1/audit/records", params={"limit": 200})
        assert answer.status_code == 200, answer.text
        return [row for row in answer.json()["data"] if all(row[name] == value for name, value in wanted.items())]

    def verdict(self) -> dict:
        """What the stand-alone verifier says of the log now."""
        return self.client.post("/v1/audit/verify").json()


def configure(home: Path, **sections: dict[str, str]) -> None:
    """Write `config.toml`: what makes a server light, and what the test needs."""
    merged = {name: LIGHT.get(name, {}) | sections.get(name, {}) for name in {**LIGHT, **sections}}
    lines = [
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) for name, keys in merged.items()
    ]
    (home / "config.toml").write_text("\n".join(lines))


@contextmanager
def running_site(home: Path, folder: Path, *, stop: bool = True) -> Iterator[Site]:
    """`appliance serve` on a configured data folder, with `ana` signed in. `stop` False: the test ends it."""
    log = folder / f"server-{time.monotonic_ns()}.log"
    is_new = not (folder / "ana-exists").exists()
    process, url, token = start_server(home, log, *(() if is_new else ("--no-setup-link",)))
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=ANSWER_S) as client:
            if is_new:
                body = {"token": token, "username": "ana", "password": PASSWORD}
                assert client.post("/v1/setup", json=body).status_code == 201
                (folder / "ana-exists").touch()
            answer = client.post("/v1/sessions", json={"username": "ana", "password": PASSWORD})
            assert answer.status_code == 200, answer.text
            client.headers["X-CSRF-Token"] = answer.json()["csrf"]
            yield Site(process, url, home, log, client)
        if stop:
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_S) == 0, log.read_text()
            assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait(30)


def eventually(look: Callable[[], object], what: str, within_s: float = _WITHIN_S):
    """What `look` returns once it is true; asked again and again, within a bound."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(_POLL_S)
    raise AssertionError(f"it did not happen: {what}")


def children_of(pid: int) -> list[int]:
    """Process ids of a process's direct children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def module_of(pid: int) -> str:
    """`audit.sequencer` of a process that was started as `python -m appliance.audit.sequencer`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((word.decode().removeprefix("appliance.") for word in words if word.startswith(b"appliance.")), "")


def is_alive(pid: int) -> bool:
    """Whether a process exists that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def suspended(pid: int) -> Iterator[None]:
    """A process that does nothing while the block lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def suspended_writers(server: int) -> Iterator[None]:
    """The models that write and are loaded in this server write nothing while the block lasts."""
    with ExitStack() as stack:
        writers = [pid for pid in children_of(server) if module_of(pid) == "engine.generation.worker"]
        assert writers, "a model that is to stand was asked before"
        for pid in writers:
            stack.enter_context(suspended(pid))
        yield
