"""A whole appliance for benchmarks of its API: a data folder, `appliance serve` in a process of its own, API keys.

    with serving(Path("home"), Path("models"), model, "[generation]\\nslots = 16\\n") as site:
        site.url, site.keys, site.auditor, site.pid

Nothing is left out: sign-in, API keys, the audit log with its sequencer, workers without a network.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from appliance.config import load_config
from appliance.service.initialise import initialise
from appliance.service.models import library_of
from appliance.specialists.language_models.library import Origin

_PASSWORD = "lantern-copper-river-5"


@dataclass(frozen=True)
class Site:
    """A running server. `keys`: API keys of as many programs; `auditor`: a signed-in client that reads the log."""

    url: str
    pid: int
    keys: tuple[str, ...]
    auditor: httpx.Client
    admin: httpx.Client

    def processes(self) -> dict[str, int]:
        """The server and its workers by what they are."""
        found = {"server": self.pid}
        for child in children(self.pid):
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
            for name in ("generation.worker", "engine.worker", "audit.sequencer"):
                if name in command:
                    found[name] = child
        return found


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def pss_bytes(pid: int) -> int:
    """Proportional memory of a process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def serving(home: Path, base: Path, model: Path, settings: str, *, clients: int = 1) -> Iterator[Site]:
    """`base`: a folder of base models; `model`: a GGUF file, which gets the id `writer`."""
    config = load_config(home)
    if not config.home.marker.exists():
        shutil.copytree(base, home / "models")
        initialise(config, progress=lambda _line: None)
    (home / "config.toml").write_text(f"[models]\ndisk_free_bytes_min = 0\n{settings}")
    config = load_config(home)
    library = library_of(config)
    if "writer" not in [entry.id for entry in library.list()]:
        library.add(model, Origin(kind="file", file=model.name), added_by="bench", model="writer")
    log = home / "serve.log"
    command = [sys.executable, "-m", "appliance", "serve", "--port", "0", "--home", str(home)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        url, token = _address(log, process)
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as admin:
            setup = {"token": token, "username": "admin", "password": _PASSWORD}
            admin.post("/v1/setup", json=setup).raise_for_status()
            _sign_in(admin, "admin")
            for name, role in (("bench", "user"), ("auditor", "auditor")):
                account = {"username": name, "password": _PASSWORD, "roles": [role]}
                admin.post("/v1/accounts", json=account).raise_for_status()
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as bench:
                _sign_in(bench, "bench")
                keys = tuple(_api_key(bench, f"c{number}") for number in range(clients))
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as auditor:
                _sign_in(auditor, "auditor")
                yield Site(url, process.pid, keys, auditor, admin)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)


def _api_key(client: httpx.Client, name: str) -> str:
    body = {"name": name, "scopes": ["specialist.run", "specialist.list"]}
    return str(client.post("/v1/api-keys", json=body).raise_for_status().json()["secret"])


def _sign_in(client: httpx.Client, name: str) -> None:
    answer = client.post("/v1/sessions", json={"username": name, "password": _PASSWORD}).raise_for_status()
    client.headers["X-CSRF-Token"] = answer.json()["csrf"]


def _address(log: Path, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Address and one-time token, from what the server prints."""
    tail = subprocess.Popen(
        ["tail", "-n", "+1", "-F", f"--pid={process.pid}", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    url = ""
    try:
        assert tail.stdout is not None
        for line in tail.stdout:
            if found := re.search(r"serves .* at (http://\S+)", line):
                url = found[1]
            if found := re.search(r"/setup#(\S+)", line):
                return url, found[1]
        raise AssertionError(f"the server ended with {process.poll()}:\n{log.read_text()}")
    finally:
        tail.kill()
        tail.wait()
