"""First light: every table of the first release.

Revision ID: 0001_first_light
Revises: nothing
Create Date: 2026-11-23

Written out and not taken from `storage/tables.py`, which moves on while this file stays as it was released.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001_first_light"
down_revision = None
branch_labels = None
depends_on = None
oldest = revision

INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade(database: str) -> None:
    """Called once for each database."""
    {"keystore": upgrade_keystore, "audit": upgrade_audit, "app": upgrade_app}[database]()


def upgrade_keystore() -> None:
    op.create_table(
        "kek",
        sa.Column("gen", INT64, autoincrement=False, nullable=False),
        sa.Column("protector", sa.Text(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("kcv", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", INT64, nullable=False),
        sa.CheckConstraint("length(kcv) = 16", name=op.f("ck_kek_kcv_length")),
        sa.PrimaryKeyConstraint("gen", name=op.f("pk_kek")),
        sqlite_strict=True,
    )
    op.create_table(
        "root_slot",
        sa.Column("slot", INT64, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("kcv", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", INT64, nullable=False),
        sa.CheckConstraint("kind IN ('file', 'passphrase')", name=op.f("ck_root_slot_kind_known")),
        sa.CheckConstraint("length(kcv) = 16", name=op.f("ck_root_slot_kcv_length")),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_root_slot")),
        sqlite_strict=True,
    )
    op.create_table(
        "scope_key",
        sa.Column("scope_id", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("class", INT64, nullable=False),
        sa.Column("month", INT64, nullable=False),
        sa.Column("owner", sa.LargeBinary(), nullable=False),
        sa.Column("kek_gen", INT64, nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("kcv", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", INT64, nullable=False),
        sa.CheckConstraint("kind IN ('env', 'con', 'idx')", name=op.f("ck_scope_key_kind_known")),
        sa.CheckConstraint("length(kcv) = 16", name=op.f("ck_scope_key_kcv_length")),
        sa.CheckConstraint("length(scope_id) = 16", name=op.f("ck_scope_key_scope_id_length")),
        sa.ForeignKeyConstraint(["kek_gen"], ["kek.gen"], name=op.f("fk_scope_key_kek_gen_kek")),
        sa.PrimaryKeyConstraint("scope_id", name=op.f("pk_scope_key")),
        sa.UniqueConstraint("kind", "class", "month", "owner", name=op.f("uq_scope_key_kind_class_month_owner")),
        sqlite_strict=True,
    )
    op.create_table(
        "signing_key",
        sa.Column("id", INT64, autoincrement=False, nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("public", sa.LargeBinary(), nullable=False),
        sa.Column("kek_gen", INT64, nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("kcv", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", INT64, nullable=False),
        sa.Column("retired_ms", INT64, nullable=True),
        sa.CheckConstraint("length(kcv) = 16", name=op.f("ck_signing_key_kcv_length")),
        sa.CheckConstraint("length(public) = 32", name=op.f("ck_signing_key_public_length")),
        sa.ForeignKeyConstraint(["kek_gen"], ["kek.gen"], name=op.f("fk_signing_key_kek_gen_kek")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_key")),
        sa.UniqueConstraint("public", name=op.f("uq_signing_key_public")),
        sqlite_strict=True,
    )


def upgrade_audit() -> None:
    op.create_table(
        "checkpoint",
        sa.Column("size", INT64, autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("t_signed_ms", INT64, nullable=False),
        sa.Column("cosigs", sa.Text(), nullable=True),
        sa.CheckConstraint("length(root) = 32", name=op.f("ck_checkpoint_root_length")),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoint")),
        sqlite_strict=True,
    )
    op.create_table(
        "log_head",
        sa.Column("id", INT64, autoincrement=False, nullable=False),
        sa.Column("log_id", sa.LargeBinary(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("epoch", INT64, nullable=False),
        sa.Column("size", INT64, nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("signed_size", INT64, nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_log_head_single_row")),
        sa.CheckConstraint("length(log_id) = 8", name=op.f("ck_log_head_log_id_length")),
        sa.CheckConstraint("length(root) = 32", name=op.f("ck_log_head_root_length")),
        sa.CheckConstraint("size >= 0 AND signed_size >= 0 AND signed_size <= size", name=op.f("ck_log_head_sizes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_head")),
        sqlite_strict=True,
    )
    op.create_table(
        "record",
        sa.Column("seq", INT64, autoincrement=False, nullable=False),
        sa.Column("record_id", sa.LargeBinary(), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("env_ct", sa.LargeBinary(), nullable=True),
        sa.Column("con_ct", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("length(record_id) = 16", name=op.f("ck_record_record_id_length")),
        sa.CheckConstraint("seq >= 0", name=op.f("ck_record_seq_not_negative")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_record")),
        sa.UniqueConstraint("record_id", name=op.f("uq_record_record_id")),
        sqlite_strict=True,
    )
    op.create_table(
        "tile",
        sa.Column("level", INT64, autoincrement=False, nullable=False),
        sa.Column("idx", INT64, autoincrement=False, nullable=False),
        sa.Column("width", INT64, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("level >= 1", name=op.f("ck_tile_level_stored")),
        sa.CheckConstraint(
            "width BETWEEN 1 AND 256 AND length(hashes) = width * 32", name=op.f("ck_tile_hashes_length")
        ),
        sa.PrimaryKeyConstraint("level", "idx", name=op.f("pk_tile")),
        sqlite_strict=True,
    )
    op.create_table(
        "public_body",
        sa.Column("seq", INT64, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["record.seq"], name=op.f("fk_public_body_seq_record")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_public_body")),
        sqlite_strict=True,
    )


def upgrade_app() -> None:
    op.create_table(
        "account",
        sa.Column("id", INT64, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_folded", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_ms", INT64, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("disabled_ms", INT64, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("name_folded", name=op.f("uq_account_name_folded")),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "applied_change",
        sa.Column("record_id", sa.LargeBinary(), nullable=False),
        sa.Column("applied_ms", INT64, nullable=False),
        sa.CheckConstraint("length(record_id) = 16", name=op.f("ck_applied_change_record_id_length")),
        sa.PrimaryKeyConstraint("record_id", name=op.f("pk_applied_change")),
        sqlite_strict=True,
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
        sqlite_strict=True,
    )
    op.create_table(
        "setup_link",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", INT64, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_ms", INT64, nullable=False),
        sa.Column("used_ms", INT64, nullable=True),
        sa.CheckConstraint("length(token_hash) = 32", name=op.f("ck_setup_link_token_hash_length")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_setup_link")),
        sqlite_strict=True,
    )
    op.create_table(
        "specialist",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("size_bytes", INT64, nullable=False),
        sa.Column("active", INT64, nullable=False),
        sa.Column("installed_ms", INT64, nullable=False),
        sa.Column("installed_by", sa.Text(), nullable=False),
        sa.CheckConstraint("active IN (0, 1)", name=op.f("ck_specialist_active_known")),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_specialist_sha256_length")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_specialist")),
        sa.UniqueConstraint("id", "version", name=op.f("uq_specialist_id_version")),
        sqlite_strict=True,
    )
    op.create_index("uq_specialist_active_id", "specialist", ["id"], unique=True, sqlite_where=sa.text("active = 1"))
    op.create_table(
        "account_role",
        sa.Column("account_id", INT64, autoincrement=False, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.CheckConstraint("role IN ('user', 'auditor', 'admin')", name=op.f("ck_account_role_role_known")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_account_role_account_id_account")),
        sa.PrimaryKeyConstraint("account_id", "role", name=op.f("pk_account_role")),
        sqlite_strict=True,
    )
    op.create_table(
        "api_key",
        sa.Column("id", INT64, nullable=False),
        sa.Column("owner_id", INT64, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_ms", INT64, nullable=False),
        sa.Column("expires_ms", INT64, nullable=False),
        sa.Column("revoked_ms", INT64, nullable=True),
        sa.Column("last_used_ms", INT64, nullable=True),
        sa.CheckConstraint("length(secret_hash) = 32", name=op.f("ck_api_key_secret_hash_length")),
        sa.ForeignKeyConstraint(["owner_id"], ["account.id"], name=op.f("fk_api_key_owner_id_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_api_key_owner_id"), "api_key", ["owner_id"], unique=False)
    op.create_table(
        "session",
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", INT64, nullable=False),
        sa.Column("created_ms", INT64, nullable=False),
        sa.Column("seen_ms", INT64, nullable=False),
        sa.CheckConstraint("length(secret_hash) = 32", name=op.f("ck_session_secret_hash_length")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_session_account_id_account")),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_session")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_session_account_id"), "session", ["account_id"], unique=False)
