"""One state of a data folder, while others work on it: copies of the databases, and the files that never change.

    with staged(home) as folder:                              # emptied before and after, key material overwritten
        snapshot = take_snapshot(config.home, folder)
        snapshot.members, snapshot.note, snapshot.records

The order is what makes it one state. First the accounts: a change that the log announces and the copy lacks is voided
by the next start, as after a crash. Then, under the lock that destructions take, a transaction on the log is opened at
a moment when its last record is signed, and the keystore is copied: it has every key of every record that the
transaction sees, and no key that a record in it says is destroyed and was. The log itself is copied from that
transaction, however long it takes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.audit import store
from appliance.audit.administration import LOCK_FILE as ERASURE_LOCK
from appliance.audit.header import epoch_of
from appliance.audit.keystore import public_material
from appliance.audit.lock import try_lock
from appliance.audit.signer_memory import SignedHead, SignerMemory, read_signed_head
from appliance.audit.tiles import StoredTree, root_of
from appliance.config import Home
from appliance.errors import AuditLogInvalid, Conflict, HomeError, HomeFull, HomeInUse
from appliance.service.backup.archive import Member
from appliance.service.home import home_error
from appliance.specialists.base_model import MINILM
from appliance.storage.copying import copy_database
from appliance.storage.database import Connection, Engine, open_database, reading

STAGING = "backup"
_SIGNED_TRIES = 400
_SIGNED_POLL_S = 0.002
_ERASURE_WAIT_S = 60.0
_ERASURE_POLL_S = 0.02
_OVERWRITE_BYTES = 1024 * 1024
_LEFT_FREE_BYTES = 256 * 1024 * 1024  # to everybody else


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is to be written. `note`: the newest signed head that was seen; `records`: in the copy of the log."""

    members: tuple[Member, ...]
    origin: str
    note: str
    records: int


