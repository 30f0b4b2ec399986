"""The route that hands the log out as a file, and the response that lets go of it however the client leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from appliance.api.disconnects import unless_disconnected
from appliance.api.security import appliance_of, current_principal
from appliance.service.audit_export import ExportFile, export_to_send, parse_request
from appliance.types import Principal

routes = APIRouter(prefix="/v1/audit", tags=["audit"])
Caller = Annotated[Principal, Depends(current_principal)]
_CHUNK_BYTES = 256 * 1024
_TIME = "ISO date or time, UTC where it names no zone"


class FileResponse(StreamingResponse):
    """Sends a finished export and gives its space back: at the end, at an error, and when the client goes away."""

    def __init__(self, file: ExportFile) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"', "Content-Length": str(file.size)}
        super().__init__(_chunks(file), media_type=file.media_type, headers=headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


@routes.get("/export", response_class=StreamingResponse)
async def export(
    request: Request,
    caller: Caller,
    format_: Annotated[
        str,
        Query(alias="format", max_length=32, description="bundle, tiles, jsonl, fhir, fhir-bundle, syslog or cef"),
    ] = "bundle",
    from_: Annotated[str | None, Query(alias="from", max_length=64, description=f"{_TIME}; inclusive")] = None,
    to: Annotated[str | None, Query(max_length=64, description=f"{_TIME}; exclusive")] = None,
    epoch: Annotated[int | None, Query(ge=1, description="of an earlier log; absent: the one that goes on")] = None,
    content: Annotated[bool, Query(description="with what was typed and answered; `jsonl` only")] = False,
    all_epochs: Annotated[bool, Query(description="this log and all before it; `bundle` only")] = False,
) -> FileResponse:
    """The log as a file: a whole bundle for `auditverify`, or a span of records. The export is itself recorded."""
    wanted = parse_request(format_, from_=from_, to=to, epoch=epoch, content=content, all_epochs=all_epochs)
    appliance = appliance_of(request)
    writing = export_to_send(appliance.config, appliance.audit, caller, wanted)
    return FileResponse(await unless_disconnected(request, writing))


def _chunks(file: ExportFile) -> Iterator[bytes]:
    while chunk := file.file.read(_CHUNK_BYTES):
        yield chunk
