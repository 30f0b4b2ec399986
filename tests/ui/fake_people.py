"""What the in-memory API says and does about accounts and API keys: as much as the pages about people ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from fake_api import FakeApi

TIME = "2026-11-02T09:00:00+00:00"
LATER = "2099-01-01T00:00:00+00:00"


class FakePeople:
    """Accounts are the API's users; a new one gets the password that every test signs in with."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.disabled: set[str] = set()
        self.changed: list[list[str]] = []  # name and length of each password that was set
        self.keys: list[dict[str, Any]] = []
        self.change_takes_s = 0.0  # from the end of the sessions to the answer

    def routes(self) -> list[Route]:
        return [
            Route("/v1/accounts", self.list_accounts, methods=["GET"]),
            Route("/v1/accounts", self.create, methods=["POST"]),
            Route("/v1/accounts/{name}/password", self.set_password, methods=["POST"]),
            Route("/v1/accounts/{name}/{what}", self.switch, methods=["POST"]),
            Route("/v1/sessions/current/password", self.change_own, methods=["POST"]),
            Route("/v1/api-keys", self.list_keys, methods=["GET"]),
            Route("/v1/api-keys", self.make_key, methods=["POST"]),
            Route("/v1/api-keys/{key_id:int}", self.revoke, methods=["DELETE"]),
        ]

    async def list_accounts(self, request: Request) -> Response:
        self._decides(request)
        return JSONResponse({"data": [self._body(name) for name in self.api.users]})

    async def create(self, request: Request) -> Response:
        self._decides(request)
        body = await request.json()
        if len(body["password"]) < 12:
            raise self.api.refusal(400, "invalid_request", "the password is too short", "use 12 characters or more")
        self.api.users[body["username"]] = sorted(body["roles"])
        return JSONResponse(self._body(body["username"]), 201)

    async def switch(self, request: Request) -> Response:
        self._decides(request)
        name, what = request.path_params["name"], request.path_params["what"]
        (self.disabled.add if what == "disable" else self.disabled.discard)(name)
        return JSONResponse(self._body(name))

    async def set_password(self, request: Request) -> Response:
        self._decides(request)
        self.changed.append([request.path_params["name"], str(len((await request.json())["password"]))])
        return Response(status_code=204)

    async def change_own(self, request: Request) -> Response:
        name, body = self.api._caller(request), await request.json()
        if body["current"] != self.api.PASSWORD:
            raise self.api.refusal(401, "unauthenticated", "the password is wrong", "type it again")
        self.changed.append([name, str(len(body["password"]))])
        for secret in [secret for secret, owner in self.api.sessions.items() if owner == name]:
            del self.api.sessions[secret]
        await asyncio.sleep(self.change_takes_s)
        return Response(status_code=204)

    async def list_keys(self, request: Request) -> Response:
        name = self.api._caller(request)
        sees_all = "admin" in self.api.users[name]
        return JSONResponse({"data": [key for key in self.keys if sees_all or key["owner"] == name]})

    async def make_key(self, request: Request) -> Response:
        name, body = self.api._caller(request), await request.json()
        if not body["scopes"]:
            raise self.api.refusal(400, "invalid_request", "an API key needs at least one scope", "name one")
        key = {"id": len(self.keys) + 1, "name": body["name"], "owner": name, "scopes": body["scopes"]}
        key |= {"created": TIME, "expires": LATER, "revoked": None, "last_used": None}
        self.keys.append(key)
        return JSONResponse(key | {"secret": f"clk_{key['id']}_secret"}, 201)

    async def revoke(self, request: Request) -> Response:
        self.api._caller(request)
        key = self.keys[request.path_params["key_id"] - 1]
        key["revoked"] = TIME
        return JSONResponse(key)

    def _decides(self, request: Request) -> None:
        if "admin" not in self.api.users[self.api._caller(request)]:
            raise self.api.refusal(403, "permission_denied", "you may not do this", "ask an administrator")

    def _body(self, name: str) -> dict[str, Any]:
        number = list(self.api.users).index(name) + 1
        disabled = TIME if name in self.disabled else None
        return {"id": number, "name": name, "roles": self.api.users[name], "created": TIME, "disabled": disabled}
