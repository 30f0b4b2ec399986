"""The Teach page: a table of labelled rows, what is wrong with it, training with its progress, the report, approval.

The table goes from the browser to the API past Gradio (`pages.py`), so nothing of it lies in Gradio's folder; the
answer comes back through the browser and is drawn here. The job is named in the page's address: reloading goes on.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import gradio as gr

from ui import teach_views, views
from ui.client import Client, Json, Refused, Visitor
from ui.drawing import OPTIONS, Opening, carried, html, line, pressed, query_value, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings

_LEAD = "From your own labelled rows to a specialist of your own: checked, measured on rows it has not seen, approved."
_REPORT_CHARS_MAX = 1024 * 1024
_LOOK_EVERY_S = 1.0
_FOLLOW_S_MAX = 4 * 3600.0
_ID = re.compile(r"[^a-z0-9]+")


def draw_teach_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    html(fragment("head", title="Teach a specialist", lead=_LEAD), elem_id="page-head")
    problem = html(elem_id="problem")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=6, min_width=320):
            html(fragment("section_head", title="1. Your rows", lead=""))
            html(fragment("teach_upload"))
            checked = html(elem_id="checked")
        with gr.Column(scale=7, min_width=320):
            html(fragment("section_head", title="2. Train", lead=_TRAIN_LEAD))
            name = line("Name that people see", elem_id="teach-name", placeholder="Ticket router", chars_max=100)
            id_ = line("Short name", elem_id="teach-id", placeholder="made from the name", chars_max=63)
            with gr.Row(elem_classes="actions"):
                start = gr.Button("Train it", variant="primary", elem_id="teach-start", interactive=False)
                stop = gr.Button("Stop", elem_id="teach-stop", interactive=False)
            moving = html(elem_id="teach-progress")
            html(fragment("section_head", title="3. Report", lead=""))
            report = html(fragment("teach_waiting"), elem_id="teach-report")
    answer, show = carried("table-report", chars_max=_REPORT_CHARS_MAX), pressed("table-show")
    several = carried("table-several")
    table, text, label = (
        carried("table-id"),
        carried("text-column", chars_max=1000),
        carried("label-column", chars_max=1000),
    )
    job, submit = carried("teach-job"), pressed("teach-submit")
    followed = [problem, moving, report, start, stop, job]
    training: dict[str, object] = {}  # what each tab has begun and is not told the end of yet

    def check(answer: str | None, several: str | None) -> tuple[Any, ...]:
        try:
            found = teach_views.table_of(answer)
        except Refused as refusal:
            return views.problem(refusal), "", "", "", "", gr.update(interactive=False)
        ready = gr.update(interactive=bool(found.get("ready")))
        columns = str(found.get("text_column") or ""), str(found.get("label_column") or "")
        return "", teach_views.checked(found, several=several == "true"), str(found["table"]), *columns, ready

    async def train(
        table: str | None,
        name: str | None,
        id_: str | None,
        text: str | None,
        label: str | None,
        several: str | None,
        request: gr.Request,
    ) -> AsyncIterator[tuple[Any, ...]]:
        """A second press begins nothing; one after a refusal or a report does, however soon it comes."""
        tab, this = str(request.session_hash), object()
        if tab in training:
            yield tuple(gr.skip() for _ in followed)
            return
        training[tab] = this

        def ended() -> None:
            if training.get(tab) is this:
                del training[tab]

        visitor, name = visitor_of(request, client, settings), (name or "").strip()
        wanted: dict[str, object] = {"table": table, "id": (id_ or "").strip() or _id(name), "name": name}
        wanted |= {"text_column": text, "label_column": label, "multi_label": several == "true"}
        try:
            try:
                begun = await visitor.start_teaching(wanted)
            except Refused as refusal:
                ended()
                yield views.problem(refusal), *(gr.skip() for _ in followed[1:])
                yield tuple(gr.skip() for _ in followed)  # see `running.py`
                return
            async with aclosing(_follow(visitor, begun)) as drawing:
                async for drawn in drawing:
                    if drawn[3] == gr.update(interactive=True):  # the button may be pressed again
                        ended()
                    yield drawn
            yield tuple(gr.skip() for _ in followed)
        finally:
            ended()

    async def go_on(request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """The address names a job: how far it is, or its report."""
        named = query_value(request, "job")
        if not named:
            yield tuple(gr.skip() for _ in followed)
            return
        visitor = visitor_of(request, client, settings)
        try:
            begun = await visitor.teaching_job(named)
        except Refused as refusal:
            yield views.problem(refusal), *(gr.skip() for _ in followed[1:])
            return
        async for drawn in _follow(visitor, begun):
            yield drawn

    async def halt(job: str | None, request: gr.Request) -> str:
        try:
            await visitor_of(request, client, settings).stop_teaching(job or "")
        except Refused as refusal:
            return views.problem(refusal)
        return ""

    async def ask(job: str | None, request: gr.Request) -> tuple[Any, ...]:
        try:
            return "", teach_views.submitted(await visitor_of(request, client, settings).submit_taught(job or ""))
        except Refused as refusal:
            return views.problem(refusal), gr.skip()

    show.click(check, [answer, several], [problem, checked, table, text, label, start], **OPTIONS)
    # Gradio itself would drop a press until the last one's answer is over, which is after it can be read.
    start.click(train, [table, name, id_, text, label, several], followed, trigger_mode="multiple", **OPTIONS)
    stop.click(halt, job, problem, **OPTIONS)
    submit.click(ask, job, [problem, report], **OPTIONS)
    opening.follow(go_on, *followed)


async def _follow(visitor: Visitor, job: Json) -> AsyncGenerator[tuple[Any, ...]]:
    """What to show until the job is over: progress, then the report. Ends when the tab is left."""
    named, going, over = str(job["job"]), gr.update(interactive=True), gr.update(interactive=False)
    ends = time.monotonic() + _FOLLOW_S_MAX
    yield "", teach_views.progress(job), "", over, going, named
    try:
        while job["state"] not in teach_views.OVER and time.monotonic() < ends:
            await asyncio.sleep(_LOOK_EVERY_S)
            job = await visitor.teaching_job(named)
            yield "", teach_views.progress(job), gr.skip(), gr.skip(), gr.skip(), gr.skip()
    except Refused as refusal:
        gone = refusal.status == 404  # stopped, here or elsewhere; or the server was restarted
        yield "" if gone else views.problem(refusal), fragment("teach_gone") if gone else "", "", going, over, ""
        return
    yield "", "", teach_views.report(job), going, over, named


def _id(name: str) -> str:
    """`Ticket router (2026)` as `ticket-router-2026`; the API says what an id may be."""
    return _ID.sub("-", name.lower()).lstrip("-0123456789")[:63].rstrip("-")


_TRAIN_LEAD = "A part of the rows is held back, so that the report tells how good it is on texts it has not seen."
