"""The Proof and export page: what is kept outside, verification, a receipt against the log, export, epochs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import gradio as gr

from ui import audit_views, views
from ui.client import Client, Refused, Visitor
from ui.drawing import OPTIONS, Opening, draw_head, html, line, on_refusal, refused, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings

_PROOF_CHARS_MAX = 64 * 1024


def draw_proof_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    standing = draw_head(
        opening,
        client,
        settings,
        title="Proof and export",
        lead="That the log is whole and unchanged, shown against copies of its head that this machine does not hold.",
    )
    problem = html(elem_id="problem")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=7, min_width=320):
            exposure = html(fragment("card_waiting"), elem_id="exposure")
            html(fragment("section_head", title="Verify now", lead=_VERIFY_LEAD))
            with gr.Row(elem_classes="actions"):
                newest = gr.Button("Verify what is new", variant="primary", elem_id="verify-new")
                everything = gr.Button("Verify everything", elem_id="verify-all")
            verdict = html(elem_id="verdict")
            epochs = html(fragment("card_waiting"), elem_id="epochs")
        with gr.Column(scale=6, min_width=320):
            html(fragment("section_head", title="Check a receipt", lead=_RECEIPT_LEAD))
            proof = line("Receipt", elem_id="proof", placeholder=_PROOF_EXAMPLE, chars_max=_PROOF_CHARS_MAX, lines=5)
            with gr.Row(elem_classes="actions"):
                check = gr.Button("Check the receipt", elem_id="check-receipt")
                gr.Button("Open a receipt", elem_id="open-proof")
            checked = html(elem_id="checked")
            html(fragment("section_head", title="Export", lead=_EXPORT_LEAD))
            html(fragment("export", formats=audit_views.FORMATS), elem_id="export")

    async def draw_exposure(visitor: Visitor) -> str:
        return audit_views.exposure_card(await visitor.exposure())

    async def draw_epochs(visitor: Visitor) -> str:
        return audit_views.epochs(await visitor.epochs())

    def verify(*, full: bool) -> Callable[..., AsyncIterator[tuple[str, str]]]:
        async def run(request: gr.Request) -> AsyncIterator[tuple[str, str]]:
            yield "", fragment("verifying")  # a long log takes a while
            try:
                yield "", views.verdict(await visitor_of(request, client, settings).verify(full=full))
            except Refused as refusal:
                yield views.problem(refusal), ""

        return run

    async def check_receipt(proof: str | None, request: gr.Request) -> tuple[str, str]:
        """A receipt that is newer than the log makes the server stop; the line on top says so at once."""
        visitor = visitor_of(request, client, settings)
        try:
            drawn = audit_views.receipt_checked(await visitor.check_receipt((proof or "").strip() + "\n"))
        except Refused as refusal:
            drawn = refused(refusal)
        try:
            return drawn, audit_views.standing(await visitor.exposure())
        except Refused as refusal:
            return drawn, audit_views.standing_unknown(refusal)

    opening.show(on_refusal(client, settings, draw_exposure), exposure)
    opening.show(on_refusal(client, settings, draw_epochs), epochs)
    newest.click(verify(full=False), None, [problem, verdict], **OPTIONS)
    everything.click(verify(full=True), None, [problem, verdict], **OPTIONS)
    check.click(check_receipt, proof, [checked, standing], **OPTIONS)


_VERIFY_LEAD = "By a separate program that shares no code with the one that writes the log."
_RECEIPT_LEAD = "Every answer came with a receipt. One that this log does not fit shows that the log was changed."
_PROOF_EXAMPLE = "c2sp.org/tlog-proof@v1 …"
_EXPORT_LEAD = "For another machine or a SIEM. Contents stay sealed in a bundle. Without days: the whole log."
