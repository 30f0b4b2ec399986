"""What both Gradio pages share: who is visiting, and how our HTML is put on the page."""

from __future__ import annotations

import gradio as gr

from ui.client import Client, Visitor
from ui.settings import UiSettings


def html(value: str = "", *, elem_id: str | None = None) -> gr.Markdown:
    """A place for a fragment of `views.py`.

    Gradio's own sanitiser stays off: it would take out the buttons and data attributes, and `markup.py` has made
    every value inert already.
    """
    return gr.Markdown(value, elem_id=elem_id, sanitize_html=False, latex_delimiters=[])


def visitor_of(request: gr.Request, client: Client, settings: UiSettings) -> Visitor:
    """The visitor behind a callback, by the cookie and address of the request that caused it."""
    peer = request.client
    address = (str(peer.host), int(peer.port or 0)) if peer is not None else None
    return client.visitor(cookie=request.cookies.get(settings.session_cookie), address=address)
