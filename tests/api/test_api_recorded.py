"""Every route leaves a record of a named event, or is one of the few that show nothing of anybody; a new route fails
here until it says which record it leaves.

The walk goes through a real server as the people whom its routes are for, with requests that succeed. After each step
the log, read by the auditor, holds a record of that event, by that person, that was not there before.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from appliance.crypto import ecdsa
from tests.conftest import ADMIN_PASSWORD, AUDITOR_PASSWORD, USER_PASSWORD
from tests.specialist_files import REAL_BASE, write_classifier

PASSWORD = "lantern-copper-river-5"
SPAN = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
TICKET = "My card was declined at the supermarket"
NOBODY = "anonymous"
RECORDED_S = 30.0  # a bound on waiting for a record; it is there at once where nothing else runs
INSTALLED, SIGNER = {"specialist": "walk-triage", "version": "0.1.0"}, {"name": "walk-signer"}
FIND = "/v1/specialists/{specialist}/find"
TAUGHT = {"table": "{table}", "id": "walk-taught", "text_column": "message", "label_column": "team"}
ROWS = [f"my card was {word},cards\nmy loan was {word},loans" for word in "lost stolen bent cut eaten late".split()]
WRITER, TURN = {"model": "tiny-writer"}, {"role": "user", "content": TICKET}
WARD = {"workspace": "walk-ward"}
TALK = "/v1/conversations/{conversation}"
VERSION = "/v1/specialists/{specialist}/versions/{version}"

# What shows nothing of anybody and changes nothing, and why it needs no record.
SILENT = {
    ("GET", "/healthz"): "that the process answers",
    ("GET", "/readyz"): "that requests can be served",
    ("GET", "/v1/setup"): "whether a one-time link waits",
    ("GET", "/v1/sessions/current"): "to somebody, who they are",
}


@dataclass(frozen=True)
class Step:
    """One request, by whom it is made, and the event that it must leave. `{}` in path and body are filled in."""

    who: str
    method: str
    path: str
    event: str
    body: dict | None = None
    params: dict | None = None
    file: bool = False  # the body is a form, with a file in the field `file`
    patient: bool = False  # asked again until the job is over
    fill: dict | None = None  # what stands in the path of this step alone
    keep: dict | None = None  # what later steps need: name of a field of the answer by the name it is kept under


WALK = [
    Step(
        "ana",
        "POST",
        "/v1/deidentify",
        "specialist.deidentify",
        {"text": "Call ana@example.org", "subject": "MRN-walk"},
    ),
    Step("ana", "POST", "/v1/specialists/{specialist}/run", "specialist.run", {"text": "Ana Lima"}),
    Step("ana", "POST", FIND, "specialist.find", {"text": TICKET}),
    Step("ana", "POST", "/v1/route", "specialist.route", {"text": TICKET}),
    Step("ana", "POST", "/v1/specialists/auto/run", "specialist.route", {"text": TICKET}),
    Step("ana", "POST", "/v1/chat/completions", "model.generate", {**WRITER, "messages": [TURN], "max_tokens": 1}),
    Step("ana", "GET", "/v1/guard", "guard.shown"),
    Step("admin", "PUT", "/v1/guard/workspaces/{workspace}", "guard.policy_set", {"policy": "mark"}, fill=WARD),
    Step("admin", "PUT", "/v1/guard/members/{account}", "guard.member_set", WARD, fill={"account": "auditor"}),
    Step("ana", "POST", "/v1/completions", "model.generate", {**WRITER, "prompt": TICKET, "max_tokens": 1}),
    Step("ana", "POST", "/v1/responses", "model.generate", {**WRITER, "input": TICKET, "max_output_tokens": 1}),
    Step("ana", "POST", "/v1/embeddings", "specialist.embed", {"model": "embed", "input": TICKET}),
    Step("ana", "GET", "/v1/models", "model.list"),
    Step("ana", "GET", "/v1/models/{model}", "model.show", fill=WRITER),
    Step("ana", "GET", "/v1/specialists", "specialist.list"),
    Step("ana", "GET", "/v1/specialists/{specialist}", "specialist.show"),
    Step("ana", "POST", "/v1/exchanges/{exchange_id}/review", "review.completed", {"spans": []}),
    Step("ana", "POST", "/v1/conversations", "conversation.create", WRITER, keep={"conversation": "id"}),
    Step("ana", "GET", "/v1/conversations", "conversation.list"),
    Step("ana", "PATCH", TALK, "conversation.change", {"model": "phi-deid"}),
    Step("ana", "POST", f"{TALK}/answer", "conversation.answer", {"text": TICKET}),
    Step("ana", "GET", TALK, "conversation.show"),
    Step("ana", "DELETE", TALK, "conversation.delete"),
    Step("admin", "POST", "/v1/specialists", "specialist.install", {"reason": "walk-1"}, file=True),
    Step("ana", "GET", "/v1/specialist-versions", "specialist.versions"),
    Step("ana", "GET", "/v1/specialists/{specialist}/versions", "specialist.versions", fill=INSTALLED),
    Step("boss", "POST", f"{VERSION}/approve", "specialist.approve", fill=INSTALLED),
    Step("boss", "POST", f"{VERSION}/promote", "specialist.promote", fill=INSTALLED),
    Step("admin", "POST", f"{VERSION}/verify", "specialist.verify", fill=INSTALLED),
    Step("admin", "GET", f"{VERSION}/file", "specialist.export", fill=INSTALLED),
    Step("admin", "POST", "/v1/specialists/{specialist}/rollback", "specialist.rollback", fill=INSTALLED),
    Step("admin", "DELETE", VERSION, "specialist.remove", fill=INSTALLED),
    Step("admin", "POST", "/v1/specialist-keys", "signer.trust", {"name": SIGNER["name"], "public_key": "{key}"}),
    Step("admin", "GET", "/v1/specialist-keys", "signer.list"),
    Step("admin", "DELETE", "/v1/specialist-keys/{name}", "signer.distrust", fill=SIGNER),
    Step("ana", "POST", "/v1/teaching/tables", "teaching.table", {}, file=True, keep={"table": "table"}),
    Step("ana", "POST", "/v1/teaching/jobs", "teaching.train", TAUGHT, keep={"job": "job"}),
    Step("ana", "GET", "/v1/teaching/jobs/{job}", "teaching.read", patient=True),
    Step("ana", "POST", "/v1/teaching/jobs/{job}/submit", "specialist.install"),
    Step("ana", "DELETE", "/v1/teaching/jobs/{job}", "teaching.cancel"),
    Step("admin", "GET", "/metrics", "system.metrics"),
    Step("admin", "GET", "/v1/system/protection", "system.protection"),
    Step("auditor", "GET", "/v1/system/capacity", "system.capacity"),
    Step("auditor", "GET", "/v1/audit/records", "audit.list"),
    Step("auditor", "GET", "/v1/audit/records/{record_id}", "audit.show"),
    Step("ana", "GET", "/v1/audit/receipts/{record_id}", "audit.receipt", keep={"proof_file": "proof_file"}),
    Step("ana", "POST", "/v1/audit/receipts/check", "audit.receipt_checked", {"proof_file": "{proof_file}"}),
    Step("auditor", "GET", "/v1/audit/checkpoint", "audit.checkpoint"),
    Step("auditor", "POST", "/v1/audit/search", "audit.search", {"exchange_id": "{exchange_id}"}),
    Step("auditor", "GET", "/v1/audit/activity", "audit.activity", params=SPAN),
    Step("auditor", "POST", "/v1/audit/verify", "audit.verify", {}),
    Step("auditor", "GET", "/v1/audit/export", "audit.export", params={"format": "jsonl", **SPAN}),
    Step("auditor", "GET", "/v1/audit/exposure", "audit.exposure"),
    Step("auditor", "GET", "/v1/audit/epochs", "audit.epochs"),
    Step(
        "admin",
        "POST",
        "/v1/audit/holds",
        "hold.place",
        {"subjects": ["MRN-other"], "reason": "walk"},
        keep={"hold": "hold"},
    ),
    Step("auditor", "GET", "/v1/audit/holds", "hold.list"),
    Step("admin", "POST", "/v1/audit/holds/{hold}/release", "hold.release_requested"),
    Step("auditor", "POST", "/v1/audit/holds/{hold}/release", "hold.release_approve"),
    Step("admin", "GET", "/v1/audit/retention", "retention.list"),
    Step("admin", "PUT", "/v1/audit/retention", "retention.change", {"class": "exchange", "months": 1200}),
    Step("admin", "POST", "/v1/audit/retention/run", "retention.run"),
    Step("admin", "POST", "/v1/audit/shred", "erasure.shred", {"subject": "MRN-walk", "reason": "walk"}),
    Step("admin", "GET", "/v1/audit/erasures", "erasure.list"),
    Step(
        "admin",
        "POST",
        "/v1/accounts",
        "account.created",
        {"username": "walker", "password": PASSWORD, "roles": ["user"]},
    ),
    Step("admin", "GET", "/v1/accounts", "account.list"),
    Step("admin", "POST", "/v1/accounts/{name}/password", "account.password_set", {"password": PASSWORD}),
    Step("admin", "POST", "/v1/accounts/{name}/disable", "account.disabled"),
    Step("admin", "POST", "/v1/accounts/{name}/enable", "account.enabled"),
    Step(
        "ana",
        "POST",
        "/v1/api-keys",
        "api_key.created",
        {"name": "walk", "scopes": ["specialist.list"]},
        keep={"key_id": "id"},
    ),
    Step("ana", "GET", "/v1/api-keys", "api_key.list"),
    Step("ana", "DELETE", "/v1/api-keys/{key_id}", "api_key.revoked"),
    Step("walker", "POST", "/v1/sessions", "session.sign_in", {"username": "walker", "password": PASSWORD}),
    Step(
        "walker",
        "POST",
        "/v1/sessions/current/password",
        "account.password_set",
        {"current": PASSWORD, "password": f"{PASSWORD}-b"},
    ),
    Step("other", "DELETE", "/v1/sessions/current", "session.sign_out"),
    Step(NOBODY, "POST", "/v1/setup", "setup.link_used", {"token": "x" * 43, "username": "eve", "password": PASSWORD}),
]
MADE = {"boss": "admin", "other": "user"}  # people who are in this walk only, and their roles
ABSTAINED = '"code":"no_specialist_fits"'  # a router that chooses nobody has been asked, and that is recorded
# A tagger finds no passages, and the one link was used when the server was set up; refusals are recorded as well.
REFUSED = {FIND: 400, "/v1/setup": 401}


def test_every_route_is_walked_or_silent_on_purpose(ana):
    described = ana.get("/openapi.json").json()["paths"]
    routes = {(method.upper(), path) for path, methods in described.items() for method in methods}
    walked = {(step.method, step.path) for step in WALK}
    assert routes - walked - set(SILENT) == set(), "add a step to WALK, which says what record the route leaves"
    assert (walked | set(SILENT)) - routes == set()
    assert walked.isdisjoint(SILENT)


@pytest.fixture
def people(server):
    """Everybody's browser, signed in as soon as a step needs it; `boss` and `other` have accounts made for the walk."""
    with ExitStack() as stack:
        passwords = {"ana": USER_PASSWORD, "admin": ADMIN_PASSWORD, "auditor": AUDITOR_PASSWORD}
        clients = {name: stack.enter_context(server.client(name, word)) for name, word in passwords.items()}

        def person(name: str):
            if name in MADE and name not in clients:
                body = {"username": f"walk-{name}", "password": PASSWORD, "roles": [MADE[name]]}
                assert clients["admin"].post("/v1/accounts", json=body).status_code == 201
                clients[name] = stack.enter_context(server.client(f"walk-{name}", PASSWORD))
            if name not in clients:
                clients[name] = stack.enter_context(server.stranger())
            return clients[name]

        yield person


