"""Conversations are sealed as the written format says; only their owner gets at them; what was altered, moved, swapped,
left out or added is refused and never shown; a destroyed key ends a conversation, whatever rows are left.

Formats against vectors of another implementation. Everything else on a real data folder: its keystore, its database.
"""

import dataclasses
import secrets

import pytest
from audit_vectors import load
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit.conversation import (
    Head,
    Place,
    digest_of,
    open_head,
    open_turn,
    seal_head,
    seal_turn,
    sealing_key,
)
from appliance.audit.conversations import Conversations, Settings, Turn, new_id
from appliance.audit.keystore import open_keystore
from appliance.audit.record import RecordClass, month_of
from appliance.audit.root_key import read_root_key
from appliance.config import ConversationsConfig
from appliance.errors import Conflict, ConversationNotFound, DecryptionFailed, InputTooLong
from appliance.storage.database import open_database, reading, writing

ANA, BEN = "user:3", "user:4"
SETTINGS = Settings(title="Letter", model="tiny")
VECTORS = load("conversation")
PLACE = Place(bytes.fromhex(VECTORS["id"]), VECTORS["owner"], VECTORS["created_ms"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
NOW_S = 1_767_225_600.0  # 1 January 2026


def user(text: str) -> Turn:
    return Turn(role="user", text=text, time_ms=1)


def assistant(text: str) -> Turn:
    return Turn(role="assistant", text=text, time_ms=2, model="tiny", finish="stop", record_id="ab" * 16, seq=5)


TALK = [user("Dear canary"), assistant("Yours canary"), user("Shorter"), assistant("Y. c.")]


# --- the format


@pytest.mark.parametrize("vector", VECTORS["conversations"], ids=lambda vector: vector["subject"] or "no subject")
def test_parts_are_the_bytes_of_the_written_format(vector):
    subject_key = bytes.fromhex(VECTORS["subject_key"]) if vector["subject"] else None
    key = sealing_key(bytes.fromhex(VECTORS["conversation_key"]), subject_key)
    assert key.hex() == vector["key"]
    stored = []
    for position, part in enumerate(vector["turns"]):
        nonce, sealed = bytes.fromhex(part["nonce"]), bytes.fromhex(part["sealed"])
        turn = Turn(**part["value"])
        assert open_turn(key, PLACE, position, nonce, sealed) == turn
        assert seal_turn(key, PLACE, position, turn, nonce) == (nonce, sealed)
        stored.append((nonce, sealed))
    part = vector["head"]
    nonce, sealed = bytes.fromhex(part["nonce"]), bytes.fromhex(part["sealed"])
    head = open_head(key, PLACE, nonce, sealed)
    assert head == Head(**part["value"] | {"settings": Settings(**part["value"]["settings"])})
    assert seal_head(key, PLACE, head, nonce) == (nonce, sealed)
    assert head.digest == digest_of(PLACE.id, stored)


@settings(max_examples=40, deadline=None)
@given(TEXT, st.integers(0, 2**32 - 1))
def test_any_text_at_any_place_opens_there_and_nowhere_else(text, position):
    key = secrets.token_bytes(32)
    sealed = seal_turn(key, PLACE, position, user(text))
    assert open_turn(key, PLACE, position, *sealed).text == text
    others = [
        (PLACE, position ^ 1),
        (dataclasses.replace(PLACE, owner=BEN), position),
        (dataclasses.replace(PLACE, id=b"\xff" * 16), position),
        (dataclasses.replace(PLACE, created_ms=0), position),
    ]
    for place, at in others:
        with pytest.raises(DecryptionFailed):
            open_turn(key, place, at, *sealed)
    with pytest.raises(DecryptionFailed):
        open_head(key, PLACE, *sealed)


# --- on a data folder


class Kept:
    """The conversations of one data folder, with its clock in the test's hand."""

    def __init__(self, home):
        self.now_s = NOW_S
        self.home = home
        self.keystore = open_keystore(home, read_root_key(home.root_key_file))
        self.engine = open_database(home.database, mode="rw")
        self.conversations = self.limited()

    def limited(self, **limits) -> Conversations:
        return Conversations(self.engine, self.keystore, ConversationsConfig(**limits), lambda: self.now_s)

    def talk(self, owner: str = ANA, turns=TALK, subject: str = "") -> bytes:
        id_ = new_id()
        self.conversations.create(id_, owner, SETTINGS, subject)
        self.conversations.put(owner, id_, expected=0, keep=0, turns=turns)
        return id_

    def execute(self, statement: str, *values) -> int:
        with writing(self.engine) as connection:
            return connection.exec_driver_sql(statement, values).rowcount

    def count(self, table: str) -> int:
        with reading(self.engine) as connection:
            return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()


@pytest.fixture
def kept(home):
    opened = Kept(home)
    yield opened
    opened.engine.dispose()


def test_a_conversation_is_as_it_was_written_and_shows_nothing_on_the_disk(kept):
    id_ = kept.talk(subject="MRN canary")
    kept.conversations.change(ANA, id_, lambda there: Settings(title="canary", model=there.model, system="canary"))
    again = open_database(kept.home.database, mode="ro")
    one = Conversations(again, kept.keystore, ConversationsConfig()).read(ANA, id_)
    again.dispose()
    assert list(one.turns) == TALK
    assert (one.settings.title, one.settings.system, one.subject) == ("canary", "canary", "MRN canary")
    written = b"".join(path.read_bytes() for path in kept.home.database.parent.iterdir())
    assert id_ in written and b"canary" not in written


def test_nobody_else_finds_changes_or_removes_it(kept):
    id_ = kept.talk()
    attempts = [
        lambda: kept.conversations.read(BEN, id_),
        lambda: kept.conversations.change(BEN, id_, lambda there: there),
        lambda: kept.conversations.put(BEN, id_, expected=4, keep=0, turns=[]),
        lambda: kept.conversations.keys(BEN, id_),
    ]
    for attempt in attempts:
        with pytest.raises(ConversationNotFound):
            attempt()
    kept.conversations.remove(BEN, id_)
    assert kept.conversations.list_of(BEN) == []
    assert [view.id for view in kept.conversations.list_of(ANA)] == [id_]
    assert list(kept.conversations.read(ANA, id_).turns) == TALK


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE conversation_turn SET sealed = CAST(x'00' || substr(sealed, 2) AS BLOB) WHERE position = 1",
        "UPDATE conversation_turn SET nonce = zeroblob(24) WHERE position = 1",
        "DELETE FROM conversation_turn WHERE position = 3",
        "DELETE FROM conversation_turn WHERE position = 0",
        "DELETE FROM conversation_turn",
        "UPDATE conversation_turn SET position = position + 10",
        "INSERT INTO conversation_turn SELECT conversation_id, 4, nonce, sealed FROM conversation_turn LIMIT 1",
        "UPDATE conversation SET owner = 'user:4'",
        "UPDATE conversation SET created_ms = created_ms + 1",
        "UPDATE conversation SET head = zeroblob(300)",
        "UPDATE conversation SET subject_scope = key_scope",
    ],
)
def test_what_was_altered_outside_is_neither_shown_nor_written_to(kept, damage):
    id_ = kept.talk()
    assert kept.execute(damage)
    owner = BEN if "user:4" in damage else ANA
    for attempt in (
        lambda: kept.conversations.read(owner, id_),
        lambda: kept.conversations.put(owner, id_, expected=4, keep=1, turns=[user("x")]),
        lambda: kept.conversations.change(owner, id_, lambda there: there),
    ):
        with pytest.raises(DecryptionFailed) as refused:
            attempt()
        assert "delete it" in refused.value.hint and "canary" not in refused.value.message


