"""Processes are stopped, killed and cut off in the middle of a request. Nothing unrecorded is released, the server
lives or starts again, every exchange ends with one closing record, and the log verifies.

Real processes and real signals. A suspended engine worker holds a request at a known place: its opening record is in
the log and its answer is not there yet. The engine is the echo backend: what dies here is the process around it.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from appliance.audit.sockets import LOCK_FILE
from appliance.config import load_config
from appliance.errors import ModelFileRefused, SpecialistFileInvalid
from appliance.service.specialists import open_registry
from tests.audit.faults.memory import memory_folder
from tests.conftest import ANSWER_S, run_appliance
from tests.e2e.sites import PASSWORD, STOP_S, Site, configure, eventually, is_alive, running_site, suspended
from tests.specialist_files import adapter_of, write_tagger

NOTE = "Call ana@example.org"
FILLED_BYTES = 768 * 2**20
APPEND_S = "8"  # waited for where the log is gone, and long enough for one that is only slow


@pytest.fixture
def folder(home) -> Path:
    configure(home.root)
    return home.root


@contextmanager
def request_in_the_engine(site: Site):
    """A request that was accepted and waits for an answer, as a future; the engine goes on when the block ends."""
    with ThreadPoolExecutor(1) as pool, suspended(site.child("engine.worker")):
        answer = pool.submit(site.client.post, "/v1/deidentify", json={"text": NOTE})
        accepted = eventually(lambda: dangling(site), "a request is accepted")
        yield answer, accepted[0]


def dangling(site: Site) -> list[dict]:
    """Opening records without a closing one, read by a second session so that the first one is free."""
    with httpx.Client(base_url=site.url, trust_env=False, timeout=ANSWER_S) as client:
        client.cookies = site.client.cookies
        rows = client.get("/v1/audit/records", params={"limit": 200}).json()["data"]
    closed = {row["exchange_id"] for row in rows if row["outcome"] != "accepted"}
    return [row for row in rows if row["outcome"] == "accepted" and row["exchange_id"] not in closed]


def closings(site: Site, exchange: str) -> list[tuple[str, str | None]]:
    """Outcome and error code of an exchange's closing records."""
    rows = [row for row in site.records(exchange_id=exchange) if row["outcome"] != "accepted"]
    return [(row["outcome"], row["attributes"].get("error")) for row in rows]


def is_well(site: Site) -> bool:
    """A new request is answered and the whole log verifies."""

    def ask() -> httpx.Response | None:
        """None where the log did not answer within a limit that this test made short: a machine may be busy."""
        answer = site.client.post("/v1/deidentify", json={"text": NOTE})
        return None if answer.status_code == 503 and "did not answer within" in answer.text else answer

    answer = eventually(ask, "a request is answered")
    assert answer.status_code == 200, answer.text
    assert "[EMAIL 1]" in answer.json()["text"]
    assert site.verdict()["exit_code"] == 0
    return True


def refusal(answer: Future) -> tuple[int, str]:
    response = answer.result(timeout=120)
    assert "[EMAIL 1]" not in response.text
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["service manager", "Ctrl+C"])
def test_server_that_is_told_to_stop_says_so_in_the_log_and_takes_its_processes_along(folder, tmp_path, how):
    with running_site(folder, tmp_path, stop=False) as site:
        children = site.children()
        site.process.send_signal(how)
        assert site.process.wait(STOP_S) == 0, site.log.read_text()
        assert "Traceback" not in site.log.read_text()
    assert set(children) == {"audit.sequencer", "engine.worker"}
    assert not [pid for pid in children.values() if is_alive(pid)]
    assert not (folder / "run" / "server.json").exists()
    listed = run_appliance("audit", "list", "--event", "appliance.stopped", "--json", home=folder)
    assert [row["actor"] for row in json.loads(listed.stdout)["data"]] == ["system"]


def test_answer_is_not_released_when_the_sequencer_is_killed_and_stays_away(folder, tmp_path):
    configure(folder, audit={"append_s": APPEND_S})
    with running_site(folder, tmp_path) as site:
        with request_in_the_engine(site) as (answer, accepted), no_new_sequencer(folder, site):
            os.kill(site.children()["engine.worker"], signal.SIGCONT)
            assert refusal(answer) == (503, "audit_unavailable")
            assert site.client.get("/readyz").json()["checks"]["audit"] == "unavailable"
        eventually(lambda: site.client.get("/readyz").status_code == 200, "the log records again")
        assert is_well(site)
        assert closings(site, accepted["exchange_id"]) == []
    with running_site(folder, tmp_path) as site:
        assert closings(site, accepted["exchange_id"]) == [("failed", "interrupted")]
        assert is_well(site)


