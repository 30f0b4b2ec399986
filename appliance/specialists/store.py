"""Rows of installed specialists: the only SQL of this room. Rules are in `registry.py`."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import IntegrityError

from appliance.storage.database import reading, writing
from appliance.storage.tables import specialist


@dataclass(frozen=True, slots=True)
class SpecialistRow:
    """One installed version. `manifest` is the JSON of the file; `active` versions answer under their id."""

    sha256: str
    id: str
    version: str
    task: str
    manifest: str
    size_bytes: int
    active: bool
    installed_ms: int
    installed_by: str


def read_active(engine: Engine) -> tuple[SpecialistRow, ...]:
    """Every active version, by id."""
    with reading(engine) as connection:
        rows = connection.execute(select(specialist).where(specialist.c.active == 1).order_by(specialist.c.id))
        return tuple(_row(row) for row in rows.mappings())


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


def _row(values: RowMapping) -> SpecialistRow:
    return SpecialistRow(**{**values, "active": bool(values["active"])})
