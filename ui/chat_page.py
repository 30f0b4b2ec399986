"""The Assistant page: conversations with models that write, kept for their owner; answers drawn while they are written.

The conversation is named in the page's address, so reloading goes on with it. What is on the screen comes from the API
each time; Gradio keeps nothing. Leaving the page, Stop, or another message ends an answer; what was shown is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from ui import chat_views
from ui.chat_views import Choices
from ui.client import Client, Json, Refused, Visitor
from ui.drawing import OPTIONS, Opening, carried, html, line, pressed, query_value, visitor_of
from ui.markup import fragment
from ui.running import Running, until
from ui.settings import UiSettings

_LEAD = "Write with a model that runs on this site. Conversations are sealed and kept for you alone."
_TITLE_CHARS = 60
_DRAW_EVERY_S = 0.1
_ANSWERING, _COMPLETE, _STOPPED = "The answer is being written.", "The answer is complete.", "The answer was stopped."
_NUMBERS = (("temperature", "Temperature", float), ("max_tokens", "Most tokens", int), ("seed", "Seed", int))
Drawn = tuple[Any, ...]


def draw_chat_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    html(fragment("head", title="Assistant", lead=_LEAD), elem_id="page-head")
    with gr.Row(elem_classes="work chat"):
        with gr.Column(scale=4, min_width=260):
            side = html(fragment("chat_waiting"), elem_id="chats")
        with gr.Column(scale=11, min_width=320):
            head = html(elem_id="chat-head")
            talk = html(elem_id="talk")
            live = html(elem_id="live")
            state = html(elem_id="chat-state")
            problem = html(elem_id="problem")  # here, where whoever just sent something looks
            editing = html(elem_id="editing")
            text = line("Message", elem_id="chat-text", chars_max=settings.text_chars_max, lines=4)
            with gr.Row(elem_classes="actions"):
                send = gr.Button("Send", variant="primary", elem_id="run", interactive=False)
                stop = gr.Button("Stop", elem_id="chat-stop", interactive=False)
            html(fragment("chat_keys"))
            policy = html(elem_id="chat-policy")
            with gr.Accordion("Instructions and parameters", open=False, visible=False, elem_id="tune") as tune:
                system = line("Instructions before everything", elem_id="tune-system", chars_max=20_000, lines=4)
                with gr.Row(elem_classes="row"):
                    numbers = [line(name, elem_id=f"tune-{key}", chars_max=24) for key, name, _ in _NUMBERS]
                apply = gr.Button("Use them in this conversation", elem_id="tune-apply")
    chat, at, model, title = carried("chat-id"), carried("chat-at"), carried("chat-model"), carried("chat-title")
    tuned = [system, *numbers]
    whole = [problem, side, head, talk, live, state, editing, send, stop, chat, at, model, tune, *tuned]
    answered = [problem, side, head, talk, live, state, editing, text, send, stop, chat, at]
    running = Running()

    async def show(request: gr.Request) -> Drawn:
        """The page as its address names it. What came empty is not emptied again: somebody may be typing by then."""
        visitor, named = visitor_of(request, client, settings), query_value(request, "conversation")
        problem = ""
        try:
            try:
                if named:
                    return await _whole(visitor, named, query_value(request, "all") == "yes")
            except Refused as refusal:
                if refusal.status != 404:
                    raise
                problem = chat_views.refused(refusal)
            new = (await _whole(visitor, ""))[1 : -len(tuned)]
            return (problem, *new, *(gr.skip() for _ in tuned))
        except Refused as refusal:
            return (chat_views.refused(refusal), "", *(gr.skip() for _ in whole[2:]))

    async def ask(
        chat: str | None,
        at: str | None,
        model: str | None,
        text: str | None,
        system: str | None,
        temperature: str | None,
        max_tokens: str | None,
        seed: str | None,
        request: gr.Request,
    ) -> AsyncGenerator[Drawn]:
        visitor, text = visitor_of(request, client, settings), text or ""
        asked: dict[str, object] = {"text": text}
        if at and at.isdecimal():
            asked["at"] = int(at)
        try:
            if not text.strip():
                raise Refused(400, "input_empty", "the message is empty", "write something")
            one = await visitor.conversation(chat) if chat else None
            if one is None:
                wanted = {"model": model or "", "title": _title(text), **_given(system, temperature, max_tokens, seed)}
                one = await visitor.begin_conversation(wanted)
        except Refused as refusal:
            yield (chat_views.refused(refusal), *(gr.skip() for _ in answered[1:]))
            return
        async with aclosing(_follow(visitor, one, asked, str(request.session_hash), begun=not chat)) as drawing:
            async for drawn in drawing:
                yield drawn

    async def again(chat: str | None, request: gr.Request) -> AsyncGenerator[Drawn]:
        visitor = visitor_of(request, client, settings)
        try:
            one = await visitor.conversation(chat or "")
        except Refused as refusal:
            yield (chat_views.refused(refusal), *(gr.skip() for _ in answered[1:]))
            return
        async with aclosing(_follow(visitor, one, {}, str(request.session_hash))) as drawing:
            async for drawn in drawing:
                yield drawn

    async def _follow(
        visitor: Visitor, one: Json, asked: Mapping[str, object], tab: str, *, begun: bool = False
    ) -> AsyncGenerator[Drawn]:
        """What to show while the answer is written, and after it. `begun`: the conversation was begun for it."""
        sign = running.begin(tab)
        try:
            listed = chat_views.side(await visitor.conversations(), one["id"]) if begun else gr.skip()
            top = chat_views.head(one, _choices(await visitor.models(), one)) if begun else gr.skip()
            async with aclosing(_answer(visitor, one, asked, sign)) as drawing:
                async for moment in drawing:
                    if not running.is_newest(tab, sign):
                        break
                    if begun and moment.lost:
                        left = await _let_go(visitor, one)
                        if left is not None:
                            over = gr.update(interactive=True), gr.update(interactive=False)
                            kept = gr.skip(), gr.skip()
                            yield (moment.problem, *left, "", moment.state, *kept, *over, "", gr.skip())
                            break
                    taken = moment.taken  # the question is the conversation's now: its field is free for the next
                    yield (
                        moment.problem,
                        listed,
                        top,
                        moment.talk,
                        moment.live,
                        moment.state,
                        "" if taken else gr.skip(),
                        "" if taken else gr.skip(),
                        gr.update(interactive=moment.over),
                        gr.update(interactive=not moment.over),
                        one["id"],
                        "" if taken else gr.skip(),
                    )
                    listed = top = gr.skip()
            yield tuple(gr.skip() for _ in answered)
        except Refused as refusal:
            yield (chat_views.refused(refusal), *(gr.skip() for _ in answered[1:]))
        finally:
            running.end(tab, sign)

    async def edit(chat: str | None, at: str | None, request: gr.Request) -> Drawn:
        try:
            turns = (await visitor_of(request, client, settings).conversation(chat or ""))["turns"]
            turn = turns[int(at or "")]
        except (Refused, ValueError, IndexError) as error:
            return chat_views.refused(error) if isinstance(error, Refused) else gr.skip(), gr.skip(), gr.skip()
        return "", chat_views.editing(int(turn["at"])), str(turn["text"])

    async def rename(chat: str | None, title: str | None, request: gr.Request) -> Drawn:
        return await _changed(chat, {"title": title or ""}, request)

    async def choose(chat: str | None, model: str | None, request: gr.Request) -> Drawn:
        return await _changed(chat, {"model": model or ""}, request)

    async def set_up(
        chat: str | None,
        system: str | None,
        temperature: str | None,
        max_tokens: str | None,
        seed: str | None,
        request: gr.Request,
    ) -> Drawn:
        if not chat:
            return "", gr.skip(), gr.skip(), chat_views.state("They will be used in the conversation that you begin.")
        try:
            change = _given(system, temperature, max_tokens, seed, every=True)
        except Refused as refusal:
            return chat_views.refused(refusal), gr.skip(), gr.skip(), gr.skip()
        return await _changed(chat, change, request)

    async def _changed(chat: str | None, change: Mapping[str, object], request: gr.Request) -> Drawn:
        visitor = visitor_of(request, client, settings)
        try:
            one = await visitor.change_conversation(chat or "", change)
            chosen = _choices(await visitor.models(), one)
            listed = chat_views.side(await visitor.conversations(), one["id"])
        except Refused as refusal:
            return chat_views.refused(refusal), gr.skip(), gr.skip(), gr.skip()
        return "", listed, chat_views.head(one, chosen), chat_views.state("Changed from the next answer on.")

    async def delete(chat: str | None, request: gr.Request) -> Drawn:
        visitor = visitor_of(request, client, settings)
        running.stop(str(request.session_hash))
        try:
            await visitor.delete_conversation(chat or "")
            running.drop(str(request.session_hash))
            problem, side, head, _, live, _, *rest = await _whole(visitor, "")
        except Refused as refusal:
            return (chat_views.refused(refusal), *(gr.skip() for _ in whole[1:]))
        return problem, side, head, fragment("chat_deleted"), live, chat_views.state("It was deleted."), *rest

    async def halt(request: gr.Request) -> None:
        running.stop(str(request.session_hash))

    async def show_policy(request: gr.Request) -> str:
        try:
            return chat_views.policy(await visitor_of(request, client, settings).guard())
        except Refused:
            return ""  # whoever may not ask is told where they try to

    several: dict[str, Any] = {**OPTIONS, "show_progress": "hidden", "trigger_mode": "multiple"}
    opening.show(show, *whole)
    opening.show(show_policy, policy)
    send.click(ask, [chat, at, model, text, *tuned], answered, **several)
    pressed("chat-again").click(again, chat, answered, **several)
    stop.click(halt, None, None, **OPTIONS)
    pressed("chat-edit").click(edit, [chat, at], [problem, editing, text], **OPTIONS)
    pressed("chat-unedit").click(lambda: ("", ""), None, [editing, text], **OPTIONS)
    changed = [problem, side, head, state]
    pressed("chat-rename").click(rename, [chat, title], changed, **OPTIONS)
    pressed("chat-choose").click(choose, [chat, model], changed, **OPTIONS)
    apply.click(set_up, [chat, *tuned], changed, **OPTIONS)
    pressed("chat-delete").click(delete, chat, whole, **OPTIONS)


async def _whole(visitor: Visitor, named: str, everything: bool = False) -> Drawn:
    """Everything of the page for one conversation, or for a new one."""
    listed, models = await visitor.conversations(), await visitor.models()
    one = await visitor.conversation(named) if named else None
    chosen = chat_views.choices(models, str(one["model"]) if one else "")
    if chosen is None and one is not None:
        chosen = chat_views.only(str(one["model"]))
    if chosen is None:
        head, talk, model = "", fragment("chat_no_model"), ""
    else:
        model = chosen.chosen
        head = chat_views.head(one, chosen)
        talk = chat_views.talk(one, everything=everything) if one else fragment("chat_begin")
    may_send = gr.update(interactive=chosen is not None)
    tuned = [_shown(one.get(key)) if one else "" for key in ("system", *(key for key, _, _ in _NUMBERS))]
    side, current = chat_views.side(listed, named), str(one["id"]) if one else ""
    tune = gr.update(visible=bool(listed.get("may_tune")) and chosen is not None)
    return "", side, head, talk, "", "", "", may_send, gr.update(interactive=False), current, "", model, tune, *tuned


@dataclass(frozen=True, slots=True)
class _Moment:
    """What changes on the page. `taken`: the question was accepted just now. `over`: nothing more comes. `lost`: and
    nothing was kept, of the question neither."""

    problem: Any = field(default_factory=gr.skip)
    talk: Any = field(default_factory=gr.skip)
    live: Any = field(default_factory=gr.skip)
    state: Any = field(default_factory=gr.skip)
    taken: bool = False
    over: bool = False
    lost: bool = False


async def _answer(
    visitor: Visitor, one: Json, asked: Mapping[str, object], sign: asyncio.Event
) -> AsyncGenerator[_Moment]:
    """The moments of one answer. The API keeps nothing before the first piece, and neither does the page."""
    before: list[Json] = one["turns"]
    keep = _kept(before, asked)
    question = [{"at": keep, "role": "user", "text": asked["text"], "time": _now()}] if "text" in asked else []
    going = {**one, "turns": [*before[:keep], *question]}
    by, text, drawn_at, kept = str(one["model"]), "", 0.0, None
    drawn = chat_views.talk(going, answering=True), chat_views.live(by, "")
    yield _Moment("", *drawn, chat_views.state(_ANSWERING))
    try:
        async with aclosing(until(visitor.answer(str(one["id"]), asked), sign)) as news:
            async for line in news:
                if line is not None and "kept" in line:
                    kept = line["kept"]
                elif line is not None and "piece" in line:
                    first, text = not text, text + str(line["piece"]["text"])
                    if first or time.monotonic() - drawn_at >= _DRAW_EVERY_S:
                        drawn_at = time.monotonic()
                        yield _Moment(live=chat_views.live(by, text), taken=first and bool(question))
    except Refused as refusal:
        # Nothing was kept unless a piece came: then the conversation is read again, as it is.
        shown = await _read_again(visitor, one) if text else one
        yield _Moment(chat_views.refused(refusal), chat_views.talk(shown), "", "", over=True, lost=not text)
        return
    if kept is None:
        left = await _read_again(visitor, one)
        lost = len(left["turns"]) == len(before)
        yield _Moment("", chat_views.talk(left), "", chat_views.state(_STOPPED), over=True, lost=lost)
        return
    whole = chat_views.talk({**going, "turns": [*going["turns"], kept]})
    yield _Moment("", whole, "", chat_views.state(_COMPLETE), taken=bool(question) and not text, over=True)


async def _let_go(visitor: Visitor, one: Json) -> tuple[Any, Any, Any] | None:
    """List, head and messages without a conversation that was begun for a message of which nothing was kept.

    Its title would go on to hold the first words of what was refused. None where it cannot be deleted.
    """
    try:
        await visitor.delete_conversation(str(one["id"]))
        listed, models = await visitor.conversations(), await visitor.models()
    except Refused:
        return None
    return chat_views.side(listed, ""), chat_views.head(None, _choices(models, one)), fragment("chat_begin", left=True)


async def _read_again(visitor: Visitor, one: Json) -> Json:
    try:
        return await visitor.conversation(str(one["id"]))
    except Refused:
        return one  # the refusal that brought us here is on the screen


def _kept(turns: list[Json], asked: Mapping[str, object]) -> int:
    """How many messages stay as they are."""
    if "at" in asked:
        return int(str(asked["at"]))
    if "text" in asked:
        return len(turns)
    return max((int(turn["at"]) + 1 for turn in turns if turn["role"] == "user"), default=0)


def _choices(models: Json, one: Json) -> Choices:
    model = str(one["model"])
    return chat_views.choices(models, model) or chat_views.only(model)


def _title(text: str) -> str:
    """The first words of the first message."""
    words = " ".join(text.split())
    return words if len(words) <= _TITLE_CHARS else words[:_TITLE_CHARS].rsplit(" ", 1)[0] + "…"


def _given(
    system: str | None,
    temperature: str | None,
    max_tokens: str | None,
    seed: str | None,
    *,
    every: bool = False,
) -> dict[str, object]:
    """What was filled in, as the API takes it; `every`: empty fields too, which set back. Raises `Refused`."""
    given: dict[str, object] = {"system": (system or "").strip()} if every or (system or "").strip() else {}
    for (key, name, kind), value in zip(_NUMBERS, (temperature, max_tokens, seed), strict=True):
        value = (value or "").strip()
        if value:
            try:
                given[key] = kind(value)
            except ValueError:
                raise Refused(400, "invalid_request", f"{name.lower()} is not a number", "write it in digits") from None
        elif every:
            given[key] = None
    return given


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
