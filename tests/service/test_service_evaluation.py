"""An evaluation is one exchange: allowed, recorded before the first item runs, its report recorded before it is shown.

The specialists' heads are real and always say the same; the engine gives what such a head gives. The generalist is a
list of written replies. Data, prompts, figures and records are the real ones.
"""

import asyncio
import json

import httpx
import numpy as np
import pytest

import migrations
from appliance.config import Home, load_config
from appliance.errors import (
    AuditUnavailable,
    EngineUnavailable,
    GoldInvalid,
    InvalidRequest,
    PermissionDenied,
    ServerUnavailable,
    SpecialistNotFound,
    UnknownOption,
)
from appliance.service.appliance import Appliance
from appliance.service.evaluation import EvaluationRequest, evaluate, failures
from appliance.service.generalist import Generalist, GeneralistAt
from appliance.specialists.evaluation.prompts import Message
from appliance.specialists.evaluation.swap_names import names_by_origin
from appliance.specialists.registry import Registry
from appliance.specialists.tokenization import WordPiece
from appliance.storage.database import open_database
from appliance.types import Outcome, Principal
from benchmarks import generalist
from tests.service.service_fakes import MemoryLog
from tests.specialist_files import CLASSES, TAGS, write_classifier, write_embedder, write_tagger

ANA = Principal("user:1", "ana", "user", frozenset({"user"}))
AUDITOR = Principal("user:2", "aude", "user", frozenset({"auditor"}))
COLUMNS = 1 + 2 * len(TAGS)


