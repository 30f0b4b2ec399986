"""The audit log as the rest of the appliance sees it.

    log = await AuditLog.open(config, root_key)
    receipt = await log.append(event)            # durable and signed when it returns
    await log.close()

What a caller may rely on:

- when `append` returns, the record is on stable storage under the checkpoint of its receipt: what it covers MAY be
  released;
- when it raises `AuditUnavailable`, nothing MAY be released. The record is then either absent or present, wholly;
  `resolve(record_id)` says which, and appending the same event again records it once;
- an append takes at most `audit.append_s`, whatever happens to the sequencer or the disk;
- nothing is ever written by a read, and a read never waits for a write;
- a log in quarantine (`quarantine.py`) is read and not written: appends raise `AuditQuarantined`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path

from appliance.audit.administration import (
    Administration,
    Certificate,
    Cursor,
    ErasureView,
    HoldRequest,
    HoldView,
)
from appliance.audit.client import KeyRetired, SequencerClient, SequencerGone, receipt_of
from appliance.audit.clock import read_boot_id, read_clock
from appliance.audit.conversations import Conversations
from appliance.audit.epochs import EpochView, list_epochs
from appliance.audit.export import ExportSummary, export_bundle, export_epochs, export_tiles
from appliance.audit.header import epoch_of
from appliance.audit.keystore import Keystore, open_keystore
from appliance.audit.protocol import SealedRecord
from appliance.audit.quarantine import HINT as QUARANTINE_HINT
from appliance.audit.quarantine import Quarantine, enter_quarantine, read_quarantine
from appliance.audit.reader import LogReader, RecordView, ViewKind
from appliance.audit.record import Moment, RecordClass, SealingKeys, keys_for, owner_of, place_of, seal
from appliance.audit.search import (
    ActivityBucket,
    SearchProgress,
    SearchQuery,
    SearchStep,
    activity,
    find_records,
    search,
)
from appliance.audit.start import start_message as _start
from appliance.config import Config, ConversationsConfig
from appliance.errors import AuditPaused, AuditQuarantined, AuditUnavailable, InputTooLong
from appliance.storage.database import Engine
from appliance.types import AuditEvent, Receipt

__all__ = [
    "ActivityBucket",
    "AuditLog",
    "Certificate",
    "Cursor",
    "EpochView",
    "ErasureView",
    "ExportSummary",
    "HoldRequest",
    "HoldView",
    "RecordView",
    "SearchProgress",
    "SearchQuery",
    "SearchStep",
    "ViewKind",
]

# Sealing is a fraction of a millisecond up to here; larger contents would hold up every other request.
_SEALED_INLINE_BYTES_MAX = 64 * 1024
_KEYS_MAX = 1024
_KEY_TRIES = 4
_Place = tuple[RecordClass, int, str, bool]  # class, month, owner, with content: what a set of keys is for


class AuditLog:
    """See the module; made by `open`. Appends from one event loop, reads from any thread."""

    def __init__(
        self,
        config: Config,
        keystore: Keystore,
        reader: LogReader,
        client: SequencerClient,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._home = config.home
        self._settings = config.audit
        self._keystore = keystore
        self._reader = reader
        self._client = client
        self._quarantine = quarantine
        self._administration = Administration(keystore, reader, client, config.audit, config.home)
        self._boot_id = read_boot_id()
        self._keys: dict[_Place, SealingKeys] = {}
        self._keys_wanted: dict[_Place, asyncio.Future[SealingKeys]] = {}
        self._keys_since = 0  # restart of the sequencer, which forgets what it was told of retired keys

    @classmethod
    async def open(cls, config: Config, root_key: bytes, *, spawn: bool = True) -> AuditLog:
        """Unlock the keys and reach the sequencer, starting it unless another process did. An empty log is begun.

        `spawn` False: only join a sequencer that runs. Raises `WrongKey`, `KeystoreInvalid`, `AuditLogInvalid`,
        `AuditUnavailable` or a `HomeError`; a wrong key writes nothing.
        """
        keystore = await asyncio.to_thread(open_keystore, config.home, root_key)
        reader = await asyncio.to_thread(LogReader, config.home, keystore)
        try:
            start = await asyncio.to_thread(_start, config, keystore)
            client = SequencerClient(config.audit, start, spawn=spawn, renew=lambda: _start(config, keystore))
            quarantine = await asyncio.to_thread(read_quarantine, config.home.audit_database.parent)
            if quarantine is None:
                await client.open()
        except BaseException:
            reader.close()
            raise
        return cls(config, keystore, reader, client, quarantine)

    async def close(self) -> None:
        """Record the stop, if the sequencer is ours, and let go of everything. What was appended stays appended."""
        # In this order: the last to close the database must be the sequencer, which may fold the write-ahead log in.
        self._reader.close()
        await self._client.close()

    @property
    def alive(self) -> bool:
        """Whether records can be appended now."""
        return self._quarantine is None and self._client.alive

    @property
    def client(self) -> SequencerClient:
        """The connection, for those who report its state."""
        return self._client

    @property
    def quarantine(self) -> str | None:
        """Why nothing is recorded any more, None where nothing forbids it."""
        return None if self._quarantine is None else self._quarantine.why

    async def enter_quarantine(self, why: str, note: str, *, cut: bool = False) -> None:
        """Stop recording for good: something outside contradicts this log. `note` is what was seen, as evidence.

        `cut`: it remembers a longer log.

        The sequencer ends, if it is ours, and none starts on this folder again; appends raise `AuditQuarantined`.
        """
        folder = self._home.audit_database.parent
        await asyncio.to_thread(lambda: enter_quarantine(folder, why, note, cut=cut))
        self._quarantine = await asyncio.to_thread(read_quarantine, folder)
        await self._client.close()

    async def append(self, event: AuditEvent) -> Receipt:
        """Record `event`. See the module for what may be relied on.

        Raises `AuditUnavailable` (`AuditPaused` while the disk is nearly full, unless the event is urgent),
        `AuditQuarantined`, or `InputTooLong`/`InputNotText` for what can never be recorded.
        """
        self._refuse_quarantined()
        progress = self._client.progress
        try:
            async with asyncio.timeout(self._settings.append_s):
                return await self._append_under_living_keys(event)
        except TimeoutError:
            # It may be stuck for ever. Killing it is safe: what was committed is found again by the next one.
            self._client.abandon_sequencer(progress)
            raise AuditUnavailable(
                f"the audit log did not answer within {self._settings.append_s:g} s",
                hint="look at the disk of the data folder; nothing was released",
            ) from None

    async def resolve(self, record_id: bytes) -> Receipt | None:
        """Whether a record is in the log, once the sequencer is up; None means that it never will be by itself."""
        await self._client.connected()
        return await asyncio.to_thread(self._reader.find_receipt, record_id)

    def require_space(self) -> None:
        """Raise `AuditPaused` when the disk is nearly full, before any work is done that could not be recorded."""
        folder = self._home.audit_database.parent
        disk = os.statvfs(folder)
        free = disk.f_bavail * disk.f_frsize
        if free < self._settings.disk_free_bytes_min:
            raise AuditPaused(
                f"the disk of the data folder is nearly full: {free // 2**20} MiB are left at {folder}, "
                f"{self._settings.disk_free_bytes_min // 2**20} MiB are needed",
                hint="free space on that disk; recording resumes by itself",
            )

    def require_recording(self) -> None:
        """Raise `AuditQuarantined` or `AuditPaused` where nothing can be recorded, before anything is started."""
        self._refuse_quarantined()
        self.require_space()

    # Holds, retention, destruction, keys, sinks: the whole of it is in `administration.py`.

    async def set_hold(self, hold: HoldRequest) -> Receipt:
        """Nothing that `hold` covers is destroyed until it is released. Raises `Conflict` for an id in use."""
        return await self._administration.set_hold(hold)

    async def release_hold(self, hold_id: bytes, approvals: str) -> Receipt:
        """End a hold; `approvals` names the two people. Raises `NotFound`, or `Conflict` if it is not active."""
        return await self._administration.release_hold(hold_id, approvals)

    def holds(self) -> list[HoldView]:
        """Every hold, newest first."""
        return self._administration.holds()

    async def set_retention(self, record_class: int, months: int) -> Receipt:
        """Keep records of a class that long. Raises `RetentionShortened`."""
        return await self._administration.set_retention(record_class, months)

    def retention(self) -> dict[int, int]:
        """Months for each class that has a rule."""
        return self._administration.retention()

    def expired(self, now: datetime) -> list[tuple[int, int]]:
        """(class, month) whose retention is over and whose keys are still there, oldest first."""
        return self._administration.expired(now)

    async def shred(self, subject: str, reason: str, approvals: str) -> Certificate:
        """Destroy the contents about `subject`, for ever. Raises `UnderLegalHold`, or `NotFound` if no key is left."""
        return await self._administration.shred(subject, reason, approvals)

    async def shred_scopes(
        self, scopes: Sequence[bytes], reason: str, approvals: str, *, about: Sequence[bytes] = ()
    ) -> Certificate:
        """The same for contents named by the ids of their keys. `about`: keys that stay and whose holds count."""
        return await self._administration.shred_scopes(scopes, reason, approvals, about=about)

    def file_key(self, label: bytes) -> bytes:
        """The key of a sealed file of the data folder; see `Keystore.file_key`."""
        return self._keystore.file_key(label)

    def conversations(self, engine: Engine, limits: ConversationsConfig) -> Conversations:
        """The conversations in the database of `engine`, under keys of this log's keystore."""
        return Conversations(engine, self._keystore, limits)

    async def purge(self, record_class: int, month: int, reason: str, approvals: str) -> Certificate:
        """Destroy what is sealed of one class and month. Raises `UnderLegalHold`, `NotFound`."""
        return await self._administration.purge(record_class, month, reason, approvals)

    def unheld_scopes(self, record_class: int, month: int) -> list[bytes]:
        """Keys of contents of one class and month that no hold covers, for `shred_scopes`."""
        return self._administration.unheld_scopes(record_class, month)

    async def finish_erasures(self) -> int:
        """Carry out what was announced to be destroyed and was cut off; how many. At every start of a server."""
        return await self._administration.finish_erasures()

    def erasures(self) -> list[ErasureView]:
        """Every announced destruction, newest first."""
        return self._administration.erasures()

    async def rotate_signing_key(self, reason: str) -> Receipt:
        """Sign with a new key; `compromised` stops the old one at once. What was signed stays as it is."""
        return await self._administration.rotate_signing_key(reason)

    async def backup_made(self, target: str, size: int, expires: datetime | None) -> Receipt:
        """Record that a copy of the keystore and the first `size` records exists; `target` is a label.

        `expires`: when it is deleted at the latest, None if nobody promises that. Certificates of destruction state it.
        """
        return await self._administration.backup_made(target, size, expires)

    async def keep_cosigned(self, note: str) -> None:
        """Keep a checkpoint that witnesses signed. Raises `InvalidRequest`."""
        await self._administration.keep_cosigned(note)

    async def move_cursor(self, sink: str, next_seq: int, anchored_size: int, anchored_ms: int) -> None:
        """Remember how far a sink outside is."""
        await self._administration.move_cursor(sink, next_seq, anchored_size, anchored_ms)

    def cursors(self) -> dict[str, Cursor]:
        """How far every sink is."""
        return self._administration.cursors()

    # Reads are synchronous and take milliseconds to minutes: call them through `asyncio.to_thread`. `epoch` is the
    # number of a log that a declared loss closed (`epochs`), None the one that goes on.

    def records(
        self,
        after_seq: int | None = None,
        limit: int = 50,
        actors: Collection[str] | None = None,
        event: str | None = None,
        *,
        kind: ViewKind | None = None,
        epoch: int | None = None,
    ) -> list[RecordView]:
        """A page of records, newest first; `after_seq` is the last number of the page before."""
        with self._reading(epoch) as reader:
            if actors is None and event is None:
                return reader.records(after_seq, limit, kind=kind)
            found = find_records(
                reader, self._keystore, actors, event, after=after_seq, scanned_max=self._settings.scanned_max
            )
            return list(islice((view for view in found if kind in (None, view.kind)), limit))

    def search(self, query: SearchQuery, *, epoch: int | None = None) -> Iterator[SearchStep]:
        """Hits, newest first, and progress between them; the last step is a `SearchProgress` that is `done`."""
        with self._reading(epoch) as reader:
            yield from search(reader, self._keystore, query, scanned_max=self._settings.scanned_max)

    def activity(self, from_ms: int, to_ms: int, buckets: int, *, epoch: int | None = None) -> list[ActivityBucket]:
        """How much was recorded when (milliseconds UTC), by headers alone."""
        with self._reading(epoch) as reader:
            return activity(reader, from_ms, to_ms, buckets)

    def read_page(self, first_seq: int, limit: int, *, epoch: int | None = None) -> list[tuple[bytes, RecordView]]:
        """Headers and records from `first_seq` upwards, as far as they are signed; for exports and sinks."""
        with self._reading(epoch) as reader:
            return reader.page(first_seq, limit)

    def epochs(self) -> list[EpochView]:
        """This log and those before it, newest first."""
        return list_epochs(self._home, self._keystore)

    def record(self, record_id: bytes, *, epoch: int | None = None) -> RecordView:
        """One record. Raises `RecordNotFound`."""
        with self._reading(epoch) as reader:
            return reader.record(record_id)

    def content(self, record_id: bytes, *, epoch: int | None = None) -> bytes | None:
        """What was typed or answered, if the record has it. Raises `RecordNotFound`, `DecryptionFailed`."""
        with self._reading(epoch) as reader:
            return reader.content(record_id)

    def receipt(self, record_id: bytes, *, epoch: int | None = None) -> Receipt:
        """The receipt of any record, under the newest checkpoint. Raises `RecordNotFound`."""
        with self._reading(epoch) as reader:
            return reader.receipt(record_id)

    def proof_text(self, record_id: bytes, *, epoch: int | None = None) -> str:
        """The receipt as a file that verifies offline (C2SP tlog-proof). Raises `RecordNotFound`."""
        with self._reading(epoch) as reader:
            return reader.proof_text(record_id)

    def checkpoint(self, *, epoch: int | None = None) -> str:
        """The newest signed checkpoint. A copy kept elsewhere shows later whether the log was cut."""
        with self._reading(epoch) as reader:
            return reader.checkpoint()

    def verifier_key(self, *, epoch: int | None = None) -> str:
        """The public key as `auditverify --pub` takes it."""
        with self._reading(epoch) as reader:
            return reader.verifier_key

    def export(self, target: Path, *, ciphertexts: bool = False, epoch: int | None = None) -> ExportSummary:
        """Write a bundle for `auditverify` to `target`: a folder, or a zip file where the name ends in `.zip`."""
        with self._reading(epoch) as reader:
            return export_bundle(reader, target, ciphertexts=ciphertexts)

    def export_epochs(self, target: Path, *, ciphertexts: bool = False) -> tuple[ExportSummary, ...]:
        """Write a bundle of this log and of each one before it, oldest first, below `e1/`, `e2/`, …; as `export`.

        Raises a `HomeError` or `NotFound` where one of them cannot be read: none is left out in silence.
        """
        with ExitStack() as opened:
            numbers = [epoch_of(origin) for origin in self._keystore.origin_history()]
            readers = [opened.enter_context(self._reading(number)) for number in numbers]
            return export_epochs(readers, target, ciphertexts=ciphertexts)

    def export_tiles(self, target: Path, *, epoch: int | None = None) -> ExportSummary:
        """Write the tree alone, as a static C2SP tlog-tiles log: a folder, or a zip file by its name."""
        with self._reading(epoch) as reader:
            return export_tiles(reader, target)

    def _refuse_quarantined(self) -> None:
        if self._quarantine is not None:
            raise AuditQuarantined(f"the audit log is quarantined: {self._quarantine.why}", hint=QUARANTINE_HINT)

    @contextmanager
    def _reading(self, epoch: int | None) -> Iterator[LogReader]:
        if epoch is None:
            yield self._reader
            return
        reader = LogReader(self._home, self._keystore, epoch)
        try:
            yield reader
        finally:
            reader.close()

    async def _append_under_living_keys(self, event: AuditEvent) -> Receipt:
        """Seal and append; again under another key when the first one was destroyed meanwhile."""
        for _ in range(_KEY_TRIES):
            try:
                return await self._append_once(await self._seal(event))
            except KeyRetired:
                await self._administration.finish_erasures()
                self._forget_keys()
        raise AuditUnavailable("the keys for this record are being destroyed", hint="try again in a moment")

    async def _seal(self, event: AuditEvent) -> SealedRecord:
        size, size_max = len(event.content or b""), self._settings.record_bytes_max
        if size > size_max:
            raise InputTooLong(
                f"the content of this record has {size} bytes; at most {size_max} are recorded",
                hint="send a shorter text",
            )
        moment = Moment(read_clock(), self._boot_id)
        place = (*place_of(event, moment), owner_of(event), event.content is not None)
        if self._keys_since != self._client.restarts or len(self._keys) >= _KEYS_MAX:
            self._forget_keys()
            self._keys_since = self._client.restarts
        keys = self._keys.get(place) or await self._find_keys(place, event, moment)
        if size <= _SEALED_INLINE_BYTES_MAX:
            return seal(event, keys, moment)
        return await asyncio.to_thread(seal, event, keys, moment)

    async def _find_keys(self, place: _Place, event: AuditEvent, moment: Moment) -> SealingKeys:
        """Asked for once however many wait: they go on in one turn of the loop and become one batch."""
        wanted = self._keys_wanted.get(place)
        if wanted is None:
            finding = asyncio.to_thread(keys_for, self._keystore, event, moment, index=self._settings.index)
            wanted = self._keys_wanted[place] = asyncio.ensure_future(finding)
            wanted.add_done_callback(lambda found: self._keys_found(place, found))
        return await asyncio.shield(wanted)  # one who gives up leaves the others their keys

    def _keys_found(self, place: _Place, found: asyncio.Future[SealingKeys]) -> None:
        if self._keys_wanted.get(place) is found:
            del self._keys_wanted[place]
            if not found.cancelled() and found.exception() is None:
                self._keys[place] = found.result()
        # Otherwise they were forgotten meanwhile: a key among them may have been destroyed.

    def _forget_keys(self) -> None:
        self._keys.clear()
        self._keys_wanted.clear()

    async def _append_once(self, record: SealedRecord) -> Receipt:
        """Append without ever sending twice: after a crash the log is asked, and what is not there is not there."""
        try:
            entry, committed = await self._client.append(record)
        except SequencerGone:
            receipt = await self.resolve(record.record_id)
            if receipt is None:
                raise AuditUnavailable(
                    "the audit log was interrupted before this was recorded", hint="try again; nothing was released"
                ) from None
            return receipt
        return receipt_of(entry, committed)
