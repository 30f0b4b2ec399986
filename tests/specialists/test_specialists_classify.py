"""Task `classify`: probabilities are calibrated by the temperature and sorted; below the threshold the specialist
abstains; several labels pass by their own thresholds; a long text is the average of its windows. Logits by hand.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import SpecialistsConfig
from appliance.errors import InputEmpty, InputTooLong, InvalidRequest, SpecialistFileInvalid
from appliance.specialists.manifest import Base, Calibration, Manifest
from appliance.specialists.tasks import classify
from appliance.specialists.tokenization import WordPiece
from appliance.types import Task

WORDPIECE = WordPiece.from_tokens(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##a"))
CONFIG = SpecialistsConfig()


def manifest_with(**changes):
    return Manifest(
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


def prepared(text="a a", *, about="", **changes):
    return classify.prepare(text, manifest_with(**changes), WORDPIECE, CONFIG, context=about)


def logits(*values):
    return np.array(values, dtype=np.float32)


@given(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), st.floats(0.1, 10))
@settings(max_examples=100, deadline=None)
def test_probabilities_of_one_label_of_many_sum_to_one_best_first(values, temperature):
    labels = classify.finish(prepared(calibration=Calibration(temperature=temperature)), [logits(*values)]).labels
    assert sum(label.score for label in labels) == pytest.approx(1.0)
    assert [label.score for label in labels] == sorted((label.score for label in labels), reverse=True)
    assert values[("card", "loan", "fee").index(labels[0].label)] == pytest.approx(max(values), abs=1e-6)


def test_temperature_makes_a_prediction_less_sure_and_changes_no_order():
    sharp = classify.finish(prepared(), [logits(2, 1, 0)]).labels
    soft = classify.finish(prepared(calibration=Calibration(temperature=3)), [logits(2, 1, 0)]).labels
    assert [label.label for label in sharp] == [label.label for label in soft]
    assert soft[0].score < sharp[0].score


def test_abstains_below_the_threshold():
    calibration = Calibration(abstain_below=0.6)
    unsure = classify.finish(prepared(calibration=calibration), [logits(0.1, 0, 0)])
    assert unsure.abstains and unsure.labels == ()
    assert unsure.best.label == "card" and unsure.best.score < 0.6
    assert classify.finish(prepared(calibration=calibration), [logits(9, 0, 0)]).labels[0].label == "card"


def test_several_labels_pass_by_their_own_thresholds():
    calibration = Calibration(thresholds={"loan": 0.9})
    labels = classify.finish(prepared(multi_label=True, calibration=calibration), [logits(1, 1, 2)]).labels
    assert [label.label for label in labels] == ["fee", "card"]


def test_extreme_logits_do_not_overflow():
    labels = classify.finish(prepared(multi_label=True), [logits(1e30, -1e30, 0)]).labels
    assert [(label.label, label.score) for label in labels] == [("card", 1.0), ("fee", 0.5)]


def test_long_text_is_the_average_of_its_windows_by_length():
    case = prepared("a " * 12)
    assert len(case.inputs) == len(case.weights) == 2
    labels = classify.finish(case, [logits(4, 0, 0), logits(0, 0, 0)]).labels
    assert labels[0].score == pytest.approx(np.exp(2) / (np.exp(2) + 2))


def test_text_without_tokens_is_one_input_of_special_tokens():
    (only,) = prepared("  ").inputs
    assert only.token_ids.tolist() == [WORDPIECE.cls_id, WORDPIECE.sep_id]


def test_foreign_logits_and_too_long_texts_are_refused():
    with pytest.raises(SpecialistFileInvalid, match="unusable logits"):
        classify.finish(prepared(), [logits(1, 2)])
    with pytest.raises(InputTooLong):
        prepared("a" * 20, input_chars_max=10)


ENTITY = {"context": "required", "context_name": "entity"}


def test_what_a_text_is_asked_about_stands_before_it_in_every_window():
    case = prepared("a " * 7, about="a", **ENTITY)
    cls, sep, a = WORDPIECE.cls_id, WORDPIECE.sep_id, WORDPIECE.encode("a").ids[0]
    assert [cut.token_ids.tolist() for cut in case.inputs] == [
        [cls, a, sep, a, a, a, a, sep],
        [cls, a, sep, a, a, a, a, sep],
    ]
    assert sum(case.weights) >= 7


@pytest.mark.parametrize(("about", "changes"), [("", ENTITY), ("  ", ENTITY), ("a", {})])
def test_a_context_that_is_missing_or_not_wanted_is_refused(about, changes):
    with pytest.raises(InvalidRequest) as refused:
        prepared(about=about, **changes)
    assert refused.value.hint


SENTENCES = manifest_with(unit="sentence")


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_sentences_share_inputs_and_each_has_its_own_rows(lengths):
    case = classify.prepare_sentences(["a " * length for length in lengths], SENTENCES, WORDPIECE, CONFIG)
    assert all(len(cut.token_ids) <= SENTENCES.window_tokens for cut in case.inputs)
    rows = [(index, row) for index, first, stop in case.places for row in range(first, stop)]
    assert len(rows) == len(set(rows)) == sum(len(cut.token_ids) - 1 for cut in case.inputs)
    # Row k of an input says label k of the sentence that owns it: every sentence must hear its own rows only.
    outputs = [np.zeros((len(cut.token_ids), 3), dtype=np.float32) for cut in case.inputs]
    for number, (index, first, stop) in enumerate(case.places):
        outputs[index][first:stop, number % 3] = 5.0
    decisions = classify.finish_sentences(case, outputs)
    assert [decision.best.label for decision in decisions] == [
        SENTENCES.labels[number % 3] for number in range(len(lengths))
    ]


def test_sentences_and_texts_are_not_mistaken_for_each_other():
    with pytest.raises(InvalidRequest, match="each sentence"):
        prepared(unit="sentence")
    with pytest.raises(InvalidRequest, match="each text"):
        classify.prepare_sentences(["a"], manifest_with(), WORDPIECE, CONFIG)
    with pytest.raises(InputEmpty):
        classify.prepare_sentences([], SENTENCES, WORDPIECE, CONFIG)
    with pytest.raises(InvalidRequest, match="at most"):
        classify.prepare_sentences(["a"] * 1001, SENTENCES, WORDPIECE, CONFIG)
