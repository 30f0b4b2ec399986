"""The De-identify page: a note in, marked text to check, redacted text and receipt out. One callback, one API call.

Reading a file, copying and saving happen in the browser (`static/app.js`), so none of them sends the note
anywhere or leaves it on a disk of this server.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui import views
from ui.client import Client, Refused
from ui.drawing import html, visitor_of
from ui.markup import fragment
from ui.sample import SAMPLE_NOTE
from ui.settings import UiSettings

STYLES = {"Labels": "label", "Mask": "mask", "Surrogates": "surrogate"}  # shown, and the API's word for it
_LINES = 15


def draw_deidentify_page(client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    html(fragment("deidentify_head"), elem_id="page-head")
    problem = html(elem_id="problem")
    with gr.Row(equal_height=True, elem_classes="work"):
        with gr.Column(min_width=320):
            note = gr.Textbox(
                label="Original note",
                placeholder="Paste or type the note, or open a text file",
                lines=_LINES,
                max_lines=_LINES,
                max_length=settings.text_chars_max,
                elem_id="note",
                container=False,
            )
            with gr.Row(elem_classes="actions"):
                run = gr.Button("De-identify", variant="primary", elem_id="run")
                gr.Button("Open .txt", elem_id="open-file")
                sample = gr.Button("Use a sample", elem_id="sample")
                clear = gr.Button("Clear", elem_id="clear")
            html(fragment("deidentify_keys", limit=settings.text_chars_max))
        with gr.Column(min_width=320):
            # Both views stay in the page: copying and saving work from either (`app.js` switches them).
            html(fragment("result_tabs"))
            marked = html(views.nothing_yet().marked, elem_id="marked")
            redacted = gr.Textbox(
                label="Redacted text",
                placeholder="The redacted text appears here",
                lines=_LINES,
                max_lines=_LINES,
                interactive=False,
                elem_id="redacted",
                container=False,
            )
            style = gr.Radio(list(STYLES), value="Labels", label="Replace with", elem_id="style", container=False)
            with gr.Row(elem_classes="actions"):
                gr.Button("Copy redacted text", elem_id="copy")
                gr.Button("Save as .txt", elem_id="save")
    summary = html(views.nothing_yet().summary, elem_id="summary")
    receipt = html(elem_id="receipt")
    shown = [problem, marked, redacted, summary, receipt]

    async def deidentify(text: str | None, chosen: str, request: gr.Request) -> tuple[Any, ...]:
        visitor, text = visitor_of(request, client, settings), text or ""
        try:
            return views.deidentified(text, await visitor.deidentify(text, style=STYLES[chosen]))
        except Refused as refusal:
            return views.deidentify_refused(refusal)

    async def again(text: str | None, chosen: str, redacted: str | None, request: gr.Request) -> tuple[Any, ...]:
        """Another style of a result that is on screen is another answer, with a record of its own."""
        if not redacted:
            return tuple(gr.skip() for _ in shown)
        return await deidentify(text, chosen, request)

    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
    run.click(deidentify, [note, style], shown, **options)
    style.input(again, [note, style, redacted], shown, **options)
    sample.click(lambda: SAMPLE_NOTE, None, note, **options)
    clear.click(lambda: ("", *views.nothing_yet()), None, [note, *shown], **options)
