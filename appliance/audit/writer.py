"""The one writer of the log: batches of sealed records in, durable and signed tree heads out.

    writer = LogWriter.open(start, clock=read_clock)     # verifies the end of the log, creates an empty one
    committed = writer.commit(records)                   # committed.checkpoint, committed.places[record_id]

Order, always: BEGIN IMMEDIATE, rows and tiles and head, COMMIT, sign, return. What is in memory is a copy of the
database and never more: when anything raises, this object MUST NOT be used again, because a commit that failed may
have happened. The process ends, and the next one reads the truth from the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.audit import control, derived, store
from appliance.audit.chores import take_step, work_left
from appliance.audit.clock import ClockReading, CommitClock
from appliance.audit.drafts import Draft, public_header, sealed_header, tokens_of, without_repeats
from appliance.audit.header import epoch_of
from appliance.audit.operations import Context, Refusal, Step, decide, retired
from appliance.audit.protocol import (
    Administration,
    KeysDestroyed,
    RotateSigningKey,
    SealedRecord,
    Start,
)
from appliance.audit.recovery import verify_end
from appliance.audit.signer import Signer, SigningKeys
from appliance.audit.signer_memory import sync_folder
from appliance.audit.store import Head, StoredCheckpoint, StoredRecord
from appliance.audit.tiles import StoredTree, TreeEdge
from appliance.crypto import signing
from appliance.crypto.merkle import EMPTY_ROOT, Frontier, inclusion_proof, leaf_hash
from appliance.errors import AuditLogInvalid
from appliance.storage.database import (
    Connection,
    DatabaseError,
    Engine,
    open_database,
    reading,
    translate,
    writing,
    writing_connection,
)

CHECKPOINT_KEPT_MS = 60_000
_LOOKED_BACK_FOR_PAUSE = 200
_HOLDS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is in the tree of the batch that reported it."""

    seq: int
    leaf: bytes
    proof: tuple[bytes, ...]
    header: bytes


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
        self._read_clock = clock
        self._commit_clock = CommitClock(last_commit_ms)
        self._signed_ms = 0
        self._connection = connection = writing_connection(engine)
        with connection.begin():
            self._edge = TreeEdge(head.size, StoredTree(connection).tile)
            self._kept_ms = store.newest_checkpoint_ms(connection)
            self._retired, self._closed = retired(connection)
            self.has_chores = work_left(connection) is not None
            self.was_paused = _is_paused(connection)

    @classmethod
    def open(cls, start: Start, *, clock: Callable[[], ClockReading], first: Sequence[bytes] = ()) -> LogWriter:
        """Open the log for writing, check its end against itself and against the signer, and sign it again.

        `first` are records that follow the genesis of a log that is empty, in its first batch. Raises
        `AuditLogInvalid` when it was cut, put back, altered at its end, or belongs to another keystore.
        """
        engine = open_database(Path(start.database), mode="rw", journal="wal", connections=1)
        # SQLite syncs the name of a new write-ahead log too, but goes on when the disk refuses.
        sync_folder(Path(start.database).parent)
        head = _read_or_create_head(engine, start)
        keys = SigningKeys(start.seed, start.retiring, start.public_keys)
        signer = Signer.open(Path(start.signer_state), keys, start.origin, log_is_new=head.size == 0)
        signer.check(head.size, head.root)
        with reading(engine) as connection:
            last_commit_ms = verify_end(connection, head, signer.head)
        writer = cls(start, engine, signer, head, last_commit_ms, clock)
        if head.size == 0:
            genesis = control.genesis(start.log_id, start.origin, signer.public_key, start.software)
            writer._write([genesis, *first])
            signer.sync()
            return writer
        replaced = signer.replaced_key()
        if replaced is not None:
            # The keystore rotated and the process died before the log heard of it.
            writer._rotated(replaced, "interrupted")
        else:
            signer.sign(head.size, head.root, now_ms=last_commit_ms)
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

    def perform(self, request: Administration) -> CommittedBatch | None:
        """Do what was asked in one transaction; None where there is no record of it. Raises `Refusal`: nothing changed.

        The batch has one place, of the first record, under its record id.
        """
        if isinstance(request, RotateSigningKey):
            return self._rotate(request)
        context = Context(self._start.origin, self.size, self._signer.public_keys, self._now_ms())
        decided: list[Step] = []

        def prepare(connection: Connection) -> Step:
            decided.append(decide(connection, request, context))
            return decided[0]

        batch = self._write([], prepare)
        step = decided[0]
        self._retired |= step.retired
        self._closed |= {step.closed} if step.closed else set()
        self._closed -= {step.opened} if step.opened else set()
        if isinstance(request, KeysDestroyed):
            self.has_chores = True
        return batch if step.bodies else None

    def do_chore(self) -> None:
        """One step of deleting what was announced to be destroyed; clears `has_chores` when nothing is left."""
        with self._connection.begin():
            row = work_left(self._connection)
        if row is None:
            self.has_chores = False
            return

        def prepare(connection: Connection) -> Step:
            finished = take_step(connection, row)
            if finished is None:
                return Step((), lambda _, __: None)
            return Step((finished.body,), lambda writing, seq: derived.finish_erasure(writing, row.seq, seq))

        self._write([], prepare)

    def hold_ids(self) -> set[bytes]:
        """Every hold that this log knows, in force or not."""
        with self._connection.begin():
            return {row.hold_id for row in derived.read_holds(self._connection, _HOLDS_MAX)}

    def is_retired(self, record: SealedRecord) -> bool:
        """Whether a key of this record was given up, or is about to be: then it may not enter the log."""
        keys = (record.con_scope, record.env_key)
        return not self._retired.isdisjoint(keys) or (record.record_class, record.month) in self._closed

    def append_started(self, warnings: Sequence[str]) -> None:
        """Record that this log is being written again."""
        self._write([control.started(self._start.software, warnings)])

    def append_stopped(self) -> None:
        """Record an orderly end; without it, the next start shows that the last run was cut off."""
        self._write([control.stopped()])

    def append_heartbeat(self) -> None:
        """Record that nothing happened: silence without it means that recording was interrupted."""
        self._write([control.heartbeat()])

    def append_paused(self, reason: str) -> None:
        """Record that only what is urgent is recorded from here on."""
        self._write([control.paused(reason)])

    def append_resumed(self) -> None:
        """Record that everything is recorded again."""
        self._write([control.resumed()])

    def sync_memory(self) -> None:
        """What the signer remembers survives a power cut."""
        self._signer.sync()

    def close(self) -> None:
        """Let go of the database after the last batch."""
        self._signer.close()
        self._connection.close()
        self._engine.dispose()

    def _now_ms(self) -> int:
        return max(self._commit_clock.last_commit_ms, self._read_clock().wall_ms)

    def _rotate(self, request: RotateSigningKey) -> CommittedBatch:
        if len(request.seed) != signing.SEED_BYTES or not request.reason.isidentifier():
            raise Refusal("malformed", "a rotation has a seed and a reason, which is a code")
        if signing.public_key(request.seed) == self._signer.public_key:
            raise Refusal("conflict", "the log is signed with this key already")
        return self._rotated(self._signer.replace(request.seed), request.reason)

    def _rotated(self, old: bytes, reason: str) -> CommittedBatch:
        """Record that `old` was replaced. Both sign the record of it, unless the old one is not to be trusted."""
        bodies = [control.key_rotation(old, self._signer.public_key, reason)]
        compromised = reason == "compromised"
        if compromised:
            bodies.append(control.key_distrusted(old, self._head.size))
        until_ms = self._now_ms() + int(self._start.signing_overlap_s * 1000)
        self._signer.overlap(0 if compromised else until_ms)
        batch = self._write(bodies)
        self._signer.sync()  # a memory without this rotation would have it recorded twice
        return batch

    def _write(self, drafts: Sequence[Draft], prepare: Callable[[Connection], Step] | None = None) -> CommittedBatch:
        try:
            return self._commit(drafts, prepare)
        except DatabaseError as error:
            # The frequent statements go past SQLAlchemy, and with it past the translation of errors.
            raise translate(error, Path(self._start.database)) or error from None

    def _commit(self, drafts: Sequence[Draft], prepare: Callable[[Connection], Step] | None) -> CommittedBatch:
        clock, commit_ms, jump_ms = self._commit_clock.advance(self._read_clock())
        sealed = [draft for draft in drafts if isinstance(draft, SealedRecord)]
        self._edge.begin_batch()
        connection = self._connection
        with connection.begin():
            step = prepare(connection) if prepare else None  # raises before anything here has changed
            known = store.seqs_of(connection, {draft.record_id for draft in sealed}) if sealed else {}
            fresh = without_repeats([*drafts, *(step.bodies if step else ())], known)
            if jump_ms is not None:
                fresh.insert(len(fresh) if step else 0, control.clock_anomaly(jump_ms))  # a step's own record is first
            rows = [self._add(draft, commit_ms) for draft in fresh]
            if rows:
                self._store(connection, rows, tokens_of(rows, fresh), commit_ms)
            if step:
                step.apply(connection, rows[0].seq if rows else -1)
            places = {row.record_id: self._place(row) for row in rows}
            places |= self._places_of(connection, known)
        # Only now: before the commit there is nothing that may be signed.
        self._commit_clock = clock
        if rows:
            self._signer.sign(self._head.size, self._head.root, now_ms=commit_ms)
            self._signed_ms = commit_ms
        return CommittedBatch(self._head.size, self._signer.head.note, places)

    def _add(self, draft: Draft, commit_ms: int) -> StoredRecord:
        """The row of one draft at the next sequence number; grows the tree."""
        seq = self._edge.size
        if isinstance(draft, SealedRecord):
            header = sealed_header(draft, self._start.log_id, seq, commit_ms).encode()
            row = StoredRecord(seq, draft.record_id, header, draft.env_ct, draft.con_ct)
        else:
            public = public_header(draft, self._start.log_id, seq, commit_ms)
            row = StoredRecord(seq, public.record_id, public.encode(), None, None, draft)
        self._edge.append(leaf_hash(row.header))
        return row

    def _store(
        self, connection: Connection, rows: Sequence[StoredRecord], tokens: list[tuple[bytes, int]], commit_ms: int
    ) -> None:
        signed = self._signer.head
        head = replace(
            self._head,
            size=self._edge.size,
            frontier=self._edge.frontier(),
            root=self._edge.root(),
            signed_size=signed.size,
            note=signed.note or None,
        )
        store.insert_records(connection, rows)
        derived.insert_tokens(connection, tokens)
        for level, index, hashes in self._edge.grown_tiles():
            store.put_tile(connection, level, index, hashes)
        if signed.note and commit_ms - self._kept_ms >= CHECKPOINT_KEPT_MS:
            store.keep_checkpoint(
                connection, StoredCheckpoint(signed.size, signed.root, signed.note, self._signed_ms or commit_ms)
            )
            self._kept_ms = commit_ms
        store.move_head(connection, expected_size=self._head.size, head=head)
        self._head = head

    def _place(self, row: StoredRecord) -> Place:
        return Place(row.seq, leaf_hash(row.header), self._edge.proof(row.seq), row.header)

    def _places_of(self, connection: Connection, known: dict[bytes, int]) -> dict[bytes, Place]:
        """Places of records of earlier batches, in the tree as it is now."""
        tree = StoredTree(connection)
        places = {}
        for record_id, seq in known.items():
            (_, header) = store.read_headers(connection, seq, 1)[0]
            proof = tuple(inclusion_proof(seq, self._edge.size, tree.node))
            places[record_id] = Place(seq, leaf_hash(header), proof, header)
        return places


def _read_or_create_head(engine: Engine, start: Start) -> Head:
    with reading(engine) as connection:
        head = store.read_head(connection)
    if head is None:
        empty = Frontier.empty()
        head = Head(start.log_id, start.origin, epoch_of(start.origin), 0, empty.to_bytes(), EMPTY_ROOT, 0, None)
        with writing(engine) as connection:
            store.create_head(connection, head)
    if (head.log_id, head.origin) != (start.log_id, start.origin):
        raise AuditLogInvalid(
            f"the log {head.origin} and the keystore of {start.origin} do not belong together",
            hint="restore the data folder as a whole",
        )
    return head


def _is_paused(connection: Connection) -> bool:
    """Whether the log ends in a pause. While it is paused there is little else, so that a short look back is enough."""
    for body in derived.newest_bodies(connection, _LOOKED_BACK_FOR_PAUSE):
        event = control.parse_control(body)["event"]
        if event in ("audit.paused", "audit.resumed"):
            return event == "audit.paused"
    return False
