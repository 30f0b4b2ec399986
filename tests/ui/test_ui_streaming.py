"""Guaranteed: an answer is handed on while it is made, with a bounded number of pieces waiting; leaving it early ends
the application's work; an application that fails becomes a refusal and never a half answer taken for a whole one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from fake_api import FakeApi

from ui.client import Client, Refused, Visitor
from ui.streaming import PIECES_MAX, AnswerCutOff, StreamingTransport

QUERY = {"from": None, "to": None, "limit": 200}


def auditor(fake: FakeApi) -> Visitor:
    return Client(fake.app).visitor(cookie=fake.open_session("a.stone"), address=None)


async def found_in(fake: FakeApi, query: dict[str, Any] = QUERY) -> list[dict[str, Any]]:
    async with aclosing(auditor(fake).search(query)) as lines:
        return [line async for line in lines]


def stream(app, method: str = "GET"):
    http = httpx.AsyncClient(transport=StreamingTransport(app, ("10.0.0.7", 1)), base_url="http://x", timeout=None)
    return http.stream(method, "/")


def test_a_search_tells_progress_hits_and_end_in_this_order() -> None:
    fake = FakeApi()
    fake.fill(60)
    lines = asyncio.run(found_in(fake))
    assert sum("record" in line for line in lines) == 60
    assert lines[-1] == {"end": {"found": 60, "scanned": 60, "complete": True}}
    assert fake.audit.cancelled == 0


def test_a_search_that_is_left_is_cancelled_behind_the_api() -> None:
    fake = FakeApi()
    fake.fill(60)
    fake.audit.search_waits = True

    async def leave() -> None:
        async with aclosing(auditor(fake).search(QUERY)) as lines:
            assert "record" in await anext(lines)

    asyncio.run(asyncio.wait_for(leave(), 60))
    assert fake.audit.cancelled == 1


def test_a_search_that_is_refused_or_breaks_off_is_no_result() -> None:
    fake = FakeApi(users={"a.stone": ["admin"]})
    with pytest.raises(Refused) as caught:
        asyncio.run(found_in(fake))
    assert caught.value.code == "permission_denied"
    fake = FakeApi()
    fake.fill(3)
    del fake.records[0]["actor"]  # the fake fails on this one, after two others
    with pytest.raises(Refused) as caught:
        asyncio.run(found_in(fake, {**QUERY, "actor": "m.keller"}))
    assert caught.value.code == "unreadable_answer"


def test_at_most_a_few_pieces_wait_for_a_slow_reader() -> None:
    made = 0

    async def app(_, receive, send) -> None:
        nonlocal made
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for made in range(1, 101):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": made < 100})

    async def read() -> int:
        async with stream(app) as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            for _ in range(50):
                await asyncio.sleep(0)
            waiting = made
            rest = [piece async for piece in pieces]
        assert len(rest) == 99
        return waiting

    assert asyncio.run(read()) <= PIECES_MAX + 3


@pytest.mark.parametrize("begun", [False, True])
def test_an_application_that_fails_is_a_500_or_a_cut_off_answer(begun: bool) -> None:
    async def app(_, receive, send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("secret content")

    async def read() -> int:
        async with stream(app) as answer:
            await answer.aread()
            return answer.status_code

    if begun:
        with pytest.raises(AnswerCutOff):
            asyncio.run(read())
    else:
        assert asyncio.run(read()) == 500


def test_an_export_keeps_its_name_and_a_refused_one_its_reason() -> None:
    async def export(fake: FakeApi, format_: str) -> tuple[str, int]:
        download = await auditor(fake).export(format_, from_=None, to=None)
        return download.name, len(b"".join([piece async for piece in download.pieces]))

    name, size = asyncio.run(export(FakeApi(), "jsonl"))
    assert name == "audit-export.jsonl" and size > 10_000
    with pytest.raises(Refused) as caught:
        asyncio.run(export(FakeApi(), "exe"))
    assert caught.value.message == "the format is not known"
