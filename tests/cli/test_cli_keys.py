"""`appliance keys` from beginning to end: passphrases come over a descriptor or standard input and appear nowhere.

The commands run in this process, through the same entry point as the installed one; the log's process is real.
"""

import json
import os
import subprocess

import pytest
from typer.testing import CliRunner

import migrations
from appliance.audit.keystore import create_keystore
from appliance.audit.root_key import create_root_key
from appliance.cli.main import app
from appliance.config import Home
from tests.conftest import run_appliance

FIRST, SECOND, WRONG = b"correct horse battery\n", b"river lantern copper\n", b"incorrect horse battery\n"
CONFIG = """
[audit]
append_s = 60
start_s = 120
[keys]
argon2_memory_kib = 8192
argon2_time_cost = 1
argon2_parallelism = 1
"""


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    for folder in home.folders():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    home.marker.write_text('{"format": 1}')
    home.config_file.write_text(CONFIG)
    create_keystore(home, create_root_key(home.root_key_file))
    return home


@pytest.fixture
def run(home):
    def call(*words: str, stdin: bytes = b"", passphrase: bytes | None = None):
        before: tuple[str, ...] = ()
        if passphrase is not None:
            reading, writing = os.pipe()
            os.write(writing, passphrase)
            os.close(writing)
            before = ("--passphrase-fd", str(reading))
        done = CliRunner().invoke(app, [*before, *words, "--home", str(home.root)], input=stdin)
        if passphrase is not None:
            os.close(reading)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout_bytes, done.stderr_bytes)

    return call


def listed(run):
    return json.loads(run("keys", "list", "--json").stdout)


def refused(done, status, *words):
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (status, b""), text
    assert text.startswith("appliance: error: ") and "\nhint: " in text
    assert all(word in text for word in words), text


def test_slots_are_added_changed_checked_and_removed(run, home, tmp_path):
    assert run("keys", "add-passphrase", stdin=FIRST).returncode == 0
    assert run("keys", "add-file", str(tmp_path / "usb.key")).returncode == 0
    assert [(slot["slot"], slot["kind"], slot["memory_kib"]) for slot in listed(run)["slots"]] == [
        (0, "file", None), (1, "passphrase", 8192), (2, "file", None),
    ]  # fmt: skip
    assert run("keys", "check").stdout == b"opens slot 0\n"
    assert run("keys", "check", "--file", str(tmp_path / "usb.key")).stdout == b"opens slot 2\n"
    assert json.loads(run("keys", "check", "--passphrase", "--json", passphrase=FIRST).stdout) == {"slot": 1}
    assert run("keys", "change-passphrase", stdin=SECOND, passphrase=FIRST).returncode == 0
    refused(run("keys", "check", "--passphrase", passphrase=FIRST), 20, "wrong key (slot 1)")
    assert run("keys", "check", "--passphrase", passphrase=SECOND).stdout == b"opens slot 1\n"
    assert run("keys", "remove-slot", "2").returncode == 0
    refused(run("keys", "check", "--file", str(tmp_path / "usb.key")), 20, "wrong key (slot 0)")
    refused(run("keys", "remove-slot", "0"), 6, "slot 0 is the one that unlocked")
    refused(run("keys", "remove-slot", "9"), 6, "no slot 9")
    refused(run("keys", "add-passphrase", stdin=b"too short\n"), 4, "at least 12")
    for path in home.root.rglob("*"):
        if path.is_file():
            assert not [word for word in (FIRST, SECOND) if word.strip() in path.read_bytes()], path


def test_every_level_is_rotated(run):
    before = listed(run)
    for words in (["--level", "kek"], ["--level", "signing"], ["--level", "root", "--reason", "compromised"]):
        done = run("keys", "rotate", *words)
        assert done.returncode == 0, done.stderr
    assert run("keys", "distrust").returncode == 0
    after = listed(run)
    assert after["wrapping_generations"] == [2] and before["wrapping_generations"] == [1]
    assert len(after["signing_keys"]) == 3 and after["signing_keys"][-1]["retired"]
    assert after["signing_keys"][0]["verifier_key"] in run("keys", "list").stdout.decode()
    assert run("keys", "rotate", "--level", "everything").returncode == 2


def test_a_data_folder_that_takes_a_passphrase_asks_at_each_start(run, home):
    assert run("keys", "add-passphrase", stdin=FIRST).returncode == 0
    home.config_file.write_text(CONFIG + 'source = "passphrase"\n')
    assert run("keys", "remove-slot", "0", passphrase=FIRST).returncode == 0
    home.root_key_file.unlink()
    done = run("audit", "checkpoint", passphrase=FIRST)
    assert done.returncode == 0 and done.stdout.startswith(b"cloister.local/audit/")
    refused(run("audit", "checkpoint", passphrase=WRONG), 20, "wrong key (slot 1)")
    refused(run("audit", "checkpoint", passphrase=b"\xff\xfe\n"), 4, "UTF-8")
    # Without a terminal and without a descriptor there is nobody to ask; standard input may be somebody's note.
    piped = run_appliance("audit", "checkpoint", home=home.root, stdin=FIRST, start_new_session=True)
    assert piped.returncode == 20 and b"--passphrase-fd" in piped.stderr and not piped.stdout


def test_five_wrong_passphrases_lock_and_the_failures_are_in_the_log_after_unlocking(run, home):
    home.config_file.write_text(CONFIG + "passphrase_lock_s = 3600\n")
    assert run("keys", "add-passphrase", stdin=FIRST).returncode == 0
    for _ in range(5):
        refused(run("keys", "check", "--passphrase", passphrase=WRONG), 20, "wrong key (slot 1)")
    refused(run("keys", "check", "--passphrase", passphrase=FIRST), 20, "too many wrong passphrases")
    words = ["audit", "list", "--event", "key.passphrase_refused", "--json"]
    found = json.loads(run(*words).stdout)["data"]
    assert [row["attributes"] for row in found] == [{"failures": 5}]
    assert len(json.loads(run(*words).stdout)["data"]) == 1
