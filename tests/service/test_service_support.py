"""The file for support tells what happened and nothing of anybody: canaries in every field that a person fills, and the
keys themselves, are not in it; whatever the words are, wherever they stand.
"""

import asyncio
import base64
import json
import random
import resource
import zipfile

import pytest

from appliance.accounts.actions import local_operator
from appliance.audit.log import AuditLog
from appliance.audit.quarantine import enter_quarantine
from appliance.audit.root_key import read_root_key
from appliance.config import load_config
from appliance.errors import HomeExists, HomeNotInitialised, InvalidRequest
from appliance.service import support
from appliance.service.events import new_event
from appliance.service.support import support_bundle, write_support_bundle
from appliance.types import Outcome

CANARIES = ["OkaforCanary", "MRN-99887", "203.0.113.77", "St. Canary Hospital", "siem.canary.example", "letter-canary"]


ATTRIBUTES = ("address", "by", "error", "file", "kind", "level", "name", "reason", "specialist", "state", "verdict")
TEXT_SETTINGS = """
[server]
site_name = "{0}"
public_hosts = ["{1}.example"]
[siem]
host = "{2}.example"
[upstream.models."{3}"]
url = "https://{4}.example/v1"
model = "{5}"
[backup]
folder = "/srv/{6}"
"""


@pytest.mark.parametrize("seed", [3, 1021, 77])
def test_whatever_words_stand_in_records_settings_and_names_of_files_none_is_in_it(home, tmp_path, seed):
    words = random.Random(seed)
    planted = ["".join(words.choices("abcdefghijklmnopqrstuvwxyz", k=words.choice([5, 9]))) for _ in range(100)]
    take = iter(planted)
    home.config_file.write_text(TEXT_SETTINGS.format(*(next(take) for _ in range(7))))
    for folder in (home.root / next(take), home.root / "specialists", home.root / "models" / next(take)):
        folder.mkdir(exist_ok=True)
        (folder / f"{next(take)}.{next(take)[:5]}").write_text(next(take))
    config, root_key = load_config(home.root), read_root_key(home.root_key_file)
    target = tmp_path / "support.zip"

    async def work():
        log = await AuditLog.open(config, root_key)
        try:
            for event in ("specialist.run", "session.sign_in", "account.created"):
                about = {name: next(take) for name in ATTRIBUTES}
                content, subject = next(take).encode(), next(take)
                await log.append(
                    new_event(event, f"user:{next(take)}", Outcome.FAILED, about, content=content, subject=subject)
                )
            await write_support_bundle(config, log, local_operator(0), target)
        finally:
            await log.close()

    asyncio.run(work())
    with zipfile.ZipFile(target) as archive:
        everything = b"".join(archive.read(name) + name.encode() for name in archive.namelist())
    used = planted[: planted.index(next(take))]
    assert len(used) > 50
    assert [word for word in used if word.encode() in everything] == []
    assert not any(form in everything for form in (root_key, root_key.hex().encode(), base64.b64encode(root_key)))


def test_no_content_name_or_key_is_in_it_and_what_happened_is(home, tmp_path):
    home.config_file.write_text(f'[server]\nsite_name = "{CANARIES[3]}"\nport = 8999\n[siem]\nhost = "{CANARIES[4]}"\n')
    config, root_key = load_config(home.root), read_root_key(home.root_key_file)
    target = tmp_path / "support.zip"

    async def work():
        log = await AuditLog.open(config, root_key)
        try:
            about = {"address": CANARIES[2], "specialist": CANARIES[5], "error": "engine_unavailable"}
            event = new_event(
                "specialist.run", CANARIES[0], Outcome.FAILED, about, content=CANARIES[0].encode(), subject=CANARIES[1]
            )
            await log.append(event)
            await write_support_bundle(config, log, local_operator(0), target)
            with pytest.raises(HomeExists):
                await write_support_bundle(config, log, local_operator(0), target)
        finally:
            await log.close()

    asyncio.run(work())
    with zipfile.ZipFile(target) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    everything = b"".join(parts.values())
    for canary in (*(text.encode() for text in CANARIES), root_key, root_key.hex().encode(), str(home.root).encode()):
        assert canary not in everything, canary
    assert target.stat().st_mode & 0o777 == 0o600
    records = json.loads(parts["records.json"])
    failed = [one for one in records if one["event"] == "specialist.run"]
    assert [(one["outcome"], one["error"]) for one in failed] == [("failed", "engine_unavailable")]
    settings = json.loads(parts["settings.json"])
    assert settings["server"]["port"] == 8999 and settings["siem"]["host"] == "set"
    assert {one["name"] for one in json.loads(parts["doctor.json"])} >= {"data folder", "audit log", "backup", "egress"}
    assert json.loads(parts["files.json"])["audit/*.db files"] == 1


def test_of_a_disk_that_is_full_no_half_file_is_left_in_the_way(tmp_path):
    """The private function: with a disk that is full the log takes no record, and nothing is written to begin with."""
    target = tmp_path / "support.zip"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(InvalidRequest, match="cannot write"):
            support._write(target, {"about.json": "words"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not target.exists()


def another_key(home):
    home.root_key_file.write_bytes(home.root_key_file.read_bytes()[::-1])


def damaged_log(home):
    home.audit_database.write_bytes(bytes(8192))


def quarantined_log(home):
    enter_quarantine(home.audit_database.parent, "a witness remembers more", "")


@pytest.mark.parametrize(
    ("broken", "records", "problem"),
    [
        (another_key, False, "wrong_key"),
        (damaged_log, False, "home_error"),
        (quarantined_log, True, "audit_quarantined"),
    ],
)
def test_a_log_that_is_broken_is_what_help_is_needed_for(home, tmp_path, broken, records, problem):
    broken(home)
    target = tmp_path / "support.zip"
    written = asyncio.run(support_bundle(load_config(home.root), local_operator(0), target))
    with zipfile.ZipFile(target) as archive:
        assert tuple(archive.namelist()) == written.parts
        assert json.loads(archive.read("log.json")) == {"problem": problem}
        assert {one["state"] for one in json.loads(archive.read("doctor.json"))} >= {"fail"}
    assert ("records.json" in written.parts, bool(written.unrecorded)) == (records, True)


def test_a_log_that_is_well_records_that_it_was_written(home, tmp_path):
    config = load_config(home.root)
    assert asyncio.run(support_bundle(config, local_operator(0), tmp_path / "support.zip")).unrecorded == ""

    async def newest():
        log = await AuditLog.open(config, read_root_key(home.root_key_file))
        try:
            return [(view.event, view.outcome) for view in log.records(limit=3)]
        finally:
            await log.close()

    assert ("support.written", "completed") in asyncio.run(newest())


def test_a_folder_that_is_none_is_a_mistake_and_no_fault(tmp_path):
    with pytest.raises(HomeNotInitialised):
        asyncio.run(support_bundle(load_config(tmp_path), local_operator(0), tmp_path / "support.zip"))
    assert not (tmp_path / "support.zip").exists()
