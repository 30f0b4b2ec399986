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
- nothing is ever written by a read, and a read never waits for a write.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

from appliance import __version__
from appliance.audit.client import SequencerClient, SequencerGone
from appliance.audit.clock import read_boot_id, read_clock
from appliance.audit.export import ExportSummary, export_bundle
from appliance.audit.keystore import Keystore, open_keystore
from appliance.audit.protocol import FRAME_OVERHEAD_BYTES, SealedRecord, Start
from appliance.audit.reader import LogReader, RecordView, ViewKind
from appliance.audit.record import Moment, RecordClass, SealingKeys, keys_for, place_of, seal
from appliance.config import Config
from appliance.errors import AuditUnavailable, InputTooLong
from appliance.types import AuditEvent, Receipt

__all__ = ["AuditLog", "ExportSummary", "RecordView", "ViewKind"]

# Sealing is a fraction of a millisecond up to here; larger contents would hold up every other request.
_SEALED_INLINE_BYTES_MAX = 64 * 1024
_KEYS_MAX = 1024


class AuditLog:
    """See the module; made by `open`. Appends from one event loop, reads from any thread."""

    def __init__(self, config: Config, keystore: Keystore, reader: LogReader, client: SequencerClient) -> None:
        self._home = config.home
        self._settings = config.audit
        self._keystore = keystore
        self._reader = reader
        self._client = client
        self._boot_id = read_boot_id()
        self._keys: dict[tuple[RecordClass, int, str, bool], SealingKeys] = {}

    @classmethod
    async def open(cls, config: Config, root_key: bytes, *, spawn: bool = True) -> AuditLog:
        """Unlock the keys and reach the sequencer, starting it unless another process did. An empty log is begun.

        `spawn` False: only join a sequencer that runs. Raises `WrongKey`, `KeystoreInvalid`, `AuditLogInvalid`,
        `AuditUnavailable` or a `HomeError`; a wrong key writes nothing.
        """
        keystore = await asyncio.to_thread(open_keystore, config.home, root_key)
        reader = await asyncio.to_thread(LogReader, config.home, keystore)
        client = SequencerClient(config.audit, _start(config, keystore), spawn=spawn)
        try:
            await client.open()
        except BaseException:
            reader.close()
            raise
        return cls(config, keystore, reader, client)

    async def close(self) -> None:
        """Record the stop, if the sequencer is ours, and let go of everything. What was appended stays appended."""
        # In this order: the last to close the database must be the sequencer, which may fold the write-ahead log in.
        self._reader.close()
        await self._client.close()

    @property
    def alive(self) -> bool:
        """Whether records can be appended now."""
        return self._client.alive

    @property
    def client(self) -> SequencerClient:
        """The connection, for those who report its state."""
        return self._client

    async def append(self, event: AuditEvent) -> Receipt:
        """Record `event`. See the module for what may be relied on.

        Raises `AuditUnavailable`, or `InputTooLong`/`InputNotText` for what can never be recorded.
        """
        self.require_space()
        record = await self._seal(event)
        progress = self._client.progress
        try:
            async with asyncio.timeout(self._settings.append_s):
                return await self._append_once(record)
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
        """Raise `AuditUnavailable` when the disk is nearly full, while there is still room to say so in the log."""
        folder = self._home.audit_database.parent
        disk = os.statvfs(folder)
        free = disk.f_bavail * disk.f_frsize
        if free < self._settings.disk_free_bytes_min:
            raise AuditUnavailable(
                f"the data folder is full: {free // 2**20} MiB are left at {folder}, "
                f"{self._settings.disk_free_bytes_min // 2**20} MiB are needed",
                hint="free space on that disk; recording resumes by itself",
            )

    # Reads are synchronous and take milliseconds to seconds: call them through `asyncio.to_thread`.

    def records(
        self,
        after_seq: int | None = None,
        limit: int = 50,
        actors: Collection[str] | None = None,
        event: str | None = None,
        *,
        kind: ViewKind | None = None,
    ) -> list[RecordView]:
        """A page of records, newest first; `after_seq` is the last number of the page before."""
        return self._reader.records(after_seq, limit, actors, event, kind=kind)

    def record(self, record_id: bytes) -> RecordView:
        """One record. Raises `RecordNotFound`."""
        return self._reader.record(record_id)

    def content(self, record_id: bytes) -> bytes | None:
        """What was typed or answered, if the record has it. Raises `RecordNotFound`, `DecryptionFailed`."""
        return self._reader.content(record_id)

    def receipt(self, record_id: bytes) -> Receipt:
        """The receipt of any record, under the newest checkpoint. Raises `RecordNotFound`."""
        return self._reader.receipt(record_id)

    def proof_text(self, record_id: bytes) -> str:
        """The receipt as a file that verifies offline (C2SP tlog-proof). Raises `RecordNotFound`."""
        return self._reader.proof_text(record_id)

    def checkpoint(self) -> str:
        """The newest signed checkpoint. A copy kept elsewhere shows later whether the log was cut."""
        return self._reader.checkpoint()

    def verifier_key(self) -> str:
        """The public key as `auditverify --pub` takes it."""
        return self._keystore.verifier_key

    def export(self, target: Path, *, ciphertexts: bool = False) -> ExportSummary:
        """Write a bundle for `auditverify` to `target`: a folder, or a zip file where the name ends in `.zip`."""
        return export_bundle(self._reader, target, ciphertexts=ciphertexts)

    async def _seal(self, event: AuditEvent) -> SealedRecord:
        size, size_max = len(event.content or b""), self._settings.record_bytes_max
        if size > size_max:
            raise InputTooLong(
                f"the content of this record has {size} bytes; at most {size_max} are recorded",
                hint="send a shorter text",
            )
        moment = Moment(read_clock(), self._boot_id)
        place = (*place_of(event, moment), event.actor, event.content is not None)
        keys = self._keys.get(place)
        if keys is None:
            keys = await asyncio.to_thread(keys_for, self._keystore, event, moment)
            if len(self._keys) >= _KEYS_MAX:
                self._keys.clear()
            self._keys[place] = keys
        if size <= _SEALED_INLINE_BYTES_MAX:
            return seal(event, keys, moment)
        return await asyncio.to_thread(seal, event, keys, moment)

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
        return Receipt(entry.record_id, entry.seq, entry.leaf, committed.size, tuple(entry.proof), committed.checkpoint)


def _start(config: Config, keystore: Keystore) -> Start:
    home, settings = config.home, config.audit
    return Start(
        database=str(home.audit_database),
        signer_state=str(home.signer_state),
        runtime=str(home.runtime),
        origin=keystore.origin,
        log_id=keystore.log_id,
        seed=keystore.signing_seed(),
        software=__version__,
        batch_max=settings.batch_max,
        queue_max=settings.queue_max,
        # Padding adds at most an eighth to a part, and less than the overhead to a small one.
        frame_bytes_max=settings.record_bytes_max * 9 // 8 + FRAME_OVERHEAD_BYTES,
        heartbeat_s=settings.heartbeat_s,
    )
