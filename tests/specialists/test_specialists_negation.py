"""Guaranteed here: the rules find what is denied before and after a finding, stop where a trigger's reach ends, are not
misled by what only looks like one, and decide the label `negated` of a specialist that asks for them."""

import numpy as np
import pytest

from appliance.config import SpecialistsConfig
from appliance.errors import SpecialistFileInvalid
from appliance.specialists.manifest import Base, Manifest, decode_manifest, encode_manifest
from appliance.specialists.tasks import classify
from appliance.specialists.tasks.negation import REACH_WORDS_MAX, denied
from appliance.specialists.tokenization import WordPiece
from appliance.types import Task

WORDPIECE = WordPiece.from_tokens(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "fever", "cough"))


@pytest.mark.parametrize(
    ("sentence", "finding"),
    [
        ("No fever.", "fever"),
        ("She denies any chest pain, nausea or   shortness of\nbreath.", "shortness of breath"),
        ("The scan was NEGATIVE FOR PULMONARY EMBOLUS.", "pulmonary embolus"),
        ("Pulmonary embolus was ruled out.", "pulmonary embolus"),
        ("Fecal occult blood was negative.", "fecal occult blood"),
        ("ALLERGIES - NONE.", "allergies"),
        ("The infarct is not seen today.", "infarct"),
        ("Cough in March; no cough now.", "cough"),
    ],
)
def test_what_is_denied_is_found(sentence: str, finding: str) -> None:
    assert denied(sentence, finding)


@pytest.mark.parametrize(
    ("sentence", "finding"),
    [
        ("Fever and cough.", "fever"),
        ("No fever, but a cough.", "cough"),
        ("No fever. Cough since Monday.", "cough"),
        ("PAIN: none today. SOB: since Monday.", "sob"),
        ("Not only fever was noted.", "fever"),
        ("No significant change in the effusion.", "effusion"),
        ("Rule out pneumonia.", "pneumonia"),
        ("Evaluate for metastatic disease.", "metastatic disease"),
        ("A gentleman with no history of asthma who presents with syncope.", "syncope"),
        ("No fever.", "cough"),
        ("No fever.", ""),
        ("no " + "word " * REACH_WORDS_MAX + "word fever", "fever"),
        ("No feverfew.", "fever"),
    ],
)
def test_what_is_not_denied_is_not(sentence: str, finding: str) -> None:
    assert not denied(sentence, finding)


def manifest(**fields) -> Manifest:
    digest = "0" * 64
    wanted = {
        "labels": ("negated", "historical"),
        "multi_label": True,
        "context": "required",
        "context_name": "concept",
        "post": "negation",
        **fields,
    }
    return Manifest(
        id="assertion",
        version="1.0.0",
        task=Task.CLASSIFY,
        name="Some",
        summary="",
        base=Base(name="tiny", weights_sha256=digest, vocabulary_sha256=digest),
        licence="none",
        created="2026-01-01",
        **wanted,
    )


@pytest.mark.parametrize(("sentence", "said"), [("No fever.", True), ("Fever.", False)])
@pytest.mark.parametrize("logit", [-9.0, 9.0])
def test_the_rules_decide_what_is_denied_and_the_model_the_rest(sentence: str, said: bool, logit: float) -> None:
    prepared = classify.prepare(sentence, manifest(), WORDPIECE, SpecialistsConfig(), context="fever")
    decision = classify.finish(prepared, [np.array([logit, 3.0], dtype=np.float32)])
    assert ("negated" in {label.label for label in decision.labels}) == said
    assert "historical" in {label.label for label in decision.labels}


def test_without_the_post_step_the_model_decides_alone() -> None:
    prepared = classify.prepare("No fever.", manifest(post="none"), WORDPIECE, SpecialistsConfig(), context="fever")
    assert classify.finish(prepared, [np.array([-9.0, -9.0], dtype=np.float32)]).abstains


@pytest.mark.parametrize("fields", [{"labels": ("denied",)}, {"context": "none", "context_name": ""}])
def test_a_file_that_has_nothing_for_the_rules_to_speak_about_is_refused(fields: dict) -> None:
    assert decode_manifest(encode_manifest(manifest())) == manifest()
    with pytest.raises(SpecialistFileInvalid, match="negation"):
        decode_manifest(encode_manifest(manifest(**fields)))
