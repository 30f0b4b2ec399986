"""The Gradio application: the pages, their theme, and the options that keep everything else of Gradio off.

Imports Gradio at its top, so only `loader.py` imports this module.
"""

from __future__ import annotations

import warnings

import gradio as gr
from fastapi import FastAPI

from ui.account_page import draw_account_page
from ui.activity_page import draw_activity_page
from ui.ask_page import draw_ask_page
from ui.audit_page import draw_audit_page
from ui.chat_page import draw_chat_page
from ui.client import Client
from ui.deidentify_page import draw_deidentify_page
from ui.drawing import Opening
from ui.erasure_page import draw_erasure_page
from ui.holds_page import draw_holds_page
from ui.identifiers_page import draw_identifiers_page
from ui.people_page import draw_people_page
from ui.policy import MOUNT
from ui.proof_page import draw_proof_page
from ui.retention_page import draw_retention_page
from ui.search_page import draw_search_page
from ui.settings import UiSettings
from ui.site_page import draw_site_page
from ui.specialists_page import draw_specialists_page
from ui.teach_page import draw_teach_page

_SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]

_LOOK_FOR_WORK_S = 0.01


def mounted_pages(client: Client, settings: UiSettings) -> FastAPI:
    """An application that answers under `MOUNT`. Its lifespan starts and stops Gradio's queue."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SSR mode is not supported")  # it is off, as it should be
        return gr.mount_gradio_app(
            FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
            build_blocks(client, settings),
            path=MOUNT,
            theme=gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=_SANS, font_mono=_MONO),
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            enable_monitoring=False,
            show_error=False,
            max_file_size=1,  # uploads are refused before they reach Gradio; this is the second lock
            allowed_paths=[],
            app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        )


def build_blocks(client: Client, settings: UiSettings) -> gr.Blocks:
    """One Blocks with a route per page. The root page is empty: nothing leads there."""
    blocks = gr.Blocks(analytics_enabled=False, title="Cloister", delete_cache=(60, 600))
    with blocks:
        gr.Navbar(visible=False)
    with blocks.route("De-identify", "deidentify"):
        draw_deidentify_page(client, settings)
    for name, path, draw in (
        ("Ask", "ask", draw_ask_page),
        ("Assistant", "assistant", draw_chat_page),
        ("Specialists", "specialists", draw_specialists_page),
        ("Teach", "teach", draw_teach_page),
        ("Audit log", "audit", draw_audit_page),
        ("Search", "audit-search", draw_search_page),
        ("Activity", "audit-activity", draw_activity_page),
        ("Proof and export", "audit-proof", draw_proof_page),
        ("Legal holds", "audit-holds", draw_holds_page),
        ("Retention", "audit-retention", draw_retention_page),
        ("Erasure", "audit-erasure", draw_erasure_page),
        ("Identifiers", "identifiers", draw_identifiers_page),
        ("People", "people", draw_people_page),
        ("My account", "account", draw_account_page),
        ("This site", "site", draw_site_page),
    ):
        with blocks.route(name, path):
            opening = Opening()
            draw(opening, client, settings)
            opening.wire(blocks)
    blocks.queue(default_concurrency_limit=settings.runs_at_once, max_size=settings.runs_waiting_max, api_open=False)
    # Gradio looks for work a thousand times a second and for progress bars, which no page has, a hundred times.
    blocks._queue.sleep_when_free = _LOOK_FOR_WORK_S
    blocks._queue.progress_update_sleep_when_free = 1.0
    return blocks
