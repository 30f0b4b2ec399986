"""Routes for teaching a specialist: send a table, confirm its columns, follow the job, submit what it made."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from appliance.api.schemas_specialists import TableBody, TeachingJobBody, TeachingRequest, VersionBody, version_body
from appliance.api.security import appliance_of, current_principal
from appliance.api.uploads import form_description, read_form
from appliance.errors import EngineUnavailable, InvalidRequest
from appliance.service import training
from appliance.service.training import Teaching, TeachRequest
from appliance.types import Principal

routes = APIRouter(prefix="/v1/teaching", tags=["teaching"])
Caller = Annotated[Principal, Depends(current_principal)]
_FIELDS = ("text_column", "label_column", "multi_label")


@routes.post("/tables", status_code=201, openapi_extra=form_description(("file",), ("file",), _FIELDS))
async def send_table(request: Request, caller: Caller) -> TableBody:
    """Send a CSV file; learn what is in it and what is odd about it. It is kept in memory for an hour.

    `text_column` and `label_column` may be named, else they are detected; `multi_label`: `true` if a cell may hold
    several labels with `;` between.
    """
    form = await read_form(request, files=("file",), fields=_FIELDS)
    wanted = TeachRequest(
        "",
        "",
        text_column=form.fields.get("text_column") or None,
        label_column=form.fields.get("label_column") or None,
        multi_label=_whether(form.fields.get("multi_label", ""), "multi_label"),
    )
    log = appliance_of(request).audit
    return TableBody(**await training.check_table(_teaching(request), log, caller, form.files["file"].content, wanted))


@routes.post("/jobs", status_code=202)
async def start(request: Request, body: TeachingRequest, caller: Caller) -> TeachingJobBody:
    """Begin to teach a specialist from a table."""
    appliance = appliance_of(request)
    wanted = TeachRequest(**body.model_dump())
    view = await training.start(_teaching(request), appliance.registry, appliance.audit, caller, wanted)
    return TeachingJobBody(**view)


@routes.get("/jobs/{job}")
async def read(request: Request, job: str, caller: Caller) -> TeachingJobBody:
    """How a job of one's own goes, and its report once it is done."""
    return TeachingJobBody(**await training.read(_teaching(request), appliance_of(request).audit, caller, job))


@routes.post("/jobs/{job}/submit", status_code=201)
async def submit(request: Request, job: str, caller: Caller) -> VersionBody:
    """Install what the job made; another person approves it before it is promoted."""
    appliance = appliance_of(request)
    return version_body(await training.submit(_teaching(request), appliance.registry, appliance.audit, caller, job))


@routes.delete("/jobs/{job}", status_code=204)
async def cancel(request: Request, job: str, caller: Caller) -> None:
    """Stop a job of one's own, or forget its result."""
    await training.cancel(_teaching(request), appliance_of(request).audit, caller, job)


def _whether(value: str, name: str) -> bool:
    if value not in ("", "true", "false"):
        raise InvalidRequest(f"the field {name!r} is neither true nor false", hint="send true, false or nothing")
    return value == "true"


def _teaching(request: Request) -> Teaching:
    teaching = appliance_of(request).teaching
    if teaching is None:
        raise EngineUnavailable("this process does not teach", hint="ask the server: appliance serve")
    return teaching
