"""Guaranteed: what was stopped, replaced or deleted says nothing more on the page, however late it ends.

When a callback that yields is over, Gradio sends its last yield once more, and that may arrive after what another
callback has drawn since. So the last yield of one that others may overtake leaves the page as it is."""

from __future__ import annotations

import asyncio
import inspect
from functools import cache
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from fake_api import FakeApi
from test_ui_chat_page import ANSWER, Answering, question
from test_ui_chat_page import conversation as stored

from ui import chat_page, teach_page
from ui.client import Client
from ui.gradio_pages import build_blocks
from ui.settings import UiSettings

WAIT_S = 120  # building the pages alone takes seconds on a busy machine


@cache
def built() -> tuple[gr.Blocks, list[FakeApi]]:
    """The pages, which take seconds to build, and the API that they ask: the last one in the list."""
    fakes: list[FakeApi] = []

    async def api(scope: Any, receive: Any, send: Any) -> None:
        await fakes[-1].app(scope, receive, send)

    return build_blocks(Client(api), UiSettings()), fakes


class Tab:
    """One tab of a page: what its events draw, in the order in which it is drawn."""

    def __init__(self, fake: FakeApi, page: str, role: str) -> None:
        fake.users["m"] = [role]
        self.blocks, fakes = built()
        fakes.append(fake)
        # From here on, waking a task of the loop out of another thread is an error and not a matter of luck.
        asyncio.get_running_loop().set_debug(True)
        self.page = page
        self.request = SimpleNamespace(
            client=None, cookies={"sid": fake.open_session("m")}, query_params={}, session_hash=f"tab{len(fakes)}"
        )

    def function(self, elem_id: str) -> Any:
        (found,) = (
            function
            for function in self.blocks.fns.values()
            if function.page == self.page
            for target, trigger in function.targets
            if trigger == "click" and getattr(self.blocks.blocks[target], "elem_id", None) == elem_id
        )
        return found

    def begin(self, elem_id: str, *values: Any) -> Any:
        return self.function(elem_id).fn(*values, self.request)

    async def press(self, elem_id: str, *values: Any) -> Any:
        """As Gradio does it: what is no coroutine runs in a thread."""
        function = self.function(elem_id).fn
        if inspect.iscoroutinefunction(function):
            return await function(*values, self.request)
        return await asyncio.to_thread(function, *values, self.request)


def says_nothing(drawn: tuple[Any, ...]) -> bool:
    return all(value == gr.skip() for value in drawn)


def shows(drawn: tuple[Any, ...]) -> str:
    return " ".join(str(value) for value in drawn if value != gr.skip())


async def rest_of(drawing: Any) -> list[tuple[Any, ...]]:
    return [each async for each in drawing]


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, WAIT_S))


ANY_TIME = ("Any time", "", "", "", "", "", "", "", "", "")


async def searching(fake: FakeApi) -> tuple[Tab, Any]:
    """A page on which a search is under way."""
    tab = Tab(fake, "audit-search", "auditor")
    fake.fill(3)
    fake.audit.search_waits = True
    search = tab.begin("search-run", *ANY_TIME)
    assert "Searching" in (await anext(search))[1]
    return tab, search


def test_a_search_that_another_one_replaced_says_nothing_more():
    async def replaced() -> None:
        fake = FakeApi()
        tab, search = await searching(fake)
        other = tab.begin("search-run", *ANY_TIME)
        await anext(other)
        assert all(says_nothing(drawn) for drawn in await rest_of(search))
        fake.audit.search_waits = False
        *_, ended, last = await rest_of(other)
        assert "3 records found" in ended[1]
        assert says_nothing(last)

    run(replaced())


def test_a_search_that_was_stopped_says_so_and_one_that_was_cleared_away_says_nothing_more():
    async def stopped() -> None:
        tab, search = await searching(FakeApi())
        await tab.press("search-stop")
        *_, ended, last = await rest_of(search)
        assert "Stopped" in ended[1]
        assert says_nothing(last)

    async def cleared() -> None:
        tab, search = await searching(FakeApi())
        assert "Stopped" not in str(await tab.press("search-clear"))
        assert all(says_nothing(drawn) for drawn in await rest_of(search))

    run(stopped())
    run(cleared())


