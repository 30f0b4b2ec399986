"""A specialist's answer in a chat: text for people, and the structured result beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from appliance.api.disconnects import unless_disconnected
from appliance.api.schemas import run_response
from appliance.api.schemas_routing import route_body
from appliance.api.security import appliance_of
from appliance.engine.generation.values import Finish, Usage
from appliance.service.chat import Chosen, answer_words
from appliance.service.requests import Answer, answer
from appliance.types import Principal, Receipt

ROUTE_HEADER = "Cloister-Route"
FINISHED = Finish("stop", Usage(0, 0, 0))  # of an answer that nobody wrote token by token


@dataclass(frozen=True, slots=True)
class Said:
    """What is answered by no model: a specialist's result, or what to do where nobody was chosen."""

    text: str
    extra: dict[str, Any]
    receipt: Receipt


async def said_by_specialist(request: Request, caller: Principal, chosen: Chosen) -> Said:
    """Run the specialist that was chosen; where nobody was, the advice, under the receipt of that decision."""
    if not chosen.specialist:
        assert chosen.route is not None
        return Said(chosen.advice, route_extra(chosen), chosen.route.receipt)
    wanted = chosen.specialist_request()
    released = await unless_disconnected(request, answer(appliance_of(request), caller, wanted))
    request.app.state.metrics.characters.labels(released.value.specialist.id).inc(wanted.material.chars)
    text = answer_words(released.value, wanted.text or "")
    return Said(text, answer_extra(released.value, released.receipt, chosen), released.receipt)


def answer_extra(found_by: Answer, receipt: Receipt, chosen: Chosen) -> dict[str, Any]:
    """The members that a specialist's answer has beside those of every chat."""
    result = run_response(found_by, receipt).model_dump(exclude_unset=True, exclude={"receipt"})
    if found_by.redaction is not None:
        result |= {"text": found_by.redaction.text, "counts": found_by.counts()}
    return {"result": result, **route_extra(chosen)}


def route_extra(chosen: Chosen) -> dict[str, Any]:
    """How it was decided who answers, where nobody was named."""
    decision = chosen.route
    if decision is None:
        return {}
    return {"route": route_body(decision.value, decision.receipt).model_dump()}


def route_headers(chosen: Chosen) -> dict[str, str]:
    """Who was chosen, or `none`, where nobody was named."""
    if chosen.route is None:
        return {}
    return {ROUTE_HEADER: chosen.specialist or chosen.model or "none"}
