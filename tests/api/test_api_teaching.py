"""Teaching over HTTP: a table is checked, a job followed, its result submitted and approved by somebody else."""

import csv
import io

import pytest

TEXTS = [
    (f"my card was {word} yesterday and I need a new one", "cards") for word in "lost stolen bent cut eaten".split()
] + [(f"the rate of my loan was {word} last month", "loans") for word in "raised cut doubled halved set".split()]


def table(rows) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows([("message", "team"), *rows])
    return written.getvalue().encode()


def send(client, content, **fields):
    return client.post("/v1/teaching/tables", files={"file": ("tickets.csv", content)}, data=fields)


def finished(client, job):
    """The job once it is over; each answer waits for the server, so nothing here waits for time to pass."""
    for _ in range(100_000):
        view = client.get(f"/v1/teaching/jobs/{job}").json()
        if view["state"] not in ("waiting", "running"):
            return view
    raise AssertionError("the job did not end")


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    return answer.json()["error"]


@pytest.mark.timeout(300)
def test_a_table_becomes_a_version_that_awaits_approval(ana, admin, auditor):
    checked = send(ana, table(TEXTS))
    assert checked.status_code == 201, checked.text
    body = checked.json()
    assert (body["text_column"], body["label_column"], body["rows"], body["ready"]) == ("message", "team", 10, True)
    assert body["labels"] == [{"label": "cards", "rows": 5}, {"label": "loans", "rows": 5}]
    wanted = {"table": body["table"], "id": "http-router", "name": "Desk", "text_column": "message",
              "label_column": "team", "lora": False}  # fmt: skip
    refused(admin.post("/v1/teaching/jobs", json=wanted), 404, "not_found")  # another person's table
    started = ana.post("/v1/teaching/jobs", json=wanted)
    assert started.status_code == 202, started.text
    job = started.json()["job"]
    refused(admin.get(f"/v1/teaching/jobs/{job}"), 404, "not_found")
    view = finished(ana, job)
    assert (view["state"], view["error"]) == ("done", None)
    report = view["report"]
    assert (report["held_out"], report["learned_from"]) == (2, 8)
    assert set(report["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert report["confusion"]["labels"] == ["cards", "loans"]
    version = ana.post(f"/v1/teaching/jobs/{job}/submit")
    assert version.status_code == 201, version.text
    assert (version.json()["state"], version.json()["admitted"]) == ("awaiting_approval", "taught")
    refused(ana.post(f"/v1/teaching/jobs/{job}/submit"), 409, "conflict")
    refused(ana.post("/v1/specialists/http-router/versions/1.0.0/approve"), 403, "permission_denied")
    assert admin.post("/v1/specialists/http-router/versions/1.0.0/approve").json()["state"] == "approved"
    assert admin.delete("/v1/specialists/http-router/versions/1.0.0").status_code == 200
    assert ana.delete(f"/v1/teaching/jobs/{job}").status_code == 204
    refused(ana.get(f"/v1/teaching/jobs/{job}"), 404, "not_found")
    seen = auditor.get("/v1/audit/records", params={"limit": 200, "event": "teaching.train"}).json()["data"]
    assert {record["outcome"] for record in seen} >= {"accepted", "completed"}
    assert not any("card" in str(record["attributes"]) for record in seen)


def test_what_is_odd_about_a_table_is_told_and_what_cannot_teach_is_not_ready(ana):
    one_class = send(ana, table([(f"text about number {word}", "cards") for word in "a b c d e f g h i j k".split()]),
                     text_column="message", label_column="team").json()  # fmt: skip
    assert one_class["ready"] is False
    assert "one_class" in {problem["code"] for problem in one_class["problems"]}
    wanted = {"table": one_class["table"], "id": "one-router", "text_column": "message", "label_column": "team"}
    job = ana.post("/v1/teaching/jobs", json=wanted).json()["job"]
    view = finished(ana, job)
    assert (view["state"], view["error"]["code"]) == ("failed", "table_refused")
    refused(ana.post(f"/v1/teaching/jobs/{job}/submit"), 409, "conflict")
    mixed = b"message,team\n" + "für dich und mich,a\n".encode() + "für alle,b\n".encode("cp1252") + b"x,a\ny,b\n"
    codes = {problem["code"] for problem in send(ana, mixed).json()["problems"]}
    assert codes >= {"mixed_encodings", "too_few_texts"}


def test_what_is_no_table_or_no_request_is_refused(ana, auditor):
    refused(send(ana, b""), 400, "input_empty")
    refused(send(ana, b"PK\x03\x04\0\0"), 400, "input_not_text")
    refused(send(ana, b"one column\nx\n"), 400, "invalid_request")
    refused(send(ana, table(TEXTS), text_column="nothing"), 400, "invalid_request")
    assert "multi_label" in refused(send(ana, table(TEXTS), multi_label="1"), 400, "invalid_request")["message"]
    refused(send(auditor, table(TEXTS)), 403, "permission_denied")
    refused(ana.post("/v1/teaching/jobs", json={"table": "00", "id": "a-router"}), 404, "not_found")
    kept = send(ana, table(TEXTS)).json()["table"]
    refused(ana.post("/v1/teaching/jobs", json={"table": kept, "id": "Not An Id"}), 400, "invalid_request")
    refused(ana.get("/v1/teaching/jobs/00"), 404, "not_found")
    refused(ana.delete("/v1/teaching/jobs/00"), 404, "not_found")
