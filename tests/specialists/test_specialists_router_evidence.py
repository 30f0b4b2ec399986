"""What the cards say of the router was measured on this release's examples, base and calibration, and adds up."""

import dataclasses

import msgspec
import pytest

from appliance.specialists import router_evidence
from appliance.specialists.base_model import MINILM
from appliance.specialists.router import CALIBRATION
from appliance.specialists.router_evidence import MEASURED, Measured, read_measured, routing_evidence

BUNDLED = ("phi-deid", "biomed-ner", "bank-intent", "assistant-intent", "fin-sentiment", "contract-clause",
           "abstract-sections", "doc-answer", "assertion")  # fmt: skip


@pytest.mark.parametrize("specialist", BUNDLED)
def test_each_of_the_nine_has_evidence_that_adds_up(specialist):
    found = routing_evidence(specialist, MINILM.weights_sha256)
    row = found["matrix"][specialist]
    assert sum(row.values()) == found["right"]["items"] > 100
    assert found["right"]["share"] == pytest.approx(row[specialist] / sum(row.values()))
    assert found["right"]["low"] < found["right"]["share"] <= found["right"]["high"] + 1e-9
    assert sum(sum(one.values()) for one in found["matrix"].values()) == found["requests"]
    assert {tuple(one) for one in found["matrix"].values()} == {(*BUNDLED, "(abstains)")}


def test_figures_of_another_base_or_of_a_specialist_that_was_not_there_are_not_shown():
    assert routing_evidence("phi-deid", "0" * 64) is None
    assert routing_evidence("complaint-router", MINILM.weights_sha256) is None


def test_figures_of_other_examples_or_another_calibration_are_not_shown():
    measured = read_measured()
    assert router_evidence._holds(measured, MINILM.weights_sha256)
    for change in ({"examples_sha256": "0" * 64}, {"temperature": 0.5}, {"abstain_below": 0.1}):
        assert not router_evidence._holds(msgspec.structs.replace(measured, **change), MINILM.weights_sha256)
    assert dataclasses.astuple(CALIBRATION) == (measured.temperature, measured.abstain_below)


def test_the_file_holds_nothing_that_is_not_read():
    msgspec.json.decode(MEASURED.read_bytes(), type=Measured)
    assert read_measured().part == "held_back"
