"""The sequencer's work between batches: deleting the ciphertexts of announced destructions, a little at a time.

    while work_left(connection) is not None: ...     # by the writer, one step a transaction

Every step is a transaction of its own that a crash undoes or keeps whole. It begins only when the keys are reported
destroyed; without their keys the ciphertexts are noise, so that nothing hurries.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.audit import control, derived, store
from appliance.audit.derived import ErasureRow
from appliance.audit.header import RecordHeader, RecordKind
from appliance.audit.index import scope_token
from appliance.audit.operations import ID_BYTES, announced
from appliance.storage.database import Connection

RECORDS_A_STEP = 256
SCANNED_A_STEP = 4096
SCOPES_A_STEP = 256
_UNFINISHED_MAX = 1000


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is left of this destruction but to say so."""

    erasure: ErasureRow

    @property
    def body(self) -> bytes:
        """The record that says so."""
        return control.erased(self.erasure.seq, self.erasure.erased)


def work_left(connection: Connection) -> ErasureRow | None:
    """The oldest destruction whose ciphertexts may go and are not all gone."""
    rows = derived.read_erasures(connection, _UNFINISHED_MAX, unfinished=True)
    return next((row for row in rows if row.keys_destroyed), None)


def take_step(connection: Connection, row: ErasureRow) -> Finished | None:
    """Delete some; `Finished` when there was nothing left to delete."""
    said = announced(connection, row.seq)
    if said["event"] == "shred":
        return _shred_step(connection, row, control.parse_ids(str(said["scopes"]), ID_BYTES))
    return _purge_step(connection, row, said)


def _shred_step(connection: Connection, row: ErasureRow, scopes: list[bytes]) -> Finished | None:
    """`next_seq` counts scopes here: their records are found by the index and leave it."""
    for place in range(row.next_seq, min(row.next_seq + SCOPES_A_STEP, len(scopes))):
        seqs = derived.seqs_under(connection, scope_token(scopes[place]), 0, RECORDS_A_STEP)
        if seqs:
            covered = [seq for seq in seqs if seq < row.seq and _scope_of(connection, seq) == scopes[place]]
            derived.delete_contents(connection, covered)
            derived.delete_token(connection, scope_token(scopes[place]), seqs)
            derived.move_erasure(connection, row.seq, next_seq=place, erased=len(covered))
            return None
    if row.next_seq >= len(scopes):
        return Finished(row)
    derived.move_erasure(connection, row.seq, next_seq=row.next_seq + SCOPES_A_STEP, erased=0)
    return None


def _purge_step(connection: Connection, row: ErasureRow, said: dict[str, control.Value]) -> Finished | None:
    if row.next_seq >= row.seq:
        return Finished(row)
    end = min(row.next_seq + SCANNED_A_STEP, row.seq)
    place = int(said["class"]).to_bytes(1, "big") + int(said["month"]).to_bytes(2, "big") + bytes([RecordKind.SEALED])
    seqs = derived.sealed_in(connection, row.next_seq, end, place)
    derived.delete_contents(connection, seqs)
    if said["parts"] == "all":
        derived.delete_envelopes(connection, seqs)
        derived.delete_tokens(connection, seqs)
    derived.move_erasure(connection, row.seq, next_seq=end, erased=len(seqs))
    return None


def _scope_of(connection: Connection, seq: int) -> bytes:
    ((_, header),) = store.read_headers(connection, seq, 1)
    return RecordHeader.decode(header).con_scope
