"""The Search page: a period, exact fields and free text in; progress, hits and one record in detail out.

A search reads record after record, so its answer comes piece by piece and can be left: by Stop, by another search,
by closing the page. Nothing that was looked for stands in an address, apart from the random id of an exchange.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from ui import audit_views, views
from ui.client import Client, Json, Refused
from ui.drawing import OPTIONS, Opening, draw_head, html, line, query_value, visitor_of
from ui.markup import fragment
from ui.periods import PERIODS, period
from ui.record_panel import draw_record_panel
from ui.running import Running, until
from ui.settings import UiSettings

FOUND_MAX = 200
_DRAW_EVERY_S = 0.25

# Shown name, id of the field on the page, the API's word, an example.
FIELDS = (
    ("Event", "event", "event", "specialist.deidentify"),
    ("By", "actor", "actor", "user:7"),
    ("Outcome", "outcome", "outcome", "completed"),
    ("Exchange", "exchange", "exchange_id", "32 characters"),
    ("Specialist", "specialist", "specialist", "phi-deid"),
    ("Subject", "subject", "subject", "case number"),
)


def draw_search_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    draw_head(
        opening,
        client,
        settings,
        title="Search the log",
        lead="By time, by exact fields, or by words inside of what was asked and answered. Days and times are UTC.",
    )
    problem = html(elem_id="problem")
    with gr.Row(elem_classes="work form"), gr.Column():
        with gr.Row(elem_classes="row period"):
            span = gr.Radio(list(PERIODS), value="Last 7 days", label="Period", elem_id="period", container=False)
        with gr.Row(elem_classes="row custom"):
            first_day = line("First day (UTC)", elem_id="first-day", placeholder="2026-11-01")
            last_day = line("Last day (UTC)", elem_id="last-day", placeholder="2026-11-24")
        with gr.Row(elem_classes="row wide"):
            text = line("Words", elem_id="find-text", placeholder="Words in questions and answers", chars_max=200)
        with gr.Row(elem_classes="row"):
            exact = [line(name, elem_id=f"find-{at}", placeholder=example) for name, at, _, example in FIELDS]
        with gr.Row(elem_classes="actions"):
            run = gr.Button("Search", variant="primary", elem_id="search-run")
            stop = gr.Button("Stop", elem_id="search-stop", interactive=False)
            clear = gr.Button("Clear", elem_id="search-clear")
        progress = html(fragment("search_idle"), elem_id="progress")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=9, min_width=320):
            table = html(fragment("found_before"), elem_id="records")
        with gr.Column(scale=5, min_width=320):
            draw_record_panel(opening, client, settings, problem)
    searches = Running()
    shown = [problem, progress, table, stop]

    async def search(
        span: str, first_day: str, last_day: str, text: str, *values_and_request: Any
    ) -> AsyncGenerator[tuple[Any, ...]]:
        *values, request = values_and_request
        tab = str(request.session_hash)
        try:
            from_, to = period(span, first_day, last_day, datetime.now(UTC))
            wanted = {
                word: (value or "").strip() or None for (_, _, word, _), value in zip(FIELDS, values, strict=True)
            }
            query = {"from": from_, "to": to, "text": (text or "").strip() or None, **wanted, "limit": FOUND_MAX}
        except Refused as refusal:
            yield views.problem(refusal), fragment("search_idle"), gr.skip(), gr.skip()
            return
        sign = searches.begin(tab)
        try:
            async with aclosing(_draw(visitor_of(request, client, settings).search(query), sign)) as drawing:
                async for drawn in drawing:
                    if not searches.is_newest(tab, sign):
                        break
                    yield drawn
            yield tuple(gr.skip() for _ in shown)
        finally:
            searches.end(tab, sign)

    async def search_exchange(request: gr.Request) -> AsyncGenerator[tuple[Any, ...]]:
        """The address names an exchange: everything of it, whenever it was."""
        exchange = query_value(request, "exchange")
        if not exchange:
            yield tuple(gr.skip() for _ in (*shown, exact[3], span))
            return
        values = [exchange if at == "exchange" else "" for _, at, _, _ in FIELDS]
        filled: tuple[Any, Any] = exchange, "Any time"  # once: somebody may be typing there by then
        async with aclosing(search("Any time", "", "", "", *values, request)) as drawing:
            async for drawn in drawing:
                yield (*drawn, *filled)
                filled = gr.skip(), gr.skip()

    async def halt(request: gr.Request) -> None:
        searches.stop(str(request.session_hash))

    async def forget(request: gr.Request) -> tuple[Any, ...]:
        searches.drop(str(request.session_hash))
        empty = fragment("search_idle"), fragment("found_before")
        return "", *empty, gr.update(interactive=False), "Last 7 days", "", "", "", *("" for _ in exact)

    fields = [span, first_day, last_day, text, *exact]
    several: dict[str, Any] = {**OPTIONS, "show_progress": "hidden", "trigger_mode": "multiple"}

    async def search_now(
        span: str,
        first_day: str,
        last_day: str,
        text: str,
        event: str,
        actor: str,
        outcome: str,
        exchange: str,
        specialist: str,
        subject: str,
        request: gr.Request,
    ) -> AsyncGenerator[tuple[Any, ...]]:
        values = (event, actor, outcome, exchange, specialist, subject)
        async with aclosing(search(span, first_day, last_day, text, *values, request)) as drawing:
            async for drawn in drawing:
                yield drawn

    opening.follow(search_exchange, *shown, exact[3], span)
    run.click(search_now, fields, shown, **several)
    for field in (text, *exact):
        field.submit(search_now, fields, shown, **several)
    stop.click(halt, None, None, **OPTIONS)
    clear.click(forget, None, [*shown, *fields], **OPTIONS)


async def _draw(lines: AsyncGenerator[Json], sign: asyncio.Event) -> AsyncGenerator[tuple[Any, ...]]:
    """What to show after each moment of a search: problem, progress, table, the Stop button."""
    found: list[Json] = []
    scanned = total = drawn_of = 0
    drawn_at = 0.0
    going, over = gr.update(interactive=True), gr.update(interactive=False)
    yield "", audit_views.search_progress(0, 0, 0), audit_views.found_records([], running=True), going
    try:
        async with aclosing(until(lines, sign)) as news:
            async for line in news:
                if line is not None and "record" in line:
                    found.append(line["record"])
                elif line is not None and "progress" in line:
                    scanned, total = int(line["progress"]["scanned"]), int(line["progress"]["total"])
                elif line is not None and "end" in line:
                    end = line["end"]
                    ended = audit_views.search_ended(
                        int(end["found"]), int(end["scanned"]), complete=bool(end["complete"])
                    )
                    yield "", ended, audit_views.found_records(found, running=False), over
                    return
                if line is None or time.monotonic() - drawn_at >= _DRAW_EVERY_S:
                    table = audit_views.found_records(found, running=True) if drawn_of != len(found) else gr.skip()
                    drawn_at, drawn_of = time.monotonic(), len(found)
                    yield "", audit_views.search_progress(scanned, total, len(found)), table, going
    except Refused as refusal:
        yield views.problem(refusal), fragment("search_idle"), audit_views.found_records(found, running=False), over
        return
    ended = audit_views.search_ended(len(found), scanned, complete=False, stopped=True)
    yield "", ended, audit_views.found_records(found, running=False), over
