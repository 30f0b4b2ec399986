"""Conversations over HTTP: JSON lines whose last is what was kept, refusals with their status, nobody else's data.

Against the one real server; the model is a real decoder with random weights.
"""

import json

import pytest

from tests.conftest import ADMIN_PASSWORD, USER_PASSWORD
from tests.e2e.sites import eventually

NOTE = "Please write to Mrs. Hannah Okafor, MRN 48213377, about her visit."


@pytest.fixture
def one(ana, model):
    """A conversation of Ana's, deleted at the end if the test did not."""
    answer = ana.post("/v1/conversations", json={"model": model, "title": "Walk"})
    assert answer.status_code == 201, answer.text
    path = f"/v1/conversations/{answer.json()['id']}"
    yield path
    assert ana.delete(path).status_code in (204, 404)


def lines(client, path: str, **asked) -> list[dict]:
    with client.stream("POST", f"{path}/answer", json=asked) as answer:
        text = answer.read().decode()
        assert answer.status_code == 200, text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in text.splitlines()]


def test_a_conversation_is_answered_line_by_line_and_read_again(ana, one, model):
    question = "the patient is in pain " * 80
    *pieces, end, kept = lines(ana, one, text=question)
    assert all(set(piece) == {"piece"} for piece in pieces)
    receipt = end["end"]["receipt"]
    assert receipt["proof_file"].startswith("c2sp.org/tlog-proof@v1") and end["end"]["usage"]["completion_tokens"]
    assert kept["kept"]["text"] == "".join(piece["piece"]["text"] for piece in pieces)
    assert kept["kept"]["record"] == {"record_id": receipt["record_id"], "seq": receipt["seq"]}
    shown = ana.get(one).json()
    assert [turn["role"] for turn in shown["turns"]] == ["user", "assistant"]
    assert shown["turns"][0]["text"] == question and shown["turns"][1] == kept["kept"]
    listed = ana.get("/v1/conversations").json()
    assert listed["may_tune"] is False
    found = next(each for each in listed["data"] if one.endswith(each["id"]))
    assert (found["title"], found["turns"], found["model"], found["altered"]) == ("Walk", 2, model, False)
    assert ana.get(f"/v1/audit/receipts/{receipt['record_id']}").status_code == 200


def test_renaming_changes_only_what_is_sent_and_null_is_the_usual_value(ana, one, model):
    changed = ana.patch(one, json={"title": "Letter"}).json()
    assert (changed["title"], changed["model"], changed["system"], changed["seed"]) == ("Letter", model, "", None)
    assert ana.patch(one, json={"title": None}).json()["title"] == ""
    refused = ana.patch(one, json={"temperature": 0})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    assert "conversation.tune" in refused.json()["error"]["message"]


def test_a_deleted_conversation_is_nowhere(ana, one):
    assert ana.delete(one).status_code == 204
    for answer in (ana.get(one), ana.delete(one), ana.patch(one, json={}), ana.post(f"{one}/answer", json={})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "conversation_not_found")
    assert not any(one.endswith(each["id"]) for each in ana.get("/v1/conversations").json()["data"])


def test_others_and_api_keys_have_conversations_of_their_own(server, ana, admin, auditor, one):
    key = ana.post("/v1/api-keys", json={"name": "chat", "scopes": ["specialist.run"]}).json()
    with server.stranger() as program:
        program.headers["Authorization"] = f"Bearer {key['secret']}"
        assert program.get("/v1/conversations").json()["data"] == []
        assert program.get(one).status_code == 404
    ana.delete(f"/v1/api-keys/{key['id']}")
    # This administrator is a user too, with conversations of their own; an auditor has none.
    assert admin.get(one).status_code == admin.delete(one).status_code == 404
    assert admin.get("/v1/conversations").json() == {"data": [], "may_tune": True}
    assert auditor.get(one).status_code == auditor.get("/v1/conversations").status_code == 403
    with server.stranger() as stranger:
        assert stranger.get("/v1/conversations").status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": ""}, 400),
        ({}, 400),
        ({"model": "m", "title": "x" * 500}, 413),
        ({"model": "m", "seed": 2**63}, 400),
        ({"model": "m", "temperature": -1}, 400),
        ({"model": "m", "who": "me"}, 400),
        ({"model": "m", "subject": "a\u202eb"}, 400),
    ],
)
def test_a_conversation_that_cannot_be_begun_is_refused(ana, body, status):
    answer = ana.post("/v1/conversations", json=body)
    assert answer.status_code == status and answer.json()["error"]["code"], answer.text


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"text": " "}, 400),
        ({"at": 0}, 400),
        ({"text": "x", "at": 5}, 409),
        ({"text": "x", "at": -1}, 400),
        ({}, 409),
        ({"text": "the " * 3000}, 413),
        ({"text": "x", "model": "other"}, 400),
    ],
)
def test_a_question_that_cannot_be_answered_is_an_error_with_its_status_and_not_a_line(ana, one, asked, status):
    answer = ana.post(f"{one}/answer", json=asked)
    assert answer.status_code == status and answer.json()["error"]["code"], answer.text
    assert ana.get(one).json()["turns"] == []


