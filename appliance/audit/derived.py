"""The statements of what is derived from the records: index, holds, retention, erasures, outbox. No rule.

    derived.insert_tokens(connection, [(token, seq)])
    derived.touching_hold(connection, scopes=[scope], subjects=[], classes=[1])

Every row follows from a public record of the log, or (index) from a header; nothing here is evidence. Plain SQL, with
parameters: several of these run in every batch. Every function takes the caller's connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from appliance.storage.database import Connection, driver

_ITEMS_AT_ONCE = 500  # parameters of one statement


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A hold: by the record that set it, and the one that released it."""

    hold_id: bytes
    set_seq: int
    released_seq: int | None


@dataclass(frozen=True, slots=True)
class ErasureRow:
    """A destruction that record `seq` announced. `next_seq`: where the deletion of ciphertexts goes on."""

    seq: int
    keys_destroyed: bool
    next_seq: int
    erased: int
    done_seq: int | None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """How far a sink is. `anchored_*`: the newest checkpoint that it acknowledged."""

    sink: str
    next_seq: int
    anchored_size: int
    anchored_ms: int


# --- index --------------------------------------------------------------------------------------------------------


def insert_tokens(connection: Connection, rows: Iterable[tuple[bytes, int]]) -> None:
    """Sorted by token, so that neighbours share a page. The same one twice is one."""
    ordered = sorted(rows)
    if ordered:
        driver(connection).executemany("INSERT OR IGNORE INTO blind (token, seq) VALUES (?, ?)", ordered)


def seqs_under(
    connection: Connection, token: bytes, first: int, limit: int, *, newest_first: bool = False
) -> list[int]:
    """Numbers of records with this token, from `first` on upwards, or downwards."""
    order = ("<=", "DESC") if newest_first else (">=", "ASC")
    query = f"SELECT seq FROM blind WHERE token = ? AND seq {order[0]} ? ORDER BY seq {order[1]} LIMIT ?"  # noqa: S608
    return [row[0] for row in connection.exec_driver_sql(query, (token, first, limit))]


def count_under(connection: Connection, token: bytes, first: int, end: int) -> int:
    """How many records from `first` to before `end` have this token."""
    query = "SELECT count(*) FROM blind WHERE token = ? AND seq >= ? AND seq < ?"
    return connection.exec_driver_sql(query, (token, first, end)).scalar_one()


def delete_tokens(connection: Connection, seqs: Sequence[int]) -> None:
    """Everything that the index has of these records."""
    if seqs:
        connection.exec_driver_sql("DELETE FROM blind WHERE seq = ?", [(seq,) for seq in seqs])


def delete_token(connection: Connection, token: bytes, seqs: Sequence[int]) -> None:
    """One token of these records."""
    if seqs:
        connection.exec_driver_sql("DELETE FROM blind WHERE token = ? AND seq = ?", [(token, seq) for seq in seqs])


# --- holds --------------------------------------------------------------------------------------------------------


def insert_hold(connection: Connection, hold_id: bytes, set_seq: int, items: Iterable[tuple[str, bytes]]) -> None:
    """A hold that begins. `items`: kind (`scope`, `subject`, `class`) and id."""
    connection.exec_driver_sql("INSERT INTO hold (hold_id, set_seq) VALUES (?, ?)", (hold_id, set_seq))
    rows = [(hold_id, kind, value) for kind, value in sorted(set(items))]
    connection.exec_driver_sql("INSERT INTO hold_item (hold_id, kind, value) VALUES (?, ?, ?)", rows)


def release_hold(connection: Connection, hold_id: bytes, released_seq: int) -> None:
    """The hold ends."""
    query = "UPDATE hold SET released_seq = ? WHERE hold_id = ? AND released_seq IS NULL"
    connection.exec_driver_sql(query, (released_seq, hold_id))


