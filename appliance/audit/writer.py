"""The one writer of the log: batches of sealed records in, durable and signed tree heads out.

    writer = LogWriter.open(start, clock=read_clock)     # verifies the end of the log, creates an empty one
    committed = writer.commit(records)                   # committed.checkpoint, committed.places[record_id]

Order, always: BEGIN IMMEDIATE, rows and tiles and head, COMMIT, sign, return. What is in memory is a copy of the
database and never more: when anything raises, this object MUST NOT be used again, because a commit that failed may
have happened. The process ends, and the next one reads the truth from the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.audit import control, store
from appliance.audit.clock import ClockReading, CommitClock
from appliance.audit.header import NO_KEY, NO_NONCE, SHA256_OF_NOTHING, RecordHeader, RecordKind
from appliance.audit.protocol import SealedRecord, Start
from appliance.audit.recovery import verify_end
from appliance.audit.signer import Signer
from appliance.audit.store import Head, StoredCheckpoint, StoredRecord
from appliance.audit.tiles import StoredTree, TreeEdge
from appliance.crypto import signing
from appliance.crypto.keys import random_id
from appliance.crypto.merkle import EMPTY_ROOT, Frontier, inclusion_proof, leaf_hash
from appliance.errors import AuditLogInvalid
from appliance.storage.database import Connection, Engine, open_database, reading, writing

CHECKPOINT_KEPT_MS = 60_000
EPOCH = 1


class RecordMalformed(Exception):
    """A submitted record does not have the shape of one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is in the tree of the batch that reported it."""

    seq: int
    leaf: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """A durable, signed state of the log, and where the batch's records are in it."""

    size: int
    checkpoint: str
    places: dict[bytes, Place]


class LogWriter:
    """See the module. Owns the head of the log, the growing edge of its tree, and the signer."""

    def __init__(
        self,
        start: Start,
        engine: Engine,
        signer: Signer,
        head: Head,
        last_commit_ms: int,
        clock: Callable[[], ClockReading],
    ) -> None:
        self._start = start
        self._engine = engine
        self._signer = signer
        self._head = head
        self._frontier = Frontier.from_bytes(head.frontier)
        self._read_clock = clock
        self._commit_clock = CommitClock(last_commit_ms)
        self._signed_ms = 0
        with reading(engine) as connection:
            self._edge = TreeEdge(head.size, StoredTree(connection).tile)
            self._kept_ms = store.newest_checkpoint_ms(connection)

    @classmethod
    def open(cls, start: Start, *, clock: Callable[[], ClockReading]) -> LogWriter:
        """Open the log for writing, check its end against itself and against the signer, and sign it again.

        Raises `AuditLogInvalid` when it was cut, put back, altered at its end, or belongs to another keystore.
        """
        engine = open_database(Path(start.database), mode="rw", journal="wal", connections=1)
        head = _read_or_create_head(engine, start)
        signer = Signer.open(Path(start.signer_state), start.seed, start.origin, log_is_new=head.size == 0)
        signer.check(head.size, head.root)
        with reading(engine) as connection:
            last_commit_ms = verify_end(connection, head, signer.head)
        writer = cls(start, engine, signer, head, last_commit_ms, clock)
        if head.size == 0:
            writer._write([control.genesis(start.log_id, start.origin, signing.public_key(start.seed), start.software)])
        else:
            signer.sign(head.size, head.root)
        return writer

    @property
    def size(self) -> int:
        """How many records are committed and signed."""
        return self._signer.head.size

    def commit(self, records: Sequence[SealedRecord]) -> CommittedBatch:
        """Store, sign and place records, in this order; one that is stored already keeps its first place.

        When it returns, all of them are on stable storage and under `checkpoint`. When it raises, see the module.
        """
        return self._write(records)

    def append_started(self, warnings: Sequence[str]) -> None:
        """Record that this log is being written again."""
        self._write([control.started(self._start.software, warnings)])

    def append_stopped(self) -> None:
        """Record an orderly end; without it, the next start shows that the last run was cut off."""
        self._write([control.stopped()])

    def append_heartbeat(self) -> None:
        """Record that nothing happened: silence without it means that recording was interrupted."""
        self._write([control.heartbeat()])

    def close(self) -> None:
        """Let go of the database after the last batch."""
        self._engine.dispose()

    def _write(self, drafts: Sequence[SealedRecord | bytes]) -> CommittedBatch:
        self._commit_clock, commit_ms, jump_ms = self._commit_clock.advance(self._read_clock())
        sealed = [draft for draft in drafts if isinstance(draft, SealedRecord)]
        self._edge.begin_batch()
        with writing(self._engine) as connection:
            known = store.seqs_of(connection, {draft.record_id for draft in sealed}) if sealed else {}
            fresh = _without_repeats(drafts, known)
            if jump_ms is not None:
                fresh.insert(0, control.clock_anomaly(jump_ms))
            rows = [self._add(draft, commit_ms) for draft in fresh]
            if rows:
                self._store(connection, rows, commit_ms)
            places = {row.record_id: self._place(row.seq, row.header, self._edge.node) for row in rows}
            places |= self._places_of(connection, known)
        # Only now: before the commit there is nothing that may be signed.
        if rows:
            self._signer.sign(self._head.size, self._head.root)
            self._signed_ms = commit_ms
        return CommittedBatch(self._head.size, self._signer.head.note, places)

    def _add(self, draft: SealedRecord | bytes, commit_ms: int) -> StoredRecord:
        """The row of one draft at the next sequence number; grows the tree."""
        seq = self._edge.size
        if isinstance(draft, SealedRecord):
            header = _sealed_header(draft, self._start.log_id, seq, commit_ms).encode()
            row = StoredRecord(seq, draft.record_id, header, draft.env_ct, draft.con_ct)
        else:
            public = _public_header(draft, self._start.log_id, seq, commit_ms)
            row = StoredRecord(seq, public.record_id, public.encode(), None, None, draft)
        leaf = leaf_hash(row.header)
        self._edge.append(leaf)
        self._frontier = self._frontier.append(leaf)
        return row

    def _store(self, connection: Connection, rows: Sequence[StoredRecord], commit_ms: int) -> None:
        signed = self._signer.head
        head = replace(
            self._head,
            size=self._edge.size,
            frontier=self._frontier.to_bytes(),
            root=self._frontier.root(),
            signed_size=signed.size,
            note=signed.note or None,
        )
        store.insert_records(connection, rows)
        for level, index, hashes in self._edge.grown_tiles():
            store.put_tile(connection, level, index, hashes)
        if signed.note and commit_ms - self._kept_ms >= CHECKPOINT_KEPT_MS:
            store.keep_checkpoint(
                connection, StoredCheckpoint(signed.size, signed.root, signed.note, self._signed_ms or commit_ms)
            )
            self._kept_ms = commit_ms
        store.move_head(connection, expected_size=self._head.size, head=head)
        self._head = head

    def _place(self, seq: int, header: bytes, node: Callable[[int, int], bytes]) -> Place:
        return Place(seq, leaf_hash(header), tuple(inclusion_proof(seq, self._edge.size, node)))

    def _places_of(self, connection: Connection, known: dict[bytes, int]) -> dict[bytes, Place]:
        """Places of records of earlier batches, in the tree as it is now."""
        tree = StoredTree(connection)
        places = {}
        for record_id, seq in known.items():
            (_, header) = store.read_headers(connection, seq, 1)[0]
            places[record_id] = self._place(seq, header, tree.node)
        return places


