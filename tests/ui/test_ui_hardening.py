"""Guaranteed: Gradio is imported with everything off that talks to others, fails closed when a release is not the
one that was reviewed, and leaves no file behind. What changes a process for good runs in a process of its own,
where an audit hook writes down every look-up and connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ui import hardening

pytestmark = pytest.mark.timeout(600)  # importing Gradio takes minutes on a machine that is very busy

ROOT = Path(__file__).parents[2]
NO_PROCESS = 2**22 + 1  # more than any number that Linux gives, so nobody has it by the time of the test
COMMITTED_ROUTES = Path(__file__).parent / "gradio_routes.txt"


def in_fresh_process(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", **environment},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


LOADED = """
import json, sys
contacts = []
def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.sendto"):
        contacts.append([event, repr(arguments[0] if event == "socket.getaddrinfo" else arguments[1])])
sys.addaudithook(watch)
from fake_api import FakeApi
from ui.client import Client
from ui.hardening import close_fetching, make_temp_folder, remove_folder, set_environment
from ui.settings import UiSettings
folder = make_temp_folder()
set_environment(folder)
from ui.gradio_pages import mounted_pages
close_fetching()
mounted = mounted_pages(Client(FakeApi().app), UiSettings())
gradio = next(route.app for route in mounted.routes if getattr(route, "path", "") == "/app")
def dump(routes, prefix=""):
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        if hasattr(route, "path"):
            yield from (f"{method} {prefix}{route.path}" for method in sorted(getattr(route, "methods", None) or ["*"]))
        elif inner is not None:
            yield from dump(inner.routes, prefix)
        else:
            yield f"? {route!r}"
import gradio as gr
from pathlib import Path
before = sorted(str(path) for path in folder.rglob("*") if not path.is_dir())
remove_folder(folder)
print(json.dumps({
    "contacts": contacts, "routes": sorted(set(dump(gradio.routes))), "files": before,
    "analytics": gr.analytics.analytics_enabled(), "folder_left": folder.exists(),
    "heavy": [name for name in ("matplotlib", "plotly", "altair", "torch", "transformers") if name in sys.modules],
}))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, object]:
    done = in_fresh_process(LOADED)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_gradio_and_building_the_pages_contacts_nobody(loaded) -> None:
    assert loaded["contacts"] == []
    assert loaded["analytics"] is False


def test_building_the_pages_loads_no_plotting_and_no_second_model_library(loaded) -> None:
    assert loaded["heavy"] == []


def test_building_the_pages_leaves_no_file(loaded) -> None:
    assert (loaded["files"], loaded["folder_left"]) == ([], False)


def test_gradio_has_exactly_the_routes_that_were_reviewed(loaded) -> None:
    """A route that is not in `gradio_routes.txt` came with another release: read what it does, then commit the list.

    The guard answers 404 for it in any case.
    """
    assert loaded["routes"] == COMMITTED_ROUTES.read_text().splitlines()


def test_a_release_without_a_known_fetching_function_is_refused() -> None:
    done = in_fresh_process(
        "from ui.hardening import *; import gradio.processing_utils as p, sys\n"
        "del p.async_ssrf_protected_get\n"
        "try: close_fetching()\n"
        "except GradioUnsupported as error: print(error)"
    )
    assert "async_ssrf_protected_get is gone" in done.stdout


def test_the_fetching_functions_refuse_after_they_are_closed() -> None:
    done = in_fresh_process(
        "import asyncio; from ui.hardening import *; close_fetching()\n"
        "import gradio.processing_utils as p, gradio.routes as r\n"
        "for call in (lambda: asyncio.run(p.async_ssrf_protected_get('http://x.test')),\n"
        "             lambda: p.ssrf_protected_download('http://x.test', '/tmp'),\n"
        "             lambda: asyncio.run(r.secure_url_stream_response('http://x.test'))):\n"
        "    try: call(); print('fetched')\n"
        "    except EgressRefused: print('refused')"
    )
    assert done.stdout.split() == ["refused"] * 3, done.stderr[-500:]


def test_settings_that_come_too_late_are_refused() -> None:
    done = in_fresh_process(
        "import gradio; from pathlib import Path; from ui.hardening import *\n"
        "try: set_environment(Path('/tmp'))\n"
        "except GradioUnsupported: print('refused')"
    )
    assert done.stdout.strip() == "refused"


def test_proxies_and_credentials_are_gone_from_the_environment() -> None:
    done = in_fresh_process(
        "import os; from pathlib import Path; from ui.hardening import *; set_environment(Path('/tmp/x'))\n"
        "print(sorted(n for n in os.environ if 'PROXY' in n.upper() or 'TOKEN' in n), os.environ['HF_HUB_OFFLINE'])",
        HTTP_PROXY="http://proxy.test",
        https_proxy="http://proxy.test",
        HF_TOKEN="secret",
    )
    assert done.stdout.strip() == "[] 1"


