"""Trying a specialist on a text, or two side by side. Used by the Specialists and Ask pages.

The text goes to the API as a request like any other and is recorded there; nothing of it is kept here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ui import specialist_views, views
from ui.client import Client, Json, Refused, Visitor
from ui.drawing import OPTIONS, carried, html, line, pressed, visitor_of
from ui.markup import fragment
from ui.settings import UiSettings
from ui.specialist_views import AUTO, Tried

_LINES = 7


@dataclass(frozen=True, slots=True)
class TryPanel:
    """The components that a page wires: what is chosen, the fields, and the result, which the page places."""

    first: gr.Textbox
    second: gr.Textbox
    choice: gr.Markdown
    question: gr.Textbox
    text: gr.Textbox
    about: gr.Textbox
    run: gr.Button
    result: gr.Markdown

    @property
    def chosen(self) -> list[Any]:
        """What `choose` returns, in its order."""
        return [self.choice, self.first, self.second, self.run, *self.fields]

    @property
    def fields(self) -> list[Any]:
        """What a specialist's task takes."""
        return [self.question, self.text, self.about]


def draw_try_panel(client: Client, settings: UiSettings, problem: gr.Markdown, *, auto: bool = False) -> TryPanel:
    """Place the fields and wire them. The page fills in what is chosen, with `choose`, and renders the result.

    `auto`: the appliance may choose the specialist, and explains its choice.
    """
    choice = html(fragment("card_waiting"), elem_id="choice")
    first = carried("try-first")
    second = carried("try-second")
    choose_again = pressed("try-choose")
    question = line("Question", elem_id="try-question", chars_max=2000)
    text = line("Text", elem_id="try-text", chars_max=settings.text_chars_max, lines=_LINES)
    about = line("About", elem_id="try-about", chars_max=300)
    with gr.Row(elem_classes="actions"):
        run = gr.Button("Ask" if auto else "Try it", variant="primary", elem_id="run", interactive=False)
        clear = gr.Button("Clear", elem_id="try-clear")
    result = html(elem_id="tried", render=False)
    panel = TryPanel(first, second, choice, question, text, about, run, result)

    async def again(first: str | None, request: gr.Request) -> tuple[Any, ...]:
        """The lists show what was chosen; only the fields change."""
        visitor = visitor_of(request, client, settings)
        try:
            card = await visitor.specialist(first) if first and first != AUTO else None
        except Refused as refusal:
            return views.problem(refusal), "", *(gr.skip() for _ in panel.fields)
        return "", "", *_fields(card)

    async def answer(
        first: str | None,
        second: str | None,
        question: str | None,
        text: str | None,
        about: str | None,
        request: gr.Request,
    ) -> tuple[str, str]:
        visitor, typed = visitor_of(request, client, settings), (text or "", question or "", about or "")
        try:
            route = await visitor.route(typed[0]) if first == AUTO else None
            names = (route["specialist"] if route else first, second)
            results = await asyncio.gather(*(_try(visitor, name, *typed) for name in dict.fromkeys(names) if name))
        except Refused as refusal:
            return views.problem(refusal), ""
        return "", specialist_views.tried(results, route)

    # Who chooses quickly sees the fields of the last choice.
    choose_again.click(again, first, [problem, result, *panel.fields], trigger_mode="always_last", **OPTIONS)
    run.click(answer, [first, second, question, text, about], [problem, result], **OPTIONS)
    clear.click(lambda: ("", "", "", "", ""), None, [problem, result, question, text, about], **OPTIONS)
    return panel


async def choose(visitor: Visitor, first: str, second: str, *, auto: bool) -> tuple[Any, ...]:
    """The two lists, what is chosen in them, and the fields that the first one's task takes."""
    cards = (await visitor.specialists())["data"]
    active = [card for card in cards if card.get("state", "active") == "active"]
    card = next((card for card in active if card["id"] == first), None)
    if card is None and not auto and active:
        card, first = active[0], str(active[0]["id"])
    elif card is None and auto:
        first = AUTO
    second = second if second != first and any(one["id"] == second for one in active) else ""
    lists = specialist_views.try_choice(active, first, second, auto=auto)
    return lists, first, second, gr.update(interactive=bool(first)), *_fields(card)


def _fields(card: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """The fields that the specialist's task takes, by their names; None: any text."""
    names = specialist_views.needs(card)
    return (
        gr.update(visible=bool(names["question"])),
        gr.update(label=names["text"]),
        gr.update(visible=bool(names["about"]), label=names["about"] or "About"),
    )


async def _try(visitor: Visitor, specialist: str, text: str, question: str, about: str) -> Tried:
    """One answer, or the refusal in its place: another specialist beside it may take what this one does not."""
    card: Mapping[str, Any] = await visitor.specialist(specialist)
    try:
        answer: Json = await visitor.run_specialist(specialist, specialist_views.given(card, text, question, about))
    except Refused as refusal:
        if refusal.signed_out:
            raise
        return Tried(card, text, refusal=refusal)
    return Tried(card, text, answer=answer)
