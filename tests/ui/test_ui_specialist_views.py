"""Guaranteed: what a specialist and a taught one were measured to be is shown with its interval, best known figure
first; each task is asked for what it takes and shown as what it gives; every value of a card, a table or a report
stays text. Pure functions of what the API answers."""

from __future__ import annotations

import json

import pytest
from fake_specialists import _report, all_cards, card
from test_ui_escaping import HOSTILE, Reader

from ui import specialist_views, teach_views
from ui.client import Refused, SignedIn
from ui.figures import figures, headline
from ui.specialist_views import Tried

ADMIN = SignedIn("c.lowe", ("admin",), "", "", "", "user:5")
TEXT = "Ruth took 40 mg."
WAITS = {"state": "awaiting_approval"}
ADDED = {"added_at": "2026-11-26T09:00:00+00:00"}
TRUSTED = {"name": "x", "fingerprint": "x", "added_by": "x"}
ERROR = {"code": "x", "message": "x", "hint": "x"}
RECEIPT = {"seq": 7, "record_id": "ab" * 16}


def filled(value: object, text: str) -> object:
    """`value` with every text in it replaced."""
    if isinstance(value, dict):
        return {name: filled(inner, text) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, text) for inner in value]
    return text if isinstance(value, str) else value


def _severe(value: dict) -> dict:
    """The problems with a severity again, which is a word of the API's and never free text."""
    return value | {"problems": [problem | {"severity": "warning"} for problem in value["problems"]]}


def shape(html: str) -> list[tuple[str, list[str]]]:
    """Elements and the names of their attributes, `class` apart: a kind of label may have its own."""
    return [(tag, [name for name, _ in attributes]) for tag, attributes in Reader(html).elements]


def test_an_interval_belongs_to_its_figure_in_both_ways_of_writing_it() -> None:
    for low, high in (("accuracy_low", "accuracy_high"), ("accuracy_interval_low", "accuracy_interval_high")):
        shown = figures({"calibration_error": 0.021, "accuracy": 0.9449, low: 0.93, high: 0.957, "items_per_s": 1234.5})
        assert [figure.name for figure in shown] == ["accuracy", "calibration_error", "items_per_s"]
        assert (shown[0].shown, shown[0].interval) == ("94.5 %", "93.0 to 95.7")
        assert (shown[0].length, shown[0].from_, shown[0].to) == (94.5, 93.0, 95.7)
        assert [figure.less_is_better for figure in shown] == [False, True, False]
        assert (shown[2].shown, shown[2].length) == ("1\u202f234.5", None)  # no rate: no bar


def test_a_card_shows_how_well_the_router_finds_its_specialist_with_the_whole_matrix() -> None:
    shown = specialist_views.specialist(all_cards()["phi-deid"])
    assert "Its own requests that reach it" in shown and "85&#46;0 to 94&#46;0" in shown
    assert shown.count('class="shade-4 is-right"') == 2 and shown.count('class="shade-1"') == 2
    assert "How well requests find it" not in specialist_views.specialist(all_cards()["doc-answer"])


def test_a_warning_of_the_answer_stands_with_it() -> None:
    answer = {"label": "lost_card", "score": 0.9, "scores": [], "receipt": RECEIPT}
    found = all_cards()["bank-intent"]
    assert "findings" not in specialist_views.tried([Tried(found, TEXT, answer)])
    warned = specialist_views.tried([Tried(found, TEXT, answer | {"warnings": ["It does not look like English"]})])
    assert "It does not look like English" in warned


def test_a_figure_whose_name_ends_like_an_interval_stays_a_figure() -> None:
    assert [figure.name for figure in figures({"latency_low": 0.2})] == ["latency_low"]


def test_a_card_shows_the_figure_that_its_task_is_judged_by() -> None:
    evaluation, shown = headline(
        [{"metrics": {"over_redaction": 0.04}}, {"metrics": {"precision": 0.9, "recall": 0.98}}]
    )
    assert evaluation["metrics"]["recall"] == 0.98
    assert [(figure.title, figure.shown) for figure in shown] == [("Recall", "98.0 %"), ("Precision", "90.0 %")]
    assert headline([]) == (None, ())
    nothing = {"data": [card("x", "X", "tag", evaluation=[])]}
    assert "No figures were stated" in specialist_views.cards(nothing, {"data": []})


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"task": "classify"}, {"text": "a\n\nb"}),
        ({"task": "answer"}, {"question": "why?", "context": "a\n\nb"}),
        ({"task": "classify", "unit": "sentence"}, {"sentences": ["a", "b"]}),
        (
            {"task": "classify", "context": "optional", "context_name": "entity"},
            {"text": "a\n\nb", "entity": "Contoso"},
        ),
        ({"task": "embed"}, {"text": "a\n\nb"}),
    ],
)
def test_a_specialist_is_asked_for_what_its_task_takes(fields: dict, asked: dict) -> None:
    assert specialist_views.given(card("x", "X", "tag") | fields, "a\n\nb", "why?", "Contoso") == asked


