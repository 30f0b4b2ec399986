"""The Audit log page: records newest first, one record in detail, the verifier's verdict, the signed checkpoint.

Who sees which records is decided behind the API. Looking is itself recorded there, so the page asks only when
somebody acts: on opening, turning a page, opening a record, verifying.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from ui import views
from ui.client import Client, Refused
from ui.drawing import OPTIONS, Opening, draw_standing, html, query_value, visitor_of
from ui.markup import fragment
from ui.record_panel import draw_record_panel
from ui.settings import UiSettings

_TURNS_MAX = 10_000

# The cursor of each page turned so far, first page first, that of the page after the one shown, and the epoch.
Place = dict[str, Any]


def draw_audit_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    with gr.Row(elem_classes="head-row"):
        html(fragment("audit_head"), elem_id="page-head")
        verify = gr.Button("Verify the log", variant="primary", elem_id="verify", scale=0, min_width=150)
    draw_standing(opening, client, settings)
    problem = html(elem_id="problem")
    verdict = html(elem_id="verdict")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=9, min_width=320):
            table = html(fragment("records_waiting"), elem_id="records")
            with gr.Row(elem_classes="actions"):
                newer = gr.Button("Newer", elem_id="newer", interactive=False)
                older = gr.Button("Older", elem_id="older", interactive=False)
                refresh = gr.Button("Refresh", elem_id="refresh")
        with gr.Column(scale=5, min_width=320):
            draw_record_panel(opening, client, settings, problem)
            checkpoint = html(elem_id="checkpoint")
    place = gr.State({"cursors": [None], "next": None, "epoch": None}, time_to_live=int(settings.tab_idle_s))
    shown = [problem, table, newer, older, place]

    async def turn_to(cursors: list[int | None], epoch: int | None, request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        try:
            page = await visitor.records(after=cursors[-1], limit=settings.page_size, epoch=epoch)
        except Refused as refusal:
            return (views.problem(refusal), views.no_records(), *(gr.skip() for _ in shown[2:]))
        following = page["next"] if len(cursors) < _TURNS_MAX else None
        return (
            gr.skip(),
            views.records(page, number=len(cursors), epoch=epoch),
            gr.update(interactive=len(cursors) > 1),
            gr.update(interactive=following is not None),
            {"cursors": cursors, "next": following, "epoch": epoch},
        )

    async def first(request: gr.Request) -> tuple[Any, ...]:
        epoch = query_value(request, "epoch")
        return await turn_to([None], int(epoch) if epoch.isdecimal() and len(epoch) < 6 else None, request)

    async def first_again(request: gr.Request) -> tuple[Any, ...]:
        return *await first(request), await show_checkpoint(request)

    async def go_older(at: Place, request: gr.Request) -> tuple[Any, ...]:
        cursors = at["cursors"]
        return await turn_to(cursors if at["next"] is None else [*cursors, at["next"]], at["epoch"], request)

    async def go_newer(at: Place, request: gr.Request) -> tuple[Any, ...]:
        return await turn_to(at["cursors"][:-1] or [None], at["epoch"], request)

    async def show_checkpoint(request: gr.Request) -> str:
        try:
            return views.checkpoint(await visitor_of(request, client, settings).checkpoint())
        except Refused as refusal:
            return views.problem(refusal)

    async def check(request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        yield "", fragment("verifying"), gr.skip()  # a long log takes a while
        try:
            said = "", views.verdict(await visitor_of(request, client, settings).verify())
        except Refused as refusal:
            said = views.problem(refusal), ""
        yield *said, await show_checkpoint(request)

    opening.show(first, *shown)
    opening.show(show_checkpoint, checkpoint)
    refresh.click(first_again, None, [*shown, checkpoint], **OPTIONS)
    older.click(go_older, place, shown, **OPTIONS)
    newer.click(go_newer, place, shown, **OPTIONS)
    verify.click(check, None, [problem, verdict, checkpoint], **OPTIONS)
