"""The commands beside the text: each says what it did, prints JSON for machines, refuses with its own exit status,
and everything that changes something is in the log afterwards.

One data folder for the module. The commands run in this process, through the same entry point as the installed one,
because starting an interpreter each time would take most of the time; the log's and the engine's processes are real.
"""

import json
import os
import shutil
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from appliance.audit.log import RecordView
from appliance.audit.quarantine import enter_quarantine
from appliance.cli.audit import shown_actor
from appliance.cli.main import app
from tests.conftest import link_or_copy, run_appliance

PASSWORD = b"river-lantern-copper-7\n"
CONFIG = """
[audit]
append_s = 60
start_s = 120
[engine]
backend = "echo"
threads = 1
[accounts]
argon2_time_cost = 1
argon2_memory_kib = 8192
"""


@pytest.fixture(scope="module")
def run(home_template, tmp_path_factory):
    """Call the command on the module's data folder, which has one user, `ana`."""
    home = tmp_path_factory.mktemp("cli") / "home"
    shutil.copytree(home_template, home, copy_function=link_or_copy)
    (home / "config.toml").write_text(CONFIG)

    def call(*words: str, stdin: bytes = b"", home: Path = home):
        done = CliRunner().invoke(app, [*words, "--home", str(home)], input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout_bytes, done.stderr_bytes)

    call.home = home
    added = call("users", "add", "ana", "--role", "user", stdin=PASSWORD)
    assert (added.returncode, added.stderr) == (0, b"added ana (user)\n")
    return call


def refused(done, status: int, *words: str) -> None:
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (status, b""), text
    assert text.startswith("appliance: error: ") and "\nhint: " in text and "Traceback" not in text
    for word in words:
        assert word in text


def test_users_are_added_listed_disabled_and_enabled(run):
    made = json.loads(run("users", "add", "ben", "--role", "auditor", "--json", stdin=PASSWORD).stdout)
    assert (made["name"], made["roles"], made["disabled"]) == ("ben", ["auditor"], None)
    assert b"disabled ben" in run("users", "disable", "ben").stderr
    listed = {row["name"]: row for row in json.loads(run("users", "list", "--json").stdout)}
    assert listed["ben"]["disabled"] and not listed["ana"]["disabled"]
    assert run("users", "enable", "ben").returncode == 0
    table = run("users", "list").stdout.decode()
    assert "ben" in table and "active" in table and "disabled" not in table


def test_user_that_cannot_be_is_refused_and_so_is_the_password(run):
    refused(run("users", "add", "ana", "--role", "user", stdin=PASSWORD), 6, "ana")
    refused(run("users", "add", "eve", "--role", "user", stdin=b"short\n"), 4, "password")
    refused(run("users", "add", "eve", "--role", "king", stdin=PASSWORD), 4, "king")
    refused(run("users", "add", "eve", "--role", "auditor", "--role", "admin", stdin=PASSWORD), 4, "auditor")
    refused(run("users", "disable", "nobody"), 6, "nobody")
    assert run("users", "add", "eve").returncode == 2


def test_setup_link_is_made_while_there_is_no_administrator(run):
    done = run("users", "setup-link")
    assert done.returncode == 0 and done.stdout.startswith(b"/setup#")
    token = done.stdout.decode().strip().partition("#")[2]
    for path in run.home.rglob("*"):
        if path.is_file() and path.suffix not in (".gguf", ".txt"):
            assert token.encode() not in path.read_bytes(), path


def test_api_keys_are_shown_once_listed_and_revoked(run):
    words = ["api-keys", "create", "lab system", "--owner", "ana", "--scope", "specialist.run", "--days", "30"]
    made = json.loads(run(*words, "--json").stdout)
    assert made["secret"] and made["owner"] == "ana" and made["scopes"] == ["specialist.run"]
    listed = run("api-keys", "list", "--json").stdout.decode()
    assert made["secret"] not in listed and json.loads(listed)[0]["id"] == made["id"]
    plain = run(*words)
    assert len(plain.stdout.decode().split()) == 1 and b"shown once" in plain.stderr
    assert run("api-keys", "revoke", str(made["id"])).returncode == 0
    assert "revoked" in run("api-keys", "list").stdout.decode()
    refused(run("api-keys", "revoke", "999"), 6, "999")
    refused(run("api-keys", "create", "x", "--owner", "ana", "--scope", "everything"), 4, "everything")
    refused(run("api-keys", "create", "x", "--owner", "nobody", "--scope", "specialist.run"), 6, "nobody")


