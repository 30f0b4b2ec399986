"""Reads the log: lists and opens records, and makes receipts and checkpoints for them. Never writes.

    reader = LogReader(home, keystore)
    reader.records(limit=20, event="deidentify")     # newest first
    reader.receipt(record_id)                        # as given out at the time, under today's checkpoint

Every call reads in short transactions of its own, bounded by a number of rows, so that a slow reader never keeps the
write-ahead log from being recycled. That a record was read is for the caller to record, first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from appliance.audit import store
from appliance.audit.control import parse_control
from appliance.audit.header import NO_KEY, RecordHeader, RecordKind, epoch_of
from appliance.audit.keystore import Keystore
from appliance.audit.proof import proof_file
from appliance.audit.record import open_content, open_envelope
from appliance.audit.recovery import stored_header
from appliance.audit.signer import SignedHead, read_signed_head
from appliance.audit.store import StoredRecord
from appliance.audit.tiles import StoredTree
from appliance.config import Home
from appliance.crypto.merkle import inclusion_proof, leaf_hash
from appliance.errors import AuditLogInvalid, KeyMaterialError, NotFound, RecordNotFound
from appliance.storage.database import Connection, open_database, reading
from appliance.storage.revisions import require_current
from appliance.types import AttributeValue, Outcome, Receipt

PAGE_ROWS = 256
SCANNED_MAX = 50_000  # records looked at for one page of a filtered list
SEQUENCER = "sequencer"  # who public records are shown to come from

ViewKind = Literal["sealed", "public"]


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record as shown. `readable` False: its envelope does not open with the keys that are here.

    `actor_name` and `actor_gone` are filled in by who knows accounts (`service/actors.py`); the log has ids only.
    """

    seq: int
    record_id: str
    time: datetime
    kind: ViewKind
    event: str
    outcome: str
    actor: str
    exchange_id: str
    attributes: Mapping[str, AttributeValue]
    has_content: bool
    size: int  # bytes stored
    readable: bool = True
    actor_name: str | None = None
    actor_gone: bool = False


