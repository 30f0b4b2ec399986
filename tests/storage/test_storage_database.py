"""What was committed is on the disk, what cannot be used is refused with a remedy.

Real files of SQLite, real second connections and a real forked process. Each error that a person can act on is
provoked as it happens in the field: a full disk by SQLite's own page limit, a lock by a second writer, damage by
overwriting the header.
"""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pysqlite3 import dbapi2
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from appliance.errors import HomeError, HomeFull, HomeInUse, HomeNotInitialised, HomeReadOnly
from appliance.storage.database import (
    SQLITE_VERSION_MIN,
    erasing,
    open_database,
    reading,
    sqlite_version,
    translate,
    writing,
)
from appliance.storage.tables import app_metadata, meta

WAIT_S = 60.0  # a bound on waiting for another thread and for a busy disk, never a pause


@pytest.fixture
def path(tmp_path):
    return tmp_path / "db" / "a file?with=odd#name%.db"


@pytest.fixture
def engine(path):
    engine = open_database(path, mode="create", busy_s=0.01)
    with writing(engine) as connection:
        app_metadata.create_all(connection)
    yield engine
    engine.dispose()


def put(engine, key, value="v"):
    with writing(engine) as connection:
        connection.execute(insert(meta).values(key=key, value=value))


def keys(engine):
    with reading(engine) as connection:
        return sorted(connection.execute(select(meta.c.key)).scalars())


def pragma(engine, name):
    with reading(engine) as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_the_bundled_sqlite_has_no_wal_reset_corruption():
    assert dbapi2.sqlite_version_info >= SQLITE_VERSION_MIN
    assert sqlite_version() == ".".join(str(part) for part in dbapi2.sqlite_version_info)


def test_what_is_written_is_read_and_what_raised_is_not(engine):
    put(engine, "kept")
    with pytest.raises(ZeroDivisionError), writing(engine) as connection:
        connection.execute(insert(meta).values(key="lost", value="v"))
        raise ZeroDivisionError
    assert keys(engine) == ["kept"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("mmap_size", 0),
        ("foreign_keys", 1),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("temp_store", 2),
    ],
)
def test_every_connection_carries_the_settings(engine, name, value):
    with reading(engine) as first, reading(engine) as second:
        for connection in (first, second):
            assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value


def test_key_material_gets_a_rollback_journal_and_overwritten_free_pages(tmp_path):
    engine = open_database(tmp_path / "keys.db", mode="create", journal="delete")
    assert pragma(engine, "journal_mode") == "delete"
    assert pragma(engine, "synchronous") == 3
    assert pragma(engine, "secure_delete") == 1
    engine.dispose()


def test_a_deleted_key_is_not_left_in_the_file(tmp_path):
    path, canary = tmp_path / "keys.db", "canary-7f3a91d2"
    engine = open_database(path, mode="create", journal="delete")
    with writing(engine) as connection:
        app_metadata.create_all(connection)
    put(engine, "k", canary)
    assert canary.encode() in path.read_bytes()
    with writing(engine) as connection:
        connection.execute(meta.delete())
    engine.dispose()
    assert canary.encode() not in path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["keys.db"]


def test_the_files_belong_to_their_owner_alone(engine, path):
    put(engine, "a")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes) == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_mode_that_was_loosened_is_tightened(engine, path):
    engine.dispose()
    path.chmod(0o644)
    open_database(path, mode="rw").dispose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_reader_sees_one_state_while_a_writer_commits(engine):
    put(engine, "a")
    with reading(engine) as connection:
        before = connection.execute(select(meta.c.key)).scalars().all()
        put(engine, "b")
        assert connection.execute(select(meta.c.key)).scalars().all() == before == ["a"]
    assert keys(engine) == ["a", "b"]


def test_a_write_inside_reading_is_refused(engine):
    with pytest.raises(HomeReadOnly), reading(engine) as connection:
        connection.execute(insert(meta).values(key="x", value="v"))
    put(engine, "y")
    assert keys(engine) == ["y"]


def test_a_read_only_opening_works_beside_a_live_writer_and_never_writes(engine, path):
    put(engine, "a")
    reader = open_database(path, mode="ro")
    assert keys(reader) == ["a"]
    put(engine, "b")
    assert keys(reader) == ["a", "b"]
    with pytest.raises(HomeReadOnly):
        put(reader, "c")
    reader.dispose()


def test_a_read_only_opening_works_after_the_writer_is_gone(engine, path):
    put(engine, "a")
    engine.dispose()
    reader = open_database(path, mode="ro")
    assert keys(reader) == ["a"]
    reader.dispose()


