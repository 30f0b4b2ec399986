"""Who sent this request: an API key in the header, or the browser session in the cookie. Closed until opened.

A cookie travels without anybody's intent, so a cookie-authenticated request that changes something must also carry
the session's token in `X-CSRF-Token`; a bearer key needs none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from appliance.accounts.directory import SessionView
from appliance.config import AccountsConfig, ServerConfig
from appliance.crypto.secrets import constant_time_equal
from appliance.errors import PermissionDenied, Unauthenticated
from appliance.service.appliance import Appliance
from appliance.types import Principal

CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_COOKIE_CHARS_MAX = 256


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """How the session cookie is named and protected. `__Host-` binds it to this origin, and needs TLS."""

    secure: bool
    max_age_s: int

    @property
    def name(self) -> str:
        return "__Host-sid" if self.secure else "sid"

    @staticmethod
    def of(server: ServerConfig, accounts: AccountsConfig) -> SessionCookie:
        """The cookie of a site: secure wherever the browser speaks TLS, here or at a proxy."""
        return SessionCookie(server.tls_certificate is not None or server.behind_proxy, accounts.session_absolute_s)

    def set(self, response: Response, secret: str) -> None:
        """Hand the secret to the browser: unreadable to scripts, never sent across sites."""
        response.set_cookie(
            self.name, secret, max_age=self.max_age_s, httponly=True, samesite="strict", secure=self.secure, path="/"
        )

    def clear(self, response: Response) -> None:
        """Take the secret back."""
        response.delete_cookie(self.name, httponly=True, samesite="strict", secure=self.secure, path="/")


def appliance_of(request: Request) -> Appliance:
    """The opened appliance behind this request."""
    return request.app.state.appliance


def session_cookie_of(request: Request) -> SessionCookie:
    """How this site's session cookie is named."""
    return request.app.state.session_cookie


def client_address(request: Request) -> str:
    """The peer's address, for the limit on failed sign-ins and for records of refusals."""
    return request.client.host if request.client else "unknown"


async def current_session(request: Request) -> SessionView:
    """The browser session of the cookie. Raises `Unauthenticated`. Does not prolong the session."""
    secret = _cookie_secret(request)
    if secret is None:
        raise Unauthenticated("not signed in", hint="sign in, or send an API key: Authorization: Bearer clk_…")
    session = await asyncio.to_thread(appliance_of(request).accounts.session, secret)
    request.state.caller = session.principal  # whoever is refused after this is refused by name
    return session


async def current_principal(request: Request) -> Principal:
    """The caller. Raises `Unauthenticated`, and `PermissionDenied` for a forged cross-site request."""
    accounts = appliance_of(request).accounts
    bearer = _bearer_secret(request)
    if bearer is not None:
        request.state.caller = await asyncio.to_thread(accounts.authenticate_api_key, bearer)
        return request.state.caller
    session = await current_session(request)
    if request.method not in _SAFE_METHODS:
        sent = request.headers.get(CSRF_HEADER, "")
        if not constant_time_equal(sent.encode(), session.csrf.encode()):
            raise PermissionDenied(
                f"the request has no valid {CSRF_HEADER} header", hint="take `csrf` from GET /v1/sessions/current"
            )
    await asyncio.to_thread(accounts.touch, request.cookies[session_cookie_of(request).name])
    return session.principal


def _cookie_secret(request: Request) -> str | None:
    secret = request.cookies.get(session_cookie_of(request).name)
    return secret if secret and len(secret) <= _COOKIE_CHARS_MAX else None


def _bearer_secret(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if not scheme:
        return None
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("the Authorization header is not a bearer key", hint="Authorization: Bearer clk_…")
    return secret.strip()[:_COOKIE_CHARS_MAX]
