"""The only way from the pages to the product: the HTTP API, with the visitor's own session.

A `Visitor` can do what its cookie may do and nothing else; permission, routing and retention are decided behind
the API. Calls stay in this process (ASGI transport), so no socket is opened and no proxy setting applies.

    visitor = Client(api, cookie_name="sid").visitor(cookie="...", address=("10.0.0.7", 50122))
    answer = await visitor.deidentify(note, style="label")    # raises Refused with the API's own words
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote

import httpx
from starlette.types import ASGIApp

Json = dict[str, Any]

# Never resolved: the transport hands the request to the application. The name only fills the Host header.
_ORIGIN = "http://127.0.0.1"


class Refused(Exception):
    """The API said no. `message` and `hint` are the API's own and safe to show."""

    def __init__(self, status: int, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def signed_out(self) -> bool:
        """There is no session any more; only signing in again helps."""
        return self.status == 401


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who the session belongs to, as the API tells it."""

    name: str
    roles: tuple[str, ...]
    site: str
    version: str
    csrf: str


@dataclass(frozen=True, slots=True)
class Client:
    """Holds the API application and the cookie's name; makes one `Visitor` per request."""

    api: ASGIApp
    cookie_name: str = "sid"
    secure: bool = False

    def visitor(self, *, cookie: str | None, address: tuple[str, int] | None) -> Visitor:
        """`address` is the browser's, so that the API counts failed sign-ins against the right one."""
        return Visitor(self, cookie, address or ("127.0.0.1", 0))


@dataclass(frozen=True, slots=True)
class Visitor:
    """One browser session's view of the API. Every method is one call of it."""

    client: Client
    cookie: str | None
    address: tuple[str, int]

    async def session(self) -> SignedIn:
        """Who is signed in; raises `Refused` with status 401 when nobody is."""
        body = await self._json("GET", "/v1/sessions/current")
        user = body["user"]
        return SignedIn(
            name=str(user["name"]),
            roles=tuple(str(role) for role in user.get("roles", ())),
            site=str(body.get("site") or ""),
            version=str(body.get("version") or ""),
            csrf=str(body.get("csrf") or ""),
        )

    async def sign_in(self, username: str, password: str) -> str:
        """Returns the new session's secret, for the browser's cookie."""
        response = await self._send("POST", "/v1/sessions", {"username": username, "password": password})
        return self._session_secret(response)

    async def sign_out(self) -> None:
        await self._change("DELETE", "/v1/sessions/current")

    async def setup_is_open(self) -> bool:
        return bool((await self._json("GET", "/v1/setup")).get("open"))

    async def create_first_administrator(self, token: str, username: str, password: str) -> None:
        await self._send("POST", "/v1/setup", {"token": token, "username": username, "password": password})

    async def deidentify(self, text: str, *, style: str) -> Json:
        return (await self._change("POST", "/v1/deidentify", {"text": text, "style": style})).json()

    async def records(self, *, after: int | None = None, limit: int = 25) -> Json:
        """Newest first; pass the answer's `next` as `after` to go on."""
        parameters: dict[str, str | int] = {"limit": limit}
        if after is not None:
            parameters["after"] = after
        return await self._json("GET", "/v1/audit/records", parameters=parameters)

    async def record(self, record_id: str) -> Json:
        return await self._json("GET", f"/v1/audit/records/{_segment(record_id)}")

    async def receipt(self, record_id: str) -> Json:
        return await self._json("GET", f"/v1/audit/receipts/{_segment(record_id)}")

    async def checkpoint(self) -> Json:
        return await self._json("GET", "/v1/audit/checkpoint")

    async def verify(self) -> Json:
        return (await self._change("POST", "/v1/audit/verify")).json()

    async def _json(self, method: str, path: str, *, parameters: Mapping[str, str | int] | None = None) -> Json:
        response = await self._send(method, path, parameters=parameters)
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Refused(502, "unreadable_answer", f"the server's answer to {path} could not be read")
        return body

    async def _change(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        """A state-changing call: the API asks for the session's CSRF token, which only the session can read."""
        signed_in = await self.session()
        return await self._send(method, path, body, csrf=signed_in.csrf)

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        parameters: Mapping[str, str | int] | None = None,
        csrf: str | None = None,
    ) -> httpx.Response:
        headers = {"accept": "application/json"}
        if self.cookie:
            headers["cookie"] = f"{self.client.cookie_name}={self.cookie}"
        if csrf:
            headers["x-csrf-token"] = csrf
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = _encoded(body)
        transport = httpx.ASGITransport(app=self.client.api, raise_app_exceptions=False, client=self.address)
        base = _ORIGIN.replace("http:", "https:") if self.client.secure else _ORIGIN
        async with httpx.AsyncClient(transport=transport, base_url=base, trust_env=False, timeout=None) as http:  # noqa: S113 - in process; the API bounds its own work
            response = await http.request(method, path, headers=headers, params=parameters, content=content)
        if response.is_success:
            return response
        raise _refusal(response)

    def _session_secret(self, response: httpx.Response) -> str:
        for line in response.headers.get_list("set-cookie"):
            morsel = SimpleCookie(line).get(self.client.cookie_name)
            if morsel is not None and morsel.value:
                return morsel.value
        raise Refused(502, "unreadable_answer", "the server accepted the password but opened no session")


def _refusal(response: httpx.Response) -> Refused:
    """The API's error shape, or a plain sentence where an answer does not have it."""
    try:
        error = response.json()["error"]
        hint = error.get("hint")
        return Refused(response.status_code, str(error["code"]), str(error["message"]), str(hint) if hint else None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Refused(
            response.status_code,
            "internal_error",
            f"the server could not answer this request (status {response.status_code})",
            "try again; if it goes on, ask whoever runs this server to look at its log",
        )


def _encoded(body: Mapping[str, object]) -> bytes:
    """As UTF-8; a lone surrogate has no UTF-8 and goes as an escape, so that the API refuses it in its own words."""
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(body).encode()


def _segment(value: str) -> str:
    """One path segment: what a person typed cannot become another path."""
    return quote(value, safe="") or "-"
