"""Copies of a database that is in use: one state of it, whole, without stopping anybody.

    with reading(engine) as connection:
        copy_database(connection, target)        # the state that this transaction sees, by SQLite's online backup
    check_database(target)                       # every page and index fits; raises HomeError

Copying the files instead would lose what is only in the write-ahead log, and look perfect.
"""

from __future__ import annotations

import os
from pathlib import Path

from pysqlite3 import dbapi2

from appliance.errors import HomeError
from appliance.storage.database import Connection, Journal, driver, open_database, reading, translate


def copy_database(connection: Connection, target: Path) -> None:
    """Write what the transaction of `connection` sees to the new file `target`, mode 0600. Not synced.

    The source is read and not written; in WAL mode its writers go on. Raises `HomeError` naming `target`.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        copy = dbapi2.connect(target, isolation_level=None)
        try:
            # In one step: the transaction that is open keeps the state, and nothing restarts the copy.
            driver(connection).backup(copy, pages=-1)
        finally:
            copy.close()
    except dbapi2.Error as error:
        raise translate(error, target) or error from None


def check_database(path: Path, journal: Journal) -> None:
    """Raise `HomeError` unless every page, index and reference of the file fits together."""
    engine = open_database(path, mode="rw", journal=journal, connections=1)
    try:
        with reading(engine) as connection:
            found = [row[0] for row in driver(connection).execute("PRAGMA integrity_check(1)")]
            broken = driver(connection).execute("PRAGMA foreign_key_check").fetchone()
    finally:
        engine.dispose()
    if found != ["ok"] or broken is not None:
        raise HomeError(f"{path.name} is damaged: its pages or references do not fit", hint="use an earlier backup")
