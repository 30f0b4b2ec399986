"""Route that looks through a whole document: the best passages of each label."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from appliance.api.disconnects import unless_disconnected
from appliance.api.schemas_finding import FindBody, FindResponse, find_response
from appliance.api.security import appliance_of, current_principal
from appliance.service.finding import FindRequest, find_passages
from appliance.types import Principal

routes = APIRouter(prefix="/v1", tags=["text"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.post("/specialists/{specialist}/find")
async def find(request: Request, specialist: str, body: FindBody, caller: Caller) -> FindResponse:
    """Find in a long document, a contract say, the best passages of each label of a multi-label classifier."""
    wanted = FindRequest(body.text, specialist, tuple(body.labels), body.per_label, body.subject)
    released = await unless_disconnected(request, find_passages(appliance_of(request), caller, wanted))
    request.app.state.metrics.characters.labels(released.value.specialist.id).inc(len(body.text))
    return find_response(released.value, released.receipt)
