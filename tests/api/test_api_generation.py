"""The official client of OpenAI's API gets from this server what it expects: chats, streams, structured answers, models
and its own exception classes. The model is a real decoder with random weights, made here; answers are nonsense that
obeys every rule. Each answer's receipt travels with it, and the log holds exactly one closing record for each request.
"""

import asyncio
import base64
import json

import httpx
import openai
import pytest

from benchmarks.random_decoder import TINY
from tests.conftest import ANSWER_S, USER_PASSWORD
from tests.e2e.sites import eventually, suspended_writers

HELLO = [{"role": "user", "content": "Is there pain?"}]


@pytest.fixture(scope="module")
def client(server):
    with server.client("ana", USER_PASSWORD) as ana:
        body = {"name": "openai", "scopes": ["specialist.run", "specialist.list"]}
        key = ana.post("/v1/api-keys", json=body).json()["secret"]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=100) as made:
        yield made


def records(auditor, **params) -> list[dict]:
    answer = auditor.get("/v1/audit/records", params={"limit": 100, "event": "model.generate", **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_chat_is_answered_with_figures_and_the_same_seed_says_the_same(client, model):
    asked = {"model": model, "messages": HELLO, "max_tokens": 12, "temperature": 0.8, "seed": 5}
    answer, again = (client.chat.completions.create(**asked) for _ in range(2))
    choice = answer.choices[0]
    assert (answer.object, answer.model, choice.message.role) == ("chat.completion", model, "assistant")
    assert choice.message.content == again.choices[0].message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert again.usage.prompt_tokens_details.cached_tokens > 0


def test_null_where_the_api_allows_it_is_the_default(client, model):
    asked = {"model": model, "max_tokens": 2, "stream": None}
    assert client.chat.completions.create(messages=HELLO, **asked).object == "chat.completion"
    assert client.completions.create(prompt="the patient", echo=None, **asked).object == "text_completion"
    assert client.responses.create(model=model, input="hi", max_output_tokens=2, stream=None).object == "response"


def test_stream_says_what_the_whole_answer_says_and_ends_with_figures_and_receipt(client, model):
    asked = {"model": model, "messages": HELLO, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    events = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    *pieces, last, usage = events
    assert "".join(event.choices[0].delta.content for event in pieces) == whole.choices[0].message.content
    assert pieces[0].choices[0].delta.role == "assistant"
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert usage.choices == [] and usage.usage.completion_tokens == whole.usage.completion_tokens
    assert last.receipt["proof_file"].startswith("c2sp.org/tlog-proof@v1")


def test_receipt_of_an_answer_is_a_header_and_is_in_the_log(client, auditor, model):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=3)
    proof = base64.b64decode(raw.headers["Cloister-Receipt"]).decode()
    assert proof == raw.parse().receipt["proof_file"]
    checked = auditor.post("/v1/audit/receipts/check", json={"proof_file": proof}).json()
    assert checked["verdict"] == "ok", checked


def test_answer_bound_by_a_schema_is_json_of_that_schema(client, model):
    schema = {
        "type": "object",
        "properties": {"pain": {"type": "boolean"}, "side": {"enum": ["left", "right"]}},
        "required": ["pain", "side"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "finding", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(
        model=model, messages=HELLO, response_format=wanted, max_tokens=200, temperature=1.0, seed=1
    )
    found = json.loads(answer.choices[0].message.content)
    assert set(found) == {"pain", "side"} and found["side"] in ("left", "right")


def test_probabilities_and_stop_texts_arrive(client, model):
    answer = client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=8, temperature=0, logprobs=True, top_logprobs=2
    )
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens or answer.choices[0].finish_reason == "stop"
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)
    text = answer.choices[0].message.content
    stop = text[2:4]
    stopped = client.chat.completions.create(model=model, messages=HELLO, max_tokens=8, temperature=0, stop=[stop])
    assert stopped.choices[0].message.content == text[: text.index(stop)]


def test_text_is_completed_without_a_template(client, model):
    answer = client.completions.create(model=model, prompt="the patient", max_tokens=5, temperature=0)
    assert answer.object == "text_completion" and answer.usage.completion_tokens <= 5
    pieces = client.completions.create(model=model, prompt="the patient", max_tokens=5, temperature=0, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == answer.choices[0].text


def test_models_are_listed_and_described(client, model):
    listed = {entry.id: entry for entry in client.models.list()}
    kinds = {name: entry.kind for name, entry in listed.items()}
    assert kinds[model] == "model" and kinds["phi-deid"] == "specialist" and kinds["auto"] == "router"
    assert listed[model].parameters > 0 and listed["phi-deid"].name == "Clinical de-identifier"
    shown = client.models.retrieve(model)
    assert shown.architecture == "llama" and shown.context_tokens == TINY.positions and len(shown.sha256) == 64
    for name in listed:
        one = client.models.retrieve(name)
        assert (one.id, one.kind, one.endpoints) == (name, kinds[name], listed[name].endpoints) and one.created >= 0
    with pytest.raises(openai.NotFoundError, match="models list"):
        client.models.retrieve("nobody")


def test_what_a_client_can_do_with_each_is_what_is_honoured(client, model):
    for entry in client.models.list():
        asked = {"model": entry.id, "messages": HELLO, "max_tokens": 3}
        brief = {"model": entry.id, "input": "hi", "max_output_tokens": 3}
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1]}}}
        if "/v1/chat/completions" in entry.endpoints:
            assert client.chat.completions.create(**asked).choices and client.responses.create(**brief)
            if "json_schema" not in entry.features:
                with pytest.raises(openai.BadRequestError, match="response_format"):
                    client.chat.completions.create(**asked, response_format=schema)
            else:
                assert client.chat.completions.create(**asked, response_format=schema).choices
        if "/v1/embeddings" in entry.endpoints:
            assert client.embeddings.create(model=entry.id, input="hi").data
        if "/v1/completions" in entry.endpoints:
            assert client.completions.create(model=entry.id, prompt="hi", max_tokens=2).choices
        assert entry.endpoints, entry


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "models list"),
        ({"temperature": 9.0}, openai.BadRequestError, "temperature"),
        ({"n": 2}, openai.BadRequestError, "n must be 1"),
        ({"logit_bias": {"5": 1}}, openai.BadRequestError, "logit_bias"),
        ({"stop": ["x"] * 17}, openai.BadRequestError, "stop"),
        ({"extra_body": {"best_guess": True}}, openai.BadRequestError, "best_guess"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         openai.BadRequestError, "only text is understood here"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "tone": "dry"}]}]},
         openai.BadRequestError, "tone"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "spell"}}}},
         openai.BadRequestError, "#/type"),
        ({"messages": [{"role": "user", "content": "the " * 3000}]}, openai.APIStatusError, "context"),
    ],
)  # fmt: skip
def test_refusals_are_the_exceptions_of_the_client(client, model, change, error, words):
    asked = {"model": model, "messages": HELLO, "max_tokens": 4, **change}
    for stream in (False, True):
        with pytest.raises(error) as refused:
            client.chat.completions.create(**asked, stream=stream)
        said = f"{refused.value.body.get('message')} {refused.value.body.get('hint')}"
        assert words in said, said


