"""A model of another server inside the site is a model like any other to clients, to the log and to the guard; one at
an address that the site did not list is never asked.
"""

import openai
import pytest

from tests.conftest import ADMIN_PASSWORD, USER_PASSWORD

NOTE = "Write to Mrs. Hannah Okafor, MRN 48213377."


@pytest.fixture(scope="module")
def boss(small_server):
    with small_server.client("admin", ADMIN_PASSWORD) as admin:
        account = {"username": "next-door", "password": USER_PASSWORD, "roles": ["user"]}
        assert admin.post("/v1/accounts", json=account).status_code == 201
        yield admin


@pytest.fixture(scope="module")
def client(small_server, boss):
    with small_server.client("next-door", USER_PASSWORD) as person:
        scopes = ["specialist.run", "specialist.list", "audit.read_own"]
        key = person.post("/v1/api-keys", json={"name": "next", "scopes": scopes}).json()["secret"]
    with openai.OpenAI(base_url=f"{small_server.url}/v1", api_key=key, max_retries=0, timeout=100) as made:
        yield made


def asked(text: str, model: str = "neighbour") -> dict:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def test_neighbour_answers_whole_and_streamed_and_is_recorded(client, neighbour):
    assert {entry.id: entry.owned_by for entry in client.models.list()}["neighbour"] == "upstream"
    assert client.models.retrieve("neighbour").upstream_model == "Big/Model"
    answer = client.chat.completions.create(**asked("a short word"), temperature=0, seed=3)
    assert answer.choices[0].message.content == "a short word" and answer.usage.prompt_tokens == 5
    assert neighbour.asked[-1]["model"] == "Big/Model" and neighbour.asked[-1]["seed"] == 3
    events = list(client.chat.completions.create(**asked("a short word"), stream=True))
    assert "".join(event.choices[0].delta.content or "" for event in events) == "a short word"
    assert events[-1].receipt["proof_file"]
    records = client.get("/audit/records?limit=20", cast_to=object)["data"]
    opened = next(one for one in records if one["event"] == "model.generate" and one["outcome"] == "accepted")
    assert opened["attributes"]["upstream"] is True and opened["attributes"]["model"] == "neighbour"


def test_neighbour_is_told_no_name_under_mask(client, boss, neighbour):
    boss.put("/v1/guard/workspaces/next-ward", json={"policy": "mask"})
    boss.put("/v1/guard/members/next-door", json={"workspace": "next-ward"})
    answer = client.chat.completions.create(**asked(NOTE))
    boss.put("/v1/guard/members/next-door", json={"workspace": "default"})
    assert answer.choices[0].message.content == NOTE
    told = neighbour.asked[-1]["messages"][0]["content"]
    assert "[MRN 1]" in told and "48213377" not in told and "Okafor" not in told


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("fail with 500", openai.InternalServerError),
        ("fail with 429", openai.RateLimitError),
        ("fail with 400", openai.BadRequestError),
        ("fail with 302", openai.InternalServerError),
    ],
)
def test_failures_of_the_neighbour_are_the_client_s_exceptions(client, said, error):
    for stream in (False, True):
        with pytest.raises(error) as failed:
            client.chat.completions.create(**asked(said), stream=stream)
        if error is openai.RateLimitError:
            assert failed.value.response.headers["Retry-After"] == "7"


def test_stranger_is_not_asked(client):
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(**asked("hello", "stranger"))
    assert "127.0.0.2" in refused.value.body["message"] and "upstream.addresses" in refused.value.body["message"]
