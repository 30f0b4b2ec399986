"""From a backup to a data folder that works: extracted, checked, and its log continued under a new name.

    check_restorable(path, target)                      # before anybody is asked for the kit
    restored = await restore(path, target, kit_key, principal, progress=print)

A log that was put back never goes on under its old name: numbers would be used twice. So a restore declares what is
lost and begins the next epoch (`audit/epochs.py`). Everything happens in a folder beside the target, which gets its
name last: whatever is interrupted leaves no data folder, and is repeated.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.audit.epochs import Recovery
from appliance.audit.header import epoch_of
from appliance.audit.key_slots import add_file_slot, slot_of
from appliance.audit.recovery_kit import backup_key_from_kit
from appliance.audit.root_key import create_root_key, read_root_key
from appliance.config import Config, Home, load_config
from appliance.errors import HomeExists, HomeTooNew, WrongKey
from appliance.service.backup.rehearsal import check, extract, next_epoch, upgrade_tables
from appliance.service.backup.shelf import Shelved, read_shelved
from appliance.service.backup.snapshot import wipe
from appliance.service.events import new_event
from appliance.service.home import home_error
from appliance.service.unlocking import open_unlocked
from appliance.specialists.base_fetch import ensure_base_model
from appliance.storage.revisions import REVISIONS
from appliance.types import AttributeValue, Outcome, Principal

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """A data folder that was brought back. `recovery`: the epoch that begins, and what is declared lost."""

    home: Path
    records: int
    recovery: Recovery
    root_key_file: Path | None


def check_restorable(path: Path, target: Path) -> Shelved:
    """The backup, where it and the place for it are such that a kit is worth typing. Raises as `restore` does."""
    _refuse_occupied(target)
    backup = read_shelved(path)
    if backup.header.about.revision not in REVISIONS:
        raise HomeTooNew(
            f"this backup was made by a later release ({backup.header.about.release})",
            hint="install that release or a later one, then restore",
        )
    return backup


async def restore(
    path: Path,
    target: Path,
    kit_key: bytes,
    principal: Principal,
    *,
    notes: Sequence[str] = (),
    base_model: Path | None = None,
    progress: Progress,
) -> Restored:
    """Make `target` a data folder again. `notes`: signed heads of the log that were kept outside the lost machine.

    Raises `HomeExists` where there is something, `WrongKey` for another kit, `BackupInvalid`, `HomeTooNew`, and what
    does not fit in what was restored. Nothing is at `target` then.
    """
    backup = await asyncio.to_thread(check_restorable, path, target)
    backup_key = backup_key_from_kit(backup.header.slots, kit_key)
    staging = target.parent / f".{target.name}.restoring"
    try:
        await asyncio.to_thread(wipe, staging)
        progress(f"opening {path.name}")
        manifest = await asyncio.to_thread(extract, backup, backup_key, staging)
        config = load_config(staging)
        progress("upgrading and checking what was in it")
        await asyncio.to_thread(upgrade_tables, config.home)
        await check(config, kit_key)
        await asyncio.to_thread(ensure_base_model, config.home, bundle=base_model, progress=progress)
        root_key, key_path = await asyncio.to_thread(_new_root_key, config, kit_key)
        progress("beginning the next epoch of the log")
        recovery = await asyncio.to_thread(next_epoch, config, root_key, (*notes, manifest.note))
        about: dict[str, AttributeValue] = {
            "backup": backup.header.backup_id.hex(),
            "records": backup.header.about.records,
            "lost_from": recovery.lost_from,
            "lost_to": recovery.lost_to,
            "epoch": epoch_of(recovery.origin),
        }
        log = await open_unlocked(config, root_key)
        try:
            await log.append(new_event("backup.restored", principal.id, Outcome.COMPLETED, about))
        finally:
            await log.close()
        await asyncio.to_thread(_put_in_place, staging, target)
    finally:
        await asyncio.to_thread(wipe, staging)
    shown = key_path
    if key_path is not None and staging in key_path.parents:
        shown = target / key_path.relative_to(staging)
    return Restored(target, backup.header.about.records, recovery, shown)


def _new_root_key(config: Config, kit_key: bytes) -> tuple[bytes, Path | None]:
    """A key file for this machine, unless a passphrase unlocks it: the old machine's key stayed there."""
    if config.keys.source == "passphrase":
        return kit_key, None
    path = config.keys.file if config.keys.source == "file" and config.keys.file else config.home.root_key_file
    if path.exists():
        key = read_root_key(path)
        try:
            slot_of(config.home, key)
        except WrongKey:
            raise HomeExists(
                f"there is a root key of another data folder at {path}", hint="move it away, then restore again"
            ) from None
        return key, path
    key = create_root_key(path)
    add_file_slot(config.home, kit_key, key)
    return key, path


def _refuse_occupied(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists():
        raise HomeExists(
            f"{target} is not empty, and a restore never overwrites", hint="move it away, or name another with --home"
        )


def _put_in_place(staging: Path, target: Path) -> None:
    shutil.rmtree(staging / "run")
    (staging / "run").mkdir(mode=0o700)
    try:
        staging.replace(target)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise home_error(Home(target), error) from None
