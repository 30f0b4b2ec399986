"""Routes for whoever runs the machine: is it alive, is it ready, how busy is it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from appliance import __version__
from appliance.accounts.actions import Action, authorize
from appliance.api.metrics import CONTENT_TYPE
from appliance.api.schemas_protection import CapacityList, ProtectionBody, capacity_list, protection_body
from appliance.api.security import appliance_of, current_principal
from appliance.service.audit_state import audit_state
from appliance.service.capacity import show_capacity
from appliance.service.events import record_reading
from appliance.service.protection import show_protection
from appliance.types import Principal

routes = APIRouter(tags=["system"])

_REASONS = {
    "paused": "the disk of the audit log is nearly full; recording resumes by itself when there is space",
    "quarantined": "something outside remembers another or a longer audit log; run `appliance doctor`",
    "unavailable": "the audit log does not record; run `appliance doctor`",
}


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers. Needs no key; says nothing else."""
    return {"status": "ok"}


@routes.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Requests can be served: the engine is up and the audit log can record. If not, `reasons` says why."""
    appliance = appliance_of(request)
    log = audit_state(appliance.audit)
    checks = {"engine": appliance.engine.status().state, "audit": log.state}
    ready = all(state == "ready" for state in checks.values())
    body: dict[str, Any] = {"status": "ready" if ready else "unavailable", "checks": checks, "version": __version__}
    if log.state != "ready":
        # Probes need no key: a stranger learns what is wrong, and nothing of where or who.
        body["reasons"] = {"audit": _REASONS[log.state]}
    return JSONResponse(body, 200 if ready else 503)


@routes.get("/metrics", response_class=Response)
async def metrics(request: Request, caller: Annotated[Principal, Depends(current_principal)]) -> Response:
    """Prometheus' text format. Needs a key with the scope `system.status`. Reading is itself recorded."""
    authorize(caller, Action.SYSTEM_STATUS)
    appliance = appliance_of(request)
    # Figures about the machine show nothing of anybody. While nothing can be recorded they stay readable, so that an
    # alarm about exactly that can be raised.
    if audit_state(appliance.audit).state == "ready":
        await record_reading(appliance.audit, caller, "system.metrics")
    # Read in a thread: the log's database may be busy, and everybody else's requests are served meanwhile.
    window = await asyncio.to_thread(appliance.anchors.exposure) if appliance.anchors is not None else None
    return Response(request.app.state.metrics.render(appliance, window), media_type=CONTENT_TYPE)


@routes.get("/v1/system/protection")
async def protection(request: Request, caller: Annotated[Principal, Depends(current_principal)]) -> ProtectionBody:
    """What protects this site: the last proof that nothing leaves, backup, its rehearsal, recovery kit, certificate."""
    appliance = appliance_of(request)
    return protection_body(await show_protection(appliance.config, appliance.audit, caller))


@routes.get("/v1/system/capacity")
async def capacity(request: Request, caller: Annotated[Principal, Depends(current_principal)]) -> CapacityList:
    """How many people each model serves at once here, as it was last measured with `appliance doctor --capacity`."""
    appliance = appliance_of(request)
    return capacity_list(await show_capacity(appliance.config, appliance.audit, caller))
