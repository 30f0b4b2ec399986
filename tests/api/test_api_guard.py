"""The guard, with the real detector and a model that repeats what it was asked: under `mask` the model reads
placeholders and the asker their own words, under `block` nothing with an identifier gets through in either direction,
and a streamed answer never shows a part of one. Every decision is a record without content.
"""

import openai
import pytest

from tests.conftest import ADMIN_PASSWORD, AUDITOR_PASSWORD, USER_PASSWORD

NOTE = "Please write to Mrs. Hannah Okafor, MRN 48213377, at hannah.okafor@example.org about her visit."
PLAIN = "Please write a short letter about a visit."
FILLER = "The visit went well and there is nothing to add. " * 12
WARD = {"workspace": "guarded-ward"}


@pytest.fixture(scope="module")
def boss(small_server):
    with small_server.client("admin", ADMIN_PASSWORD) as admin:
        for name, role, password in (("guarded", "user", USER_PASSWORD), ("watcher", "auditor", AUDITOR_PASSWORD)):
            account = {"username": name, "password": password, "roles": [role]}
            assert admin.post("/v1/accounts", json=account).status_code == 201
        assert admin.put("/v1/guard/workspaces/guarded-ward", json={"policy": "allow"}).status_code == 200
        assert admin.put("/v1/guard/members/guarded", json=WARD).status_code == 200
        yield admin


@pytest.fixture(scope="module")
def client(small_server, boss):
    with small_server.client("guarded", USER_PASSWORD) as person:
        scopes = ["specialist.run", "specialist.list"]
        key = person.post("/v1/api-keys", json={"name": "guarded", "scopes": scopes}).json()["secret"]
    with openai.OpenAI(base_url=f"{small_server.url}/v1", api_key=key, max_retries=0, timeout=100) as made:
        yield made


@pytest.fixture
def policy(boss):
    def change(name: str) -> None:
        answer = boss.put("/v1/guard/workspaces/guarded-ward", json={"policy": name})
        assert answer.status_code == 200 and answer.json()["policies"]["guarded-ward"] == name

    yield change
    change("allow")


@pytest.fixture(scope="module")
def records(small_server, boss):
    with small_server.client("watcher", AUDITOR_PASSWORD) as watcher:

        def newest(event: str, limit: int = 1) -> list[dict]:
            answer = watcher.get("/v1/audit/records", params={"event": event, "limit": limit})
            return answer.json()["data"]

        yield newest


def asked(text: str, **more) -> dict:
    messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
    return {"model": "tiny-writer", "messages": messages, "temperature": 0, **more}


def said(events) -> str:
    return "".join(event.choices[0].delta.content or "" for event in events if event.choices)


def test_nothing_is_looked_for_where_nobody_decided(client):
    answer = client.chat.completions.create(**asked(NOTE))
    assert answer.choices[0].message.content == NOTE and not hasattr(answer, "guard")


def test_model_reads_placeholders_and_the_asker_their_own_words(client, policy, records):
    policy("mask")
    answer = client.chat.completions.create(**asked(NOTE))
    assert answer.choices[0].message.content == NOTE
    assert answer.guard["policy"] == "mask" and answer.guard["prompt"]["MRN"] == 1 and answer.guard["answer"] == {}
    places = {NOTE[mark["start"] : mark["end"]]: mark["placeholder"] for mark in answer.guard["prompt_marks"]}
    assert places["48213377"] == "[MRN 1]" and len(places) == sum(answer.guard["prompt"].values())
    back = {NOTE[mark["start"] : mark["end"]]: mark["placeholder"] for mark in answer.guard["answer_marks"]}
    assert back == places
    assert answer.usage.prompt_tokens < len(NOTE)  # a byte is a token of this model: it read less than was written
    cut = client.chat.completions.create(**asked(NOTE, stop=["[MRN 1]"])).choices[0].message.content
    assert cut == NOTE[: NOTE.index("48213377")]
    decided = records("guard.decided")[0]
    assert decided["attributes"]["direction"] == "prompt" and decided["attributes"]["label_MRN"] == 1
    assert decided["has_content"] is False and "Okafor" not in str(decided)
    closed = records("model.generate", 2)
    assert [record["outcome"] for record in closed] == ["completed", "accepted"]
    assert closed[1]["attributes"]["guard"] == "mask"