def test_a_second_writer_waits_and_is_then_told_who_is_in_the_way(engine, path):
    other = open_database(path, mode="rw", busy_s=0.01)
    with writing(engine), pytest.raises(HomeInUse) as caught, writing(other):
        pass
    assert caught.value.hint
    put(other, "after")
    assert keys(engine) == ["after"]
    other.dispose()


def test_a_write_ahead_log_that_another_process_plays_back_for_too_long_is_in_use(engine, path):
    """SQLite waits for who recovers the log by a rule of its own, which no busy timeout lengthens, and says so."""
    error = dbapi2.OperationalError("locking protocol")
    error.sqlite_errorcode = 15
    assert isinstance(translate(error, path), HomeInUse)


def test_the_number_of_connections_is_bounded(path):
    engine = open_database(path, mode="create", connections=1, busy_s=0.01)
    with writing(engine), pytest.raises(HomeInUse), reading(engine):
        pass
    engine.dispose()


def test_a_missing_database_is_not_created_by_mistake(tmp_path):
    for mode in ("rw", "ro"):
        with pytest.raises(HomeNotInitialised) as caught:
            open_database(tmp_path / "none.db", mode=mode)
        assert "appliance init" in caught.value.hint
    assert [file.name for file in tmp_path.iterdir()] == []


def test_a_file_that_is_not_a_database_is_named_as_such(tmp_path):
    path = tmp_path / "foreign.db"
    path.write_bytes(b"this is a letter, not a database. " * 100)
    for mode in ("rw", "ro"):
        with pytest.raises(HomeError, match="damaged or is not a database"):
            open_database(path, mode=mode)


def test_a_full_disk_is_named_and_the_database_stays_usable(engine):
    put(engine, "before")
    with pytest.raises(HomeFull) as caught, writing(engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        connection.execute(insert(meta).values(key="big", value="x" * 100_000))
    assert "free space" in caught.value.hint
    assert keys(engine) == ["before"]


def test_a_broken_rule_stays_an_integrity_error(engine):
    put(engine, "a")
    with pytest.raises(IntegrityError):
        put(engine, "a")


def test_a_value_of_another_type_is_refused(engine):
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(text("INSERT INTO applied_change VALUES (zeroblob(16), 'yesterday')"))


def test_an_error_message_never_shows_what_was_bound(engine):
    with pytest.raises(IntegrityError) as caught:
        put(engine, "a", "first")
        put(engine, "a", "my-secret-value")
    assert "my-secret-value" not in str(caught.value)


def test_a_mistake_in_the_code_is_not_dressed_up_as_a_fault_of_the_folder(engine):
    with pytest.raises(OperationalError, match="no such table"), reading(engine) as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")


def test_an_error_without_a_code_of_sqlite_is_not_translated(tmp_path):
    assert translate(ValueError("no"), tmp_path / "x.db") is None


def test_many_threads_share_one_engine(path):
    engine = open_database(path, mode="create", connections=2, busy_s=WAIT_S)
    with writing(engine) as connection:
        app_metadata.create_all(connection)
    threads = [threading.Thread(target=put, args=(engine, f"k{i:02}")) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys(engine) == [f"k{i:02}" for i in range(12)]
    engine.dispose()


def test_a_forked_process_is_refused_and_leaves_the_parent_unharmed(engine):
    put(engine, "a")
    child = os.fork()
    if child == 0:
        try:
            keys(engine)
        except HomeInUse:
            os._exit(42)  # no clean-up: it would close the parent's connections
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    assert keys(engine) == ["a"]


def test_erasing_and_writing_take_turns_and_nothing_erased_is_left(tmp_path):
    path = tmp_path / "keys.db"
    engine = open_database(path, mode="create", journal="delete", connections=1)
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE secret (number INTEGER PRIMARY KEY, value BLOB)")
    engine.dispose()

    def add_and_erase(number):
        own = open_database(path, mode="rw", journal="delete", connections=1, busy_s=WAIT_S)
        try:
            for value in range(5):
                with writing(own) as connection:
                    connection.exec_driver_sql(
                        "INSERT INTO secret VALUES (?, ?)", (number * 5 + value, b"erase me!" * 9)
                    )
                with erasing(own) as connection:
                    connection.exec_driver_sql("DELETE FROM secret WHERE number = ?", (number * 5 + value,))
        finally:
            own.dispose()

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(add_and_erase, number) for number in range(4)]:
            done.result(timeout=4 * WAIT_S)  # two that wait for each other would end with `HomeInUse`
    assert b"erase me!" not in path.read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == ["keys.db"]