def test_swapping_replaying_and_mixing_turns_is_found(kept):
    first, second = kept.talk(), kept.talk()
    with reading(kept.engine) as connection:
        query = "SELECT position, nonce, sealed FROM conversation_turn WHERE conversation_id = ? ORDER BY position"
        before = connection.exec_driver_sql(query, (first,)).all()
    kept.conversations.put(ANA, first, expected=4, keep=2, turns=[user("Longer")])
    place = "UPDATE conversation_turn SET nonce = ?, sealed = ? WHERE conversation_id = ? AND position = ?"
    kept.execute(place, before[2].nonce, before[2].sealed, first, 2)  # what was edited away comes back
    kept.execute(place, before[0].nonce, before[0].sealed, second, 0)  # a turn of another conversation
    for id_ in (first, second):
        with pytest.raises(DecryptionFailed):
            kept.conversations.read(ANA, id_)


def test_a_head_that_was_altered_is_listed_so_that_it_can_be_deleted(kept):
    id_ = kept.talk()
    kept.execute("UPDATE conversation SET head = zeroblob(300)")
    (view,) = kept.conversations.list_of(ANA)
    assert (view.id, view.settings) == (id_, None)
    kept.keystore.destroy([kept.conversations.keys(ANA, id_).own])
    kept.conversations.remove(ANA, id_)
    assert kept.count("conversation") == kept.count("conversation_turn") == 0


