"""A data folder that cannot be used is refused with what is wrong, which folder or file it is, and what to do.

Each command runs in a process of its own, as a person would run it. Each refusal has its exit status, two lines on
stderr and no traceback, and leaves every file of the folder as it was.
"""

import hashlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import ANSWER_S, link_or_copy, run_appliance
from tests.e2e.sites import configure, running_site

NOTE = b"Call ana@example.org"
WRONG_KEY, DATA_FOLDER, CONFIGURATION = 20, 21, 22


def contents(home: Path) -> dict[str, str]:
    """SHA-256 of every file but locks and sockets, and what SQLite leaves empty beside a database."""
    files = [path for path in home.rglob("*") if path.is_file() and "run" not in path.relative_to(home).parts]
    files = [path for path in files if path.suffix != ".db-shm" and (path.suffix != ".db-wal" or path.stat().st_size)]
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(done: subprocess.CompletedProcess, status: int, *words: str) -> str:
    """What was said, after checking its form: it ends with two lines, one for the thing and one for the remedy."""
    said = done.stderr.decode()
    assert done.returncode == status, said
    assert "Traceback" not in said and done.stdout == b""
    *progress, first, hint = said.strip().splitlines()
    assert not [line for line in progress if "error" in line]
    assert first.startswith("appliance: error: ") and hint.startswith("hint: ")
    assert not first.endswith(".") and not hint.endswith(".")
    for word in words:
        assert word in said, f"{word!r} is not in: {said}"
    return said


@pytest.fixture
def folder(home) -> Path:
    configure(home.root)
    return home.root


def test_wrong_key_file_is_called_that_and_nothing_is_written(folder):
    key = folder / "keys" / "root.key"
    key.chmod(0o600)
    key.write_bytes(os.urandom(32))
    key.chmod(0o400)
    before = contents(folder)
    for command in (["deidentify", "-"], ["audit", "checkpoint"]):
        refused(run_appliance(*command, home=folder, stdin=NOTE), WRONG_KEY, "wrong key", "nothing was changed")
    assert contents(folder) == before


def test_missing_key_file_is_named(folder):
    (folder / "keys" / "root.key").unlink()
    before = contents(folder)
    done = run_appliance("deidentify", "-", home=folder, stdin=NOTE)
    refused(done, WRONG_KEY, str(folder / "keys" / "root.key"), "put the key file back")
    assert contents(folder) == before


def test_key_file_that_others_can_read_is_refused_with_the_command_that_repairs_it(folder):
    key = folder / "keys" / "root.key"
    key.chmod(0o444)
    refused(run_appliance("audit", "checkpoint", home=folder), WRONG_KEY, "readable by others", f"chmod 0400 {key}")


def run_unprivileged(*arguments: str, home: Path) -> subprocess.CompletedProcess:
    """The command by somebody whom file modes bind; root loses the capabilities that look past them."""
    command = [sys.executable, "-m", "appliance", *arguments, "--home", str(home)]
    if os.geteuid() == 0:
        dropped = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}", *command]
    return subprocess.run(command, input=NOTE, capture_output=True, timeout=120, check=False)


@pytest.fixture
def read_only_folder(folder):
    places = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in places if not path.name.endswith(".gguf")}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    yield folder
    for path, mode in modes.items():
        path.chmod(mode)


def test_read_only_data_folder_is_named(read_only_folder):
    for command in (["deidentify", "-"], ["serve", "--port", "0"]):
        done = run_unprivileged(*command, home=read_only_folder)
        refused(done, DATA_FOLDER, str(read_only_folder), "cannot be written", "read-write")


@pytest.mark.parametrize("command", [["deidentify", "-"], ["serve", "--port", "0"]], ids=lambda words: words[0])
def test_full_disk_is_named_before_anything_runs(folder, command):
    before = contents(folder)
    full = ["prlimit", "--fsize=0", sys.executable, "-m", "appliance", *command, "--home", str(folder)]
    done = subprocess.run(full, input=NOTE, capture_output=True, timeout=120, check=False)
    refused(done, DATA_FOLDER, str(folder), "is full", "free some space")
    assert contents(folder) == before


def test_disk_that_is_nearly_full_stops_answers_and_says_so(folder):
    configure(folder, audit={"disk_free_bytes_min": str(2**62)})
    refused(run_appliance("deidentify", "-", home=folder, stdin=NOTE), 9, "nearly full", "free space on that disk")


