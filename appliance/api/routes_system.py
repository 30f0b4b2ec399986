"""Routes for whoever runs the machine: is it alive, is it ready, how busy is it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from appliance import __version__
from appliance.accounts.actions import Action, authorize
from appliance.api.metrics import CONTENT_TYPE
from appliance.api.security import appliance_of, current_principal
from appliance.types import Principal

routes = APIRouter(tags=["system"])


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers. Needs no key; says nothing else."""
    return {"status": "ok"}


@routes.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Requests can be served: the engine is up and the audit log can record."""
    appliance = appliance_of(request)
    engine = appliance.engine.status().state
    checks = {"engine": engine, "audit": "ready" if appliance.audit.alive else "unavailable"}
    ready = all(state == "ready" for state in checks.values())
    body: dict[str, Any] = {"status": "ready" if ready else "unavailable", "checks": checks, "version": __version__}
    return JSONResponse(body, 200 if ready else 503)


@routes.get("/metrics", response_class=Response)
async def metrics(request: Request, caller: Annotated[Principal, Depends(current_principal)]) -> Response:
    """Prometheus' text format. Needs a key with the scope `system.status`."""
    authorize(caller, Action.SYSTEM_STATUS)
    return Response(request.app.state.metrics.render(appliance_of(request)), media_type=CONTENT_TYPE)