def test_stream_and_response_and_completion_put_the_words_back_too(client, policy):
    policy("mask")
    events = list(client.chat.completions.create(**asked(NOTE), stream=True))
    assert said(events) == NOTE and events[-1].guard["prompt"]["MRN"] == 1
    response = client.responses.create(model="tiny-writer", input=NOTE)
    assert response.output_text == NOTE and response.guard["policy"] == "mask"
    assert client.completions.create(model="tiny-writer", prompt=NOTE).choices[0].text == NOTE


def test_request_with_an_identifier_is_refused_and_recorded(client, policy, records):
    policy("block")
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**asked(NOTE), stream=stream)
        assert refused.value.code == "guard_blocked" and "Okafor" not in str(refused.value.body)
    assert records("guard.decided")[0]["attributes"]["guard"] == "block"
    assert records("model.generate")[0]["attributes"]["error"] == "guard_blocked"
    assert client.chat.completions.create(**asked(PLAIN)).choices[0].message.content == PLAIN


def test_identifier_that_only_the_answer_holds_ends_it_before_any_part_is_shown(client, policy, records):
    """Messages none of which holds it: the model puts them together."""
    policy("block")
    parts = ["Call us on 20", "2-55", "5-01", "99 as ever. "]
    messages = [{"role": "user", "content": text} for text in (FILLER, *parts, FILLER)]
    shown = []
    with pytest.raises(openai.APIError) as ended:
        for event in client.chat.completions.create(**asked(messages), stream=True):
            shown.append(event.choices[0].delta.content or "")
    text = "".join(shown)
    # How much was shown before depends on how fast the model writes; it may have been nothing.
    assert (FILLER + parts[0]).startswith(text) and "2-55" not in text
    assert ended.value.body["code"] == "guard_blocked"
    assert records("guard.decided")[0]["attributes"]["direction"] == "answer"
    record = records("model.generate")[0]
    assert record["outcome"] == "refused" and record["attributes"]["error"] == "guard_blocked"
    policy("mask")
    masked = said(client.chat.completions.create(**asked(messages), stream=True))
    assert masked == client.chat.completions.create(**asked(messages)).choices[0].message.content
    assert "2-55" not in masked and masked.startswith(FILLER) and "[PHONE 1]" in masked


def test_marks_say_where_and_change_nothing(client, policy):
    policy("mark")
    answer = client.chat.completions.create(**asked(NOTE))
    assert answer.choices[0].message.content == NOTE
    for marks in (answer.guard["prompt_marks"], answer.guard["answer_marks"]):
        found = {NOTE[mark["start"] : mark["end"]] for mark in marks}
        assert "48213377" in found and "hannah.okafor@example.org" in found
    events = list(client.chat.completions.create(**asked(NOTE), stream=True))
    assert events[-1].guard["answer"] == answer.guard["answer"]


def test_policy_is_an_administrator_s_and_is_shown_with_measured_error_rates(small_server, boss, client, policy):
    policy("mask")
    with small_server.client("guarded", USER_PASSWORD) as person:
        own = person.get("/v1/guard").json()
        assert (own["workspace"], own["policy"], own["rules"]) == ("guarded-ward", "mask", None)
        figures = {one["name"]: one["metrics"] for one in own["measured"]["evaluations"]}
        assert 0.5 < figures["Notes"]["recall"] < 1 and "without_leak" in figures["Notes"]
        refused = person.put("/v1/guard/workspaces/guarded-ward", json={"policy": "allow"})
        assert refused.status_code == 403
        assert person.put("/v1/guard/members/guarded", json={"workspace": "default"}).status_code == 403
    assert boss.get("/v1/guard").json()["rules"]["members"]["guarded"] == "guarded-ward"
    with small_server.client("watcher", AUDITOR_PASSWORD) as watcher:
        assert watcher.get("/v1/guard").json()["rules"]["policies"]["guarded-ward"] == "mask"
        assert watcher.put("/v1/guard/workspaces/guarded-ward", json={"policy": "allow"}).status_code == 403
    assert boss.put("/v1/guard/members/guarded", json={"workspace": "nowhere"}).status_code == 400
    assert boss.put("/v1/guard/members/nobody", json=WARD).status_code == 404
    assert boss.put("/v1/guard/workspaces/guarded-ward", json={"policy": "shrug"}).status_code == 400
    assert boss.put("/v1/guard/workspaces/No%20Name", json={"policy": "mask"}).status_code == 400
