"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}

Frozen: `record`, `tile`, `checkpoint`. Name this revision in `appliance/storage/revisions.py`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None
oldest = revision  # or the release before, if what this adds need not be known by it


def upgrade(database: str) -> None:
    """Called once for each database."""
    {"keystore": upgrade_keystore, "audit": upgrade_audit, "app": upgrade_app}[database]()

% for name in ("keystore", "audit", "app"):

def upgrade_${name}() -> None:
    ${context.get(name + "_upgrades", "pass") or "pass"}

% endfor