@pytest.mark.parametrize(
    ("fields", "answer", "seen"),
    [
        ({}, {"spans": [{"start": 0, "end": 4, "label": "NAME"}]}, "1 passage marked."),
        ({"task": "answer"}, {"answer": {"text": "40 mg", "start": 10, "end": 15, "score": 0.9}}, "Word for word"),
        ({"task": "answer"}, {"answer": None}, "Not found."),
        ({"task": "classify"}, {"label": "lost_card", "score": 0.8, "scores": []}, "Lost card"),
        ({"task": "classify"}, {"label": None, "score": 0.31, "scores": []}, "the best has 31.0 %"),
        ({"task": "classify", "multi_label": True}, {"labels": [], "scores": []}, "None of its labels fits."),
        (
            {"task": "classify", "multi_label": True},
            {"labels": [{"label": "cap", "score": 0.7}], "scores": [{"label": "cap", "score": 0.7}]},
            "70.0 %",
        ),
        ({"task": "classify", "unit": "sentence"}, {"labels": [None]}, "abstains"),
        ({"task": "embed"}, {"embedding": [0.25] * 384}, "A vector of 384 numbers: 0.250,"),
    ],
)
def test_each_task_is_shown_as_what_it_gives(fields: dict, answer: dict, seen: str) -> None:
    one = Tried(card("x", "X", "tag") | fields, TEXT, answer=answer | {"receipt": RECEIPT, "elapsed_ms": 3.0})
    read = Reader(specialist_views.tried([one])).text
    assert seen in read and "Recorded as number 7." in read


def test_two_answers_to_one_text_say_what_they_differ_in_and_one_may_be_a_refusal() -> None:
    one, two = (card(name, name.upper(), "classify") for name in ("one", "two"))
    answer = {"score": 0.8, "scores": [], "receipt": RECEIPT}
    same = [Tried(one, TEXT, answer=answer | {"label": "a"}), Tried(two, TEXT, answer=answer | {"label": "a"})]
    assert "Both say the same." in Reader(specialist_views.tried(same)).text
    refused = Tried(two, TEXT, refusal=Refused(413, "input_too_long", "the text is too long", "split it"))
    read = Reader(specialist_views.tried([same[0], refused])).text
    assert "the text is too long" in read and "Both" not in read


def test_a_version_offers_only_what_may_be_done_with_it() -> None:
    entry = {
        "id": "x",
        "version": "1.0.0",
        "sha256": "5b" * 32,
        "signer": None,
        "signed": False,
        "installed_at": "2026-11-26",
    }
    entry |= dict.fromkeys(("approved_at", "approved_by", "promoted_at", "promoted_by", "reason"))
    entry |= {"admitted": "taught"}

    def offered(state: str, by: str = "user:3", user: SignedIn = ADMIN) -> list[str]:
        answer = {"data": [{**entry, "state": state, "installed_by": by}]}
        buttons = Reader(specialist_views.versions(answer, "x", user)).elements
        return [dict(attributes)["data-press"] for tag, attributes in buttons if tag == "button"]

    assert offered("awaiting_approval") == ["version-approve", "version-verify", "version-remove"]
    assert offered("awaiting_approval", "teaching:user:5") == ["version-verify", "version-remove"]
    assert offered("awaiting_approval", "user:55") == ["version-approve", "version-verify", "version-remove"]
    assert offered("approved") == ["version-promote", "version-verify", "version-remove"]
    assert offered("active") == ["version-verify"]
    assert offered("active", user=SignedIn("m.keller", ("user",), "", "", "")) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_of_a_card_a_table_and_a_report_stay_values(text: str) -> None:
    whole = list(all_cards().values())[3]
    table = {"table": "x", "columns": ["x", "x"], "text_column": "x", "label_column": "x", "rows": 3, "ready": True}
    table |= {
        "labels": [{"label": "x", "rows": 2}],
        "problems": [{"code": "x", "severity": "note", "message": "x", "lines": [3]}],
    }
    job = {"job": "x", "id": "x", "state": "done", "report": _report()}
    for draw, value in (
        (lambda value: specialist_views.cards({"data": [value]}, {"data": [value | WAITS]}), whole),
        (specialist_views.specialist, whole),
        (lambda value: teach_views.checked(_severe(value), several=False), table),
        (lambda value: teach_views.report({**value, "state": "done", "report": _severe(value["report"])}), job),
        (lambda value: teach_views.report({**value, "state": "failed"}), {"job": "x", "error": ERROR}),
        (lambda value: teach_views.progress({**value, "progress": 0.5, "step": value["job"]}), job),
        (lambda value: specialist_views.installed(json.dumps(value | WAITS)), {"id": "x", "version": "x"}),
        (lambda value: specialist_views.trusted_keys({"data": [value | ADDED]}), TRUSTED),
    ):
        hostile, calm = draw(filled(value, text)), draw(filled(value, "x"))
        assert shape(hostile) == shape(calm)
        assert "\n" not in hostile
        assert not [name for _, names in shape(hostile) for name in names if name.startswith("on")]


