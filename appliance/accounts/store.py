"""The statements about accounts, over `storage/tables.py`: no rule, no hashing, no transaction of its own.

    with writing(engine) as connection:
        store.delete_sessions_of(connection, account_id)

Every function takes the caller's connection, so that the caller decides what commits together. Reads are bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Row, delete, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from appliance.errors import AccountExists
from appliance.storage.database import Connection
from appliance.storage.tables import account, account_role, api_key, applied_change, meta, session, setup_link
from appliance.types import Role

ROWS_MAX = 10_000
IDS_AT_ONCE = 500  # SQLite bounds the number of parameters of a statement


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """One account with its roles."""

    id: int
    name: str
    password_hash: str
    created_ms: int
    disabled_ms: int | None
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One browser session with its account."""

    secret_hash: bytes
    created_ms: int
    seen_ms: int
    account: StoredAccount


@dataclass(frozen=True, slots=True)
class StoredApiKey:
    """One API key with its owner."""

    id: int
    name: str
    secret_hash: bytes
    scopes: frozenset[str]
    created_ms: int
    expires_ms: int
    revoked_ms: int | None
    last_used_ms: int | None
    owner: StoredAccount


# --- accounts ---------------------------------------------------------------------------------------------------


def insert_account(
    connection: Connection, name: str, folded: str, password_hash: str, roles: Iterable[Role], now_ms: int, by: str
) -> int:
    """A new account; its number. Raises `AccountExists`."""
    try:
        added = connection.execute(
            insert(account).values(
                name=name, name_folded=folded, password_hash=password_hash, created_ms=now_ms, created_by=by
            )
        )
    except IntegrityError:
        raise AccountExists(
            f"an account {name!r} exists already", hint="names differ in more than upper and lower case"
        ) from None
    (account_id,) = added.inserted_primary_key or (0,)
    connection.execute(insert(account_role), [{"account_id": account_id, "role": role} for role in sorted(roles)])
    return int(account_id)


def account_by_name(connection: Connection, folded: str) -> StoredAccount | None:
    """The account of a folded name."""
    row = connection.execute(select(account).where(account.c.name_folded == folded)).one_or_none()
    return None if row is None else _account(row, _roles_of(connection, [row.id])[row.id])


def accounts(connection: Connection, ids: Sequence[int] | None = None) -> tuple[StoredAccount, ...]:
    """Every account, or those with these numbers (at most `IDS_AT_ONCE`), by name."""
    chosen = account.c.id > 0 if ids is None else account.c.id.in_(ids)
    rows = connection.execute(select(account).where(chosen).order_by(account.c.name_folded).limit(ROWS_MAX)).all()
    roles = _roles_of(connection, [row.id for row in rows])
    return tuple(_account(row, roles[row.id]) for row in rows)


def set_disabled(connection: Connection, account_id: int, disabled_ms: int | None) -> None:
    """Disable at a time, or enable with None."""
    connection.execute(update(account).where(account.c.id == account_id).values(disabled_ms=disabled_ms))


def set_password_hash(connection: Connection, account_id: int, password_hash: str) -> None:
    """Another password, or the same under other parameters."""
    connection.execute(update(account).where(account.c.id == account_id).values(password_hash=password_hash))


def active_administrators(connection: Connection) -> int:
    """How many accounts may administer."""
    return connection.execute(
        select(func.count())
        .select_from(account.join(account_role))
        .where(account_role.c.role == "admin", account.c.disabled_ms.is_(None))
    ).scalar_one()


def _roles_of(connection: Connection, ids: Sequence[int]) -> dict[int, frozenset[Role]]:
    found: dict[int, set[Role]] = {account_id: set() for account_id in ids}
    for start in range(0, len(ids), IDS_AT_ONCE):
        chosen = account_role.c.account_id.in_(ids[start : start + IDS_AT_ONCE])
        for account_id, role in connection.execute(
            select(account_role.c.account_id, account_role.c.role).where(chosen)
        ):
            found[account_id].add(role)
    return {account_id: frozenset(roles) for account_id, roles in found.items()}


def _account(row: Row, roles: frozenset[Role]) -> StoredAccount:
    return StoredAccount(row.id, row.name, row.password_hash, row.created_ms, row.disabled_ms, roles)


