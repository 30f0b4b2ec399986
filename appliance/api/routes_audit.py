"""Routes of the audit log: records, receipts, checkpoint."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from appliance.accounts.directory import Directory
from appliance.api.schemas_audit import CheckpointBody, ReceiptBody, RecordDetail, RecordPage, receipt_body, record_body
from appliance.api.security import appliance_of, current_principal
from appliance.audit.header import NUMBER_MAX
from appliance.audit.log import AuditLog
from appliance.service import audit
from appliance.types import Principal

routes = APIRouter(prefix="/v1/audit", tags=["audit"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.get("/records")
async def list_records(
    request: Request,
    caller: Caller,
    after: Annotated[
        int | None, Query(ge=0, le=NUMBER_MAX, description="sequence number of the last record already seen")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    event: Annotated[str | None, Query(max_length=64)] = None,
    actor: Annotated[str | None, Query(max_length=64)] = None,
    epoch: Annotated[int | None, Query(ge=1, description="of an earlier log; absent: the one that goes on")] = None,
) -> RecordPage:
    """Records, newest first: an auditor sees everybody's, a user those of their own. Reading is itself recorded."""
    query = audit.RecordQuery(after=after, limit=limit, event=event, actor=actor, epoch=epoch)
    appliance = appliance_of(request)
    page = await audit.list_records(appliance.config, appliance.accounts, appliance.audit, caller, query)
    return RecordPage(data=[record_body(view) for view in page.records], next=page.next)


@routes.get("/records/{record_id}")
async def show_record(request: Request, record_id: str, caller: Caller) -> RecordDetail:
    """One record; its content too for an auditor. Reading is itself recorded."""
    view, content = await audit.show_record(*_readers(request), caller, record_id)
    text = content.decode("utf-8", "replace") if content is not None else None
    return RecordDetail(**record_body(view).model_dump(), content=text)


@routes.get("/receipts/{record_id}")
async def show_receipt(request: Request, record_id: str, caller: Caller) -> ReceiptBody:
    """The receipt of a record, with the proof file that verifies it offline."""
    return receipt_body(await audit.show_receipt(*_readers(request), caller, record_id))


@routes.get("/checkpoint")
async def show_checkpoint(request: Request, caller: Caller) -> CheckpointBody:
    """The newest signed checkpoint. Keep it elsewhere: it exposes a log that was rolled back."""
    view = await audit.show_checkpoint(appliance_of(request).audit, caller)
    return CheckpointBody(
        checkpoint=view.checkpoint, verifier_key=view.verifier_key, origin=view.origin, size=view.size
    )


def _readers(request: Request) -> tuple[Directory, AuditLog]:
    appliance = appliance_of(request)
    return appliance.accounts, appliance.audit
