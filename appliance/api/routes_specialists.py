"""Routes for the life of specialists: versions, install, approve, promote, roll back, remove, verify, export, keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from appliance.accounts.actions import Action, authorize
from appliance.api.schemas_specialists import (
    RollbackBody,
    TrustedKeyBody,
    TrustedKeyRequest,
    TrustedKeysBody,
    VerifiedBody,
    VersionBody,
    VersionsBody,
    trusted_key_body,
    version_body,
)
from appliance.api.security import appliance_of, current_principal
from appliance.api.uploads import form_description, read_form
from appliance.service import specialist_life
from appliance.service.specialist_life import Upload
from appliance.service.specialists import list_versions
from appliance.types import Principal

routes = APIRouter(prefix="/v1", tags=["specialists"])
Caller = Annotated[Principal, Depends(current_principal)]
_FILES, _FIELDS = ("file", "signature"), ("reason",)


@routes.post("/specialists", status_code=201, openapi_extra=form_description(_FILES, ("file",), _FIELDS))
async def install(request: Request, caller: Caller) -> VersionBody:
    """Install a specialist file; it answers nobody before another person approved it and it was promoted.

    `signature`: its detached signature (OpenSSF Model Signing) by a key that this site trusts. Without one, an
    administrator's `reason` (a code such as `pilot-ward-3`) admits the file.
    """
    authorize(caller, Action.SPECIALIST_INSTALL)  # before a large body of somebody who may not is held in memory
    form = await read_form(request, files=_FILES, fields=_FIELDS)
    signature = form.files.get("signature")
    upload = Upload(
        form.files["file"].content, signature.content if signature else None, form.fields.get("reason", "").strip()
    )
    appliance = appliance_of(request)
    return version_body(await specialist_life.install(appliance.registry, appliance.audit, caller, upload))


@routes.get("/specialist-versions")
async def every_version(request: Request, caller: Caller) -> VersionsBody:
    """Every installed version of every specialist, those that wait for approval too."""
    appliance = appliance_of(request)
    cards = await list_versions(appliance.registry, appliance.audit, caller)
    return VersionsBody(data=[version_body(card) for card in cards])


@routes.get("/specialists/{specialist}/versions")
async def versions(request: Request, specialist: str, caller: Caller) -> VersionsBody:
    """Every installed version of one specialist, the latest installation first."""
    appliance = appliance_of(request)
    cards = await list_versions(appliance.registry, appliance.audit, caller, specialist)
    return VersionsBody(data=[version_body(card) for card in cards])


@routes.post("/specialists/{specialist}/versions/{version}/approve")
async def approve(request: Request, specialist: str, version: str, caller: Caller) -> VersionBody:
    """Approve a version that somebody else installed or taught."""
    appliance = appliance_of(request)
    return version_body(await specialist_life.approve(appliance.registry, appliance.audit, caller, specialist, version))


@routes.post("/specialists/{specialist}/versions/{version}/promote")
async def promote(request: Request, specialist: str, version: str, caller: Caller) -> VersionBody:
    """Let an approved version answer from now on. Requests that run end with the version they began with."""
    appliance = appliance_of(request)
    done = await specialist_life.promote(
        appliance.registry, appliance.audit, caller, specialist, version, load=appliance.engine.load
    )
    return version_body(done)


@routes.post("/specialists/{specialist}/versions/{version}/verify")
async def verify(request: Request, specialist: str, version: str, caller: Caller) -> VerifiedBody:
    """Read the installed file again and check its hash, its format and its signature."""
    appliance = appliance_of(request)
    card = await specialist_life.verify(appliance.registry, appliance.audit, caller, specialist, version)
    return VerifiedBody(**card)


@routes.post("/specialists/{specialist}/rollback")
async def rollback(request: Request, specialist: str, caller: Caller) -> RollbackBody:
    """Undo the last promotion."""
    appliance = appliance_of(request)
    done = await specialist_life.rollback(appliance.registry, appliance.audit, caller, specialist)
    return RollbackBody(
        retired=version_body(done["retired"]), active=version_body(done["active"]) if done["active"] else None
    )


@routes.delete("/specialists/{specialist}/versions/{version}")
async def remove(request: Request, specialist: str, version: str, caller: Caller) -> VersionBody:
    """Remove a version that is not active, and its file."""
    appliance = appliance_of(request)
    return version_body(await specialist_life.remove(appliance.registry, appliance.audit, caller, specialist, version))


@routes.get("/specialists/{specialist}/versions/{version}/file", response_class=Response)
async def export(request: Request, specialist: str, version: str, caller: Caller) -> Response:
    """The file of a version and its signature, if it has one, as a zip."""
    appliance = appliance_of(request)
    name, content = await specialist_life.export(appliance.registry, appliance.audit, caller, specialist, version)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/zip", headers=headers)


@routes.get("/specialist-keys")
async def keys(request: Request, caller: Caller) -> TrustedKeysBody:
    """The keys whose signatures count here."""
    appliance = appliance_of(request)
    rows = await specialist_life.list_keys(appliance.registry, appliance.audit, caller)
    return TrustedKeysBody(data=[trusted_key_body(row) for row in rows])


@routes.post("/specialist-keys", status_code=201)
async def trust(request: Request, body: TrustedKeyRequest, caller: Caller) -> TrustedKeyBody:
    """Let signatures of a key count from now on."""
    appliance = appliance_of(request)
    row = await specialist_life.trust(appliance.registry, appliance.audit, caller, body.name, body.public_key)
    return trusted_key_body(row)


@routes.delete("/specialist-keys/{name}", status_code=204)
async def distrust(request: Request, name: str, caller: Caller) -> None:
    """Signatures of a key count no more; what they admitted stays."""
    appliance = appliance_of(request)
    await specialist_life.distrust(appliance.registry, appliance.audit, caller, name)
