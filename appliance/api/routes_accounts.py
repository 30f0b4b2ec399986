"""Routes for people: signing in, the first administrator, accounts, API keys."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from appliance import __version__
from appliance.accounts.sessions import SessionView
from appliance.api.schemas_accounts import (
    AccountRequest,
    ApiKeyRequest,
    OwnPasswordRequest,
    PasswordRequest,
    SetupRequest,
    SignInRequest,
    account_body,
    api_key_body,
)
from appliance.api.security import (
    appliance_of,
    client_address,
    current_principal,
    current_session,
    session_cookie_of,
)
from appliance.service import accounts
from appliance.types import Principal

routes = APIRouter(prefix="/v1", tags=["accounts"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.post("/sessions")
async def sign_in(request: Request, response: Response, body: SignInRequest) -> dict[str, Any]:
    """Sign in. The session's secret goes into an HttpOnly cookie and nowhere else."""
    appliance = appliance_of(request)
    signed_in = await accounts.sign_in(
        appliance.accounts, appliance.audit, body.username, body.password, client_address(request)
    )
    session_cookie_of(request).set(response, signed_in.secret)
    return _session_body(request, signed_in.session)


@routes.get("/sessions/current")
async def show_session(request: Request, session: Annotated[SessionView, Depends(current_session)]) -> dict[str, Any]:
    """Who is signed in, and the token that changing requests must carry. Does not prolong the session."""
    return _session_body(request, session)


@routes.delete("/sessions/current", status_code=204)
async def sign_out(request: Request, session: Annotated[SessionView, Depends(current_session)], _: Caller) -> Response:
    """Sign out."""
    appliance, cookie = appliance_of(request), session_cookie_of(request)
    await accounts.sign_out(appliance.accounts, appliance.audit, session, request.cookies[cookie.name])
    response = Response(status_code=204, headers={"Clear-Site-Data": '"cache", "storage"'})
    cookie.clear(response)
    return response


@routes.post("/sessions/current/password", status_code=204)
async def change_own_password(request: Request, body: OwnPasswordRequest, caller: Caller) -> Response:
    """Change one's own password. Every session of the account ends, this one too: sign in again."""
    appliance = appliance_of(request)
    await accounts.change_own_password(
        appliance.accounts, appliance.audit, caller, body.current, body.password, client_address(request)
    )
    response = Response(status_code=204)
    session_cookie_of(request).clear(response)
    return response


@routes.get("/setup")
async def show_setup(request: Request) -> dict[str, bool]:
    """Whether a one-time link waits to be used. Says nothing else to strangers."""
    return {"open": await asyncio.to_thread(appliance_of(request).accounts.setup_open)}


@routes.post("/setup", status_code=201)
async def set_up(request: Request, body: SetupRequest) -> dict[str, Any]:
    """Use the one-time link: make the administrator."""
    appliance = appliance_of(request)
    account = await accounts.set_up(appliance.accounts, appliance.audit, body.token, body.username, body.password)
    return account_body(account)


@routes.get("/accounts")
async def list_accounts(request: Request, caller: Caller) -> dict[str, Any]:
    """Every account. Reading is itself recorded."""
    appliance = appliance_of(request)
    views = await accounts.list_accounts(appliance.accounts, appliance.audit, caller)
    return {"data": [account_body(view) for view in views]}


@routes.post("/accounts", status_code=201)
async def create_account(request: Request, body: AccountRequest, caller: Caller) -> dict[str, Any]:
    """A new account. An auditor can have no other role."""
    appliance = appliance_of(request)
    account = await accounts.create_account(
        appliance.accounts, appliance.audit, caller, body.username, body.password, list(body.roles)
    )
    return account_body(account)


@routes.post("/accounts/{name}/disable")
async def disable_account(request: Request, name: str, caller: Caller) -> dict[str, Any]:
    """Disable an account: its sessions and keys end at once."""
    appliance = appliance_of(request)
    return account_body(await accounts.disable_account(appliance.accounts, appliance.audit, caller, name))


@routes.post("/accounts/{name}/enable")
async def enable_account(request: Request, name: str, caller: Caller) -> dict[str, Any]:
    """Let a disabled account work again."""
    appliance = appliance_of(request)
    return account_body(await accounts.enable_account(appliance.accounts, appliance.audit, caller, name))


@routes.post("/accounts/{name}/password", status_code=204)
async def set_password(request: Request, name: str, body: PasswordRequest, caller: Caller) -> Response:
    """Give an account another password; its sessions end."""
    appliance = appliance_of(request)
    await accounts.set_password(appliance.accounts, appliance.audit, caller, name, body.password)
    return Response(status_code=204)


@routes.get("/api-keys")
async def list_api_keys(request: Request, caller: Caller) -> dict[str, Any]:
    """An administrator sees every key, everybody else their own; secrets nobody. Reading is itself recorded."""
    appliance = appliance_of(request)
    keys = await accounts.list_api_keys(appliance.accounts, appliance.audit, caller)
    return {"data": [api_key_body(key) for key in keys]}


@routes.post("/api-keys", status_code=201)
async def create_api_key(request: Request, body: ApiKeyRequest, caller: Caller) -> dict[str, Any]:
    """A new key for oneself. `secret` is shown once."""
    appliance = appliance_of(request)
    view, secret = await accounts.create_api_key(
        appliance.accounts, appliance.audit, caller, caller.name, body.name, body.scopes, body.days
    )
    return api_key_body(view) | {"secret": secret}


@routes.delete("/api-keys/{key_id}")
async def revoke_api_key(request: Request, key_id: int, caller: Caller) -> dict[str, Any]:
    """Revoke a key, at once."""
    appliance = appliance_of(request)
    return api_key_body(await accounts.revoke_api_key(appliance.accounts, appliance.audit, caller, key_id))


def _session_body(request: Request, session: SessionView) -> dict[str, Any]:
    principal = session.principal
    return {
        "user": {"id": principal.id, "name": principal.name, "roles": sorted(principal.roles)},
        "site": appliance_of(request).config.server.site_name,
        "version": __version__,
        "csrf": session.csrf,
    }