@contextmanager
def no_new_sequencer(home: Path, site: Site):
    """The sequencer is killed, and its lock is held so that none comes back while the block lasts."""
    descriptor = os.open(home / "run" / LOCK_FILE, os.O_RDWR)
    holding = threading.Thread(target=fcntl.flock, args=(descriptor, fcntl.LOCK_EX))
    holding.start()  # waits in the kernel for the moment in which the sequencer dies

    def is_held() -> bool:
        """One that came back before this process was woken has the lock, and is killed as well."""
        if pid := site.children().get("audit.sequencer"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        holding.join(0.2)
        return not holding.is_alive()

    eventually(is_held, "the sequencer is gone and its lock is ours")
    try:
        yield
    finally:
        os.close(descriptor)


def test_answer_is_not_released_when_the_sequencer_hangs_and_is_replaced(folder, tmp_path):
    configure(folder, audit={"append_s": APPEND_S})
    with running_site(folder, tmp_path) as site:
        with request_in_the_engine(site) as (answer, accepted):
            hung = site.child("audit.sequencer")
            os.kill(hung, signal.SIGSTOP)
            os.kill(site.children()["engine.worker"], signal.SIGCONT)
            assert refusal(answer) == (503, "audit_unavailable")
        eventually(lambda: not is_alive(hung), "the server gives the sequencer up")
        eventually(lambda: site.client.get("/readyz").status_code == 200, "the log records again")
        assert is_well(site)
    with running_site(folder, tmp_path) as site:
        assert closings(site, accepted["exchange_id"]) == [("failed", "interrupted")]


def test_disk_that_fills_under_a_server_stops_answers_until_there_is_room_again(home, tmp_path):
    """On a file system in memory, where nobody else takes room; the figures of its size are far apart."""
    with memory_folder() as disk:
        folder = disk / "home"
        shutil.copytree(home.root, folder)
        space = os.statvfs(disk)
        free = space.f_bavail * space.f_frsize
        assert free > 2 * FILLED_BYTES, "too little memory for this test"
        configure(folder, audit={"disk_free_bytes_min": str(free - FILLED_BYTES // 2), "reserve_bytes": str(2**20)})
        with running_site(folder, tmp_path) as site:
            assert is_well(site)
            with request_in_the_engine(site) as (answer, accepted), (disk / "ballast").open("wb") as ballast:
                os.posix_fallocate(ballast.fileno(), 0, FILLED_BYTES)
                os.kill(site.children()["engine.worker"], signal.SIGCONT)
                assert refusal(answer) == (503, "audit_paused")
                refused = site.client.post("/v1/deidentify", json={"text": NOTE})
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "audit_paused")
                # Whoever is to repair it gets in, and that is recorded.
                person = {"username": "ana", "password": PASSWORD}
                sent = {"json": person, "trust_env": False, "timeout": ANSWER_S}
                assert httpx.post(f"{site.url}/v1/sessions", **sent).status_code == 200
            (disk / "ballast").unlink()
            eventually(lambda: site.client.get("/readyz").status_code == 200, "the log records again")
            assert is_well(site)
            assert closings(site, accepted["exchange_id"]) == []  # the next start closes it, as after a crash
            add_auditor(site)
            with auditor_of(site) as auditor:
                said = auditor.get("/v1/audit/records", params={"limit": 200}).json()["data"]
        events = [row["event"] for row in reversed(said)]
        assert events.index("audit.paused") < events.index("audit.resumed")


def test_killed_engine_worker_is_replaced_and_the_restart_is_recorded(folder, tmp_path):
    with running_site(folder, tmp_path) as site:
        with request_in_the_engine(site) as (answer, accepted):
            os.kill(site.child("engine.worker"), signal.SIGKILL)
            assert answer.result(60).status_code in (200, 503)
        assert is_well(site)
        assert len(closings(site, accepted["exchange_id"])) == 1
        add_auditor(site)
        with auditor_of(site) as auditor:
            page = auditor.get("/v1/audit/records", params={"event": "engine.event", "limit": 50}).json()["data"]
        kinds = [row["attributes"]["kind"] for row in page]
        assert kinds[:2] == ["worker_started", "worker_died"]


def add_auditor(site: Site) -> None:
    body = {"username": "aude", "password": "staple-battery-horse-8", "roles": ["auditor"]}
    assert site.client.post("/v1/accounts", json=body).status_code == 201


@contextmanager
def auditor_of(site: Site):
    with httpx.Client(base_url=site.url, trust_env=False, timeout=ANSWER_S) as client:
        body = {"username": "aude", "password": "staple-battery-horse-8"}
        assert client.post("/v1/sessions", json=body).status_code == 200
        yield client


def test_client_that_goes_away_leaves_a_cancelled_exchange(folder, tmp_path):
    with running_site(folder, tmp_path) as site:
        with suspended(site.child("engine.worker")), post_by_hand(site) as connection:
            accepted = eventually(lambda: dangling(site), "a request is accepted")
            connection.close()
            eventually(lambda: not dangling(site), "the exchange is closed while the engine still stands")
        assert closings(site, accepted[0]["exchange_id"]) == [("cancelled", "cancelled")]
        assert is_well(site)


@contextmanager
def post_by_hand(site: Site):
    """A request over a plain socket, which can be dropped in the middle."""
    body = f'{{"text": "{NOTE}"}}'.encode()
    cookies = "; ".join(f"{name}={value}" for name, value in site.client.cookies.items())
    host = site.url.removeprefix("http://")
    head = [
        "POST /v1/deidentify HTTP/1.1",
        f"Host: {host}",
        f"Cookie: {cookies}",
        f"X-CSRF-Token: {site.client.headers['X-CSRF-Token']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    address, port = host.split(":")
    with socket.create_connection((address, int(port)), timeout=120) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        yield connection


def test_killed_server_takes_its_processes_along_and_the_next_one_closes_what_it_left(folder, tmp_path):
    with running_site(folder, tmp_path, stop=False) as site, ThreadPoolExecutor(1) as pool:
        children = site.children()
        with suspended(children["engine.worker"]):
            answer = pool.submit(site.client.post, "/v1/deidentify", json={"text": NOTE})
            accepted = eventually(lambda: dangling(site), "a request is accepted")
            site.process.kill()
            site.process.wait(30)
            with pytest.raises(httpx.TransportError):
                answer.result(60)
        eventually(lambda: not [pid for pid in children.values() if is_alive(pid)], "its processes end")
    with running_site(folder, tmp_path) as site:
        assert closings(site, accepted[0]["exchange_id"]) == [("failed", "interrupted")]
        assert is_well(site)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "bit flipped"])
def test_specialist_file_that_was_damaged_on_the_disk_is_refused_and_the_server_lives(folder, tmp_path, damage):
    incoming = write_tagger(tmp_path / "extra.gguf")
    with running_site(folder, tmp_path) as site:
        with open_registry(load_config(folder)) as registry:
            path = registry.install(incoming, trust="administrator").path
        whole = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(
            {
                "truncated": whole[: len(whole) // 2],
                "foreign": b"PK\3\4" + bytes(4000),
                "bit flipped": whole[:-1] + bytes((whole[-1] ^ 1,)),
            }[damage]
        )
        refused = site.client.post("/v1/specialists/extra/run", json={"text": NOTE})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_file_refused")
        assert "install the specialist again" in refused.json()["error"]["hint"]
        assert is_well(site)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [("truncated", SpecialistFileInvalid), ("foreign", SpecialistFileInvalid), ("missing", ModelFileRefused)],
)
def test_file_that_is_no_specialist_is_not_installed(folder, tmp_path, damage, kind):
    path = write_tagger(tmp_path / "extra.gguf")
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(whole[:-40] if damage == "truncated" else b"<html>not a model</html>" * 100)
    with open_registry(load_config(folder)) as registry:
        before = registry.list()
        with pytest.raises(kind):
            registry.install(path, trust="administrator")
        assert registry.list() == before


def test_specialist_that_the_model_library_cannot_use_is_refused_and_the_others_go_on(folder, tmp_path):
    configure(folder, engine={"backend": '"llamacpp"'})
    hostile = {
        "narrow": adapter_of("blk.0.attn_q", width=100),
        "nowhere": adapter_of("blk.50.attn_q"),
        "no-numbers": adapter_of("blk.0.attn_q", value=float("nan")),
    }
    with running_site(folder, tmp_path) as site:
        for name, adapter in hostile.items():
            with open_registry(load_config(folder)) as registry:
                registry.install(write_tagger(tmp_path / f"{name}.gguf", adapter=adapter), trust="administrator")
            refused = site.client.post(f"/v1/specialists/{name}/run", json={"text": NOTE})
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "specialist_file_invalid"), name
            assert is_well(site)
        assert site.records(event="specialist.run", outcome="completed") == []
