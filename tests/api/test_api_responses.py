"""OpenAI's newer form of chats, as its official client sends and reads it: whole and streamed, with instructions, items
and schemas; nothing is kept between two requests, and asking for it is refused with the reason.
"""

import base64
import json

import openai
import pytest

from tests.conftest import USER_PASSWORD

ASKED = "Is there pain?"
SCHEMA = {
    "type": "object",
    "properties": {"side": {"enum": ["left", "right"]}},
    "required": ["side"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "name": "finding", "schema": SCHEMA, "strict": True}


@pytest.fixture(scope="module")
def client(server):
    with server.client("ana", USER_PASSWORD) as ana:
        key = ana.post("/v1/api-keys", json={"name": "responses", "scopes": ["specialist.run"]}).json()["secret"]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=100) as made:
        yield made


def test_response_says_what_the_chat_says(client, model):
    chat = client.chat.completions.create(
        model=model,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}],
        max_tokens=12,
        temperature=0,
    )
    asked = {"model": model, "instructions": "Be brief.", "temperature": 0, "max_output_tokens": 12}
    answer = client.responses.create(input=ASKED, **asked)
    items = [{"role": "user", "content": [{"type": "input_text", "text": ASKED}]}]
    assert answer.output_text == client.responses.create(input=items, **asked).output_text
    assert answer.output_text == chat.choices[0].message.content
    assert answer.status == ("incomplete" if chat.choices[0].finish_reason == "length" else "completed")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (
        chat.usage.prompt_tokens,
        chat.usage.completion_tokens,
    )
    assert answer.object == "response" and answer.instructions == "Be brief." and answer.model == model


def test_stream_is_the_response_in_numbered_events_and_ends_with_the_receipt(client, auditor, model):
    asked = {"model": model, "input": ASKED, "temperature": 0, "max_output_tokens": 24}
    whole = client.responses.create(**asked)
    events = list(client.responses.create(**asked, stream=True))
    names = [event.type for event in events]
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(names[4:-4]) == {"response.output_text.delta"} and names[-1] == f"response.{whole.status}"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1].response
    assert text == whole.output_text == last.output_text and last.usage.output_tokens == whole.usage.output_tokens
    checked = auditor.post("/v1/audit/receipts/check", json={"proof_file": last.receipt["proof_file"]}).json()
    assert checked["verdict"] == "ok"


def test_client_s_own_helper_reads_the_stream(client, model):
    with client.responses.stream(model=model, input=ASKED, text={"format": FORM}, max_output_tokens=200) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert json.loads(final.output_text)["side"] in ("left", "right") and final.status == "completed"


def test_answer_bound_by_a_schema_is_json_of_that_schema(client, model):
    answer = client.responses.create(model=model, input=ASKED, text={"format": FORM}, max_output_tokens=200)
    assert json.loads(answer.output_text)["side"] in ("left", "right")


def test_receipt_is_a_header_too(client, model):
    raw = client.responses.with_raw_response.create(model=model, input=ASKED, max_output_tokens=2)
    assert base64.b64decode(raw.headers["Cloister-Receipt"]).decode() == raw.parse().receipt["proof_file"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "models list"),
        ({"previous_response_id": "resp_1"}, openai.BadRequestError, "keeps no conversations"),
        ({"store": True}, openai.BadRequestError, "store"),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "tools"),
        ({"truncation": "auto"}, openai.BadRequestError, "truncation"),
        ({"input": []}, openai.BadRequestError, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, openai.BadRequestError, "item_reference"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
         openai.BadRequestError, "input_image"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "spell"}}}},
         openai.BadRequestError, "#/type"),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
    ],
)  # fmt: skip
def test_refusals_are_the_exceptions_of_the_client(client, model, change, error, words):
    asked = {"model": model, "input": ASKED, "max_output_tokens": 4, **change}
    for stream in (False, True):
        with pytest.raises(error) as refused:
            client.responses.create(**asked, stream=stream)
        said = f"{refused.value.body.get('message')} {refused.value.body.get('hint')}"
        assert words in said, said
