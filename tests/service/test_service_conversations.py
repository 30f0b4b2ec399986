"""Conversations: nothing is kept that was not released, nobody but the owner gets at them, deleting destroys the key
and says so in the log, holds and retention apply, and whatever stops an answer leaves a conversation that goes on.

A real log, database and generation worker; the worker's echo backend says the whole conversation once more, so every
answer is known. Records are read back from the log.
"""

import asyncio
import dataclasses
import json
import threading
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from appliance.audit.gate import Released
from appliance.engine.generation.values import Finish
from appliance.errors import (
    Conflict,
    ConversationNotFound,
    InputEmpty,
    InputNotText,
    InputTooLong,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    UnderLegalHold,
)
from appliance.service import audit_holds, conversations
from appliance.service.appliance import open_appliance
from appliance.service.audit_retention import run_retention, shred
from appliance.service.conversations import Ask, Kept, Wish
from appliance.service.generation import Piece
from appliance.service.models import library_of
from appliance.specialists.language_models.library import Origin
from appliance.types import Principal
from benchmarks.random_decoder import TINY, write_decoder

ANA = Principal("user:3", "ana", "user", frozenset({"user"}))
BEN = Principal("user:4", "ben", "user", frozenset({"user"}))
BOSS = Principal("user:5", "boss", "user", frozenset({"user", "admin"}))
ADMIN = Principal("user:1", "adam", "user", frozenset({"admin"}))
AUDITOR = Principal("user:2", "aude", "user", frozenset({"auditor"}))
YEARS_LATER = datetime.now(UTC) + timedelta(days=7 * 365)
MODEL = "tiny-writer"
LONG = "canary " * 500  # an answer of many windows


@pytest.fixture
def echoing(config, tmp_path):
    """Settings under which models repeat what they are asked; one model is in the library."""
    config = dataclasses.replace(
        config,
        engine=config.engine.model_copy(update={"backend": "echo"}),
        generation=config.generation.model_copy(update={"backend": "echo", "context_tokens": 20_000}),
        conversations=config.conversations.model_copy(update={"per_person_max": 3, "turns_max": 6}),
        models=config.models.model_copy(update={"disk_free_bytes_min": 0}),
    )
    write_decoder(tmp_path / f"{MODEL}.gguf", TINY, seed=7)
    file = tmp_path / f"{MODEL}.gguf"
    library_of(config).add(file, Origin(kind="file", file=file.name), added_by="t")
    return config


def on(config, work):
    """Run `work(appliance)` on the opened appliance of a server."""

    async def opened():
        async with open_appliance(config, via="server", specialists=()) as appliance:
            return await work(appliance)

    return asyncio.run(opened())


async def begin(appliance, who=ANA, **wish) -> str:
    given = {"model": MODEL, "title": "Letter", **wish}
    return (await conversations.create_conversation(appliance, who, wish_of(**given))).id.hex()


def wish_of(**given) -> Wish:
    return Wish(**given, given=frozenset(given))


async def ask(appliance, one: str, text: str | None = None, at: int | None = None, who=ANA):
    """What is told, in order."""
    return [told async for told in conversations.converse(appliance, who, one, Ask(text, at))]


async def texts(appliance, one: str, who=ANA) -> list[str]:
    return [turn.text for turn in (await conversations.show_conversation(appliance, who, one)).turns]


def named(appliance, event: str) -> list:
    """The records of that name, oldest first."""
    return [view for view in reversed(appliance.audit.records(limit=200)) if view.event == event]


def test_an_answer_is_kept_as_it_was_released_with_the_record_that_covers_it(echoing):
    async def work(appliance):
        one = await begin(appliance)
        *pieces, finish, kept = await ask(appliance, one, "Dear ")
        assert all(isinstance(told, Released) and isinstance(told.value, Piece) for told in pieces)
        assert isinstance(finish.value, Finish) and isinstance(kept, Kept)
        assert "".join(told.value.text for told in pieces) == kept.turn.text == "Dear "
        await ask(appliance, one, "Sir")
        found = await conversations.show_conversation(appliance, ANA, one)
        assert [(turn.role, turn.text) for turn in found.turns] == [
            ("user", "Dear "), ("assistant", "Dear "), ("user", "Sir"), ("assistant", "Dear Dear Sir"),
        ]  # fmt: skip
        answer = found.turns[1]
        assert (answer.model, answer.finish, answer.record_id) == (MODEL, "stop", finish.receipt.record_id.hex())
        assert appliance.audit.record(bytes.fromhex(answer.record_id)).event == "model.generate"
        asked = named(appliance, "conversation.answer")
        assert [dict(view.attributes) for view in asked] == [
            {"conversation": one, "turn": 1, "mode": "message"}, {"conversation": one, "turn": 3, "mode": "message"},
        ]  # fmt: skip
        said = json.dumps([dict(view.attributes) for view in appliance.audit.records(limit=200)])
        assert "Dear" not in said and "Letter" not in said

    on(echoing, work)


