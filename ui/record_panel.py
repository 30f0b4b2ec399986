"""One record beside a table: by its id, by its number, or by pressing a row. Used by the Audit log and Search pages."""

from __future__ import annotations

import re

import gradio as gr

from ui import audit_views, views
from ui.client import Client, Json, Refused, Visitor
from ui.drawing import OPTIONS, Opening, html, query_value, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings

_RECORD_ID_CHARS_MAX = 64
# No log has as many records as eighteen digits count. A record id has 32 characters, so the two cannot be confused.
_NUMBER = re.compile(r"[0-9]{1,18}")


def draw_record_panel(opening: Opening, client: Client, settings: UiSettings, problem: gr.Markdown) -> None:
    """Place the field and the record, and wire them. `?record=` or `?number=` of the address opens one at once."""
    with gr.Row(elem_classes="find"):
        wanted = gr.Textbox(
            label="Record id or number",
            placeholder="Record id or number",
            max_lines=1,
            max_length=_RECORD_ID_CHARS_MAX,
            elem_id="record-id",
            container=False,
            scale=1,
            min_width=180,
        )
        opened = gr.Button("Open", elem_id="open-record", scale=0, min_width=80)
    record = html(fragment("record_empty"), elem_id="record")

    async def show(wanted: str | None, request: gr.Request) -> tuple[str, str]:
        return await _record(visitor_of(request, client, settings), (wanted or "").strip())

    async def show_addressed(request: gr.Request) -> tuple[str, str]:
        return await show(query_value(request, "record") or query_value(request, "number"), request)

    opening.show(show_addressed, problem, record)
    opened.click(show, wanted, [problem, record], **OPTIONS)
    wanted.submit(show, wanted, [problem, record], **OPTIONS)


async def _record(visitor: Visitor, wanted: str) -> tuple[str, str]:
    """What to draw as problem and as record."""
    if not wanted:
        return "", fragment("record_empty")
    try:
        answer = await (visitor.record_numbered(int(wanted)) if _NUMBER.fullmatch(wanted) else visitor.record(wanted))
        drawn = audit_views.record(answer, exposure=await _exposure(visitor), user=await visitor.session())
    except Refused as refusal:
        return views.problem(refusal), fragment("record_empty")
    return "", drawn


async def _exposure(visitor: Visitor) -> Json | None:
    """What is kept outside; None for those who may not ask."""
    try:
        return await visitor.exposure()
    except Refused:
        return None
