"""A log that continues another after a declared loss, and the list of those that there were.

    recovery = recover_declaring_loss(config, root_key, create_tables)    # no server runs meanwhile
    list_epochs(home, keystore)                                           # newest first

Going on under the old name would give two histories to one name: numbers would be used twice. So the old log is moved
to `audit/e<n>/` as it is, its signing key signs nothing any more, and a new log begins under a new name, `…/e<n+1>`.
Its second record holds the newest signed head that is known of the old one and the numbers of the records that are
missing. Rules of retention and holds in force are recorded again in the new log.

Every step can be repeated: `audit/recovery.json` says how far it came, and a recovery that was cut off goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from appliance.audit import control, derived, store
from appliance.audit.checkpoint import Checkpoint, parse_checkpoint
from appliance.audit.clock import read_clock
from appliance.audit.header import RecordHeader, epoch_of
from appliance.audit.keystore import Keystore, open_keystore
from appliance.audit.lock import only_sequencer
from appliance.audit.operations import ID_BYTES, announced
from appliance.audit.protocol import SetHold, SetRetention
from appliance.audit.quarantine import MARKER_FILE, read_quarantine
from appliance.audit.signer_memory import read_signed_head
from appliance.audit.start import start_message
from appliance.audit.writer import LogWriter
from appliance.config import Config, Home
from appliance.crypto.note import verify_note
from appliance.errors import AuditLogInvalid, HomeError
from appliance.storage.database import open_database, reading

PLAN_FILE = "recovery.json"
_HOLDS_MAX = 10_000
_PLAN_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EpochView:
    """One log of this data folder. `size`: records that are there."""

    number: int
    origin: str
    size: int
    begun_time: datetime


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was done: the epoch that begins, and the numbers that are lost (none where `lost_to` < `lost_from`)."""

    origin: str
    previous: str
    lost_from: int
    lost_to: int


class _Hold(msgspec.Struct, frozen=True):
    hold: bytes
    scopes: tuple[bytes, ...]
    subjects: tuple[bytes, ...]
    classes: tuple[int, ...]
    reason: str


class _Plan(msgspec.Struct, frozen=True):
    """`stage`: `planned`, then `moved`, when the old files lie in their own folder."""

    stage: Literal["planned", "moved"]
    old_origin: str
    previous: str
    lost_from: int
    lost_to: int
    holds: tuple[_Hold, ...]
    retention: dict[int, int]


@dataclass(frozen=True, slots=True)
class _OldLog:
    """What can be read of a log that is given up."""

    size: int
    note: str
    holds: tuple[_Hold, ...]
    retention: dict[int, int]
    destroyed_keys: tuple[bytes, ...]


def recover_declaring_loss(
    config: Config, root_key: bytes, create_tables: Callable[[Home], None], *, notes: Iterable[str] = ()
) -> Recovery:
    """Close the log as it is and begin the next one; see the module. `notes`: signed heads that were kept elsewhere.

    `create_tables` makes an empty log database where there is none. Raises `HomeInUse` while a sequencer runs, and
    `AuditLogInvalid` where no signed head of the old log is known at all.
    """
    home = config.home
    folder = home.audit_database.parent
    with only_sequencer(home.runtime):
        keystore = open_keystore(home, root_key)
        plan = _read_plan(folder)
        if plan is None:
            plan = _plan(home, keystore, notes)
            _write_plan(folder, plan)
        if keystore.origin == plan.old_origin:
            keystore.begin_epoch(plan.old_origin.rsplit("/", 2)[0])
        if plan.stage == "planned":
            _move_away(home, folder / f"e{epoch_of(plan.old_origin)}")
            plan = msgspec.structs.replace(plan, stage="moved")
            _write_plan(folder, plan)
        create_tables(home)
        _begin(config, keystore, plan)
        (folder / PLAN_FILE).unlink()
        _sync(folder)
    return Recovery(keystore.origin, plan.previous, plan.lost_from, plan.lost_to)


def list_epochs(home: Home, keystore: Keystore) -> list[EpochView]:
    """This log and those before it, newest first; one whose database cannot be read is left out."""
    folder = home.audit_database.parent
    found = []
    for origin in reversed(keystore.origin_history()):
        number = epoch_of(origin)
        path = home.audit_database if origin == keystore.origin else folder / f"e{number}" / home.audit_database.name
        try:
            engine = open_database(path, mode="ro", connections=1)
        except HomeError:
            continue
        try:
            with reading(engine) as connection:
                head = store.read_head(connection)
                headers = store.read_headers(connection, 0, 1)
        finally:
            engine.dispose()
        if head is not None and headers:
            begun = datetime.fromtimestamp(RecordHeader.decode(headers[0][1]).t_commit_ms / 1000, UTC)
            found.append(EpochView(number, head.origin, head.size, begun))
    return found


