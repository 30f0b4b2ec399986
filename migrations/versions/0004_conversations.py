"""Conversations with models that write: sealed heads and turns.

Revision ID: 0004_conversations
Revises: 0003_specialist_life
Create Date: 2026-11-26

Written out and not taken from `storage/tables.py`, which moves on while this file stays as it was released.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_conversations"
down_revision = "0003_specialist_life"
branch_labels = None
depends_on = None
oldest = revision

INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade(database: str) -> None:
    """Called once for each database."""
    if database == "app":
        upgrade_app()


def upgrade_app() -> None:
    op.create_table(
        "conversation",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key_scope", sa.LargeBinary(), nullable=False),
        sa.Column("subject_scope", sa.LargeBinary(), nullable=True),
        sa.Column("created_ms", INT64, nullable=False),
        sa.Column("changed_ms", INT64, nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("length(id) = 16", name=op.f("ck_conversation_id_length")),
        sa.CheckConstraint("length(key_scope) = 16", name=op.f("ck_conversation_key_scope_length")),
        sa.CheckConstraint("length(nonce) = 24", name=op.f("ck_conversation_nonce_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversation")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_conversation_owner_changed_ms"), "conversation", ["owner", "changed_ms"])
    op.create_table(
        "conversation_turn",
        sa.Column("conversation_id", sa.LargeBinary(), nullable=False),
        sa.Column("position", INT64, autoincrement=False, nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("position >= 0", name=op.f("ck_conversation_turn_position_not_negative")),
        sa.CheckConstraint("length(nonce) = 24", name=op.f("ck_conversation_turn_nonce_length")),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversation.id"], name=op.f("fk_conversation_turn_conversation_id_conversation")
        ),
        sa.PrimaryKeyConstraint("conversation_id", "position", name=op.f("pk_conversation_turn")),
        sqlite_strict=True,
    )


def downgrade(database: str) -> None:
    """Not offered: it would forget what people wrote (see `migrations/__init__.py`)."""
    raise NotImplementedError(f"the {database} database cannot go back before {revision}")
