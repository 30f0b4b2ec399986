"""An upgrade arrives at exactly the tables that the code describes and leaves signed bytes untouched.

From an empty folder and from every earlier revision of the script directory, so that a revision written later is
covered on the day it is written. The rows of the frozen tables are compared byte by byte before and after.
"""

import re

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import MetaData, inspect, text

import migrations
from appliance.config import Home
from appliance.errors import HomeTooNew
from appliance.storage.database import open_database, reading, writing
from appliance.storage.revisions import DATABASES, FLOOR_TABLE, HEAD, REVISIONS, require_current
from appliance.storage.tables import FROZEN_TABLES

FROZEN_ROWS = {
    "record": "INSERT INTO record (seq, record_id, header, env_ct) VALUES (0, zeroblob(16), x'01ff', x'00')",
    "tile": "INSERT INTO tile (level, idx, width, hashes) VALUES (1, 0, 2, zeroblob(64))",
    "checkpoint": "INSERT INTO checkpoint (size, root, note, t_signed_ms) VALUES (1, zeroblob(32), 'o\n1\nAA\n', 7)",
}

OUTSIDE = ("alembic_version", FLOOR_TABLE)  # what migrations say of themselves
SCRIPTS = ScriptDirectory(str(migrations.SCRIPTS))
AUDIT = next(database for database in DATABASES if database.name == "audit")


def opened(home, database):
    return open_database(database.path(home), mode="rw", journal=database.journal)


def frozen_rows(home):
    engine = opened(home, AUDIT)
    with reading(engine) as connection:
        rows = {name: connection.execute(text(f"SELECT * FROM {name}")).all() for name in FROZEN_TABLES}
    engine.dispose()
    return rows


def tables_as_created(connection):
    """Columns, keys and checks of every table, as the database itself states them."""
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")).all()
    return {name: normalised(sql) for name, sql in rows if name not in OUTSIDE}


def normalised(sql):
    """The statement with its parts in a fixed order: constraints may be listed in any order."""
    head, _, body = re.sub(r"\s+", " ", sql).partition("(")
    body, _, tail = body.rpartition(")")
    parts = sorted(part.strip() for part in re.split(r",(?![^()]*\))", body))
    return head.strip(), tuple(parts), tail.strip()


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.mark.parametrize("start", [None, *REVISIONS])
def test_every_earlier_revision_arrives_at_the_tables_of_the_code(home, start):
    if start is not None:
        migrations.upgrade(home.root, start)
    migrations.upgrade(home.root)
    for database in DATABASES:
        engine = opened(home, database)
        require_current(engine, database.path(home))
        with reading(engine) as connection:
            kept = {"compare_type": True, "include_name": lambda name, kind, _: kind != "table" or name not in OUTSIDE}
            context = MigrationContext.configure(connection, opts=kept)
            assert compare_metadata(context, database.metadata) == []
            reflected = MetaData()
            reflected.reflect(connection)
            for name in OUTSIDE:
                reflected.remove(reflected.tables[name])
            columns = {name: {(c.name, c.nullable, c.primary_key) for c in t.c} for name, t in reflected.tables.items()}
        expected = {t.name: {(c.name, c.nullable, c.primary_key) for c in t.c} for t in database.metadata.sorted_tables}
        assert columns == expected
        engine.dispose()


def test_an_upgraded_database_states_the_same_sql_as_a_fresh_one(home, tmp_path):
    migrations.upgrade(home.root)
    for database in DATABASES:
        fresh = open_database(tmp_path / f"{database.name}.db", mode="create")
        upgraded = opened(home, database)
        with writing(fresh) as connection:
            database.metadata.create_all(connection)
        with reading(fresh) as one, reading(upgraded) as other:
            assert tables_as_created(other) == tables_as_created(one)
        fresh.dispose()
        upgraded.dispose()


@pytest.mark.parametrize("start", REVISIONS)
def test_rows_under_signature_are_identical_after_an_upgrade(home, start):
    migrations.upgrade(home.root, start)
    engine = opened(home, AUDIT)
    with writing(engine) as connection:
        for statement in FROZEN_ROWS.values():
            connection.execute(text(statement))
    engine.dispose()
    before = frozen_rows(home)
    assert all(before.values())
    migrations.upgrade(home.root)
    assert frozen_rows(home) == before


def test_there_is_a_row_for_every_frozen_table():
    assert set(FROZEN_ROWS) == set(FROZEN_TABLES)


def test_an_upgrade_repeated_changes_nothing(home):
    migrations.upgrade(home.root)
    before = {database.name: database.path(home).read_bytes() for database in DATABASES}
    migrations.upgrade(home.root)
    assert {database.name: database.path(home).read_bytes() for database in DATABASES} == before


def test_an_upgrade_interrupted_between_two_databases_is_completed_by_the_next(home):
    migrations.upgrade(home.root)
    home.database.unlink()
    migrations.upgrade(home.root)
    engine = open_database(home.database, mode="rw")
    require_current(engine, home.database)
    engine.dispose()


def test_a_revision_that_fails_leaves_the_database_as_it_was(home):
    keystore = open_database(home.keystore, mode="create", journal="delete")
    with writing(keystore) as connection:
        connection.execute(text("CREATE TABLE scope_key (in_the_way TEXT)"))
    with pytest.raises(Exception, match="already exists"):
        migrations.upgrade(home.root)
    with reading(keystore) as connection:
        assert inspect(connection).get_table_names() == ["scope_key"]
    keystore.dispose()
    audit = open_database(home.audit_database, mode="ro")
    with reading(audit) as connection:
        assert inspect(connection).get_table_names() == []
    audit.dispose()


def test_a_folder_of_a_later_release_is_refused_before_anything_is_touched(home):
    migrations.upgrade(home.root)
    engine = open_database(home.database, mode="rw")
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
        connection.execute(text(f"UPDATE {FLOOR_TABLE} SET revision = '9999_later'"))
    engine.dispose()
    home.keystore.unlink()
    with pytest.raises(HomeTooNew, match="9999_later"):
        migrations.upgrade(home.root)
    assert not home.keystore.exists()


def test_a_folder_of_a_later_release_that_only_added_to_it_is_left_as_it_is(home):
    migrations.upgrade(home.root)
    for database in DATABASES:
        engine = opened(home, database)
        with writing(engine) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
        engine.dispose()
    before = {database.name: database.path(home).read_bytes() for database in DATABASES}
    migrations.upgrade(home.root)
    assert {database.name: database.path(home).read_bytes() for database in DATABASES} == before


def test_the_oldest_release_that_a_folder_is_for_is_the_latest_that_a_revision_names(home):
    scripts = {one.revision: one.module.oldest for one in SCRIPTS.walk_revisions()}
    assert set(scripts) == set(REVISIONS)
    assert all(REVISIONS.index(oldest) <= REVISIONS.index(revision) for revision, oldest in scripts.items())
    migrations.upgrade(home.root)
    expected = max(scripts.values(), key=REVISIONS.index)
    for database in DATABASES:
        engine = opened(home, database)
        with reading(engine) as connection:
            assert connection.execute(text(f"SELECT revision FROM {FLOOR_TABLE}")).scalars().all() == [expected]
        engine.dispose()


def test_the_files_are_readable_by_their_owner_alone(home):
    migrations.upgrade(home.root)
    for database in DATABASES:
        assert database.path(home).stat().st_mode & 0o077 == 0


def test_unknown_revisions_are_an_error(home):
    with pytest.raises(CommandError):
        migrations.upgrade(home.root, "no_such_revision")


def test_head_is_the_last_revision():
    assert REVISIONS[-1] == HEAD
