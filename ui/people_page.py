"""The People page: who may sign in and what they may do, and the API keys of everybody. For administrators.

Passwords go from the browser to the API and are kept nowhere here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import gradio as gr

from ui import people_views, views
from ui.client import Client, Refused, Visitor
from ui.drawing import OPTIONS, Opening, carried, draw_head, html, line, password, pressed, visitor_of
from ui.markup import fragment
from ui.people_views import ROLES
from ui.settings import UiSettings

_LEAD = "Who may sign in here and what they may do, and the keys of their programs."


def draw_people_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    draw_head(opening, client, settings, title="People", lead=_LEAD)
    problem = html(elem_id="problem")
    said = html(elem_id="said")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=5, min_width=320):
            html(fragment("section_head", title="Add somebody", lead="They can change the password themselves."))
            name = line("User name", elem_id="new-name", chars_max=64)
            first = password("Password", elem_id="new-password")
            roles = gr.CheckboxGroup(
                [(f"{title}: {does}", role) for role, (title, does) in ROLES.items()],
                value=["user"],
                label="Roles",
                elem_id="new-roles",
            )
            with gr.Row(elem_classes="actions"):
                add = gr.Button("Add this person", variant="primary", elem_id="person-add")
            html(fragment("section_head", title="Give another password", lead="For somebody who forgot theirs."))
            account = line("Account", elem_id="reset-name", chars_max=64)
            other = password("New password", elem_id="reset-password")
            with gr.Row(elem_classes="actions"):
                reset = gr.Button("Set this password", elem_id="person-reset")
            html(fragment("confirm", for_="person-reset", button="Set this password", text=_RESET))
        with gr.Column(scale=7, min_width=320):  # last: it grows as it loads, and moves nothing
            people = html(fragment("card_waiting"), elem_id="people")
            keys = html(fragment("card_waiting"), elem_id="api-keys")
    named, disable, enable = carried("person-name"), pressed("person-disable"), pressed("person-enable")
    key_id, revoke = carried("key-id"), pressed("key-revoke")
    shown = [problem, said, people, keys]

    async def draw(visitor: Visitor, said: str) -> tuple[Any, ...]:
        try:
            accounts = people_views.people(await visitor.accounts(), await visitor.session())
            listed = people_views.api_keys(await visitor.api_keys(), whose=True, now=datetime.now(UTC))
        except Refused as refusal:
            return views.problem(refusal), said, "", ""
        return "", said, accounts, listed

    async def show(request: gr.Request) -> tuple[Any, ...]:
        return await draw(visitor_of(request, client, settings), "")

    async def done(visitor: Visitor, heading: str, text: str) -> tuple[Any, ...]:
        return await draw(visitor, fragment("notice", heading=heading, text=text))

    def stays(refusal: Refused) -> tuple[Any, ...]:
        return views.problem(refusal), "", gr.skip(), gr.skip()

    async def create(name: str | None, word: str | None, roles: list[str], request: gr.Request) -> tuple[Any, ...]:
        visitor, person = visitor_of(request, client, settings), (name or "").strip()
        try:
            await visitor.create_account(person, word or "", list(roles))
        except Refused as refusal:
            return *stays(refusal), gr.skip(), gr.skip()
        return *await done(visitor, "Added", f"{person} may sign in now."), "", ""

    async def set_password(name: str | None, word: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor, person = visitor_of(request, client, settings), (name or "").strip()
        try:
            await visitor.set_password(person, word or "")
        except Refused as refusal:
            return *stays(refusal), gr.skip(), gr.skip()
        return *await done(visitor, "Password set", f"{person} signs in with it from now on."), "", ""

    async def keep_out(name: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        try:
            await visitor.disable_account(name or "")
        except Refused as refusal:
            return stays(refusal)
        return await done(visitor, "Disabled", f"{name} is signed out and may not sign in.")

    async def let_in(name: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        try:
            await visitor.enable_account(name or "")
        except Refused as refusal:
            return stays(refusal)
        return await done(visitor, "Let in again", f"{name} may sign in.")

    async def revoke_key(key: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        try:
            answer = await visitor.revoke_api_key(key or "")
        except Refused as refusal:
            return stays(refusal)
        return await done(visitor, "Revoked", f"The key {answer['name']} of {answer['owner']} is refused from now on.")

    opening.show(show, *shown)
    add.click(create, [name, first, roles], [*shown, name, first], **OPTIONS)
    reset.click(set_password, [account, other], [*shown, account, other], **OPTIONS)
    disable.click(keep_out, named, shown, **OPTIONS)
    enable.click(let_in, named, shown, **OPTIONS)
    revoke.click(revoke_key, key_id, shown, **OPTIONS)


_RESET = "The person is signed out everywhere and signs in with the new password. The change is recorded."
