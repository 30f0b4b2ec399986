"""The Erasure page: destroying everything about one subject, its certificate, and what was destroyed before."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui import audit_views, views
from ui.client import Client, Refused, Visitor
from ui.drawing import OPTIONS, Opening, draw_head, html, line, on_refusal, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings


def draw_erasure_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    draw_head(
        opening,
        client,
        settings,
        title="Erasure",
        lead="Contents about one subject are destroyed by destroying the keys that open them.",
    )
    problem = html(elem_id="problem")
    certificate = html(elem_id="certificate")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=6, min_width=320):
            html(fragment("section_head", title="Destroy what is about a subject", lead=""))
            html(fragment("shred_warning"))
            with gr.Row(elem_classes="for-admin part"), gr.Column():
                subject = line("Subject", elem_id="shred-subject", placeholder="case or patient number")
                reason = gr.Radio(
                    list(audit_views.SHRED_REASONS),
                    value="The person asked",
                    label="Reason",
                    elem_id="shred-reason",
                    container=False,
                )
                typed = line("Type the subject once more to confirm", elem_id="shred-typed")
                with gr.Row(elem_classes="actions"):
                    shred = gr.Button("Destroy for good", variant="stop", elem_id="shred-run")
            html(
                fragment("only_admin", text="An administrator destroys contents; everybody on this page sees what was.")
            )
        with gr.Column(scale=7, min_width=320):
            table = html(fragment("card_waiting"), elem_id="erasures")

    async def draw(visitor: Visitor) -> str:
        return audit_views.erasures(await visitor.erasures())

    show = on_refusal(client, settings, draw)

    async def destroy(subject: str | None, reason: str, typed: str | None, request: gr.Request) -> tuple[Any, ...]:
        subject = (subject or "").strip()
        try:
            if not subject or subject != (typed or "").strip():
                raise _not_confirmed(subject)
            code = audit_views.SHRED_REASONS[reason]
            answer = await visitor_of(request, client, settings).shred(subject, code)
        except Refused as refusal:
            return views.problem(refusal), "", gr.skip(), gr.skip(), gr.skip()
        return "", audit_views.certificate(answer, subject), await show(request), "", ""

    opening.show(show, table)
    shred.click(destroy, [subject, reason, typed], [problem, certificate, table, subject, typed], **OPTIONS)


def _not_confirmed(subject: str) -> Refused:
    if not subject:
        return Refused(400, "invalid_request", "no subject is given", "type the case or patient number")
    words = "the subject was not typed the same way twice, so nothing was destroyed"
    return Refused(400, "not_confirmed", words, "type it once more in both fields")
