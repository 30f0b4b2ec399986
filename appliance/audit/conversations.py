"""Conversations of people with models that write, sealed at rest; each under a content key of its own.

    conversations = log.conversations(engine, config.conversations)
    one = conversations.create(new_id(), "user:7", Settings(title="Letter", model="qwen3-4b"))
    one = conversations.put("user:7", one.id, keep=0, expected=0, turns=[Turn(…)])
    conversations.keys("user:7", one.id)          # what `AuditLog.shred_scopes` destroys

What a caller may rely on: nobody but the owner gets at a conversation, and to everybody else it is not there; a change
is on the disk, whole, when a method returns, and of two that change the same turns one is refused; what was altered
outside is `DecryptionFailed`, never shown; a conversation whose key was destroyed is gone, whatever rows are left, and
`sweep` takes those. Every method blocks and may be called from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from appliance.audit.conversation import (
    Head,
    Place,
    Settings,
    Turn,
    altered,
    conversation_owner,
    digest_of,
    open_head,
    open_turn,
    seal_head,
    seal_turn,
    sealing_key,
)
from appliance.audit.keystore import Keystore
from appliance.audit.record import RecordClass, month_of, subject_owner
from appliance.config import ConversationsConfig
from appliance.crypto.keys import random_id
from appliance.errors import Conflict, ConversationNotFound, DecryptionFailed, InputTooLong
from appliance.storage import conversation_rows
from appliance.storage.conversation_rows import ConversationRow, TurnRow
from appliance.storage.database import Connection, Engine, reading, writing

__all__ = ["Conversation", "ConversationKeys", "ConversationView", "Conversations", "Settings", "Turn", "new_id"]

_PAGE = 500


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A conversation in a list. `settings` None: it was altered outside and can only be deleted."""

    id: bytes
    created_ms: int
    changed_ms: int
    settings: Settings | None
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with its turns."""

    id: bytes
    created_ms: int
    changed_ms: int
    settings: Settings
    subject: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class ConversationKeys:
    """Ids of what opens a conversation: its own key, to be destroyed with it, and the key of whom it is about."""

    own: bytes
    subject: bytes | None


def new_id() -> bytes:
    """A name for a conversation that says nothing."""
    return random_id()


class Conversations:
    """See the module; made by `AuditLog.conversations`."""

    def __init__(
        self, engine: Engine, keystore: Keystore, limits: ConversationsConfig, now: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._keystore = keystore
        self._limits = limits
        self._now = now

    def create(self, id_: bytes, owner: str, settings: Settings, subject: str = "") -> Conversation:
        """An empty conversation. Raises `Conflict` when its owner has as many as they may."""
        now_ms = self._now_ms()
        month, kept = month_of(now_ms), self._limits.per_person_max
        with reading(self._engine) as connection:
            self._check_room(connection, owner, kept)
        # Before the row: a key without a conversation opens nothing and goes with its month.
        own = self._keystore.content_key(RecordClass.EXCHANGE, month, conversation_owner(id_))
        about = self._keystore.content_key(RecordClass.EXCHANGE, month, subject_owner(subject)) if subject else None
        key = sealing_key(own.key, about.key if about else None)
        head = Head(settings, turns=0, digest=digest_of(id_, ()), subject=subject)
        sealed = seal_head(key, Place(id_, owner, now_ms), head)
        row = ConversationRow(id_, owner, own.id, about.id if about else None, now_ms, now_ms, *sealed)
        with writing(self._engine) as connection:
            self._check_room(connection, owner, kept)
            conversation_rows.insert(connection, row)
        return Conversation(id_, now_ms, now_ms, settings, subject, ())

    def list_of(self, owner: str) -> list[ConversationView]:
        """Somebody's conversations, the one that was changed last first."""
        with reading(self._engine) as connection:
            rows = conversation_rows.read_of(connection, owner, self._limits.per_person_max)
        return [view for row in rows if (view := self._view(row)) is not None]

    def read(self, owner: str, id_: bytes) -> Conversation:
        """One with its turns. Raises `ConversationNotFound`, `DecryptionFailed` where it was altered."""
        with reading(self._engine) as connection:
            return self._opened(*self._rows(connection, owner, id_))

    def change(self, owner: str, id_: bytes, change: Callable[[Settings], Settings]) -> Conversation:
        """Other settings, made from those that are there. Raises as `read`."""
        with writing(self._engine) as connection:
            row, turns = self._rows(connection, owner, id_)
            one = self._opened(row, turns)
            sealed = [(turn.nonce, turn.sealed) for turn in turns]
            return self._written(connection, row, replace(one, settings=change(one.settings)), sealed)

    def put(self, owner: str, id_: bytes, *, expected: int, keep: int, turns: Sequence[Turn]) -> Conversation:
        """The first `keep` turns stay, `turns` follow. Raises `Conflict` where there are not `expected` turns now.

        Raises as `read`, and `InputTooLong` beyond `conversations.turns_max` or `conversations.chars_max`.
        """
        assert 0 <= keep <= expected
        with writing(self._engine) as connection:
            row, stored = self._rows(connection, owner, id_)
            one = self._opened(row, stored)
            if len(one.turns) != expected:
                raise Conflict("this conversation went on in the meantime", hint="open it again and look")
            one = replace(one, turns=(*one.turns[:keep], *turns))
            self.check_size(one.turns)
            key, place = self._key(row), _place(row)
            added = [TurnRow(at, *seal_turn(key, place, at, turn)) for at, turn in enumerate(turns, keep)]
            conversation_rows.replace_turns(connection, id_, keep, added)
            sealed = [(turn.nonce, turn.sealed) for turn in (*stored[:keep], *added)]
            return self._written(connection, row, one, sealed)

    def check_size(self, turns: Sequence[Turn]) -> None:
        """Refuse more or longer turns than one conversation holds. Raises `InputTooLong`."""
        chars = sum(len(turn.text) for turn in turns)
        if len(turns) > self._limits.turns_max or chars > self._limits.chars_max:
            raise InputTooLong(
                f"this conversation would have {len(turns)} turns with {chars} characters; it holds "
                f"{self._limits.turns_max} with {self._limits.chars_max}",
                hint="begin a new conversation",
            )

    def keys(self, owner: str, id_: bytes) -> ConversationKeys:
        """What opens it, also where it was altered. Raises `ConversationNotFound`."""
        with reading(self._engine) as connection:
            row = self._row(connection, owner, id_)
        return ConversationKeys(row.key_scope, row.subject_scope)

    def remove(self, owner: str, id_: bytes) -> None:
        """The rows of a conversation whose key is destroyed. Again is no error."""
        with writing(self._engine) as connection:
            row = conversation_rows.read(connection, id_)
            if row is not None and row.owner == owner:
                conversation_rows.delete(connection, id_)

    def sweep(self) -> int:
        """Take the rows of all whose key is gone: expired, destroyed with a subject, or cut off while being deleted."""
        after, gone = b"", 0
        while True:
            with reading(self._engine) as connection:
                page = conversation_rows.read_after(connection, after, _PAGE)
            if not page:
                return gone
            dead = [row.id for row in page if not self._has_key(row)]
            if dead:
                with writing(self._engine) as connection:
                    for id_ in dead:
                        conversation_rows.delete(connection, id_)
            after, gone = page[-1].id, gone + len(dead)

    # --- inside

    def _check_room(self, connection: Connection, owner: str, kept: int) -> None:
        if conversation_rows.count_of(connection, owner) >= kept:
            raise Conflict(f"you have {kept} conversations, which is as many as are kept", hint="delete one of them")

    def _row(self, connection: Connection, owner: str, id_: bytes) -> ConversationRow:
        row = conversation_rows.read(connection, id_)
        if row is None or row.owner != owner:
            raise _not_found()
        return row

    def _rows(self, connection: Connection, owner: str, id_: bytes) -> tuple[ConversationRow, list[TurnRow]]:
        row = self._row(connection, owner, id_)
        # One more than there can be: what somebody added outside is found and not left out.
        return row, conversation_rows.read_turns(connection, id_, self._limits.turns_max + 1)

    def _opened(self, row: ConversationRow, turns: Sequence[TurnRow]) -> Conversation:
        key, place = self._key(row), _place(row)
        head = open_head(key, place, row.nonce, row.head)
        sealed = [(turn.nonce, turn.sealed) for turn in turns]
        positions = [turn.position for turn in turns]
        if head.digest != digest_of(row.id, sealed) or positions != list(range(head.turns)):
            raise altered()
        opened = tuple(open_turn(key, place, turn.position, turn.nonce, turn.sealed) for turn in turns)
        return Conversation(row.id, row.created_ms, row.changed_ms, head.settings, head.subject, opened)

    def _written(
        self, connection: Connection, row: ConversationRow, one: Conversation, sealed: Sequence[tuple[bytes, bytes]]
    ) -> Conversation:
        head = Head(one.settings, turns=len(one.turns), digest=digest_of(row.id, sealed), subject=one.subject)
        changed_ms = max(self._now_ms(), row.created_ms)
        conversation_rows.update_head(connection, row.id, *seal_head(self._key(row), _place(row), head), changed_ms)
        return replace(one, changed_ms=changed_ms)

    def _view(self, row: ConversationRow) -> ConversationView | None:
        """None: its key was destroyed."""
        try:
            key = self._key(row)
        except ConversationNotFound:
            return None
        try:
            head = open_head(key, _place(row), row.nonce, row.head)
        except DecryptionFailed:
            return ConversationView(row.id, row.created_ms, row.changed_ms, None)
        return ConversationView(row.id, row.created_ms, row.changed_ms, head.settings, head.turns)

    def _key(self, row: ConversationRow) -> bytes:
        """Raises `ConversationNotFound` where one of the keys was destroyed."""
        try:
            own = self._keystore.key_by_id(row.key_scope)
            about = None if row.subject_scope is None else self._keystore.key_by_id(row.subject_scope)
        except DecryptionFailed:
            raise _not_found() from None
        return sealing_key(own, about)

    def _has_key(self, row: ConversationRow) -> bool:
        try:
            self._key(row)
        except ConversationNotFound:
            return False
        return True

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def _place(row: ConversationRow) -> Place:
    return Place(row.id, row.owner, row.created_ms)


def _not_found() -> ConversationNotFound:
    return ConversationNotFound(
        "there is no such conversation of yours", hint="it may have been deleted, or its time was over"
    )