@contextmanager
def staged(home: Home, name: str = STAGING) -> Iterator[Path]:
    """A folder for copies below `run/`, alone for one process at a time; nothing of it is left, also of a crash."""
    folder = home.runtime / name
    try:
        descriptor = os.open(home.runtime / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise home_error(home, error) from None
    try:
        if not try_lock(descriptor):
            raise Conflict("another backup or drill goes on", hint="wait until it has ended")
        wipe(folder)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            wipe(folder)
    finally:
        os.close(descriptor)


def take_snapshot(home: Home, folder: Path) -> Snapshot:
    """Copy what changes into `folder` and name what does not. Raises a `HomeError`; the disk is never filled."""
    _require_room(home)
    origin = public_material(home).origin
    copies = {"db/appliance.db": folder / "appliance.db", "keys/keystore.db": folder / "keystore.db"}
    _copy(home.database, copies["db/appliance.db"])
    log = open_database(home.audit_database, mode="ro", connections=1)
    try:
        with _no_destruction(home) as allow_again, _signed_moment(log, home, origin) as (connection, signed, newest):
            _copy(home.keystore, copies["keys/keystore.db"])
            allow_again()
            head = store.read_head(connection)
            assert head is not None, "an opened log has a head"
            copies["audit/log.db"] = folder / "log.db"
            copy_database(connection, copies["audit/log.db"])
    finally:
        log.dispose()
    copies["audit/signer.json"] = folder / "signer.json"
    SignerMemory(copies["audit/signer.json"], origin, signed).close()
    copies |= _earlier_epochs(home, origin, folder)
    members = [Member(path, source) for path, source in copies.items()]
    return Snapshot((*_settings(home), *members, *_unchanging(home)), origin, newest.note, head.size)


def copy_data(home: Home, folder: Path) -> None:
    """Databases and specialists of a data folder, of whichever release, as a data folder of their own in `folder`.

    The signer's memory first, then accounts, log and keystore: what was signed is in the copy of the log, and what
    opens it in that of the keystore.
    """
    _require_room(home)
    copy = Home(folder)
    for place in copy.folders():
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for source, target in ((home.marker, copy.marker), (home.signer_state, copy.signer_state)):
        if source.exists():
            shutil.copyfile(source, target)
    for source, target in (
        (home.database, copy.database),
        (home.audit_database, copy.audit_database),
        (home.keystore, copy.keystore),
    ):
        _copy(source, target)
    for specialist in sorted(home.specialists.glob("*.gguf")):
        os.link(specialist, copy.specialists / specialist.name)


def wipe(folder: Path) -> None:
    """Remove a folder of copies; keys in it are overwritten first, so that a key destroyed later is not left here."""
    for path in sorted(folder.rglob("*keystore.db*")) if folder.is_dir() else ():
        with path.open("r+b") as file:
            left = os.fstat(file.fileno()).st_size
            while left > 0:
                left -= file.write(bytes(min(left, _OVERWRITE_BYTES)))
            file.flush()
            os.fsync(file.fileno())
    if folder.is_dir():
        shutil.rmtree(folder)


@contextmanager
def _signed_moment(log: Engine, home: Home, origin: str) -> Iterator[tuple[Connection, SignedHead, SignedHead]]:
    """A transaction on the log, what of it is signed, and the newest signed head.

    A log in use is one signature behind its last batch for a moment after each; another moment is taken then. Where
    none comes, the signature in the log itself is taken, and what is behind it counts as lost at a restore.
    """
    for attempt in range(_SIGNED_TRIES):
        with reading(log) as connection:
            head = store.read_head(connection)
            newest = read_signed_head(home.signer_state, origin)
            if head is None or newest is None:
                raise AuditLogInvalid("the log has no signed checkpoint yet", hint="start the server once")
            if newest.size == head.size:
                yield connection, newest, newest
                return
            if attempt == _SIGNED_TRIES - 1:
                stored = _stored_head(connection)
                yield connection, stored, newest
                return
        time.sleep(_SIGNED_POLL_S)


def _stored_head(connection: Connection) -> SignedHead:
    """The head that the database itself has a signature of."""
    head = store.read_head(connection)
    if head is None or not head.note:
        raise AuditLogInvalid("the log has no signed checkpoint yet", hint="start the server once")
    return SignedHead(head.signed_size, root_of(head.signed_size, StoredTree(connection).node), head.note)


@contextmanager
def _no_destruction(home: Home) -> Iterator[Callable[[], None]]:
    """Nobody destroys keys until the yielded function is called or the block ends. Raises `HomeInUse`."""
    descriptor = os.open(home.runtime / ERASURE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for_lock(descriptor)
        yield lambda: fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int) -> None:
    """Whoever destroys keys is waited for, but not for ever."""
    given_up = time.monotonic() + _ERASURE_WAIT_S
    while not try_lock(descriptor):
        if time.monotonic() >= given_up:
            raise HomeInUse(
                "keys are being destroyed, and a backup must not hold one of them",
                hint="make the backup again when that has ended",
            )
        time.sleep(_ERASURE_POLL_S)


def _copy(source: Path, target: Path) -> None:
    engine = open_database(source, mode="ro", connections=1)
    try:
        with reading(engine) as connection:
            copy_database(connection, target)
    finally:
        engine.dispose()


def _earlier_epochs(home: Home, origin: str, folder: Path) -> dict[str, Path]:
    """Logs that a declared loss closed: nobody writes to them any more."""
    found: dict[str, Path] = {}
    for number in range(1, epoch_of(origin)):
        place = home.audit_database.parent / f"e{number}"
        if not (place / home.audit_database.name).exists():
            continue
        (folder / place.name).mkdir(mode=0o700)
        found[f"audit/{place.name}/log.db"] = folder / place.name / "log.db"
        try:
            _copy(place / home.audit_database.name, found[f"audit/{place.name}/log.db"])
        except HomeError:
            # It was given up because it is damaged; as it is, it may still be evidence.
            found[f"audit/{place.name}/log.db"] = place / home.audit_database.name
        if (place / home.signer_state.name).exists():
            found[f"audit/{place.name}/signer.json"] = place / home.signer_state.name
    return found


def _settings(home: Home) -> list[Member]:
    files = [home.marker, home.config_file]
    return [Member(path.relative_to(home.root).as_posix(), path) for path in files if path.exists()]


def _unchanging(home: Home) -> list[Member]:
    """Files that are named by their hash or written once. Models that write are left out: they are large and public."""
    files = [*sorted(home.specialists.glob("*.gguf")), *sorted((home.models / MINILM.folder).iterdir())]
    files += sorted(home.tls.iterdir()) if home.tls.is_dir() else []
    return [Member(path.relative_to(home.root).as_posix(), path) for path in files if path.is_file()]


def _require_room(home: Home) -> None:
    databases = [home.database, home.keystore, *home.audit_database.parent.rglob(home.audit_database.name)]
    needed = sum(path.stat().st_size for path in databases) + _LEFT_FREE_BYTES
    free = shutil.disk_usage(home.runtime).free
    if free < needed:
        raise HomeFull(
            f"a backup needs {needed // 2**20} MiB free on the disk of {home.root} for a moment; {free // 2**20} are",
            hint="free some space, then make the backup again",
        )