# --- browser sessions -------------------------------------------------------------------------------------------


def insert_session(connection: Connection, secret_hash: bytes, account_id: int, now_ms: int) -> None:
    """A session that begins now."""
    connection.execute(
        insert(session).values(secret_hash=secret_hash, account_id=account_id, created_ms=now_ms, seen_ms=now_ms)
    )


def session_by_hash(connection: Connection, secret_hash: bytes) -> StoredSession | None:
    """The session and its account, alive or not."""
    row = connection.execute(
        select(session.c.created_ms.label("began_ms"), session.c.seen_ms, account)
        .join_from(session, account)
        .where(session.c.secret_hash == secret_hash)
    ).one_or_none()
    if row is None:
        return None
    owner = _account(row, _roles_of(connection, [row.id])[row.id])
    return StoredSession(secret_hash, row.began_ms, row.seen_ms, owner)


def set_session_seen(connection: Connection, secret_hash: bytes, now_ms: int) -> None:
    """The person did something."""
    connection.execute(update(session).where(session.c.secret_hash == secret_hash).values(seen_ms=now_ms))


def delete_session(connection: Connection, secret_hash: bytes) -> None:
    """The session ends; one that is not there has ended already."""
    connection.execute(delete(session).where(session.c.secret_hash == secret_hash))


def delete_sessions_of(connection: Connection, account_id: int) -> None:
    """Every session of an account ends."""
    connection.execute(delete(session).where(session.c.account_id == account_id))


def delete_dead_sessions(connection: Connection, *, created_before_ms: int, seen_before_ms: int) -> None:
    """Forget sessions whose time has passed."""
    connection.execute(
        delete(session).where(or_(session.c.created_ms <= created_before_ms, session.c.seen_ms <= seen_before_ms))
    )


def keep_newest_sessions(connection: Connection, account_id: int, count: int) -> None:
    """End the longest unused sessions of an account until `count` are left."""
    newest = (
        select(session.c.secret_hash)
        .where(session.c.account_id == account_id)
        .order_by(session.c.seen_ms.desc(), session.c.created_ms.desc())
        .limit(count)
    )
    connection.execute(delete(session).where(session.c.account_id == account_id, session.c.secret_hash.not_in(newest)))


# --- API keys ---------------------------------------------------------------------------------------------------


def reserve_api_key(
    connection: Connection, owner_id: int, name: str, scopes: Iterable[str], now_ms: int, expires_ms: int
) -> int:
    """A new key's number, under a hash that nothing has; `set_api_key_hash` completes it in the same transaction."""
    added = connection.execute(
        insert(api_key).values(
            owner_id=owner_id,
            name=name,
            secret_hash=bytes(32),
            scopes=" ".join(sorted(scopes)),
            created_ms=now_ms,
            expires_ms=expires_ms,
        )
    )
    (key_id,) = added.inserted_primary_key or (0,)
    return int(key_id)


def set_api_key_hash(connection: Connection, key_id: int, secret_hash: bytes) -> None:
    """The hash of the key's text, which contains its number."""
    connection.execute(update(api_key).where(api_key.c.id == key_id).values(secret_hash=secret_hash))


def api_key_by_id(connection: Connection, key_id: int) -> StoredApiKey | None:
    """The key and its owner, valid or not."""
    found = _api_keys(connection, api_key.c.id == key_id)
    return found[0] if found else None


def api_keys_by_id(connection: Connection, ids: Sequence[int]) -> tuple[StoredApiKey, ...]:
    """The keys with these numbers (at most `IDS_AT_ONCE`), valid or not."""
    return _api_keys(connection, api_key.c.id.in_(ids))


def api_keys(connection: Connection, owner_id: int | None = None) -> tuple[StoredApiKey, ...]:
    """Every key, or those of one account; oldest first."""
    return _api_keys(connection, api_key.c.owner_id == owner_id if owner_id is not None else api_key.c.id > 0)


def usable_api_keys(connection: Connection, owner_id: int, now_ms: int) -> int:
    """How many keys of an account are neither expired nor revoked."""
    return connection.execute(
        select(func.count())
        .select_from(api_key)
        .where(api_key.c.owner_id == owner_id, api_key.c.revoked_ms.is_(None), api_key.c.expires_ms > now_ms)
    ).scalar_one()


