"""Which revisions of the tables this release reads and writes, and the refusal of every other one.

    require_current(engine, home.database)   # at every opening; Alembic is not imported, it takes a fifth of a second

The list repeats the file names in `migrations/versions`; a test compares them. A later release that only added to the
tables says in them since which release they can be used (`release_floor`, written by `migrations/env.py`): that is
what makes going back from an upgrade possible without restoring a backup.
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

REVISIONS = ("0001_first_light", "0002_audit_promises", "0003_specialist_life", "0004_conversations")  # oldest first
HEAD = REVISIONS[-1]
FLOOR_TABLE = "release_floor"


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
    """Refuse a database that this release cannot work on, and say in which direction it differs."""
    found = revision_of(engine)
    if found == HEAD or is_later_but_usable(engine, found):
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
        usable = is_later_but_usable(engine, found)
    finally:
        engine.dispose()
    if found is not None and found not in REVISIONS and not usable:
        raise _too_new(path, found)


def is_later_but_usable(engine: Engine, found: str | None) -> bool:
    """Did a later release write it, and say that a release of one of our revisions can work on it too?"""
    if found is None or found in REVISIONS:
        return False
    with reading(engine) as connection:
        if not inspect(connection).has_table(FLOOR_TABLE):
            return False
        return connection.execute(text("SELECT revision FROM release_floor")).scalar_one_or_none() in REVISIONS


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
