"""Routes that decide how long records are kept: legal holds, retention, destruction."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from appliance.api.schemas_keeping import (
    CertificateBody,
    ErasuresBody,
    HoldBody,
    HoldRequestBody,
    HoldsBody,
    ReleaseBody,
    RetentionBody,
    RetentionRunBody,
    RuleRequest,
    ShredRequest,
    certificate_body,
    erasure_body,
    hold_body,
    retention_body,
    retention_run_body,
)
from appliance.api.security import appliance_of, current_principal
from appliance.service import audit_holds, audit_retention
from appliance.types import Principal

routes = APIRouter(prefix="/v1/audit", tags=["audit"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.get("/holds")
async def list_holds(request: Request, caller: Caller) -> HoldsBody:
    """Every legal hold, newest first. Subjects are counted, never named. Reading is itself recorded."""
    appliance = appliance_of(request)
    details = await audit_holds.list_holds(appliance.accounts, appliance.audit, caller)
    return HoldsBody(data=[hold_body(detail) for detail in details])


@routes.post("/holds", status_code=201)
async def place_hold(request: Request, body: HoldRequestBody, caller: Caller) -> HoldBody:
    """Place a legal hold on subjects or whole classes: nothing that it covers is destroyed until it is released."""
    detail = await audit_holds.place_hold(
        appliance_of(request).audit, caller, subjects=body.subjects, classes=body.classes, reason=body.reason
    )
    return hold_body(detail)


@routes.post("/holds/{hold}/release", responses={202: {"model": ReleaseBody, "description": "Another must approve"}})
async def release_hold(request: Request, response: Response, hold: str, caller: Caller) -> ReleaseBody:
    """Ask for the release of a hold (202), or approve what another person asked for within a week (200)."""
    release = await audit_holds.release_hold(appliance_of(request).audit, caller, hold)
    response.status_code = 202 if release.state == "requested" else 200
    return ReleaseBody(state=release.state, by=release.by)


@routes.get("/retention")
async def list_retention(request: Request, caller: Caller) -> RetentionBody:
    """How long each class is kept, its oldest month and the months whose time has come."""
    return retention_body(await audit_retention.list_retention(appliance_of(request).audit, caller))


@routes.put("/retention")
async def change_retention(request: Request, body: RuleRequest, caller: Caller) -> RetentionBody:
    """Keep a class longer. A shorter time is refused (409), and the refusal recorded."""
    audit = appliance_of(request).audit
    return retention_body(await audit_retention.change_retention(audit, caller, body.record_class, body.months))


@routes.post("/retention/run")
async def run_retention(request: Request, caller: Caller) -> RetentionRunBody:
    """Destroy now what has expired. The server does the same by itself, once a day unless configured otherwise."""
    return retention_run_body(await audit_retention.run_retention_now(appliance_of(request).audit, caller))


@routes.post("/shred")
async def shred(request: Request, body: ShredRequest, caller: Caller) -> CertificateBody:
    """Destroy the keys of all content about one subject. Every proof still verifies; a hold refuses it (409)."""
    return certificate_body(await audit_retention.shred(appliance_of(request).audit, caller, body.subject, body.reason))


@routes.get("/erasures")
async def list_erasures(request: Request, caller: Caller) -> ErasuresBody:
    """Every destruction that was announced, newest first."""
    found = await audit_retention.list_erasures(appliance_of(request).audit, caller)
    return ErasuresBody(data=[erasure_body(erasure) for erasure in found])
