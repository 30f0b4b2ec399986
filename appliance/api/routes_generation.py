"""Routes of the models that write, as OpenAI's clients call them: chats, completions, and which models there are."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from appliance.api.denied import note_error
from appliance.api.disconnects import unless_disconnected
from appliance.api.error_responses import error_body, status_of
from appliance.api.schemas import receipt_body
from appliance.api.schemas_chat import (
    AnswerHead,
    ChatCompletionRequest,
    CompletionRequest,
    Kind,
    last_event,
    piece_event,
    usage_event,
    whole_answer,
)
from appliance.api.security import appliance_of, current_principal
from appliance.audit.gate import Released
from appliance.engine.generation.values import Finish
from appliance.errors import ApplianceError
from appliance.service import generation, models, specialists
from appliance.service.generation import Piece, Wanted
from appliance.types import Principal, Receipt

routes = APIRouter(prefix="/v1", tags=["models that write"])
Caller = Annotated[Principal, Depends(current_principal)]
RECEIPT_HEADER = "Cloister-Receipt"
_DONE = "data: [DONE]\n\n"
Event = Released[Piece] | Released[Finish]


@routes.post("/chat/completions", response_class=JSONResponse)
async def chat_completions(request: Request, body: ChatCompletionRequest, caller: Caller) -> Response:
    """Continue a conversation. With `stream`, server-sent events; each piece leaves once its record is in the log."""
    return await _answer(request, body, caller, "chat")


@routes.post("/completions", response_class=JSONResponse)
async def completions(request: Request, body: CompletionRequest, caller: Caller) -> Response:
    """Continue a text, without the model's chat template."""
    return await _answer(request, body, caller, "text")


@routes.get("/models")
async def list_models(request: Request, caller: Caller) -> dict[str, Any]:
    """Models that write, specialists, and `auto`, which chooses among the specialists."""
    appliance = appliance_of(request)
    entries = await models.list_models(appliance.config, appliance.audit, caller)
    cards = await specialists.list_cards(appliance.registry, appliance.audit, caller)
    data = [_model(entry.id, entry.manifest.added_ms // 1000, "model") for entry in entries]
    data += [_model(card["id"], 0, "specialist") for card in cards]
    return {"object": "list", "data": [*data, _model("auto", 0, "router")]}


@routes.get("/models/{model}")
async def show_model(request: Request, model: str, caller: Caller) -> dict[str, Any]:
    """One model that writes: what its file says of it, and where it came from."""
    appliance = appliance_of(request)
    entry = await models.show_model(appliance.config, appliance.audit, caller, model)
    facts, origin = entry.manifest.facts, entry.manifest.origin
    about = {
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "quantization": facts.quantization,
        "context_tokens": facts.context_tokens,
        "chat_template": facts.chat_template,
        "licence": entry.manifest.licence,
        "sha256": entry.manifest.sha256,
        "repository": origin.repository,
        "revision": origin.revision,
        "memory_bytes": models.memory_of(entry).total_bytes,
    }
    return _model(entry.id, entry.manifest.added_ms // 1000, "model") | about


async def _answer(
    request: Request, body: ChatCompletionRequest | CompletionRequest, caller: Principal, kind: Kind
) -> Response:
    wanted = Wanted(body.model, body.request(caller.id), body.subject)
    head = AnswerHead(kind, f"{'chatcmpl' if kind == 'chat' else 'cmpl'}-{secrets.token_hex(12)}", body.model, _now())
    appliance = appliance_of(request)
    if not body.stream:
        released = await unless_disconnected(request, generation.generate(appliance, caller, wanted))
        written, receipt = released.value, released.receipt
        answer = whole_answer(head, written.text, written.finish, written.logprobs, receipt_body(receipt))
        return JSONResponse(answer, headers=_receipt_headers(receipt))
    pieces = generation.stream(appliance, caller, wanted)
    # Whatever can be refused is refused here, as an error with its status and not as an event of a stream.
    first = await unless_disconnected(request, anext(pieces))  # type: ignore[arg-type]  # what `anext` returns is awaited once
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **_receipt_headers(first.receipt)}
    events = _events(request, head, first, pieces, body.wants_usage)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _events(
    request: Request, head: AnswerHead, first: Event, pieces: AsyncGenerator[Event, None], wants_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events of one answer. A failure after the first piece is an event too, and nothing follows it."""
    async with aclosing(pieces):
        try:
            begun = False
            async for released in _chained(first, pieces):
                value = released.value
                if isinstance(value, Piece):
                    yield _event(piece_event(head, value.text, value.logprobs, first=not begun))
                    begun = True
                    continue
                if not begun:
                    yield _event(piece_event(head, "", first=True))
                yield _event(last_event(head, value, receipt_body(released.receipt)))
                if wants_usage:
                    yield _event(usage_event(head, value))
            yield _DONE
        except ApplianceError as error:
            await note_error(request, error)
            yield _event(error_body(error.code, error.message, status_of(error), error.hint))


async def _chained(first: Event, rest: AsyncGenerator[Event, None]) -> AsyncIterator[Event]:
    yield first
    async for event in rest:
        yield event


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _receipt_headers(receipt: Receipt) -> dict[str, str]:
    """The receipt as a proof file in base64: of the whole answer, or of the first piece of a stream."""
    return {RECEIPT_HEADER: base64.b64encode(receipt_body(receipt).proof_file.encode()).decode()}


def _model(model: str, created: int, kind: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": created, "owned_by": "site", "kind": kind}


def _now() -> int:
    return int(time.time())
