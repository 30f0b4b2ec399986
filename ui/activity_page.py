"""The Activity page: how much was recorded when, and the times in which nothing was."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import gradio as gr

from ui import audit_views, views
from ui.client import Client, Refused
from ui.drawing import OPTIONS, Opening, draw_head, html, visitor_of
from ui.markup import fragment
from ui.periods import WINDOWS, window
from ui.settings import UiSettings


def draw_activity_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    draw_head(
        opening,
        client,
        settings,
        title="Activity",
        lead="How many records of each class were made, and times in which the log was silent.",
    )
    problem = html(elem_id="problem")
    with gr.Row(elem_classes="work"), gr.Column():
        with gr.Row(elem_classes="row wide"):
            chosen = gr.Radio(list(WINDOWS), value=next(iter(WINDOWS)), label="Last", elem_id="window", container=False)
        plot = html(fragment("activity_waiting"), elem_id="activity")

    async def show(chosen: str, request: gr.Request) -> tuple[str, str]:
        visitor, now = visitor_of(request, client, settings), datetime.now(UTC)
        start, end, parts = window(chosen, now)
        try:
            answer = await visitor.activity(start, end, buckets=parts)
        except Refused as refusal:
            return views.problem(refusal), ""
        try:
            epochs = await visitor.epochs()
        except Refused:  # then every silent time is shown as a gap
            epochs = None
        return "", audit_views.activity(answer, epochs, now=now)

    opening.show(partial(show, next(iter(WINDOWS))), problem, plot)
    chosen.change(show, chosen, [problem, plot], **OPTIONS)
