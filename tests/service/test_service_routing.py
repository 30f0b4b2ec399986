"""A routing decision is recorded before it is shown, its scores in clear and its texts sealed; nothing else leaves.

The engine here gives every text the sum of one random vector per word piece, so that texts which share words are near:
the decisions are real ones. The log is in memory; registry, vocabulary and examples are the real ones.
"""

import asyncio
import json

import numpy as np
import pytest

import migrations
from appliance.config import Home, load_config
from appliance.errors import (
    AuditUnavailable,
    EngineUnavailable,
    InputEmpty,
    InvalidRequest,
    NoSpecialistFits,
    PermissionDenied,
)
from appliance.service.appliance import Appliance
from appliance.service.requests import SpecialistRequest
from appliance.service.routing import RouteRequest, answer_routed, route
from appliance.specialists import router
from appliance.specialists.registry import Registry
from appliance.specialists.tokenization import WordPiece
from appliance.storage.database import open_database
from appliance.types import Material, Outcome, Principal
from tests.service.service_fakes import MemoryLog
from tests.specialist_files import CLASSES, write_answerer, write_classifier

ANA = Principal("user:1", "ana", "user", frozenset({"user"}))
AUDITOR = Principal("user:2", "aude", "user", frozenset({"auditor"}))
LETTERS = ("the parcel is broken", "my parcel arrived broken", "broken parcel, send another")


class WordEngine:
    """Texts with the same word pieces have the same vector; loads and inputs are counted."""

    def __init__(self, error: Exception | None = None) -> None:
        self.loads: list[str] = []
        self.encoded = 0
        self.error = error

    async def load(self, adapter) -> None:
        self.loads.append(adapter.key)

    async def encode(self, key, inputs, *, deadline_s=None):
        if self.error is not None:
            raise self.error
        if key != router.BARE_BASE.key:
            return [np.array([0.0, 9.0, 0.0], np.float32)[: len(CLASSES)] for _ in inputs]
        self.encoded += len(inputs)
        return [self._vector(item.token_ids[1:-1]) for item in inputs]

    def _vector(self, ids):
        rows = [np.random.default_rng(int(one)).normal(size=64) for one in ids]
        return np.sum(rows, axis=0, dtype=np.float32) if rows else np.ones(64, np.float32)


@pytest.fixture(scope="module")
def site(tmp_path_factory, base_model):
    home = Home(tmp_path_factory.mktemp("routing") / "home")
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    database = open_database(home.database, mode="rw")
    registry = Registry(database, home)
    files = home.root / "incoming"
    registry.install(write_classifier(files / "parcels.gguf", examples=LETTERS), trust="administrator")
    registry.install(write_answerer(files / "quoter.gguf"), trust="administrator")
    yield load_config(home.root), registry, WordPiece.from_vocab(base_model / "minilm" / "vocab.txt")
    database.dispose()


@pytest.fixture
def opened(site):
    config, registry, wordpiece = site

    def build(log=None, engine=None) -> Appliance:
        rooms = (log or MemoryLog(), registry, engine or WordEngine(), wordpiece)
        return Appliance(config, "server", None, *rooms, None, {"via": "server"})

    return build


def routed(appliance: Appliance, text: str, principal: Principal = ANA):
    return asyncio.run(route(appliance, principal, RouteRequest(Material(text))))


def test_text_like_the_examples_goes_to_their_specialist_and_says_so(opened):
    released = routed(opened(), "another parcel that is broken")
    assert released.value.specialist == "parcels"
    assert released.value.nearest[0].example in LETTERS
    assert "parcels" in released.value.reason


def test_text_like_another_specialists_examples_is_not_given_to_the_one_at_hand(opened):
    decision = routed(opened(), "Which banking intent does this customer message have?").value
    assert decision.abstained
    assert "bank-intent" in decision.reason and "not installed" in decision.reason


def test_decision_is_in_the_record_of_its_receipt_with_scores_in_clear_and_texts_sealed(opened):
    appliance = opened()
    released = routed(appliance, "another parcel that is broken")
    opening, closing = appliance.audit.events
    assert (opening.event, opening.outcome, closing.outcome) == (
        "specialist.route",
        Outcome.ACCEPTED,
        Outcome.COMPLETED,
    )
    assert opening.content == b"another parcel that is broken"
    assert released.receipt.record_id == closing.record_id
    assert closing.attributes["specialist"] == "parcels"
    assert closing.attributes["abstained"] is False
    assert closing.attributes["score_parcels"] == released.value.score
    assert json.loads(closing.content)["reason"] == released.value.reason
    for event in (opening, closing):
        assert "broken" not in repr(event.attributes)


