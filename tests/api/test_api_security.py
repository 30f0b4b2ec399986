"""Closed until opened: nobody without a session or key, no session without its token, no role beyond its table."""

import pytest

OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/setup")}
SIGN_IN = {("POST", "/v1/sessions"), ("POST", "/v1/setup")}  # for those whom nobody knows yet


@pytest.fixture
def stranger(server):
    with server.stranger() as client:
        yield client


def test_every_route_is_open_on_purpose_or_refuses_a_stranger(stranger):
    described = stranger.get("/openapi.json").json()["paths"]
    routes = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert routes > OPEN | SIGN_IN and len(routes) > 30
    for method, path in sorted(routes - OPEN - SIGN_IN):
        filled = path.replace("{", "").replace("}", "")
        answer = stranger.request(method, filled, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 401, (method, path)
        assert answer.json()["error"]["code"] == "unauthenticated"


def test_wrong_name_and_wrong_password_look_the_same(stranger):
    answers = [
        stranger.post("/v1/sessions", json={"username": name, "password": "not-the-password-1"})
        for name in ("ana", "nobody-of-this-name")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert answers[0].json() == answers[1].json()


def test_cookie_without_the_sessions_token_changes_nothing(ana):
    answer = ana.post("/v1/deidentify", json={"text": "a"}, headers={"X-CSRF-Token": "forged"})
    assert answer.status_code == 403


def test_signing_out_ends_the_session(server):
    from tests.conftest import USER_PASSWORD

    with server.client("ana", USER_PASSWORD) as client:
        assert client.get("/v1/specialists").status_code == 200
        assert client.delete("/v1/sessions/current").status_code == 204
        assert client.get("/v1/specialists").status_code == 401


def test_setup_link_works_once(stranger):
    assert stranger.get("/v1/setup").json() == {"open": False}
    body = {"token": "x" * 43, "username": "eve", "password": "a-long-enough-password"}
    assert stranger.post("/v1/setup", json=body).status_code == 401


def test_user_sees_own_records_only_and_no_contents(ana, auditor):
    own = ana.get("/v1/audit/records").json()["data"]
    me = ana.get("/v1/sessions/current").json()["user"]["id"]
    mine = {me, *(f"api-key:{key['id']}" for key in ana.get("/v1/api-keys").json()["data"])}
    assert me in {record["actor"] for record in own} <= mine
    listed = auditor.get("/v1/audit/records", params={"event": "audit.list"}).json()["data"]
    others = [record for record in listed if record["actor"] not in mine]
    assert ana.get(f"/v1/audit/records/{others[0]['record_id']}").status_code == 404
    assert ana.get("/v1/audit/records", params={"actor": others[0]["actor"]}).status_code == 403


def test_readers_of_records_learn_the_names_behind_the_ids(ana, auditor):
    me = ana.get("/v1/sessions/current").json()["user"]["id"]
    for reader in (ana, auditor):
        newest = reader.get("/v1/audit/records", params={"actor": me, "limit": 1}).json()["data"][0]
        assert (newest["actor"], newest["actor_name"], newest["actor_gone"]) == (me, "ana", False)
    shown = auditor.get(f"/v1/audit/records/{newest['record_id']}").json()
    assert shown["actor_name"] == "ana"
    by_system = auditor.get("/v1/audit/records", params={"actor": "system", "limit": 20}).json()["data"]
    assert {row["actor_name"] for row in by_system} == {None}


def test_auditor_reads_content_and_changes_nothing(ana, auditor):
    receipt = ana.post("/v1/deidentify", json={"text": "Call ana@example.org"}).json()["receipt"]
    shown = auditor.get(f"/v1/audit/records/{receipt['record_id']}").json()
    assert "[EMAIL 1]" in shown["content"]
    assert ana.get(f"/v1/audit/records/{receipt['record_id']}").json()["content"] is None
    assert auditor.post("/v1/deidentify", json={"text": "a"}).status_code == 403
    assert (
        auditor.post("/v1/accounts", json={"username": "eve", "password": "p" * 20, "roles": ["user"]}).status_code
        == 403
    )


def test_administrator_does_not_read_what_others_wrote(ana, admin):
    receipt = ana.post("/v1/deidentify", json={"text": "Call ana@example.org"}).json()["receipt"]
    assert admin.get(f"/v1/audit/records/{receipt['record_id']}").status_code == 404
    assert admin.get("/v1/audit/export").status_code == 403


def test_reading_the_log_is_itself_recorded(auditor):
    me = auditor.get("/v1/sessions/current").json()["user"]["id"]
    rows = auditor.get("/v1/audit/records", params={"limit": 20}).json()["data"]
    mine = [row["event"] for row in rows if row["actor"] == me]  # the server writes records of its own in between
    assert mine[0] == "audit.list"


def test_api_key_does_what_its_scopes_say_until_it_is_revoked(ana, stranger):
    made = ana.post("/v1/api-keys", json={"name": "lab system", "scopes": ["specialist.list"], "days": 1})
    assert made.status_code == 201
    key = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert stranger.get("/v1/specialists", headers=key).status_code == 200
    assert stranger.post("/v1/deidentify", json={"text": "a"}, headers=key).status_code == 403
    assert "secret" not in ana.get("/v1/api-keys").json()["data"][-1]
    assert ana.delete(f"/v1/api-keys/{made.json()['id']}").status_code == 200
    assert stranger.get("/v1/specialists", headers=key).status_code == 401


def test_disabled_account_loses_its_sessions_at_once(server, admin):
    body = {"username": "leaving", "password": "copper-river-lantern-3", "roles": ["user"]}
    assert admin.post("/v1/accounts", json=body).status_code == 201
    with server.client("leaving", body["password"]) as leaving:
        assert admin.post("/v1/accounts/leaving/disable").status_code == 200
        assert leaving.get("/v1/specialists").status_code == 401


def test_metrics_need_the_scope_and_carry_no_content(ana, admin):
    ana.post("/v1/deidentify", json={"text": "unmistakable-word ana@example.org"})
    assert ana.get("/metrics").status_code == 403
    text = admin.get("/metrics").text
    assert 'cloister_http_requests_total{method="POST",route="/v1/deidentify",status="200"}' in text
    assert "unmistakable" not in text


def test_records_of_own_api_keys_are_own_records(ana, stranger):
    made = ana.post("/v1/api-keys", json={"name": "lab", "scopes": ["specialist.run"], "days": 1}).json()
    key = {"Authorization": f"Bearer {made['secret']}"}
    receipt = stranger.post("/v1/deidentify", json={"text": "a b"}, headers=key).json()["receipt"]
    shown = ana.get(f"/v1/audit/records/{receipt['record_id']}")
    assert shown.json()["actor"] == f"api-key:{made['id']}"
    newest = ana.get("/v1/audit/records", params={"event": "specialist.deidentify", "limit": 1}).json()["data"][0]
    assert newest["record_id"] == receipt["record_id"]
