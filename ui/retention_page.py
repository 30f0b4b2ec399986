"""The Retention page: how long each class is kept, what is past its time, destroying it, keeping a class longer."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui import audit_views, views
from ui.client import Client, Refused, Visitor
from ui.drawing import OPTIONS, Opening, draw_head, html, line, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings


def draw_retention_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    draw_head(
        opening,
        client,
        settings,
        title="Retention",
        lead="How long records are kept, and the destruction of those whose time has passed.",
    )
    problem = html(elem_id="problem")
    said = html(elem_id="said")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=8, min_width=320):
            html(fragment("section_head", title="How long records are kept", lead=""))
            table = html(fragment("card_waiting"), elem_id="retention")
            with gr.Row(elem_classes="for-admin part"), gr.Column():
                html(fragment("section_head", title="Keep a class longer", lead="A time is never shortened again."))
                with gr.Row(elem_classes="row"):
                    chosen = gr.Radio(
                        [(title, name) for name, title in audit_views.CLASS_TITLES.items()],
                        value="exchange",
                        label="Class",
                        elem_id="retention-class",
                        container=False,
                    )
                    months = line("Months", elem_id="retention-months", placeholder="for example 120", chars_max=5)
                with gr.Row(elem_classes="actions"):
                    keep = gr.Button("Keep it longer", elem_id="retention-set")
                html(fragment("confirm", for_="retention-set", button="Keep it longer", text=_LONGER), elem_id="longer")
        with gr.Column(scale=5, min_width=320):
            html(fragment("section_head", title="Past its time", lead=""))
            due = html(fragment("card_waiting"), elem_id="due")
            with gr.Row(elem_classes="for-admin part"), gr.Column():
                typed = line("Type the name of the class to confirm", elem_id="retention-typed")
                with gr.Row(elem_classes="actions"):
                    run = gr.Button("Destroy what is past its time", variant="stop", elem_id="retention-run")
            html(fragment("only_admin", text="An administrator destroys what is past its time and keeps it longer."))
    shown = [problem, said, table, due]

    async def draw(visitor: Visitor, said: str) -> tuple[Any, ...]:
        try:
            answer = await visitor.retention()
        except Refused as refusal:
            return views.problem(refusal), said, "", ""
        return "", said, audit_views.retention(answer), audit_views.due(answer)

    async def show(request: gr.Request) -> tuple[Any, ...]:
        return await draw(visitor_of(request, client, settings), "")

    async def destroy(typed: str | None, request: gr.Request) -> tuple[Any, ...]:
        """What is shown may be older than what is due, so the words are compared with what is due now."""
        visitor = visitor_of(request, client, settings)
        try:
            words = audit_views.due_words(await visitor.retention())
            if sorted((typed or "").replace(",", " ").split()) != words.split() or not words:
                raise _not_confirmed(words)
            ran = await visitor.run_retention()
        except Refused as refusal:
            return (views.problem(refusal), "", *(gr.skip() for _ in shown[2:]), gr.skip())
        return (*await draw(visitor, audit_views.retention_ran(ran)), "")

    async def lengthen(chosen: str, months: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        try:
            await visitor.set_retention(chosen, _months(months))
        except Refused as refusal:
            return (views.problem(refusal), "", *(gr.skip() for _ in shown[2:]), gr.skip())
        done = fragment("notice", heading="Kept longer", text=f"Class {chosen}: {_months(months)} months from now on.")
        return (*await draw(visitor, done), "")

    opening.show(show, *shown)
    run.click(destroy, typed, [*shown, typed], **OPTIONS)
    keep.click(lengthen, [chosen, months], [*shown, months], **OPTIONS)


_LONGER = "Records of this class are then kept for that long. The time can be made longer again, never shorter."


def _months(text: str | None) -> int:
    text = (text or "").strip()
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 1200:
        raise Refused(400, "invalid_request", "the months must be a whole number from 1 to 1200", "ten years are 120")
    return int(text)


def _not_confirmed(words: str) -> Refused:
    if not words:
        return Refused(400, "nothing_due", "nothing is past its time, so nothing was destroyed")
    return Refused(
        400, "not_confirmed", "the class was not typed as shown, so nothing was destroyed", f"type {words} to confirm"
    )