def test_the_tripwire_stops_look_ups_and_connections_and_tells_no_name() -> None:
    done = in_fresh_process(
        "import socket; from ui.hardening import *\n"
        "seen = []; install_egress_tripwire(seen.append); install_egress_tripwire(seen.append)\n"
        "def attempt(call):\n"
        "    try: call()\n"
        "    except EgressRefused: return 'refused'\n"
        "    except OSError: return 'let through'\n"
        "    return 'let through'\n"
        "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "print(attempt(lambda: socket.getaddrinfo('secret.example', 80)),\n"
        "      attempt(lambda: socket.create_connection(('192.0.2.1', 80), 1)),\n"
        "      attempt(lambda: udp.sendto(b'x', ('192.0.2.1', 53))),\n"
        "      attempt(lambda: socket.create_connection(('127.0.0.1', 9), 1)),\n"
        "      attempt(lambda: socket.getaddrinfo('localhost', 80)), sep=',')\n"
        "print(seen)"
    )
    outcome, seen = done.stdout.splitlines()
    assert outcome == "refused,refused,refused,let through,let through"
    assert "secret" not in seen
    assert seen.count("socket.") >= 3


def test_a_configured_peer_is_reached_at_its_port_only_and_later_calls_widen_nothing() -> None:
    done = in_fresh_process(
        "import socket; from ui.hardening import *\n"
        "real, asked = socket.getaddrinfo, []\n"
        "def resolve(host, port, *rest, **more):\n"
        "    sys.audit('socket.getaddrinfo', host, port, 0, 0, 0); asked.append(host)\n"
        "    return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('192.0.2.7', port))]\n"
        "socket.getaddrinfo = resolve\n"
        "install_egress_tripwire(lambda _: None, allowed_addresses=[('siem.example', 6514), ('192.0.2.9', 443)])\n"
        "install_egress_tripwire(lambda _: None, allowed_addresses=[('evil.example', 443)])\n"
        "def attempt(event, *arguments):\n"
        "    try: sys.audit(event, *arguments)\n"
        "    except EgressRefused: return 'no'\n"
        "    return 'yes'\n"
        "print(attempt('socket.getaddrinfo', 'siem.example', 6514, 0, 0, 0),\n"
        "      attempt('socket.connect', None, ('192.0.2.7', 6514)),\n"
        "      attempt('socket.connect', None, ('192.0.2.9', 443)),\n"
        "      attempt('socket.getaddrinfo', 'siem.example.evil.test', 6514, 0, 0, 0),\n"
        "      attempt('socket.getaddrinfo', 'evil.example', 443, 0, 0, 0),\n"
        "      attempt('socket.connect', None, ('192.0.2.7', 443)),\n"
        "      attempt('socket.connect', None, ('192.0.2.8', 6514)),\n"
        "      attempt('socket.sendto', None, ('192.0.2.8', 53)), sep=',')\n"
        "print(asked)"
    )
    outcomes, asked = done.stdout.splitlines()
    assert outcomes == "yes,yes,yes,no,no,no,no,no", done.stderr[-500:]
    assert asked == "['siem.example']"  # looked up once, for the first connection


@pytest.mark.parametrize(
    ("host", "ours"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), (b"localhost", True), ("", True),
     ("0.0.0.0", True), ("10.0.0.1", False), ("localhost.evil.test", False), ("fe80::1%eth0", False), (b"\xff", False),
     ("2130706433", False), ("::ffff:8.8.8.8", False)],
)  # fmt: skip
def test_only_loopback_is_this_machine(host: object, ours: bool) -> None:
    assert hardening.is_this_machine(host) is ours


def test_the_temporary_folder_is_private_and_leftovers_of_dead_processes_go(tmp_path: Path) -> None:
    left_behind = tmp_path / f"cloister-ui-{NO_PROCESS}-abc"
    left_behind.mkdir()
    (left_behind / "tmp1234").write_text("a note")
    (tmp_path / "somebody-elses").mkdir()
    folder = hardening.make_temp_folder(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, "somebody-elses"])
    again = hardening.make_temp_folder(tmp_path)
    assert folder.exists() and again != folder  # this process lives: its folder stays


@pytest.mark.parametrize("between", ["is_dir", "is_symlink", "lstat"])
def test_a_leftover_that_another_starting_process_takes_away_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    left_behind = tmp_path / f"cloister-ui-{NO_PROCESS}-abc"
    left_behind.mkdir()
    really = getattr(Path, between)

    def found_and_gone(path: Path) -> object:
        found = really(path)
        if path == left_behind:
            path.rmdir()
        return found

    monkeypatch.setattr(Path, between, found_and_gone)
    assert hardening.make_temp_folder(tmp_path).stat().st_mode & 0o777 == 0o700


def test_wiping_takes_old_files_and_follows_no_link(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (folder / "deep" / "er").mkdir(parents=True)
    old, new = folder / "deep" / "er" / "old", folder / "new"
    old.write_text("x")
    new.write_text("x")
    os.utime(old, (time.time() - 1000,) * 2)
    (folder / "link").symlink_to(outside)
    assert hardening.wipe(folder, older_than_s=900) == 1
    assert (old.exists(), new.exists()) == (False, True)
    hardening.remove_folder(folder)
    assert (folder.exists(), (outside / "kept").exists()) == (False, True)
