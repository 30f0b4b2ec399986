"""Routes of conversations: one's own, kept sealed, answered piece by piece."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from appliance.api.denied import note_error
from appliance.api.disconnects import ClosingResponse, unless_disconnected
from appliance.api.error_responses import error_body, status_of
from appliance.api.schemas import receipt_body
from appliance.api.schemas_chat import usage_body
from appliance.api.schemas_conversations import (
    AnswerRequest,
    ConversationChange,
    NewConversation,
    conversation_body,
    turn_body,
    view_body,
)
from appliance.api.security import appliance_of, current_principal
from appliance.errors import ApplianceError
from appliance.service import conversations
from appliance.service.conversations import Kept, Told
from appliance.service.generation import Ended, Piece
from appliance.types import Principal

routes = APIRouter(prefix="/v1/conversations", tags=["conversations"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.get("")
async def list_conversations(request: Request, caller: Caller) -> dict[str, Any]:
    """One's own conversations, the one that was changed last first. `may_tune`: parameters are theirs to set."""
    views = await conversations.list_conversations(appliance_of(request), caller)
    return {"data": [view_body(view) for view in views], "may_tune": conversations.may_tune(caller)}


@routes.post("", status_code=201)
async def create_conversation(request: Request, body: NewConversation, caller: Caller) -> dict[str, Any]:
    """Begin a conversation. It is kept under a key of its own until it is deleted or its time is over."""
    return conversation_body(await conversations.create_conversation(appliance_of(request), caller, body.wish()))


@routes.get("/{conversation}")
async def show_conversation(request: Request, conversation: str, caller: Caller) -> dict[str, Any]:
    """One of one's own conversations, with its turns."""
    return conversation_body(await conversations.show_conversation(appliance_of(request), caller, conversation))


@routes.patch("/{conversation}")
async def change_conversation(
    request: Request, conversation: str, body: ConversationChange, caller: Caller
) -> dict[str, Any]:
    """Rename it, or choose another model, instructions or parameters."""
    appliance = appliance_of(request)
    return conversation_body(await conversations.change_conversation(appliance, caller, conversation, body.wish()))


@routes.delete("/{conversation}", status_code=204)
async def delete_conversation(request: Request, conversation: str, caller: Caller) -> Response:
    """Destroy its key, and with it the conversation, for ever. The records in the audit log stay."""
    await conversations.delete_conversation(appliance_of(request), caller, conversation)
    return Response(status_code=204)


@routes.post("/{conversation}/answer", response_class=StreamingResponse)
async def answer(request: Request, conversation: str, body: AnswerRequest, caller: Caller) -> ClosingResponse:
    """Ask, ask otherwise, or let the last answer be given again, as JSON lines: `piece`, `end`, at last `kept` or
    `error`.

    Each piece leaves once its record is in the log. Closing the connection ends the answer; what was there is kept.
    `left_out`: so many of the oldest turns did not fit and were not read.
    """
    told = conversations.converse(appliance_of(request), caller, conversation, body.ask())
    # Whatever can be refused is refused here, as an error with its status and not as a line.
    first = await unless_disconnected(request, anext(told))  # type: ignore[arg-type]  # what `anext` returns is awaited once
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    lines = _lines(request, first, told)
    return ClosingResponse(lines, source=told, media_type="application/x-ndjson", headers=headers)


async def _lines(request: Request, first: Told, told: AsyncGenerator[Told, None]) -> AsyncGenerator[bytes]:
    """Each step as a line. A failure after the first is a line too, and nothing follows it."""
    try:
        yield _line(first)
        async for each in told:
            yield _line(each)
    except ApplianceError as error:
        await note_error(request, error)
        yield _json(error_body(error.code, error.message, status_of(error), error.hint))


def _line(told: Told) -> bytes:
    if isinstance(told, Kept):
        return _json({"kept": turn_body(told.turn, told.at)})
    value = told.value
    if isinstance(value, Piece):
        return _json({"piece": {"text": value.text}})
    assert isinstance(value, Ended), "a stream of a model has pieces and a finish"
    receipt = receipt_body(told.receipt).model_dump()
    end = {"finish": value.reason, "usage": usage_body(value), "left_out": value.left_out, "receipt": receipt}
    return _json({"end": end})


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
