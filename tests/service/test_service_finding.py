"""Looking through a document is recorded before anything is shown, the document and all findings sealed, counts in
clear; what cannot be looked for is refused before the engine hears of it.

The engine here says of a passage what its words are worth; registry, vocabulary and passages are the real ones."""

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
    PermissionDenied,
    SpecialistNotFound,
    UnknownOption,
)
from appliance.service.appliance import Appliance
from appliance.service.finding import PER_LABEL_MAX, FindRequest, find_passages
from appliance.specialists.registry import Registry
from appliance.specialists.tokenization import WordPiece
from appliance.storage.database import open_database
from appliance.types import Outcome, Principal
from tests.service.service_fakes import MemoryLog
from tests.specialist_files import CLASSES, write_classifier

ANA = Principal("user:1", "ana", "user", frozenset({"user"}))
AUDITOR = Principal("user:2", "aude", "user", frozenset({"auditor"}))
LETTER = (
    "Dear Sirs,\n\nthe parcel is broken and we need another one.\n\nPlease call us on Monday or on Tuesday at noon.\n"
)


class LengthEngine:
    """The longer a passage the more `urgent` it is; nothing else is ever said."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.encoded = 0

    async def load(self, adapter) -> None:
        assert adapter.head.kind == "pooled"

    async def encode(self, key, inputs, *, deadline_s=None):
        if self.error is not None:
            raise self.error
        self.encoded += len(inputs)
        return [np.array([-9.0, (len(item.token_ids) - 14) / 2, -9.0], np.float32) for item in inputs]


@pytest.fixture(scope="module")
def site(tmp_path_factory, base_model):
    home = Home(tmp_path_factory.mktemp("finding") / "home")
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    database = open_database(home.database, mode="rw")
    registry = Registry(database, home)
    files = home.root / "incoming"
    registry.install(write_classifier(files / "letters.gguf", multi_label=True), trust="administrator")
    registry.install(write_classifier(files / "triage.gguf"), trust="administrator")
    yield load_config(home.root), registry, WordPiece.from_vocab(base_model / "minilm" / "vocab.txt")
    database.dispose()


@pytest.fixture
def opened(site):
    config, registry, wordpiece = site

    def build(log=None, engine=None) -> Appliance:
        rooms = (log or MemoryLog(), registry, engine or LengthEngine(), wordpiece)
        return Appliance(config, "server", None, *rooms, None, {"via": "server"})

    return build


def found(appliance: Appliance, principal: Principal = ANA, **wanted):
    request = FindRequest(**{"text": LETTER, "specialist": "letters", **wanted})
    return asyncio.run(find_passages(appliance, principal, request))


def test_the_best_passages_of_every_label_come_with_their_offsets(opened):
    released = found(opened())
    assert tuple(released.value.findings) == CLASSES
    assert released.value.passages == 2
    best, other = released.value.findings["urgent"]
    assert LETTER[best.start : best.end] == "Dear Sirs,\n\nthe parcel is broken and we need another one."
    assert LETTER[other.start : other.end] == "Please call us on Monday or on Tuesday at noon."
    assert best.score > other.score
    assert not any(one.assigned for one in released.value.findings["routine"])


def test_document_and_findings_are_sealed_and_only_counts_are_in_clear(opened):
    appliance = opened()
    released = found(appliance, subject="case 7")
    opening, closing = appliance.audit.events
    assert (opening.event, opening.outcome, closing.outcome) == ("specialist.find", Outcome.ACCEPTED, Outcome.COMPLETED)
    assert (opening.content, opening.subject, closing.subject) == (LETTER.encode(), "case 7", "case 7")
    assert (opening.attributes["passages"], opening.attributes["chars"]) == (2, len(LETTER))
    assert released.receipt.record_id == closing.record_id
    sealed = json.loads(closing.content)
    assert {label: [one[:2] for one in ranked] for label, ranked in sealed.items()} == {
        label: [[one.start, one.end] for one in ranked] for label, ranked in released.value.findings.items()
    }
    for event in (opening, closing):
        assert "parcel" not in repr(event.attributes)


def test_labels_and_numbers_narrow_what_is_shown(opened):
    released = found(opened(), labels=("urgent",), per_label=1)
    assert {label: len(ranked) for label, ranked in released.value.findings.items()} == {"urgent": 1}


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"text": "  "}, InputEmpty),
        ({"specialist": "nobody"}, SpecialistNotFound),
        ({"specialist": "triage"}, UnknownOption),
        ({"labels": ("weather",)}, UnknownOption),
        ({"per_label": 0}, InvalidRequest),
        ({"per_label": PER_LABEL_MAX + 1}, InvalidRequest),
    ],
)
def test_what_cannot_be_looked_for_is_refused_with_one_record_and_without_the_engine(opened, wanted, error):
    engine = LengthEngine()
    appliance = opened(engine=engine)
    with pytest.raises(error):
        found(appliance, **wanted)
    assert [event.outcome for event in appliance.audit.events] == [Outcome.REFUSED]
    assert engine.encoded == 0


def test_who_may_not_run_specialists_may_not_look_either(opened):
    appliance = opened()
    with pytest.raises(PermissionDenied):
        found(appliance, AUDITOR)
    assert [event.outcome for event in appliance.audit.events] == [Outcome.REFUSED]


def test_an_engine_that_fails_leaves_one_closing_record(opened):
    appliance = opened(engine=LengthEngine(EngineUnavailable("gone")))
    with pytest.raises(EngineUnavailable):
        found(appliance)
    assert [event.outcome for event in appliance.audit.events] == [Outcome.ACCEPTED, Outcome.FAILED]


def test_nothing_runs_where_nothing_can_be_recorded(opened):
    engine = LengthEngine()
    with pytest.raises(AuditUnavailable):
        found(opened(MemoryLog(fail_at=frozenset({0})), engine))
    assert engine.encoded == 0
