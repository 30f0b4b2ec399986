"""What the Gradio pages share: who is visiting, how our HTML is put on the page, the line on top of audit pages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import gradio as gr

from ui import audit_views
from ui.client import Client, Refused, Visitor
from ui.markup import fragment
from ui.settings import UiSettings

logger = logging.getLogger(__name__)

_BROKEN = Refused(500, "internal_error", "this part of the page could not be shown", "the server's own log says why")
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


def password(label: str, *, elem_id: str) -> gr.Textbox:
    """A field whose value nobody beside the screen can read."""
    return gr.Textbox(
        label=label,
        type="password",
        max_length=256,
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


class Opening:
    """What a page shows as it opens: one event of Gradio, however many parts of the page have something to show.

    Gradio closes the stream of a session when its last event ends, and the answer to an event that the browser sends
    at that very moment arrives nowhere: a part of the page would wait for ever. Of several at once, one meets that.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Callable[..., Awaitable[Any]], Sequence[gr.components.Component]]] = []
        self._followed: tuple[Callable[..., Any], Sequence[gr.components.Component]] | None = None

    def show(self, draw: Callable[..., Awaitable[Any]], *outputs: gr.components.Component) -> None:
        """`draw(request)` gives a value for each of `outputs`, of which the first is drawn by `html`.

        Where two parts give a text, a said one stays.
        """
        self._parts.append((draw, outputs))

    def follow(self, draw: Callable[..., Any], *outputs: gr.components.Component) -> None:
        """Once a page: `draw(request)` yields values for `outputs` again and again, after the parts were shown.

        What a part said is not emptied by it, but may be replaced.
        """
        self._followed = draw, outputs

    def wire(self, blocks: gr.Blocks) -> None:
        """To be called once, when the page is drawn."""
        parts = self._parts if self._followed is None else [*self._parts, self._followed]
        outputs = list(dict.fromkeys(output for _, each in parts for output in each))
        if outputs:
            blocks.load(self._once if self._followed is None else self._on_and_on, None, outputs, **OPTIONS)

    async def _once(self, request: gr.Request) -> dict[gr.components.Component, Any]:
        return await self._parts_shown(request) or _nothing(self._parts[0][1])

    async def _parts_shown(self, request: gr.Request) -> dict[gr.components.Component, Any]:
        drawn = await asyncio.gather(*(draw(request) for draw, _ in self._parts), return_exceptions=True)
        shown: dict[gr.components.Component, Any] = {}
        for values, (_, outputs) in zip(drawn, self._parts, strict=True):
            for output, value in (_failed if isinstance(values, BaseException) else _paired)(outputs, values).items():
                shown[output] = shown.get(output) or value
        return shown

    async def _on_and_on(self, request: gr.Request) -> AsyncIterator[dict[gr.components.Component, Any]]:
        assert self._followed is not None
        draw, outputs = self._followed
        said = await self._parts_shown(request)
        if said:
            yield said
        async with aclosing(draw(request)) as drawing:
            async for values in drawing:
                each = _paired(outputs, values).items()
                shown = {output: value for output, value in each if value or not said.get(output)}
                yield shown or _nothing(outputs)


def _failed(outputs: Sequence[gr.components.Component], error: BaseException) -> dict[gr.components.Component, Any]:
    """A part that broke, which no part may: its first place says so, and the others are shown as if it had not."""
    if not isinstance(error, Exception):
        raise error
    logger.error("a part of a page could not be drawn", exc_info=error)
    return {outputs[0]: refused(_BROKEN)}


def _nothing(outputs: Sequence[gr.components.Component]) -> dict[gr.components.Component, Any]:
    """What leaves a page as it is; an empty dictionary would be taken for a value."""
    return {outputs[0]: gr.skip()}


def _paired(outputs: Sequence[gr.components.Component], values: Any) -> dict[gr.components.Component, Any]:
    each = zip(outputs, values if len(outputs) > 1 else (values,), strict=True)
    return {output: value for output, value in each if value != gr.skip()}


def draw_head(opening: Opening, client: Client, settings: UiSettings, *, title: str, lead: str) -> gr.Markdown:
    """Title, and the line that says whether the log is in order; returns the line."""
    html(fragment("head", title=title, lead=lead), elem_id="page-head")
    return draw_standing(opening, client, settings)


def draw_standing(opening: Opening, client: Client, settings: UiSettings) -> gr.Markdown:
    place = html(fragment("standing_waiting"), elem_id="standing")

    async def show(request: gr.Request) -> str:
        try:
            return audit_views.standing(await visitor_of(request, client, settings).exposure())
        except Refused as refusal:
            return audit_views.standing_unknown(refusal)

    opening.show(show, place)
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
