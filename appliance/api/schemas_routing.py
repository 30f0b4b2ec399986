"""Bodies of the routes that choose the specialist."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from appliance.api.schemas import RunResponse, run_response
from appliance.api.schemas_audit import ReceiptBody, receipt_body
from appliance.audit.gate import Released
from appliance.service.requests import Answer
from appliance.specialists.router import Route
from appliance.types import Receipt


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
