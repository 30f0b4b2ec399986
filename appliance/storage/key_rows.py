"""The statements of the keystore, over `tables.py`; no rule, no cryptography, no transaction.

    with writing(engine) as connection:
        key_rows.insert_scope_key(connection, row)
        key_rows.rewrap_scope_keys(connection, rows)

Every function takes the caller's connection, so that the caller decides what commits together. Every key in these rows
is wrapped. Every read of keys is bounded by an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import ColumnElement, bindparam, delete, insert, select, update

from appliance.storage.database import Connection
from appliance.storage.tables import kek, root_slot, scope_key, signing_key

SlotKind = Literal["file", "passphrase"]
ScopeKind = Literal["env", "con", "idx"]


@dataclass(frozen=True, slots=True)
class SlotRow:
    """One way to unlock the root key. `parameters` is JSON, `salt` None for a key file."""

    slot: int
    kind: SlotKind
    parameters: str
    salt: bytes | None
    wrapped: bytes
    kcv: bytes
    created_ms: int


@dataclass(frozen=True, slots=True)
class WrappingKeyRow:
    """One generation of the key that wraps all others; `blob` is wrapped by the root key."""

    gen: int
    protector: str
    blob: bytes
    kcv: bytes
    created_ms: int


@dataclass(frozen=True, slots=True)
class ScopeKeyRow:
    """One key for envelopes or contents. `owner` is a keyed hash, empty for the key of a whole month."""

    scope_id: bytes
    kind: ScopeKind
    record_class: int
    month: int
    owner: bytes
    kek_gen: int
    wrapped: bytes
    kcv: bytes
    created_ms: int


@dataclass(frozen=True, slots=True)
class ScopeKeyInfo:
    """A key for records without the key: what it is for. `kind` `idx` has class 0; `owner` as in `ScopeKeyRow`."""

    scope_id: bytes
    kind: ScopeKind
    record_class: int
    month: int
    owner: bytes


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """A key that signs, or signed, tree heads of `origin`. `wrapped` is empty once the seed was erased."""

    id: int
    origin: str
    public: bytes
    kek_gen: int
    wrapped: bytes
    kcv: bytes
    created_ms: int
    retired_ms: int | None = None


def insert_slot(connection: Connection, row: SlotRow) -> None:
    connection.execute(insert(root_slot).values(**asdict(row)))


def read_slots(connection: Connection) -> list[SlotRow]:
    """Every slot, lowest first."""
    columns = [root_slot.c[name] for name in SlotRow.__dataclass_fields__]
    return [SlotRow(**row._mapping) for row in connection.execute(select(*columns).order_by(root_slot.c.slot))]


def update_slot(connection: Connection, row: SlotRow) -> None:
    """Replace what is in a slot."""
    values = asdict(row)
    connection.execute(update(root_slot).where(root_slot.c.slot == values.pop("slot")).values(**values))


def delete_slot(connection: Connection, slot: int) -> None:
    connection.execute(delete(root_slot).where(root_slot.c.slot == slot))


def insert_wrapping_key(connection: Connection, row: WrappingKeyRow) -> None:
    connection.execute(insert(kek).values(**asdict(row)))


def read_wrapping_keys(connection: Connection) -> list[WrappingKeyRow]:
    """Every generation, oldest first."""
    columns = [kek.c[name] for name in WrappingKeyRow.__dataclass_fields__]
    return [WrappingKeyRow(**row._mapping) for row in connection.execute(select(*columns).order_by(kek.c.gen))]


def update_wrapping_key(connection: Connection, row: WrappingKeyRow) -> None:
    """Replace what protects a generation; the key itself stays."""
    values = {"protector": row.protector, "blob": row.blob}
    connection.execute(update(kek).where(kek.c.gen == row.gen).values(**values))


def delete_wrapping_key(connection: Connection, generation: int) -> None:
    """Refused by the database while a key is wrapped by it."""
    connection.execute(delete(kek).where(kek.c.gen == generation))


def insert_scope_key(connection: Connection, row: ScopeKeyRow) -> None:
    values = asdict(row)
    values["class_"] = values.pop("record_class")
    connection.execute(insert(scope_key).values(**values))


def find_scope_key(
    connection: Connection, kind: ScopeKind, record_class: int, month: int, owner: bytes
) -> ScopeKeyRow | None:
    """The key in use for this purpose, if one was made already."""
    where = (
        (scope_key.c.kind == kind)
        & (scope_key.c.class_ == record_class)
        & (scope_key.c.month == month)
        & (scope_key.c.owner == owner)
    )
    found = _scope_keys(connection, where, 1)
    return found[0] if found else None


def read_scope_key(connection: Connection, scope_id: bytes) -> ScopeKeyRow | None:
    """The key with this id, unless it was destroyed."""
    found = _scope_keys(connection, scope_key.c.scope_id == scope_id, 1)
    return found[0] if found else None


def read_scope_keys_wrapped_before(connection: Connection, generation: int, limit: int) -> list[ScopeKeyRow]:
    """Keys that an older generation wraps."""
    return _scope_keys(connection, scope_key.c.kek_gen < generation, limit)


def read_scopes_of_owner(connection: Connection, owner: bytes, after: bytes, limit: int) -> list[ScopeKeyInfo]:
    """The keys of one owner behind `after`, by id."""
    return _scopes(connection, scope_key.c.owner == owner, after, limit)


def read_scopes_of_month(
    connection: Connection, record_class: int, month: int, after: bytes, limit: int
) -> list[ScopeKeyInfo]:
    """The keys of one class and month behind `after`, by id."""
    return _scopes(connection, (scope_key.c.class_ == record_class) & (scope_key.c.month == month), after, limit)


def read_months(connection: Connection, limit: int) -> list[tuple[int, int]]:
    """Classes and months that have a key for envelopes or contents, ascending."""
    query = select(scope_key.c.class_, scope_key.c.month).where(scope_key.c.kind != "idx").distinct()
    ordered = query.order_by(scope_key.c.class_, scope_key.c.month).limit(limit)
    return [(row.class_, row.month) for row in connection.execute(ordered)]


def rewrap_scope_keys(connection: Connection, rows: Sequence[ScopeKeyRow]) -> None:
    """Replace how these keys are wrapped; nothing else of a row can change."""
    change = update(scope_key).where(scope_key.c.scope_id == bindparam("named"))
    values = [{"named": row.scope_id, "kek_gen": row.kek_gen, "wrapped": row.wrapped} for row in rows]
    if values:
        connection.execute(change, values)


def delete_scope_keys(connection: Connection, scope_ids: Sequence[bytes]) -> int:
    """How many of these keys were there. The traces they leave are for the caller (`storage.erasing`)."""
    return connection.execute(delete(scope_key).where(scope_key.c.scope_id.in_(scope_ids))).rowcount


def _scopes(connection: Connection, where: ColumnElement[bool], after: bytes, limit: int) -> list[ScopeKeyInfo]:
    named = (scope_key.c.scope_id, scope_key.c.kind, scope_key.c.class_.label("record_class"))
    columns = (*named, scope_key.c.month, scope_key.c.owner)
    query = select(*columns).where(where, scope_key.c.scope_id > after).order_by(scope_key.c.scope_id).limit(limit)
    return [ScopeKeyInfo(**row._mapping) for row in connection.execute(query)]


def _scope_keys(connection: Connection, where: ColumnElement[bool], limit: int) -> list[ScopeKeyRow]:
    names = {name: "class_" if name == "record_class" else name for name in ScopeKeyRow.__dataclass_fields__}
    columns = [scope_key.c[column].label(name) for name, column in names.items()]
    rows = connection.execute(select(*columns).where(where).limit(limit))
    return [ScopeKeyRow(**row._mapping) for row in rows]


def insert_signing_key(connection: Connection, row: SigningKeyRow) -> None:
    connection.execute(insert(signing_key).values(**asdict(row)))


def update_signing_key(connection: Connection, row: SigningKeyRow) -> None:
    """Replace how the seed is wrapped and when the key was retired; its name and public half stay."""
    values = {"kek_gen": row.kek_gen, "wrapped": row.wrapped, "retired_ms": row.retired_ms}
    connection.execute(update(signing_key).where(signing_key.c.id == row.id).values(**values))


def read_signing_keys(connection: Connection, limit: int) -> list[SigningKeyRow]:
    """Every signing key there ever was, newest first."""
    columns = [signing_key.c[name] for name in SigningKeyRow.__dataclass_fields__]
    query = select(*columns).order_by(signing_key.c.id.desc()).limit(limit)
    return [SigningKeyRow(**row._mapping) for row in connection.execute(query)]


# How often keys were destroyed, in the header of the file: whoever keeps opened keys in memory compares it.


def read_destructions(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def count_destruction(connection: Connection) -> None:
    connection.exec_driver_sql(f"PRAGMA user_version={(read_destructions(connection) + 1) % 2**31}")
