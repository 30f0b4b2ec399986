"""Routes that work on text: de-identify, run a specialist, list specialists."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from appliance.api.disconnects import unless_disconnected
from appliance.api.schemas import (
    DeidentifyRequest,
    DeidentifyResponse,
    ReviewRequest,
    RunRequest,
    RunResponse,
    deidentify_response,
    run_request,
    run_response,
)
from appliance.api.schemas_audit import ReceiptBody, receipt_body
from appliance.api.security import appliance_of, current_principal
from appliance.service import specialists
from appliance.service.requests import Operation, SpecialistRequest, answer
from appliance.service.review import Review, record_review
from appliance.types import Principal, Span

routes = APIRouter(prefix="/v1", tags=["text"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.post("/deidentify")
async def deidentify(request: Request, body: DeidentifyRequest, caller: Caller) -> DeidentifyResponse:
    """Find identifiers in a text and replace them. Everything else stays, character for character."""
    wanted = SpecialistRequest(body.text, body.specialist, Operation.DEIDENTIFY, body.style, body.subject)
    released = await unless_disconnected(request, answer(appliance_of(request), caller, wanted))
    _count(request, released.value.specialist.id, wanted)
    return deidentify_response(released.value, released.receipt, body.style)


@routes.post("/specialists/{specialist}/run", response_model_exclude_unset=True)
async def run(request: Request, specialist: str, body: RunRequest, caller: Caller) -> RunResponse:
    """Run one specialist on what its task takes; the response holds what that task gives and nothing else."""
    wanted = run_request(body, specialist)
    released = await unless_disconnected(request, answer(appliance_of(request), caller, wanted))
    _count(request, released.value.specialist.id, wanted)
    return run_response(released.value, released.receipt)


@routes.get("/specialists")
async def list_specialists(request: Request, caller: Caller) -> dict[str, Any]:
    """Which specialists are installed, what each is for and how good it was measured to be."""
    appliance = appliance_of(request)
    return {"data": await specialists.list_cards(appliance.registry, appliance.audit, caller)}


@routes.get("/specialists/{specialist}")
async def show_specialist(request: Request, specialist: str, caller: Caller) -> dict[str, Any]:
    """The whole card of one specialist."""
    appliance = appliance_of(request)
    return await specialists.show_card(appliance.registry, appliance.audit, caller, specialist)


@routes.post("/exchanges/{exchange_id}/review", status_code=201)
async def review(request: Request, exchange_id: str, body: ReviewRequest, caller: Caller) -> ReceiptBody:
    """Record how a person corrected the findings of their own exchange; the corrected spans are sealed as content."""
    appliance = appliance_of(request)
    spans = [Span(span.start, span.end, span.label, 1.0) for span in body.spans]
    receipt = await record_review(appliance, caller, Review(exchange_id, tuple(spans), body.subject))
    return receipt_body(receipt)


def _count(request: Request, specialist: str, wanted: SpecialistRequest) -> None:
    request.app.state.metrics.characters.labels(specialist).inc(wanted.material.chars)