def filled(value, known: dict[str, str]):
    if isinstance(value, dict):
        return {key: filled(each, known) for key, each in value.items()}
    return value.format(**known) if isinstance(value, str) else value


def newest(auditor) -> list[dict]:
    answer = auditor.get("/v1/audit/records", params={"limit": 200})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.mark.timeout(600)  # some forty requests or commands
@pytest.mark.usefixtures("model")
def test_every_step_of_the_walk_is_in_the_log_afterwards(people, tmp_path):
    auditor, unrecorded = people("auditor"), []
    known = {"specialist": "phi-deid", "name": "walker", "key": ecdsa.public_of(ecdsa.generate())}
    named = {"specialist_id": INSTALLED["specialist"], "version": INSTALLED["version"], "base": REAL_BASE}
    files = {
        "/v1/specialists": write_classifier(tmp_path / "triage.gguf", **named).read_bytes(),
        "/v1/teaching/tables": "\n".join(["message,team", *ROWS]).encode(),
    }
    for step in WALK:
        client = people(step.who)
        before = newest(auditor)[0]["seq"]
        body = None if step.body is None else filled(step.body, known)
        path = filled(step.path, known | (step.fill or {}))
        sent = {"data": body, "files": {"file": files[path]}} if step.file else {"json": body}
        answer = client.request(step.method, path, params=step.params, **sent)
        while step.patient and answer.json()["state"] in ("waiting", "running"):  # the test's own time bounds it
            answer = client.request(step.method, path, params=step.params, **sent)
        assert answer.status_code == REFUSED.get(step.path, answer.status_code), step
        assert answer.status_code < 400 or step.path in REFUSED or ABSTAINED in answer.text, (step, answer.text)
        ends = time.monotonic() + RECORDED_S
        found: list[dict] = []
        while not found and time.monotonic() < ends:  # what a job records comes after the answer that it was started
            found = [row for row in newest(auditor) if row["seq"] > before and row["event"] == step.event]
        if not [row for row in found if row["actor"] != NOBODY or step.who == NOBODY]:
            unrecorded.append((step.method, step.path, step.event))
        if step.path == "/v1/deidentify":
            known |= {"record_id": answer.json()["receipt"]["record_id"], "exchange_id": found[0]["exchange_id"]}
        if step.path == "/v1/sessions":
            client.headers["X-CSRF-Token"] = answer.json()["csrf"]
        known |= {name: str(answer.json()[field]) for name, field in (step.keep or {}).items()}
    assert unrecorded == []
