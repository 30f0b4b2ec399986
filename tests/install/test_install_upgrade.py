"""Upgrades of a server that people use, with the product itself: what was acknowledged is in the log afterwards; what
is not well is put back by itself and serves again; the way back is open where the tables were only added to, and
refused with the remedy where they were not; a run that is killed is ended by the next one. Without systemd, as in a
container: the supervisor runs the server.
"""

import os
import re
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.sites import eventually
from tests.install.real_release import FOREVER, RealSite, migrating, release, replace
from tests.service.bundle_maker import Maker, fingerprint

NOTE = "Call ana@example.org"
WRITERS, PAUSE_S = 3, 0.02
AWAY_S_MAX = 60
pytestmark = pytest.mark.timeout(900)  # a busy machine installs two releases in minutes


def broken_worker(source: Path) -> None:
    """A release whose models cannot be run."""
    path = source / "appliance" / "engine" / "worker.py"
    path.write_text(
        "raise SystemExit('broken')\n" + path.read_text().replace("from __future__ import annotations\n", "")
    )


def broken_server(source: Path) -> None:
    """A release that is well in every check, and whose server does not start."""
    replace(source / "appliance" / "cli" / "serve.py", "    check_home(config.home)\n", "    raise SystemExit(1)\n")


EDITS = {
    "n": None,
    "adds": migrating("{head}"),
    "takes-away": migrating("0099_next"),
    "broken-worker": broken_worker,
    "broken-server": broken_server,
}


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    return Maker(tmp_path_factory.mktemp("maker"))


@pytest.fixture(scope="module")
def bundles(maker):
    """Bundles by name, made when they are asked for; `n` has serial 17, every other one 18."""
    root, made = maker.root(expires=FOREVER["expires"]), {}

    def bundle(name: str) -> Path:
        if name not in made:
            more = {} if EDITS[name] is None else {"edit": EDITS[name]}
            made[name] = release(maker, name, root, serial=17 if name == "n" else 18, **more)
        return made[name]

    return bundle


@pytest.fixture
def site(maker, bundles, home_template, tmp_path):
    """The first release, installed for a data folder that is there, serving, with somebody who may ask."""
    site = RealSite(tmp_path, fingerprint(maker.root(expires=FOREVER["expires"])), free_port())
    site.take_home(home_template)
    done = site.run("install", bundle=bundles("n"))
    assert done.returncode == 0, done.stdout + done.stderr
    with site.supervised():
        site.become_administrator()
        yield site


