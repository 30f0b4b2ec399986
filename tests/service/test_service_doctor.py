"""Each check of the doctor finds what it is for, says what to do about it, and stops no other one.

Every case makes one thing of a well data folder wrong. The engine's checks are at the end: they start it.
"""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.accounts.actions import local_operator
from appliance.audit.log import AuditLog
from appliance.audit.quarantine import enter_quarantine
from appliance.audit.root_key import read_root_key
from appliance.config import load_config
from appliance.crypto.certificates import make_authority, make_server
from appliance.service.doctor import check_disk, check_memory, examine
from appliance.service.events import new_event
from appliance.types import Outcome
from tests.e2e.sites import configure

ME = local_operator(0)
WELL = {
    "release": "ok",
    "sqlite": "ok",
    "memory": "ok",
    "disk": "ok",
    "data folder": "ok",
    "permissions": "ok",
    "models": "ok",
    "root key": "ok",
    "audit log": "ok",
    "backup": "warn",  # of a data folder that was made a moment ago
    "egress": "warn",
    "exposure": "warn",
    "certificate": "ok",
    "recovery kit": "warn",
}


def examined(home, **options):
    return {check.name: check for check in asyncio.run(examine(load_config(home.root), ME, **options))}


def record(home, event, outcome, **about):
    async def append():
        log = await AuditLog.open(load_config(home.root), read_root_key(home.root_key_file))
        try:
            await log.append(new_event(event, "system", outcome, about))
        finally:
            await log.close()

    asyncio.run(append())


def marker_of_a_later_release(home):
    home.marker.write_text('{"format": 99}')


def folder_for_everybody(home):
    home.models.chmod(0o755)


def key_for_everybody(home):
    home.root_key_file.chmod(0o644)


def another_key(home):
    home.root_key_file.chmod(0o600)
    home.root_key_file.write_bytes(os.urandom(home.root_key_file.stat().st_size))
    home.root_key_file.chmod(0o400)


def damaged_manifest(home):
    (home.models / "library").mkdir(mode=0o700)
    (home.models / "library" / "ward-assistant.json").write_text("{}")


def no_key(home):
    home.root_key_file.unlink()


def damaged_log(home):
    with home.audit_database.open("r+b") as file:
        file.write(b"not a database  ")


def quarantined(home):
    enter_quarantine(home.audit_database.parent, "a witness remembers 512 records, here are 400", "")


def failed_backup(home):
    record(home, "backup.created", Outcome.FAILED, error="home_full")


def failed_drill(home):
    record(home, "backup.created", Outcome.COMPLETED)
    record(home, "backup.drilled", Outcome.FAILED, error="backup_invalid")


def open_network(home):
    record(home, "egress.tested", Outcome.FAILED, verdict="open")


def certificate(home, days):
    now = datetime.now(UTC) - timedelta(days=40)
    authority = make_authority("Ward 3", ["ward3.example"], now=now, days=3650)
    made = make_server(authority, ["ward3.example"], now=now, days=days)
    home.tls.mkdir(mode=0o700)
    (home.tls / "server.pem").write_text(made.certificate)
    (home.tls / "server.key").write_text(made.key)


def no_certificate_at_all(home):
    certificate(home, 400)
    (home.tls / "server.pem").write_text("nothing of the kind")


CASES = {
    "a later release's folder": (marker_of_a_later_release, "data folder", "fail", "later release", "install"),
    "a folder others read": (folder_for_everybody, "permissions", "fail", "readable by others", "chmod -R go="),
    "a model's damaged manifest": (damaged_manifest, "models", "warn", "ward-assistant.json", "remove that file"),
    "a key others read": (key_for_everybody, "root key", "fail", "root.key", "chmod"),
    "a key of another folder": (another_key, "root key", "fail", "key", ""),
    "no key": (no_key, "root key", "fail", "root.key", "recover"),
    "a damaged log": (damaged_log, "audit log", "fail", "log.db", "backup"),
    "a quarantined log": (quarantined, "exposure", "fail", "quarantined", "compare them with the backup"),
    "a backup that failed": (failed_backup, "backup", "fail", "failed (home_full)", "appliance backup create"),
    "a drill that failed": (failed_drill, "backup", "fail", "failed (backup_invalid)", "appliance backup drill"),
    "an open network": (open_network, "egress", "warn", "open, tried 0 h ago", "appliance doctor --egress"),
    "a certificate that ends soon": (
        lambda home: certificate(home, 60),
        "certificate",
        "warn",
        "until",
        "appliance tls",
    ),
    "a certificate that ended": (lambda home: certificate(home, 30), "certificate", "fail", "until", "appliance tls"),
    "no certificate in its file": (no_certificate_at_all, "certificate", "fail", "no certificate", "PEM"),
}


def test_a_new_data_folder_is_well_and_told_what_it_has_not_yet(home):
    found = examined(home, start_engine=False)
    assert {name: check.state for name, check in found.items()} == WELL
    assert all(check.remedy for check in found.values() if check.state != "ok")


@pytest.mark.parametrize("kind", CASES)
def test_what_is_wrong_is_found_with_a_remedy_and_the_other_checks_go_on(home, kind):
    spoil, name, state, words, remedy = CASES[kind]
    spoil(home)
    check = examined(home, start_engine=False)[name]
    assert check.state == state, check
    assert words in check.found and check.remedy and remedy in check.remedy, check


def test_little_memory_and_a_disk_that_fills_are_told_before_answers_stop():
    assert [check_memory(size << 20).state for size in (512, 1024)] == ["warn", "ok"]
    sizes = [check_disk(Path("/srv"), free << 20, 64 << 20).state for free in (63, 64, 2048)]
    assert sizes == ["fail", "warn", "ok"]


def test_a_worker_that_does_not_start_and_a_specialist_that_is_silent_are_named(home):
    configure(home.root)
    found = examined(home)
    assert found["engine"].state == "ok" and found["specialists"].found == "10 of 10 answered"
    specialist = next(home.specialists.glob("*.gguf"))
    content = bytearray(specialist.read_bytes())
    content[-1] ^= 1
    specialist.unlink()  # it is a link to what other tests use
    specialist.write_bytes(content)
    found = examined(home)
    assert {found[name].state for name in ("engine", "specialists") if name in found} == {"fail"}
    assert all(found[name].remedy for name in ("engine", "specialists") if name in found)
