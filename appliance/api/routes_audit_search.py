"""Routes that look for records: search with progress, activity over time."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from appliance.api.disconnects import ClosingResponse
from appliance.api.error_responses import error_body, status_of
from appliance.api.schemas_audit import record_body
from appliance.api.schemas_keeping import ActivityBody, SearchRequest, bucket_body
from appliance.api.security import appliance_of, current_principal
from appliance.audit.log import RecordView, SearchStep
from appliance.errors import ApplianceError
from appliance.service import audit_search
from appliance.types import Principal

routes = APIRouter(prefix="/v1/audit", tags=["audit"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.post("/search", response_class=StreamingResponse)
async def search(request: Request, body: SearchRequest, caller: Caller) -> ClosingResponse:
    """Search records, newest first, as JSON lines: `progress`, `record`, at last `end` or `error`.

    Exact fields use the blind index; `text` opens contents one by one and needs the right to read them. A user finds
    their own records. The search is recorded before its first line. Closing the connection ends it.
    """
    appliance = appliance_of(request)
    steps = await audit_search.search(appliance.accounts, appliance.audit, caller, body.wanted())
    headers = {"Cache-Control": "no-store"}
    return ClosingResponse(_lines(steps), source=steps, media_type="application/x-ndjson", headers=headers)


@routes.get("/activity")
async def activity(
    request: Request,
    caller: Caller,
    from_: Annotated[datetime, Query(alias="from", description="begin of the window; without a zone: UTC")],
    to: Annotated[datetime, Query(description="end of the window, not included")],
    buckets: Annotated[int, Query(ge=1, le=1000, description="into how many pieces of equal length")] = 48,
) -> ActivityBody:
    """How many records of each class were committed when, by headers alone: no record is opened."""
    found = await audit_search.show_activity(appliance_of(request).audit, caller, from_, to, buckets)
    bodies = [bucket_body(bucket, datetime.fromtimestamp(bucket.start_ms / 1000, UTC)) for bucket in found]
    return ActivityBody(from_=from_, to=to, buckets=bodies)


async def _lines(steps: AsyncGenerator[SearchStep]) -> AsyncGenerator[bytes]:
    """Each step as a line. After the first byte a failure is a line too."""
    try:
        async for step in steps:
            yield _line(step_body(step))
    except ApplianceError as error:
        yield _line(error_body(error.code, error.message, status_of(error), error.hint))


def step_body(step: SearchStep) -> dict[str, Any]:
    """One step as JSON."""
    if isinstance(step, RecordView):
        return {"record": record_body(step).model_dump(mode="json")}
    if step.done:
        return {"end": {"found": step.found, "scanned": step.scanned, "complete": step.complete}}
    return {"progress": {"scanned": step.scanned, "total": step.total}}


def _line(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"
