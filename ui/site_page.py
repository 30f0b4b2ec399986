"""The site page: what protects this machine, when that was last shown, and how many people its models serve at once.

A page for those who run the site and those who audit it. Nothing is tried or measured from here: commands at the
machine do that, and the page names them.
"""

from __future__ import annotations

from datetime import UTC, datetime

import gradio as gr

from ui import site_views
from ui.client import Client, Visitor
from ui.drawing import Opening, draw_head, html, on_refusal
from ui.markup import fragment
from ui.settings import UiSettings


def draw_site_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    draw_head(
        opening,
        client,
        settings,
        title="This site",
        lead="What protects it, when that was last shown, and how many people its models serve at once.",
    )
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=7, min_width=320):
            protection = html(fragment("card_waiting"), elem_id="protection")
        with gr.Column(scale=5, min_width=320):
            capacity = html(fragment("card_waiting"), elem_id="capacity")

    async def draw_protection(visitor: Visitor) -> str:
        return site_views.protection(await visitor.protection(), now=datetime.now(UTC))

    async def draw_capacity(visitor: Visitor) -> str:
        return site_views.capacity(await visitor.capacity())

    opening.show(on_refusal(client, settings, draw_protection), protection)
    opening.show(on_refusal(client, settings, draw_capacity), capacity)
