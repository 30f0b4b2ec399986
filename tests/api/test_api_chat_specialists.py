"""A chat may be answered by a specialist, named or chosen by the router: text for people, the structured result beside
it, recorded as everywhere, with the receipt as a header. Where nobody fits the model answers, or the answer says what
can be done.
"""

import base64

import openai
import pytest

from tests.conftest import ADMIN_PASSWORD, USER_PASSWORD

NOTE = "Ana Lima was seen on 3 March 2024. Call 555-013-4471."
CARD = "My card was declined at the supermarket"
ODD = "zxqv wvut prrst"


def keyed(server, name: str, password: str):
    with server.client(name, password) as person:
        key = person.post("/v1/api-keys", json={"name": "chat", "scopes": ["specialist.run"]}).json()["secret"]
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=100)


@pytest.fixture(scope="module")
def client(server):
    with keyed(server, "ana", USER_PASSWORD) as made:
        yield made


@pytest.fixture(scope="module")
def small(small_server):
    """Somebody at a server of which nobody but the specialists answers."""
    with small_server.client("admin", ADMIN_PASSWORD) as admin:
        account = {"username": "chatter", "password": USER_PASSWORD, "roles": ["user"]}
        assert admin.post("/v1/accounts", json=account).status_code == 201
    with keyed(small_server, "chatter", USER_PASSWORD) as made:
        yield made


def user(text: str) -> list[dict]:
    return [{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}]


def test_specialist_answers_a_chat_with_words_result_and_receipt(client, ana, auditor):
    raw = client.chat.completions.with_raw_response.create(model="phi-deid", messages=user(NOTE))
    answer = raw.parse()
    expected = ana.post("/v1/deidentify", json={"text": NOTE}).json()
    assert answer.choices[0].message.content == expected["text"] != NOTE
    assert answer.result["spans"] == expected["spans"] and answer.result["specialist"]["id"] == "phi-deid"
    proof = base64.b64decode(raw.headers["Cloister-Receipt"]).decode()
    assert proof == answer.receipt["proof_file"]
    assert auditor.post("/v1/audit/receipts/check", json={"proof_file": proof}).json()["verdict"] == "ok"


def test_specialist_answers_a_stream_and_a_response_alike(client):
    whole = client.chat.completions.create(model="bank-intent", messages=user(CARD))
    events = list(client.chat.completions.create(model="bank-intent", messages=user(CARD), stream=True))
    assert events[0].choices[0].delta.content == whole.choices[0].message.content
    assert events[-1].choices[0].finish_reason == "stop" and events[-1].result["label"] == whole.result["label"]
    response = client.responses.create(model="bank-intent", input=CARD)
    assert response.output_text == whole.choices[0].message.content and response.result["label"]
    last = list(client.responses.create(model="bank-intent", input=CARD, stream=True))[-1]
    assert last.type == "response.completed" and last.response.output_text == response.output_text


@pytest.mark.usefixtures("model")
def test_auto_asks_the_specialist_that_the_router_chooses_and_says_why(client, ana, auditor):
    chosen = ana.post("/v1/route", json={"text": CARD}).json()
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=user(CARD))
    answer = raw.parse()
    assert chosen["specialist"] == "bank-intent" == answer.model == raw.headers["Cloister-Route"]
    assert answer.route["reason"] == chosen["reason"] and answer.result["label"]
    record = auditor.get("/v1/audit/records", params={"event": "specialist.run", "limit": 1}).json()["data"][0]
    assert record["attributes"]["requested"] == "auto"
    assert record["attributes"]["route_record"] == answer.route["receipt"]["record_id"]


def test_auto_asks_the_only_model_where_no_specialist_fits(client, auditor, model):
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=user(ODD), max_tokens=2)
    answer = raw.parse()
    assert answer.model == model == raw.headers["Cloister-Route"] and answer.route["specialist"] is None
    assert answer.usage.completion_tokens >= 1
    record = auditor.get("/v1/audit/records", params={"event": "model.generate", "limit": 1}).json()["data"][0]
    assert record["attributes"]["requested"] == "auto" and record["attributes"]["model"] == model
    last = list(client.chat.completions.create(model="auto", messages=user(ODD), max_tokens=2, stream=True))[-1]
    assert last.route["abstained"] is True


def test_auto_needs_no_router_for_what_only_a_model_can_do(client, model):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["a"]}}}
    answer = client.chat.completions.create(model="auto", messages=user(CARD), response_format=wanted, max_tokens=20)
    assert answer.model == model and answer.choices[0].message.content == '"a"'


def test_abstention_is_answered_with_what_to_do(small):
    answer = small.chat.completions.create(model="auto", messages=user(ODD))
    said = answer.choices[0].message.content
    assert said.startswith("Nobody was chosen") and "What can be done" in said
    assert answer.route["abstained"] is True and answer.usage is None
    with pytest.raises(openai.BadRequestError):
        small.chat.completions.create(model="auto", messages=user(ODD), response_format={"type": "json_object"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools"),
        ({"messages": [{"role": "system", "content": "x"}]}, "last of them"),
        ({"messages": [{"role": "user", "content": " "}]}, "empty"),
    ],
)
def test_specialist_refuses_what_it_cannot_honour(client, change, words):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": "phi-deid", "messages": user(NOTE)} | change)
    assert words in f"{refused.value.body.get('message')} {refused.value.body.get('hint')}"


def test_specialist_that_needs_more_than_a_text_says_so(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="assertion", messages=user("The patient denies pain."))
    assert "concept" in str(refused.value.body)
