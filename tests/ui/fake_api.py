"""The HTTP contract of the API, in memory: a stand-in that the tests of the pages talk to.

It knows two users with a password each, finds names and dates by a regular expression, and keeps records in a list.
It also notes which addresses asked it, and can be told to refuse, so that tests reach every branch of the pages.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from fake_audit import FakeAudit
from fake_guard import FakeGuard
from fake_people import FakePeople
from fake_site import two_models, well_protected
from fake_specialists import FakeSpecialists
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

PASSWORD = "correct horse battery"
SETUP_TOKEN = "one-time-0123456789"
_FOUND = re.compile(
    r"(?P<NAME>(?:(?:Margaret|Ruth|Samuel|S\.) )?\b(?:O'Neill|Okafor)\b|Margaret|Ruth|Anna)"
    r"|(?P<DATE>\d\d/\d\d/\d{4})|(?P<MRN>\b\d{4}-\d{5}\b)|(?P<AGE>\b9\d years old)"
    r"|(?P<PHONE>\(\d{3}\) \d{3}-\d{4})|(?P<EMAIL>\b[\w.]{1,64}@[\w.]{1,64}\w)|(?P<HEALTH_PLAN>HPN-[\d-]+)"
    r"|(?P<ORGANIZATION>Fairhaven General Hospital)|(?P<LOCATION>18 Linden Close, Fairhaven, NJ 07701)"
)


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str, hint: str | None = None) -> None:
        self.response = JSONResponse(
            {"error": {"code": code, "message": message, "type": "error", **({"hint": hint} if hint else {})}}, status
        )


@dataclass
class FakeApi:
    """State of the fake; `app` is the ASGI application."""

    users: dict[str, list[str]] = field(default_factory=lambda: {"m.keller": ["user"], "a.stone": ["auditor"]})
    sessions: dict[str, str] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    session_questions: int = 0
    setup_open: bool = True
    audit_down: bool = False
    busy: bool = False
    tampered: bool = False
    destroyed: dict[str, dict[str, Any]] = field(default_factory=dict)  # by record id: what destroyed its content
    protection: dict[str, Any] = field(default_factory=well_protected)
    capacity: dict[str, Any] = field(default_factory=two_models)
    audit: FakeAudit = field(init=False)
    specialists: FakeSpecialists = field(init=False)
    guard: FakeGuard = field(init=False)
    people: FakePeople = field(init=False)
    PASSWORD: ClassVar = PASSWORD
    FOUND: ClassVar = _FOUND

    def __post_init__(self) -> None:
        self.audit = FakeAudit(self)
        self.specialists = FakeSpecialists(self)
        self.guard = FakeGuard(self)
        self.ends_late_s = 0.0  # how long the end of a stream is on its way to the browser
        self.people = FakePeople(self)
        routes = [
            Route("/v1/sessions", self.sign_in, methods=["POST"]),
            Route("/v1/sessions/current", self.current, methods=["GET"]),
            Route("/v1/sessions/current", self.sign_out, methods=["DELETE"]),
            Route("/v1/setup", self.setup_state, methods=["GET"]),
            Route("/v1/setup", self.setup, methods=["POST"]),
            Route("/v1/deidentify", self.deidentify, methods=["POST"]),
            Route("/v1/audit/records", self.list_records),
            Route("/v1/audit/records/{record_id}", self.show_record),
            Route("/v1/audit/receipts/{record_id}", self.show_receipt),
            Route("/v1/audit/checkpoint", self.checkpoint),
            Route("/v1/audit/verify", self.verify, methods=["POST"]),
            Route("/v1/system/protection", self.show_protection),
            Route("/v1/system/capacity", self.show_capacity),
            *self.audit.routes(),
            *self.specialists.routes(),
            *self.guard.routes(),
            *self.people.routes(),
            Route("/healthz", lambda _: PlainTextResponse("ok")),
        ]
        self.app = Starlette(routes=routes, exception_handlers={Refusal: lambda _, refusal: refusal.response})

    @staticmethod
    def refusal(status: int, code: str, message: str, hint: str | None = None) -> Refusal:
        return Refusal(status, code, message, hint)

    def open_session(self, name: str) -> str:
        secret = secrets.token_urlsafe(32)
        self.sessions[secret] = name
        return secret

    def fill(self, count: int) -> None:
        for _ in range(count):
            self._append("deidentify.answered", "m.keller", "completed", {"chars": 120, "spans": 4})

    # ---- sessions

    def _caller(self, request: Request) -> str:
        name = self.sessions.get(request.cookies.get("sid", ""))
        if name is None:
            raise Refusal(401, "unauthenticated", "not signed in", "sign in first")
        if request.method not in {"GET", "HEAD"} and request.headers.get("x-csrf-token") != f"csrf-{name}":
            raise Refusal(403, "permission_denied", "the request has no valid X-CSRF-Token header")
        return name

    async def sign_in(self, request: Request) -> Response:
        body = await request.json()
        self.addresses.append(request.client.host)
        if body["username"] not in self.users or body["password"] != PASSWORD:
            raise Refusal(401, "unauthenticated", "the user name or the password is wrong", "check both and try again")
        secret = self.open_session(body["username"])
        answer = JSONResponse({"user": {"name": body["username"], "roles": self.users[body["username"]]}, "csrf": "c"})
        answer.set_cookie("sid", secret, httponly=True, samesite="strict")
        return answer

    async def current(self, request: Request) -> Response:
        self.session_questions += 1
        if self.busy:
            raise Refusal(429, "queue_full", "the server is busy")
        name = self._caller(request)
        user = {"id": f"user:{name}", "name": name, "roles": self.users[name]}
        return JSONResponse({"user": user, "site": "St. Brigid Hospital", "version": "0.1.0", "csrf": f"csrf-{name}"})

    async def sign_out(self, request: Request) -> Response:
        self._caller(request)
        del self.sessions[request.cookies["sid"]]
        return Response(status_code=204)

    async def setup_state(self, _: Request) -> Response:
        return JSONResponse({"open": self.setup_open})

    async def setup(self, request: Request) -> Response:
        body = await request.json()
        if not self.setup_open or body["token"] != SETUP_TOKEN:
            raise Refusal(401, "setup_link_invalid", "this setup link is not valid", "make a new one: appliance init")
        if len(body["password"]) < 12:
            raise Refusal(422, "invalid_request", "the password is shorter than 12 characters")
        self.setup_open = False
        self.users[body["username"]] = ["admin", "user"]
        return JSONResponse({"user": {"name": body["username"]}}, 201)

    # ---- the site

    async def show_protection(self, request: Request) -> Response:
        self.audit._caller(request, "auditor", "admin")
        return JSONResponse(self.protection)

    async def show_capacity(self, request: Request) -> Response:
        self.audit._caller(request, "auditor", "admin")
        return JSONResponse(self.capacity)

    # ---- text

    async def deidentify(self, request: Request) -> Response:
        actor, body = self._caller(request), await request.json()
        text, style = body["text"], body["style"]
        if "user" not in self.users[actor]:
            raise Refusal(403, "permission_denied", f"{actor} may not run specialists", "ask an administrator")
        if not text.strip():
            raise Refusal(422, "input_empty", "the text is empty", "paste or type a note")
        if any("\ud800" <= char <= "\udfff" or char == "\0" for char in text):
            raise Refusal(422, "input_not_text", "the text holds characters that are not text")
        if self.audit_down:
            raise Refusal(503, "audit_unavailable", "the answer could not be recorded, so it was not released")
        spans = [
            {"start": m.start(), "end": m.end(), "label": m.lastgroup, "score": 0.99} for m in _FOUND.finditer(text)
        ]
        redacted, counts = _redact(text, spans, style)
        record = self._append("deidentify.answered", actor, "completed", {"chars": len(text), "spans": len(spans)})
        self.texts[record["record_id"]] = text
        specialist = {"id": "phi-deid", "version": "0.1.0", "sha256": "5b" * 32}
        return JSONResponse(
            {
                "text": redacted,
                "spans": spans,
                "style": style,
                "counts": counts,
                "specialist": specialist,
                "receipt": self._receipt(record),
                "elapsed_ms": 41.3,
            }
        )

    # ---- audit

    def _append(self, event: str, actor: str, outcome: str, attributes: dict[str, Any]) -> dict[str, Any]:
        seq = len(self.records)
        record = {
            "seq": seq,
            "record_id": hashlib.sha256(str(seq).encode()).hexdigest()[:32],
            "time": (datetime(2026, 11, 23, 18, 0, tzinfo=UTC) + timedelta(seconds=37 * seq)).isoformat(),
            "kind": "record",
            "event": event,
            "outcome": outcome,
            "actor": actor,
            "actor_name": None,
            "actor_gone": False,
            "exchange_id": secrets.token_hex(16),
            "attributes": attributes,
            "has_content": True,
        }
        self.records.append(record)
        return record

    def _visible(self, request: Request) -> list[dict[str, Any]]:
        name = self._caller(request)
        everything = "auditor" in self.users[name]
        return [record for record in self.records if everything or record["actor"] == name]

    def _one(self, request: Request) -> dict[str, Any]:
        for record in self._visible(request):
            if record["record_id"] == request.path_params["record_id"]:
                return record
        raise Refusal(404, "record_not_found", "there is no record with that id", "check the id on the receipt")

    async def list_records(self, request: Request) -> Response:
        after = int(request.query_params.get("after", 10**9))
        limit = int(request.query_params.get("limit", 50))
        older = [record for record in reversed(self._visible(request)) if record["seq"] < after]
        more = len(older) > limit
        return JSONResponse({"data": older[:limit], "next": older[limit - 1]["seq"] if more else None})

    async def show_record(self, request: Request) -> Response:
        record = self._one(request)
        auditor = "auditor" in self.users[self._caller(request)]
        destroyed = self.destroyed.get(record["record_id"])
        content = self.texts.get(record["record_id"], "a note") if auditor and not destroyed else None
        return JSONResponse({**record, "content": content, "destroyed": destroyed})

    async def show_receipt(self, request: Request) -> Response:
        record = self._one(request)
        proof = f"c2sp.org/tlog-proof@v1\nindex {record['seq']}\n\n{_checkpoint(len(self.records))}"
        return JSONResponse({**self._receipt(record), "proof_file": proof})

    async def checkpoint(self, request: Request) -> Response:
        self._caller(request)
        size = len(self.records)
        return JSONResponse(
            {
                "checkpoint": _checkpoint(size),
                "verifier_key": "cloister.local/audit+9a3c1f20+AbCd" + "Ef" * 20,
                "origin": "cloister.local/audit",
                "size": size,
            }
        )

    async def verify(self, request: Request) -> Response:
        self._caller(request)
        which = "everything" if request.query_params.get("full") == "true" else "new"
        self.audit.verified.append(which)
        if self.tampered:
            return JSONResponse(
                {
                    "verdict": "altered",
                    "exit_code": 10,
                    "records": len(self.records),
                    "first_bad_seq": 1,
                    "messages": ["record 1: leaf hash differs"],
                }
            )
        good = {"verdict": "ok", "exit_code": 0, "records": len(self.records), "first_bad_seq": None}
        return JSONResponse(good | {"messages": [f"what was looked at: {which}"]})

    def _receipt(self, record: dict[str, Any]) -> dict[str, Any]:
        size = len(self.records)
        return {
            "record_id": record["record_id"],
            "seq": record["seq"],
            "leaf": "ab" * 32,
            "size": size,
            "origin": "cloister.local/audit",
            "checkpoint": _checkpoint(size),
            "proof": ["cd" * 32],
        }


def _checkpoint(size: int) -> str:
    root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    return f"cloister.local/audit\n{size}\n{root}\n\n— cloister.local/audit mjwfIAb1\n"


def _redact(text: str, spans: list[dict[str, Any]], style: str) -> tuple[str, dict[str, int]]:
    parts, done, counts = [], 0, {}
    for span in spans:
        counts[span["label"]] = counts.get(span["label"], 0) + 1
        replaced = {"label": f"[{span['label']} {counts[span['label']]}]", "surrogate": f"<{span['label'].lower()}>"}
        parts += [text[done : span["start"]], replaced.get(style, "█" * (span["end"] - span["start"]))]
        done = span["end"]
    return "".join([*parts, text[done:]]), counts
