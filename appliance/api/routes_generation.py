"""Routes as OpenAI's clients call them: chats, with models that write and with specialists; completions; which models
there are.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from appliance.api import schemas_models
from appliance.api.denied import note_error
from appliance.api.disconnects import ClosingResponse, unless_disconnected
from appliance.api.error_responses import error_body, status_of
from appliance.api.schemas_audit import receipt_body
from appliance.api.schemas_chat import (
    AnswerHead,
    ChatCompletionRequest,
    CompletionRequest,
    Kind,
    calls_event,
    last_event,
    piece_event,
    usage_event,
    whole_answer,
)
from appliance.api.schemas_guard import guard_extra
from appliance.api.security import appliance_of, current_principal
from appliance.api.specialist_chat import FINISHED, Said, route_extra, route_headers, said_by_specialist
from appliance.api.streams import MEDIA_TYPE, chained, event_text, receipt_headers, stream_headers
from appliance.api.streams import Written as Event
from appliance.errors import ApplianceError, ModelNotFound, SpecialistNotFound
from appliance.service import generation, models, specialists
from appliance.service.chat import Chosen, choose
from appliance.service.generation import Piece, Wanted
from appliance.specialists.router import AUTO
from appliance.types import Principal

routes = APIRouter(prefix="/v1", tags=["models that write"])
Caller = Annotated[Principal, Depends(current_principal)]
_DONE = "data: [DONE]\n\n"


@routes.post("/chat/completions", response_class=JSONResponse)
async def chat_completions(request: Request, body: ChatCompletionRequest, caller: Caller) -> Response:
    """Continue a conversation. With `stream`, server-sent events; each piece leaves once its record is in the log.

    `model`: one that writes; a specialist, which reads the last message of the user; or `auto`, which chooses.
    """
    return await _answer(request, body, caller, "chat")


@routes.post("/completions", response_class=JSONResponse)
async def completions(request: Request, body: CompletionRequest, caller: Caller) -> Response:
    """Continue a text, without the model's chat template."""
    return await _answer(request, body, caller, "text")


@routes.get("/models")
async def list_models(request: Request, caller: Caller) -> dict[str, Any]:
    """Models that write, specialists, and `auto`, which chooses among them."""
    appliance = appliance_of(request)
    entries = await models.list_models(appliance.config, appliance.audit, caller)
    cards = await specialists.list_cards(appliance.registry, appliance.audit, caller)
    data = [schemas_models.local_model(entry) for entry in entries]
    data += [schemas_models.upstream_model(name, one) for name, one in appliance.config.upstream.models.items()]
    data += [schemas_models.specialist(card) for card in cards]
    return {"object": "list", "data": [*data, schemas_models.router()]}


@routes.get("/models/{model}")
async def show_model(request: Request, model: str, caller: Caller) -> dict[str, Any]:
    """What one can be asked for; of a model that writes also what its file says of it, and where it came from."""
    appliance = appliance_of(request)
    if model == AUTO:
        await models.show_router(appliance.audit, caller)
        return schemas_models.router()
    upstream = await models.show_upstream(appliance.config, appliance.audit, caller, model)
    if upstream is not None:
        return schemas_models.upstream_model(model, upstream)
    try:
        entry = await models.show_model(appliance.config, appliance.audit, caller, model)
    except ModelNotFound as nobody:
        try:
            card = await specialists.show_card(appliance.registry, appliance.audit, caller, model)
        except SpecialistNotFound:
            raise nobody from None
        return schemas_models.specialist(card)
    memory = await asyncio.to_thread(models.memory_of, appliance.config.generation, entry)
    return schemas_models.local_model(entry) | schemas_models.local_model_facts(entry, memory.total)


async def _answer(
    request: Request, body: ChatCompletionRequest | CompletionRequest, caller: Principal, kind: Kind
) -> Response:
    wanted = Wanted(body.model, body.request(caller.id), body.subject)
    head = AnswerHead(kind, f"{'chatcmpl' if kind == 'chat' else 'cmpl'}-{secrets.token_hex(12)}", body.model, _now())
    appliance = appliance_of(request)
    chosen = Chosen(wanted, model=body.model)  # a text is continued by models only
    if kind == "chat":
        chosen = await unless_disconnected(request, choose(appliance, caller, wanted))
        head = replace(head, model=chosen.specialist or chosen.model or body.model)
    if not chosen.model:
        return _said(await said_by_specialist(request, caller, chosen), head, body, chosen)
    if not body.stream:
        released = await unless_disconnected(request, generation.generate(appliance, caller, chosen.wanted))
        written, receipt = released.value, released.receipt
        said = receipt_body(receipt)
        answer = whole_answer(head, written.text, written.finish, written.logprobs, said, written.calls)
        answer |= route_extra(chosen) | guard_extra(written.guard)
        return JSONResponse(answer, headers=receipt_headers(receipt) | route_headers(chosen))
    pieces = generation.stream(appliance, caller, chosen.wanted)
    # Whatever can be refused is refused here, as an error with its status and not as an event of a stream.
    first = await unless_disconnected(request, anext(pieces))  # type: ignore[arg-type]  # what `anext` returns is awaited once
    events = _events(request, head, first, pieces, body.wants_usage, chosen)
    headers = stream_headers(first.receipt) | route_headers(chosen)
    return ClosingResponse(events, source=pieces, media_type=MEDIA_TYPE, headers=headers)


def _said(said: Said, head: AnswerHead, body: ChatCompletionRequest | CompletionRequest, chosen: Chosen) -> Response:
    """What no model wrote, as a completion; where a stream was asked for, as one of a single piece."""
    receipt = receipt_body(said.receipt)
    if not body.stream:
        answer = whole_answer(head, said.text, FINISHED, None, receipt) | {"usage": None} | said.extra
        return JSONResponse(answer, headers=receipt_headers(said.receipt) | route_headers(chosen))
    events = [piece_event(head, said.text, first=True), last_event(head, FINISHED, receipt, said.extra)]
    events += [usage_event(head, FINISHED)] if body.wants_usage else []
    headers = stream_headers(said.receipt) | route_headers(chosen)
    return Response("".join(map(event_text, events)) + _DONE, media_type=MEDIA_TYPE, headers=headers)


async def _events(
    request: Request,
    head: AnswerHead,
    first: Event,
    pieces: AsyncGenerator[Event, None],
    wants_usage: bool,
    chosen: Chosen,
) -> AsyncGenerator[str]:
    """Server-sent events of one answer. A failure after the first piece is an event too, and nothing follows it."""
    try:
        begun, calls = False, 0
        async for released in chained(first, pieces):
            value = released.value
            if isinstance(value, Piece):
                if value.text or value.logprobs or not value.calls:
                    yield event_text(piece_event(head, value.text, value.logprobs, first=not begun))
                    begun = True
                if value.calls:
                    yield event_text(calls_event(head, value.calls, calls, first=not begun))
                    begun, calls = True, calls + len(value.calls)
                continue
            if not begun:
                yield event_text(piece_event(head, "", first=True))
            extra = route_extra(chosen) | guard_extra(value.guard)
            yield event_text(last_event(head, value, receipt_body(released.receipt), extra))
            if wants_usage:
                yield event_text(usage_event(head, value))
        yield _DONE
    except ApplianceError as error:
        await note_error(request, error)
        yield event_text(error_body(error.code, error.message, status_of(error), error.hint))


def _now() -> int:
    return int(time.time())
