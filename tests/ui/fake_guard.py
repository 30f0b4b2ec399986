"""What the in-memory API says and does about identifiers in conversations: policies, who works where, and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from fake_api import FakeApi

MEASURED: dict[str, Any] = {
    "specialist": "phi-deid",
    "version": "2.0.0",
    "evaluations": [
        {
            "name": "Notes",
            "dataset": "held-back notes",
            "items": 318,
            "metrics": {
                "recall": 0.9833, "recall_interval_low": 0.9783, "recall_interval_high": 0.9874,
                "precision": 0.9457, "without_leak": 0.7642,
            },
            "command": "measure",
            "note": "",
        },
        {
            "name": "Queries without identifiers",
            "dataset": "held-back questions",
            "items": 125,
            "metrics": {
                "over_redaction": 0.016, "over_redaction_interval_low": 0.0044, "over_redaction_interval_high": 0.0565,
            },
            "command": "measure",
            "note": "",
        },
        {"name": "Speed", "dataset": "notes", "items": 3, "metrics": {"seconds": 0.2}, "command": "", "note": ""},
    ],
    "limits": "Misses happen.",
}  # fmt: skip


class FakeGuard:
    """Everybody may read; whoever is an administrator decides."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.policies = {"default": "allow", "cardiology": "mask"}
        self.members = {"m.keller": "cardiology"}
        self.measured: dict[str, Any] | None = MEASURED

    def routes(self) -> list[Route]:
        return [
            Route("/v1/guard", self.show),
            Route("/v1/guard/workspaces/{workspace}", self.set_policy, methods=["PUT"]),
            Route("/v1/guard/members/{account}", self.assign, methods=["PUT"]),
        ]

    async def show(self, request: Request) -> Response:
        name = self.api._caller(request)
        workspace = self.members.get(name, "default")
        sees = {"admin", "auditor"} & set(self.api.users[name])
        own = {"workspace": workspace, "policy": self.policies[workspace], "measured": self.measured}
        return JSONResponse(own | {"rules": self._rules() if sees else None})

    async def set_policy(self, request: Request) -> Response:
        self._decides(request)
        self.policies[request.path_params["workspace"]] = (await request.json())["policy"]
        return JSONResponse(self._rules())

    async def assign(self, request: Request) -> Response:
        self._decides(request)
        account, workspace = request.path_params["account"], (await request.json())["workspace"]
        if account not in self.api.users:
            raise self.api.refusal(404, "account_not_found", f"there is no account {account}", "check the name")
        if workspace not in self.policies:
            raise self.api.refusal(400, "invalid_request", "there is no such workspace", "give it a policy first")
        self.members[account] = workspace
        return JSONResponse(self._rules())

    def _decides(self, request: Request) -> None:
        if "admin" not in self.api.users[self.api._caller(request)]:
            raise self.api.refusal(403, "permission_denied", "you may not do this", "ask an administrator")

    def _rules(self) -> dict[str, Any]:
        return {"policies": self.policies, "members": self.members}
