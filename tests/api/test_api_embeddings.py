"""Vectors come over OpenAI's API as its official client asks for them: in the order of the texts, of length 1, with
figures and a receipt whose record is in the log; what cannot be honoured is refused with the client's own exceptions.
"""

import base64

import numpy as np
import openai
import pytest

from tests.conftest import USER_PASSWORD

TEXTS = ["My card was stolen.", "The patient denies pain. " * 60, "Somebody took my bank card!"]


@pytest.fixture(scope="module")
def client(server):
    with server.client("ana", USER_PASSWORD) as ana:
        key = ana.post("/v1/api-keys", json={"name": "vectors", "scopes": ["specialist.run"]}).json()["secret"]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=100) as made:
        yield made


def test_vectors_have_length_one_and_alike_texts_are_near(client):
    answer = client.embeddings.create(model="embed", input=TEXTS)
    vectors = np.array([entry.embedding for entry in answer.data])
    assert [entry.index for entry in answer.data] == [0, 1, 2] and answer.model == "embed"
    assert vectors.shape == (3, 384) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[2] > 0.6 > vectors[0] @ vectors[1]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 100


def test_one_text_is_the_same_alone_and_in_numbers(client, ana):
    exact = client.embeddings.create(model="embed", input=TEXTS[0], encoding_format="base64").data[0].embedding
    packed = np.frombuffer(base64.b64decode(exact), "<f4") if isinstance(exact, str) else np.array(exact, np.float32)
    numbers = client.embeddings.create(model="embed", input=TEXTS[:1], encoding_format="float").data[0].embedding
    one = ana.post("/v1/specialists/embed/run", json={"text": TEXTS[0]}).json()["embedding"]
    assert np.allclose(packed, numbers, atol=1e-6) and np.allclose(numbers, one, atol=1e-6)
    assert client.embeddings.create(model="embed", input=TEXTS[0], dimensions=384).data[0].object == "embedding"


def test_receipt_of_vectors_is_in_the_log_and_the_record_says_what_was_asked(client, auditor):
    raw = client.embeddings.with_raw_response.create(model="embed", input=TEXTS[:2])
    proof = base64.b64decode(raw.headers["Cloister-Receipt"]).decode()
    assert auditor.post("/v1/audit/receipts/check", json={"proof_file": proof}).json()["verdict"] == "ok"
    found = auditor.get("/v1/audit/records", params={"event": "specialist.embed", "limit": 2}).json()["data"]
    assert [record["outcome"] for record in found] == ["completed", "accepted"]
    assert found[1]["attributes"]["texts"] == 2 and found[1]["attributes"]["specialist"] == "embed"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"input": [1, 2, 3]}, openai.BadRequestError, "token ids"),
        ({"input": [[1, 2], [3]]}, openai.BadRequestError, "token ids"),
        ({"input": []}, openai.BadRequestError, "no text"),
        ({"input": ["a", " "]}, openai.BadRequestError, "text 1 is empty"),
        ({"input": "a\0b"}, openai.BadRequestError, "NUL"),
        ({"input": ["a"] * 2049}, openai.APIStatusError, "2049"),
        ({"dimensions": 256}, openai.BadRequestError, "384"),
        ({"model": "phi-deid"}, openai.BadRequestError, "makes no vectors"),
        ({"model": "text-embedding-3-small"}, openai.NotFoundError, "text-embedding-3-small"),
        ({"encoding_format": "int8"}, openai.BadRequestError, "encoding_format"),
    ],
)
def test_what_cannot_be_honoured_is_refused(client, change, error, words):
    with pytest.raises(error) as refused:
        client.embeddings.create(**{"model": "embed", "input": "a", "encoding_format": "float"} | change)
    assert words in f"{refused.value.body.get('message')} {refused.value.body.get('hint')}"
