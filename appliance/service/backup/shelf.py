"""The folder that backups lie in: which are there, which may go. One folder may serve several appliances.

    shelf = open_shelf(folder, home)          # refused unless it was begun: a share that is not mounted is noticed
    for backup in shelved(shelf, origin): ... # newest first
    expired(found, now_ms)

A backup may go when it has expired and a newer one is there: the last one is kept, whatever its date.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.config import Home
from appliance.errors import BackupInvalid, HomeFull, HomeReadOnly, InvalidRequest
from appliance.service.backup.archive import SUFFIX, Header, read_header

MARKER = "cloister-backups.txt"
FILES_MAX = 10_000
PART_SUFFIX = ".part"
_MARKER_TEXT = "Backups of Cloister. This file tells a mounted share from an empty folder; leave it here.\n"


@dataclass(frozen=True, slots=True)
class Shelved:
    """A backup in its folder. What its header says is believed only once it was opened."""

    path: Path
    header: Header
    size: int

    @property
    def created(self) -> datetime:
        return datetime.fromtimestamp(self.header.about.created_ms / 1000, UTC)

    @property
    def expires(self) -> datetime:
        return datetime.fromtimestamp(self.header.about.expires_ms / 1000, UTC)


def begin_shelf(folder: Path, home: Home) -> None:
    """Mark `folder` as one for backups, once. Raises `InvalidRequest`, `HomeReadOnly`."""
    _refuse_data_folder(folder, home)
    if not folder.is_dir():
        raise InvalidRequest(f"there is no folder {folder}", hint="make it, or mount the share, then try again")
    if not (folder / MARKER).exists():
        try:
            (folder / MARKER).write_text(_MARKER_TEXT)
        except OSError as error:
            raise _not_writable(folder, error) from None


def open_shelf(folder: Path, home: Home) -> Path:
    """`folder`, if backups may be written there. Raises `InvalidRequest`."""
    _refuse_data_folder(folder, home)
    if not (folder / MARKER).exists():
        raise InvalidRequest(
            f"{folder} is no folder for backups: {MARKER} is not there",
            hint="is the share mounted? a new folder is begun by: appliance backup create --to FOLDER",
        )
    return folder


def name_of(header: Header) -> str:
    """The name of a backup's file: when, and of which log."""
    made = datetime.fromtimestamp(header.about.created_ms / 1000, UTC)
    return f"cloister-{log_uuid(header.about.origin)[:8]}-{made:%Y%m%dT%H%M%SZ}-{header.backup_id.hex()[:8]}{SUFFIX}"


def log_uuid(origin: str) -> str:
    """What stays the same of a log's name over its epochs."""
    return origin.rsplit("/", 2)[-2] if origin.count("/") > 1 else origin


def shelved(folder: Path, origin: str | None = None) -> list[Shelved]:
    """The backups in `folder`, newest first, of one log or of all; what is no backup is passed over."""
    found: list[Shelved] = []
    for path in sorted(folder.glob(f"*{SUFFIX}"))[:FILES_MAX]:
        with contextlib.suppress(BackupInvalid, OSError):
            found.append(read_shelved(path))
    mine = [one for one in found if origin is None or log_uuid(one.header.about.origin) == log_uuid(origin)]
    return sorted(mine, key=lambda one: (one.header.about.created_ms, one.path.name), reverse=True)


def read_shelved(path: Path) -> Shelved:
    """One backup, by its header. Raises `BackupInvalid`, or `InvalidRequest` for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return Shelved(path, read_header(file), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise read_error(path, error) from None


def expired(found: Sequence[Shelved], now_ms: int, *, destroyed_ms: int | None = None) -> list[Shelved]:
    """Which of these (newest first) may go: expired ones and, where `destroyed_ms` is given, those made before it.

    Never the newest, and nothing at all unless a newer one stays.
    """
    return [
        one
        for one in found[1:]
        if one.header.about.expires_ms <= now_ms
        or (destroyed_ms is not None and one.header.about.created_ms <= destroyed_ms < found[0].header.about.created_ms)
    ]


def read_error(path: Path, error: OSError) -> InvalidRequest:
    """Why a backup could not be read, now or to its end."""
    return InvalidRequest(f"cannot read {path}: {error.strerror}", hint="name a backup file, and check that medium")


def write_error(folder: Path, error: OSError) -> HomeFull | HomeReadOnly:
    """What a refusal of the target means for the person who must act."""
    if error.errno in (28, 27, 122):  # ENOSPC, EFBIG, EDQUOT
        return HomeFull(f"there is no space for the backup in {folder}", hint="free some space there, then try again")
    return _not_writable(folder, error)


def _not_writable(folder: Path, error: OSError) -> HomeReadOnly:
    return HomeReadOnly(
        f"cannot write backups to {folder}: {error.strerror}",
        hint="check that it is mounted read-write and belongs to the user who runs the server",
    )


def _refuse_data_folder(folder: Path, home: Home) -> None:
    inside, root = folder.resolve(), home.root.resolve()
    if inside == root or root in inside.parents:
        raise InvalidRequest(
            f"{folder} lies in the data folder: what takes that away takes the backup too",
            hint="name a folder on another disk, or a mounted share",
        )
