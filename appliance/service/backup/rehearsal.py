"""From a backup to checked files, as far as the next epoch of the log: what a restore and its rehearsal share.

    manifest = extract(shelved, backup_key, folder)          # files as they were; nothing else is believed before
    checked = await check(config, root_key)                  # databases, keys, log, specialists
    checked = await rehearse(folder, shelved, backup_key, root_key)      # both, and the next epoch, thrown away after

A server imports this and restores nothing: Alembic, which takes a fifth of a second, is imported where it is used.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.audit import recovery, store
from appliance.audit.epochs import Recovery, recover_declaring_loss
from appliance.audit.keystore import open_keystore
from appliance.audit.reader import LogReader
from appliance.audit.signer_memory import read_signed_head
from appliance.config import Config, Home, load_config
from appliance.crypto.chunks import CHUNK_BYTES
from appliance.errors import AuditLogInvalid, BackupInvalid
from appliance.service.audit_verify import PASSED, verify_unopened
from appliance.service.backup.archive import Manifest, Reader, read_archive, read_header
from appliance.service.backup.shelf import Shelved, read_error
from appliance.service.backup.snapshot import copy_data, staged
from appliance.service.home import home_error
from appliance.specialists.base_model import sha256_of_file
from appliance.storage.copying import check_database
from appliance.storage.database import open_database, reading
from appliance.storage.revisions import DATABASES

_OPENED = 50  # records, the newest ones


@dataclass(frozen=True, slots=True)
class Checked:
    """What a backup was found to hold. `verdict`: of the stand-alone verifier over its log."""

    records: int
    specialists: int
    verdict: str


def extract(backup: Shelved, backup_key: bytes, folder: Path) -> Manifest:
    """Write the files of a backup below `folder`, which is new and empty. Raises `BackupInvalid`, a `HomeError`."""
    home = Home(folder)
    try:
        for each in home.folders():
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        with backup.path.open("rb") as file:
            header = read_header(file)
            return read_archive(file, header, backup_key, lambda path, _, reader: _write(folder / path, reader))
    except OSError as error:
        raise home_error(home, error) from None


def read_through(backup: Shelved, backup_key: bytes) -> Manifest:
    """Open all of a backup and keep nothing. Raises `BackupInvalid`, or `InvalidRequest` for a medium that fails."""
    try:
        with backup.path.open("rb") as file:
            header = read_header(file)
            return read_archive(file, header, backup_key, lambda *_: None)
    except OSError as error:
        raise read_error(backup.path, error) from None


async def check(config: Config, root_key: bytes) -> Checked:
    """Is what lies there a data folder that could serve? Raises what is wrong with it. Changes no record."""
    home = config.home
    for database in DATABASES:
        await asyncio.to_thread(check_database, database.path(home), database.journal)
    keystore = await asyncio.to_thread(open_keystore, home, root_key)
    size = await asyncio.to_thread(_check_end, home, keystore.origin)
    reader = await asyncio.to_thread(LogReader, home, keystore)
    try:
        sealed = await asyncio.to_thread(reader.records, None, _OPENED, kind="sealed")
    finally:
        reader.close()
    if sealed and not any(view.readable for view in sealed):  # some may have been destroyed on purpose
        raise BackupInvalid(
            "the log in this backup does not open with the keys in it",
            hint="take an earlier backup, and keep this one for analysis",
        )
    specialists = sorted(home.specialists.glob("*.gguf"))
    for path in specialists:
        if await asyncio.to_thread(sha256_of_file, path) != path.stem:
            raise BackupInvalid(f"the specialist file {path.name} was altered", hint="take an earlier backup")
    verdict = await verify_unopened(config)
    if verdict.exit_code not in PASSED:
        raise AuditLogInvalid(
            f"the log in this backup does not verify: {verdict.verdict}", hint="; ".join(verdict.messages[:2])
        )
    return Checked(size, len(specialists), verdict.verdict)


async def rehearse_upgrade(config: Config, root_key: bytes) -> Checked:
    """Bring a copy of a data folder up to this release and check it; its server, of an earlier one, may go on.

    Raises what an upgrade would, and what is wrong with what comes of it. Nothing of the data folder is changed.
    """
    with staged(config.home, "upgrade-rehearsal") as folder:
        await asyncio.to_thread(copy_data, config.home, folder)
        await asyncio.to_thread(upgrade_tables, Home(folder))
        return await check(replace(config, home=Home(folder)), root_key)


async def rehearse(folder: Path, backup: Shelved, backup_key: bytes, root_key: bytes) -> Checked:
    """The whole of a restore in a folder that is thrown away, as far as the new epoch's first records.

    Raises what a restore would.
    """
    manifest = await asyncio.to_thread(extract, backup, backup_key, folder)
    config = load_config(folder)
    await asyncio.to_thread(upgrade_tables, Home(folder))
    checked = await check(config, root_key)
    await asyncio.to_thread(next_epoch, config, root_key, (manifest.note,))
    return checked


def next_epoch(config: Config, root_key: bytes, notes: Sequence[str]) -> Recovery:
    """Close the log as it was put back and begin the next; `notes`: signed heads of it that are known."""
    return recover_declaring_loss(config, root_key, upgrade_tables, notes=notes)


def upgrade_tables(home: Home) -> None:
    """Bring the tables up to this release, and make those that are not there."""
    import migrations

    migrations.upgrade(home.root)


def _write(path: Path, reader: Reader) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while piece := reader.read(CHUNK_BYTES):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _check_end(home: Home, origin: str) -> int:
    """Size of the log, whose end fits itself and what was signed. Raises `AuditLogInvalid`."""
    signed = read_signed_head(home.signer_state, origin)
    engine = open_database(home.audit_database, mode="ro", connections=1)
    try:
        with reading(engine) as connection:
            head = store.read_head(connection)
            if head is None or signed is None:
                raise AuditLogInvalid("the log in this backup has no head", hint="take an earlier backup")
            recovery.verify_end(connection, head, signed)
            return head.size
    finally:
        engine.dispose()