def read_hold(connection: Connection, hold_id: bytes) -> HoldRow | None:
    """One hold, active or not."""
    query = "SELECT hold_id, set_seq, released_seq FROM hold WHERE hold_id = ?"
    row = connection.exec_driver_sql(query, (hold_id,)).one_or_none()
    return None if row is None else HoldRow(*row)


def read_holds(connection: Connection, limit: int) -> list[HoldRow]:
    """Every hold, newest first."""
    query = "SELECT hold_id, set_seq, released_seq FROM hold ORDER BY set_seq DESC LIMIT ?"
    return [HoldRow(*row) for row in connection.exec_driver_sql(query, (limit,))]


def touching_hold(
    connection: Connection, *, scopes: Iterable[bytes], subjects: Iterable[bytes], classes: Iterable[int]
) -> bytes | None:
    """The id of an active hold that covers any of these, None when none does."""
    asked = (
        ("scope", list(scopes)),
        ("subject", list(subjects)),
        ("class", [bytes([number]) for number in classes]),
    )
    for kind, values in asked:
        for part in _parts(values):
            marks = ",".join("?" * len(part))
            found = connection.exec_driver_sql(
                "SELECT hold.hold_id FROM hold JOIN hold_item ON hold_item.hold_id = hold.hold_id "  # noqa: S608
                f"WHERE hold.released_seq IS NULL AND hold_item.kind = ? AND hold_item.value IN ({marks}) LIMIT 1",
                (kind, *part),
            ).scalar_one_or_none()
            if found is not None:
                return found
    return None


# --- retention ----------------------------------------------------------------------------------------------------


def read_retention(connection: Connection) -> dict[int, int]:
    """Months for each class that has a rule."""
    return {row[0]: row[1] for row in connection.exec_driver_sql("SELECT class, months FROM retention ORDER BY class")}


def put_retention(connection: Connection, record_class: int, months: int, seq: int) -> None:
    """The rule of one class from record `seq` on."""
    connection.exec_driver_sql(
        "INSERT INTO retention (class, months, seq) VALUES (?, ?, ?) "
        "ON CONFLICT (class) DO UPDATE SET months = excluded.months, seq = excluded.seq",
        (record_class, months, seq),
    )


# --- erasures -----------------------------------------------------------------------------------------------------


def insert_erasure(connection: Connection, seq: int) -> None:
    """A destruction that record `seq` announces: nothing is destroyed yet."""
    query = "INSERT INTO erasure (seq, keys_destroyed, next_seq, erased) VALUES (?, 0, 0, 0)"
    connection.exec_driver_sql(query, (seq,))


def read_erasures(connection: Connection, limit: int, *, unfinished: bool = False) -> list[ErasureRow]:
    """Destructions, newest first; or only what is left of them, oldest first."""
    which = "WHERE done_seq IS NULL ORDER BY seq ASC" if unfinished else "ORDER BY seq DESC"
    query = f"SELECT seq, keys_destroyed, next_seq, erased, done_seq FROM erasure {which} LIMIT ?"  # noqa: S608
    return [_erasure(row) for row in connection.exec_driver_sql(query, (limit,))]


def read_erasure(connection: Connection, seq: int) -> ErasureRow | None:
    """One destruction."""
    query = "SELECT seq, keys_destroyed, next_seq, erased, done_seq FROM erasure WHERE seq = ?"
    row = connection.exec_driver_sql(query, (seq,)).one_or_none()
    return None if row is None else _erasure(row)


def mark_keys_destroyed(connection: Connection, seq: int) -> None:
    """From now on ciphertexts may go."""
    connection.exec_driver_sql("UPDATE erasure SET keys_destroyed = 1 WHERE seq = ?", (seq,))


def move_erasure(connection: Connection, seq: int, *, next_seq: int, erased: int) -> None:
    """So far ciphertexts are gone."""
    query = "UPDATE erasure SET next_seq = ?, erased = erased + ? WHERE seq = ?"
    connection.exec_driver_sql(query, (next_seq, erased, seq))


