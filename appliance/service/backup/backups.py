"""Making backups and keeping them trustworthy: create, verify, rehearse, list, let go. Each is recorded.

    backup = await create_backup(config, log, root_key, principal, folder)
    verified = await verify_backup(config, log, root_key, principal, path)
    checked = await drill(config, log, root_key, principal)                # a whole restore, thrown away
    gone = await prune_backups(config, log, principal, folder)

    await backup_regularly(config, log, root_key)        # in a server: what `backup.folder` asks for, until cancelled

A backup is read back from where it lies before it gets its name: what is there was whole once. How old the newest one
is and how the last drill ended is in the log, and `appliance doctor` says it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance import __version__
from appliance.accounts.actions import Action, authorize
from appliance.audit.keystore import public_material
from appliance.audit.log import AuditLog, RecordView
from appliance.audit.recovery_kit import BackupAccess, backup_access, backup_key_from_kit
from appliance.config import Config
from appliance.errors import ApplianceError, BackupInvalid, InvalidRequest, NotFound
from appliance.service.backup.archive import About, Manifest, new_header, write_archive
from appliance.service.backup.rehearsal import Checked, read_through, rehearse
from appliance.service.backup.shelf import (
    PART_SUFFIX,
    Shelved,
    begin_shelf,
    expired,
    name_of,
    open_shelf,
    read_shelved,
    shelved,
    write_error,
)
from appliance.service.backup.snapshot import staged, take_snapshot
from appliance.service.events import SYSTEM, announced, record_looking
from appliance.storage.revisions import HEAD
from appliance.types import AttributeValue, Outcome, Principal

CREATED, DRILLED = "backup.created", "backup.drilled"
_RETRY_S = 900.0  # after a failure, so that a share that comes back is used the same day
_LOOKED_MAX = 50
logger = logging.getLogger(__name__)


async def create_backup(
    config: Config, log: AuditLog, root_key: bytes, principal: Principal, folder: Path | None = None
) -> Shelved:
    """Write a backup to `folder` (None: `backup.folder`), read it back, and record it.

    Raises `Conflict` without a recovery kit, `InvalidRequest`, `HomeFull`, `HomeReadOnly`. Nothing with the name of a
    backup is left then.
    """
    authorize(principal, Action.BACKUPS_MANAGE)
    place = folder_of(config, folder)
    await asyncio.to_thread(begin_shelf, place, config.home)
    return await _create(config, log, root_key, principal.id, place)


async def verify_backup(
    config: Config, log: AuditLog, root_key: bytes, principal: Principal, path: Path, *, kit_key: bytes | None = None
) -> Manifest:
    """Open all of a backup, with the kit where it is given, and keep nothing. Raises `BackupInvalid`, `WrongKey`."""
    authorize(principal, Action.BACKUPS_MANAGE)
    backup = await asyncio.to_thread(read_shelved, path)
    about: dict[str, AttributeValue] = {"backup": backup.header.backup_id.hex(), "kit": kit_key is not None}
    async with announced(log, principal.id, "backup.verified", about) as step:
        manifest = await asyncio.to_thread(_verify, config, root_key, kit_key, backup)
        step.attributes["files"] = len(manifest.files)
    return manifest


async def drill(
    config: Config, log: AuditLog, root_key: bytes, principal: Principal, path: Path | None = None
) -> tuple[Shelved, Checked]:
    """Rehearse a restore of a backup (None: the newest in `backup.folder`). Raises what a restore would."""
    authorize(principal, Action.BACKUPS_MANAGE)
    return await _drill(config, log, root_key, principal.id, path)


async def list_backups(
    config: Config, log: AuditLog, principal: Principal, folder: Path | None = None
) -> list[Shelved]:
    """The backups of this log, newest first."""
    authorize(principal, Action.BACKUPS_MANAGE)
    place = folder_of(config, folder)
    await record_looking(log, principal, "backup.list")
    return await asyncio.to_thread(_mine, config, place)


async def prune_backups(
    config: Config, log: AuditLog, principal: Principal, folder: Path | None = None, *, destroyed: bool = False
) -> list[Shelved]:
    """Delete what has expired and, with `destroyed`, what was made before the newest destruction of keys.

    The newest backup always stays; what holds keys that were destroyed goes only when one without them is there.
    """
    authorize(principal, Action.BACKUPS_MANAGE)
    return await _prune(config, log, principal.id, folder_of(config, folder), destroyed=destroyed)


async def backup_regularly(config: Config, log: AuditLog, root_key: bytes) -> None:
    """A backup, what may go, and now and then a drill, as the configuration says, until cancelled."""
    if config.backup.folder is None:
        return
    while True:
        wait_s = _RETRY_S
        try:
            wait_s = await _due(config, log, root_key)
        except ApplianceError as error:
            logger.error("no backup was made: %s", error.message)
        await asyncio.sleep(wait_s)


async def _due(config: Config, log: AuditLog, root_key: bytes) -> float:
    """Do what is due; the seconds until something is again."""
    settings, folder = config.backup, folder_of(config, None)
    created_s = await asyncio.to_thread(_age_s, log, CREATED)
    if created_s is None or created_s >= settings.every_s:
        await asyncio.to_thread(open_shelf, folder, config.home)
        await _create(config, log, root_key, SYSTEM, folder)
        await _prune(config, log, SYSTEM, folder, destroyed=False)
        created_s = 0.0
    drilled_s = await asyncio.to_thread(_age_s, log, DRILLED)
    if drilled_s is None or drilled_s >= settings.drill_every_s:
        await _drill(config, log, root_key, SYSTEM, None)
        drilled_s = 0.0
    return max(1.0, min(settings.every_s - created_s, settings.drill_every_s - drilled_s))


def last_ended(log: AuditLog, event: str) -> RecordView | None:
    """The newest record of how a backup or a drill ended."""
    for view in log.records(limit=_LOOKED_MAX, event=event):
        if view.outcome != Outcome.ACCEPTED:
            return view
    return None


def folder_of(config: Config, folder: Path | None) -> Path:
    """Where backups go. Raises `InvalidRequest` where nobody said."""
    place = folder or config.backup.folder
    if place is None:
        raise InvalidRequest(
            "no folder for backups is known", hint="name one with --to, or set backup.folder in config.toml"
        )
    return place.expanduser().absolute()


def label_of(backup: Shelved) -> str:
    """What the public record of the log calls a backup: the beginning of its id, which is in its file's name."""
    return f"backup-{backup.header.backup_id.hex()[:8]}"