def _plan(home: Home, keystore: Keystore, notes: Iterable[str]) -> _Plan:
    old = _read_old(home)
    for scope in old.destroyed_keys:
        keystore.destroy([scope])  # announced and cut off: the new log knows nothing of it
    quarantine = read_quarantine(home.audit_database.parent)
    remembered = _remembered(home, keystore.origin)
    known = [*notes, old.note, remembered, quarantine.note if quarantine else ""]
    heads = [(head.size, note) for note in known if (head := _our_head(note, keystore)) is not None]
    if not heads:
        raise AuditLogInvalid(
            "no signed checkpoint of the old log is known, so that nothing could be said of what is lost",
            hint="name one that was kept elsewhere",
        )
    size, previous = max(heads)
    own = [head.size for note in (old.note, remembered) if (head := _our_head(note, keystore)) is not None]
    lost_from, lost_to = lost_range(old.size, own, size)
    return _Plan("planned", keystore.origin, previous, lost_from, lost_to, old.holds, old.retention)


def lost_range(stored: int, signed: Iterable[int], known: int) -> tuple[int, int]:
    """First and last number that are lost of `known` records, when `stored` are here; none where last < first.

    A database is always one signature behind its last batch. Where it was put back, that signature is gone with what
    came later, and nobody can prove those records: they count as lost. `signed`: sizes of the heads that are here.
    """
    first = known if stored >= known else max((size for size in signed if size <= stored), default=0)
    return first, known - 1


def _read_old(home: Home) -> _OldLog:
    """As much as the old database still tells; nothing of one that does not open."""
    try:
        engine = open_database(home.audit_database, mode="rw", connections=1)
    except HomeError:
        return _OldLog(0, "", (), {}, ())
    try:
        with reading(engine) as connection:
            head = store.read_head(connection)
            holds = []
            for row in derived.read_holds(connection, _HOLDS_MAX):
                if row.released_seq is None:
                    holds.append(_hold(row.hold_id, announced(connection, row.set_seq)))
            destroyed: list[bytes] = []
            for erasure in derived.read_erasures(connection, _HOLDS_MAX, unfinished=True):
                said = announced(connection, erasure.seq)
                if said["event"] == "shred":
                    destroyed += control.parse_ids(str(said["scopes"]), ID_BYTES)
            size, note = (0, None) if head is None else (head.size, head.note)
            return _OldLog(size, note or "", tuple(holds), derived.read_retention(connection), tuple(destroyed))
    except (HomeError, ValueError):
        return _OldLog(0, "", (), {}, ())
    finally:
        engine.dispose()  # folds the write-ahead log in, where that is possible


def _hold(hold_id: bytes, said: dict[str, control.Value]) -> _Hold:
    return _Hold(
        hold_id,
        tuple(control.parse_ids(str(said["scopes"]), ID_BYTES)),
        tuple(control.parse_ids(str(said["subjects"]), ID_BYTES)),
        tuple(int(number) for number in str(said["classes"]).split(",") if number),
        str(said["reason"]),
    )


def _remembered(home: Home, origin: str) -> str:
    try:
        head = read_signed_head(home.signer_state, origin)
    except AuditLogInvalid:
        return ""
    return "" if head is None else head.note


def _our_head(note: str, keystore: Keystore) -> Checkpoint | None:
    """The head that a note signs, if a key of this log signed it."""
    for key in keystore.public_keys():
        if key.origin != keystore.origin:
            continue
        try:
            return parse_checkpoint(verify_note(note, key.origin, key.public))
        except ValueError:
            continue
    return None


def _move_away(home: Home, target: Path) -> None:
    """The old files as they are; the database last, so that a cut-off move is seen by it."""
    target.mkdir(mode=0o700, exist_ok=True)
    database = home.audit_database
    beside = (database.with_name(database.name + suffix) for suffix in ("-wal", "-shm"))
    for path in (*beside, home.signer_state, database.with_name(MARKER_FILE), database):
        if path.exists():
            path.rename(target / path.name)
    _sync(target)
    _sync(database.parent)


def _begin(config: Config, keystore: Keystore, plan: _Plan) -> None:
    """The first records of the new log; nothing happens where they are."""
    start = start_message(config, keystore)
    body = control.epoch_begun(plan.previous, plan.lost_from, plan.lost_to)
    writer = LogWriter.open(start, clock=read_clock, first=[body])
    try:
        wanted = {hold.hold for hold in plan.holds} - writer.hold_ids()
        for hold in plan.holds:
            if hold.hold in wanted:
                writer.perform(SetHold(0, hold.hold, hold.scopes, hold.subjects, hold.classes, hold.reason))
        for record_class, months in plan.retention.items():
            writer.perform(SetRetention(0, record_class, months))
    finally:
        writer.close()


def _read_plan(folder: Path) -> _Plan | None:
    try:
        with (folder / PLAN_FILE).open("rb") as file:
            return msgspec.json.decode(file.read(_PLAN_BYTES_MAX), type=_Plan)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise AuditLogInvalid(
            f"{folder / PLAN_FILE} is damaged", hint="remove it if the recovery has not begun to move files"
        ) from None


def _write_plan(folder: Path, plan: _Plan) -> None:
    path = folder / PLAN_FILE
    beside = path.with_name(path.name + ".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(plan))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
