"""The audit routes of the in-memory API: search, activity, exposure, holds, retention, erasure, export, epochs.

Rules are only as deep as the pages can see: roles, the second person, a hold that stands in the way of a shred. A
search can be made to wait (`search_waits`), so that a test sees it under way; `cancelled` counts those left early.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from fake_api import FakeApi

EXPORT_PIECES = 64
FORMATS = {"bundle": "zip", "jsonl": "jsonl", "fhir": "json", "cef": "cef", "tiles": "zip"}
_EXACT = ("event", "actor", "outcome", "exchange_id")


def new_exposure() -> dict[str, Any]:
    return {
        "size": 60,
        "anchored_size": 58,
        "age_s": 34.0,
        "target_s": 60.0,
        "alarm": False,
        "sinks": [
            {"sink": "witness", "size": 58, "age_s": 34.0, "problem": None},
            {"sink": "siem", "size": 55, "age_s": 71.0, "problem": None},
        ],
        "quarantine": None,
    }


def _retention() -> dict[str, dict[str, Any]]:
    return {
        "exchange": {"months": 72, "oldest": "2020-01", "expired": ["2020-01", "2020-02"]},
        "administration": {"months": 72, "oldest": "2026-11", "expired": []},
    }


@dataclass
class FakeAudit:
    """State of these routes. `owner` knows sessions and records."""

    owner: FakeApi
    exposure: dict[str, Any] = field(default_factory=new_exposure)
    holds: list[dict[str, Any]] = field(default_factory=list)
    retention: dict[str, dict[str, Any]] = field(default_factory=_retention)
    erasures: list[dict[str, Any]] = field(default_factory=list)
    searches: list[dict[str, Any]] = field(default_factory=list)
    subjects: dict[str, int] = field(default_factory=lambda: {"case-4471": 3})
    exported: int = 0
    verified: list[str] = field(default_factory=list)
    cancelled: int = 0
    search_waits: bool = False
    search_limit: int | None = None

    def routes(self) -> list[Route]:
        return [
            Route("/v1/audit/search", self.search, methods=["POST"]),
            Route("/v1/audit/activity", self.activity),
            Route("/v1/audit/exposure", self.show_exposure),
            Route("/v1/audit/holds", self.list_holds, methods=["GET"]),
            Route("/v1/audit/holds", self.set_hold, methods=["POST"]),
            Route("/v1/audit/holds/{hold}/release", self.release, methods=["POST"]),
            Route("/v1/audit/retention", self.show_retention, methods=["GET"]),
            Route("/v1/audit/retention", self.set_retention, methods=["PUT"]),
            Route("/v1/audit/retention/run", self.run_retention, methods=["POST"]),
            Route("/v1/audit/shred", self.shred, methods=["POST"]),
            Route("/v1/audit/erasures", self.list_erasures),
            Route("/v1/audit/epochs", self.epochs),
            Route("/v1/audit/export", self.export),
            Route("/v1/audit/receipts/check", self.check_receipt, methods=["POST"]),
        ]

    def _caller(self, request: Request, *roles: str) -> str:
        name = self.owner._caller(request)
        if roles and not set(roles) & set(self.owner.users[name]):
            raise self.owner.refusal(403, "permission_denied", f"{name!r} may not do this", "ask an administrator")
        return name

    # ---- looking

    async def search(self, request: Request) -> Response:
        self._caller(request, "auditor", "user")
        query = await request.json()
        self.searches.append(query)
        visible = self.owner._visible(request)
        return StreamingResponse(self._found(query, visible), media_type="application/x-ndjson")

    async def _found(self, query: dict[str, Any], records: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        limit, found, total = min(query["limit"], self.search_limit or 10**6), 0, len(records)
        done = False
        try:
            for scanned, record in enumerate(reversed(records), start=1):
                if self._matches(query, record):
                    found += 1
                    yield _line({"record": record})
                if scanned % 20 == 0 or found == limit:
                    yield _line({"progress": {"scanned": scanned, "total": total}})
                    await asyncio.sleep(0)
                while self.search_waits:
                    await asyncio.sleep(0.02)
                if found == limit:
                    break
            yield _line({"end": {"found": found, "scanned": total, "complete": found < limit}})
            done = True
        finally:
            self.cancelled += not done

    def _matches(self, query: dict[str, Any], record: dict[str, Any]) -> bool:
        if any(query.get(name) and query[name] != record[name] for name in _EXACT):
            return False
        if (query.get("from") and record["time"] < query["from"]) or (
            query.get("to") and record["time"] >= query["to"]
        ):
            return False
        held = f"{record['event']} {record['attributes']} {self.owner.texts.get(record['record_id'], '')}"
        return not query.get("text") or query["text"].lower() in held.lower()

    async def activity(self, request: Request) -> Response:
        self._caller(request)
        start, end = (datetime.fromisoformat(request.query_params[name]) for name in ("from", "to"))
        count = int(request.query_params["buckets"])
        step = (end - start) / count
        quiet = range(count // 2, count // 2 + max(1, count // 12))
        buckets = [
            {
                "start": (start + step * number).isoformat(),
                "exchange": 0 if number in quiet else (number * 7) % 23,
                "administration": 0 if number in quiet else number % 4,
                "public": 0 if number in quiet else 6,
            }
            for number in range(count)
        ]
        return JSONResponse({"from": start.isoformat(), "to": end.isoformat(), "buckets": buckets})

    async def show_exposure(self, request: Request) -> Response:
        self._caller(request)
        return JSONResponse({**self.exposure, "size": len(self.owner.records)})

    async def epochs(self, request: Request) -> Response:
        self._caller(request)
        begun = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
        return JSONResponse(
            {
                "data": [
                    {"number": 1, "origin": "cloister.local/audit/e1", "size": 812, "begun_time": begun.isoformat()},
                    {
                        "number": 2,
                        "origin": "cloister.local/audit/e2",
                        "size": len(self.owner.records),
                        "begun_time": (begun + timedelta(days=190)).isoformat(),
                    },
                ]
            }
        )

    async def export(self, request: Request) -> Response:
        self._caller(request, "auditor")
        format_ = request.query_params["format"]
        if format_ not in FORMATS:
            raise self.owner.refusal(422, "invalid_request", "the format is not known")

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(EXPORT_PIECES):
                self.exported += 1
                yield f"{format_} {number}\n".encode() * 64

        name = f'attachment; filename="audit-export.{FORMATS[format_]}"'
        return StreamingResponse(pieces(), media_type="application/octet-stream", headers={"content-disposition": name})

    async def check_receipt(self, request: Request) -> Response:
        self._caller(request)
        proof = (await request.json())["proof_file"]
        if not proof.startswith("c2sp.org/tlog-proof@v1\n"):
            raise self.owner.refusal(422, "invalid_request", "this is not a receipt", "paste the whole file")
        seq = int(proof.split("index ")[1].split("\n")[0])
        if seq >= len(self.owner.records):
            self.exposure["quarantine"] = "a receipt names a record that this log does not hold"
            return JSONResponse({"verdict": "truncated", "seq": seq, "message": "the log is shorter than the receipt"})
        return JSONResponse({"verdict": "ok", "seq": seq, "message": "the record is in the log, unchanged"})

    # ---- deciding

    async def list_holds(self, request: Request) -> Response:
        self._caller(request, "auditor", "admin")
        return JSONResponse({"data": list(reversed(self.holds))})

    async def set_hold(self, request: Request) -> Response:
        name = self._caller(request, "auditor", "admin")
        body = await request.json()
        if not body["subjects"] and not body["classes"]:
            raise self.owner.refusal(422, "invalid_request", "the hold covers nothing", "name a subject or a class")
        hold = {
            "hold": hashlib.sha256(str(len(self.holds)).encode()).hexdigest()[:16],
            "reason": body["reason"],
            "subjects": len(body["subjects"]),
            "classes": body["classes"],
            "set": {"seq": len(self.owner.records), "time": _now(), "by": f"user:{name}", "by_name": name},
            "release_requested": None,
            "released": None,
        }
        self.owner._append("audit.hold", name, "completed", {"hold": hold["hold"]})
        self.holds.append(hold)
        return JSONResponse(hold, 201)

    async def release(self, request: Request) -> Response:
        name = self._caller(request, "auditor", "admin")
        hold = next((hold for hold in self.holds if hold["hold"] == request.path_params["hold"]), None)
        if hold is None or hold["released"]:
            raise self.owner.refusal(409, "conflict", "there is no such active hold")
        asked = hold["release_requested"]
        if asked is None:
            hold["release_requested"] = {"by": f"user:{name}", "by_name": name, "time": _now()}
            return JSONResponse({"state": "requested", "by": f"user:{name}"}, 202)
        if asked["by"] == f"user:{name}":
            raise self.owner.refusal(
                409, "second_person_needed", "a second person must approve this", "ask a colleague to sign in"
            )
        hold["released"] = {"seq": len(self.owner.records), "time": _now()}
        return JSONResponse({"state": "released"})

    async def show_retention(self, request: Request) -> Response:
        self._caller(request, "auditor", "admin")
        return JSONResponse({"classes": [{"class": name, **rule} for name, rule in self.retention.items()]})

    async def set_retention(self, request: Request) -> Response:
        self._caller(request, "admin")
        body = await request.json()
        rule = self.retention[body["class"]]
        if body["months"] < rule["months"]:
            words = f"{body['class']} is kept {rule['months']} months and cannot be kept for less"
            raise self.owner.refusal(409, "retention_shortened", words, "a time may be lengthened only")
        rule["months"] = body["months"]
        return await self.show_retention(request)

    async def run_retention(self, request: Request) -> Response:
        name = self._caller(request, "admin")
        purged = []
        for record_class, rule in self.retention.items():
            for month in rule["expired"]:
                purged.append({"class": record_class, "month": month, "records": 118})
                record = self.owner._append("audit.purge", name, "completed", {"month": month})
                self._erased(record["seq"], "purge", 118)
            rule["expired"] = []
        held = [
            {"class": hold["classes"][0], "month": "2020-03", "hold": hold["hold"]}
            for hold in self.holds
            if hold["classes"] and not hold["released"]
        ]
        return JSONResponse({"purged": purged, "held": held})

    async def shred(self, request: Request) -> Response:
        name = self._caller(request, "admin")
        body = await request.json()
        if any(hold["subjects"] and not hold["released"] for hold in self.holds):
            raise self.owner.refusal(
                409, "under_legal_hold", "a legal hold covers this subject", "release the hold first"
            )
        if body["subject"] not in self.subjects:
            raise self.owner.refusal(404, "not_found", "nothing is kept under this subject", "check its spelling")
        records = self.subjects.pop(body["subject"])
        record = self.owner._append("audit.shred", name, "completed", {"reason": body["reason"]})
        self._erased(record["seq"], "shred", records)
        return JSONResponse(
            {
                "record_id": record["record_id"],
                "seq": record["seq"],
                "grade": "B",
                "records": records,
                "time": _now(),
                "backups": 2,
                "backups_expire": "2026-12-24T02:00:00Z",
                "statement": "The keys of these contents were overwritten in the keystore. Copies of the keystore made"
                " before this time can still open them until they are destroyed too.",
            }
        )

    async def list_erasures(self, request: Request) -> Response:
        self._caller(request, "auditor", "admin")
        return JSONResponse({"data": list(reversed(self.erasures))})

    def _erased(self, seq: int, kind: str, records: int) -> None:
        self.erasures.append({"seq": seq, "kind": kind, "erased": records, "done": True, "time": _now()})


def _line(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode() + b"\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
