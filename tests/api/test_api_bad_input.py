"""Bad input gets a clear error in the one shape, leaves one closing record, and the log still verifies afterwards.

Every request goes to the real server over HTTP; the log is read and verified through the API as an auditor would.
"""

import pytest

TOO_MUCH = "x" * 10_000_000


def refused(answer, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text[:500]
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("", 400, "input_empty"),
        (" \n\t", 400, "input_empty"),
        ("a\0b", 400, "input_not_text"),
        ("x " * 150_000, 413, "input_too_long"),
        (TOO_MUCH, 413, "input_too_long"),
    ],
    ids=["empty", "blank", "NUL", "too many characters", "10 MB"],
)
def test_text_that_cannot_be_served_is_refused_with_its_reason(ana, text, status, code):
    refused(ana.post("/v1/deidentify", json={"text": text}), status, code)


def test_body_that_is_not_said_to_be_json_is_told_what_to_say(ana):
    for said in ({"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain"}):
        answer = ana.post("/v1/deidentify", content=b'{"text": "Seen by Dr. Okafor."}', headers=said)
        assert "Content-Type: application/json" in refused(answer, 400, "invalid_request")["hint"]
    assert "hint" not in refused(ana.post("/v1/deidentify", json=[]), 400, "invalid_request")


def test_lone_surrogate_is_refused_and_named(ana):
    body = b'{"text": "before \\ud83d after"}'
    answer = ana.post("/v1/deidentify", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("input_not_text", "invalid_request")


def test_body_that_is_not_utf8_or_not_json_is_refused(ana):
    for body in (b'{"text": "caf\xe9"}', b"text=abc", b"[1, 2", b""):
        answer = ana.post("/v1/deidentify", content=body, headers={"Content-Type": "application/json"})
        refused(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [{}, {"text": 5}, {"text": "a", "style": "rot13"}, {"text": "a", "other": 1}, {"text": ["a"]}],
    ids=["no text", "a number", "unknown style", "unknown field", "a list"],
)
def test_request_of_another_shape_is_refused_without_repeating_what_was_sent(ana, body):
    error = refused(ana.post("/v1/deidentify", json=body), 400, "invalid_request")
    assert "rot13" not in error["message"]


def test_unknown_specialist_is_not_found(ana):
    refused(ana.post("/v1/specialists/nobody/run", json={"text": "a"}), 404, "specialist_not_found")
    refused(ana.post("/v1/deidentify", json={"text": "a", "specialist": "nobody"}), 404, "specialist_not_found")
    refused(ana.get("/v1/specialists/nobody"), 404, "specialist_not_found")


@pytest.mark.parametrize(
    "text",
    [
        "שלום ana@example.org עולם",
        "مرحبا ana@example.org",
        "e\u0301\u0323 ana@example.org \u200dfin",
        "\U0001f469\u200d\u2695\ufe0f ana@example.org \U0001f3e5",
        "\u202eana@example.org\u202c",
    ],
    ids=["Hebrew", "Arabic", "combining", "emoji", "bidi override"],
)
def test_offsets_count_characters_of_the_original_whatever_the_script(ana, text):
    answer = ana.post("/v1/specialists/phi-deid/run", json={"text": text})
    assert answer.status_code == 200, answer.text
    found = [text[span["start"] : span["end"]] for span in answer.json()["spans"] if span["label"] == "EMAIL"]
    assert found == ["ana@example.org"]


def test_one_word_of_a_hundred_thousand_characters_is_answered(ana):
    answer = ana.post("/v1/deidentify", json={"text": "x" * 100_000})
    assert answer.status_code == 200
    assert answer.json()["receipt"]["proof"] is not None


def test_unknown_path_and_method_have_the_same_shape(ana):
    refused(ana.get("/v1/nothing"), 404, "not_found")
    refused(ana.put("/v1/deidentify", json={"text": "a"}), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("records", {"after": 2**63}),
        ("records", {"after": 10**30}),
        ("activity", {"from": "0001-01-01T00:00:00+14:00", "to": "2020-01-01"}),
    ],
)
def test_numbers_and_times_that_no_record_can_have_are_refused(auditor, path, params):
    refused(auditor.get(f"/v1/audit/{path}", params=params), 400, "invalid_request")


def test_every_refusal_left_one_closing_record_and_the_log_verifies(ana, auditor):
    me = ana.get("/v1/sessions/current").json()["user"]["id"]
    before = newest(auditor)
    for text in ("", "a\0b", "x " * 150_000):
        assert ana.post("/v1/deidentify", json={"text": text}).status_code >= 400
    assert ana.post("/v1/deidentify", json={"text": "a", "specialist": "nobody"}).status_code == 404
    added = [record for record in closings(auditor, me) if record["seq"] > before]
    assert [record["outcome"] for record in added] == ["refused"] * 4
    assert len({record["exchange_id"] for record in added}) == 4
    verdict = auditor.post("/v1/audit/verify").json()
    assert verdict["exit_code"] == 0, verdict


def newest(auditor) -> int:
    return auditor.get("/v1/audit/records", params={"limit": 1}).json()["data"][0]["seq"]


def closings(auditor, actor: str) -> list[dict]:
    """Closing records of somebody's de-identifications, newest first."""
    page = auditor.get("/v1/audit/records", params={"actor": actor, "event": "specialist.deidentify", "limit": 200})
    return [record for record in page.json()["data"] if record["outcome"] != "accepted"]
