"""The specialist and teaching routes of the in-memory API: cards, versions and their life, running, tables, jobs.

Rules are only as deep as the pages can see: roles, the second person, what each task takes and gives. A job moves one
step each time it is looked at, so that no test waits for a clock.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from fake_api import FakeApi

STEPS = ("reading the texts", "fitting the head", "measuring on held-back rows")
_VERSION_FIELDS = (
    "id name version sha256 state signer signed admitted reason installed_by installed_at approved_by approved_at"
    " promoted_by promoted_at"
).split()
_WORDS = {"card": "bank-intent", "aspirin": "biomed-ner"}
_CHEMICAL = re.compile(r"\b(?:aspirin|apixaban|sodium)\b", re.IGNORECASE)


def card(specialist: str, name: str, task: str, **more: Any) -> dict[str, Any]:
    """A card as the API gives it: the manifest's fields, and what the registry knows."""
    return {
        "id": specialist, "name": name, "task": task, "version": "1.1.0", "summary": f"{name}, in one sentence.",
        "labels": [], "licence": "Apache-2.0", "intended_use": "Preparing English text for people who check it.",
        "limits": "Trained on English. Misses happen: a person reviews what leaves the organisation.",
        "sources": [{"name": "BC5CDR", "licence": "CC BY 4.0", "attribution": "Li et al. 2016", "use": "Abstracts."}],
        "evaluation": [
            {
                "name": "Held-back part", "dataset": "the tenth that neither training nor tuning saw", "items": 318,
                "metrics": {"recall": 0.983, "recall_low": 0.979, "recall_high": 0.987, "precision": 0.925},
                "command": "appliance evaluate ID data.jsonl", "note": "Measured through the serving path.",
            }
        ],
        "created": "2026-11-23", "unit": "text", "context": "none", "context_name": "", "multi_label": False,
        "sha256": "5b" * 32, "state": "active", "signer": "release", "signed": True,
        "installed_at": "2026-11-23T09:00:00+00:00", "installed_by": "user:d.reed", "approved_by": "user:c.lowe",
        "admitted": "signature", "reason": None, "promoted_by": "user:c.lowe",
        "approved_at": "2026-11-24T09:00:00+00:00", "promoted_at": "2026-11-24T09:30:00+00:00", "routing": None,
    } | more  # fmt: skip


def routing(*ids: str) -> dict[str, Any]:
    """How the router found these, as the API tells it: all requests but one reach the right one."""
    share = {"share": 0.9, "low": 0.85, "high": 0.94, "items": 10}
    columns = dict.fromkeys((*ids, "(abstains)"), 0)
    matrix = {one: columns | {one: 9, "(abstains)": 1} for one in ids}
    found = {"requests": 10 * len(ids), "right": share, "right_of_all": share, "none_declined": share}
    return found | {"matrix": matrix, "command": "python -m appliance.training.routing.evaluate --data DATA"}


def all_cards() -> dict[str, dict[str, Any]]:
    accuracy = [{**card("x", "x", "x")["evaluation"][0], "metrics": {"accuracy": 0.945, "macro_f1": 0.941}}]
    cards = (
        card(
            "phi-deid", "Clinical de-identifier", "tag", labels=["NAME", "DATE", "MRN"],
            routing=routing("phi-deid", "bank-intent"),
        ),
        card(
            "biomed-ner", "Chemicals and diseases", "tag", labels=["Chemical", "Disease"],
            routing=routing("phi-deid", "biomed-ner"),
        ),
        card("bank-intent", "Banking questions", "classify", labels=["card_arrival", "lost_card"], evaluation=accuracy),
        card(
            "fin-sentiment", "Sentiment of headlines", "classify", labels=["negative", "neutral", "positive"],
            context="optional", context_name="entity", evaluation=[],
        ),
        card("doc-answer", "Answers from a document", "answer", evaluation=accuracy),
    )  # fmt: skip
    return {one["id"]: one for one in cards}


