"""Every table of the three databases, as SQLAlchemy Core; names and constraints only, no rules and no queries.

    db/appliance.db   app_metadata        accounts, sessions, API keys, registry of specialists, conversations
    audit/log.db      audit_metadata      the log: headers, ciphertexts, tree tiles, checkpoints
    keys/keystore.db  keystore_metadata   wrapped keys; an own file because it has an own backup stream

Conventions: times are integers, milliseconds since the epoch in UTC (`_ms`); every secret is stored as a hash; tables
are STRICT, so that SQLite refuses a value of another type instead of storing it. `record`, `tile` and `checkpoint`
are frozen formats (`FROZEN_TABLES`): a migration may create them and never touches them again.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

FROZEN_TABLES = ("record", "tile", "checkpoint")

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

app_metadata = MetaData(naming_convention=_NAMES)
audit_metadata = MetaData(naming_convention=_NAMES)
keystore_metadata = MetaData(naming_convention=_NAMES)

# SQLite's INTEGER has 64 bits and is the only spelling that STRICT tables and rowid keys accept.
_Int64 = BigInteger().with_variant(Integer(), "sqlite")


def _bytes_exactly(column: str, length: int) -> CheckConstraint:
    return CheckConstraint(f"length({column}) = {length}", name=f"{column}_length")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


# --- audit/log.db -----------------------------------------------------------------------------------------------

log_head = Table(
    "log_head",
    audit_metadata,
    Column("id", _Int64, primary_key=True, autoincrement=False),
    Column("log_id", LargeBinary, nullable=False),
    Column("origin", Text, nullable=False),
    Column("epoch", _Int64, nullable=False),
    Column("size", _Int64, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("signed_size", _Int64, nullable=False),  # of `note`; smaller than `size` only after a crash
    Column("note", Text, nullable=True),
    CheckConstraint("id = 1", name="single_row"),
    CheckConstraint("size >= 0 AND signed_size >= 0 AND signed_size <= size", name="sizes"),
    _bytes_exactly("log_id", 8),
    _bytes_exactly("root", 32),
    sqlite_strict=True,
)

record = Table(
    "record",
    audit_metadata,
    Column("seq", _Int64, primary_key=True, autoincrement=False),
    Column("record_id", LargeBinary, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("env_ct", LargeBinary, nullable=True),  # NULL: a public record (body in `public_body`) or a tombstone
    Column("con_ct", LargeBinary, nullable=True),  # NULL: no content, or destroyed under a tombstone
    UniqueConstraint("record_id"),
    CheckConstraint("seq >= 0", name="seq_not_negative"),
    _bytes_exactly("record_id", 16),
    sqlite_strict=True,
)

public_body = Table(
    "public_body",
    audit_metadata,
    Column("seq", _Int64, ForeignKey("record.seq"), primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_strict=True,
)

tile = Table(
    "tile",
    audit_metadata,
    Column("level", _Int64, primary_key=True, autoincrement=False),
    Column("idx", _Int64, primary_key=True, autoincrement=False),
    Column("width", _Int64, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    CheckConstraint("level >= 1", name="level_stored"),  # level 0 is the headers
    CheckConstraint("width BETWEEN 1 AND 256 AND length(hashes) = width * 32", name="hashes_length"),
    sqlite_strict=True,
)

checkpoint = Table(
    "checkpoint",
    audit_metadata,
    Column("size", _Int64, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("t_signed_ms", _Int64, nullable=False),
    Column("cosigs", Text, nullable=True),
    _bytes_exactly("root", 32),
    sqlite_strict=True,
)


# Below: derived from the records, kept so that nobody has to read all of them. Each can be built again.

blind = Table(
    "blind",
    audit_metadata,
    Column("token", LargeBinary, primary_key=True),  # HMAC of a field's value, or the first bytes of a content scope
    Column("seq", _Int64, primary_key=True, autoincrement=False),
    Index(None, "seq"),  # what an erasure deletes by; it grows at its end only, so that it costs an append little
    _bytes_exactly("token", 12),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

hold = Table(
    "hold",
    audit_metadata,
    Column("hold_id", LargeBinary, primary_key=True),
    Column("set_seq", _Int64, nullable=False),
    Column("released_seq", _Int64, nullable=True),
    _bytes_exactly("hold_id", 8),
    sqlite_strict=True,
)

hold_item = Table(
    "hold_item",
    audit_metadata,
    Column("hold_id", LargeBinary, ForeignKey("hold.hold_id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("value", LargeBinary, primary_key=True),  # scope id, keyed hash of a subject, or one byte of class
    _one_of("kind", ("scope", "subject", "class")),
    sqlite_strict=True,
)

retention = Table(
    "retention",
    audit_metadata,
    Column("class", _Int64, primary_key=True, autoincrement=False, key="class_"),
    Column("months", _Int64, nullable=False),
    Column("seq", _Int64, nullable=False),  # of the record that says so
    CheckConstraint("months >= 6", name="months_floor"),
    sqlite_strict=True,
)

erasure = Table(
    "erasure",
    audit_metadata,
    Column("seq", _Int64, primary_key=True, autoincrement=False),  # of the record that authorised it
    Column("keys_destroyed", _Int64, nullable=False),  # 0 until the keys are gone: only then ciphertexts may follow
    Column("next_seq", _Int64, nullable=False),  # where the deletion of ciphertexts goes on
    Column("erased", _Int64, nullable=False),  # records whose ciphertexts are gone
    Column("done_seq", _Int64, nullable=True),  # of the record that says it is finished
    sqlite_strict=True,
)

outbox = Table(
    "outbox",
    audit_metadata,
    Column("sink", Text, primary_key=True),
    Column("next_seq", _Int64, nullable=False),  # the first record that the sink has not been sent
    Column("anchored_size", _Int64, nullable=False),  # of the newest checkpoint that the sink acknowledged
    Column("anchored_ms", _Int64, nullable=False),
    sqlite_strict=True,
)


# --- keys/keystore.db -------------------------------------------------------------------------------------------

root_slot = Table(
    "root_slot",
    keystore_metadata,
    Column("slot", _Int64, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("parameters", Text, nullable=False),  # JSON: of the derivation, never a secret
    Column("salt", LargeBinary, nullable=True),
    Column("wrapped", LargeBinary, nullable=True),  # NULL: the key file is the root key itself
    Column("kcv", LargeBinary, nullable=False),
    Column("created_ms", _Int64, nullable=False),
    _one_of("kind", ("file", "passphrase")),
    _bytes_exactly("kcv", 16),
    sqlite_strict=True,
)

kek = Table(
    "kek",
    keystore_metadata,
    Column("gen", _Int64, primary_key=True, autoincrement=False),
    Column("protector", Text, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Column("kcv", LargeBinary, nullable=False),
    Column("created_ms", _Int64, nullable=False),
    _bytes_exactly("kcv", 16),
    sqlite_strict=True,
)

scope_key = Table(
    "scope_key",
    keystore_metadata,
    Column("scope_id", LargeBinary, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("class", _Int64, nullable=False, key="class_"),
    Column("month", _Int64, nullable=False),
    Column("owner", LargeBinary, nullable=False),  # random or keyed hash, never a name; empty: the whole month
    Column("kek_gen", _Int64, ForeignKey("kek.gen"), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("kcv", LargeBinary, nullable=False),
    Column("created_ms", _Int64, nullable=False),
    UniqueConstraint("kind", "class_", "month", "owner"),
    _one_of("kind", ("env", "con", "idx")),
    _bytes_exactly("scope_id", 16),
    _bytes_exactly("kcv", 16),
    sqlite_strict=True,
)

signing_key = Table(
    "signing_key",
    keystore_metadata,
    Column("id", _Int64, primary_key=True, autoincrement=False),
    Column("origin", Text, nullable=False),
    Column("public", LargeBinary, nullable=False),
    Column("kek_gen", _Int64, ForeignKey("kek.gen"), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("kcv", LargeBinary, nullable=False),
    Column("created_ms", _Int64, nullable=False),
    Column("retired_ms", _Int64, nullable=True),
    UniqueConstraint("public"),
    _bytes_exactly("public", 32),
    _bytes_exactly("kcv", 16),
    sqlite_strict=True,
)


# --- db/appliance.db --------------------------------------------------------------------------------------------

account = Table(
    "account",
    app_metadata,
    Column("id", _Int64, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_folded", Text, nullable=False),  # the case-folded name: `Ana` and `ana` are one person
    Column("password_hash", Text, nullable=False),
    Column("created_ms", _Int64, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("disabled_ms", _Int64, nullable=True),
    UniqueConstraint("name_folded"),
    sqlite_strict=True,
    sqlite_autoincrement=True,  # audit records name `user:7`; the number is never given to anybody else
)

account_role = Table(
    "account_role",
    app_metadata,
    Column("account_id", _Int64, ForeignKey("account.id"), primary_key=True, autoincrement=False),
    Column("role", Text, primary_key=True),
    _one_of("role", ("user", "auditor", "admin")),
    sqlite_strict=True,
)

session = Table(
    "session",
    app_metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("account_id", _Int64, ForeignKey("account.id"), nullable=False),
    Column("created_ms", _Int64, nullable=False),
    Column("seen_ms", _Int64, nullable=False),
    Index(None, "account_id"),
    _bytes_exactly("secret_hash", 32),
    sqlite_strict=True,
)

api_key = Table(
    "api_key",
    app_metadata,
    Column("id", _Int64, primary_key=True),
    Column("owner_id", _Int64, ForeignKey("account.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("scopes", Text, nullable=False),  # action names, sorted, separated by one space
    Column("created_ms", _Int64, nullable=False),
    Column("expires_ms", _Int64, nullable=False),
    Column("revoked_ms", _Int64, nullable=True),
    Column("last_used_ms", _Int64, nullable=True),
    Index(None, "owner_id"),
    _bytes_exactly("secret_hash", 32),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

setup_link = Table(
    "setup_link",
    app_metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("created_ms", _Int64, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_ms", _Int64, nullable=False),
    Column("used_ms", _Int64, nullable=True),
    _bytes_exactly("token_hash", 32),
    sqlite_strict=True,
)

specialist = Table(
    "specialist",
    app_metadata,
    Column("sha256", Text, primary_key=True),  # hex; the file is `specialists/<sha256>.gguf`
    Column("id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("manifest", Text, nullable=False),  # JSON as in the file
    Column("size_bytes", _Int64, nullable=False),
    Column("active", _Int64, nullable=False),  # 1: answers under its id; 0: kept, so that it can be put back
    Column("installed_ms", _Int64, nullable=False),
    Column("installed_by", Text, nullable=False),  # `<why it was admitted>:<id of the principal>`
    Column("person", Text, nullable=True),  # who installed or taught it, for the rule of two people; null: a release
    Column("reason", Text, nullable=True),  # of an administrator who admitted a file without a trusted signature
    Column("signature", Text, nullable=True),  # the signature file
    Column("signer", Text, nullable=True),  # name of the trusted key that verified it; null: none did
    Column("approved_by", Text, nullable=True),
    Column("approved_ms", _Int64, nullable=True),
    Column("promoted_by", Text, nullable=True),
    Column("promoted_ms", _Int64, nullable=True),
    Column("follows", Text, nullable=True),  # sha256 of the version that was active before: the way back
    UniqueConstraint("id", "version"),
    CheckConstraint("length(sha256) = 64", name="sha256_length"),
    CheckConstraint("active IN (0, 1)", name="active_known"),
    Index("uq_specialist_active_id", "id", unique=True, sqlite_where=text("active = 1")),
    sqlite_strict=True,
)

trusted_key = Table(
    "trusted_key",
    app_metadata,
    Column("fingerprint", Text, primary_key=True),  # SHA-256 of the PEM text, hex
    Column("name", Text, nullable=False),
    Column("public_pem", Text, nullable=False),
    Column("added_ms", _Int64, nullable=False),
    Column("added_by", Text, nullable=False),
    UniqueConstraint("name"),
    CheckConstraint("length(fingerprint) = 64", name="fingerprint_length"),
    sqlite_strict=True,
)

conversation = Table(
    "conversation",
    app_metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("owner", Text, nullable=False),  # id of the principal
    Column("key_scope", LargeBinary, nullable=False),  # content key in the keystore; destroyed: nothing opens any more
    Column("subject_scope", LargeBinary, nullable=True),  # content key of whom it is about, where somebody is named
    Column("created_ms", _Int64, nullable=False),
    Column("changed_ms", _Int64, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("head", LargeBinary, nullable=False),  # sealed
    Index(None, "owner", "changed_ms"),
    _bytes_exactly("id", 16),
    _bytes_exactly("key_scope", 16),
    _bytes_exactly("nonce", 24),
    sqlite_strict=True,
)

conversation_turn = Table(
    "conversation_turn",
    app_metadata,
    Column("conversation_id", LargeBinary, ForeignKey("conversation.id"), primary_key=True),
    Column("position", _Int64, primary_key=True, autoincrement=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    CheckConstraint("position >= 0", name="position_not_negative"),
    _bytes_exactly("nonce", 24),
    sqlite_strict=True,
)

applied_change = Table(
    "applied_change",
    app_metadata,
    Column("record_id", LargeBinary, primary_key=True),  # of the audit record that announced the change
    Column("applied_ms", _Int64, nullable=False),
    _bytes_exactly("record_id", 16),
    sqlite_strict=True,
)

meta = Table(
    "meta",
    app_metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_strict=True,
)