def set_api_key_revoked(connection: Connection, key_id: int, now_ms: int) -> None:
    """The key ends; the first time counts."""
    unrevoked = (api_key.c.id == key_id) & api_key.c.revoked_ms.is_(None)
    connection.execute(update(api_key).where(unrevoked).values(revoked_ms=now_ms))


def set_api_key_used(connection: Connection, key_id: int, now_ms: int) -> None:
    """The key was used."""
    connection.execute(update(api_key).where(api_key.c.id == key_id).values(last_used_ms=now_ms))


def _api_keys(connection: Connection, condition: ColumnElement[bool]) -> tuple[StoredApiKey, ...]:
    rows = connection.execute(select(api_key).where(condition).order_by(api_key.c.id).limit(ROWS_MAX)).all()
    owner_ids = sorted({row.owner_id for row in rows})
    roles = _roles_of(connection, owner_ids)
    owners = {}
    for start in range(0, len(owner_ids), IDS_AT_ONCE):
        chosen = account.c.id.in_(owner_ids[start : start + IDS_AT_ONCE])
        for row in connection.execute(select(account).where(chosen)):
            owners[row.id] = _account(row, roles[row.id])
    return tuple(
        StoredApiKey(
            row.id,
            row.name,
            row.secret_hash,
            frozenset(row.scopes.split()),
            row.created_ms,
            row.expires_ms,
            row.revoked_ms,
            row.last_used_ms,
            owners[row.owner_id],
        )
        for row in rows
    )


# --- the one-time link ------------------------------------------------------------------------------------------


def insert_setup_link(connection: Connection, token_hash: bytes, now_ms: int, expires_ms: int, by: str) -> None:
    """A link that is open until it is used or expires."""
    connection.execute(
        insert(setup_link).values(token_hash=token_hash, created_ms=now_ms, created_by=by, expires_ms=expires_ms)
    )


def setup_link_is_open(connection: Connection, now_ms: int, token_hash: bytes | None = None) -> bool:
    """Whether this link can be used; without a hash: whether any can."""
    usable = setup_link.c.used_ms.is_(None) & (setup_link.c.expires_ms > now_ms)
    if token_hash is not None:
        usable &= setup_link.c.token_hash == token_hash
    return bool(connection.execute(select(exists().where(usable))).scalar_one())


def use_setup_link(connection: Connection, token_hash: bytes, now_ms: int) -> bool:
    """Mark the link as used; whether it was open until now."""
    usable = setup_link.c.used_ms.is_(None) & (setup_link.c.expires_ms > now_ms)
    used = connection.execute(
        update(setup_link).where(usable, setup_link.c.token_hash == token_hash).values(used_ms=now_ms)
    )
    return used.rowcount == 1


def delete_open_setup_links(connection: Connection) -> None:
    """Links that nobody used stop working; used ones stay as a trace."""
    connection.execute(delete(setup_link).where(setup_link.c.used_ms.is_(None)))


# --- changes that an audit record announced ---------------------------------------------------------------------


def insert_applied_change(connection: Connection, record_id: bytes, now_ms: int) -> None:
    """Say, in the transaction of a change, which audit record announced it."""
    connection.execute(insert(applied_change).values(record_id=record_id, applied_ms=now_ms))


def applied_changes(connection: Connection, record_ids: Sequence[bytes]) -> frozenset[bytes]:
    """Those of `record_ids` whose change was committed."""
    found: set[bytes] = set()
    for start in range(0, len(record_ids), IDS_AT_ONCE):
        chosen = applied_change.c.record_id.in_(record_ids[start : start + IDS_AT_ONCE])
        found.update(connection.execute(select(applied_change.c.record_id).where(chosen)).scalars())
    return frozenset(found)


def setting(connection: Connection, key: str) -> str | None:
    """One of the site's own settings; None: nobody decided it."""
    return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar_one_or_none()


def set_setting(connection: Connection, key: str, value: str) -> None:
    """Decide a setting, in place of what was decided before."""
    if connection.execute(update(meta).where(meta.c.key == key).values(value=value)).rowcount == 0:
        connection.execute(insert(meta).values(key=key, value=value))
