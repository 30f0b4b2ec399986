"""The body and the response of `POST /v1/specialists/{id}/run`: each task gives its own fields and no others; what is
sent reaches the specialist part by part. Pure: no server.
"""

import json

import pytest
from pydantic import ValidationError

from appliance.api.schemas import RunRequest, RunResponse, run_request, run_response
from appliance.crypto.merkle import leaf_hash
from appliance.service.requests import Answer
from appliance.types import Findings, LabelScore, Material, Quote, Receipt, Span, SpecialistRef, Task
from tests.audit.audit_records import header_of

HEADER = header_of(0).encode()
RECEIPT = Receipt(bytes(16), 0, leaf_hash(HEADER), 1, (), "test/log\n1\n\n", HEADER)
REF = SpecialistRef("any", "1.0.0", "0" * 64, Task.TAG)
COMMON = {"specialist", "receipt", "elapsed_ms"}
BEST = LabelScore("urgent", 0.912345)

CASES = {
    "spans": (Findings("spans", spans=(Span(0, 3, "NAME", 0.98765),)), {"spans"}),
    "no spans": (Findings("spans"), {"spans"}),
    "label": (Findings("label", labels=(BEST, LabelScore("routine", 0.08)), best=BEST), {"label", "score", "scores"}),
    "abstention": (Findings("label", best=BEST), {"label", "score", "scores"}),
    "labels": (Findings("labels", labels=(BEST,), best=BEST), {"labels", "scores"}),
    "no labels": (Findings("labels", best=BEST), {"labels", "scores"}),
    "sentences": (Findings("sentences", sentences=(BEST, None)), {"labels"}),
    "answer": (Findings("answer", quote=Quote("cd", 3, 5, 0.7)), {"answer"}),
    "no answer": (Findings("answer"), {"answer"}),
    "embedding": (Findings("embedding", embedding=(0.6, 0.8)), {"embedding"}),
}


def shown(findings: Findings) -> dict:
    body: RunResponse = run_response(Answer(REF, findings), RECEIPT)
    return json.loads(body.model_dump_json(exclude_unset=True))


@pytest.mark.parametrize("name", CASES)
def test_a_response_has_the_fields_of_its_task_and_no_others(name):
    findings, fields = CASES[name]
    assert set(shown(findings)) == fields | COMMON


def test_warnings_are_there_if_there_are_any():
    body = run_response(Answer(REF, CASES["label"][0], warnings=("not English",)), RECEIPT)
    assert json.loads(body.model_dump_json(exclude_unset=True))["warnings"] == ["not English"]


def test_an_abstention_has_no_label_and_the_score_of_the_best_even_then():
    body = shown(CASES["abstention"][0])
    assert (body["label"], body["score"]) == (None, 0.9123)
    assert body["scores"] == [{"label": "urgent", "score": 0.9123}]


def test_several_labels_are_those_assigned():
    assert shown(CASES["labels"][0])["labels"] == [{"label": "urgent", "score": 0.9123}]
    body = shown(CASES["no labels"][0])
    assert body["labels"] == [] and body["scores"] == [{"label": "urgent", "score": 0.9123}]


def test_sentences_answers_and_vectors_are_as_they_were_found():
    assert shown(CASES["sentences"][0])["labels"] == ["urgent", None]
    assert shown(CASES["answer"][0])["answer"] == {"text": "cd", "start": 3, "end": 5, "score": 0.7}
    assert shown(CASES["no answer"][0])["answer"] is None
    assert shown(CASES["embedding"][0])["embedding"] == [0.6, 0.8]


@pytest.mark.parametrize(
    ("body", "material"),
    [
        ({"text": "a"}, Material("a")),
        ({"text": "a", "entity": "b"}, Material("a", (("entity", "b"),))),
        ({"text": "a", "concept": "c", "entity": None}, Material("a", (("concept", "c"),))),
        ({"sentences": ["a", "b"]}, Material(sentences=("a", "b"))),
        ({"question": "q", "context": "c"}, Material(question="q", context="c")),
        ({"text": ""}, Material("")),
        ({}, Material()),
    ],
)
def test_what_is_sent_reaches_the_specialist_part_by_part(body, material):
    wanted = run_request(RunRequest(**body, subject="case 7"), "any")
    assert (wanted.material, wanted.specialist, wanted.subject) == (material, "any", "case 7")


@pytest.mark.parametrize("body", [{"text": 7}, {"sentences": "a"}, {"sentences": ["a"] * 1001}, {"answer": "a"}])
def test_a_body_of_another_shape_is_refused(body):
    with pytest.raises(ValidationError):
        RunRequest(**body)
