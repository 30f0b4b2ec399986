"""Backups can be trusted: they hold one state of a data folder in use, open with the recovery kit and nothing else,
are rehearsed, and come back as a log that goes on under a new name.

The data folders are real, and so is the process of their log; the server is left out, because a backup needs none.
"""

import asyncio
import errno
import fcntl
import io
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.accounts.actions import local_operator
from appliance.audit.administration import LOCK_FILE as ERASURE_LOCK
from appliance.audit.key_slots import list_slots, remove_slot
from appliance.audit.keystore import public_material
from appliance.audit.log import AuditLog
from appliance.audit.recovery_kit import backup_key_from_kit, kit_text, parse_kit
from appliance.audit.root_key import read_root_key
from appliance.audit.signer_memory import read_signed_head
from appliance.config import Home, load_config
from appliance.crypto.keys import random_key
from appliance.errors import (
    ApplianceError,
    BackupInvalid,
    Conflict,
    HomeExists,
    HomeFull,
    HomeInUse,
    InvalidRequest,
    NotFound,
    WrongKey,
)
from appliance.service import recovery_kit
from appliance.service.audit_verify import VERIFIER, verify_unopened
from appliance.service.backup import backups, shelf, snapshot
from appliance.service.backup.rehearsal import read_through, rehearse_upgrade
from appliance.service.backup.restore import restore
from appliance.service.events import new_event
from appliance.service.keys import OpenKeys
from appliance.types import Outcome

ME = local_operator(0)
SECRET = b"seen by Dr. Okafor on 3 October"


class Site:
    """A data folder with its log open, its recovery kit made, and a folder for backups."""

    def __init__(self, config, log, root_key, folder):
        self.config, self.log, self.root_key, self.folder = config, log, root_key, folder
        self.kit = ""

    async def make_kit(self, **options):
        draft = recovery_kit.new_kit()
        opened = OpenKeys(self.config, self.log, self.root_key)
        slot = await recovery_kit.keep_kit(opened, ME, draft, draft.text.lower().replace("-", " "), **options)
        self.kit = draft.text
        return slot

    async def record(self, subject="MRN-1", content=SECRET):
        event = new_event("specialist.deidentify", "user:1", Outcome.COMPLETED, {}, content=content, subject=subject)
        return await self.log.append(event)

    async def backup(self):
        return await backups.create_backup(self.config, self.log, self.root_key, ME, self.folder)

    async def drill(self, path=None):
        return await backups.drill(self.config, self.log, self.root_key, ME, path)

    def ended(self, event):
        return backups.last_ended(self.log, event)


def at_a_site(work, home: Home, folder, settings="", kit=True):
    """Run `work(site)` with the log open."""
    folder.mkdir(exist_ok=True)
    home.config_file.write_text(f'[backup]\nfolder = "{folder}"\n{settings}')
    config = load_config(home.root)
    root_key = read_root_key(home.root_key_file)

    async def run():
        log = await AuditLog.open(config, root_key)
        try:
            site = Site(config, log, root_key, folder)
            if kit:
                await site.make_kit()
            return await work(site)
        finally:
            await log.close()

    return asyncio.run(run())


def restored(path, target, kit, **options):
    return asyncio.run(restore(path, target, parse_kit(kit), ME, progress=lambda _: None, **options))


def contents(config, root_key):
    async def read():
        log = await AuditLog.open(config, root_key)
        try:
            found = []
            for epoch in (None, *(each.number for each in log.epochs()[1:])):
                for view in log.records(limit=200, epoch=epoch):
                    if view.has_content:
                        found.append(log.content(bytes.fromhex(view.record_id), epoch=epoch))
            return (
                found,
                [(each.number, each.size) for each in log.epochs()],
                {view.event: dict(view.attributes) for view in log.records(limit=200)},
            )
        finally:
            await log.close()

    return asyncio.run(read())


