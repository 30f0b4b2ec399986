"""Every command leaves a record of a named event, or is one of the few that never see this log; a new command fails
here until it says which record it leaves.

The walk runs in this process, on one data folder, through the same entry point as the installed command. The log is
held open by the test all the while, as a server would hold it, so that no command has to start a sequencer of its own.
"""

import asyncio
import os
import shutil
import threading
from dataclasses import dataclass

import pytest
import typer
from typer.testing import CliRunner

from appliance.audit.log import AuditLog
from appliance.audit.recovery_kit import add_recovery_slot, kit_text
from appliance.audit.root_key import read_root_key
from appliance.cli.main import app
from appliance.config import Home, load_config
from appliance.crypto import ecdsa
from appliance.crypto.keys import random_key
from tests.conftest import ROOT, link_or_copy
from tests.model_headers import write_model
from tests.specialist_files import REAL_BASE, write_classifier

PASSWORD = "river-lantern-copper-7\n"
OPENED_S = 150.0  # a bound on waiting for the log to open or to close
FIRST, SECOND = "correct horse battery\n", "river lantern copper\n"
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
[keys]
argon2_memory_kib = 8192
argon2_time_cost = 1
argon2_parallelism = 1
[models]
hub_url = "http://127.0.0.1:9"
connect_s = 2
disk_free_bytes_min = 0
"""

# A witness belongs to another machine and keeps a journal of its own; signing happens where the signer's key is.
# Bundles are made on a connected machine and verified where nothing is installed. None of these opens a data folder.
SILENT = {"witness init", "witness add-log", "witness serve", "witness show", "specialists sign"}
# What a certificate says is told to everybody who connects.
SILENT |= {"tls show"}
SILENT |= {f"bundle {verb}" for verb in ("key", "root", "sign-root", "create", "verify", "show")}


@dataclass(frozen=True)
class Step:
    """One command, its further words, and the event that it must leave. `{}` in the words are filled in."""

    command: str
    event: str
    words: tuple[str, ...] = ()
    stdin: str = ""
    passphrase: str = ""
    status: int = 0
    or_status: int | None = None  # where an extra is installed, or is not


RECIPE = str(ROOT / "appliance" / "training" / "recipes" / "bank-intent.toml")
TRAIN = (RECIPE, "--data", "{folder}/none", "--base", "{folder}/none", "--out", "{folder}/none")
WALK = [
    Step("users add", "account.created", ("ben", "--role", "user"), PASSWORD),
    Step("users list", "account.list"),
    Step("users set-password", "account.password_set", ("ben",), PASSWORD),
    Step("users disable", "account.disabled", ("ben",)),
    Step("users enable", "account.enabled", ("ben",)),
    Step("users setup-link", "setup.link_created"),
    Step("api-keys create", "api_key.created", ("lab", "--owner", "ben", "--scope", "specialist.run")),
    Step("api-keys list", "api_key.list"),
    Step("api-keys revoke", "api_key.revoked", ("1",)),
    Step("specialists list", "specialist.list"),
    Step("specialists show", "specialist.show", ("phi-deid",)),
    Step("users add", "account.created", ("boss", "--role", "admin"), PASSWORD),
    Step("specialists install", "specialist.install", ("{folder}/triage.gguf", "--reason", "walk-1")),
    Step("specialists versions", "specialist.versions"),
    Step("specialists approve", "specialist.approve", ("walk-triage", "0.1.0", "--user", "boss"), PASSWORD),
    Step("specialists promote", "specialist.promote", ("walk-triage", "0.1.0", "--user", "boss"), PASSWORD),
    Step("evaluate", "specialist.evaluate", ("walk-triage", "{folder}/labelled.jsonl")),
    Step("find", "specialist.find", ("walk-triage", "{folder}/in.jsonl"), status=4),  # one label a text: refused
    Step("specialists teach", "teaching.table", ("walk-taught", "{folder}/one.csv", "--yes"), status=4),  # no labels
    Step("specialists train", "teaching.train", TRAIN, status=22, or_status=7),  # no PyTorch, or no collection
    Step("specialists verify", "specialist.verify", ("walk-triage",)),
    Step("specialists export", "specialist.export", ("walk-triage", "--out", "{folder}/triage.zip")),
    Step("specialists rollback", "specialist.rollback", ("walk-triage",)),
    Step("specialists remove", "specialist.remove", ("walk-triage", "0.1.0")),
    Step("specialists trust", "signer.trust", ("{folder}/vendor.pem", "--name", "Vendor Ltd")),
    Step("specialists keys", "signer.list"),
    Step("specialists distrust", "signer.distrust", ("Vendor Ltd",)),
    Step("models import", "model.added", ("{folder}/Tiny-Q8_0.gguf",)),
    Step("models pull", "model.added", ("me/tiny-GGUF",), status=8),  # there is no network: the try is recorded
    Step("guard set", "guard.policy_set", ("mask", "--workspace", "ward-3")),
    Step("guard assign", "guard.member_set", ("ben", "ward-3")),
    Step("guard show", "guard.shown"),
    Step("models list", "model.list"),
    Step("models catalogue", "model.list"),
    Step("models show", "model.show", ("tiny-q8_0",)),
    Step("models verify", "model.verified", ("tiny-q8_0",)),
    Step("models export", "model.exported", ("tiny-q8_0", "{folder}/usb")),
    Step("models remove", "model.removed", ("tiny-q8_0",)),
    Step("deidentify", "specialist.deidentify", ("-", "--subject", "MRN-1"), "Call ana@example.org"),
    Step("run", "specialist.run", ("phi-deid", "--jsonl", "{folder}/in.jsonl", "--out", "{folder}/out.jsonl")),
    Step("route", "specialist.route", ("My card was declined at the supermarket",)),
    Step("doctor", "doctor.examined", ("--quick",)),
    Step("doctor", "egress.tested", ("--egress",), status=0, or_status=1),  # open where nothing is locked
    Step("audit list", "audit.list"),
    Step("audit show", "audit.show", ("{record}",)),
    Step("audit show", "audit.receipt", ("{record}", "--receipt")),
    Step("audit checkpoint", "audit.checkpoint"),
    Step("audit search", "audit.search", ("--event", "account.list")),
    Step("audit activity", "audit.activity"),
    Step("audit verify", "audit.verify"),
    Step("audit check-receipt", "audit.receipt_checked", ("{folder}/mine.tlog-proof",)),
    Step("audit export", "audit.export", ("{folder}/log.jsonl", "--format", "jsonl")),
    Step("audit exposure", "audit.exposure"),
    Step("audit epochs", "audit.epochs"),
    Step("audit hold place", "hold.place", ("--subject", "MRN-2", "--reason", "walk")),
    Step("audit hold list", "hold.list"),
    Step("audit hold release", "hold.release_requested", ("{hold}",)),
    Step("audit retention show", "retention.list"),
    Step("audit retention set", "retention.change", ("exchange", "96")),
    Step("audit retention run", "retention.run"),
    Step("audit shred", "erasure.shred", ("MRN-1", "--reason", "walk", "--yes", "--certificate", "{folder}/c.json")),
    Step("audit erasures", "erasure.list"),
    Step("backup create", "backup.created", ("--to", "{folder}/share")),
    Step("backup list", "backup.list", ("--to", "{folder}/share")),
    Step("backup verify", "backup.verified", ("{backup}", "--kit-file", "{folder}/kit.txt")),
    Step("backup drill", "backup.drilled", ("{backup}",)),
    Step("backup prune", "backup.pruned", ("--to", "{folder}/share", "--destroyed")),
    Step("recovery-kit create", "key.slot_added", ("--replace",), "not the kit\n", status=4),
    Step("recovery-kit check", "key.checked", ("--kit-file", "{folder}/kit.txt")),
    Step("support-bundle", "support.written", ("{folder}/support.zip",)),
    Step("tls create", "certificate.set", ("localhost", "127.0.0.1")),
    Step("tls use", "certificate.set", ("{folder}/vendor.pem", "{folder}/vendor.pem"), status=4),  # no certificate
    Step("keys list", "key.list"),
    Step("keys check", "key.checked"),
    Step("keys add-passphrase", "key.slot_added", (), FIRST),
    Step("keys change-passphrase", "key.slot_changed", (), SECOND, FIRST),
    Step("keys add-file", "key.slot_added", ("{folder}/usb.key",)),
    Step("keys remove-slot", "key.slot_removed", ("3",)),
    Step("recovery-kit use", "key.slot_added", ("--file", "{folder}/new.key", "--kit-file", "{folder}/kit.txt")),
    Step("keys rotate", "key.rotated", ("--level", "kek")),
    Step("keys distrust", "key.distrust"),
]
# These need the folder to themselves, or make it.
ALONE = [
    Step("upgrade", "appliance.upgraded"),
    Step("audit recover", "audit.loss_declared", ("--declare-loss", "--yes")),
]
# `restore` has its own walk: tests/cli/test_cli_backup.py
MADE_ELSEWHERE = {"init": "appliance.initialised", "serve": "appliance.started", "restore": "backup.restored"}


def test_every_command_is_walked_or_silent_on_purpose():
    walked = {step.command for step in (*WALK, *ALONE)} | set(MADE_ELSEWHERE)
    commands = set(paths(typer.main.get_command(app)))
    assert commands - walked - SILENT == set(), "add a step to WALK, which says what record the command leaves"
    assert (walked | SILENT) - commands == set()
    assert walked.isdisjoint(SILENT)


def paths(group, before: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from paths(command, (*before, name))
        else:
            yield " ".join((*before, name))


class Held:
    """The log of a data folder, opened in a thread of its own until `close`."""

    def __init__(self, home):
        self._home, self._opened, self._done = home, threading.Event(), None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._hold()))
        self._thread.start()
        assert self._opened.wait(OPENED_S)

    async def _hold(self):
        config = load_config(self._home)
        self.log = await AuditLog.open(config, read_root_key(config.home.root_key_file))
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        self._opened.set()
        await self._done.wait()
        await self.log.close()

    def newest(self, limit: int = 12):
        return self.log.records(limit=limit)

    def close(self):
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(OPENED_S)
        assert not self._thread.is_alive()


@pytest.fixture
def folder(home_template, tmp_path):
    shutil.copytree(home_template, tmp_path / "home", copy_function=link_or_copy)
    (tmp_path / "home" / "config.toml").write_text(CONFIG)
    write_model(tmp_path / "Tiny-Q8_0.gguf")
    write_classifier(tmp_path / "triage.gguf", specialist_id="walk-triage", version="0.1.0", base=REAL_BASE)
    (tmp_path / "vendor.pem").write_text(ecdsa.public_of(ecdsa.generate()))
    (tmp_path / "labelled.jsonl").write_text('{"text": "letter", "label": "urgent"}\n' * 2)
    (tmp_path / "one.csv").write_text("one column\nx\n")
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "Ana Lima"}\n')
    (tmp_path / "share").mkdir()
    kit, place = random_key(), Home(tmp_path / "home")
    add_recovery_slot(place, read_root_key(place.root_key_file), kit)
    (tmp_path / "kit.txt").write_text(kit_text(kit))
    return tmp_path


def called(home, step: Step, known: dict[str, str]):
    before = []
    if step.passphrase:
        reading, writing = os.pipe()
        os.write(writing, step.passphrase.encode())
        os.close(writing)
        before = ["--passphrase-fd", str(reading)]
    words = [word.format(**known) for word in step.words]
    done = CliRunner().invoke(app, [*before, *step.command.split(), *words, "--home", str(home)], input=step.stdin)
    if step.passphrase:
        os.close(reading)
    return done


@pytest.mark.timeout(600)  # some forty requests or commands
def test_every_step_of_the_walk_is_in_the_log_afterwards(folder):
    home, known, unrecorded = folder / "home", {"folder": str(folder)}, []
    held = Held(home)
    try:
        for step in WALK:
            before = held.newest(1)[0].seq
            done = called(home, step, known)
            assert done.exit_code in (step.status, step.or_status), (step, done.stderr)
            found = [view for view in held.newest() if view.seq > before and view.event == step.event]
            if not found:
                unrecorded.append((step.command, step.event))
            elif step.event == "account.created":
                known["record"] = found[0].record_id
                proof = held.log.proof_text(bytes.fromhex(known["record"]))
                (folder / "mine.tlog-proof").write_text(proof)
            elif step.event == "backup.created":
                known["backup"] = str(next((folder / "share").glob("*.cloister-backup")))
            elif step.event == "hold.place":
                known["hold"] = str(found[0].attributes["hold"])
    finally:
        held.close()
    for step in ALONE:
        done = called(home, step, known)
        assert done.exit_code == 0, (step, done.stderr)
        unrecorded += [] if step.event in events_of(home) else [(step.command, step.event)]
    assert unrecorded == []


def events_of(home) -> set[str]:
    held = Held(home)
    try:
        return {view.event for view in held.newest(20)}
    finally:
        held.close()


def test_making_a_data_folder_is_its_first_sealed_record(base_model, tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shutil.copytree(base_model, home / "models", copy_function=link_or_copy)
    assert called(home, Step("init", "appliance.initialised"), {}).exit_code == 0
    assert MADE_ELSEWHERE["init"] in events_of(home)


def test_a_server_that_serves_has_said_so(auditor):
    found = auditor.get("/v1/audit/records", params={"event": MADE_ELSEWHERE["serve"]}).json()["data"]
    assert found and found[0]["attributes"]["configuration_sha256"]
