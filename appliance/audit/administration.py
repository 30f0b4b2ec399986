"""Holds, retention, destruction, rotation and cursors, as asked by this process and read from the log.

    administration = Administration(keystore, reader, client, settings, home)
    certificate = await administration.shred("case 17", "request", "user:3")

How a destruction goes: the sequencer looks for holds and records the announcement, durably; then, and only then, the
keys go, here; then the sequencer is told and deletes the ciphertexts between its batches. Each part can be repeated, so
that what a crash cut off is taken up again by `finish_erasures`, in any process. `AuditLog` in `log.py` is the face.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.audit import control, derived
from appliance.audit.backups import Backup, backups_sentence, last_expiry, read_backups, that_may_hold
from appliance.audit.client import KeyRetired, SequencerClient, SequencerGone, receipt_of
from appliance.audit.derived import ErasureRow, OutboxRow
from appliance.audit.epochs import list_epochs
from appliance.audit.keystore import INDEX_CLASS, Keystore
from appliance.audit.lock import try_lock
from appliance.audit.operations import ID_BYTES, announced, place_of
from appliance.audit.protocol import Administration as Request
from appliance.audit.protocol import (
    BackupMade,
    Committed,
    Entry,
    KeepCosigned,
    KeysDestroyed,
    MoveCursor,
    Purge,
    ReleaseHold,
    RotateSigningKey,
    SetHold,
    SetRetention,
    Shred,
)
from appliance.audit.reader import LogReader
from appliance.audit.record import month_of, subject_owner
from appliance.config import AuditConfig, Home
from appliance.errors import AuditUnavailable, Conflict, NotFound
from appliance.storage.database import Connection
from appliance.storage.key_rows import ScopeKeyInfo
from appliance.types import Receipt

LOCK_FILE = "erasure.lock"
_LISTED_MAX = 10_000
_TRIES = 20
_POLL_S = 0.02
_WAIT_S = 30.0  # for the deletion of ciphertexts, which goes on by itself if it takes longer


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """What must not be destroyed. `hold_id`: 8 random bytes; `subjects` as callers name them; `reason`: a code."""

    hold_id: bytes
    subjects: tuple[str, ...]
    classes: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold as the log tells it. `subjects` (keyed hashes) and `scopes` are hex; released: `released_seq` is set."""

    hold_id: str
    reason: str
    subjects: tuple[str, ...]
    classes: tuple[int, ...]
    scopes: tuple[str, ...]
    set_seq: int
    set_time: datetime
    released_seq: int | None = None
    released_time: datetime | None = None
    approvals: str = ""


@dataclass(frozen=True, slots=True)
class ErasureView:
    """A destruction. `erased`: records whose ciphertexts are gone so far; `time`: of its announcement."""

    seq: int
    kind: str  # purge or shred
    erased: int
    done: bool
    time: datetime


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was destroyed, under which record of the log, and how final that is.

    `backups`: recorded ones that may still hold the keys; `backups_expire`: when the last of them is gone, None where
    there is none, or one without an end (`statement` names it).
    """

    record_id: str
    seq: int
    grade: str
    scopes: int
    records: int
    destroyed_time: datetime
    backups: int
    backups_expire: datetime | None
    statement: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sink is: the first record it was not sent, and the newest checkpoint that it acknowledged."""

    next_seq: int
    anchored_size: int
    anchored_ms: int


