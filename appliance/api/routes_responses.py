"""Route of OpenAI's newer form of chats: `/v1/responses`, whole or as a stream of named events."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from appliance.api.denied import note_error
from appliance.api.disconnects import ClosingResponse, unless_disconnected
from appliance.api.schemas import receipt_body
from appliance.api.schemas_guard import guard_extra
from appliance.api.schemas_responses import Event, ResponseEvents, ResponseHead, ResponsesRequest
from appliance.api.security import appliance_of, current_principal
from appliance.api.specialist_chat import FINISHED, Said, route_extra, route_headers, said_by_specialist
from appliance.api.streams import MEDIA_TYPE, Written, chained, event_text, receipt_headers, stream_headers
from appliance.errors import ApplianceError
from appliance.service import generation
from appliance.service.chat import Chosen, choose
from appliance.service.generation import Piece, Wanted
from appliance.types import Principal

routes = APIRouter(prefix="/v1", tags=["models that write"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.post("/responses", response_class=JSONResponse)
async def responses(request: Request, body: ResponsesRequest, caller: Caller) -> Response:
    """Answer a text or a conversation. Nothing of it is kept but the record in the log."""
    wanted = Wanted(body.model, body.request(caller.id), body.subject)
    appliance = appliance_of(request)
    chosen = await unless_disconnected(request, choose(appliance, caller, wanted))
    who = chosen.specialist or chosen.model
    head = ResponseHead.of(body, f"resp_{secrets.token_hex(16)}", int(time.time()), who)
    if not chosen.model:
        return _said(await said_by_specialist(request, caller, chosen), head, body, chosen)
    if not body.stream:
        released = await unless_disconnected(request, generation.generate(appliance, caller, chosen.wanted))
        written, receipt = released.value, released.receipt
        extra = route_extra(chosen) | guard_extra(written.guard)
        output = head.output(written.text, written.calls, written.finish)
        answer = head.complete(output, written.finish, receipt_body(receipt), extra)
        return JSONResponse(answer, headers=receipt_headers(receipt) | route_headers(chosen))
    pieces = generation.stream(appliance, caller, chosen.wanted)
    # Whatever can be refused is refused here, as an error with its status and not as an event of a stream.
    first = await unless_disconnected(request, anext(pieces))  # type: ignore[arg-type]  # what `anext` returns is awaited once
    events = _events(request, ResponseEvents(head), first, pieces, chosen)
    headers = stream_headers(first.receipt) | route_headers(chosen)
    return ClosingResponse(events, source=pieces, media_type=MEDIA_TYPE, headers=headers)


def _said(said: Said, head: ResponseHead, body: ResponsesRequest, chosen: Chosen) -> Response:
    """What no model wrote, as a response; where a stream was asked for, as one of a single piece."""
    receipt = receipt_body(said.receipt)
    if not body.stream:
        output = head.output(said.text, (), FINISHED)
        answer = head.complete(output, FINISHED, receipt, {"usage": None} | said.extra)
        return JSONResponse(answer, headers=receipt_headers(said.receipt) | route_headers(chosen))
    events = ResponseEvents(head)
    text = _text([*events.begin(), *events.delta(said.text), *events.end(FINISHED, receipt, said.extra)])
    return Response(text, media_type=MEDIA_TYPE, headers=stream_headers(said.receipt) | route_headers(chosen))


async def _events(
    request: Request, events: ResponseEvents, first: Written, pieces: AsyncGenerator[Written, None], chosen: Chosen
) -> AsyncGenerator[str]:
    """Server-sent events of one response. A failure after the first piece is an event too, and nothing follows it."""
    yield _text(events.begin())
    try:
        async for released in chained(first, pieces):
            value = released.value
            if isinstance(value, Piece):
                if value.text:
                    yield _text(events.delta(value.text))
                if value.calls:
                    yield _text(events.called(value.calls))
            else:
                extra = route_extra(chosen) | guard_extra(value.guard)
                yield _text(events.end(value, receipt_body(released.receipt), extra))
    except ApplianceError as error:
        await note_error(request, error)
        yield _text(events.failed(error.code, error.message))


def _text(events: Iterable[Event]) -> str:
    return "".join(event_text(data, name) for name, data in events)
