"""Routes about the log as a whole: is it in order, what of it is outside, which epochs are there, is a receipt true."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from appliance.api.disconnects import unless_disconnected
from appliance.api.schemas_audit import VerdictBody
from appliance.api.schemas_audit_state import (
    EpochList,
    ExposureBody,
    ReceiptCheckBody,
    ReceiptCheckRequest,
    VerifyRequest,
    epoch_body,
    exposure_body,
    verdict_body,
)
from appliance.api.security import appliance_of, current_principal
from appliance.service import audit_exposure
from appliance.service.audit_verify import verify as verify_log
from appliance.types import Principal

routes = APIRouter(prefix="/v1/audit", tags=["audit"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.post("/verify")
async def verify(
    request: Request,
    caller: Caller,
    body: VerifyRequest | None = None,
    full: Annotated[bool, Query(description="the same as in the body")] = False,
) -> VerdictBody:
    """Run the stand-alone verifier over what is new since its last run, or over everything."""
    appliance = appliance_of(request)
    everything = full or (body is not None and body.full)
    work = verify_log(appliance.config, appliance.audit, caller, full=everything)
    return verdict_body(await unless_disconnected(request, work))


@routes.get("/exposure")
async def show_exposure(request: Request, caller: Caller) -> ExposureBody:
    """How old the newest checkpoint outside this machine is."""
    appliance = appliance_of(request)
    return exposure_body(
        await audit_exposure.show_exposure(appliance.config, appliance.audit, caller, appliance.anchors)
    )


@routes.get("/epochs")
async def list_epochs(request: Request, caller: Caller) -> EpochList:
    """The log that goes on and those that a declared loss closed."""
    found = await audit_exposure.list_epochs(appliance_of(request).audit, caller)
    return EpochList(data=[epoch_body(epoch) for epoch in found])


@routes.post("/receipts/check")
async def check_receipt(request: Request, body: ReceiptCheckRequest, caller: Caller) -> ReceiptCheckBody:
    """Compare a receipt with the log. One of ours that contradicts it stops recording, and with it every answer."""
    appliance = appliance_of(request)
    found = await audit_exposure.check_receipt(appliance.config, appliance.audit, caller, body.proof_file)
    return ReceiptCheckBody(verdict=audit_exposure.verdict_of(found), seq=found.seq, message=found.message)