async def answering(monkeypatch: pytest.MonkeyPatch, visitor: Answering) -> tuple[Tab, Any]:
    """A page on which an answer is being written, by its first piece."""
    monkeypatch.setattr(chat_page, "visitor_of", lambda *_: visitor)
    tab = Tab(FakeApi(), "assistant", "user")
    answer = tab.begin("run", visitor.stored["id"], "", "m", "Hi", "", "", "", "")
    await anext(answer)
    assert "Hi th" in (await anext(answer))[4]
    return tab, answer


def waiting() -> Answering:
    cut = {**ANSWER, "text": "Hi th", "finish": "stopped"}
    return Answering([{"piece": {"text": "Hi th"}}, "for ever"], stored=stored(question(), cut))


def test_an_answer_that_another_message_replaced_says_nothing_more(monkeypatch):
    async def replaced() -> None:
        visitor = waiting()
        tab, answer = await answering(monkeypatch, visitor)
        visitor.lines = [{"kept": ANSWER}]
        other = tab.begin("run", visitor.stored["id"], "", "m", "And?", "", "", "", "")
        *_, ended, last = await rest_of(other)
        assert "complete" in ended[5]
        assert says_nothing(last)
        assert all(says_nothing(drawn) for drawn in await rest_of(answer))

    run(replaced())


def test_an_answer_that_was_stopped_says_so_once(monkeypatch):
    async def stopped() -> None:
        tab, answer = await answering(monkeypatch, waiting())
        await tab.press("chat-stop")
        *_, ended, last = await rest_of(answer)
        assert "stopped" in ended[5]
        assert says_nothing(last)

    run(stopped())


def test_an_answer_in_a_conversation_that_was_deleted_says_nothing_more(monkeypatch):
    async def deleted() -> None:
        visitor = waiting()
        tab, answer = await answering(monkeypatch, visitor)
        drawn = await tab.press("chat-delete", visitor.stored["id"])
        assert "deleted" in drawn[5]
        assert all(says_nothing(drawn) for drawn in await rest_of(answer))

    run(deleted())


def test_the_fields_of_a_search_that_the_address_asked_for_are_filled_once():
    async def addressed() -> None:
        fake = FakeApi()
        tab = Tab(fake, "audit-search", "auditor")
        fake.fill(3)
        tab.request.query_params = {"exchange": fake.records[0]["exchange_id"]}
        (opening,) = (
            function
            for function in tab.blocks.fns.values()
            if function.page == tab.page and [trigger for _, trigger in function.targets] == ["load"]
        )
        (field,) = (output for output in opening.outputs if output.elem_id == "find-exchange")
        drawn = [each.get(field, gr.skip()) async for each in opening.fn(tab.request)]
        assert [value for value in drawn if value != gr.skip()] == [fake.records[0]["exchange_id"]]

    run(addressed())


TAUGHT = ("ab" * 8, "Tickets", "", "text", "label", "")


def test_a_training_is_begun_once_and_after_a_refusal_at_once_again(monkeypatch):
    monkeypatch.setattr(teach_page, "_LOOK_EVERY_S", 0.0)

    async def taught() -> None:
        fake = FakeApi()
        tab = Tab(fake, "teach", "user")
        refused = tab.begin("teach-start", TAUGHT[0], "", *TAUGHT[2:])
        assert "has no name" in shows(await anext(refused))
        # The refusal is read, and what it came from is not over yet.
        first = tab.begin("teach-start", *TAUGHT)
        assert "0000000000000001" in shows(await anext(first))
        assert all(says_nothing(drawn) for drawn in await rest_of(refused))
        assert all(says_nothing(drawn) for drawn in await rest_of(tab.begin("teach-start", *TAUGHT)))
        async for drawn in first:
            if "How good it is" in shows(drawn):
                break
        second = tab.begin("teach-start", *TAUGHT)
        assert "0000000000000002" in shows(await anext(second))
        assert all(says_nothing(drawn) for drawn in await rest_of(first))
        assert all(says_nothing(drawn) for drawn in await rest_of(tab.begin("teach-start", *TAUGHT)))
        assert "How good it is" in shows((await rest_of(second))[-2])

    run(taught())
