"""Routes that choose the specialist: whose is a text, and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from appliance.api.disconnects import unless_disconnected
from appliance.api.schemas import ReceiptBody, RunRequest, RunResponse, receipt_body, run_request, run_response
from appliance.api.security import appliance_of, current_principal
from appliance.audit.gate import Released
from appliance.service.requests import Answer
from appliance.service.routing import RouteRequest, answer_routed, route
from appliance.specialists.router import AUTO, Route
from appliance.types import Material, Principal, Receipt

routes = APIRouter(prefix="/v1", tags=["text"])
Caller = Annotated[Principal, Depends(current_principal)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RouteTextRequest(_Body):
    """A text whose specialist is sought; its beginning decides."""

    text: str
    subject: str = Field(default="", description="whom the text is about, as for every request")


class SpecialistScoreBody(_Body):
    """How well one specialist fits; the scores of all that the router knows add up to one."""

    specialist: str
    score: float


class NearExampleBody(_Body):
    """An example request that the text is like; `score` is the cosine of their vectors."""

    specialist: str
    example: str
    score: float


class RouteBody(_Body):
    """What the router chose; `specialist` null: it abstains, and `reason` says what to do."""

    specialist: str | None
    score: float
    reason: str
    runner_up: SpecialistScoreBody | None
    nearest: list[NearExampleBody]
    scores: list[SpecialistScoreBody] = Field(description="of every specialist that the router knows, best first")
    abstained: bool
    receipt: ReceiptBody


class RoutedRunResponse(RunResponse):
    """What the chosen specialist gives, as `POST /v1/specialists/{id}/run`, and the choice."""

    route: RouteBody


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


def routed_response(released: Released[Answer], chosen: Released[Route]) -> RoutedRunResponse:
    """The answer of whoever was chosen, and the choice, each with its receipt."""
    found = run_response(released.value, released.receipt)
    choice = route_body(chosen.value, chosen.receipt)
    return RoutedRunResponse(**found.model_dump(exclude_unset=True), route=choice)


def route_body(decision: Route, receipt: Receipt) -> RouteBody:
    """A decision as JSON; the command prints the same."""
    runner_up = decision.runner_up
    return RouteBody(
        specialist=decision.specialist,
        score=decision.score,
        reason=decision.reason,
        runner_up=None
        if runner_up is None
        else SpecialistScoreBody(specialist=runner_up.specialist, score=runner_up.score),
        nearest=[
            NearExampleBody(specialist=near.specialist, example=near.example, score=near.score)
            for near in decision.nearest
        ],
        scores=[SpecialistScoreBody(specialist=entry.specialist, score=entry.score) for entry in decision.scores],
        abstained=decision.abstained,
        receipt=receipt_body(receipt),
    )
