"""The life of specialists: who admitted, approved and promoted each version, its signature, and whom a site trusts.

Revision ID: 0003_specialist_life
Revises: 0002_audit_promises
Create Date: 2026-11-26

Written out and not taken from `storage/tables.py`, which moves on while this file stays as it was released.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_specialist_life"
down_revision = "0002_audit_promises"
branch_labels = None
depends_on = None
oldest = revision

INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ADDED = (
    ("person", sa.Text()),
    ("reason", sa.Text()),
    ("signature", sa.Text()),
    ("signer", sa.Text()),
    ("approved_by", sa.Text()),
    ("approved_ms", INT64),
    ("promoted_by", sa.Text()),
    ("promoted_ms", INT64),
    ("follows", sa.Text()),
)


def upgrade(database: str) -> None:
    """Called once for each database."""
    if database == "app":
        upgrade_app()


def upgrade_app() -> None:
    for name, kind in ADDED:
        op.add_column("specialist", sa.Column(name, kind, nullable=True))
    # Until now whatever was installed answered at once: by the release's list of hashes or by an administrator.
    op.execute(
        "UPDATE specialist SET approved_by = installed_by, approved_ms = installed_ms, "
        "promoted_by = installed_by, promoted_ms = installed_ms"
    )
    op.create_table(
        "trusted_key",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_pem", sa.Text(), nullable=False),
        sa.Column("added_ms", INT64, nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.CheckConstraint("length(fingerprint) = 64", name=op.f("ck_trusted_key_fingerprint_length")),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_trusted_key")),
        sa.UniqueConstraint("name", name=op.f("uq_trusted_key_name")),
        sqlite_strict=True,
    )


def downgrade(database: str) -> None:
    """Not offered: it would forget who approved what (see `migrations/__init__.py`)."""
    raise NotImplementedError(f"the {database} database cannot go back before {revision}")