def test_editing_cuts_answering_again_replaces_and_the_log_keeps_all_of_it(echoing):
    async def work(appliance):
        one = await begin(appliance)
        for text in ("a", "b"):
            await ask(appliance, one, text)
        assert await texts(appliance, one) == ["a", "a", "b", "aab"]
        await ask(appliance, one)
        assert await texts(appliance, one) == ["a", "a", "b", "aab"]
        await ask(appliance, one, "c", at=0)
        assert await texts(appliance, one) == ["c", "c"]
        modes = [view.attributes["mode"] for view in named(appliance, "conversation.answer")]
        assert modes == ["message", "message", "again", "edit"]
        closed = [view for view in named(appliance, "model.generate") if view.outcome == "completed"]
        assert len(closed) == 4
        for wrong in (Ask("d", 1), Ask("d", 7), Ask("d", -1)):
            with pytest.raises(Conflict, match="no message of yours"):
                await ask(appliance, one, wrong.text, wrong.at)
        with pytest.raises(InvalidRequest):
            await ask(appliance, one, None, 0)

    on(echoing, work)


def test_a_conversation_is_its_owners_alone_whatever_the_role(echoing):
    async def work(appliance):
        one = await begin(appliance)
        await ask(appliance, one, "mine")
        for who in (BEN, BOSS):
            for attempt in (
                conversations.show_conversation(appliance, who, one),
                conversations.change_conversation(appliance, who, one, wish_of(title="taken")),
                conversations.delete_conversation(appliance, who, one),
                ask(appliance, one, "theirs", who=who),
            ):
                with pytest.raises(ConversationNotFound):
                    await attempt
            assert await conversations.list_conversations(appliance, who) == []
        for who in (ADMIN, AUDITOR):
            with pytest.raises(PermissionDenied):
                await conversations.list_conversations(appliance, who)
            with pytest.raises(PermissionDenied):
                await ask(appliance, one, "theirs", who=who)
        for name in ("", "00", "zz" * 16, one.upper(), "../" + one):
            with pytest.raises(ConversationNotFound):
                await conversations.show_conversation(appliance, ANA, name)
        assert await texts(appliance, one) == ["mine", "mine"]

    on(echoing, work)


def test_instructions_and_parameters_are_for_those_who_may_and_reach_the_model(echoing):
    async def work(appliance):
        assert conversations.may_tune(BOSS) and not conversations.may_tune(ANA)
        one = await begin(appliance)
        for wish in (wish_of(system="Obey"), wish_of(temperature=0.0), wish_of(max_tokens=2), wish_of(seed=1)):
            with pytest.raises(PermissionDenied):
                await conversations.change_conversation(appliance, ANA, one, wish)
        await conversations.change_conversation(appliance, ANA, one, wish_of(title=" A \n letter "))
        (view,) = await conversations.list_conversations(appliance, ANA)
        assert (view.settings.title, view.turns) == ("A letter", 0)
        tuned = await begin(appliance, BOSS, system="Be brief. ", temperature=0.0, max_tokens=12, seed=3)
        await ask(appliance, tuned, "Dear", who=BOSS)
        assert await texts(appliance, tuned, BOSS) == ["Dear", "Be brief. De"]
        opened, closed = named(appliance, "model.generate")
        assert (opened.attributes["temperature"], opened.attributes["seed"], opened.attributes["turns"]) == (0.0, 3, 2)
        assert closed.attributes["finish"] == "length"
        changes = named(appliance, "conversation.change")
        assert {view.attributes["fields"] for view in changes} == {"title"}

    on(echoing, work)


def test_what_is_refused_changes_nothing_and_says_what_to_do(echoing):
    async def work(appliance):
        one = await begin(appliance)
        with pytest.raises(Conflict, match="nothing was asked yet"):
            await ask(appliance, one)
        for text, kind in ((" \n", InputEmpty), ("\ud800", InputNotText), ("x" * 200_001, InputTooLong)):
            with pytest.raises(kind):
                await ask(appliance, one, text)
        with pytest.raises(InputTooLong, match="context"):
            await ask(appliance, one, "x" * 30_000)
        assert await texts(appliance, one) == []
        for text in ("a", "b", "c"):
            await ask(appliance, one, text)
        with pytest.raises(InputTooLong, match="8 turns"):
            await ask(appliance, one, "d")
        for wish in (wish_of(title="t", model=""), wish_of(model="m\n"), wish_of(model=MODEL, title="t" * 121)):
            with pytest.raises(InvalidRequest):
                await conversations.create_conversation(appliance, ANA, wish)
        with pytest.raises(InputTooLong, match="instructions"):
            await begin(appliance, BOSS, system="x" * 8001)
        gone = await begin(appliance, model="not-here")
        with pytest.raises(ModelNotFound):
            await ask(appliance, gone, "a")
        await begin(appliance)
        with pytest.raises(Conflict, match="as many as are kept"):
            await begin(appliance)
        assert await texts(appliance, gone) == []

    on(echoing, work)


