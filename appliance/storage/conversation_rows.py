"""The statements of conversations, over `tables.py`; no rule, no cryptography, no transaction.

    with writing(engine) as connection:
        conversation_rows.insert(connection, row)
        conversation_rows.replace_turns(connection, row.id, 2, [TurnRow(2, nonce, sealed)])

Every function takes the caller's connection, so that the caller decides what commits together. What is in `head` and
`sealed` is sealed (`audit/conversation.py`). Every read is bounded by an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import delete as delete_from
from sqlalchemy import func, select, update
from sqlalchemy import insert as insert_into

from appliance.storage.database import Connection
from appliance.storage.tables import conversation, conversation_turn


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """One conversation without its turns. `subject_scope` None: it is about nobody in particular."""

    id: bytes
    owner: str
    key_scope: bytes
    subject_scope: bytes | None
    created_ms: int
    changed_ms: int
    nonce: bytes
    head: bytes


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One turn, sealed."""

    position: int
    nonce: bytes
    sealed: bytes


_COLUMNS = [conversation.c[name] for name in ConversationRow.__dataclass_fields__]
_TURN_COLUMNS = [conversation_turn.c[name] for name in TurnRow.__dataclass_fields__]


def insert(connection: Connection, row: ConversationRow) -> None:
    connection.execute(insert_into(conversation).values(**asdict(row)))


def count_of(connection: Connection, owner: str) -> int:
    """How many conversations somebody has."""
    return int(connection.execute(select(func.count()).where(conversation.c.owner == owner)).scalar_one())


def read_of(connection: Connection, owner: str, limit: int) -> list[ConversationRow]:
    """Somebody's conversations, the one that was changed last first."""
    newest = (conversation.c.changed_ms.desc(), conversation.c.id)
    query = select(*_COLUMNS).where(conversation.c.owner == owner).order_by(*newest).limit(limit)
    return [ConversationRow(**row._mapping) for row in connection.execute(query)]


def read(connection: Connection, id_: bytes) -> ConversationRow | None:
    row = connection.execute(select(*_COLUMNS).where(conversation.c.id == id_)).one_or_none()
    return None if row is None else ConversationRow(**row._mapping)


def read_after(connection: Connection, id_: bytes, limit: int) -> list[ConversationRow]:
    """A page of everybody's conversations, by id."""
    query = select(*_COLUMNS).where(conversation.c.id > id_).order_by(conversation.c.id).limit(limit)
    return [ConversationRow(**row._mapping) for row in connection.execute(query)]


def read_turns(connection: Connection, id_: bytes, limit: int) -> list[TurnRow]:
    """The turns of one conversation, by position."""
    turns = conversation_turn.c
    query = select(*_TURN_COLUMNS).where(turns.conversation_id == id_).order_by(turns.position).limit(limit)
    return [TurnRow(**row._mapping) for row in connection.execute(query)]


def update_head(connection: Connection, id_: bytes, nonce: bytes, head: bytes, changed_ms: int) -> None:
    values = {"nonce": nonce, "head": head, "changed_ms": changed_ms}
    connection.execute(update(conversation).where(conversation.c.id == id_).values(**values))


def replace_turns(connection: Connection, id_: bytes, first: int, rows: Sequence[TurnRow]) -> None:
    """Everything from position `first` on goes; `rows` come."""
    turns = conversation_turn.c
    connection.execute(delete_from(conversation_turn).where(turns.conversation_id == id_, turns.position >= first))
    if rows:
        values = [{"conversation_id": id_, **asdict(row)} for row in rows]
        connection.execute(insert_into(conversation_turn), values)


def delete(connection: Connection, id_: bytes) -> None:
    """A conversation and its turns; one that is not there is no error."""
    connection.execute(delete_from(conversation_turn).where(conversation_turn.c.conversation_id == id_))
    connection.execute(delete_from(conversation).where(conversation.c.id == id_))
