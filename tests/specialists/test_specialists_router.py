"""The router decides by the nearest examples, explains itself with them, and abstains where that is the honest answer.

Vectors here are two- and three-dimensional and made by hand, so that every cosine is known; the real ones are measured
by `python -m appliance.training.routing.evaluate`.
"""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import SpecialistFileInvalid
from appliance.specialists import router
from appliance.specialists.manifest import Base, Manifest, decode_manifest, encode_manifest
from appliance.specialists.router import NONE, Example, Known, RouterCalibration, decide, unit, views
from appliance.specialists.router_examples import (
    EXAMPLE_CHARS_MAX,
    EXAMPLES_MAX,
    ExampleVectors,
    bundled_examples,
    card_texts,
    examples_of,
    read_examples,
)
from appliance.types import Task

NINE = {
    "abstract-sections",
    "assertion",
    "assistant-intent",
    "bank-intent",
    "biomed-ner",
    "contract-clause",
    "doc-answer",
    "fin-sentiment",
    "phi-deid",
}
EVEN = RouterCalibration(temperature=0.1, abstain_below=0.5)


def known(**angles: list[float]) -> Known:
    """Examples as directions in the plane, in degrees."""
    examples, rows = [], []
    for name, listed in angles.items():
        for angle in listed:
            examples.append(Example(name.replace("_", "-"), f"{name} at {angle}"))
            rows.append([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    return Known(tuple(examples), np.array(rows, np.float32))


def at(*angles: float) -> np.ndarray:
    return np.array([[np.cos(np.radians(a)), np.sin(np.radians(a))] for a in angles], np.float32)


def manifest(**changes) -> Manifest:
    values = {
        "id": "triage",
        "version": "1.0.0",
        "task": Task.CLASSIFY,
        "name": "Triage",
        "summary": "Sorts letters",
        "labels": ("urgent_care", "routine"),
        "base": Base(name="minilm", weights_sha256="0" * 64, vocabulary_sha256="0" * 64),
        "licence": "Apache-2.0",
        "created": "2026-01-01",
    }
    return Manifest(**(values | changes))


def test_nearest_examples_decide_and_are_the_reason():
    route = decide(at(5), known(cards=[0, 10, 20], notes=[80, 90, 100]), {"cards", "notes"}, EVEN)
    assert (route.specialist, route.runner_up.specialist) == ("cards", "notes")
    assert "cards at" in route.reason and "notes is next" in route.reason
    assert [near.specialist for near in route.nearest] == ["cards"] * 3
    assert sum(entry.score for entry in route.scores) == pytest.approx(1, abs=1e-3)


def test_one_odd_example_does_not_decide():
    assert (
        decide(at(45), known(cards=[45, 170, 175], notes=[70, 75, 80]), {"cards", "notes"}, EVEN).specialist == "notes"
    )


def test_between_two_it_abstains_and_names_both():
    route = decide(at(45), known(cards=[0], notes=[90]), {"cards", "notes"}, RouterCalibration(0.1, 0.6))
    assert route.abstained
    assert "cards (0.50)" in route.reason and "notes (0.50)" in route.reason


def test_specialist_that_is_not_installed_is_named_and_not_chosen():
    route = decide(at(85), known(cards=[0], notes=[90]), {"cards"}, EVEN)
    assert route.abstained
    assert "notes" in route.reason and "install it" in route.reason
    assert route.runner_up.specialist == "cards"


def test_what_nobody_serves_is_said_to_be_so():
    route = decide(at(88), known(cards=[0], none=[90]), {"cards"}, EVEN)
    assert route.abstained
    assert "nothing that a specialist here does" in route.reason
    assert all(near.specialist != NONE for near in route.nearest)


def test_without_any_specialist_it_says_to_install_one():
    assert "install one" in decide(at(0), known(none=[0]), set(), EVEN).reason


def test_views_of_a_text_are_averaged():
    places = known(cards=[0], notes=[90])
    assert decide(at(10, 60), places, {"cards", "notes"}, RouterCalibration(0.1, 0.0)).specialist == "cards"
    assert decide(at(40, 80), places, {"cards", "notes"}, RouterCalibration(0.1, 0.0)).specialist == "notes"


def test_instruction_before_a_text_is_a_view_of_its_own():
    assert views("  Redact this\n\nMr. Okoro \n") == ("Redact this\n\nMr. Okoro", "Redact this")
    assert views("one line\n") == ("one line",)


@given(st.lists(st.floats(0, 360), min_size=1, max_size=6), st.floats(0, 360), st.permutations(range(6)))
def test_order_of_the_examples_does_not_change_the_decision(angles, asked, order):
    places = known(cards=angles, notes=[1, 120, 240])
    chosen = [index for index in order if index < len(places.examples)]
    rest = [index for index in range(len(places.examples)) if index not in chosen]
    mixed = [*chosen, *rest]
    shuffled = Known(tuple(places.examples[index] for index in mixed), places.vectors[mixed])
    first, second = (decide(at(asked), each, {"cards", "notes"}, EVEN) for each in (places, shuffled))
    assert first.score == pytest.approx(second.score, abs=1e-3)
    assert {entry.specialist: entry.score for entry in first.scores} == pytest.approx(
        {entry.specialist: entry.score for entry in second.scores}, abs=1e-3
    )


def test_vector_of_no_length_is_no_division_by_zero():
    assert unit([np.zeros(3), np.array([0, 3, 4])]).tolist() == [[0, 0, 0], [0, pytest.approx(0.6), pytest.approx(0.8)]]


def test_all_nine_specialists_and_nobody_have_examples_within_the_bounds():
    lists = bundled_examples()
    assert set(lists) == NINE | {NONE}
    for texts in lists.values():
        assert 30 <= len(texts) <= EXAMPLES_MAX
        assert len(set(texts)) == len(texts)
        assert max(map(len, texts)) <= EXAMPLE_CHARS_MAX


def test_no_example_belongs_to_two():
    texts = [text for listed in bundled_examples().values() for text in listed]
    assert len(set(texts)) == len(texts)


def test_examples_of_a_manifest_come_before_those_of_the_release():
    own = examples_of([manifest(id="bank-intent", examples=("where is my money",))])
    assert [entry.text for entry in own if entry.specialist == "bank-intent"] == ["where is my money"]
    assert {entry.specialist for entry in own} == NINE | {NONE}


def test_specialist_without_examples_is_known_by_its_card():
    texts = [entry.text for entry in examples_of([manifest()]) if entry.specialist == "triage"]
    assert texts == ["Triage", "Sorts letters", "urgent care", "routine"]
    assert card_texts(manifest(summary="", name="routine")) == ("routine", "urgent care")


def test_comments_and_empty_lines_are_no_examples():
    assert read_examples("# from us\n\n  ask \nsay\n") == ("ask", "say")


def test_vectors_are_made_once_per_text():
    vectors = ExampleVectors()
    examples = (Example("a", "same"), Example("b", "same"), Example("b", "other"))
    assert vectors.missing(examples) == ("same", "other")
    vectors.add(("same", "other"), np.eye(2, dtype=np.float32))
    assert vectors.missing(examples) == ()
    assert vectors.known(examples).vectors.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_manifest_without_examples_is_written_as_before():
    assert "examples" not in encode_manifest(manifest())
    assert decode_manifest(encode_manifest(manifest(examples=("ask me",)))).examples == ("ask me",)


def test_no_specialist_takes_the_name_that_asks_for_a_choice():
    with pytest.raises(SpecialistFileInvalid, match="auto"):
        decode_manifest(encode_manifest(manifest(id=router.AUTO)))


def test_examples_name_nobody_that_could_be_reached():
    for text in bundled_examples()["phi-deid"]:
        assert not re.search(r"@(?!example\.)", text)
