"""Routes that work on text: de-identify, run a specialist, list specialists."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from appliance.api.disconnects import unless_disconnected
from appliance.api.schemas import (
    DeidentifyRequest,
    DeidentifyResponse,
    RunRequest,
    RunResponse,
    deidentify_response,
    run_response,
)
from appliance.api.security import appliance_of, current_principal
from appliance.service import specialists
from appliance.service.requests import Operation, SpecialistRequest, answer
from appliance.types import Principal

routes = APIRouter(prefix="/v1", tags=["text"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.post("/deidentify")
async def deidentify(request: Request, body: DeidentifyRequest, caller: Caller) -> DeidentifyResponse:
    """Find identifiers in a text and replace them. Everything else stays, character for character."""
    wanted = SpecialistRequest(body.text, body.specialist, Operation.DEIDENTIFY, body.style)
    released = await unless_disconnected(request, answer(appliance_of(request), caller, wanted))
    _count(request, released.value.specialist.id, body.text)
    return deidentify_response(released.value, released.receipt, body.style)


@routes.post("/specialists/{specialist}/run")
async def run(request: Request, specialist: str, body: RunRequest, caller: Caller) -> RunResponse:
    """Run one specialist on a text: spans of a tagger, labels of a classifier."""
    wanted = SpecialistRequest(body.text, specialist)
    released = await unless_disconnected(request, answer(appliance_of(request), caller, wanted))
    _count(request, released.value.specialist.id, body.text)
    return run_response(released.value, released.receipt)


@routes.get("/specialists")
async def list_specialists(request: Request, caller: Caller) -> dict[str, Any]:
    """Which specialists are installed, what each is for and how good it was measured to be."""
    registry = appliance_of(request).registry
    return {"data": await asyncio.to_thread(specialists.list_cards, registry, caller)}


@routes.get("/specialists/{specialist}")
async def show_specialist(request: Request, specialist: str, caller: Caller) -> dict[str, Any]:
    """The whole card of one specialist."""
    return await asyncio.to_thread(specialists.show_card, appliance_of(request).registry, caller, specialist)


def _count(request: Request, specialist: str, text: str) -> None:
    request.app.state.metrics.characters.labels(specialist).inc(len(text))