def test_a_report_shows_the_weakest_label_first_and_what_ends_the_matter_before_what_does_not() -> None:
    job = {"job": "x", "id": "tickets", "state": "done", "report": _report()}
    read = Reader(teach_views.report(job)).text
    assert read.index("83.8 %") < read.index("92.4 %")
    assert "Calibration error" in read and "3 rows repeat a text" in read and "Ask for approval" in read
    assert "Ask for approval" not in Reader(teach_views.report(job | {"state": "submitted"})).text
    stopped = teach_views.report({"job": "x", "id": "x", "state": "cancelled", "report": None, "error": None})
    assert "The training was stopped." in Reader(stopped).text
    problems = [{"severity": name, "message": name, "lines": []} for name in ("note", "refusal", "warning")]
    table = {"table": "x", "rows": 3, "columns": [], "text_column": "", "label_column": "", "ready": False}
    read = Reader(teach_views.checked({**table, "problems": problems}, several=True)).text
    assert "This must be put right" in read and read.index("refusal") < read.index("warning") < read.index("note")


def test_a_wide_confusion_is_a_list_of_the_most_frequent_mistakes() -> None:
    labels = [f"l{n}" for n in range(20)]
    counts = [[30 if row == column else row == column + 1 and row for column in range(20)] for row in range(20)]
    drawn = teach_views.report(
        {"job": "x", "state": "done", "report": {"confusion": {"labels": labels, "counts": counts}}}
    )
    assert "matrix" not in drawn
    assert Reader(drawn).text.index("19 of l19 taken for l18") < Reader(drawn).text.index("18 of l18 taken for l17")


@pytest.mark.parametrize("carried", ["", "not json", "[]", "{}", '{"table": 3}', "[" * 100_000, None])
def test_what_is_no_answer_of_an_upload_is_refused(carried: str | None) -> None:
    with pytest.raises(Refused) as caught:
        teach_views.table_of(carried)
    assert caught.value.code == "unreadable_answer"


def test_a_refusal_that_the_browser_carried_keeps_its_words() -> None:
    error = {"error": {"code": "table_refused", "message": "the table has 1 columns", "hint": "add one"}}
    with pytest.raises(Refused) as caught:
        teach_views.table_of(json.dumps(error))
    assert (caught.value.code, caught.value.message, caught.value.hint) == tuple(error["error"].values())
    with pytest.raises(Refused) as caught:
        specialist_views.installed(json.dumps(error))
    assert (caught.value.code, caught.value.message, caught.value.hint) == tuple(error["error"].values())


@pytest.mark.parametrize("carried", ["", "not json", "[]", "3", "{}", '{"id": 3}', "[" * 100_000, None])
def test_what_is_no_answer_of_an_installation_is_refused(carried: str | None) -> None:
    with pytest.raises(Refused) as caught:
        specialist_views.installed(carried)
    assert caught.value.code == "unreadable_answer"


@pytest.mark.parametrize(
    ("state", "said"),
    [("awaiting_approval", "x 1.0.0 is here and answers nobody yet"), ("active", "had been installed before")],
)
def test_what_was_installed_is_said_with_where_it_stands(state: str, said: str) -> None:
    drawn = specialist_views.installed(json.dumps({"id": "x", "version": "1.0.0", "state": state}))
    assert said in Reader(drawn).text