def test_folder_of_a_later_release_is_refused_untouched(folder):
    (folder / "home.json").write_text('{"format": 999}')
    before = contents(folder)
    for command in (["deidentify", "-"], ["upgrade"]):
        done = run_appliance(*command, home=folder, stdin=NOTE)
        refused(done, DATA_FOLDER, str(folder), "later release", "install the release that wrote it")
    assert contents(folder) == before


@pytest.mark.parametrize("database", ["db/appliance.db", "audit/log.db", "keys/keystore.db"])
def test_database_of_a_later_release_is_refused_untouched(folder, database):
    path = folder / database
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE release_floor SET revision = '9999'")
    connection.close()
    before = contents(folder)
    for command in (["deidentify", "-"], ["upgrade"]):
        refused(run_appliance(*command, home=folder, stdin=NOTE), DATA_FOLDER, str(path), "9999", "release")
    assert contents(folder) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": "x"}'], ids=["empty", "cut", "a list", "no number"])
def test_damaged_marker_is_named(folder, content):
    (folder / "home.json").write_bytes(content)
    refused(run_appliance("users", "list", home=folder), DATA_FOLDER, str(folder / "home.json"), "damaged", "backup")


def test_folder_that_is_none_is_refused_with_the_command_that_makes_one(tmp_path):
    done = run_appliance("deidentify", "-", home=tmp_path / "nowhere", stdin=NOTE)
    refused(done, DATA_FOLDER, "not an appliance's data folder", f"appliance init --home {tmp_path / 'nowhere'}")
    assert not (tmp_path / "nowhere").exists()


def test_complete_folder_is_not_created_over(folder):
    before = contents(folder)
    refused(run_appliance("init", home=folder), DATA_FOLDER, str(folder), "already", "--home")
    assert run_appliance("init", "--if-missing", home=folder).returncode == 0
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("toml", "words"),
    [("[limits]\ntext_chars_max = -1\n", ["limits.text_chars_max"]), ("[server\n", ["config.toml", "not valid TOML"])],
    ids=["value", "syntax"],
)
def test_configuration_that_is_not_valid_names_its_key(folder, toml, words):
    (folder / "config.toml").write_text(toml)
    done = run_appliance("users", "list", home=folder)
    refused(done, CONFIGURATION, *words)


def test_address_that_cannot_be_served_is_named_with_what_to_do(folder, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_appliance("serve", "--port", port, home=folder)
        refused(done, CONFIGURATION, f"cannot listen on 127.0.0.1:{port}", "in use", "--port")
    refused(run_appliance("serve", "--host", "0.0.0.0", home=folder), CONFIGURATION, "without TLS", "tls_certificate")
    configure(folder, server={"tls_certificate": f'"{tmp_path / "absent.pem"}"'})
    refused(run_appliance("serve", "--port", "0", home=folder), CONFIGURATION, "absent.pem", "PEM files")


def test_second_server_on_a_folder_is_refused_and_names_the_first(folder, tmp_path):
    with running_site(folder, tmp_path) as site:
        done = run_appliance("serve", "--port", "0", home=folder)
        refused(done, DATA_FOLDER, str(folder), f"process {site.process.pid}", "--home")
        refused(run_appliance("upgrade", home=folder), DATA_FOLDER, f"process {site.process.pid}")
        assert site.client.get("/readyz").status_code == 200


def test_command_beside_a_server_records_through_its_log(folder, tmp_path):
    with running_site(folder, tmp_path) as site:
        done = run_appliance("deidentify", "-", home=folder, stdin=NOTE)
        assert done.returncode == 0 and b"[EMAIL 1]" in done.stdout, done.stderr
        assert site.verdict()["exit_code"] == 0


def test_two_homes_never_touch_each_other(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other, copy_function=link_or_copy)
    before = contents(other)
    named_otherwise = {**os.environ, "APPLIANCE_HOME": str(other)}
    done = run_appliance("deidentify", "-", home=folder, stdin=NOTE, env=named_otherwise)
    assert done.returncode == 0, done.stderr
    assert contents(other) == before
    assert list((other / "run").iterdir()) == []
    with running_site(folder, tmp_path) as first:
        (tmp_path / "second").mkdir()
        with running_site(other, tmp_path / "second") as second:
            receipt = first.client.post("/v1/deidentify", json={"text": "Ana"}).json()["receipt"]
            assert second.client.get(f"/v1/audit/receipts/{receipt['record_id']}").status_code == 404
            options = {"cookies": first.client.cookies, "trust_env": False, "timeout": ANSWER_S}
            with httpx.Client(base_url=second.url, **options) as stranger:
                assert stranger.get("/v1/sessions/current").status_code == 401
