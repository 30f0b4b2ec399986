"""The Legal holds page: what must not be destroyed, and letting go of it with two people."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui import audit_views, views
from ui.client import Client, Refused, Visitor
from ui.drawing import OPTIONS, Opening, carried, draw_head, html, line, on_refusal, pressed, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings

_SUBJECTS_CHARS_MAX = 16_384


def draw_holds_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    draw_head(
        opening,
        client,
        settings,
        title="Legal holds",
        lead="What a hold covers is not destroyed, by nobody and by no rule, until two people release it.",
    )
    problem = html(elem_id="problem")
    said = html(elem_id="said")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=8, min_width=320):
            table = html(fragment("card_waiting"), elem_id="holds")
        with gr.Column(scale=5, min_width=320):
            html(fragment("section_head", title="Set a hold", lead="It is in force at once."))
            reason = gr.Radio(
                list(audit_views.HOLD_REASONS), value="Litigation", label="Reason", elem_id="reason", container=False
            )
            subjects = line(
                "Subjects, one to a line",
                elem_id="subjects",
                placeholder="case or patient number",
                chars_max=_SUBJECTS_CHARS_MAX,
                lines=4,
            )
            classes = gr.CheckboxGroup(
                [(title, name) for name, title in audit_views.CLASS_TITLES.items()],
                label="Every record of a class",
                elem_id="classes",
            )
            with gr.Row(elem_classes="actions"):
                set_hold = gr.Button("Set the hold", variant="primary", elem_id="hold-set")
            html(fragment("hint", text="Subjects are stored as keyed hashes: the log does not name them."))
    hold_id, release = carried("hold-id"), pressed("hold-release")
    shown = [problem, said, table]

    async def draw(visitor: Visitor) -> str:
        return audit_views.holds(await visitor.holds(), await visitor.session())

    async def after(visitor: Visitor, said: str) -> tuple[Any, ...]:
        try:
            return "", said, await draw(visitor)
        except Refused as refusal:
            return views.problem(refusal), said, gr.skip()

    async def put(reason: str, subjects: str | None, classes: list[str], request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        named = [subject.strip() for subject in (subjects or "").splitlines() if subject.strip()]
        try:
            hold = await visitor.set_hold(named, list(classes), audit_views.HOLD_REASONS[reason])
        except Refused as refusal:
            return views.problem(refusal), "", gr.skip(), gr.skip(), gr.skip()
        return (*await after(visitor, audit_views.hold_set(hold)), "", [])

    async def let_go(hold: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        try:
            answer = await visitor.release_hold(hold or "")
        except Refused as refusal:
            return views.problem(refusal), "", gr.skip()
        return await after(visitor, audit_views.hold_released(answer))

    opening.show(on_refusal(client, settings, draw), table)
    set_hold.click(put, [reason, subjects, classes], [*shown, subjects, classes], **OPTIONS)
    release.click(let_go, hold_id, shown, **OPTIONS)
