"""What Alembic runs: opens the three databases, migrates each in one transaction, commits them in a fixed order.

A database that a later release wrote, and that this release can work on all the same, is left as it is.

Run by `migrations.upgrade` and by the `alembic` command (`-x home=FOLDER`; without it the default data folder).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from alembic import command, context
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text

from appliance.config import Home, default_home
from appliance.storage.database import Connection, Mode, open_database, writing
from appliance.storage.revisions import DATABASES, FLOOR_TABLE, is_later_but_usable, refuse_newer, revision_of


def _home() -> Home:
    home = context.config.attributes.get("home")
    if home is not None:
        return home
    named = context.get_x_argument(as_dictionary=True).get("home")
    return Home(Path(named or default_home()).expanduser().absolute())


def _requested() -> object:
    """The Alembic command that is running; called from Python it is an upgrade."""
    options = context.config.cmd_opts
    return options.cmd[0] if options is not None else command.upgrade


def _run() -> None:
    if context.is_offline_mode():
        raise CommandError("SQL scripts are not offered: the migrations need the databases (leave out --sql)")
    requested = _requested()
    if requested is command.downgrade:
        raise CommandError("there is no downgrade, it would remove evidence; restore a backup instead")
    mode: Mode = "create" if requested is command.upgrade else "rw"
    home = _home()
    for database in DATABASES:
        refuse_newer(database.path(home), database.journal)
    with ExitStack() as opened:
        connections = {}
        for database in DATABASES:
            engine = open_database(database.path(home), mode=mode, journal=database.journal, connections=1)
            opened.callback(engine.dispose)
            if is_later_but_usable(engine, revision_of(engine)):
                continue
            connections[database.name] = opened.enter_context(writing(engine))
        for name, connection in connections.items():
            _migrate(name, connection)
            _write_floor(connection)


def _migrate(name: str, connection: Connection) -> None:
    metadata = next(database.metadata for database in DATABASES if database.name == name)
    context.configure(
        connection=connection,
        target_metadata=metadata,
        upgrade_token=f"{name}_upgrades",
        downgrade_token=f"{name}_downgrades",
        include_name=lambda found, kind, _: kind != "table" or found != FLOOR_TABLE,
        transactional_ddl=True,  # true here: `writing` began the transaction explicitly
        compare_type=True,
    )
    context.run_migrations(database=name)


def _write_floor(connection: Connection) -> None:
    """Say in the database which release is the oldest that can still work on it: the latest that a revision names."""
    scripts = ScriptDirectory.from_config(context.config)
    applied = list(scripts.iterate_revisions(context.get_context().get_current_revision(), "base"))
    if not applied:
        return
    newest_first = [script.revision for script in applied]
    floor = min((script.module.oldest for script in applied), key=newest_first.index)
    connection.execute(text("CREATE TABLE IF NOT EXISTS release_floor (revision TEXT NOT NULL) STRICT"))
    if connection.execute(text("SELECT revision FROM release_floor")).scalars().all() != [floor]:
        connection.execute(text("DELETE FROM release_floor"))
        connection.execute(text("INSERT INTO release_floor VALUES (:floor)"), {"floor": floor})


_run()
