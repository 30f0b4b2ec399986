"""The statements of the log, over `storage/tables.py`; no rule, no cryptography, no transaction.

    with writing(engine) as connection:
        store.insert_records(connection, rows)
        store.move_head(connection, expected_size=41, head=head)

Every function takes the caller's connection, so that the caller decides what commits together. Only the sequencer
passes one that may write to the log. Every read is bounded by an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Row, delete, func, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or

from appliance.errors import AuditLogInvalid
from appliance.storage.database import Connection, driver
from appliance.storage.tables import (
    checkpoint,
    log_head,
    public_body,
    record,
    tile,
)

_IDS_AT_ONCE = 500  # parameters of one statement


@dataclass(frozen=True, slots=True)
class Head:
    """The single row that says how long the log is. `note` signs `signed_size` records, the last batch but one."""

    log_id: bytes
    origin: str
    epoch: int
    size: int
    frontier: bytes
    root: bytes
    signed_size: int
    note: str | None


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One row of `record` with its public body; `env_ct` and `body` are never both set."""

    seq: int
    record_id: bytes
    header: bytes
    env_ct: bytes | None
    con_ct: bytes | None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed tree head that is kept for ever. `cosigs`: signature lines of witnesses, to be put behind the note."""

    size: int
    root: bytes
    note: str
    t_signed_ms: int
    cosigs: str | None = None


def read_head(connection: Connection) -> Head | None:
    """The head, or None before the first record."""
    columns = [log_head.c[name] for name in Head.__dataclass_fields__]
    row = connection.execute(select(*columns)).one_or_none()
    return None if row is None else Head(**row._mapping)


def create_head(connection: Connection, head: Head) -> None:
    """The head of an empty log."""
    connection.execute(insert(log_head).values(id=1, **asdict(head)))


def move_head(connection: Connection, *, expected_size: int, head: Head) -> None:
    """Advance the head in the transaction of its records.

    Raises `AuditLogInvalid` if the stored head is not the one this writer last wrote: somebody else wrote too.
    """
    moved = driver(connection).execute(
        "UPDATE log_head SET size = ?, frontier = ?, root = ?, signed_size = ?, note = ? "
        "WHERE id = 1 AND size = ? AND epoch = ? AND log_id = ?",
        (
            *(head.size, head.frontier, head.root, head.signed_size, head.note),
            *(expected_size, head.epoch, head.log_id),
        ),
    )
    if moved.rowcount != 1:
        raise AuditLogInvalid(f"the log no longer ends at {expected_size} records: another program wrote to it")


def insert_records(connection: Connection, rows: Sequence[StoredRecord]) -> None:
    """Add rows to the end; a repeated sequence number or record id violates a constraint."""
    driver(connection).executemany(
        "INSERT INTO record (seq, record_id, header, env_ct, con_ct) VALUES (?, ?, ?, ?, ?)",
        [(row.seq, row.record_id, row.header, row.env_ct, row.con_ct) for row in rows],
    )
    bodies = [(row.seq, row.body) for row in rows if row.body is not None]
    if bodies:
        driver(connection).executemany("INSERT INTO public_body (seq, body) VALUES (?, ?)", bodies)


def put_tile(connection: Connection, level: int, index: int, hashes: bytes) -> None:
    """Write a tile that has grown. A full tile is never written twice, because nothing can be added to it."""
    driver(connection).execute(
        "INSERT INTO tile (level, idx, width, hashes) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (level, idx) DO UPDATE SET width = excluded.width, hashes = excluded.hashes",
        (level, index, len(hashes) // 32, hashes),
    )


def read_tile(connection: Connection, level: int, index: int) -> bytes:
    """The hashes of one tile; empty when nothing was stored."""
    found = connection.execute(select(tile.c.hashes).where(tile.c.level == level, tile.c.idx == index))
    return found.scalar_one_or_none() or b""


def read_tiles(connection: Connection, after: tuple[int, int], limit: int) -> list[tuple[int, int, bytes]]:
    """Tiles in the order of (level, index), beginning behind `after`."""
    level, index = after
    behind = (tile.c.level > level) | ((tile.c.level == level) & (tile.c.idx > index))
    query = select(tile.c.level, tile.c.idx, tile.c.hashes).where(behind).order_by(tile.c.level, tile.c.idx)
    return [(row.level, row.idx, row.hashes) for row in connection.execute(query.limit(limit))]


def seqs_of(connection: Connection, record_ids: Iterable[bytes]) -> dict[bytes, int]:
    """Which of these records are stored, and where."""
    ids = list(record_ids)
    found: dict[bytes, int] = {}
    for first in range(0, len(ids), _IDS_AT_ONCE):
        part = ids[first : first + _IDS_AT_ONCE]
        marks = ",".join("?" * len(part))
        query = f"SELECT record_id, seq FROM record WHERE record_id IN ({marks})"  # noqa: S608 - marks only
        found.update((row[0], row[1]) for row in driver(connection).execute(query, tuple(part)))
    return found


def read_headers(connection: Connection, first: int, limit: int) -> list[tuple[int, bytes]]:
    """Sequence numbers and headers from `first` upwards."""
    query = select(record.c.seq, record.c.header).where(record.c.seq >= first).order_by(record.c.seq).limit(limit)
    return [(row.seq, row.header) for row in connection.execute(query)]


def read_records(
    connection: Connection, first: int, limit: int, *, content: bool = False, newest_first: bool = False
) -> list[StoredRecord]:
    """Rows from `first` upwards, or downwards with `newest_first`. Content stays unread unless asked for."""
    where = record.c.seq <= first if newest_first else record.c.seq >= first
    order = record.c.seq.desc() if newest_first else record.c.seq.asc()
    return _records(connection, where, order, limit, content)


def read_records_at(connection: Connection, seqs: Sequence[int], *, content: bool = False) -> list[StoredRecord]:
    """Rows by number, smallest first."""
    return _records(connection, record.c.seq.in_(list(seqs)), record.c.seq.asc(), len(seqs), content)


def read_record(connection: Connection, record_id: bytes, *, content: bool = False) -> StoredRecord | None:
    """One row by its id."""
    found = _records(connection, record.c.record_id == record_id, record.c.seq.asc(), 1, content)
    return found[0] if found else None


def _records(
    connection: Connection, where: ColumnElement[bool], order: ColumnElement[int], limit: int, content: bool
) -> list[StoredRecord]:
    columns: list[ColumnElement] = [
        record.c.seq,
        record.c.record_id,
        record.c.header,
        record.c.env_ct,
        public_body.c.body,
    ]
    if content:
        columns.append(record.c.con_ct)
    joined = record.outerjoin(public_body, public_body.c.seq == record.c.seq)
    rows = connection.execute(select(*columns).select_from(joined).where(where).order_by(order).limit(limit))
    return [_stored(row, content) for row in rows]


def _stored(row: Row, content: bool) -> StoredRecord:
    return StoredRecord(row.seq, row.record_id, row.header, row.env_ct, row.con_ct if content else None, row.body)


def keep_checkpoint(connection: Connection, kept: StoredCheckpoint) -> None:
    """Store a signed tree head; the same one again changes nothing."""
    connection.execute(insert_or(checkpoint).values(**asdict(kept)).on_conflict_do_nothing())


def keep_cosigned(connection: Connection, kept: StoredCheckpoint) -> None:
    """Store a tree head that witnesses signed too; one of that size that is kept already gets their lines."""
    statement = insert_or(checkpoint).values(**asdict(kept))
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["size"],
            set_={"cosigs": kept.cosigs, "note": kept.note},
            where=checkpoint.c.root == kept.root,
        )
    )


def newest_cosigned(connection: Connection, limit: int) -> list[StoredCheckpoint]:
    """The last kept tree heads that have lines of witnesses, smallest first, of the last `limit` kept ones."""
    columns = [checkpoint.c[name] for name in StoredCheckpoint.__dataclass_fields__]
    rows = connection.execute(select(*columns).order_by(checkpoint.c.size.desc()).limit(limit)).all()
    return [StoredCheckpoint(**row._mapping) for row in reversed(rows) if row.cosigs is not None]


def drop_checkpoints(connection: Connection, sizes: Sequence[int]) -> None:
    """Forget kept tree heads that later ones of the same minute cover."""
    if sizes:
        connection.execute(delete(checkpoint).where(checkpoint.c.size.in_(sizes)))


def read_checkpoints(connection: Connection, after_size: int, limit: int) -> list[StoredCheckpoint]:
    """Kept tree heads of more than `after_size` records, smallest first."""
    columns = [checkpoint.c[name] for name in StoredCheckpoint.__dataclass_fields__]
    query = select(*columns).where(checkpoint.c.size > after_size).order_by(checkpoint.c.size).limit(limit)
    return [StoredCheckpoint(**row._mapping) for row in connection.execute(query)]


def newest_checkpoint_ms(connection: Connection) -> int:
    """When the newest kept tree head was signed; 0 when none is kept."""
    return connection.execute(select(func.max(checkpoint.c.t_signed_ms))).scalar_one() or 0