def test_what_was_backed_up_comes_back_on_another_machine_with_the_kit_alone(home, tmp_path):
    async def work(site):
        await site.record()
        early = site.log.checkpoint()
        backup = await site.backup()
        lost = await site.record(content=b"made after the backup")
        return site.kit, backup, early, site.log.checkpoint(), lost.seq

    kit, backup, early, kept, lost_seq = at_a_site(work, home, tmp_path / "share")
    shutil.rmtree(home.root)  # the machine is gone, root key and all
    target = tmp_path / "new" / "home"
    target.parent.mkdir()
    done = restored(backup.path, target, kit, notes=[kept])
    assert done.recovery.lost_from <= backup.header.about.records <= lost_seq <= done.recovery.lost_to
    config = load_config(target)
    found, epochs, events = contents(config, read_root_key(done.root_key_file))
    assert found == [SECRET]
    assert [number for number, _ in epochs] == [2, 1]
    assert events["backup.restored"]["backup"] == backup.header.backup_id.hex()
    verdict = asyncio.run(verify_unopened(config, full=True))
    assert verdict.verdict == "not_anchored"  # nothing outside this machine confirms the old log, and it says so
    signed = read_signed_head(config.home.signer_state, done.recovery.origin)
    logs = [config.home.audit_database.parent / "e1" / "log.db", config.home.audit_database]
    (tmp_path / "keys").write_text("".join(f"{key.verifier_key}\n" for key in public_material(config.home).keys))
    command = [sys.executable, str(VERIFIER), *map(str, logs), "--pub", str(tmp_path / "keys")]
    for name, note in (("before", early), ("after", signed.note)):
        (tmp_path / name).write_text(note)
        command += ["--trusted", str(tmp_path / name)]
    verified = subprocess.run(command, capture_output=True, text=True)
    assert verified.returncode == 2, verified.stdout
    assert [path.name for path in target.parent.iterdir()] == ["home"]


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "while others record"])
def test_a_backup_of_a_log_in_use_is_one_state_and_loses_nothing_that_was_signed(home, tmp_path, busy):
    async def work(site):
        stop = asyncio.Event()

        async def others():
            while not stop.is_set():
                await asyncio.gather(*(site.record(f"MRN-{number}") for number in range(8)))

        before = [await site.record() for _ in range(3)]
        task = asyncio.create_task(others()) if busy else None
        made = [await site.backup() for _ in range(2)]
        stop.set()
        if task:
            await task
        _, checked = await site.drill()
        assert checked.verdict == "ok" and checked.records == made[-1].header.about.records > before[-1].seq
        ended = site.ended("backup.drilled")
        assert (ended.outcome, ended.attributes["kit_fits"]) == (Outcome.COMPLETED, True)

    at_a_site(work, home, tmp_path / "share")
    assert not list(home.runtime.glob("backup*/*"))


def test_without_a_kit_there_is_no_backup_and_with_another_kit_no_restore(home, tmp_path):
    async def without(site):
        with pytest.raises(Conflict, match="no recovery kit"):
            await site.backup()
        assert [path.name for path in site.folder.iterdir()] == [shelf.MARKER]

    at_a_site(without, home, tmp_path / "share", kit=False)

    async def work(site):
        return site.kit, await site.backup()

    kit, backup = at_a_site(work, home, tmp_path / "share")
    target = tmp_path / "new"
    with pytest.raises(WrongKey, match="does not belong"):
        restored(backup.path, target, kit_text(random_key()))
    with pytest.raises(InvalidRequest, match="at least one letter is wrong"):
        restored(backup.path, target, kit[:-1] + ("A" if kit[-1] != "A" else "B"))
    assert not target.exists() and not list(tmp_path.glob(".new*"))
    (target / "precious").mkdir(parents=True)
    with pytest.raises(HomeExists):
        restored(backup.path, target, kit)


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "one bit": lambda content: content[:-5000] + bytes([content[-5000] ^ 1]) + content[-4999:],
    "the header's date": lambda content: content.replace(b'"expires_ms":1', b'"expires_ms":2', 1),
    "longer": lambda content: content + b"\0",
    "another file": lambda _: b"PK\x03\x04 no backup at all",
    "empty": lambda _: b"",
}


