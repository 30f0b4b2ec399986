"""What the Gradio pages share: who is visiting, how our HTML is put on the page, the line on top of audit pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from ui import audit_views
from ui.client import Client, Refused, Visitor
from ui.markup import fragment
from ui.settings import UiSettings

# Callbacks belong to these pages and are no API of their own.
OPTIONS: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


def html(value: str = "", *, elem_id: str | None = None, render: bool = True) -> gr.Markdown:
    """A place for a fragment of `views.py`; `render=False` for one that is placed later.

    Gradio's own sanitiser stays off: it would take out the buttons and data attributes, and `markup.py` has made
    every value inert already.
    """
    return gr.Markdown(value, elem_id=elem_id, sanitize_html=False, latex_delimiters=[], render=render)


def line(label: str, *, elem_id: str, placeholder: str = "", chars_max: int = 128, lines: int = 1) -> gr.Textbox:
    """A field with its name above it."""
    return gr.Textbox(
        label=label,
        placeholder=placeholder,
        lines=lines,
        max_lines=lines,
        max_length=chars_max,
        elem_id=elem_id,
        elem_classes="field",
        container=False,
        min_width=150,
    )


def carried(value_id: str, *, chars_max: int = 128) -> gr.Textbox:
    """A value that a button or a list inside our HTML carries to a callback: `app.js` fills the field and presses."""
    return gr.Textbox(elem_id=value_id, elem_classes="carried", container=False, max_length=chars_max, label=value_id)


def pressed(press_id: str) -> gr.Button:
    """The button that `app.js` presses after it has carried a value. Nobody sees it."""
    return gr.Button(press_id, elem_id=press_id, elem_classes="carried")


def visitor_of(request: gr.Request, client: Client, settings: UiSettings) -> Visitor:
    """The visitor behind a callback, by the cookie and address of the request that caused it."""
    peer = request.client
    address = (str(peer.host), int(peer.port or 0)) if peer is not None else None
    return client.visitor(cookie=request.cookies.get(settings.session_cookie), address=address)


def query_value(request: gr.Request, name: str) -> str:
    """A value of the page's own address."""
    return str(request.query_params.get(name) or "")[:128]


def draw_head(blocks: gr.Blocks, client: Client, settings: UiSettings, *, title: str, lead: str) -> gr.Markdown:
    """Title, and the line that says whether the log is in order; returns the line."""
    html(fragment("head", title=title, lead=lead), elem_id="page-head")
    return draw_standing(blocks, client, settings)


def draw_standing(blocks: gr.Blocks, client: Client, settings: UiSettings) -> gr.Markdown:
    place = html(fragment("standing_waiting"), elem_id="standing")

    async def show(request: gr.Request) -> str:
        try:
            return audit_views.standing(await visitor_of(request, client, settings).exposure())
        except Refused as refusal:
            return audit_views.standing_unknown(refusal)

    blocks.load(show, None, place, **OPTIONS)
    return place


def on_refusal(client: Client, settings: UiSettings, draw: Callable[[Visitor], Awaitable[str]]) -> Callable[..., Any]:
    """A callback without inputs that draws one fragment, or the API's refusal in its place."""

    async def show(request: gr.Request) -> str:
        try:
            return await draw(visitor_of(request, client, settings))
        except Refused as refusal:
            return refused(refusal)

    return show


def refused(refusal: Refused) -> str:
    return fragment("problem", problem=refusal, signed_out=refusal.signed_out)
