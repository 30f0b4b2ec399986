"""Guaranteed: what the Assistant page shows of an answer at each moment is what the API keeps: a question leaves its
field when it was accepted and not before, a refusal keeps what was typed, a stop or a break shows what is left of it.

The API is a hand-written visitor that answers line by line; the browser tests go through all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import pytest

from ui.chat_page import _answer, _given, _kept, _let_go, _title, _whole
from ui.client import Refused

TIME = "2026-11-26T09:00:00+00:00"
ANSWER = {
    "at": 1,
    "role": "assistant",
    "text": "Hi there",
    "time": TIME,
    "model": "m",
    "finish": "stop",
    "record": None,
}
NO_MODEL = Refused(404, "model_not_found", "there is no model m", "name another")


def question(text: str = "Hi") -> dict[str, Any]:
    return {"at": 0, "role": "user", "text": text, "time": TIME}


def conversation(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"id": "ab" * 16, "title": "T", "model": "m", "turns": list(turns)} | dict.fromkeys(
        ("system", "temperature", "max_tokens", "seed")
    )


@dataclass
class Answering:
    """One conversation, and the lines of the answer that comes next; an error among them is raised."""

    lines: list[Any] = field(default_factory=list)
    stored: dict[str, Any] = field(default_factory=lambda: conversation(question(), ANSWER))
    models_here: tuple[str, ...] = ("m",)
    asked: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False
    deleting: Refused | None = None
    is_deleted: bool = False

    async def conversation(self, named: str) -> dict[str, Any]:
        if named != self.stored["id"]:
            raise Refused(404, "conversation_not_found", "there is no such conversation of yours")
        return self.stored

    async def conversations(self) -> dict[str, Any]:
        listed = {"id": self.stored["id"], "title": "T", "turns": 2, "changed": TIME, "altered": False}
        return {"data": [] if self.is_deleted else [listed], "may_tune": True}

    async def delete_conversation(self, named: str) -> None:
        if self.deleting is not None:
            raise self.deleting
        assert named == self.stored["id"]
        self.is_deleted = True

    async def models(self) -> dict[str, Any]:
        return {"data": [{"id": name, "kind": "model"} for name in self.models_here]}

    async def answer(self, named: str, asked: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        self.asked.append(asked)
        try:
            for line in self.lines:
                if isinstance(line, Refused):
                    raise line
                if line == "for ever":
                    await asyncio.Event().wait()
                yield line
        finally:
            self.closed = True


def moments(visitor: Answering, one: dict[str, Any], asked: dict[str, Any], *, stop_at: int | None = None) -> list:
    async def run() -> list:
        sign, seen = asyncio.Event(), []
        async with aclosing(_answer(visitor, one, asked, sign)) as drawing:
            async for moment in drawing:
                seen.append(moment)
                if len(seen) == stop_at:
                    sign.set()
        return seen

    return asyncio.run(run())


def is_left(value: Any) -> bool:
    return value == gr.skip()


def test_a_question_leaves_its_field_with_the_first_piece_and_the_end_is_what_was_kept():
    visitor = Answering([{"piece": {"text": "Hi "}}, {"piece": {"text": "there"}}, {"end": {}}, {"kept": ANSWER}])
    begun, *going, end = moments(visitor, conversation(), {"text": "Hi"})
    assert "Hi" in begun.talk and "aria-busy" in begun.live and not begun.taken and not begun.over
    assert going[0].taken and "Hi" in going[0].live and is_left(going[0].talk)
    assert end.over and not end.taken and end.live == "" and "Hi there" in end.talk and "complete" in end.state
    assert visitor.closed and "Answer again" in end.talk and "Answer again" not in begun.talk


def test_what_is_refused_before_the_first_piece_stays_in_its_field_and_out_of_the_conversation():
    _, end = moments(Answering([NO_MODEL]), conversation(), {"text": "secret"})
    assert end.over and not end.taken and "there is no model m" in end.problem and "secret" not in end.talk
    assert end.lost


def test_a_conversation_that_was_begun_for_a_message_of_which_nothing_was_kept_is_let_go():
    visitor = Answering(stored=conversation())
    listed, head, talk = asyncio.run(_let_go(visitor, visitor.stored))
    assert visitor.stored["id"] not in listed + head + talk and 'value="m" selected' in head
    # Where it is held, or the server is busy, it stays, and what was refused is what the page tells of.
    assert asyncio.run(_let_go(Answering(deleting=NO_MODEL), conversation())) is None


def test_an_answer_that_breaks_off_or_is_stopped_shows_what_the_api_kept_of_it():
    cut = {**ANSWER, "text": "Hi th", "finish": "failed"}
    visitor = Answering([{"piece": {"text": "Hi th"}}, NO_MODEL], stored=conversation(question(), cut))
    *_, end = moments(visitor, conversation(), {"text": "Hi"})
    assert end.over and "there is no model" in end.problem and "It broke off here" in end.talk
    stopped = {**ANSWER, "text": "Hi", "finish": "stopped"}
    visitor = Answering([{"piece": {"text": "Hi"}}, "for ever"], stored=conversation(question(), stopped))
    *_, end = moments(visitor, conversation(), {"text": "Hi"}, stop_at=2)
    assert end.over and "You stopped it here" in end.talk and "stopped" in end.state and visitor.closed
    assert not end.lost
    *_, end = moments(Answering(["for ever"], stored=conversation()), conversation(), {"text": "Hi"}, stop_at=1)
    assert end.over and end.lost and "stopped" in end.state


def test_a_specialist_says_all_at_once_and_the_question_leaves_its_field_then():
    _, end = moments(Answering([{"kept": ANSWER}]), conversation(), {"text": "Hi"})
    assert end.taken and end.over and "Hi there" in end.talk


def test_editing_and_answering_again_show_what_is_left_of_the_conversation():
    turns = [question("first"), ANSWER, {**question("second"), "at": 2}, {**ANSWER, "at": 3, "text": "old answer"}]
    begun = moments(Answering([NO_MODEL]), conversation(*turns), {})[0]
    assert "second" in begun.talk and "old answer" not in begun.talk
    begun = moments(Answering([NO_MODEL]), conversation(*turns), {"text": "other", "at": 0})[0]
    assert "other" in begun.talk and "first" not in begun.talk and "second" not in begun.talk
    assert [_kept(turns, asked) for asked in ({}, {"text": "x"}, {"text": "x", "at": 2})] == [3, 4, 2]


def test_the_page_of_a_conversation_of_a_new_one_and_without_a_model():
    async def whole(visitor: Answering, named: str) -> tuple[Any, ...]:
        return await _whole(visitor, named)

    drawn = asyncio.run(whole(Answering(), "ab" * 16))
    assert len(drawn) == 17 and "Hi there" in drawn[3] and drawn[9] == "ab" * 16 and drawn[11] == "m"
    new = asyncio.run(whole(Answering(), ""))
    assert "Write a message below" in new[3] and new[9] == "" and new[12]["visible"] is True
    none = asyncio.run(whole(Answering(models_here=()), ""))
    assert "appliance models import" in none[3] and none[7]["interactive"] is False and none[12]["visible"] is False
    gone = asyncio.run(whole(Answering(models_here=()), "ab" * 16))
    assert "not here any more" in gone[2] and "Hi there" in gone[3]
    with pytest.raises(Refused, match="no such conversation"):
        asyncio.run(whole(Answering(), "cd" * 16))


def test_what_is_typed_for_parameters_is_read_or_refused():
    assert _given(" Be brief ", "0.5", "", "7") == {"system": "Be brief", "temperature": 0.5, "seed": 7}
    assert _given(None, None, None, None) == {}
    assert _given("", "", "", "", every=True) == {"system": "", "temperature": None, "max_tokens": None, "seed": None}
    with pytest.raises(Refused, match="most tokens is not a number"):
        _given("", "", "many", "")


def test_a_title_is_the_first_words():
    assert _title(" Dear \n colleague ") == "Dear colleague"
    assert _title("word " * 40).endswith("word…") and len(_title("word " * 40)) <= 61