class LogReader:
    """See the module. Safe to use from several threads."""

    def __init__(self, home: Home, keystore: Keystore, epoch: int | None = None) -> None:
        """`epoch`: of a log that was closed by a declared loss; None: the one that goes on. Raises `NotFound`."""
        self._keystore = keystore
        folder = home.audit_database.parent
        if epoch is not None and epoch != epoch_of(keystore.origin):
            folder /= f"e{epoch}"
            if not folder.is_dir():
                raise NotFound(f"there is no epoch {epoch} of this log", hint="list them with `appliance audit epochs`")
        database = folder / home.audit_database.name
        self._signer_state = folder / home.signer_state.name
        self._engine = open_database(database, mode="ro")
        require_current(self._engine, database)
        self.origin = self._origin() or keystore.origin

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @property
    def verifier_key(self) -> str:
        """The newest public key of the log, as text."""
        keys = [key.verifier_key for key in self._keystore.public_keys() if key.origin == self.origin]
        return keys[0] if keys else self._keystore.verifier_key

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One short transaction for reading."""
        with reading(self._engine) as connection:
            yield connection

    def records(
        self,
        after_seq: int | None = None,
        limit: int = 50,
        actors: Collection[str] | None = None,
        event: str | None = None,
        *,
        kind: ViewKind | None = None,
    ) -> list[RecordView]:
        """A page, newest first; `after_seq` is the last number of the page before. Empty: there are no more.

        Envelopes are sealed, so a filter opens what it passes over, at most `SCANNED_MAX` records a call.
        """
        found: list[RecordView] = []
        newest = after_seq - 1 if after_seq is not None else (1 << 62)
        for _ in range(SCANNED_MAX // PAGE_ROWS):
            with reading(self._engine) as connection:
                rows = store.read_records(connection, newest, PAGE_ROWS, newest_first=True)
            for row in rows:
                view = self.view(row)
                by_one_of_them = actors is None or view.actor in actors
                if by_one_of_them and (kind or view.kind, event or view.event) == (view.kind, view.event):
                    found.append(view)
                if len(found) == limit:
                    return found
            if len(rows) < PAGE_ROWS:
                break
            newest = rows[-1].seq - 1
        return found

    def record(self, record_id: bytes) -> RecordView:
        """One record. Raises `RecordNotFound`."""
        return self.view(self._stored(record_id))

    def content(self, record_id: bytes) -> bytes | None:
        """What was typed or answered; None for a record without content, and for content that was destroyed.

        Raises `RecordNotFound`, `DecryptionFailed`.
        """
        return self.content_of(self._stored(record_id, content=True))

    def content_of(self, row: StoredRecord) -> bytes | None:
        """The same, of a row that was read with its content. Raises `DecryptionFailed`."""
        if row.con_ct is None:
            return None
        header = stored_header(row.seq, row.header)
        return open_content(header, row.con_ct, self._keystore.key_by_id(header.con_scope))

    def page(self, first_seq: int, limit: int) -> list[tuple[bytes, RecordView]]:
        """Headers and records from `first_seq` upwards, as far as they are signed; for exports."""
        size = self.signed_head().size
        with reading(self._engine) as connection:
            rows = store.read_records(connection, first_seq, max(0, min(limit, size - first_seq)))
        return [(row.header, self.view(row)) for row in rows]

    def find_receipt(self, record_id: bytes) -> Receipt | None:
        """The receipt under the newest checkpoint; None where the record is not stored, or not signed yet."""
        signed = self.signed_head()
        with reading(self._engine) as connection:
            row = store.read_record(connection, record_id)
            if row is None or row.seq >= signed.size:
                return None
            proof = inclusion_proof(row.seq, signed.size, StoredTree(connection).node)
        return Receipt(record_id, row.seq, leaf_hash(row.header), signed.size, tuple(proof), signed.note, row.header)

    def receipt(self, record_id: bytes) -> Receipt:
        """The same; raises `RecordNotFound` instead."""
        found = self.find_receipt(record_id)
        if found is None:
            raise _not_found(record_id)
        return found

    def proof_text(self, record_id: bytes) -> str:
        """The receipt as a file that verifies offline (C2SP tlog-proof)."""
        return proof_file(self.receipt(record_id))

    def checkpoint(self) -> str:
        """The newest signed checkpoint."""
        return self.signed_head().note

    def signed_head(self) -> SignedHead:
        """Size, root and note that were signed last: never more than what is stored, because signing comes after."""
        head = read_signed_head(self._signer_state, self.origin)
        if head is None or not head.note:
            raise AuditLogInvalid("the log has no signed checkpoint yet", hint="start the server once")
        return head

    def time_of(self, connection: Connection, seq: int) -> datetime:
        """When a record was committed, by its header."""
        ((_, encoded),) = store.read_headers(connection, seq, 1)
        return datetime.fromtimestamp(stored_header(seq, encoded).t_commit_ms / 1000, UTC)

    def _origin(self) -> str | None:
        with reading(self._engine) as connection:
            head = store.read_head(connection)
        return None if head is None else head.origin

    def _stored(self, record_id: bytes, *, content: bool = False) -> StoredRecord:
        with reading(self._engine) as connection:
            row = store.read_record(connection, record_id, content=content)
        if row is None:
            raise _not_found(record_id)
        return row

    def view(self, row: StoredRecord) -> RecordView:
        """A row as shown."""
        header = stored_header(row.seq, row.header)
        public = header.kind == RecordKind.PUBLIC
        said = _public_fields(row) if public else self._sealed_fields(header, row)
        return RecordView(
            seq=row.seq,
            record_id=row.record_id.hex(),
            time=datetime.fromtimestamp(header.t_commit_ms / 1000, UTC),
            kind="public" if public else "sealed",
            event=said.event if said else "",
            outcome=said.outcome if said else "",
            actor=said.actor if said else "",
            exchange_id=said.exchange_id if said else "",
            attributes=said.attributes if said else {},
            has_content=header.con_scope != NO_KEY,
            size=len(row.header) + header.env_length + header.con_length,
            readable=said is not None,
        )

    def _sealed_fields(self, header: RecordHeader, row: StoredRecord) -> _Fields | None:
        """None for an envelope that does not open: it is shown as such, so that it does not hide the others."""
        try:
            envelope = open_envelope(header, row.env_ct or b"", self._keystore.key_by_id(header.env_key))
        except (KeyMaterialError, AuditLogInvalid):
            return None
        return _Fields(envelope.event, envelope.outcome, envelope.actor, envelope.exchange_id, envelope.attributes)


@dataclass(frozen=True, slots=True)
class _Fields:
    """What a record says of itself."""

    event: str
    outcome: str
    actor: str
    exchange_id: str
    attributes: Mapping[str, AttributeValue]


def _public_fields(row: StoredRecord) -> _Fields | None:
    try:
        said = dict(parse_control(row.body or b""))
    except ValueError:
        return None
    event = str(said.pop("event"))
    return _Fields(event, Outcome.COMPLETED, SEQUENCER, "", said)


def _not_found(record_id: bytes) -> RecordNotFound:
    return RecordNotFound(f"there is no record {record_id.hex()} in the log", hint="check the id in the receipt")