def test_what_was_changed_is_in_the_log_with_who_did_it(run):
    listed = json.loads(run("audit", "list", "--event", "account.created", "--json").stdout)["data"]
    ana = listed[-1]
    assert (ana["actor"], ana["outcome"]) == (f"local:uid-{os.getuid()}", "completed")
    assert ana["attributes"]["account"] == "ana"
    assert all(PASSWORD.decode().strip() not in json.dumps(row) for row in listed)


@pytest.mark.parametrize(
    ("name", "gone", "shown"),
    [("ana", False, "user:3 (ana)"), (None, True, "user:3 (no longer here)"), (None, False, "user:3")],
)
def test_tables_show_the_id_that_can_be_searched_for_and_who_it_is(name, gone, shown):
    when = datetime(2026, 3, 1, tzinfo=UTC)
    fields = (5, "00" * 16, when, "sealed", "specialist.run", "completed", "user:3", "", {}, False, 300)
    assert shown_actor(RecordView(*fields, actor_name=name, actor_gone=gone)) == shown


def test_records_are_listed_shown_and_proven(run):
    newest = json.loads(run("audit", "list", "--limit", "2", "--json").stdout)
    assert len(newest["data"]) == 2 and newest["next"] == newest["data"][-1]["seq"]
    older = json.loads(run("audit", "list", "--limit", "2", "--after", str(newest["next"]), "--json").stdout)
    assert older["data"][0]["seq"] == newest["next"] - 1
    record = newest["data"][0]["record_id"]
    assert record in run("audit", "list").stdout.decode()
    shown = json.loads(run("audit", "show", record, "--json").stdout)
    assert shown["record_id"] == record and shown["content"] is None
    proof = run("audit", "show", record, "--receipt").stdout.decode()
    assert proof.startswith("c2sp.org/tlog-proof@v1\n")
    refused(run("audit", "show", "00" * 16), 6, "record")
    refused(run("audit", "show", "not-an-id"), 6, "32 hexadecimal digits")


def test_numbers_and_times_that_no_record_can_have_are_refused(run):
    assert run("audit", "list", "--after", str(2**63)).returncode == 2
    assert json.loads(run("audit", "list", "--after", str(2**63 - 1), "--limit", "1", "--json").stdout)["data"]
    refused(run("audit", "activity", "--to", "0001-01-01"), 4, "--from")
    refused(run("audit", "activity", "--from", "0001-01-01T00:00+14:00"), 4, "before the year 1")


