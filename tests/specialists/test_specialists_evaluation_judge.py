"""A judgement counts every item, failed ones as wrong; two contenders are compared item by item; JSON has no NaN."""

import json

import numpy as np
import pytest

from appliance.specialists.evaluation.gold import GoldItem
from appliance.specialists.evaluation.judge import (
    Contender,
    Prediction,
    Report,
    differences,
    judge,
    latency_of,
    report_json,
    swapped_names,
)
from appliance.specialists.manifest import Calibration
from appliance.types import Findings, LabelScore, Material, Quote, Span, Task
from tests.specialists.test_specialists_evaluation_gold import manifest

ME = Contender("triage", "specialist", "1.0.0", "0" * 64)
LABELS = manifest(labels=("urgent", "routine"), calibration=Calibration(abstain_below=0.5))


def said(label, score=0.9, *, abstains=False, seconds=0.01):
    best = LabelScore(label, score)
    return Prediction(Findings("label", labels=() if abstains else (best,), best=best), seconds)


def letter(label):
    return GoldItem(Material("a letter"), labels=(label,) if label else ())


FAILED = Prediction(None, 0.02, "input_too_long")


def values(judgement):
    return {name: figure.value for name, figure in judgement.figures.items()}


def test_failed_item_is_wrong_and_no_abstention():
    judged = judge(ME, LABELS, [letter("urgent")] * 4, [said("urgent")] * 3 + [FAILED], seed=0)
    assert values(judged)["accuracy"] == 0.75
    assert judged.failed == 1
    low, high = judged.figures["accuracy"].interval
    assert low < 0.75 <= high


def test_abstentions_stand_in_the_last_column_and_out_of_scope_in_the_last_row():
    items = [letter("urgent"), letter("urgent"), letter(None), letter(None)]
    predictions = [
        said("urgent"),
        said("routine", 0.3, abstains=True),
        said("urgent", 0.2, abstains=True),
        said("urgent"),
    ]
    judged = judge(ME, LABELS, items, predictions, seed=0)
    assert judged.confusion.labels == ("urgent", "routine", "")
    assert judged.confusion.counts == ((1, 0, 1), (0, 0, 0), (1, 0, 1))
    assert values(judged)["out_of_scope_recall"] == 0.5
    assert values(judged)["answered"] == 0.5
    assert sum(one.items for one in judged.reliability) == 2


def test_generalist_states_no_probability_and_gets_no_reliability():
    item, best = letter("urgent"), LabelScore("urgent", 1.0)
    prediction = Prediction(Findings("label", labels=(best,), best=best), 1.0, scored=False)
    judged = judge(Contender("some-model", "generalist"), LABELS, [item, item], [prediction] * 2, seed=0)
    assert judged.reliability == () and "calibration_error" not in judged.figures


def test_several_labels_and_a_failed_item_is_wrong_everywhere():
    kind = manifest(labels=("negated", "historical"), multi_label=True)
    items = [GoldItem(Material("a"), labels=("negated",)), GoldItem(Material("b"))]
    right = Prediction(Findings("labels", labels=(LabelScore("negated", 0.8),)), 0.1)
    assert values(judge(ME, kind, items, [right, FAILED], seed=0))["exact"] == 0.5
    assert judge(ME, kind, items, [right, FAILED], seed=0).labels["historical"]["precision"] == 0


def test_sentences_are_judged_one_by_one_and_drawn_by_document():
    kind = manifest(labels=("METHODS", "RESULTS"), unit="sentence")
    items = [
        GoldItem(Material(sentences=("a", "b", "c")), labels=("METHODS", "METHODS", "RESULTS")),
        GoldItem(Material(sentences=("d",)), labels=("RESULTS",)),
    ]
    one, none = LabelScore("METHODS", 0.9), None
    predictions = [
        Prediction(Findings("sentences", sentences=(one, none, one)), 0.1),
        Prediction(Findings("sentences", sentences=(LabelScore("RESULTS", 0.9),)), 0.1),
    ]
    judged = judge(ME, kind, items, predictions, seed=0)
    assert values(judged)["accuracy"] == 0.5
    assert judged.figures["accuracy"].interval == (pytest.approx(1 / 3), 1.0)


def test_spans_and_quotes_reach_their_measures():
    tagged = judge(
        ME,
        manifest(Task.TAG),
        [GoldItem(Material("Ana came"), spans=(Span(0, 3, "NAME", 1.0),))],
        [Prediction(Findings("spans", spans=(Span(0, 3, "NAME", 0.9),)), 0.1)],
        seed=0,
    )
    assert values(tagged)["span_f1"] == 1 and tagged.labels["NAME"]["f1"] == 1
    questions = [
        GoldItem(Material(question="q", context="in 2016"), answers=("2016",)),
        GoldItem(Material(context="c")),
    ]
    quoted = Prediction(Findings("answer", quote=Quote("2016", 3, 7, 0.9)), 0.1)
    answered = judge(ME, manifest(Task.ANSWER), questions, [quoted, FAILED], seed=0)
    assert values(answered)["f1"] == 0.5 and values(answered)["abstention"] == 0.5


def test_differences_are_of_the_same_items():
    items = [letter("urgent")] * 40
    mine = [said("urgent")] * 40
    theirs = [said("urgent")] * 20 + [said("routine")] * 20
    found = differences(LABELS, items, mine, theirs, seed=0)["accuracy"]
    assert (found.mine, found.theirs, found.value) == (1.0, 0.5, 0.5)
    assert found.beyond_chance


def test_latency_is_of_single_items_and_cost_is_their_sum():
    latency = latency_of([0.010] * 99 + [1.0])
    assert (latency.p50_ms, latency.p99_ms > 10) == (10.0, True)
    assert latency.seconds_per_1000 == pytest.approx(19.9)


def test_gap_between_origins_has_intervals_and_a_p_value():
    swapped = swapped_names({"A": [(1, 1)] * 30, "B": [(0, 1)] * 15 + [(1, 1)] * 15}, seed=0)
    assert [group.recall for group in swapped.groups] == [1.0, 0.5]
    assert swapped.p_value < 0.01 and swapped.texts == 30


def test_report_as_json_has_null_where_there_is_no_figure():
    judged = judge(ME, manifest(Task.TAG), [GoldItem(Material("a"))], [FAILED], seed=0)
    body = report_json(Report("triage", "1.0.0", "tag", 1, "0" * 64, 0, (judged,)))
    assert body["judgements"][0]["figures"]["span_f1"]["value"] is None
    assert json.dumps(body, allow_nan=False)
    assert np.isnan(judged.figures["span_f1"].value)
