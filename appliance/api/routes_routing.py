"""Routes that choose the specialist: whose is a text, and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from appliance.api.disconnects import unless_disconnected
from appliance.api.schemas import RunRequest, run_request
from appliance.api.schemas_routing import RouteBody, RoutedRunResponse, RouteTextRequest, route_body, routed_response
from appliance.api.security import appliance_of, current_principal
from appliance.service.routing import RouteRequest, answer_routed, route
from appliance.specialists.router import AUTO
from appliance.types import Material, Principal

routes = APIRouter(prefix="/v1", tags=["text"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.post("/route")
async def route_text(request: Request, body: RouteTextRequest, caller: Caller) -> RouteBody:
    """Choose the specialist for a text, with the nearest examples, the runner-up, or why none was chosen."""
    wanted = RouteRequest(Material(body.text), body.subject)
    released = await unless_disconnected(request, route(appliance_of(request), caller, wanted))
    return route_body(released.value, released.receipt)


@routes.post("/specialists/auto/run", response_model_exclude_unset=True)
async def run_routed(request: Request, body: RunRequest, caller: Caller) -> RoutedRunResponse:
    """Choose the specialist and run it. Where the router abstains, the error says what came nearest."""
    wanted = run_request(body, AUTO)
    routed = await unless_disconnected(request, answer_routed(appliance_of(request), caller, wanted))
    assert routed.route is not None
    response = routed_response(routed.released, routed.route)
    request.app.state.metrics.characters.labels(response.specialist.id).inc(wanted.material.chars)
    return response
