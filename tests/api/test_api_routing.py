"""`POST /v1/route` and `POST /v1/specialists/auto/run`: their fields, the choice beside the answer, one error.

The application is the real one over a registry of its own; the log is in memory, and the engine gives texts that share
words vectors that are near.
"""

import pytest
from fastapi.testclient import TestClient

import migrations
from appliance.api.app import create_api
from appliance.config import Home, load_config
from appliance.errors import Unauthenticated
from appliance.service.appliance import Appliance
from appliance.service.denials import Denials
from appliance.specialists.registry import Registry
from appliance.specialists.tokenization import WordPiece
from appliance.storage.database import open_database
from appliance.types import Principal
from tests.service.service_fakes import MemoryLog
from tests.service.test_service_routing import LETTERS, WordEngine
from tests.specialist_files import CLASSES, write_classifier

ANA = Principal("user:1", "ana", "user", frozenset({"user"}))
KEY = {"Authorization": "Bearer clk_1_known"}


class OneKey:
    """Accounts of which one API key is known."""

    def authenticate_api_key(self, secret: str) -> Principal:
        if secret != "clk_1_known":
            raise Unauthenticated("no such key")
        return ANA


@pytest.fixture(scope="module")
def client(tmp_path_factory, base_model):
    home = Home(tmp_path_factory.mktemp("api-routing") / "home")
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    database = open_database(home.database, mode="rw")
    registry = Registry(database, home)
    registry.install(write_classifier(home.root / "in" / "parcels.gguf", examples=LETTERS), trust="administrator")
    wordpiece = WordPiece.from_vocab(base_model / "minilm" / "vocab.txt")
    log = MemoryLog()
    rooms = (OneKey(), log, registry, WordEngine(), wordpiece, Denials(log, per_minute=20))
    with TestClient(create_api(Appliance(load_config(home.root), "server", *rooms, {"via": "server"}))) as client:
        yield client
    database.dispose()


def test_route_names_the_choice_the_runner_up_and_the_nearest_examples(client):
    body = client.post("/v1/route", json={"text": "another broken parcel"}, headers=KEY).json()
    assert (body["specialist"], body["abstained"], body["runner_up"]) == ("parcels", False, None)
    assert {near["example"] for near in body["nearest"]} <= set(LETTERS)
    assert 0 < body["score"] <= 1 and "parcels" in body["reason"]
    assert body["receipt"]["record_id"] and body["scores"][0]["specialist"] == "parcels"


def test_route_that_abstains_says_what_to_do(client):
    text = "Which banking intent does this customer message have?"
    body = client.post("/v1/route", json={"text": text}, headers=KEY).json()
    assert (body["specialist"], body["abstained"]) == (None, True)
    assert "install" in body["reason"] and body["runner_up"]["specialist"] == "parcels"


def test_auto_answers_with_the_choice_beside_the_answer(client):
    answer = client.post("/v1/specialists/auto/run", json={"text": "another broken parcel"}, headers=KEY)
    body = answer.json()
    assert answer.status_code == 200, answer.text
    assert (body["label"], body["specialist"]["id"]) == (CLASSES[1], "parcels")
    assert body["route"]["specialist"] == "parcels"
    assert body["route"]["receipt"]["record_id"] != body["receipt"]["record_id"]
    assert "spans" not in body


def test_auto_that_abstains_is_one_error_with_its_reason(client):
    wanted = {"text": "Which banking intent does this customer message have?"}
    answer = client.post("/v1/specialists/auto/run", json=wanted, headers=KEY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_specialist_fits")
    assert "bank-intent" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/route", "/v1/specialists/auto/run"])
def test_strangers_and_other_bodies_are_refused(client, path):
    assert client.post(path, json={"text": "a"}, headers={"Authorization": "Bearer clk_2_other"}).status_code == 401
    assert client.post(path, json={"words": "a"}, headers=KEY).status_code == 400
    assert client.post(path, json={"text": " "}, headers=KEY).json()["error"]["code"] == "input_empty"
