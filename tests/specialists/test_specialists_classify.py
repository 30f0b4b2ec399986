"""Task `classify`: probabilities are calibrated by the temperature and sorted; below the threshold the specialist
abstains; several labels pass by their own thresholds; a long text is the average of its windows. Logits by hand.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import SpecialistsConfig
from appliance.errors import InputTooLong, SpecialistFileInvalid
from appliance.specialists.manifest import Base, Calibration, Manifest
from appliance.specialists.tasks import classify
from appliance.specialists.tokenization import WordPiece
from appliance.types import Task

WORDPIECE = WordPiece.from_tokens(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##a"))
CONFIG = SpecialistsConfig()


def prepared(text="a a", **changes):
    manifest = Manifest(
        **{
            "id": "intent",
            "version": "0.1.0",
            "task": Task.CLASSIFY,
            "name": "Intent",
            "summary": "",
            "labels": ("card", "loan", "fee"),
            "base": Base(name="minilm", weights_sha256="0" * 64, vocabulary_sha256="0" * 64),
            "licence": "Apache-2.0",
            "created": "2026-01-01",
            "window_tokens": 8,
            **changes,
        }
    )
    return classify.prepare(text, manifest, WORDPIECE, CONFIG)


def logits(*values):
    return np.array(values, dtype=np.float32)


@given(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), st.floats(0.1, 10))
@settings(max_examples=100, deadline=None)
def test_probabilities_of_one_label_of_many_sum_to_one_best_first(values, temperature):
    labels = classify.finish(prepared(calibration=Calibration(temperature=temperature)), [logits(*values)])
    assert sum(label.score for label in labels) == pytest.approx(1.0)
    assert [label.score for label in labels] == sorted((label.score for label in labels), reverse=True)
    assert values[("card", "loan", "fee").index(labels[0].label)] == pytest.approx(max(values), abs=1e-6)


def test_temperature_makes_a_prediction_less_sure_and_changes_no_order():
    sharp = classify.finish(prepared(), [logits(2, 1, 0)])
    soft = classify.finish(prepared(calibration=Calibration(temperature=3)), [logits(2, 1, 0)])
    assert [label.label for label in sharp] == [label.label for label in soft]
    assert soft[0].score < sharp[0].score


def test_abstains_below_the_threshold():
    calibration = Calibration(abstain_below=0.6)
    assert classify.finish(prepared(calibration=calibration), [logits(0.1, 0, 0)]) == ()
    assert classify.finish(prepared(calibration=calibration), [logits(9, 0, 0)])[0].label == "card"


def test_several_labels_pass_by_their_own_thresholds():
    calibration = Calibration(thresholds={"loan": 0.9})
    labels = classify.finish(prepared(multi_label=True, calibration=calibration), [logits(1, 1, 2)])
    assert [label.label for label in labels] == ["fee", "card"]


def test_extreme_logits_do_not_overflow():
    labels = classify.finish(prepared(multi_label=True), [logits(1e30, -1e30, 0)])
    assert [(label.label, label.score) for label in labels] == [("card", 1.0), ("fee", 0.5)]


def test_long_text_is_the_average_of_its_windows_by_length():
    case = prepared("a " * 12)
    assert len(case.inputs) == len(case.weights) == 2
    labels = classify.finish(case, [logits(4, 0, 0), logits(0, 0, 0)])
    assert labels[0].score == pytest.approx(np.exp(2) / (np.exp(2) + 2))


def test_text_without_tokens_is_one_input_of_special_tokens():
    (only,) = prepared("  ").inputs
    assert only.token_ids.tolist() == [WORDPIECE.cls_id, WORDPIECE.sep_id]


def test_foreign_logits_and_too_long_texts_are_refused():
    with pytest.raises(SpecialistFileInvalid, match="unusable logits"):
        classify.finish(prepared(), [logits(1, 2)])
    with pytest.raises(InputTooLong):
        prepared("a" * 20, input_chars_max=10)
