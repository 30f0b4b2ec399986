"""A release opens its own tables and no others: older, newer and empty databases are refused, each with its remedy.

The list of revisions in `appliance/storage` is compared with the migration scripts, so neither can be forgotten.
"""

import subprocess
import sys

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

import migrations
from appliance.config import Home
from appliance.errors import HomeError, HomeNotInitialised, HomeTooNew
from appliance.storage import revisions
from appliance.storage.database import open_database, writing


@pytest.fixture
def engine(tmp_path):
    engine = open_database(tmp_path / "a.db", mode="create")
    yield engine
    engine.dispose()


def set_revision(engine, revision, *, floor=None):
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
        if floor is not None:
            connection.execute(text(f"CREATE TABLE {revisions.FLOOR_TABLE} (revision TEXT)"))
            connection.execute(text(f"INSERT INTO {revisions.FLOOR_TABLE} VALUES (:floor)"), {"floor": floor})


def test_the_list_of_revisions_is_the_history_of_the_migrations(tmp_path):
    scripts = ScriptDirectory.from_config(migrations.alembic_config(Home(tmp_path)))
    oldest_first = [script.revision for script in scripts.walk_revisions()][::-1]
    assert list(revisions.REVISIONS) == oldest_first
    assert scripts.get_heads() == [revisions.HEAD]


def test_the_current_revision_is_accepted(engine, tmp_path):
    set_revision(engine, revisions.HEAD)
    revisions.require_current(engine, tmp_path / "a.db")


def test_a_database_without_tables_is_sent_to_init(engine, tmp_path):
    with pytest.raises(HomeNotInitialised):
        revisions.require_current(engine, tmp_path / "a.db")


def test_a_database_of_a_later_release_is_refused(engine, tmp_path):
    set_revision(engine, "9999_from_the_future")
    with pytest.raises(HomeTooNew, match="9999_from_the_future"):
        revisions.require_current(engine, tmp_path / "a.db")
    with pytest.raises(HomeTooNew):
        revisions.refuse_newer(tmp_path / "a.db")


def test_a_database_of_a_later_release_that_only_added_to_ours_is_accepted(engine, tmp_path):
    set_revision(engine, "9999_from_the_future", floor=revisions.HEAD)
    revisions.require_current(engine, tmp_path / "a.db")
    revisions.refuse_newer(tmp_path / "a.db")


def test_a_database_of_a_later_release_that_needs_one_later_than_ours_is_refused(engine, tmp_path):
    set_revision(engine, "9999_from_the_future", floor="9998_also")
    with pytest.raises(HomeTooNew):
        revisions.require_current(engine, tmp_path / "a.db")
    with pytest.raises(HomeTooNew):
        revisions.refuse_newer(tmp_path / "a.db")


def test_databases_of_earlier_releases_are_sent_to_upgrade(tmp_path):
    for earlier in revisions.REVISIONS[:-1]:
        path = tmp_path / f"{earlier}.db"
        engine = open_database(path, mode="create")
        set_revision(engine, earlier)
        with pytest.raises(HomeError, match="earlier release"):
            revisions.require_current(engine, path)
        engine.dispose()


def test_opening_does_not_load_alembic():
    code = "import sys, appliance.storage.revisions; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
