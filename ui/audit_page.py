"""The Audit page: records newest first, one record in detail, the verifier's verdict, the signed checkpoint.

Who sees which records is decided behind the API. Looking is itself recorded there, so the page asks only when
somebody acts: on opening, turning a page, opening a record, verifying.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from ui import views
from ui.client import Client, Refused, Visitor
from ui.drawing import html, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings

_RECORD_ID_CHARS_MAX = 64
_TURNS_MAX = 10_000

# The cursor of each page turned so far, first page first, and that of the page after the one shown.
Place = dict[str, Any]


def draw_audit_page(blocks: gr.Blocks, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    with gr.Row(elem_classes="head-row"):
        html(fragment("audit_head"), elem_id="page-head")
        verify = gr.Button("Verify the log", variant="primary", elem_id="verify", scale=0, min_width=150)
    problem = html(elem_id="problem")
    verdict = html(elem_id="verdict")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=8, min_width=320):
            table = html(fragment("records_waiting"), elem_id="records")
            with gr.Row(elem_classes="actions"):
                newer = gr.Button("Newer", elem_id="newer", interactive=False)
                older = gr.Button("Older", elem_id="older", interactive=False)
                refresh = gr.Button("Refresh", elem_id="refresh")
        with gr.Column(scale=5, min_width=320):
            with gr.Row(elem_classes="find"):
                wanted = gr.Textbox(
                    label="Record id",
                    placeholder="Paste a record id from a receipt",
                    max_lines=1,
                    max_length=_RECORD_ID_CHARS_MAX,
                    elem_id="record-id",
                    container=False,
                    scale=1,
                    min_width=180,
                )
                opened = gr.Button("Open", elem_id="open-record", scale=0, min_width=80)
            record = html(fragment("record_empty"), elem_id="record")
            checkpoint = html(elem_id="checkpoint")
    place = gr.State({"cursors": [None], "next": None}, time_to_live=int(settings.tab_idle_s))
    shown = [problem, table, newer, older, place]

    async def turn_to(cursors: list[int | None], request: gr.Request) -> tuple[Any, ...]:
        try:
            page = await visitor_of(request, client, settings).records(after=cursors[-1], limit=settings.page_size)
        except Refused as refusal:
            return (views.problem(refusal), *(gr.skip() for _ in shown[1:]))
        following = page["next"] if len(cursors) < _TURNS_MAX else None
        return (
            "",
            views.records(page, number=len(cursors)),
            gr.update(interactive=len(cursors) > 1),
            gr.update(interactive=following is not None),
            {"cursors": cursors, "next": following},
        )

    async def first(request: gr.Request) -> tuple[Any, ...]:
        return await turn_to([None], request)

    async def go_older(at: Place, request: gr.Request) -> tuple[Any, ...]:
        cursors = at["cursors"]
        return await turn_to(cursors if at["next"] is None else [*cursors, at["next"]], request)

    async def go_newer(at: Place, request: gr.Request) -> tuple[Any, ...]:
        return await turn_to(at["cursors"][:-1] or [None], request)

    async def show_record(record_id: str | None, request: gr.Request) -> tuple[str, str]:
        return await _record(visitor_of(request, client, settings), (record_id or "").strip())

    async def show_checkpoint(request: gr.Request) -> str:
        try:
            return views.checkpoint(await visitor_of(request, client, settings).checkpoint())
        except Refused as refusal:
            return views.problem(refusal)

    async def check(request: gr.Request) -> AsyncIterator[tuple[str, str]]:
        yield "", fragment("verifying")  # a long log takes a while
        try:
            yield "", views.verdict(await visitor_of(request, client, settings).verify())
        except Refused as refusal:
            yield views.problem(refusal), ""

    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
    blocks.load(first, None, shown, **options)
    blocks.load(show_checkpoint, None, checkpoint, **options)
    refresh.click(first, None, shown, **options)
    refresh.click(show_checkpoint, None, checkpoint, **options)
    older.click(go_older, place, shown, **options)
    newer.click(go_newer, place, shown, **options)
    opened.click(show_record, wanted, [problem, record], **options)
    wanted.submit(show_record, wanted, [problem, record], **options)
    verify.click(check, None, [problem, verdict], **options).then(show_checkpoint, None, checkpoint, **options)


async def _record(visitor: Visitor, record_id: str) -> tuple[str, str]:
    """What to draw as problem and as record."""
    if not record_id:
        return "", fragment("record_empty")
    try:
        return "", views.record(await visitor.record(record_id))
    except Refused as refusal:
        return views.problem(refusal), fragment("record_empty")