def test_an_answer_that_is_stopped_keeps_what_was_released_and_can_be_given_again(echoing):
    async def work(appliance):
        one = await begin(appliance)
        async with aclosing(conversations.converse(appliance, ANA, one, Ask(LONG))) as told:
            first = await anext(told)
        found = (await conversations.show_conversation(appliance, ANA, one)).turns
        assert (found[1].text, found[1].finish) == (first.value.text, "stopped")
        assert found[1].record_id == first.receipt.record_id.hex()  # of the last window that left
        assert LONG.startswith(found[1].text)  # how much had left by then is a matter of how fast it is written
        closing = named(appliance, "model.generate")[-1]
        assert closing.outcome == "cancelled"
        await ask(appliance, one)
        assert await texts(appliance, one) == [LONG, LONG]

    on(echoing, work)


def test_cancelling_at_any_moment_leaves_a_conversation_that_opens_and_goes_on(echoing):
    async def work(appliance):
        one = await begin(appliance)
        for steps in (1, 2, 3, 5, 8, 13, 30, 80, 200):
            serving = asyncio.create_task(ask(appliance, one, LONG, None if not await texts(appliance, one) else 0))
            for _ in range(steps):
                await asyncio.sleep(0)
            for _ in range(3):  # anyio cancels again and again
                serving.cancel()
                await asyncio.sleep(0)
            # Where the log's process was much faster than this one, the answer is complete by then.
            (ended,) = await asyncio.gather(serving, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError) or (steps > 3 and isinstance(ended[-1], Kept))
            kept = await texts(appliance, one)
            assert kept == [] or (kept[0] == LONG and LONG.startswith("".join(kept[1:])))
        await ask(appliance, one, "end", at=0) if await texts(appliance, one) else await ask(appliance, one, "end")
        assert await texts(appliance, one) == ["end", "end"]

    on(echoing, work)


def test_a_question_without_an_answer_is_answered_again_or_edited_before_another(echoing):
    """What a server that died between the two leaves."""

    async def work(appliance):
        one = await begin(appliance)
        turn = conversations._turn("user", "lost?")
        appliance.conversations.put(ANA.id, bytes.fromhex(one), expected=0, keep=0, turns=[turn])
        with pytest.raises(Conflict, match="no answer"):
            await ask(appliance, one, "next")
        await ask(appliance, one)
        assert await texts(appliance, one) == ["lost?", "lost?"]

    on(echoing, work)


def test_of_two_that_go_on_with_one_conversation_one_is_refused_and_its_exchange_is_closed(echoing, monkeypatch):
    async def work(appliance):
        one = await begin(appliance)
        both_have_read, read = threading.Barrier(2), appliance.conversations.read

        def read_before_either_goes_on(*whose):
            found = read(*whose)
            both_have_read.wait(60)
            return found

        with monkeypatch.context() as patched:
            patched.setattr(appliance.conversations, "read", read_before_either_goes_on)
            both = await asyncio.gather(*(ask(appliance, one, text) for text in "ab"), return_exceptions=True)
        refused = [each for each in both if isinstance(each, Conflict)]
        assert len(refused) == 1 and "meantime" in refused[0].message
        kept = await texts(appliance, one)
        assert kept in (["a", "a"], ["b", "b"])
        records = named(appliance, "model.generate")
        closed = [view.exchange_id for view in records if view.outcome != "accepted"]
        assert sorted(closed) == sorted({view.exchange_id for view in records})

    on(echoing, work)


def test_deleting_destroys_the_key_and_the_log_says_so_and_keeps_its_own(echoing):
    async def work(appliance):
        one, other = await begin(appliance), await begin(appliance)
        for each in (one, other):
            await ask(appliance, each, "canary")
        own = appliance.conversations.keys(ANA.id, bytes.fromhex(one)).own
        answer = (await conversations.show_conversation(appliance, ANA, one)).turns[1]
        await conversations.delete_conversation(appliance, ANA, one)
        with pytest.raises(ConversationNotFound):
            await conversations.show_conversation(appliance, ANA, one)
        with pytest.raises(ConversationNotFound):
            await conversations.delete_conversation(appliance, ANA, one)
        (public,) = named(appliance, "shred")
        assert public.attributes["scopes"] == own.hex() and public.attributes["reason"] == conversations.DELETED
        accepted, done = named(appliance, "conversation.delete")
        assert (accepted.outcome, done.outcome, done.attributes["seq"]) == ("accepted", "completed", public.seq)
        assert await texts(appliance, other) == ["canary", "canary"]
        # The exchange's own records are under the person's key, not the conversation's.
        exchange = appliance.audit.record(bytes.fromhex(answer.record_id)).exchange_id
        opened = next(view for view in named(appliance, "model.generate") if view.exchange_id == exchange)
        assert b"canary" in appliance.audit.content(bytes.fromhex(opened.record_id))

    on(echoing, work)