def free_port() -> int:
    """One that nobody gets who asks the kernel for any: it is bound long after it was chosen, and more than once."""
    given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(given - 1 - os.getpid() % 4096, 1024, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("every port is taken")


@contextmanager
def people_asking(site: RealSite):
    """Several people who ask all the time, and go on when the server is away; what they got, and how often not."""
    stop, acknowledged, refused = threading.Event(), [], []

    def ask() -> None:
        with site.client() as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/deidentify", json={"text": NOTE})
                except httpx.HTTPError as error:
                    refused.append(type(error).__name__)
                    stop.wait(0.05)
                    continue
                stop.wait(PAUSE_S)
                if answer.status_code == 200:
                    acknowledged.append(answer.json()["receipt"]["record_id"])
                else:
                    refused.append(answer.status_code)

    people = [threading.Thread(target=ask) for _ in range(WRITERS)]
    for each in people:
        each.start()
    try:
        yield acknowledged, refused
    finally:
        stop.set()
        for each in people:
            each.join(60)


def test_an_upgrade_under_load_loses_no_record(site, bundles):
    before = site.release()
    with people_asking(site) as (acknowledged, refused):
        done = site.run("upgrade", bundle=bundles("adds"))
        at_the_switch = len(acknowledged)
        while len(acknowledged) < at_the_switch + WRITERS:
            assert threading.active_count() > WRITERS, "somebody who asked has given up"
            threading.Event().wait(0.01)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.release() != before and refused, "the server was away for a moment, or nothing was tested"
    away = float(re.search(r"did not answer for (\d+\.\d) s", done.stdout)[1])
    assert away <= AWAY_S_MAX
    with site.client() as client:
        for record in acknowledged:
            receipt = client.get(f"/v1/audit/receipts/{record}")
            assert receipt.status_code == 200, receipt.text
        assert client.post("/v1/audit/verify").json()["exit_code"] == 0
    print(f"{len(acknowledged)} acknowledged, {len(refused)} refused, away for {away} s")


def serves_as_before(site: RealSite, release: str, records: list[str]) -> bool:
    """This release is in use and answers, and what was recorded is in the log, which verifies."""
    assert site.release() == release and site.answers()
    with site.client() as client:
        assert client.post("/v1/deidentify", json={"text": NOTE}).json()["text"] == "Call [EMAIL 1]"
        for record in records:
            assert client.get(f"/v1/audit/receipts/{record}").status_code == 200
        assert client.post("/v1/audit/verify").json()["exit_code"] == 0
    return True


@pytest.mark.long
def test_a_release_whose_canary_fails_is_put_back_by_itself(site, bundles):
    before = site.release()
    with people_asking(site) as (acknowledged, _):
        done = site.run("upgrade", bundle=bundles("broken-worker"))
    assert done.returncode == 6, done.stdout + done.stderr
    assert "FAIL  engine" in done.stdout and f"{before} serves again" in done.stderr
    assert acknowledged and serves_as_before(site, before, acknowledged)
    assert not (site.prefix / "previous").is_symlink()


@pytest.mark.long
def test_a_release_whose_server_does_not_start_is_put_back_by_itself(site, bundles):
    before = site.release()
    with people_asking(site) as (acknowledged, _):
        done = site.run("upgrade", bundle=bundles("broken-server"))
    assert done.returncode == 6, done.stdout + done.stderr
    assert "did not answer within" in done.stderr and f"{before} serves again" in done.stderr
    assert acknowledged and serves_as_before(site, before, acknowledged)


@pytest.mark.long
def test_a_release_that_only_added_to_the_tables_can_be_taken_back(site, bundles):
    before = site.release()
    assert site.run("upgrade", bundle=bundles("adds")).returncode == 0
    with people_asking(site) as (acknowledged, _):
        done = site.run("rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert acknowledged and serves_as_before(site, before, acknowledged)
    done = site.run("rollback")  # and forward again: the release after it lies there still
    assert done.returncode == 0 and site.release() != before, done.stdout + done.stderr


@pytest.mark.long
def test_a_release_that_took_something_away_is_kept_and_the_remedy_named(site, bundles):
    assert site.run("upgrade", bundle=bundles("takes-away")).returncode == 0
    now = site.release()
    done = site.run("rollback")
    assert done.returncode == 7, done.stdout + done.stderr
    assert "is not well with the data as it is now; nothing was switched" in done.stderr
    assert "appliance restore" in done.stderr and "later release" in done.stdout
    assert serves_as_before(site, now, [])


KILLED_AT = ("try the migration", "stop the supervised", "bring the data", "check the health", "make ", "remember")


@pytest.mark.long
@pytest.mark.parametrize("step", KILLED_AT)
def test_an_upgrade_that_is_killed_is_ended_by_the_next_run_and_the_server_comes_back_meanwhile(site, bundles, step):
    words = ["--bundle", bundles("adds"), "--trust-fingerprint", site.fingerprint]
    with people_asking(site) as (acknowledged, _):
        with subprocess.Popen(site.command("upgrade", *words), stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout:
                if line.startswith(f"  doing      {step}"):
                    run.kill()
                    break
        assert run.wait() == -signal.SIGKILL
        eventually(site.answers, "the server answers again")
        done = site.run("upgrade", bundle=bundles("adds"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-18-" in site.release() and acknowledged and serves_as_before(site, site.release(), acknowledged)
    assert "no change" in site.run("upgrade", bundle=bundles("adds")).stdout
