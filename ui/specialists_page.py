"""The Specialists page: a card for each, one in full with its versions and what may be decided, and trying it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from ui import specialist_views, views
from ui.client import Client, Json, Refused, Visitor
from ui.drawing import OPTIONS, Opening, carried, html, line, pressed, query_value, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings
from ui.try_panel import choose, draw_try_panel

_LEAD = "What each one is for, how good it was measured to be and on what, and which version answers."
_TRY_LEAD = "On a text of yours. What you send is a request like any other: it is recorded."
_INSTALL_LEAD = "From a file that was carried here. It goes to this server and nowhere else."
_KEYS_LEAD = "A file that one of them signed comes in without a reason of its own."
_DECISIONS = ("approve", "promote", "verify", "rollback", "remove")


def draw_specialists_page(opening: Opening, client: Client, settings: UiSettings) -> None:
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
    with gr.Row(elem_classes="work audit for-admin"):
        with gr.Column(scale=1, min_width=320):
            html(fragment("section_head", title="Install a specialist", lead=_INSTALL_LEAD))
            html(fragment("specialist_install", bytes_max=settings.upload_bytes_max))
            installed = html(elem_id="install-said")
        with gr.Column(scale=1, min_width=320):
            html(fragment("section_head", title="Keys whose signatures count", lead=_KEYS_LEAD))
            told = html(elem_id="keys-said")
            keys = html(elem_id="trusted-keys")
            key_name = line("Name of the key", elem_id="key-name", placeholder="st-brigid-2026", chars_max=64)
            pem = line("Public key (PEM)", elem_id="key-pem", chars_max=4000, lines=4)
            with gr.Row(elem_classes="actions"):
                gr.Button("Open .pem", elem_id="open-key")
                trust = gr.Button("Trust this key", variant="primary", elem_id="key-trust")
    sent, arrived = carried("installed", chars_max=20_000), pressed("specialist-installed")
    gone, distrust = carried("key-gone"), pressed("key-distrust")
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
        """Where the address names one that is not here, the others can be tried all the same."""
        visitor, wanted = visitor_of(request, client, settings), query_value(request, "specialist")
        problem, drawn = "", (gr.skip(), gr.skip())
        try:
            drawn = await _opened(visitor, wanted)
        except Refused as refusal:
            problem = views.problem(refusal)
        try:
            return problem, "", *drawn, *await _chosen(visitor, wanted)
        except Refused as refusal:
            return problem or views.problem(refusal), "", *drawn, "", *(gr.skip() for _ in trying.chosen[1:])

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

    async def install(answer: str | None, request: gr.Request) -> tuple[Any, ...]:
        try:
            done = specialist_views.installed(answer)
        except Refused as refusal:
            return views.problem(refusal), gr.skip()
        try:
            return done, await _cards(visitor_of(request, client, settings))
        except Refused as refusal:
            return done + views.problem(refusal), gr.skip()

    async def show_keys(request: gr.Request) -> str:
        """Nothing for those who may not decide: their page has no place for it."""
        visitor = visitor_of(request, client, settings)
        try:
            if "admin" not in (await visitor.session()).roles:
                return ""
            return specialist_views.trusted_keys(await visitor.trusted_keys())
        except Refused as refusal:
            return views.problem(refusal)

    async def add_key(name: str | None, pem: str | None, request: gr.Request) -> tuple[Any, ...]:
        try:
            added = await visitor_of(request, client, settings).trust_key((name or "").strip(), pem or "")
        except Refused as refusal:
            return views.problem(refusal), *(gr.skip() for _ in range(3))
        done = fragment("notice", heading="Trusted", text=f"Signatures of {added['name']} count from now on.")
        return done, await show_keys(request), "", ""

    async def remove_key(name: str | None, request: gr.Request) -> tuple[Any, ...]:
        try:
            await visitor_of(request, client, settings).distrust_key(name or "")
        except Refused as refusal:
            return views.problem(refusal), gr.skip()
        done = fragment("notice", heading="Not trusted any more", text=f"Signatures of {name} count no more.")
        return done, await show_keys(request)

    opening.show(show_cards, problem, cards)
    opening.show(show_keys, keys)
    arrived.click(install, sent, [installed, cards], **OPTIONS)
    trust.click(add_key, [key_name, pem], [told, keys, key_name, pem], **OPTIONS)
    distrust.click(remove_key, gone, [told, keys], **OPTIONS)
    opening.show(show_addressed, problem, said, *opened, *trying.chosen)
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