class SameEngine:
    """What heads give that say the same whatever they read; by the number of outputs."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.heads: dict[str, np.ndarray] = {}
        self.error = error

    def status(self):
        return type("Status", (), {"threads": 2})

    async def load(self, adapter) -> None:
        self.calls.append("load")
        self.heads[adapter.key] = adapter.head.out_bias

    async def encode(self, key, inputs, *, deadline_s=None):
        self.calls.append("encode")
        if self.error is not None:
            raise self.error
        bias = self.heads[key]
        pooled = len(bias) == len(CLASSES)
        return [bias if pooled else np.tile(bias, (len(item.token_ids), 1)) for item in inputs]


class WrittenReplies:
    """A generalist whose replies are known."""

    model = "some-model"

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked: list[str] = []

    async def ask(self, messages, *, tokens_max):
        self.asked.append(messages[-1].content)
        return self.replies.pop(0)


@pytest.fixture(scope="module")
def site(tmp_path_factory, base_model):
    home = Home(tmp_path_factory.mktemp("evaluation") / "home")
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    database = open_database(home.database, mode="rw")
    registry = Registry(database, home)
    files = home.root / "incoming"
    for path in (
        write_classifier(files / "triage.gguf"),
        write_classifier(files / "lazy.gguf", favourite="routine"),
        write_classifier(files / "brief.gguf", input_chars_max=10),
        write_classifier(files / "foreign.gguf", labels=("eilig", "normal", "unklar")),
        write_tagger(files / "marker.gguf"),
        write_embedder(files / "vectors.gguf"),
    ):
        registry.install(path, trust="administrator")
    yield load_config(home.root), registry, WordPiece.from_vocab(base_model / "minilm" / "vocab.txt")
    database.dispose()


@pytest.fixture
def opened(site):
    config, registry, wordpiece = site

    def build(log=None, engine=None) -> Appliance:
        rooms = (log or MemoryLog(), registry, engine or SameEngine(), wordpiece)
        return Appliance(config, "cli", None, *rooms, None, {"via": "cli"})

    return build


def lines(*rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


LETTERS = lines(
    *({"text": f"please hurry {number}", "label": "urgent"} for number in range(6)),
    *({"text": f"no hurry {number}", "label": "routine"} for number in range(2)),
)

NAMELESS = lines({"text": "on 3 May", "spans": [{"start": 3, "end": 8, "label": "DATE"}]})


def judged(appliance: Appliance, request: EvaluationRequest, principal: Principal = ANA):
    return asyncio.run(evaluate(appliance, principal, request))


def test_figures_are_recorded_before_they_are_shown_and_no_text_is(opened):
    appliance = opened()
    released = judged(appliance, EvaluationRequest("triage", LETTERS))
    (judgement,) = released.value.judgements
    assert judgement.figures["accuracy"].value == 0.75
    opening, closing = appliance.audit.events
    assert (opening.event, opening.outcome, closing.outcome) == (
        "specialist.evaluate",
        Outcome.ACCEPTED,
        Outcome.COMPLETED,
    )
    assert (opening.attributes["items"], opening.attributes["specialist"]) == (8, "triage")
    assert closing.attributes["accuracy"] == 0.75
    assert released.receipt.record_id == closing.record_id
    assert json.loads(closing.content)["judgements"][0]["figures"]["accuracy"]["value"] == 0.75
    assert "hurry" not in repr(appliance.audit.events)


def test_two_specialists_are_compared_item_by_item(opened):
    progress = []
    report = asyncio.run(
        evaluate(
            opened(),
            ANA,
            EvaluationRequest("triage", LETTERS, against="lazy"),
            lambda who, done, of: progress.append((who, done, of)),
        )
    ).value
    assert [one.contender.name for one in report.judgements] == ["triage", "lazy"]
    assert report.differences["accuracy"].value == 0.5
    assert progress[-1] == ("lazy", 8, 8)


def test_generalist_is_asked_what_the_specialist_is_and_unreadable_replies_are_wrong(opened):
    rival = WrittenReplies(*["urgent"] * 5, "I would rather not say", "routine", "routine")
    report = judged(opened(), EvaluationRequest("triage", LETTERS, against=rival)).value
    assert report.judgements[1].contender.kind == "generalist"
    assert report.judgements[1].figures["accuracy"].value == 7 / 8
    assert report.judgements[1].failed == 1
    assert "1 of some-model" in failures(report)
    assert len(rival.asked) == 8 and "please hurry 0" in rival.asked[0]


def test_item_that_the_specialist_refuses_is_wrong_and_counted(opened):
    report = judged(opened(), EvaluationRequest("brief", LETTERS)).value
    assert report.judgements[0].failed == 6
    assert report.judgements[0].figures["accuracy"].value == 0


def test_names_of_every_origin_are_put_into_the_same_texts(opened):
    data = lines(
        {"text": "Ana Ruiz came", "spans": [{"start": 0, "end": 8, "label": "NAME"}]}, {"text": "Nobody.", "spans": []}
    )
    report = judged(opened(), EvaluationRequest("marker", data, swap_names=True)).value
    assert [group.origin for group in report.swapped.groups] == list(names_by_origin())
    assert {(group.found, group.names) for group in report.swapped.groups} == {(0, 1)}
    assert report.swapped.p_value == 1.0


@pytest.mark.parametrize(
    ("request_", "principal", "error"),
    [
        (EvaluationRequest("triage", LETTERS), AUDITOR, PermissionDenied),
        (EvaluationRequest("nobody", LETTERS), ANA, SpecialistNotFound),
        (EvaluationRequest("triage", LETTERS, against="nobody"), ANA, SpecialistNotFound),
        (EvaluationRequest("triage", LETTERS, against="marker"), ANA, UnknownOption),
        (EvaluationRequest("triage", LETTERS, against="foreign"), ANA, UnknownOption),
        (EvaluationRequest("triage", LETTERS, swap_names=True), ANA, UnknownOption),
        (EvaluationRequest("marker", NAMELESS, swap_names=True), ANA, UnknownOption),
        (EvaluationRequest("triage", b"{}\n"), ANA, GoldInvalid),
        (EvaluationRequest("vectors", LETTERS), ANA, GoldInvalid),
    ],
    ids=[
        "role",
        "unknown",
        "unknown rival",
        "other task",
        "other labels",
        "no names",
        "no name",
        "not labelled",
        "vectors",
    ],
)
def test_refusal_leaves_one_closing_record_and_nothing_runs(opened, request_, principal, error):
    appliance = opened()
    with pytest.raises(error):
        judged(appliance, request_, principal)
    assert [event.outcome for event in appliance.audit.events] == [Outcome.REFUSED]
    assert appliance.engine.calls == []


def test_nothing_runs_without_the_opening_record_and_nothing_is_shown_without_the_closing_one(opened):
    appliance = opened(MemoryLog(fail_at=frozenset({0})))
    with pytest.raises(AuditUnavailable):
        judged(appliance, EvaluationRequest("triage", LETTERS))
    assert appliance.engine.calls == []
    with pytest.raises(AuditUnavailable):
        judged(opened(MemoryLog(fail_at=frozenset({1}))), EvaluationRequest("triage", LETTERS))


def test_engine_that_dies_ends_the_evaluation_with_one_closing_record(opened):
    appliance = opened(engine=SameEngine(EngineUnavailable("died")))
    with pytest.raises(EngineUnavailable):
        judged(appliance, EvaluationRequest("triage", LETTERS))
    assert [event.outcome for event in appliance.audit.events] == [Outcome.ACCEPTED, Outcome.FAILED]


# The client of the API.


def asked(answer: httpx.Response | Exception, seen: list | None = None) -> str:
    def respond(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask() -> str:
        place = GeneralistAt("http://127.0.0.1:8443", "some-model", "clk_1_key")
        async with Generalist(place, transport=httpx.MockTransport(respond)) as generalist:
            return await generalist.ask([Message("user", "which label?")], tokens_max=7)

    return asyncio.run(ask())


def test_generalist_is_asked_by_chat_completion_with_its_key():
    seen: list[httpx.Request] = []
    assert asked(httpx.Response(200, json={"choices": [{"message": {"content": "urgent"}}]}), seen) == "urgent"
    assert seen[0].url.path == "/v1/chat/completions"
    assert seen[0].headers["Authorization"] == "Bearer clk_1_key"
    body = json.loads(seen[0].content)
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("some-model", 7, 0)
    assert body["messages"] == [{"role": "user", "content": "which label?"}]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(404, json={"error": {"code": "model_not_found"}}), InvalidRequest),
        (httpx.Response(503, text="<html>"), ServerUnavailable),
        (httpx.Response(200, json={"choices": []}), ServerUnavailable),
        (httpx.ConnectError("refused"), ServerUnavailable),
    ],
    ids=["no such model", "unavailable", "no completion", "no server"],
)
def test_answers_that_are_no_reply_are_errors_without_their_text(answer, error):
    with pytest.raises(error) as refused:
        asked(answer)
    assert "<html>" not in refused.value.message


def test_labelled_data_goes_nowhere_but_to_this_machine():
    with pytest.raises(InvalidRequest, match="this machine"):
        Generalist(GeneralistAt("https://models.example.org", "some-model", "key"))
    assert "secret-key" not in repr(GeneralistAt("http://localhost", "m", "secret-key"))


# The benchmark that asks a decoder.


def test_benchmark_puts_specialist_and_generalist_side_by_side(opened, tmp_path):
    (tmp_path / "triage.jsonl").write_bytes(LETTERS)
    rival = WrittenReplies(*["routine"] * 8)
    reports = asyncio.run(generalist.compare(opened(), rival, tmp_path, items=6))
    assert [(report.specialist, report.items) for report in reports] == [("triage", 6)]
    header, _, row = generalist.table(reports, rival.model).splitlines()
    assert "some-model" in header
    assert "accuracy of 6" in row and "1.000 [1.000, 1.000]" in row and "+1.000" in row
