"""Alembic migrations of the three databases of one data folder, in one linear history.

    migrations.upgrade(home.root)              # what `appliance init` and `appliance upgrade` call
    alembic -x home=/srv/cloister upgrade head   # the same from a checkout; settings are in pyproject.toml

Each database is migrated in one transaction and remembers its own revision, so an upgrade that is interrupted between
two of them is simply run again. A revision adds; it never rewrites `record`, `tile` or `checkpoint`, whose bytes are
under signature. There is no downgrade: it would remove evidence.

Each revision says which release is the `oldest` that can still work on the tables after it. One that only adds what an
earlier release need not know (a table, a nullable column, an index) names an earlier revision, so that an upgrade can
be taken back by starting the release before; taking something away is left to a later release. Where that is not
possible a revision names itself, and the way back is a backup.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig

from appliance.config import Home

SCRIPTS = Path(__file__).parent


def upgrade(root: Path, revision: str = "head") -> None:
    """Create what is missing below `root` and bring every database to `revision`; nothing to do is no error.

    Raises `HomeTooNew` before anything is touched when a later release wrote one of the databases, and the
    `HomeError` of an unusable folder. The caller MUST hold the data folder: no server runs on it meanwhile.
    """
    command.upgrade(alembic_config(Home(root.absolute())), revision)


def alembic_config(home: Home) -> AlembicConfig:
    """Alembic's settings for one data folder, without any file: they must be the same in an installed package."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["home"] = home
    return config