@pytest.fixture(scope="module")
def one_backup(home_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backup")
    shutil.copytree(home_template, folder / "home")
    home = Home(folder / "home")

    async def work(site):
        return site.kit, await site.backup()

    return at_a_site(work, home, folder / "share")


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_backup_is_refused_and_leaves_nothing(one_backup, tmp_path, kind):
    kit, backup = one_backup
    damaged = tmp_path / backup.path.name
    damaged.write_bytes(DAMAGE[kind](backup.path.read_bytes()))
    with pytest.raises(BackupInvalid):
        restored(damaged, tmp_path / "new", kit)
    assert sorted(path.name for path in tmp_path.iterdir()) == [damaged.name]


@contextmanager
def files_of_at_most(size):
    """A disk that is full, to this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_too_small_for_a_restore_is_named_and_nothing_is_left(one_backup, tmp_path):
    kit, backup = one_backup
    with files_of_at_most(2**20), pytest.raises(HomeFull, match=f"the disk of the data folder {tmp_path}"):
        restored(backup.path, tmp_path / "new", kit)
    assert list(tmp_path.iterdir()) == []


class Torn:
    """A medium that fails behind the header of a backup."""

    def __init__(self, path):
        self.path = path

    def open(self, mode):
        return TornFile(self.path.read_bytes()[:2000])

    def __str__(self):
        return str(self.path)


class TornFile(io.BytesIO):
    def read(self, size=-1):
        found = super().read(size)
        if len(found) < size:
            raise OSError(errno.EIO, "Input/output error")
        return found


def test_a_medium_that_fails_in_the_middle_is_an_answer_and_no_traceback(one_backup):
    kit, backup = one_backup
    key = backup_key_from_kit(backup.header.slots, parse_kit(kit))
    with pytest.raises(InvalidRequest, match="Input/output error"):
        read_through(replace(backup, path=Torn(backup.path)), key)


def test_nothing_of_the_data_folder_shows_in_a_backup(one_backup):
    _, backup = one_backup
    content = backup.path.read_bytes()
    assert b"SQLite format 3" not in content and b"GGUF" not in content and b"phi-deid" not in content


def test_the_last_backup_with_destroyed_keys_is_named_by_the_certificate_and_goes_when_asked(home, tmp_path):
    async def work(site):
        await site.record("MRN-7")
        old = await site.backup()
        certificate = await site.log.shred("MRN-7", "request", "user:1")
        assert f"{old.expires:%Y-%m-%d}" in certificate.statement
        assert await backups.prune_backups(site.config, site.log, ME, destroyed=True) == []  # it is the only one
        new = await site.backup()
        gone = await backups.prune_backups(site.config, site.log, ME, destroyed=True)
        assert [one.path for one in gone] == [old.path]
        left = await backups.list_backups(site.config, site.log, ME)
        assert [one.path for one in left] == [new.path]
        bodies = [view.attributes for view in site.log.records(limit=100, event="backup")]
        assert [body["target"] for body in bodies] == [backups.label_of(new), backups.label_of(old)]

    at_a_site(work, home, tmp_path / "share")


def test_an_expired_backup_goes_when_a_newer_one_is_there_and_only_then(home, tmp_path):
    async def work(site):
        made = [await site.backup() for _ in range(3)]
        return made, shelf.shelved(site.folder, made[0].header.about.origin)

    made, found = at_a_site(work, home, tmp_path / "share")
    assert [one.path for one in found] == [one.path for one in reversed(made)]
    later = int((datetime.now(UTC) + timedelta(days=36)).timestamp() * 1000)
    assert shelf.expired(found, later) == found[1:]
    assert shelf.expired(found, 0) == []
    assert shelf.expired(found[:1], later) == []
    assert shelf.shelved(tmp_path / "share", "clinic.example/audit/another/e1") == []


def test_a_share_that_is_not_mounted_is_noticed_and_the_data_folder_is_no_place(home, tmp_path):
    async def work(site):
        await site.backup()
        (site.folder / shelf.MARKER).unlink()
        with pytest.raises(InvalidRequest, match="no folder for backups"):
            await backups.list_backups(site.config, site.log, ME)
        for place in (home.root, home.root / "backups"):
            with pytest.raises(InvalidRequest, match="data folder"):
                await backups.create_backup(site.config, site.log, site.root_key, ME, place)
        with pytest.raises(InvalidRequest, match="no folder"):
            await backups.create_backup(site.config, site.log, site.root_key, ME, tmp_path / "nowhere")

    at_a_site(work, home, tmp_path / "share")


def test_a_server_makes_backups_and_rehearses_them_by_itself(home, tmp_path):
    async def work(site):
        shelf.begin_shelf(site.folder, home)
        task = asyncio.create_task(backups.backup_regularly(site.config, site.log, site.root_key))
        async with asyncio.timeout(200):
            while site.ended("backup.drilled") is None:
                await asyncio.sleep(0.1)
        task.cancel()
        assert site.ended("backup.created").outcome == site.ended("backup.drilled").outcome == Outcome.COMPLETED
        assert len(shelf.shelved(site.folder)) == 1

    at_a_site(work, home, tmp_path / "share")


def test_a_drill_that_fails_is_in_the_log(home, tmp_path):
    async def work(site):
        shelf.begin_shelf(site.folder, home)
        with pytest.raises(NotFound):
            await site.drill()
        backup = await site.backup()
        content = backup.path.read_bytes()
        backup.path.write_bytes(content[:-1])
        with pytest.raises(BackupInvalid):
            await site.drill()
        ended = site.ended("backup.drilled")
        assert ended.outcome != Outcome.COMPLETED and ended.attributes["error"] == "backup_invalid"

    at_a_site(work, home, tmp_path / "share")


def test_an_upgrade_is_tried_on_a_copy_while_the_log_goes_on_and_changes_nothing(home, tmp_path):
    async def work(site):
        await site.record()
        before = {path: path.read_bytes() for path in home.root.rglob("*.db")}
        checked = await rehearse_upgrade(site.config, site.root_key)
        assert (checked.verdict, checked.records) == ("ok", len(site.log.records(limit=200)))
        assert {path: path.read_bytes() for path in home.root.rglob("*.db")} == before
        assert not list(home.runtime.glob("upgrade-rehearsal/*"))

    at_a_site(work, home, tmp_path / "share")
    content = bytearray(home.audit_database.read_bytes())
    content[4096 * 3 : 4096 * 3 + 512] = b"\xff" * 512
    home.audit_database.write_bytes(content)
    with pytest.raises(ApplianceError):
        asyncio.run(rehearse_upgrade(load_config(home.root), read_root_key(home.root_key_file)))


def test_whoever_destroys_keys_is_waited_for_and_not_for_ever(home, monkeypatch):
    with (home.runtime / ERASURE_LOCK).open("w") as held, snapshot._no_destruction(home) as allow_again:
        with pytest.raises(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        allow_again()
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        monkeypatch.setattr(snapshot, "_ERASURE_WAIT_S", 0.1)
        with pytest.raises(HomeInUse, match="are being destroyed"), snapshot._no_destruction(home):
            pass


def test_copies_of_keys_that_a_crash_left_are_overwritten_before_they_are_removed(home):
    left = home.runtime / snapshot.STAGING
    left.mkdir()
    (left / "keystore.db").write_bytes(b"wrapped keys")
    with (left / "keystore.db").open("rb") as held:  # what the disk has under the name
        with snapshot.staged(home) as folder:
            assert list(folder.iterdir()) == []
            with pytest.raises(Conflict), snapshot.staged(home):
                pass
        assert held.read() == bytes(len(b"wrapped keys"))
    assert not left.exists()


def test_a_kit_is_kept_only_as_it_was_typed_back_and_a_second_one_ends_the_first(home, tmp_path):
    async def work(site):
        opened = OpenKeys(site.config, site.log, site.root_key)
        draft = recovery_kit.new_kit()
        with pytest.raises(InvalidRequest, match="not the kit"):
            await recovery_kit.keep_kit(opened, ME, draft, kit_text(random_key()))
        assert [slot.use for slot in list_slots(home)] == [None]
        first = await site.make_kit()
        assert await recovery_kit.check_kit(site.config, ME, parse_kit(site.kit)) == first
        with pytest.raises(Conflict, match="already"):
            await site.make_kit()
        kit_before = site.kit
        await site.make_kit(replace=True)
        assert [slot.use for slot in list_slots(home)] == [None, "recovery"]
        with pytest.raises(WrongKey):
            await recovery_kit.check_kit(site.config, ME, parse_kit(kit_before))

    at_a_site(work, home, tmp_path / "share", kit=False)


def test_a_lost_root_key_is_replaced_with_the_kit(home, tmp_path):
    async def work(site):
        await site.record()
        return site.kit

    kit = at_a_site(work, home, tmp_path / "share")
    home.root_key_file.rename(tmp_path / "lost")
    config = load_config(home.root)
    with pytest.raises(WrongKey):
        asyncio.run(recovery_kit.use_kit(config, ME, random_key()))
    assert not home.root_key_file.exists()
    path, slot = asyncio.run(recovery_kit.use_kit(config, ME, parse_kit(kit)))
    assert path == home.root_key_file and slot == 2
    with pytest.raises(HomeExists):
        asyncio.run(recovery_kit.use_kit(config, ME, parse_kit(kit)))
    remove_slot(home, read_root_key(path), 0)
    found, _, _ = contents(config, read_root_key(path))
    assert found == [SECRET]