def test_editing_cuts_what_followed_and_of_two_writers_one_is_refused(kept):
    id_ = kept.talk()
    one = kept.conversations.put(ANA, id_, expected=4, keep=2, turns=[user("Longer")])
    assert [turn.text for turn in one.turns] == ["Dear canary", "Yours canary", "Longer"]
    assert kept.conversations.read(ANA, id_) == one
    with pytest.raises(Conflict, match="in the meantime"):
        kept.conversations.put(ANA, id_, expected=4, keep=4, turns=[user("lost")])
    assert kept.conversations.read(ANA, id_) == one


def test_a_write_that_dies_in_the_middle_leaves_the_conversation_as_it_was(kept, monkeypatch):
    id_ = kept.talk()
    before = kept.conversations.read(ANA, id_)

    def dies(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("appliance.audit.conversations.conversation_rows.update_head", dies)
    with pytest.raises(KeyboardInterrupt):
        kept.conversations.put(ANA, id_, expected=4, keep=1, turns=[user("half")])
    monkeypatch.undo()
    assert kept.conversations.read(ANA, id_) == before


@pytest.mark.parametrize("subject", ["", "MRN 1"])
def test_a_destroyed_key_ends_the_conversation_and_only_that_one(kept, subject):
    gone, stays = kept.talk(subject=subject), kept.talk()
    kept.keystore.destroy([kept.conversations.keys(ANA, gone).own])
    assert [view.id for view in kept.conversations.list_of(ANA)] == [stays]
    with pytest.raises(ConversationNotFound):
        kept.conversations.read(ANA, gone)
    assert kept.conversations.sweep() == 1
    assert kept.conversations.sweep() == 0
    assert kept.count("conversation_turn") == len(TALK)
    assert list(kept.conversations.read(ANA, stays).turns) == TALK


def test_destroying_what_is_about_a_subject_ends_its_conversations(kept):
    about, other, nobody = kept.talk(subject="MRN 1"), kept.talk(subject="MRN 2"), kept.talk()
    subject_key = kept.conversations.keys(ANA, about).subject
    assert subject_key is not None and kept.conversations.keys(ANA, nobody).subject is None
    kept.keystore.destroy([subject_key])
    with pytest.raises(ConversationNotFound):
        kept.conversations.read(ANA, about)
    assert {view.id for view in kept.conversations.list_of(ANA)} == {other, nobody}


def test_keys_are_of_the_month_in_which_a_conversation_began_so_that_retention_takes_them(kept):
    id_ = kept.talk()
    kept.now_s += 90 * 86_400
    kept.conversations.put(ANA, id_, expected=4, keep=4, turns=[user("in April")])
    month = month_of(int(NOW_S * 1000))
    own = kept.conversations.keys(ANA, id_).own
    assert own in {key.scope_id for key in kept.keystore.scopes_of(RecordClass.EXCHANGE, month)}
    assert kept.keystore.scopes([own, b"\0" * 16])[0].scope_id == own


def test_number_and_size_are_bounded_and_the_bound_is_named(kept):
    few = kept.limited(per_person_max=2, turns_max=4, chars_max=1000)
    ids = [kept.talk(), kept.talk()]
    kept.talk(BEN)
    with pytest.raises(Conflict, match="as many as are kept"):
        few.create(new_id(), ANA, SETTINGS)
    with pytest.raises(InputTooLong, match="5 turns"):
        few.put(ANA, ids[0], expected=4, keep=4, turns=[user("more")])
    with pytest.raises(InputTooLong, match="1001 characters"):
        few.put(ANA, ids[0], expected=4, keep=0, turns=[user("x" * 1001)])
    few.put(ANA, ids[0], expected=4, keep=0, turns=[user("x" * 1000)])
    assert len(few.list_of(ANA)) == 2


def test_the_one_that_was_changed_last_is_first(kept):
    ids = []
    for _ in range(3):
        kept.now_s += 1
        ids.append(kept.talk())
    kept.now_s += 1
    kept.conversations.change(ANA, ids[0], lambda there: Settings(title="Newest", model=there.model))
    assert [view.id for view in kept.conversations.list_of(ANA)] == [ids[0], ids[2], ids[1]]