def check_record(record: SealedRecord) -> None:
    """Refuse what no header could describe. Raises `RecordMalformed`, with no byte of the record in its message."""
    sizes = (
        (record.record_id, 16), (record.env_key, 16), (record.con_scope, 16),
        (record.env_nonce, 24), (record.con_nonce, 24),
    )  # fmt: skip
    if any(len(value) != size for value, size in sizes):
        raise RecordMalformed("an id or a nonce has the wrong length")
    if not 0 <= record.record_class <= 255 or not 0 <= record.month <= 0xFFFF:
        raise RecordMalformed("class or month is out of range")
    if not record.env_ct or record.env_key == NO_KEY:
        raise RecordMalformed("the envelope is missing")
    has_content = record.con_ct is not None
    if has_content != (record.con_scope != NO_KEY) or has_content != (record.con_nonce != NO_NONCE):
        raise RecordMalformed("content, its key and its nonce come together or not at all")
    if record.con_ct == b"":
        raise RecordMalformed("the content is empty")


def _read_or_create_head(engine: Engine, start: Start) -> Head:
    with reading(engine) as connection:
        head = store.read_head(connection)
    if head is None:
        empty = Frontier.empty()
        head = Head(start.log_id, start.origin, EPOCH, 0, empty.to_bytes(), EMPTY_ROOT, 0, None)
        with writing(engine) as connection:
            store.create_head(connection, head)
    if (head.log_id, head.origin) != (start.log_id, start.origin):
        raise AuditLogInvalid(
            f"the log {head.origin} and the keystore of {start.origin} do not belong together",
            hint="restore the data folder as a whole",
        )
    return head


def _without_repeats(drafts: Sequence[SealedRecord | bytes], known: dict[bytes, int]) -> list[SealedRecord | bytes]:
    seen = set(known)
    fresh: list[SealedRecord | bytes] = []
    for draft in drafts:
        if isinstance(draft, SealedRecord):
            if draft.record_id in seen:
                continue
            seen.add(draft.record_id)
        fresh.append(draft)
    return fresh


def _sealed_header(draft: SealedRecord, log_id: bytes, seq: int, commit_ms: int) -> RecordHeader:
    """The hashes are taken here, over the bytes that are stored, whatever the submitter says."""
    content = draft.con_ct or b""
    return RecordHeader(
        log_id=log_id,
        seq=seq,
        t_commit_ms=commit_ms,
        record_class=draft.record_class,
        month=draft.month,
        kind=RecordKind.SEALED,
        record_id=draft.record_id,
        env_key=draft.env_key,
        con_scope=draft.con_scope,
        env_nonce=draft.env_nonce,
        con_nonce=draft.con_nonce,
        env_length=len(draft.env_ct),
        con_length=len(content),
        env_sha256=hashlib.sha256(draft.env_ct).digest(),
        con_sha256=hashlib.sha256(content).digest(),
    )


def _public_header(body: bytes, log_id: bytes, seq: int, commit_ms: int) -> RecordHeader:
    return RecordHeader(
        log_id=log_id,
        seq=seq,
        t_commit_ms=commit_ms,
        record_class=0,
        month=0,
        kind=RecordKind.PUBLIC,
        record_id=random_id(),
        env_key=NO_KEY,
        con_scope=NO_KEY,
        env_nonce=NO_NONCE,
        con_nonce=NO_NONCE,
        env_length=len(body),
        con_length=0,
        env_sha256=hashlib.sha256(body).digest(),
        con_sha256=SHA256_OF_NOTHING,
    )
