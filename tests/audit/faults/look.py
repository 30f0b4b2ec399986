"""The look at a log after a fault: opened again by the real writer, read row by row, verified by the real verifier.

    found = look(start, run.places, run.note)       # asserts; found.lost, found.ids

The checkpoint that was acknowledged last is given to the verifier as one that was kept outside.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from appliance.audit import auditverify, store
from appliance.audit.clock import read_clock
from appliance.audit.protocol import Start
from appliance.audit.signer import read_signed_head
from appliance.audit.writer import LogWriter
from appliance.crypto import signing
from appliance.crypto.note import verifier_key
from appliance.errors import ApplianceError
from appliance.storage.database import open_database, reading
from tests.audit.faults.driver import id_of, sealed

ROWS_MAX = 200_000
PROBE = 10**9  # number of the record that shows that recording goes on


@dataclass(frozen=True)
class Found:
    """What a log holds after a fault: numbers by record id; `refused` when it does not open."""

    places: dict[bytes, int]
    refused: str | None = None

    def lost(self, acknowledged: Mapping[bytes, int]) -> list[bytes]:
        """Acknowledged records that are not where they were said to be."""
        return [record_id for record_id, seq in acknowledged.items() if self.places.get(record_id) != seq]


def look(start: Start, acknowledged: Mapping[bytes, int], note: str | None, folder: Path) -> Found:
    """Open, compare, verify, append. Fails on anything that is lost, doubled, out of place or unverifiable."""
    found = found_in(start)
    assert found.refused is None, found.refused
    assert found.lost(acknowledged) == []
    assert verdict(start, note, folder) == 0
    return found


def found_in(start: Start) -> Found:
    """Open the log with the real writer, append one record, and read what is there."""
    try:
        writer = LogWriter.open(start, clock=read_clock)
        writer.commit([sealed(PROBE)])
        size = writer.size
        writer.close()
    except ApplianceError as error:
        return Found({}, error.message)
    engine = open_database(Path(start.database), mode="ro", connections=1)
    try:
        with reading(engine) as connection:
            rows = store.read_records(connection, 0, ROWS_MAX)
            head = store.read_head(connection)
    finally:
        engine.dispose()
    assert head is not None and [row.seq for row in rows] == list(range(head.size)), "size and rows differ"
    assert head.size == size
    places = {row.record_id: row.seq for row in rows}
    assert len(places) == len(rows)
    return Found(places)


def verdict(start: Start, note: str | None, folder: Path) -> int:
    """The exit status of `auditverify` over the database, with `note` as a checkpoint kept outside the machine."""
    trusted = folder / "trusted"
    trusted.write_text(note or signer_note(start))
    publics = dict.fromkeys((signing.public_key(start.seed), *start.public_keys))
    keys = [word for public in publics for word in ("--pub", verifier_key(start.origin, public))]
    said = io.StringIO()
    with redirect_stdout(said):
        status = auditverify.verify([start.database, *keys, "--json", "--trusted", str(trusted)])
    if status:
        print(said.getvalue())
    return status


def signer_note(start: Start) -> str:
    """What the signer remembers of its last signature."""
    head = read_signed_head(Path(start.signer_state), start.origin)
    assert head is not None
    return head.note


def whole_batches(found: Found, batch: int, batches: int, first: int = 0) -> list[bool]:
    """Which batches of the driver are stored; fails on one that is stored in part."""
    stored = []
    for number in range(first, first + batch * batches, batch):
        present = {id_of(number + i) in found.places for i in range(batch)}
        assert len(present) == 1, "a batch is stored in part"
        stored.append(present.pop())
    return stored
