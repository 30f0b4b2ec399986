"""A model file that is none, or that misbehaves, and a request that no model could serve are refused through the API
with the figures and the remedy, whole and streamed, and nobody else notices: another model answers after each of them.

The files are put into the library of the one real server as an older release, or somebody with access to the disk,
might have left them: under their true hash, with a manifest that says they are models.
"""

import hashlib
import json

import gguf
import numpy as np
import openai
import pytest

from appliance.config import Home, ModelsConfig
from appliance.service.models import read_facts
from appliance.specialists.language_models.library import ModelLibrary
from benchmarks.random_decoder import TINY, write_decoder
from tests.conftest import USER_PASSWORD

HELLO = [{"role": "user", "content": "Is there pain?"}]
LOOP = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def client(server):
    with server.client("ana", USER_PASSWORD) as ana:
        key = ana.post("/v1/api-keys", json={"name": "bad", "scopes": ["specialist.run"]}).json()["secret"]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=100) as made:
        yield made


@pytest.fixture
def left(server, model):
    """Leaves files in the library, and takes them out again."""
    library = ModelLibrary(Home(server.home), ModelsConfig(), read_facts)
    manifest = json.loads((library.folder / f"{model}.json").read_text())
    made = []

    def leave(name: str, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        (library.folder / f"{sha256}.gguf").write_bytes(content)
        (library.folder / f"{name}.json").write_text(json.dumps(manifest | {"id": name, "sha256": sha256}))
        made.append(name)
        return name

    yield leave
    for name in made:
        library.remove(name)


def decoder(folder, **values) -> bytes:
    write_decoder(folder / "made.gguf", TINY, seed=7, **values)
    return (folder / "made.gguf").read_bytes()


def giant(folder) -> bytes:
    """A header that announces more keys and values than any machine holds, before weights of nothing."""
    writer = gguf.GGUFWriter(folder / "giant.gguf", "llama")
    for add, value in (
        (writer.add_context_length, 131_072),
        (writer.add_embedding_length, 65_536),
        (writer.add_block_count, 2000),
        (writer.add_head_count, 512),
        (writer.add_head_count_kv, 512),
        (writer.add_vocab_size, 512),
    ):
        add(value)
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "giant.gguf").read_bytes()


def said(refused) -> str:
    return f"{refused.value.body.get('message')} {refused.value.body.get('hint')}"


def others_are_answered(client, model) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=2)
    assert answer.usage.completion_tokens


@pytest.mark.parametrize(
    ("name", "made", "words"),
    [
        ("text", lambda _: b"These are no weights." * 100, ("not a GGUF", ".gguf")),
        ("cut", lambda folder: decoder(folder)[:20_000], ("truncated", "again")),
        ("cut-weights", lambda folder: decoder(folder)[:-1000], ("truncated", "bytes and needs")),
        ("encoder", lambda folder: decoder(folder, architecture="bert"), ("bert", "cannot generate", "qwen3")),
        ("future", lambda folder: decoder(folder, architecture="llama9"), ("model",)),
        ("no-template", lambda folder: decoder(folder, chat_template="{% for %}"), ("template", "another model")),
        ("giant", giant, ("MiB", "generation.context_tokens")),
    ],
)
def test_file_that_cannot_be_served_is_refused_with_the_reason(client, model, left, tmp_path, name, made, words):
    left(name, made(tmp_path))
    for stream in (False, True):
        with pytest.raises(openai.ConflictError) as refused:
            client.chat.completions.create(model=name, messages=HELLO, stream=stream)
        assert all(word in said(refused) for word in words), said(refused)
        assert refused.value.code == "model_file_refused"
    others_are_answered(client, model)


def test_refused_model_is_asked_once_also_by_a_client_that_tries_again(client, left, auditor):
    left("stubborn", b"no weights")
    with pytest.raises(openai.ConflictError):
        client.with_options(max_retries=2).chat.completions.create(model="stubborn", messages=HELLO)
    page = auditor.get("/v1/audit/records", params={"limit": 20, "event": "model.generate"}).json()
    ours = [record["outcome"] for record in page["data"] if record["attributes"].get("model") == "stubborn"]
    assert ours == ["failed", "accepted"]


