"""Rows of installed specialists and of trusted keys: the only SQL of this room. Rules are in `registry.py`.

Every function is one transaction: when it returns, the change survives a power cut; when the process dies in it,
nothing was changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import IntegrityError

from appliance.specialists.signature import TrustedKey
from appliance.storage.database import reading, writing
from appliance.storage.tables import specialist, trusted_key


@dataclass(frozen=True, slots=True)
class SpecialistRow:
    """One installed version. `manifest` is the JSON of the file; `active` versions answer under their id.

    `follows` is the SHA-256 of the version that was active before this one was promoted: the way back.
    """

    sha256: str
    id: str
    version: str
    task: str
    manifest: str
    size_bytes: int
    active: bool
    installed_ms: int
    installed_by: str
    person: str | None = None
    reason: str | None = None
    signature: str | None = None
    signer: str | None = None
    approved_by: str | None = None
    approved_ms: int | None = None
    promoted_by: str | None = None
    promoted_ms: int | None = None
    follows: str | None = None


@dataclass(frozen=True, slots=True)
class TrustedKeyRow:
    """A key that this site trusts, and who decided it."""

    key: TrustedKey
    added_ms: int
    added_by: str


def read_active(engine: Engine) -> tuple[SpecialistRow, ...]:
    """Every active version, by id."""
    with reading(engine) as connection:
        rows = connection.execute(select(specialist).where(specialist.c.active == 1).order_by(specialist.c.id))
        return tuple(_row(row) for row in rows.mappings())


def read_all(engine: Engine) -> tuple[SpecialistRow, ...]:
    """Every installed version of every id: by id, the latest installation first."""
    wanted = select(specialist).order_by(specialist.c.id, specialist.c.installed_ms.desc())
    with reading(engine) as connection:
        return tuple(_row(row) for row in connection.execute(wanted).mappings())


def read_versions(engine: Engine, specialist_id: str) -> tuple[SpecialistRow, ...]:
    """Every installed version of one id, the latest installation first."""
    wanted = select(specialist).where(specialist.c.id == specialist_id).order_by(specialist.c.installed_ms.desc())
    with reading(engine) as connection:
        return tuple(_row(row) for row in connection.execute(wanted).mappings())


def add(engine: Engine, row: SpecialistRow) -> bool:
    """Store a version; where it is active, the one that was is no longer. False: its bytes or its version are known."""
    values = {column.name: getattr(row, column.name) for column in specialist.columns}
    try:
        with writing(engine) as connection:
            if row.active:
                before = select(specialist.c.sha256).where(specialist.c.id == row.id, specialist.c.active == 1)
                values["follows"] = connection.execute(before).scalar_one_or_none()
                connection.execute(update(specialist).where(specialist.c.id == row.id).values(active=0))
            connection.execute(insert(specialist).values(values | {"active": int(row.active)}))
    except IntegrityError:
        return False
    return True


def set_active(engine: Engine, specialist_id: str, sha256: str | None) -> None:
    """Make one version of an id the active one; None: none of them."""
    with writing(engine) as connection:
        connection.execute(update(specialist).where(specialist.c.id == specialist_id).values(active=0))
        if sha256 is not None:
            connection.execute(update(specialist).where(specialist.c.sha256 == sha256).values(active=1))


def approve(engine: Engine, sha256: str, by: str, at_ms: int) -> bool:
    """Note who approved a version. False: somebody had, or it is gone."""
    waiting = (specialist.c.sha256 == sha256) & specialist.c.approved_ms.is_(None)
    with writing(engine) as connection:
        done = connection.execute(update(specialist).where(waiting).values(approved_by=by, approved_ms=at_ms))
        return done.rowcount == 1


def promote(engine: Engine, specialist_id: str, sha256: str, by: str, at_ms: int) -> bool:
    """Make an approved version the one that answers, and note which one did before. False: it is not approved, gone,
    or active already.
    """
    mine = (specialist.c.sha256 == sha256) & (specialist.c.active == 0) & specialist.c.approved_ms.is_not(None)
    with writing(engine) as connection:
        if connection.execute(select(specialist.c.sha256).where(mine)).first() is None:
            return False
        before = select(specialist.c.sha256).where(specialist.c.id == specialist_id, specialist.c.active == 1)
        follows = connection.execute(before).scalar_one_or_none()
        connection.execute(update(specialist).where(specialist.c.id == specialist_id).values(active=0))
        connection.execute(
            update(specialist)
            .where(specialist.c.sha256 == sha256)
            .values(active=1, promoted_by=by, promoted_ms=at_ms, follows=follows)
        )
    return True


def go_back(engine: Engine, sha256: str, follows: str | None) -> bool:
    """Undo the promotion of the active version `sha256`: the one that it follows answers again, or none does.

    False: it is not active any more, or follows another by now.
    """
    expected = specialist.c.follows.is_(None) if follows is None else specialist.c.follows == follows
    mine = (specialist.c.sha256 == sha256) & (specialist.c.active == 1) & expected
    with writing(engine) as connection:
        done = connection.execute(update(specialist).where(mine).values(active=0, follows=None))
        if done.rowcount != 1:
            return False
        if follows is not None:
            connection.execute(update(specialist).where(specialist.c.sha256 == follows).values(active=1))
    return True


def remove(engine: Engine, sha256: str) -> bool:
    """Forget a version that is not active; who followed it follows the one before. False: it is active, or gone."""
    with writing(engine) as connection:
        row = connection.execute(select(specialist).where(specialist.c.sha256 == sha256)).mappings().first()
        if row is None or row["active"]:
            return False
        connection.execute(update(specialist).where(specialist.c.follows == sha256).values(follows=_row(row).follows))
        connection.execute(delete(specialist).where(specialist.c.sha256 == sha256))
    return True


def read_trusted_keys(engine: Engine) -> tuple[TrustedKeyRow, ...]:
    """Every trusted key, by name."""
    with reading(engine) as connection:
        rows = connection.execute(select(trusted_key).order_by(trusted_key.c.name)).mappings()
        return tuple(
            TrustedKeyRow(
                TrustedKey(row["name"], row["fingerprint"], row["public_pem"]), row["added_ms"], row["added_by"]
            )
            for row in rows
        )


def add_trusted_key(engine: Engine, row: TrustedKeyRow) -> bool:
    """Trust a key. False: the key or the name is known."""
    values = {"name": row.key.name, "fingerprint": row.key.fingerprint, "public_pem": row.key.public_pem}
    try:
        with writing(engine) as connection:
            connection.execute(insert(trusted_key).values(**values, added_ms=row.added_ms, added_by=row.added_by))
    except IntegrityError:
        return False
    return True


def remove_trusted_key(engine: Engine, name: str) -> bool:
    """Trust a key no more. False: there is none of that name."""
    with writing(engine) as connection:
        return connection.execute(delete(trusted_key).where(trusted_key.c.name == name)).rowcount == 1


def _row(values: RowMapping) -> SpecialistRow:
    return SpecialistRow(**{**values, "active": bool(values["active"])})
