"""My account: one's own password, and the API keys of one's own programs.

The password goes from the browser to the API and is kept nowhere here; a key is shown once, when it is made.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import gradio as gr

from ui import people_views, views
from ui.client import Client, Refused, Visitor
from ui.drawing import OPTIONS, Opening, carried, html, line, password, pressed, visitor_of
from ui.markup import fragment
from ui.people_views import SCOPES
from ui.settings import UiSettings

_LEAD = "Your password, and keys for programs that work for you."
_ENDS = "You are signed out everywhere, here too, and sign in with the new password."


def draw_account_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    html(fragment("head", title="My account", lead=_LEAD), elem_id="page-head")
    problem = html(elem_id="problem")
    said = html(elem_id="said")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=5, min_width=320):
            html(fragment("section_head", title="Change your password", lead=_ENDS))
            current = password("Current password", elem_id="own-current")
            wanted = password("New password", elem_id="own-new")
            repeated = password("New password once more", elem_id="own-repeated")
            with gr.Row(elem_classes="actions"):
                change = gr.Button("Change the password", variant="primary", elem_id="own-change")
        with gr.Column(scale=7, min_width=320, elem_classes="for-user"):
            keys = html(fragment("card_waiting"), elem_id="api-keys")
            html(fragment("section_head", title="Make a key", lead="It is shown once. It stops when you are disabled."))
            with gr.Row(elem_classes="row"):
                name = line("Name of the key", elem_id="key-name", placeholder="discharge letters", chars_max=64)
                days = line("Valid for days", elem_id="key-days", placeholder="90", chars_max=4)
            scopes = gr.CheckboxGroup(
                [(title, scope) for scope, title in SCOPES.items()],
                value=["specialist.run", "specialist.list"],
                label="It may",
                elem_id="key-scopes",
            )
            with gr.Row(elem_classes="actions"):
                make = gr.Button("Make the key", elem_id="key-make")
    key_id, revoke = carried("key-id"), pressed("key-revoke")
    shown = [problem, said, keys]

    async def draw(visitor: Visitor, said: str) -> tuple[Any, ...]:
        """Whoever may have no keys is shown none: the place for them is not on their page."""
        try:
            if "user" not in (await visitor.session()).roles:
                return "", said, ""
            own = (await visitor.session()).name
            answer = await visitor.api_keys()
        except Refused as refusal:
            return views.problem(refusal), said, ""
        mine = {"data": [key for key in answer["data"] if key["owner"] == own]}
        return "", said, people_views.api_keys(mine, whose=False, now=datetime.now(UTC))

    async def show(request: gr.Request) -> tuple[Any, ...]:
        return await draw(visitor_of(request, client, settings), "")

    async def change_password(
        current: str | None, wanted: str | None, repeated: str | None, request: gr.Request
    ) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        try:
            if (wanted or "") != (repeated or ""):
                raise Refused(400, "passwords_differ", "the two new passwords are not the same", "type them once more")
            await visitor.change_own_password(current or "", wanted or "")
        except Refused as refusal:
            # A wrong password is no ended session: the page stays and says so.
            return views.problem(Refused(400, refusal.code, refusal.message, refusal.hint)), gr.skip(), *[gr.skip()] * 3
        gone = Refused(401, "signed_out", "your password is changed", "sign in with the new one")
        return views.problem(gone), "", "", "", ""

    async def make_key(name: str | None, days: str | None, scopes: list[str], request: gr.Request) -> tuple[Any, ...]:
        visitor, lasting = visitor_of(request, client, settings), (days or "").strip()
        try:
            if lasting and not (lasting.isascii() and lasting.isdecimal()):
                raise Refused(400, "invalid_request", "the days are not a whole number", "for example 90")
            made = await visitor.create_api_key((name or "").strip(), list(scopes), int(lasting) if lasting else None)
        except Refused as refusal:
            return views.problem(refusal), "", gr.skip(), gr.skip()
        return *await draw(visitor, people_views.key_made(made)), ""

    async def revoke_key(key: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        try:
            answer = await visitor.revoke_api_key(key or "")
        except Refused as refusal:
            return views.problem(refusal), "", gr.skip()
        text = f"The key {answer['name']} is refused from now on."
        return await draw(visitor, fragment("notice", heading="Revoked", text=text))

    opening.show(show, *shown)
    words = [current, wanted, repeated]
    change.click(change_password, words, [problem, said, *words], **OPTIONS)
    make.click(make_key, [name, days, scopes], [*shown, name], **OPTIONS)
    revoke.click(revoke_key, key_id, shown, **OPTIONS)
