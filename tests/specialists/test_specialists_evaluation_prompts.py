"""A generalist is asked once per task, and its replies are read generously but never into something it did not say."""

import pytest

from appliance.specialists.evaluation.prompts import prompt, read_reply, reply_tokens_max
from appliance.specialists.manifest import Calibration
from appliance.types import Material, Span, Task
from tests.specialists.test_specialists_evaluation_gold import manifest

TRIAGE = manifest(labels=("card_lost", "card_lost_abroad", "transfer"))
ABSTAINS = manifest(labels=("card_lost", "transfer"), calibration=Calibration(abstain_below=0.5))
SEVERAL = manifest(labels=("negated", "historical"), multi_label=True)
SECTIONS = manifest(labels=("METHODS", "RESULTS"), unit="sentence")
TAGGER = manifest(Task.TAG)
ANSWERS = manifest(Task.ANSWER)
TEXT = Material("Ana met Bo. Ana left on 4 May.")


@pytest.mark.parametrize(
    ("material", "kind", "holds"),
    [
        (Material("my card"), TRIAGE, ["card_lost_abroad", "my card"]),
        (
            Material("up", (("entity", "ACME"),)),
            manifest(context="optional", context_name="entity"),
            ["ACME", "entity"],
        ),
        (Material(sentences=("We did.", "It was.")), SECTIONS, ["1: We did.", "2: It was.", "METHODS"]),
        (Material(question="When?", context="In May."), ANSWERS, ["When?", "In May.", "NOT FOUND"]),
        (TEXT, TAGGER, ["NAME", "DATE", TEXT.text]),
    ],
)
def test_prompt_holds_the_labels_and_the_whole_material(material, kind, holds):
    messages = prompt(material, kind)
    assert [message.role for message in messages] == ["system", "user"]
    assert all(part in messages[0].content + messages[1].content for part in holds)
    assert reply_tokens_max(material, kind) >= 32


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("transfer", "transfer"),
        ("Label: Card lost.", "card_lost"),
        ("card-lost-abroad", "card_lost_abroad"),
        ("The label is card_lost_abroad", "card_lost_abroad"),
        ("either transfer or card_lost", None),
        ("I cannot say", None),
        ("", None),
    ],
)
def test_label_is_read_where_it_is_the_only_one(reply, label):
    findings = read_reply(reply, Material("x"), TRIAGE)
    assert (findings.best.label if findings else None) == label


def test_none_is_an_abstention_only_where_it_was_offered():
    findings = read_reply("None.", Material("x"), ABSTAINS)
    assert findings.labels == () and findings.best is None
    assert read_reply("None.", Material("x"), TRIAGE) is None


def test_list_of_labels_may_be_empty_and_stand_in_a_code_fence():
    assert read_reply("[]", Material("x"), SEVERAL).labels == ()
    fenced = read_reply('```json\n["Negated", "invented"]\n```', Material("x"), SEVERAL)
    assert [one.label for one in fenced.labels] == ["negated"]
    assert read_reply("negated", Material("x"), SEVERAL) is None


def test_sentences_without_a_line_have_no_label():
    material = Material(sentences=("a", "b", "c"))
    findings = read_reply("1: METHODS\n3: results\n9: METHODS", material, SECTIONS)
    assert [one and one.label for one in findings.sentences] == ["METHODS", None, "RESULTS"]
    assert read_reply("no idea", material, SECTIONS) is None


def test_quote_must_be_in_the_context():
    material = Material(question="When?", context="It ends on 4 June 2026.")
    quote = read_reply('"4 June 2026"', material, ANSWERS).quote
    assert material.context[quote.start : quote.end] == quote.text == "4 June 2026"
    assert read_reply("NOT FOUND.", material, ANSWERS).quote is None
    assert read_reply("in the summer", material, ANSWERS) is None


def test_spans_are_found_in_order_and_invented_ones_are_dropped():
    reply = (
        'Here: [{"text": "Ana", "label": "name"}, {"text": "Ana", "label": "NAME"}, {"text": "Zoe", "label": "NAME"}, '
        '{"text": "4 May", "label": "DATE"}, {"text": "Bo", "label": "NAME"}, {"text": "left", "label": "VERB"}]'
    )
    assert read_reply(reply, TEXT, TAGGER).spans == (
        Span(0, 3, "NAME", 1.0),
        Span(8, 10, "NAME", 1.0),
        Span(12, 15, "NAME", 1.0),
        Span(24, 29, "DATE", 1.0),
    )
    assert read_reply("[]", TEXT, TAGGER).spans == ()
    assert read_reply("[{", TEXT, TAGGER) is None
