"""A witness from its first command to its last, as the compliance officer runs it, with a real server watched by it.

Every command is a process of its own; the witness listens on this machine, without TLS, as it may only here.
"""

import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from witness_log import SmallLog

from appliance.audit.keystore import public_material
from appliance.audit.quarantine import read_quarantine
from appliance.audit.witness import format_submission
from appliance.audit.witness_folder import read_state
from appliance.config import Home
from tests.conftest import ANSWER_S, follow, start_server, stop_server

NAME = "witness.example/w1"
LOG = SmallLog().grow(12)
HOME_ERROR, CONFIG_INVALID = 21, 22
WAIT_S = 120.0  # a bound on waiting for another process


@pytest.fixture
def witness(tmp_path, appliance):
    folder = tmp_path / "witness"
    done = appliance("witness", "init", "--folder", str(folder), "--name", NAME)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.decode().strip()


@contextmanager
def serving(folder, log, *options):
    """`appliance witness serve` on a free port; yields its address."""
    command = [sys.executable, "-m", "appliance", "witness", "serve", "--folder", str(folder), "--port", "0", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield next(found[1] for line in follow(log, process) if (found := re.search(r"serves at (\S+)", line)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=ANSWER_S) == 0
    finally:
        process.kill()
        process.wait()


def test_a_log_is_watched_shown_and_its_fork_kept_as_evidence(witness, tmp_path, appliance, parsed):
    folder, key = witness
    fork = LOG.fork(4).grow(6, "other")
    options = {"trust_env": False, "timeout": ANSWER_S}
    with serving(folder, tmp_path / "witness.log") as url, httpx.Client(base_url=url, **options) as client:
        assert client.get("/").json()["verifier_key"] == key

        def add(log, old, size):
            return client.post("/add-checkpoint", content=format_submission(old, log.proof(old, size), log.note(size)))

        assert add(LOG, 0, 5).status_code == 404
        assert appliance("witness", "add-log", "--folder", str(folder), LOG.key).returncode == 0
        unseen = appliance("witness", "show", "--folder", str(folder)).stdout.decode()
        assert LOG.origin in unseen and "None" not in unseen
        assert [add(LOG, 0, 5).status_code, add(LOG, 5, 9).status_code, add(fork, 9, 10).status_code] == [200, 200, 422]
        second = appliance("witness", "serve", "--folder", str(folder), "--port", "0")
        assert (second.returncode, b"runs already" in second.stderr) == (HOME_ERROR, True)
    shown = parsed(appliance("witness", "show", "--folder", str(folder), "--json"))
    (row,) = shown["logs"]
    assert (row["origin"], row["size"], row["cosigned"], row["verdicts"]) == (LOG.origin, 9, 2, {"inconsistent": 1})
    assert 0 <= row["age_s"] < 600
    assert len(shown["evidence"]) == 1
    plain = appliance("witness", "show", "--folder", str(folder)).stdout.decode()
    assert plain.startswith(key)
    assert LOG.origin in plain


def test_a_witness_without_its_state_does_not_start_and_says_what_to_do(witness, appliance):
    folder, _ = witness
    (folder / "state.json").unlink()
    done = appliance("witness", "serve", "--folder", str(folder), "--port", "0")
    assert done.returncode == HOME_ERROR
    assert b"no longer knows what it cosigned" in done.stderr
    assert b"hint: retire this witness" in done.stderr


def test_it_listens_beyond_this_machine_with_tls_only(witness, tmp_path, appliance):
    folder, _ = witness
    done = appliance("witness", "serve", "--folder", str(folder), "--host", "0.0.0.0", "--port", "0")
    assert (done.returncode, b"without TLS" in done.stderr) == (CONFIG_INVALID, True)
    absent = str(tmp_path / "none.pem")
    options = ("--tls-certificate", absent, "--tls-key", absent, "--port", "0")
    done = appliance("witness", "serve", "--folder", str(folder), *options)
    assert (done.returncode, b"cannot use the certificate" in done.stderr) == (CONFIG_INVALID, True)


def test_it_never_lies_in_a_data_folder(home, appliance):
    done = appliance("witness", "init", "--folder", str(home.root / "witness"), "--name", NAME)
    assert (done.returncode, b"data folder of an appliance" in done.stderr) == (HOME_ERROR, True)


def configure(home: Home, url: str, key: str) -> None:
    text = home.config_file.read_text() if home.config_file.exists() else ""
    witness = f'[witness]\nurl = "{url}"\nverifier_key = "{key}"\nevery_s = 0.2\n'
    home.config_file.write_text(f"{text}\n{witness}[server]\nui = false\n")


@pytest.mark.long
def test_a_server_is_witnessed_and_one_that_was_put_back_serves_reads_only(home, witness, tmp_path, appliance, parsed):
    """T10 through the commands: serve, back up, serve on, put everything back, serve again."""
    folder, key = witness
    for verifier_key in public_material(home).verifier_keys:
        appliance("witness", "add-log", "--folder", str(folder), verifier_key)
    with serving(folder, tmp_path / "witness.log") as url:
        configure(home, url, key)

        def serve_until_cosigned(name):
            before = size_of(folder)
            process, _, _ = start_server(home.root, tmp_path / name, "--no-setup-link")
            try:
                until(lambda: size_of(folder) > before)
            finally:
                assert stop_server(process) == 0

        serve_until_cosigned("first.log")
        backup = tmp_path / "backup"
        subprocess.run(["cp", "-a", str(home.root), str(backup)], check=True)
        serve_until_cosigned("second.log")
        subprocess.run(["rm", "-rf", str(home.root)], check=True)
        backup.rename(home.root)
        for name in ("third.log", "fourth.log"):
            process, server, _ = start_server(home.root, tmp_path / name, "--no-setup-link")
            try:
                ready = httpx.get(f"{server}/readyz", trust_env=False, timeout=ANSWER_S)
                assert ready.status_code == 503
                assert "here are" in read_quarantine(home.audit_database.parent).why
            finally:
                assert stop_server(process) == 0
        doctor = parsed(appliance("doctor", "--quick", "--json", home=home.root))
        (line,) = [check for check in doctor if check["name"] == "exposure"]
        assert (line["state"], "quarantined" in line["found"]) == ("fail", True)
        # T10: no file of this copy shows what is missing, and the verdict is what the witness knows.
        assert appliance("audit", "verify", home=home.root).returncode == 11


def size_of(folder) -> int:
    return max((kept.size for kept in read_state(folder).values()), default=0)


def until(condition) -> None:
    """Look again until it holds; fails after `WAIT_S`."""
    ends = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)
