"""Which revision of the tables this release reads and writes, and the refusal of every other one.

    require_current(engine, home.database)   # at every opening; Alembic is not imported, it takes a fifth of a second

The list repeats the file names in `migrations/versions`; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import MetaData, inspect, text

from appliance.config import Home
from appliance.errors import HomeError, HomeNotInitialised, HomeTooNew
from appliance.storage.database import Engine, Journal, open_database, reading
from appliance.storage.tables import app_metadata, audit_metadata, keystore_metadata

REVISIONS = ("0001_first_light", "0002_audit_promises", "0003_specialist_life")  # oldest first
HEAD = REVISIONS[-1]


@dataclass(frozen=True, slots=True)
class Database:
    """One of the three files: its name in migrations, where it lies, its tables and its kind of journal."""

    name: str
    path: Callable[[Home], Path]
    metadata: MetaData
    journal: Journal


# The order of commits in an upgrade. Keys first: a log is never newer than the keys that open it.
DATABASES = (
    Database("keystore", lambda home: home.keystore, keystore_metadata, "delete"),
    Database("audit", lambda home: home.audit_database, audit_metadata, "wal"),
    Database("app", lambda home: home.database, app_metadata, "wal"),
)


def require_current(engine: Engine, path: Path) -> None:
    """Refuse a database that is not exactly of this release, and say in which direction it differs."""
    found = revision_of(engine)
    if found == HEAD:
        return
    if found is None:
        raise HomeNotInitialised(f"{path} has no tables yet", hint="create the data folder with `appliance init`")
    if found not in REVISIONS:
        raise _too_new(path, found)
    raise HomeError(
        f"{path} was written by an earlier release (revision {found}, this one needs {HEAD})",
        hint="stop the server and run `appliance upgrade`",
    )


def refuse_newer(path: Path, journal: Journal = "wal") -> None:
    """Refuse `path` if a later release wrote it; a file that is missing or empty is not newer.

    Writes nothing, but for taking back what a killed upgrade left half done: a database with such a journal cannot be
    read by anybody who may not write.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return
    engine = open_database(path, mode="rw", journal=journal, connections=1)
    try:
        found = revision_of(engine)
    finally:
        engine.dispose()
    if found is not None and found not in REVISIONS:
        raise _too_new(path, found)


def revision_of(engine: Engine) -> str | None:
    """The revision that the database says it has; None for a database without tables."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _too_new(path: Path, found: str) -> HomeTooNew:
    return HomeTooNew(
        f"{path} was written by a later release (revision {found}; this one knows {HEAD})",
        hint="install the release that wrote it, or a later one",
    )