def test_examples_are_encoded_once(opened):
    appliance = opened()
    routed(appliance, "a parcel")
    before = appliance.engine.encoded
    routed(appliance, "a letter\n\nabout a parcel")
    assert appliance.engine.encoded == before + 2


def test_nothing_runs_when_the_opening_record_cannot_be_made(opened):
    appliance = opened(MemoryLog(fail_at=frozenset({0})))
    with pytest.raises(AuditUnavailable):
        routed(appliance, "a parcel")
    assert appliance.engine.loads == []


def test_nothing_is_shown_when_the_closing_record_cannot_be_made(opened):
    with pytest.raises(AuditUnavailable):
        routed(opened(MemoryLog(fail_at=frozenset({1}))), "a parcel")


@pytest.mark.parametrize(
    ("text", "principal", "error", "outcome"),
    [
        (" ", ANA, InputEmpty, Outcome.REFUSED),
        ("a parcel", AUDITOR, PermissionDenied, Outcome.REFUSED),
    ],
    ids=["empty", "not allowed"],
)
def test_refusal_leaves_one_closing_record_and_nothing_runs(opened, text, principal, error, outcome):
    appliance = opened()
    with pytest.raises(error):
        routed(appliance, text, principal)
    assert [event.outcome for event in appliance.audit.events] == [outcome]
    assert appliance.engine.loads == []


def test_engine_that_dies_closes_once(opened):
    appliance = opened(engine=WordEngine(EngineUnavailable("died")))
    with pytest.raises(EngineUnavailable):
        routed(appliance, "a parcel")
    assert [event.outcome for event in appliance.audit.events] == [Outcome.ACCEPTED, Outcome.FAILED]


def test_auto_runs_what_was_chosen_and_both_records_name_each_other(opened):
    appliance = opened()
    routed = asyncio.run(answer_routed(appliance, ANA, SpecialistRequest("a broken parcel", router.AUTO)))
    assert routed.released.value.specialist.id == "parcels"
    assert routed.released.value.labels[0].label == CLASSES[1]
    events = [(event.event, event.outcome) for event in appliance.audit.events]
    assert events == [
        ("specialist.route", Outcome.ACCEPTED),
        ("specialist.route", Outcome.COMPLETED),
        ("specialist.run", Outcome.ACCEPTED),
        ("specialist.run", Outcome.COMPLETED),
    ]
    opening = appliance.audit.events[2].attributes
    assert (opening["requested"], opening["specialist"]) == ("auto", "parcels")
    assert opening["route_record"] == routed.route.receipt.record_id.hex()


def test_auto_that_abstains_runs_nothing_and_says_what_is_missing(opened):
    appliance = opened()
    wanted = SpecialistRequest("Which banking intent does this customer message have?", router.AUTO)
    with pytest.raises(NoSpecialistFits, match="bank-intent"):
        asyncio.run(answer_routed(appliance, ANA, wanted))
    assert [event.event for event in appliance.audit.events] == ["specialist.route"] * 2
    assert appliance.audit.events[-1].attributes["abstained"] is True


def test_what_the_chosen_one_does_not_take_is_said_as_the_routers_choice(opened):
    with pytest.raises(InvalidRequest, match="the router chose quoter: quoter takes no 'text'") as refused:
        asyncio.run(answer_routed(opened(), ANA, SpecialistRequest("quoter", router.AUTO)))
    assert "question" in refused.value.hint


def test_a_request_without_anything_is_given_to_nobody(opened):
    appliance = opened()
    with pytest.raises(InputEmpty):
        asyncio.run(answer_routed(appliance, ANA, SpecialistRequest(None, router.AUTO)))
    assert [event.outcome for event in appliance.audit.events] == [Outcome.REFUSED]
    assert appliance.engine.loads == []


def test_parts_of_a_request_exclude_who_does_not_take_them(opened):
    asked = Material(question="Is the parcel broken?", context="The parcel is broken.")
    released = asyncio.run(route(opened(), ANA, RouteRequest(asked)))
    assert released.value.specialist == "quoter"
    assert [entry.specialist for entry in released.value.scores] == ["quoter"]


def test_parts_that_nobody_takes_are_refused_before_anything_runs(opened):
    appliance = opened()
    with pytest.raises(NoSpecialistFits):
        asyncio.run(route(appliance, ANA, RouteRequest(Material(sentences=("A broken parcel.",)))))
    assert [event.outcome for event in appliance.audit.events] == [Outcome.REFUSED]


def test_named_specialist_is_run_without_a_decision(opened):
    appliance = opened()
    routed = asyncio.run(answer_routed(appliance, ANA, SpecialistRequest("a parcel", "parcels")))
    assert routed.route is None
    assert [event.event for event in appliance.audit.events] == ["specialist.run"] * 2