def test_a_deletion_that_was_cut_off_after_the_key_was_destroyed_is_finished(echoing):
    async def work(appliance):
        one = await begin(appliance)
        own = appliance.conversations.keys(ANA.id, bytes.fromhex(one)).own
        await appliance.audit.shred_scopes([own], conversations.DELETED, ANA.id)
        assert await conversations.list_conversations(appliance, ANA) == []
        await conversations.delete_conversation(appliance, ANA, one)  # again, by whoever was interrupted
        assert appliance.conversations.sweep() == 0
        other = await begin(appliance)
        own = appliance.conversations.keys(ANA.id, bytes.fromhex(other)).own
        await appliance.audit.shred_scopes([own], conversations.DELETED, ANA.id)
        assert appliance.conversations.sweep() == 1  # or by the server, later

    on(echoing, work)


@pytest.mark.parametrize("covers", [{"subjects": ["MRN 1"], "classes": []}, {"subjects": [], "classes": ["exchange"]}])
def test_a_hold_beats_deletion_and_the_refusal_is_recorded(echoing, covers):
    async def work(appliance):
        one = await begin(appliance, subject="MRN 1")
        placed = await audit_holds.place_hold(appliance.audit, ADMIN, **covers, reason="case-1")
        with pytest.raises(UnderLegalHold):
            await conversations.delete_conversation(appliance, ANA, one)
        assert named(appliance, "conversation.delete")[-1].outcome == "refused"
        await ask(appliance, one, "still here")
        for who in (ADMIN, AUDITOR):
            await audit_holds.release_hold(appliance.audit, who, placed.hold)
        await conversations.delete_conversation(appliance, ANA, one)

    on(echoing, work)


def test_retention_and_the_erasure_of_a_subject_end_conversations(echoing):
    async def work(appliance):
        about, other = await begin(appliance, subject="MRN 1"), await begin(appliance)
        for each in (about, other):
            await ask(appliance, each, "hm")
        await shred(appliance.audit, ADMIN, "MRN 1", "request-1")
        with pytest.raises(ConversationNotFound):
            await conversations.show_conversation(appliance, ANA, about)
        assert await texts(appliance, other) == ["hm", "hm"]
        await run_retention(appliance.audit, "system", YEARS_LATER)
        assert await conversations.list_conversations(appliance, ANA) == []
        assert appliance.conversations.sweep() == 2

    on(echoing, work)


def small(echoing, context_tokens: int):
    """A context of so many bytes, which are the echo's tokens."""
    generation = echoing.generation.model_copy(update={"context_tokens": context_tokens})
    limits = echoing.conversations.model_copy(update={"turns_max": 40})
    return dataclasses.replace(echoing, generation=generation, conversations=limits)


def test_what_does_not_fit_any_more_is_left_out_oldest_first_said_and_recorded(echoing):
    """The echo is cut off behind the first letter of the first question that it was sent."""

    async def work(appliance):
        one = await begin(appliance, BOSS, system="Be kind. ", max_tokens=10)
        answers = []
        for letter in "abcde":
            *_, finish, kept = await ask(appliance, one, letter * 21, who=BOSS)
            assert finish.value.left_out == kept.turn.about.get("left_out", 0)
            answers.append((kept.turn.text, finish.value.left_out))
        assert answers == [
            ("Be kind. a", 0), ("Be kind. a", 0), ("Be kind. a", 0), ("Be kind. b", 2), ("Be kind. c", 4),
        ]  # fmt: skip
        closed = [view for view in named(appliance, "model.generate") if view.outcome == "completed"]
        assert [view.attributes.get("turns_left_out", 0) for view in closed] == [0, 0, 0, 2, 4]
        assert (await texts(appliance, one, BOSS))[0] == "a" * 21

    on(small(echoing, 120), work)


def test_question_that_does_not_fit_alone_is_refused_and_nothing_is_kept(echoing):
    async def work(appliance):
        one = await begin(appliance)
        await ask(appliance, one, "short")
        with pytest.raises(InputTooLong, match="context takes 400 tokens"):
            await ask(appliance, one, "x" * 500)
        assert await texts(appliance, one) == ["short", "short"]

    on(small(echoing, 400), work)