async def _create(config: Config, log: AuditLog, root_key: bytes, actor: str, folder: Path) -> Shelved:
    async with announced(log, actor, "backup.created", {}) as step:
        access = await asyncio.to_thread(backup_access, config.home, root_key)
        backup = await asyncio.to_thread(_write, config, access, folder)
        await log.backup_made(label_of(backup), backup.header.about.records, backup.expires)
        step.attributes |= {
            "backup": backup.header.backup_id.hex(),
            "bytes": backup.size,
            "records": backup.header.about.records,
            "expires_ms": backup.header.about.expires_ms,
        }
    return backup


def _write(config: Config, access: BackupAccess, folder: Path) -> Shelved:
    with staged(config.home) as copies:
        snapshot = take_snapshot(config.home, copies)
        now = datetime.now(UTC)
        until = now + timedelta(days=config.backup.keep_days)
        about = About(_ms(now), _ms(until), snapshot.origin, snapshot.records, __version__, HEAD)
        header, file_key = new_header(access, about)
        path = folder / name_of(header)
        part = path.with_name(path.name + PART_SUFFIX)
        try:
            with part.open("xb") as out:
                written = write_archive(out, header, file_key, snapshot.members, snapshot.note)
                out.flush()
                os.fsync(out.fileno())
            read_back = read_through(read_shelved(part), access.key)
            if read_back != written:
                raise BackupInvalid("the backup does not read back as it was written", hint="check that disk or share")
            part.replace(path)
            _sync_folder(folder)
        except OSError as error:
            raise write_error(folder, error) from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    return read_shelved(path)


def _verify(config: Config, root_key: bytes, kit_key: bytes | None, backup: Shelved) -> Manifest:
    if kit_key is not None:
        return read_through(backup, backup_key_from_kit(backup.header.slots, kit_key))
    return read_through(backup, backup_access(config.home, root_key).key)


async def _drill(
    config: Config, log: AuditLog, root_key: bytes, actor: str, path: Path | None
) -> tuple[Shelved, Checked]:
    async with announced(log, actor, "backup.drilled", {}) as step:
        if path is None:
            found = await asyncio.to_thread(_mine, config, folder_of(config, None))
            if not found:
                raise NotFound("there is no backup of this log to rehearse", hint="make one: appliance backup create")
            backup = found[0]
        else:
            backup = await asyncio.to_thread(read_shelved, path)
        step.attributes["backup"] = backup.header.backup_id.hex()
        access = await asyncio.to_thread(backup_access, config.home, root_key)
        began = time.monotonic()
        with staged(config.home, "backup-drill") as folder:
            checked = await rehearse(folder, backup, access.key, root_key)
        step.attributes |= {
            "records": checked.records,
            "verdict": checked.verdict,
            "kit_fits": access.slots == backup.header.slots,
            "took_ms": int((time.monotonic() - began) * 1000),
        }
    return backup, checked


async def _prune(config: Config, log: AuditLog, actor: str, folder: Path, *, destroyed: bool) -> list[Shelved]:
    erasures = await asyncio.to_thread(log.erasures) if destroyed else []
    destroyed_ms = _ms(max(each.time for each in erasures)) if erasures else None
    found = await asyncio.to_thread(_mine, config, folder)
    wanted = expired(found, _ms(datetime.now(UTC)), destroyed_ms=destroyed_ms)
    if not wanted and actor == SYSTEM:
        return []
    async with announced(log, actor, "backup.pruned", {"backups": len(wanted), "destroyed": destroyed}) as step:
        step.attributes["names"] = ",".join(one.header.backup_id.hex()[:8] for one in wanted)[:1000]
        await asyncio.to_thread(_delete, folder, wanted)
    return wanted


def _delete(folder: Path, wanted: list[Shelved]) -> None:
    try:
        for one in wanted:
            one.path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(folder, error) from None
    _sync_folder(folder)


def _mine(config: Config, folder: Path) -> list[Shelved]:
    return shelved(open_shelf(folder, config.home), public_material(config.home).origin)


def _age_s(log: AuditLog, event: str) -> float | None:
    """How long ago that succeeded last."""
    for view in log.records(limit=_LOOKED_MAX, event=event):
        if view.outcome == Outcome.COMPLETED:
            return max(0.0, (datetime.now(UTC) - view.time).total_seconds())
    return None


def _sync_folder(folder: Path) -> None:
    """Some network file systems sync no folders; the file itself is synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
