"""The Ask page: a text in; the specialist that fits it, why it was chosen, and its answer out."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui import views
from ui.client import Client, Refused
from ui.drawing import Opening, html, query_value, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings
from ui.specialist_views import AUTO
from ui.try_panel import choose, draw_try_panel

_LEAD = "Paste a text. The specialist that fits it is found for you, with the reason; or choose one yourself."


def draw_ask_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route. `?specialist=` chooses one at once."""
    html(fragment("head", title="Ask a specialist", lead=_LEAD), elem_id="page-head")
    problem = html(elem_id="problem")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=1, min_width=320):
            panel = draw_try_panel(client, settings, problem, auto=True)
        with gr.Column(scale=1, min_width=320):
            html(fragment("ask_waiting"))
            panel.result.render()

    async def show(request: gr.Request) -> tuple[Any, ...]:
        wanted = query_value(request, "specialist") or AUTO
        try:
            return "", *await choose(visitor_of(request, client, settings), wanted, "", auto=True)
        except Refused as refusal:
            return views.problem(refusal), "", *(gr.skip() for _ in panel.chosen[1:])

    opening.show(show, problem, *panel.chosen)