class Administration:
    """See the module. Writes from one event loop, reads from any thread."""

    def __init__(
        self, keystore: Keystore, reader: LogReader, client: SequencerClient, settings: AuditConfig, home: Home
    ) -> None:
        self._keystore = keystore
        self._reader = reader
        self._client = client
        self._settings = settings
        self._home = home
        self._lock_path = home.runtime / LOCK_FILE
        self._lock = asyncio.Lock()

    # --- holds and retention

    async def set_hold(self, hold: HoldRequest) -> Receipt:
        """Raises `Conflict` for an id in use, `InvalidRequest` for a hold that covers nothing."""
        for _ in range(_TRIES):
            owners = [self._keystore.owner_id(subject_owner(subject)) for subject in hold.subjects]
            scopes = [
                key.scope_id
                for owner in owners
                for key in await asyncio.to_thread(self._keystore.scopes_of_owner, owner)
            ]
            request = SetHold(0, hold.hold_id, tuple(scopes), tuple(owners), hold.classes, hold.reason)
            try:
                return await self._recorded(request)
            except Conflict:
                if hold.hold_id in await asyncio.to_thread(self._hold_ids):
                    raise
                # Keys are being destroyed: a hold that began now would come too late for them.
                await self.finish_erasures()
        raise Conflict("keys are being destroyed at this moment", hint="set the hold again in a moment")

    async def release_hold(self, hold_id: bytes, approvals: str) -> Receipt:
        """Raises `NotFound` for a hold that never was, `Conflict` for one that was released."""
        return await self._recorded(ReleaseHold(0, hold_id, approvals))

    async def set_retention(self, record_class: int, months: int) -> Receipt:
        """Raises `RetentionShortened`."""
        return await self._recorded(SetRetention(0, record_class, months))

    def holds(self) -> list[HoldView]:
        """Every hold, newest first."""
        with self._reader.snapshot() as connection:
            return [self._hold(connection, row) for row in derived.read_holds(connection, _LISTED_MAX)]

    def retention(self) -> dict[int, int]:
        """Months for each class that has a rule."""
        with self._reader.snapshot() as connection:
            return derived.read_retention(connection)

    def expired(self, now: datetime) -> list[tuple[int, int]]:
        """Classes and months whose time is over and whose keys are still there, oldest first."""
        rules, this_month = self.retention(), month_of(int(now.timestamp() * 1000))
        over = [
            (record_class, month)
            for record_class, month in self._keystore.months()
            if record_class in rules and month + rules[record_class] < this_month
        ]
        return sorted(over, key=lambda place: (place[1], place[0]))

    # --- destruction

    async def shred(self, subject: str, reason: str, approvals: str) -> Certificate:
        """Destroy the contents about `subject`. Raises `UnderLegalHold`, or `NotFound` where no key is left."""
        owner = self._keystore.owner_id(subject_owner(subject))
        keys = await asyncio.to_thread(self._keystore.scopes_of_owner, owner)
        if not keys:
            raise NotFound("the log has no content about that subject", hint="check how the subject is written")
        request = Shred(
            0,
            tuple(key.scope_id for key in keys),
            tuple(sorted({key.record_class for key in keys})),
            (owner,),
            owner,
            "A" if self._keystore.grade == "A" else "B",
            reason,
            approvals,
        )
        return await self._destroy(request, keys)

    async def shred_scopes(
        self, scopes: Sequence[bytes], reason: str, approvals: str, *, about: Sequence[bytes] = ()
    ) -> Certificate:
        """Destroy contents by the ids of their keys; for what a purge may not touch as a whole.

        `about`: ids of keys of whom they are about, which stay, and whose holds count.
        """
        infos = await asyncio.to_thread(self._keystore.scopes, sorted(set(scopes)))
        if not infos:
            raise NotFound("none of these keys is in the keystore")
        subjects = await asyncio.to_thread(self._keystore.scopes, sorted(set(about)))
        request = Shred(
            0,
            tuple(key.scope_id for key in infos),
            tuple(sorted({key.record_class for key in infos})),
            tuple(sorted({key.owner for key in (*infos, *subjects) if key.owner})),
            b"",
            "A" if self._keystore.grade == "A" else "B",
            reason,
            approvals,
        )
        return await self._destroy(request, infos)

    async def purge(self, record_class: int, month: int, reason: str, approvals: str) -> Certificate:
        """Destroy everything sealed of one class and month. Raises `UnderLegalHold`, `NotFound`."""
        keys = await asyncio.to_thread(self._keystore.scopes_of, record_class, month)
        if not keys:
            raise NotFound("the log has no keys of that class and month", hint="it was purged, or nothing was recorded")
        owners = tuple(sorted({key.owner for key in keys if key.owner}))
        ids = tuple(key.scope_id for key in keys)
        return await self._destroy(Purge(0, record_class, month, "all", ids, owners, reason, approvals), keys)

    def unheld_scopes(self, record_class: int, month: int) -> list[bytes]:
        """Keys for contents of one class and month that no active hold covers."""
        infos = [key for key in self._keystore.scopes_of(record_class, month) if key.kind == "con"]
        with self._reader.snapshot() as connection:
            return [
                key.scope_id
                for key in infos
                if derived.touching_hold(
                    connection, scopes=[key.scope_id], subjects=[key.owner], classes=[record_class]
                )
                is None
            ]

    def erasures(self) -> list[ErasureView]:
        """Every destruction that was announced, newest first."""
        with self._reader.snapshot() as connection:
            return [
                ErasureView(
                    row.seq,
                    str(announced(connection, row.seq)["event"]),
                    row.erased,
                    row.done_seq is not None,
                    self._reader.time_of(connection, row.seq),
                )
                for row in derived.read_erasures(connection, _LISTED_MAX)
            ]

    async def finish_erasures(self) -> int:
        """Destroy the keys of every destruction that was announced and not carried out; how many there were."""
        async with self._alone():
            pending = await asyncio.to_thread(self._pending)
            for row, said in pending:
                keys = await asyncio.to_thread(self._destroy_keys, said)
                await self.ask(KeysDestroyed(0, row.seq, tuple(keys)))
        return len(pending)

    # --- keys, backups, sinks

    async def rotate_signing_key(self, reason: str) -> Receipt:
        """A new key signs; the one before signs too for `audit.signing_overlap_s`, unless `reason` is `compromised`."""
        await asyncio.to_thread(self._keystore.rotate_signing_key, self._settings.signing_overlap_s)
        seed = await asyncio.to_thread(self._keystore.signing_seed)  # may wait for who has the file
        receipt = await self._recorded(RotateSigningKey(0, seed, reason))
        if reason == "compromised":
            await asyncio.to_thread(self._keystore.distrust_signing_keys)
        return receipt

    async def backup_made(self, target: str, size: int, expires: datetime | None) -> Receipt:
        """Record that a copy of the keystore and the first `size` records exists, until `expires` (None: for ever)."""
        expires_ms = 0 if expires is None else int(expires.timestamp() * 1000)
        return await self._recorded(BackupMade(0, target, size, expires_ms))

    async def keep_cosigned(self, note: str) -> None:
        """Keep a checkpoint with the signatures of witnesses. Raises `InvalidRequest` if it is not one of ours."""
        await self.ask(KeepCosigned(0, note))

    async def move_cursor(self, sink: str, next_seq: int, anchored_size: int, anchored_ms: int) -> None:
        """Remember how far a sink is."""
        await self.ask(MoveCursor(0, sink, next_seq, anchored_size, anchored_ms))

    def cursors(self) -> dict[str, Cursor]:
        """How far every sink is."""
        with self._reader.snapshot() as connection:
            rows: list[OutboxRow] = derived.read_cursors(connection)
        return {row.sink: Cursor(row.next_seq, row.anchored_size, row.anchored_ms) for row in rows}

    async def ask(self, request: Request) -> tuple[Entry, Committed] | None:
        """One request to the sequencer, within `audit.append_s`. Raises what it refuses with, or `AuditUnavailable`."""
        progress = self._client.progress
        try:
            async with asyncio.timeout(self._settings.append_s):
                return await self._client.ask(request)
        except (TimeoutError, SequencerGone, KeyRetired) as error:
            if isinstance(error, TimeoutError):
                self._client.abandon_sequencer(progress)
            raise AuditUnavailable(
                "the audit log did not answer; what was asked may have happened", hint="look, then ask again"
            ) from None

    # --- inside

    async def _recorded(self, request: Request) -> Receipt:
        answered = await self.ask(request)
        if answered is None:
            raise AuditUnavailable("the audit log answered without a record")
        entry, committed = answered
        return receipt_of(entry, committed)

    async def _destroy(self, request: Purge | Shred, keys: Sequence[ScopeKeyInfo]) -> Certificate:
        oldest = min(key.month for key in keys)
        holding = await asyncio.to_thread(self._backups_since, oldest, datetime.now(UTC))
        receipt = await self._recorded(request)
        await self.finish_erasures()
        destroyed_time = datetime.now(UTC)
        row = await self._deleted(receipt.seq)
        grade = request.grade if isinstance(request, Shred) else self._keystore.grade
        return Certificate(
            receipt.record_id.hex(),
            receipt.seq,
            grade,
            len(keys),
            row.erased,
            destroyed_time,
            len(holding),
            last_expiry(holding),
            _statement(grade, len(keys), row, holding),
        )

    def _backups_since(self, month: int, now: datetime) -> list[Backup]:
        """Backups that may hold a key of this month or later, of this log and of those that it continues."""
        known = read_backups(self._reader)
        for epoch in list_epochs(self._home, self._keystore)[1:]:
            earlier = LogReader(self._home, self._keystore, epoch.number)
            try:
                known += read_backups(earlier)
            finally:
                earlier.close()
        return that_may_hold(known, month, now)

    async def _deleted(self, seq: int) -> ErasureRow:
        """Wait until the ciphertexts are gone, or for a while."""
        waited = 0.0
        while True:
            row = await asyncio.to_thread(self._erasure, seq)
            if row.done_seq is not None or waited >= _WAIT_S:
                return row
            await asyncio.sleep(_POLL_S)
            waited += _POLL_S

    def _destroy_keys(self, said: dict[str, control.Value]) -> list[bytes]:
        """Destroy what the record announced; the ids of those keys."""
        if said["event"] == "shred":
            keys = control.parse_ids(str(said["scopes"]), ID_BYTES)
            self._keystore.destroy(keys)
            return keys
        record_class, month = place_of(said)
        infos = self._keystore.scopes_of(record_class, month)
        keys = [key.scope_id for key in infos if said["parts"] == "all" or key.kind == "con"]
        others = {place for place in self._keystore.months() if place[1] == month} - {(record_class, month)}
        index = [] if others else [key.scope_id for key in self._keystore.scopes_of(INDEX_CLASS, month)]
        self._keystore.destroy([*keys, *index])
        return keys

    def _pending(self) -> list[tuple[ErasureRow, dict[str, control.Value]]]:
        with self._reader.snapshot() as connection:
            rows = derived.read_erasures(connection, _LISTED_MAX, unfinished=True)
            return [(row, announced(connection, row.seq)) for row in rows if not row.keys_destroyed]

    def _erasure(self, seq: int) -> ErasureRow:
        with self._reader.snapshot() as connection:
            row = derived.read_erasure(connection, seq)
        assert row is not None, "the sequencer recorded it"
        return row

    def _hold_ids(self) -> set[bytes]:
        with self._reader.snapshot() as connection:
            return {row.hold_id for row in derived.read_holds(connection, _LISTED_MAX)}

    def _hold(self, connection: Connection, row: derived.HoldRow) -> HoldView:
        said = announced(connection, row.set_seq)
        released = None if row.released_seq is None else announced(connection, row.released_seq)
        return HoldView(
            hold_id=row.hold_id.hex(),
            reason=str(said["reason"]),
            subjects=_listed(said["subjects"]),
            classes=tuple(int(number) for number in _listed(said["classes"])),
            scopes=_listed(said["scopes"]),
            set_seq=row.set_seq,
            set_time=self._reader.time_of(connection, row.set_seq),
            released_seq=row.released_seq,
            released_time=None if row.released_seq is None else self._reader.time_of(connection, row.released_seq),
            approvals="" if released is None else str(released["approvals"]),
        )

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One process, and one task in it, destroys keys at a time: what is announced is looked at again inside."""
        async with self._lock:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # Asked for again and again: a thread that waits in the kernel could not be called off, and whoever
                # gave up would wait for it at the end all the same.
                while not try_lock(descriptor):
                    await asyncio.sleep(_POLL_S)
                yield
            finally:
                os.close(descriptor)


def _listed(value: control.Value) -> tuple[str, ...]:
    return tuple(str(value).split(",")) if value else ()


def _statement(grade: str, scopes: int, row: ErasureRow, holding: Sequence[Backup]) -> str:
    """What may be said honestly, for the person who asked."""
    gone = f"The ciphertexts of {row.erased} records were deleted"
    left = "." if row.done_seq is not None else " so far; the deletion goes on."
    if grade == "A":
        how = "They were protected by hardware that has destroyed what opens older copies of the keystore."
    else:
        how = (
            "Grade B: the keys were overwritten in the keystore of this machine, and a disk may keep traces that no "
            f"program reaches. {backups_sentence(holding)}"
        )
    return f"{scopes} keys were destroyed. {gone}{left} {how} The records' headers stay, and every proof still holds."