@dataclass
class FakeSpecialists:
    """State of these routes. `owner` knows sessions and records."""

    owner: FakeApi
    cards: dict[str, dict[str, Any]] = field(default_factory=all_cards)
    versions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[dict[str, Any]] = field(default_factory=list)

    def routes(self) -> list[Route]:
        one, version = "/v1/specialists/{id}", "/v1/specialists/{id}/versions/{version}"
        job = "/v1/teaching/jobs/{job}"
        return [
            Route("/v1/specialists", self.list, methods=["GET"]),
            Route("/v1/specialists", self.install, methods=["POST"]),
            Route("/v1/specialist-keys", self.list_keys, methods=["GET"]),
            Route("/v1/specialist-keys", self.trust, methods=["POST"]),
            Route("/v1/specialist-keys/{name}", self.distrust, methods=["DELETE"]),
            Route("/v1/specialist-versions", self.every_version, methods=["GET"]),
            Route(one, self.show, methods=["GET"]),
            Route(f"{one}/versions", self.list_versions, methods=["GET"]),
            Route(f"{one}/run", self.run, methods=["POST"]),
            Route(f"{one}/rollback", self.roll_back, methods=["POST"]),
            Route(version, self.remove, methods=["DELETE"]),
            Route(f"{version}/file", self.file, methods=["GET"]),
            Route(f"{version}/{{decision}}", self.decide, methods=["POST"]),
            Route("/v1/route", self.route, methods=["POST"]),
            Route("/v1/teaching/tables", self.table, methods=["POST"]),
            Route("/v1/teaching/jobs", self.begin, methods=["POST"]),
            Route(job, self.look, methods=["GET"]),
            Route(job, self.stop, methods=["DELETE"]),
            Route(f"{job}/submit", self.submit, methods=["POST"]),
        ]

    def _caller(self, request: Request, *roles: str) -> str:
        return self.owner.audit._caller(request, *roles)

    # ---- cards and versions

    async def list(self, request: Request) -> Response:
        self._caller(request)
        return JSONResponse({"data": [card for card in self.cards.values() if card["state"] == "active"]})

    async def show(self, request: Request) -> Response:
        self._caller(request)
        return JSONResponse(self._card(request))

    def _card(self, request: Request) -> dict[str, Any]:
        found = self.cards.get(request.path_params["id"])
        if found is None:
            raise self.owner.refusal(404, "specialist_not_found", "there is no specialist of that name")
        return found

    async def list_versions(self, request: Request) -> Response:
        self._caller(request)
        return JSONResponse({"data": self._versions(request.path_params["id"])})

    async def every_version(self, request: Request) -> Response:
        self._caller(request)
        names = dict.fromkeys((*self.cards, *self.versions))
        return JSONResponse({"data": [one for name in names for one in self._versions(name)]})

    def _versions(self, specialist: str) -> list[dict[str, Any]]:
        """Newest first. What is bundled has an older version, so that there is something to go back to."""
        known = self.cards.get(specialist)
        if specialist not in self.versions and known is not None:
            active = {name: known[name] for name in _VERSION_FIELDS}
            self.versions[specialist] = [active, {**active, "version": "1.0.0", "state": "retired"}]
        if specialist not in self.versions:
            raise self.owner.refusal(404, "specialist_not_found", "there is no specialist of that name")
        return self.versions[specialist]

    def add_version(self, specialist: str, version: str, by: str) -> dict[str, Any]:
        entry = {
            "id": specialist, "name": self.cards.get(specialist, {"name": specialist})["name"], "version": version,
            "sha256": "7d" * 32, "state": "awaiting_approval", "signer": None, "signed": False, "admitted": "taught",
            "reason": None, "promoted_by": None, "promoted_at": None, "installed_by": by,
            "installed_at": "2026-11-26T09:00:00+00:00", "approved_by": None,
            "approved_at": None,
        }  # fmt: skip
        known = self._versions(specialist) if specialist in self.cards else self.versions.setdefault(specialist, [])
        known.insert(0, entry)
        return entry

    async def install(self, request: Request) -> Response:
        name = f"user:{self._caller(request, 'admin')}"
        async with request.form() as form:
            if "signature" not in form and not form.get("reason"):
                words = "the file is not signed"
                raise self.owner.refusal(409, "signer_untrusted", words, "send its signature file too")
            content = (await form["file"].read()).decode()
        specialist, version = content.split()
        entry = self.add_version(specialist, version, name)
        entry |= {"admitted": "signature" if "signature" in form else "decision", "reason": form.get("reason")}
        return JSONResponse(entry, 201)

    async def file(self, request: Request) -> Response:
        self._caller(request, "admin")
        named = "{id}-{version}".format(**request.path_params)
        headers = {"content-disposition": f'attachment; filename="{named}.zip"'}
        return Response(f"PK {named}", media_type="application/zip", headers=headers)

    async def list_keys(self, request: Request) -> Response:
        self._caller(request)
        return JSONResponse({"data": self.keys})

    async def trust(self, request: Request) -> Response:
        name, body = f"user:{self._caller(request, 'admin')}", await request.json()
        if "BEGIN PUBLIC KEY" not in body["public_key"]:
            raise self.owner.refusal(400, "invalid_request", "that is no public key in PEM", "open the .pem file")
        added = {"fingerprint": "c4" * 32, "added_at": "2026-11-26T09:00:00+00:00", "added_by": name}
        self.keys.append({**body, **added})
        return JSONResponse(self.keys[-1], 201)

    async def distrust(self, request: Request) -> Response:
        self._caller(request, "admin")
        self.keys = [key for key in self.keys if key["name"] != request.path_params["name"]]
        return Response(status_code=204)

    async def decide(self, request: Request) -> Response:
        name = f"user:{self._caller(request, 'admin')}"
        entries = self._versions(request.path_params["id"])
        entry = next(one for one in entries if one["version"] == request.path_params["version"])
        decision = request.path_params["decision"]
        if decision == "approve":
            if entry["installed_by"] == name:
                words = "a specialist is approved by another person than who installed it"
                raise self.owner.refusal(409, "second_person_needed", words, "ask a colleague to sign in")
            entry |= {"state": "approved", "approved_by": name, "approved_at": "2026-11-26T10:00:00+00:00"}
        elif decision == "promote":
            self._activate(entry, entries)
        return JSONResponse(entry)

    async def roll_back(self, request: Request) -> Response:
        self._caller(request, "admin")
        entries = self._versions(request.path_params["id"])
        before = next((one for one in entries if one["state"] == "retired"), None)
        if before is None:
            raise self.owner.refusal(409, "conflict", "there is no version to go back to")
        retired = next(one for one in entries if one["state"] == "active")
        self._activate(before, entries)
        return JSONResponse({"retired": retired, "active": before})

    def _activate(self, entry: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        for one in entries:
            if one["state"] == "active":
                one["state"] = "retired"
        entry["state"] = "active"
        known = self.cards.setdefault(entry["id"], card(entry["id"], entry["id"], "classify", labels=["a", "b"]))
        known |= {"version": entry["version"], "state": "active"}

    async def remove(self, request: Request) -> Response:
        self._caller(request, "admin")
        entries = self._versions(request.path_params["id"])
        entries[:] = [one for one in entries if one["version"] != request.path_params["version"]]
        return Response(status_code=204)

    # ---- running

    async def run(self, request: Request) -> Response:
        actor, card, body = self._caller(request, "user"), self._card(request), await request.json()
        self.asked.append({"specialist": card["id"], **body})
        if not (body.get("text") or body.get("context") or "").strip():
            raise self.owner.refusal(400, "input_empty", "the text is empty", "send at least one character")
        record = self.owner._append("specialist.answered", actor, "completed", {"specialist": card["id"]})
        answer = {"specialist": {name: card[name] for name in ("id", "version", "sha256")}, "elapsed_ms": 12.34}
        return JSONResponse(answer | self._found(card, body) | {"receipt": self.owner._receipt(record)})

    def _found(self, card: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        if card["task"] == "answer":
            start = body["context"].find("40 mg")
            quote = {"text": "40 mg", "start": start, "end": start + 5, "score": 0.91}
            return {"answer": None if start < 0 else quote}
        if card["task"] == "tag":
            pattern, text = (_CHEMICAL if card["id"] == "biomed-ner" else self.owner.FOUND), body["text"]
            label = card["labels"][0]
            spans = [{"start": m.start(), "end": m.end(), "label": label, "score": 0.9} for m in pattern.finditer(text)]
            return {"spans": spans}
        scores = [{"label": label, "score": round(0.8 / 4**place, 4)} for place, label in enumerate(card["labels"])]
        sure = "weather" not in body["text"]
        return {"label": card["labels"][0] if sure else None, "score": 0.8 if sure else 0.31, "scores": scores}

    async def route(self, request: Request) -> Response:
        """By one word: real routing is the appliance's."""
        actor, text = self._caller(request, "user"), (await request.json())["text"]
        chosen = next((name for word, name in _WORDS.items() if word in text), None)
        record = self.owner._append("specialist.route", actor, "completed", {"abstained": chosen is None})
        scores = [{"specialist": name, "score": 0.94 if name == chosen else 0.02} for name in self.cards]
        reason = f"closest to examples of {chosen}" if chosen else "nothing that is installed is close enough"
        return JSONResponse(
            {
                "specialist": chosen, "score": 0.94 if chosen else 0.2, "reason": reason, "abstained": chosen is None,
                "runner_up": {"specialist": "phi-deid", "score": 0.02}, "scores": scores,
                "nearest": [{"specialist": "bank-intent", "example": "<i>my card</i> is lost", "score": 0.81}],
                "receipt": self.owner._receipt(record),
            }
        )  # fmt: skip

    # ---- teaching

    async def table(self, request: Request) -> Response:
        self._caller(request, "user", "admin")
        async with request.form() as form:
            content = await form["file"].read()
            named = form.get("text_column"), form.get("label_column")
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8", "replace"))))
        columns = list(rows[0]) if rows else []
        if len(columns) < 2:
            words = f"the table has {len(columns)} columns"
            raise self.owner.refusal(400, "invalid_request", words, "it needs a column of texts and one of labels")
        text, label = named[0] or columns[0], named[1] or columns[-1]
        sizes = Counter(row[label] for row in rows)
        single = sum(count == 1 for count in sizes.values())
        problems = []
        if single:
            words = f"{single} labels have a single text: they are learned, and nobody can say how well"
            problems.append(_problem("single_example", "warning", words, [4]))
        if len(sizes) < 2:
            words = "the table has 1 label: nothing can be told apart"
            problems.append(_problem("one_class", "refusal", words, []))
        return JSONResponse(
            {
                "table": "ab" * 8, "columns": columns, "text_column": text, "label_column": label, "rows": len(rows),
                "labels": [{"label": name, "rows": count} for name, count in sizes.items()], "problems": problems,
                "ready": len(sizes) > 1, "encoding": "utf-8", "texts": len(rows), "sha256": "5b" * 32,
            },
            201,
        )  # fmt: skip

    async def begin(self, request: Request) -> Response:
        name, body = self._caller(request, "user", "admin"), await request.json()
        if not body["name"] or not body["id"]:
            raise self.owner.refusal(400, "invalid_request", "the specialist has no name", "give it one")
        job = f"{len(self.jobs) + 1:016x}"
        self.jobs[job] = {
            "job": job, "id": body["id"], "version": "1.0.0", "state": "waiting", "progress": 0.0, "step": "waiting",
            "report": None, "error": None, "by": name, "wanted": body,
        }  # fmt: skip
        return JSONResponse(self._shown(job), 202)

    async def look(self, request: Request) -> Response:
        self._caller(request)
        found = self._job(request)
        steps = round(found["progress"] * len(STEPS))
        if found["state"] in {"waiting", "running"} and steps < len(STEPS):
            found |= {"state": "running", "step": STEPS[steps], "progress": (steps + 1) / len(STEPS)}
        elif found["state"] == "running":
            found |= {"state": "done", "step": "done", "report": _report()}
        return JSONResponse(self._shown(found["job"]))

    async def submit(self, request: Request) -> Response:
        name = self._caller(request)
        wanted = self._job(request)["wanted"]
        self._job(request)["state"] = "submitted"
        return JSONResponse(self.add_version(wanted["id"], "1.0.0", f"user:{name}"), 201)

    async def stop(self, request: Request) -> Response:
        self._caller(request)
        del self.jobs[self._job(request)["job"]]
        return Response(status_code=204)

    def _job(self, request: Request) -> dict[str, Any]:
        found = self.jobs.get(request.path_params["job"])
        if found is None:
            raise self.owner.refusal(404, "not_found", "there is no such job", "start the training once more")
        return found

    def _shown(self, job: str) -> dict[str, Any]:
        return {name: value for name, value in self.jobs[job].items() if name not in {"by", "wanted"}}


def _problem(code: str, severity: str, words: str, lines: list[int]) -> dict[str, Any]:
    return {"code": code, "severity": severity, "message": words, "rows": len(lines), "lines": lines}


def _share(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.05}


def _report() -> dict[str, Any]:
    return {
        "items": 60,
        "metrics": {"accuracy": _share(0.9), "macro_f1": _share(0.885), "always_the_commonest": _share(0.66)},
        "calibration_error": 0.04,
        "per_label": [
            {"label": "billing", "precision": _share(0.9), "recall": _share(0.95), "f1": 0.924, "items": 40},
            {"label": "<b>delivery</b>", "precision": _share(0.88), "recall": _share(0.8), "f1": 0.838, "items": 20},
        ],
        "problems": [_problem("duplicates", "note", "3 rows repeat a text; each text counts once", [])],
        "confusion": {"labels": ["billing", "<b>delivery</b>"], "counts": [[38, 2], [4, 16]]},
    }
