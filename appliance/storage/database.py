"""Opens the SQLite databases so that what was committed is on the disk; knows no table and no rule.

    engine = open_database(home.database, mode="rw")
    with writing(engine) as connection:          # BEGIN IMMEDIATE … COMMIT, or ROLLBACK on any exception
        connection.execute(insert(meta).values(key="site", value="Ward 3"))
    with reading(engine) as connection:          # one snapshot; a write in here is refused
        connection.execute(select(meta)).all()

What a caller may rely on:

- when `writing` returns, the change survives a power cut (`synchronous=FULL`, set and read back on every connection);
- when it raises, the change MAY still be there after a restart, if it was the commit that failed: a caller that must
  know asks the database again, by an id that it chose itself;
- every error of SQLite that a person can do something about arrives as a `HomeError` with a remedy; an
  `IntegrityError` arrives as it is, for the store that knows which rule it broke;
- an engine used in a process other than the one that opened it raises instead of corrupting the file.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pysqlite3 import dbapi2
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import TimeoutError as PoolTimeout

from appliance.errors import HomeError, HomeFull, HomeInUse, HomeNotInitialised, HomeReadOnly

__all__ = [
    "Connection",
    "DatabaseError",
    "Engine",
    "Journal",
    "Mode",
    "driver",
    "erasing",
    "open_database",
    "reading",
    "sqlite_version",
    "translate",
    "writing",
    "writing_connection",
]

DatabaseError = dbapi2.Error  # as it arrives from `driver`

Mode = Literal["ro", "rw", "create"]
Journal = Literal["wal", "delete"]

# Releases from 3.7.0 to 3.51.2 can corrupt a database when a write-ahead log is reset under two connections.
SQLITE_VERSION_MIN = (3, 51, 3)

# Longer than the audit log may take to answer (5 s): an administrator's change holds its transaction open meanwhile.
BUSY_S = 10.0
CONNECTIONS = 4
_FREE_BYTES_MIN = 1024 * 1024
_OVERWRITE_BYTES = 1024 * 1024
_WRITES = "appliance_writes"
_MAY_WRITE = "appliance_may_write"  # of a connection in the pool: what it was told last

# Result codes of SQLite (sqlite.org/rescode.html); the low byte is the primary code.
_PERM, _BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 3, 5, 6, 8, 10, 11, 13, 14, 26
_PROTOCOL = 15


def open_database(
    path: Path, *, mode: Mode, journal: Journal = "wal", connections: int = CONNECTIONS, busy_s: float = BUSY_S
) -> Engine:
    """Open `path` and prove with one connection that it can be used; raises a `HomeError` naming the file.

    `mode`: `rw` and `ro` need the file to exist, `create` makes it (mode 0600) when it does not. `ro` MAY be used
    while another process writes. `journal`: `wal` for data; `delete` for key material, where nothing deleted may
    linger in a side file and free pages are overwritten. At most `connections` are open at a time.
    """
    if dbapi2.sqlite_version_info < SQLITE_VERSION_MIN:
        needed = ".".join(str(part) for part in SQLITE_VERSION_MIN)
        raise HomeError(
            f"SQLite {dbapi2.sqlite_version} can corrupt a database in use",
            hint=f"install pysqlite3 with SQLite {needed} or newer",
        )
    _check_file(path, mode)
    read_only = mode == "ro"
    engine = create_engine(
        "sqlite://",
        module=dbapi2,
        creator=_connector(path, _settings(read_only, journal), _opened_as(mode, journal), busy_s),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=busy_s,
        hide_parameters=True,  # an exception's text never shows what was bound to a statement
        echo=False,
    )
    _listen(engine, path, writes_by_default=not read_only)
    try:
        engine.connect().close()
    except BaseException:
        engine.dispose()
        raise
    return engine


def sqlite_version() -> str:
    """The release of SQLite in use."""
    return dbapi2.sqlite_version


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that sees one state of the database; SQLite refuses every write inside it."""
    with _transaction(engine, writes=False) as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that holds the write lock from its start, so that what it read stays true until it commits."""
    with _transaction(engine, writes=True) as connection:
        yield connection


@contextmanager
def erasing(engine: Engine) -> Iterator[Connection]:
    """As `writing`; when it returns, nothing of what was deleted in it is left in the file or in its journal.

    For a database opened with `journal="delete"` and one connection. Until it returns everybody else waits: another
    writer would unlink the journal, and what is in it, before it is overwritten. If it raises or the process dies,
    the deletion MAY be done and its traces still there: do it again, deleting nothing is enough. What the disk itself
    keeps (spare blocks of flash, snapshots) is out of reach.
    """
    path: Path = engine.get_execution_options()["appliance_path"]
    journal = path.with_name(path.name + "-journal")
    _execute(engine, path, "PRAGMA journal_mode=PERSIST")
    try:
        with writing(engine) as connection:
            # Not before: outside a transaction this mode would keep a lock for reading, and two that each keep one
            # and want to write wait for each other.
            connection.exec_driver_sql("PRAGMA locking_mode=EXCLUSIVE")
            yield connection
        _execute(engine, path, "PRAGMA query_only=0", "VACUUM")
        _overwrite(journal, path)
    finally:
        _execute(engine, path, "PRAGMA journal_mode=DELETE", "PRAGMA locking_mode=NORMAL", "PRAGMA schema_version")


def writing_connection(engine: Engine) -> Connection:
    """A connection for whoever writes all the time and is alone: `with connection.begin():` is as `writing`.

    The caller MUST close it, and MUST NOT use it after an error.
    """
    return engine.connect().execution_options(**{_WRITES: True})


def driver(connection: Connection) -> dbapi2.Connection:
    """What lies below: for statements so frequent that building and wrapping them costs more than running them.

    Inside the transaction of `connection`; errors arrive as SQLite's own, for `translate`.
    """
    return connection.connection.driver_connection


def translate(error: BaseException, path: Path) -> HomeError | None:
    """The `HomeError` for an error of SQLite, or None where there is no remedy to name (a bug, a broken rule)."""
    extended = getattr(error, "sqlite_errorcode", None)
    if not isinstance(extended, int):
        return None
    code = extended & 0xFF
    if code == _CANTOPEN and not path.exists():
        return _missing(path)
    if code in (_PERM, _READONLY, _CANTOPEN):
        return _read_only(path)
    if code == _FULL or (code == _IOERR and _disk_is_full(path)):
        # A quota or a size limit shows as an I/O error instead, which is why the free space is asked for.
        return HomeFull(f"no space left on the disk for {path}", hint=f"free space on the disk of {path.parent}")
    if code in (_BUSY, _LOCKED, _PROTOCOL):  # the last: who plays a write-ahead log back is held up while others wait
        return _in_use(path)
    if code in (_NOTADB, _CORRUPT):
        return HomeError(
            f"{path} is damaged or is not a database",
            hint="keep the file for analysis and restore the data folder from a backup",
        )
    if code == _IOERR:
        return HomeError(f"the disk reported an error for {path}", hint="check the disk, then start again")
    return None


@contextmanager
def _transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except PoolTimeout:
        path = engine.get_execution_options()["appliance_path"]
        raise _in_use(path) from None
    with connection.execution_options(**{_WRITES: writes}), connection.begin():
        yield connection


def _execute(engine: Engine, path: Path, *statements: str) -> None:
    """Statements that must not be inside a transaction."""
    connection = engine.raw_connection()
    try:
        for statement in statements:
            connection.driver_connection.execute(statement).fetchall()  # type: ignore[union-attr]
    except dbapi2.Error as error:
        raise translate(error, path) or error from None
    finally:
        connection.close()


def _overwrite(journal: Path, path: Path) -> None:
    """Zeros over the whole of a side file, on the disk. Never the database itself: closing it would drop its locks."""
    try:
        with journal.open("r+b") as file:
            left = os.fstat(file.fileno()).st_size
            while left > 0:
                left -= file.write(bytes(min(left, _OVERWRITE_BYTES)))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    except OSError as error:
        raise HomeError(
            f"cannot overwrite the journal of {path}: {error.strerror}", hint="check the disk, then do it again"
        ) from None


def _check_file(path: Path, mode: Mode) -> None:
    if mode == "create":
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its side files the mode of the main file, so this mode is the mode of all of them.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except PermissionError:
            raise _read_only(path) from None
        except OSError as error:
            raise HomeError(f"cannot create {path}: {error.strerror}") from None
    if not path.is_file():
        raise _missing(path)
    if mode == "ro":
        return
    # SQLite would silently fall back to reading only and fail at the first write.
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK | os.X_OK):
        raise _read_only(path)
    status = path.stat()
    if stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.geteuid():
        path.chmod(0o600)


def _settings(read_only: bool, journal: Journal) -> dict[str, int | str]:
    """Pragmas and the values that must be read back; tutorials and builds differ in every one of them."""
    settings: dict[str, int | str] = {
        "mmap_size": 0,  # an I/O error arrives as an error, not as SIGBUS
        "foreign_keys": 1,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "temp_store": 2,  # memory: no row is ever written to a folder for temporary files
    }
    if read_only:
        return settings | {"query_only": 1}  # the journal mode belongs to the writer
    if journal == "wal":
        # NORMAL would lose acknowledged commits in a power cut and look the same in every other test.
        return settings | {"journal_mode": "wal", "synchronous": 2}
    # EXTRA also syncs the folder after the journal is unlinked: without it a committed key may be rolled back.
    return settings | {"journal_mode": "delete", "synchronous": 3, "secure_delete": 1}


def _opened_as(mode: Mode, journal: Journal) -> Literal["ro", "rw"]:
    """How SQLite is to open the file.

    A rollback journal that a crash left has to be played back before anything can be read, also by who only reads:
    opened as `ro`, the file would stay locked to everybody until somebody writes. `query_only` keeps a reader from
    writing all the same, and what must not be written at all (a mounted copy) SQLite opens for reading by itself.
    """
    return "ro" if mode == "ro" and journal == "wal" else "rw"


def _connector(path: Path, settings: dict[str, int | str], opened_as: str, busy_s: float) -> Any:
    uri = f"{path.absolute().as_uri()}?mode={opened_as}"
    opened_by = os.getpid()

    def connect() -> dbapi2.Connection:
        if os.getpid() != opened_by:
            raise _foreign_process(path, opened_by)
        try:
            # isolation_level None: the driver starts no transaction of its own; `_listen` does, explicitly.
            connection = dbapi2.connect(uri, timeout=busy_s, isolation_level=None, check_same_thread=False, uri=True)
        except dbapi2.Error as error:
            raise translate(error, path) or error from None
        try:
            for name, value in settings.items():
                _set_and_read_back(connection, path, name, value)
            _pragma(connection, "schema_version")  # reads the header, so that damage shows now and not in a request
        except dbapi2.Error as error:
            connection.close()
            raise translate(error, path) or error from None
        except HomeError:
            connection.close()
            raise
        return connection

    return connect


def _set_and_read_back(connection: dbapi2.Connection, path: Path, name: str, value: int | str) -> None:
    if _pragma(connection, name) != value:
        connection.execute(f"PRAGMA {name}={value}").fetchall()
    found = _pragma(connection, name)
    if found != value:
        raise HomeError(
            f"SQLite did not accept {name}={value} for {path} (it answers {found})",
            hint="put the data folder on a local disk; network and overlay file systems are not safe for it",
        )


def _pragma(connection: dbapi2.Connection, name: str) -> int | str | None:
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return None if row is None else row[0]


def _listen(engine: Engine, path: Path, *, writes_by_default: bool) -> None:
    opened_by = os.getpid()
    engine.update_execution_options(appliance_path=path)

    @event.listens_for(engine, "checkout")
    def refuse_after_fork(*_: object) -> None:
        if os.getpid() != opened_by:
            raise _foreign_process(path, opened_by)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        refuse_after_fork()  # a connection that is kept is checked out once and used for ever
        # A deferred transaction that turns to writing fails at once when somebody else wrote meanwhile, without
        # waiting: therefore a writer takes the lock first, and a reader is not allowed to turn.
        writes = connection.get_execution_options().get(_WRITES, writes_by_default)
        database = driver(connection)
        try:
            if writes_by_default and not (writes and connection.info.get(_MAY_WRITE)):
                database.execute(f"PRAGMA query_only={0 if writes else 1}")
                connection.info[_MAY_WRITE] = writes
            database.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        except dbapi2.Error as error:
            raise translate(error, path) or error from None

    @event.listens_for(engine, "handle_error", retval=True)
    def translate_error(context: ExceptionContext) -> BaseException | None:
        return translate(context.original_exception, path)


def _disk_is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _FREE_BYTES_MIN
    except OSError:
        return False


def _missing(path: Path) -> HomeNotInitialised:
    return HomeNotInitialised(
        f"{path} does not exist", hint="create the data folder with `appliance init`, or name another with --home"
    )


def _read_only(path: Path) -> HomeReadOnly:
    return HomeReadOnly(
        f"{path} cannot be written by this user",
        hint=f"check owner and mode of {path.parent} and that it is mounted rw",
    )


def _in_use(path: Path) -> HomeInUse:
    return HomeInUse(f"{path} is locked by another process", hint="stop the other appliance process, then try again")


def _foreign_process(path: Path, opened_by: int) -> HomeInUse:
    return HomeInUse(
        f"{path} was opened by process {opened_by} and cannot be used in process {os.getpid()}",
        hint="open the database again after the fork",
    )
