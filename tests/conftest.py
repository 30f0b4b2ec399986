"""What several rooms' tests share: a data folder made once and copied, and one real server for the whole run.

The base model is part of the suite's set-up (`make test` fetches it before the first test), so no test needs a
network. A fixture that cannot find it fails and says the command; it never skips.
"""

import json
import os
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
import pytest
from hypothesis import HealthCheck, settings

from appliance.config import Config, Home, load_config
from appliance.service.initialise import initialise

# How long a property's examples take says how busy the machine is, and nothing about the property.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

ROOT = Path(__file__).parents[1]
BASE_MODEL = ROOT / ".cache" / "base-model"
ADMIN_PASSWORD = "correct-horse-battery-9"
AUDITOR_PASSWORD = "staple-battery-horse-8"
USER_PASSWORD = "river-lantern-copper-7"
ANSWER_S = 120  # a bound on waiting for one answer; how long it takes says how busy the machine is
# For a server of which the tests want answers: no limit of its own is what ends a wait on a busy machine.
PATIENT = "[audit]\nappend_s = 60\nstart_s = 120\n[engine]\nstart_s = 120\n"


def link_or_copy(source: str, target: str) -> None:
    """Models and specialists are never written: a link is as good as a copy, and free."""
    if source.endswith(".gguf"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def base_model() -> Path:
    manifest = BASE_MODEL / "models" / "minilm" / "manifest.json"
    assert manifest.exists(), "the base model is missing; `make test` fetches it: make .venv/.stamps/base-model"
    return BASE_MODEL / "models"


@pytest.fixture(scope="session")
def home_template(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete data folder, as `appliance init` leaves it."""
    folder = tmp_path_factory.mktemp("template") / "home"
    folder.mkdir(mode=0o700)
    shutil.copytree(base_model, folder / "models")
    initialise(load_config(folder), progress=lambda _line: None)
    return folder


@pytest.fixture
def home(home_template: Path, tmp_path: Path) -> Home:
    """A complete data folder of the test's own."""
    folder = tmp_path / "home"
    shutil.copytree(home_template, folder, copy_function=link_or_copy)
    return Home(folder)


@pytest.fixture
def config(home: Home) -> Config:
    return load_config(home.root)


@dataclass(frozen=True)
class Server:
    """A real server in a process of its own, with three people: `admin`, `auditor` and `ana`, a user."""

    url: str
    home: Path
    pid: int

    @contextmanager
    def client(self, name: str, password: str) -> Iterator[httpx.Client]:
        """Somebody's signed-in browser, as far as the API can tell."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=ANSWER_S) as client:
            answer = client.post("/v1/sessions", json={"username": name, "password": password})
            assert answer.status_code == 200, answer.text
            client.headers["X-CSRF-Token"] = answer.json()["csrf"]
            yield client

    def stranger(self) -> httpx.Client:
        """A browser that nobody signed in with, as a context."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=ANSWER_S)


def start_server(home: Path, log: Path, *options: str) -> tuple[subprocess.Popen, str, str]:
    """`appliance serve` on a free port; returns the process, its address and the one-time token it printed."""
    command = [sys.executable, "-m", "appliance", "serve", "--port", "0", "--home", str(home), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    url = token = ""
    for line in follow(log, process):
        if found := re.search(r"serves .* at (http://\S+)", line):
            url = found[1]
        if found := re.search(r"/setup#(\S+)", line):
            token = found[1]
            break
        if url and "--no-setup-link" in options:
            break
    return process, url, token


def follow(log: Path, process: subprocess.Popen):
    """Lines of a growing log, until the writer ends; `tail` waits for them in the kernel, not in a loop of ours."""
    tail = subprocess.Popen(
        ["tail", "-n", "+1", "-F", f"--pid={process.pid}", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield from tail.stdout
        raise AssertionError(f"the server ended with {process.poll()}:\n{log.read_text()}")
    finally:
        tail.kill()
        tail.wait()


def stop_server(process: subprocess.Popen) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=120)  # it may still be importing its pages


@pytest.fixture(scope="session")
def server(home_template: Path, tmp_path_factory: pytest.TempPathFactory):
    """One server for the run. Tests add to its log and accounts and never rely on what others added."""
    folder = tmp_path_factory.mktemp("server")
    home = folder / "home"
    shutil.copytree(home_template, home, copy_function=link_or_copy)
    (home / "config.toml").write_text(PATIENT)
    process, url, token = start_server(home, folder / "server.log")
    try:
        setup = {"token": token, "username": "admin", "password": ADMIN_PASSWORD}
        assert httpx.post(f"{url}/v1/setup", json=setup, trust_env=False, timeout=ANSWER_S).status_code == 201
        running = Server(url, home, process.pid)
        with running.client("admin", ADMIN_PASSWORD) as admin:
            for name, password, role in (("auditor", AUDITOR_PASSWORD, "auditor"), ("ana", USER_PASSWORD, "user")):
                body = {"username": name, "password": password, "roles": [role]}
                assert admin.post("/v1/accounts", json=body).status_code == 201
        yield running
        assert stop_server(process) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def ana(server: Server):
    with server.client("ana", USER_PASSWORD) as client:
        yield client


@pytest.fixture
def admin(server: Server):
    with server.client("admin", ADMIN_PASSWORD) as client:
        yield client


@pytest.fixture
def auditor(server: Server):
    with server.client("auditor", AUDITOR_PASSWORD) as client:
        yield client


def run_appliance(*arguments: str, home: Path | None = None, stdin: bytes | None = None, **options):
    """The installed command in a process of its own."""
    command = [sys.executable, "-m", "appliance", *arguments]
    if home is not None:
        command += ["--home", str(home)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False, **options)


@pytest.fixture
def appliance():
    """Call the command: `appliance("audit", "verify", home=folder)`."""
    return run_appliance


@pytest.fixture
def parsed():
    """The JSON a command printed."""
    return lambda done: json.loads(done.stdout)