def test_file_that_was_exchanged_is_refused(server, client, model, left, tmp_path):
    left("exchanged", decoder(tmp_path, chat_template="{{ messages }}"))
    manifest = json.loads((Home(server.home).models / "library" / "exchanged.json").read_text())
    path = Home(server.home).models / "library" / f"{manifest['sha256']}.gguf"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(openai.ConflictError) as refused:
        client.chat.completions.create(model="exchanged", messages=HELLO)
    assert "SHA-256" in said(refused) or "hash" in said(refused), said(refused)
    others_are_answered(client, model)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (LOOP, "does not come to an end"),
        ("{{ messages.__class__.__mro__ }}", "attribute"),
        ("{{ 7 ** 7 ** 7 }}", "power"),
    ],
    ids=["loops", "reaches for attributes", "computes"],
)
def test_template_that_misbehaves_is_refused_and_texts_are_still_completed(
    client, model, left, tmp_path, template, words
):
    name = left("misbehaving", decoder(tmp_path, chat_template=template))
    for stream in (False, True):
        with pytest.raises(openai.ConflictError) as refused:
            client.chat.completions.create(model=name, messages=HELLO, stream=stream)
        assert words in said(refused) and "instead of a chat" in said(refused)
    assert client.completions.create(model=name, prompt="the patient", max_tokens=2).usage.completion_tokens
    others_are_answered(client, model)


CIRCLE = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": []}
WIDE = {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(2000)}}
DEEP: dict = {"type": "null"}
for _ in range(200):
    DEEP = {"type": "array", "items": DEEP}


def form(schema: object) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": [{"role": "user", "content": "the " * 3000}]}, ("tokens", "takes", "shorten")),
        ({"messages": [{"role": "user", "content": "x" * 250_000}]}, ("250000", "200000", "shorten")),
        ({"stop": [f"stop {n}" for n in range(10_000)]}, ("10000", "16")),
        ({"stop": ["x" * 10_000]}, ("256",)),
        ({"stop": [""]}, ("1 to 256",)),
        ({"temperature": 1e300}, ("temperature", "2")),
        ({"temperature": -1}, ("temperature", "0")),
        ({"top_p": 0}, ("top_p",)),
        ({"extra_body": {"top_k": 10**9}}, ("top_k", "1000000")),
        ({"extra_body": {"min_p": -0.1}}, ("min_p",)),
        ({"extra_body": {"repetition_penalty": 0}}, ("repetition_penalty",)),
        ({"presence_penalty": 99}, ("presence_penalty",)),
        ({"seed": 10**30}, ("seed",)),
        ({"max_tokens": 10**12}, ("max_tokens", "1000000")),
        ({"logprobs": True, "top_logprobs": 21}, ("top_logprobs", "20")),
        ({"response_format": form({"type": "spell"})}, ("#/type", "must be one of")),
        ({"response_format": form(CIRCLE)}, ("recursive",)),
        ({"response_format": form(DEEP)}, ("deep",)),
        ({"response_format": form(WIDE)}, ("rules", "smaller")),
        ({"response_format": form({"enum": list(range(5000))})}, ("500",)),
        ({"response_format": form({"type": "string", "pattern": "(a+)+$"})}, ("pattern",)),
        ({"messages": [{"role": "wizard", "content": "x"}]}, ("role",)),
        ({"messages": HELLO * 3000}, ("2048",)),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, ("NUL",)),
    ],
)  # fmt: skip
def test_request_that_no_model_could_serve_is_refused_with_figures(client, model, change, words):
    asked = {"model": model, "messages": HELLO, "max_tokens": 4, **change}
    for stream in (False, True):
        with pytest.raises((openai.BadRequestError, openai.APIStatusError)) as refused:
            client.chat.completions.create(**asked, stream=stream)
        assert refused.value.status_code in (400, 413)
        assert all(word in said(refused) for word in words), said(refused)
    others_are_answered(client, model)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", '"warm"', "true", "[]", '"0.5"'])
def test_number_that_is_none_is_refused(server, client, model, number):
    body = f'{{"model": "{model}", "messages": {json.dumps(HELLO)}, "temperature": {number}}}'
    answer = client._client.post(
        f"{server.url}/v1/chat/completions",
        content=body,
        headers={"Authorization": f"Bearer {client.api_key}", "Content-Type": "application/json"},
    )
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error", answer.text
    others_are_answered(client, model)


@pytest.mark.parametrize("depth", [500, 100_000])
@pytest.mark.parametrize("member", ["tools", "response_format", "messages"])
def test_body_that_is_nested_without_end_is_refused(server, client, model, member, depth):
    nested = '{"a":' * depth + "1" + "}" * depth
    wrapped = {
        "tools": f'[{{"type": "function", "function": {{"name": "a", "parameters": {nested}}}}}]',
        "response_format": f'{{"type": "json_schema", "json_schema": {{"name": "x", "schema": {nested}}}}}',
        "messages": f'[{{"role": "user", "content": [{nested}]}}]',
    }
    asked = {"model": f'"{model}"', "messages": json.dumps(HELLO)} | {member: wrapped[member]}
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in asked.items()) + "}"
    answer = client._client.post(
        f"{server.url}/v1/chat/completions",
        content=body,
        headers={"Authorization": f"Bearer {client.api_key}", "Content-Type": "application/json"},
    )
    assert answer.status_code in (400, 413) and answer.json()["error"]["type"] == "invalid_request_error", answer.text
    others_are_answered(client, model)