def test_a_client_that_goes_away_leaves_what_it_saw(server, one, ana):
    with server.client("ana", USER_PASSWORD) as other:
        with other.stream("POST", f"{one}/answer", json={"text": "the patient"}) as answer:
            first = json.loads(next(answer.iter_lines()))["piece"]["text"]
        kept = eventually(lambda: len(other.get(one).json()["turns"]) == 2, "what was seen is kept")
        turns = other.get(one).json()["turns"]
    assert kept and turns[1]["text"].startswith(first) and turns[1]["finish"] in ("stopped", "stop", "length")


@pytest.fixture(scope="module")
def talker(small_server):
    """Somebody where the model repeats what it is asked and the guard marks what it finds."""
    with small_server.client("admin", ADMIN_PASSWORD) as admin:
        account = {"username": "talker", "password": USER_PASSWORD, "roles": ["user"]}
        assert admin.post("/v1/accounts", json=account).status_code == 201
        assert admin.put("/v1/guard/workspaces/talk-ward", json={"policy": "mark"}).status_code == 200
        assert admin.put("/v1/guard/members/talker", json={"workspace": "talk-ward"}).status_code == 200
    with small_server.client("talker", USER_PASSWORD) as client:
        yield client


def begun(client, **wanted) -> str:
    answer = client.post("/v1/conversations", json=wanted)
    assert answer.status_code == 201, answer.text
    return f"/v1/conversations/{answer.json()['id']}"


def test_what_the_guard_marked_is_kept_beside_the_answer_with_its_places(talker):
    path = begun(talker, model="tiny-writer")
    lines(talker, path, text="Hello. ")
    *_, kept = lines(talker, path, text=NOTE)
    guard = kept["kept"]["about"]["guard"]
    assert guard["policy"] == "mark" and guard["prompt"]["MRN"] == 1
    words = [NOTE[mark["start"] : mark["end"]] for mark in guard["question_marks"]]
    assert "48213377" in words  # of this message, not of the one before it
    text = kept["kept"]["text"]
    assert "48213377" in [text[mark["start"] : mark["end"]] for mark in guard["answer_marks"]]
    assert talker.get(path).json()["turns"][-1] == kept["kept"]


def test_a_specialist_that_is_named_or_chosen_answers_in_a_conversation(talker):
    path = begun(talker, model="phi-deid")
    (kept,) = lines(talker, path, text=NOTE)
    assert kept["kept"]["model"] == "phi-deid" and "48213377" not in kept["kept"]["text"]
    record = kept["kept"]["record"]["record_id"]
    assert talker.get(f"/v1/audit/records/{record}").json()["event"] == "specialist.deidentify"
    path = begun(talker, model="auto")
    (kept,) = lines(talker, path, text="My card was declined at the supermarket")
    assert kept["kept"]["model"] == "bank-intent" and "declined" in kept["kept"]["text"].lower()
    (advice,) = lines(talker, path, text="zxqv wvut prrst")
    assert (advice["kept"]["model"], advice["kept"]["finish"]) == ("auto", "advice")
    assert "What can be done" in advice["kept"]["text"]
    assert [turn["at"] for turn in talker.get(path).json()["turns"]] == [0, 1, 2, 3]
