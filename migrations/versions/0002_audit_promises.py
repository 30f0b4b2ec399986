"""Audit promises: index, holds, retention, erasures and outbox beside the log. No record is touched.

Revision ID: 0002_audit_promises
Revises: 0001_first_light
Create Date: 2026-11-24

Written out and not taken from `storage/tables.py`, which moves on while this file stays as it was released.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_audit_promises"
down_revision = "0001_first_light"
branch_labels = None
depends_on = None
oldest = revision

INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DERIVED = ("outbox", "erasure", "retention", "hold_item", "hold", "blind")


def upgrade(database: str) -> None:
    """Called once for each database."""
    if database == "audit":
        upgrade_audit()


def upgrade_audit() -> None:
    op.create_table(
        "blind",
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("seq", INT64, autoincrement=False, nullable=False),
        sa.CheckConstraint("length(token) = 12", name=op.f("ck_blind_token_length")),
        sa.PrimaryKeyConstraint("token", "seq", name=op.f("pk_blind")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_blind_seq"), "blind", ["seq"])
    index_what_is_there()
    op.create_table(
        "hold",
        sa.Column("hold_id", sa.LargeBinary(), nullable=False),
        sa.Column("set_seq", INT64, nullable=False),
        sa.Column("released_seq", INT64, nullable=True),
        sa.CheckConstraint("length(hold_id) = 8", name=op.f("ck_hold_hold_id_length")),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_hold")),
        sqlite_strict=True,
    )
    op.create_table(
        "hold_item",
        sa.Column("hold_id", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("kind IN ('scope', 'subject', 'class')", name=op.f("ck_hold_item_kind_known")),
        sa.ForeignKeyConstraint(["hold_id"], ["hold.hold_id"], name=op.f("fk_hold_item_hold_id_hold")),
        sa.PrimaryKeyConstraint("hold_id", "kind", "value", name=op.f("pk_hold_item")),
        sqlite_strict=True,
    )
    op.create_table(
        "retention",
        sa.Column("class", INT64, autoincrement=False, nullable=False),
        sa.Column("months", INT64, nullable=False),
        sa.Column("seq", INT64, nullable=False),
        sa.CheckConstraint("months >= 6", name=op.f("ck_retention_months_floor")),
        sa.PrimaryKeyConstraint("class", name=op.f("pk_retention")),
        sqlite_strict=True,
    )
    op.create_table(
        "erasure",
        sa.Column("seq", INT64, autoincrement=False, nullable=False),
        sa.Column("keys_destroyed", INT64, nullable=False),
        sa.Column("next_seq", INT64, nullable=False),
        sa.Column("erased", INT64, nullable=False),
        sa.Column("done_seq", INT64, nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_erasure")),
        sqlite_strict=True,
    )
    op.create_table(
        "outbox",
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("next_seq", INT64, nullable=False),
        sa.Column("anchored_size", INT64, nullable=False),
        sa.Column("anchored_ms", INT64, nullable=False),
        sa.PrimaryKeyConstraint("sink", name=op.f("pk_outbox")),
        sqlite_strict=True,
    )


def index_what_is_there() -> None:
    """Tokens that need no key: the scope of a content (bytes 65 to 80 of a header; zeros: none), and for every record
    that it has no others.
    """
    bind = op.get_bind()
    bind.execute(sa.text("INSERT INTO blind (token, seq) SELECT zeroblob(12), seq FROM record"))
    bind.execute(
        sa.text(
            "INSERT INTO blind (token, seq) SELECT substr(header, 65, 12), seq FROM record "
            "WHERE length(header) = 200 AND substr(header, 65, 16) <> zeroblob(16)"
        )
    )


def downgrade(database: str) -> None:
    """What is derived goes; the records stay as they are."""
    if database == "audit":
        for table in DERIVED:
            op.drop_table(table)