def test_stranger_and_key_without_the_scope_are_refused(server, ana, model):
    key = ana.post("/v1/api-keys", json={"name": "reader", "scopes": ["specialist.list"]}).json()["secret"]
    for secret, error in (("clk_nobody", openai.AuthenticationError), (key, openai.PermissionDeniedError)):
        other = openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0)
        with other, pytest.raises(error):
            other.chat.completions.create(model=model, messages=HELLO)


def test_every_request_has_one_closing_record_also_one_that_was_left_early(server, client, auditor, model):
    client.chat.completions.create(model=model, messages=HELLO, max_tokens=1)
    before = records(auditor)[0]["seq"]
    client.chat.completions.create(model=model, messages=HELLO, max_tokens=3)
    with suspended_writers(server.pid):
        asyncio.run(left_before_it_is_answered(client, model, lambda: left_open(auditor, before)))
        eventually(lambda: not left_open(auditor, before), "what was left is closed while the model stands")
    with client.chat.completions.create(model=model, messages=HELLO, max_tokens=1500, stream=True) as stream:
        next(iter(stream))
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=model, messages=HELLO, n=3)
    eventually(lambda: not left_open(auditor, before), "what was left is closed")
    exchanges: dict[str, list[str]] = {}
    for record in records(auditor):
        if record["seq"] > before:
            exchanges.setdefault(record["exchange_id"], []).append(record["outcome"])
    assert len(exchanges) == 3  # what the body itself forbids never becomes an exchange
    for outcomes in exchanges.values():
        assert outcomes[-1] == "accepted" and len(outcomes) == 2
    ends = [outcomes[0] for outcomes in reversed(exchanges.values())]
    assert ends[:2] == ["completed", "cancelled"]
    # Whether an answer that has begun is complete before its reader goes is a matter of how fast it is written.
    assert ends[2] in ("cancelled", "completed")


async def left_before_it_is_answered(client, model, is_accepted) -> None:
    """A stream that is asked for by somebody who goes away as soon as the request is accepted."""
    asked = {"model": model, "messages": HELLO, "max_tokens": 1500, "stream": True}
    headers = {"Authorization": f"Bearer {client.api_key}"}
    async with httpx.AsyncClient(base_url=client.base_url, trust_env=False, timeout=ANSWER_S) as http:
        asking = asyncio.ensure_future(http.post("chat/completions", json=asked, headers=headers))
        await asyncio.to_thread(eventually, is_accepted, "the request is accepted")
        asking.cancel()
        await asyncio.wait({asking})


def left_open(auditor, since: int) -> set[str]:
    """Exchanges after this record that have no closing record."""
    rows = [row for row in records(auditor) if row["seq"] > since]
    closed = {row["exchange_id"] for row in rows if row["outcome"] != "accepted"}
    return {row["exchange_id"] for row in rows} - closed
