"""A log that something outside contradicts records nothing more: the marker that says so, `audit/quarantine.json`.

    enter_quarantine(folder, "a witness remembers 512 records, here are 400", note)
    read_quarantine(folder)          # Quarantine(why, note, since_ms), None when there is none

Who finds a witness, a receipt or a checkpoint that does not fit sets it, and every start honours it: reading works,
appending does not. It goes when an operator declares the loss (`epochs.py`) or removes the file; nothing here lifts it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.errors import AuditQuarantined

MARKER_FILE = "quarantine.json"
_BYTES_MAX = 2 * 1024 * 1024
HINT = "keep all files; compare them with the backup, then `appliance audit recover --declare-loss`"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why nothing is recorded, the signed note that was seen (or nothing), and since when (milliseconds UTC).

    `cut`: something outside remembers a longer log; otherwise, another one.
    """

    why: str
    note: str
    since_ms: int
    cut: bool = False


def enter_quarantine(folder: Path, why: str, note: str, *, cut: bool = False) -> None:
    """Set the marker in the log's folder; on the disk when this returns. The first reason stays."""
    if read_quarantine(folder) is not None:
        return
    path = folder / MARKER_FILE
    beside = path.with_name(path.name + ".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(Quarantine(why, note, time.time_ns() // 1_000_000, cut)))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_quarantine(folder: Path) -> Quarantine | None:
    """The marker. One that cannot be read counts: somebody set it."""
    try:
        with (folder / MARKER_FILE).open("rb") as file:
            return msgspec.json.decode(file.read(_BYTES_MAX), type=Quarantine)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Quarantine(f"{MARKER_FILE} is there and cannot be read", "", 0)


def refuse_quarantined(folder: Path) -> None:
    """Raises `AuditQuarantined` where the marker is."""
    found = read_quarantine(folder)
    if found is not None:
        raise AuditQuarantined(f"the audit log is quarantined: {found.why}", hint=HINT)