def test_a_certificate_of_destruction_is_never_lost_to_a_folder_or_a_name(run, tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    shutil.copytree(run.home, home, copy_function=link_or_copy)
    here.mkdir()
    shred = ("audit", "shred", "MRN-9", "--reason", "request-1", "--yes")
    assert run("deidentify", "-", "--subject", "MRN-9", stdin=b"a note", home=home).returncode == 0
    refused(run(*shred, "--certificate", str(here / "none" / "c.json"), home=home), 4, "nothing was destroyed")
    monkeypatch.chdir(here)
    anothers = [Path(f"shred-{seq}.json") for seq in range(200)]
    for path in anothers:
        path.write_text("of another log")
    done = run(*shred, "--json", home=home)
    assert done.returncode == 0
    assert {path.read_text() for path in anothers} == {"of another log"}
    (written,) = set(here.iterdir()) - {path.absolute() for path in anothers}
    assert json.loads(written.read_text()) == json.loads(done.stdout)


def test_log_is_verified_exported_and_its_checkpoint_printed(run, tmp_path):
    verdict = json.loads(run("audit", "verify", "--json").stdout)
    assert (verdict["verdict"], verdict["exit_code"]) == ("ok", 0)
    assert b"ok" in run("audit", "verify").stderr
    view = json.loads(run("audit", "checkpoint", "--json").stdout)
    assert view["checkpoint"].startswith(view["origin"] + "\n") and view["verifier_key"].startswith(view["origin"])
    assert run("audit", "export", str(tmp_path / "log.zip")).returncode == 0
    refused(run("audit", "export", str(tmp_path / "log.zip")), 4, "exists already")
    refused(run("audit", "export", str(tmp_path / "no" / "log.zip")), 4, "log.zip")
    assert run("audit", "export", str(tmp_path / "all"), "--all-epochs").returncode == 0
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["e1"]
    for words in (["--epoch", "1"], ["--format", "tiles"]):
        refused(run("audit", "export", str(tmp_path / "x"), "--all-epochs", *words), 4, "one bundle")


def changed_behind_its_back(run, folder: Path, statement: str) -> tuple[Path, int]:
    """A copy of the data folder with one statement run on its log, and the newest sealed record's number."""
    home = folder / "home"
    shutil.copytree(run.home, home, copy_function=link_or_copy)
    connection = sqlite3.connect(home / "audit" / "log.db")
    with connection:
        (seq,) = connection.execute("SELECT max(seq) FROM record WHERE env_ct IS NOT NULL").fetchone()
        assert connection.execute(statement, {"seq": seq}).rowcount > 0
    connection.close()
    return home, seq


@pytest.mark.parametrize(
    "statement",
    ["UPDATE record SET env_ct = zeroblob(length(env_ct)) WHERE seq = :seq", "DELETE FROM record WHERE seq = :seq"],
    ids=["altered", "deleted"],
)
def test_log_that_does_not_open_any_more_still_gets_its_verdict_and_exit_status(run, tmp_path, statement):
    home, seq = changed_behind_its_back(run, tmp_path, statement)
    done = run("audit", "verify", "--json", home=home)
    told = json.loads(done.stdout)
    assert (done.returncode, told["verdict"], told["first_bad_seq"]) == (10, "altered", seq), told
    refused(run("audit", "list", home=home), 9, "record", "run `appliance audit verify`")


def test_log_beside_a_lost_signer_memory_is_not_called_intact(run, tmp_path):
    home, _ = changed_behind_its_back(run, tmp_path, "UPDATE log_head SET id = id")
    (home / "audit" / "signer.json").unlink()
    assert run("audit", "verify", "--json", home=home).returncode not in (0, 2)


def test_a_loss_that_no_checkpoint_measures_is_not_declared_as_none(run, tmp_path):
    put_back = tmp_path / "home"
    shutil.copytree(run.home, put_back, copy_function=link_or_copy)
    note = tmp_path / "kept"
    note.write_bytes(run("audit", "checkpoint").stdout)
    enter_quarantine(put_back / "audit", "a witness remembers more", "", cut=True)
    looked = run("audit", "recover", home=put_back)
    assert looked.returncode == 0 and b"is needed to declare it" in looked.stderr
    done = run("audit", "recover", "--declare-loss", "--yes", home=put_back)
    assert done.returncode == 4 and b"no checkpoint says how many; nothing was changed" in done.stderr
    assert not (put_back / "audit" / "e1").exists()
    done = run("audit", "recover", "--declare-loss", "--yes", "--checkpoint", str(note), home=put_back)
    assert done.returncode == 0 and b"are declared lost" in done.stderr


def test_specialists_are_listed_and_shown(run):
    cards = json.loads(run("specialists", "list", "--json").stdout)
    assert "phi-deid" in [card["id"] for card in cards]
    card = json.loads(run("specialists", "show", "phi-deid", "--json").stdout)
    assert card["task"] == "tag" and len(card["sha256"]) == 64
    assert "phi-deid" in run("specialists", "list").stdout.decode()
    assert card["sha256"] in run("specialists", "show", "phi-deid").stdout.decode()
    refused(run("specialists", "show", "nobody"), 6, "nobody", "specialists list")


def test_doctor_reports_every_check_and_ends_with_1_when_one_fails(run):
    done = run("doctor", "--json")
    checks = {check["name"]: check["state"] for check in json.loads(done.stdout)}
    assert done.returncode == 0 and "fail" not in checks.values(), done.stdout
    assert {"release", "data folder", "permissions", "root key", "audit log", "engine", "specialists"} <= set(checks)
    run.home.chmod(0o755)
    try:
        done = run("doctor", "--quick")
    finally:
        run.home.chmod(0o700)
    assert done.returncode == 1
    assert b"FAIL  permissions" in done.stdout and b"hint: chmod" in done.stdout


def test_upgrade_of_a_current_folder_changes_nothing(run):
    before = json.loads(run("audit", "checkpoint", "--json").stdout)["origin"]
    assert run("upgrade").returncode == 0
    assert json.loads(run("audit", "checkpoint", "--json").stdout)["origin"] == before
    assert json.loads(run("users", "list", "--json").stdout)


def test_data_folder_comes_from_the_environment_and_the_option_wins(run, tmp_path):
    named = {**os.environ, "APPLIANCE_HOME": str(run.home)}
    assert b"ana" in run_appliance("users", "list", env=named).stdout
    done = run_appliance("users", "list", home=tmp_path / "absent", env=named)
    refused(done, 21, str(tmp_path / "absent"))


def test_init_makes_a_folder_for_its_owner_only_and_says_where_the_key_is(run, base_model, tmp_path):
    home: Path = tmp_path / "home"
    home.mkdir()
    shutil.copytree(base_model, home / "models")
    done = run("init", home=home)
    assert done.returncode == 0 and done.stdout == b""
    assert str(home / "keys" / "root.key").encode() in done.stderr
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "keys" / "root.key").stat().st_mode & 0o777 == 0o400
    assert json.loads(run("audit", "verify", "--json", home=home).stdout)["exit_code"] == 0
