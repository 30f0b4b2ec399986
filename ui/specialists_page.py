"""The Specialists page: a card for each, one in full with its versions and what may be decided, and trying it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from ui import specialist_views, views
from ui.client import Client, Json, Refused, Visitor
from ui.drawing import OPTIONS, carried, html, pressed, query_value, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings
from ui.try_panel import choose, draw_try_panel

_LEAD = "What each one is for, how good it was measured to be and on what, and which version answers."
_TRY_LEAD = "On a text of yours. What you send is a request like any other: it is recorded."
_DECISIONS = ("approve", "promote", "verify", "rollback", "remove")


def draw_specialists_page(blocks: gr.Blocks, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    html(fragment("head", title="Specialists", lead=_LEAD), elem_id="page-head")
    problem = html(elem_id="problem")
    said = html(elem_id="said")
    cards = html(fragment("card_waiting"), elem_id="cards")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=1, min_width=320):
            card = html(fragment("specialist_none"), elem_id="specialist")
            versions = html(elem_id="versions")
        with gr.Column(scale=1, min_width=320, elem_classes="for-user"):
            html(fragment("section_head", title="Try it, or compare two", lead=_TRY_LEAD))
            trying = draw_try_panel(client, settings, problem)
            trying.result.render()
    wanted, open_ = carried("specialist-id"), pressed("specialist-open")
    key = carried("version-key")
    presses = {decision: pressed(f"version-{decision}") for decision in _DECISIONS}
    opened = [card, versions]

    async def show_cards(request: gr.Request) -> tuple[str, str]:
        try:
            return gr.skip(), await _cards(visitor_of(request, client, settings))
        except Refused as refusal:
            return views.problem(refusal), ""

    async def show(specialist: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        try:
            return "", "", *await _opened(visitor, specialist or ""), *await _chosen(visitor, specialist or "")
        except Refused as refusal:
            return views.problem(refusal), "", *(gr.skip() for _ in (*opened, *trying.chosen))

    async def show_addressed(request: gr.Request) -> tuple[Any, ...]:
        return await show(query_value(request, "specialist"), request)

    def decide(decision: str) -> Callable[..., Awaitable[tuple[Any, ...]]]:
        async def run(key: str | None, request: gr.Request) -> tuple[Any, ...]:
            visitor = visitor_of(request, client, settings)
            specialist, _, version = (key or "").partition(" ")
            try:
                answer = await _decide(visitor, decision, specialist, version)
            except Refused as refusal:
                return views.problem(refusal), "", *(gr.skip() for _ in (cards, *opened))
            done = specialist_views.decided(decision, answer)
            try:
                return "", done, await _cards(visitor), *await _opened(visitor, specialist)
            except Refused as refusal:
                return views.problem(refusal), done, *(gr.skip() for _ in (cards, *opened))

        return run

    blocks.load(show_cards, None, [problem, cards], **OPTIONS)
    blocks.load(show_addressed, None, [problem, said, *opened, *trying.chosen], **OPTIONS)
    open_.click(show, wanted, [problem, said, *opened, *trying.chosen], **OPTIONS)
    for decision, button in presses.items():
        button.click(decide(decision), key, [problem, said, cards, *opened], **OPTIONS)


async def _cards(visitor: Visitor) -> str:
    return specialist_views.cards(await visitor.specialists(), await visitor.every_version())


async def _opened(visitor: Visitor, specialist: str) -> tuple[str, str]:
    """The card in full and its versions. A specialist of which no version is active yet has versions only."""
    if not specialist:
        return fragment("specialist_none"), ""
    listed = await visitor.specialist_versions(specialist)
    versions = specialist_views.versions(listed, specialist, await visitor.session())
    try:
        return specialist_views.specialist(await visitor.specialist(specialist)), versions
    except Refused as refusal:
        if refusal.status != 404:
            raise
        return fragment("specialist_inactive", specialist=specialist), versions


async def _chosen(visitor: Visitor, specialist: str) -> tuple[Any, ...]:
    return await choose(visitor, specialist, "", auto=False)


async def _decide(visitor: Visitor, decision: str, specialist: str, version: str) -> Json:
    if decision == "rollback":
        return await visitor.roll_back(specialist)
    if decision == "remove":
        await visitor.remove_version(specialist, version)
        return {"id": specialist, "version": version}
    return await visitor.decide_version(decision, specialist, version)