def finish_erasure(connection: Connection, seq: int, done_seq: int) -> None:
    """Record `done_seq` says that it is finished."""
    connection.exec_driver_sql("UPDATE erasure SET done_seq = ? WHERE seq = ?", (done_seq, seq))


def delete_contents(connection: Connection, seqs: Sequence[int]) -> None:
    """The ciphertexts of these contents."""
    if seqs:
        connection.exec_driver_sql("UPDATE record SET con_ct = NULL WHERE seq = ?", [(seq,) for seq in seqs])


def delete_envelopes(connection: Connection, seqs: Sequence[int]) -> None:
    """The ciphertexts of these envelopes."""
    if seqs:
        connection.exec_driver_sql("UPDATE record SET env_ct = NULL WHERE seq = ?", [(seq,) for seq in seqs])


def sealed_in(connection: Connection, first: int, end: int, place: bytes) -> list[int]:
    """Records from `first` to before `end` whose header has these class, month and kind (four bytes)."""
    query = "SELECT seq FROM record WHERE seq >= ? AND seq < ? AND substr(header, 29, 4) = ? ORDER BY seq"
    return [row[0] for row in connection.exec_driver_sql(query, (first, end, place))]


def count_classes(connection: Connection, first: int, end: int, step: int) -> dict[int, int]:
    """Records by class (0: public) from `first` to before `end`, looking at every `step`-th."""
    if step == 1:
        query = "SELECT substr(header, 29, 1), count(*) FROM record WHERE seq >= ? AND seq < ? GROUP BY 1"
        rows = connection.exec_driver_sql(query, (first, end)).all()
    else:
        query = (
            "WITH RECURSIVE picked(seq) AS (SELECT ? UNION ALL SELECT seq + ? FROM picked WHERE seq + ? < ?) "
            "SELECT substr(header, 29, 1), count(*) FROM picked JOIN record USING (seq) WHERE seq < ? GROUP BY 1"
        )
        rows = connection.exec_driver_sql(query, (first, step, step, end, end)).all()
    return {value[0]: count for value, count in rows}


# --- bodies, outbox -----------------------------------------------------------------------------------------------


def read_body(connection: Connection, seq: int) -> bytes | None:
    """The body of a public record."""
    return connection.exec_driver_sql("SELECT body FROM public_body WHERE seq = ?", (seq,)).scalar_one_or_none()


def newest_bodies(connection: Connection, limit: int) -> Iterator[bytes]:
    """Bodies of public records, newest first."""
    query = "SELECT body FROM public_body ORDER BY seq DESC LIMIT ?"
    return (row[0] for row in connection.exec_driver_sql(query, (limit,)))


def put_cursor(connection: Connection, row: OutboxRow) -> None:
    """Where a sink is now."""
    connection.exec_driver_sql(
        "INSERT INTO outbox (sink, next_seq, anchored_size, anchored_ms) VALUES (?, ?, ?, ?) ON CONFLICT (sink) "
        "DO UPDATE SET next_seq = excluded.next_seq, anchored_size = excluded.anchored_size, "
        "anchored_ms = excluded.anchored_ms",
        (row.sink, row.next_seq, row.anchored_size, row.anchored_ms),
    )


def read_cursors(connection: Connection) -> list[OutboxRow]:
    """Every sink."""
    query = "SELECT sink, next_seq, anchored_size, anchored_ms FROM outbox ORDER BY sink"
    return [OutboxRow(*row) for row in connection.exec_driver_sql(query)]


def _erasure(row: Sequence) -> ErasureRow:
    seq, keys_destroyed, next_seq, erased, done_seq = row
    return ErasureRow(seq, bool(keys_destroyed), next_seq, erased, done_seq)


def _parts(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for first in range(0, len(values), _ITEMS_AT_ONCE):
        yield values[first : first + _ITEMS_AT_ONCE]
