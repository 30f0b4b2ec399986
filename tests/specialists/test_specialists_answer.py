"""Task `answer`: a quote is always `context[start:end]` of whole words whatever the script; the best span is the best
there is; where "no answer" wins, or the score stays below the threshold, there is none. Logits by hand.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import SpecialistsConfig
from appliance.errors import InputTooLong, SpecialistFileInvalid
from appliance.specialists.file_format import read_specialist
from appliance.specialists.manifest import Base, Calibration, Manifest, decode_manifest, encode_manifest
from appliance.specialists.tasks import answer
from appliance.specialists.tokenization import WordPiece
from appliance.types import Task

VECTORS = Path(__file__).parent / "vectors"
LETTERS = tuple("abcdefghij0123456789.,-é") + tuple(f"##{letter}" for letter in "abcdefghij0123456789")
WORDPIECE = WordPiece.from_tokens(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS))
CONFIG = SpecialistsConfig()
UNSURE = -50.0


def manifest_with(**changes):
    return Manifest(
        **{
            "id": "reader",
            "version": "0.1.0",
            "task": Task.ANSWER,
            "name": "Reader",
            "summary": "",
            "labels": (),
            "base": Base(name="minilm", weights_sha256="0" * 64, vocabulary_sha256="0" * 64),
            "licence": "CC-BY-SA-4.0",
            "created": "2026-01-01",
            "window_tokens": 96,
            **changes,
        }
    )


def prepared(context, question="a b", **changes):
    return answer.prepare(question, context, manifest_with(**changes), WORDPIECE, CONFIG)


def logits_for(case, start, end, value=9.0):
    """Outputs that favour the tokens at characters `start` and `end - 1` in every window that holds them."""
    first = int(np.flatnonzero(case.tokens.starts == start)[0])
    last = int(np.flatnonzero(case.tokens.ends == end)[0])
    outputs = []
    for window, given_ in zip(case.windows, case.inputs, strict=True):
        rows = np.full((len(given_.token_ids), 2), UNSURE, np.float32)
        rows[0] = 0.0
        for token, column in ((first, 0), (last, 1)):
            if window.start <= token < window.stop:
                rows[case.first_row + token - window.start, column] = value
        outputs.append(rows)
    return outputs


def test_a_quote_is_cut_from_the_context_at_the_tokens_of_highest_logits():
    case = prepared("ab cd ef")
    found = answer.finish(case, logits_for(case, 3, 8))
    assert (found.text, found.start, found.end) == ("cd ef", 3, 8)
    assert found.score == pytest.approx(1.0)


def test_the_question_stands_before_every_window_with_a_separator():
    case = prepared("a " * 200, question="b c")
    cls, sep = WORDPIECE.cls_id, WORDPIECE.sep_id
    asked = WORDPIECE.encode("b c").ids.tolist()
    assert len(case.inputs) > 2 and case.first_row == 4
    for item in case.inputs:
        ids = item.token_ids.tolist()
        assert ids[:4] == [cls, *asked, sep] and ids[-1] == sep and len(ids) <= 96


def test_a_question_of_any_length_leaves_room_for_the_context():
    case = prepared("a b c", question="d " * 500)
    assert case.first_row == answer.QUESTION_TOKENS_MAX + 2
    assert answer.finish(case, logits_for(case, 2, 5)).text == "b c"


def test_an_answer_in_a_later_window_is_found_at_its_place():
    context = "a " * 300 + "cd ef" + " b" * 300
    case = prepared(context)
    found = answer.finish(case, logits_for(case, 600, 605))
    assert (found.text, context[found.start : found.end]) == ("cd ef", "cd ef")


def test_where_no_answer_wins_or_the_score_is_too_low_there_is_none():
    case = prepared("ab cd", calibration=Calibration(abstain_below=0.5))
    assert answer.finish(case, logits_for(case, 0, 2, value=-1.0)) is None
    assert answer.finish(case, logits_for(case, 0, 2, value=1.0)).text == "ab"
    shy = prepared("ab cd", calibration=Calibration(abstain_below=1.0))
    assert answer.finish(shy, logits_for(shy, 0, 2, value=1.0)) is None


def test_calibration_changes_the_score_as_the_formula_says():
    case = prepared("ab cd", calibration=Calibration(temperature=2.0, recall_bias=1.0))
    found = answer.finish(case, logits_for(case, 0, 2, value=1.5))
    assert found.score == pytest.approx(1 / (1 + np.exp(-(3.0 + 1.0) / 2.0)))


def test_a_context_without_tokens_has_no_inputs_and_no_answer():
    case = prepared("\u200b \n")
    assert case.inputs == () and answer.finish(case, []) is None


def test_a_quote_never_begins_or_ends_inside_a_word():
    case = prepared("abc de")
    (item,) = case.inputs
    rows = np.zeros((len(item.token_ids), 2), np.float32)
    rows[case.first_row + 1] = 20.0  # ##b, the middle of a word
    assert answer.finish(case, [rows]).text in ("abc", "abc de", "de")


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_best_span_is_the_best_of_all_that_are_allowed(length, seed):
    rng = np.random.default_rng(seed)
    logits, begins, ends = rng.normal(size=(length, 2)), rng.random(length) < 0.6, rng.random(length) < 0.6
    begins[0] = ends[-1] = ends[0] = True
    allowed = [
        (logits[i, 0] + logits[j, 1])
        for i in range(length)
        for j in range(i, min(i + answer.ANSWER_TOKENS_MAX, length))
        if begins[i] and ends[j]
    ]
    first, last, value = answer.best_span(logits, begins, ends)
    assert begins[first] and ends[last] and first <= last < first + answer.ANSWER_TOKENS_MAX
    assert value == pytest.approx(max(allowed)) == pytest.approx(logits[first, 0] + logits[last, 1])


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=120), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_whatever_the_script_and_the_logits_a_quote_is_verbatim_and_begins_and_ends_on_no_blank(context, seed):
    case = prepared(context)
    rng = np.random.default_rng(seed)
    outputs = [rng.normal(size=(len(item.token_ids), 2)).astype(np.float32) for item in case.inputs]
    found = answer.finish(case, outputs)
    if found is None:
        assert not case.inputs
    else:
        assert found.text == context[found.start : found.end] == found.text.strip() != ""


def test_foreign_logits_and_too_long_texts_are_refused():
    case = prepared("ab")
    with pytest.raises(SpecialistFileInvalid, match="unusable logits"):
        answer.finish(case, [np.zeros((len(case.inputs[0].token_ids), 3), np.float32)])
    with pytest.raises(InputTooLong):
        prepared("a" * 20, input_chars_max=10)
    with pytest.raises(InputTooLong):
        prepared("a", question="a" * 20, input_chars_max=10)


@pytest.mark.parametrize("changes", [{"labels": ("START",)}, {"window_tokens": 95}], ids=["labels", "narrow window"])
def test_manifest_of_an_answer_has_no_labels_and_room_for_a_question(changes):
    assert decode_manifest(encode_manifest(manifest_with())) == manifest_with()
    with pytest.raises(SpecialistFileInvalid):
        decode_manifest(encode_manifest(manifest_with(**changes)))


def test_the_vectors_of_decoding_give_the_quotes_that_stand_there():
    vectors = json.loads((VECTORS / "answers.json").read_text())
    manifest = read_specialist(VECTORS / vectors["manifest"], bytes_max=1 << 20).manifest
    wordpiece = WordPiece.from_tokens(tuple(vectors["vocabulary"]))
    assert len(vectors["cases"]) == 5
    for case in vectors["cases"]:
        ready = answer.prepare(case["question"], case["context"], manifest, wordpiece, CONFIG)
        assert [item.token_ids.tolist() for item in ready.inputs] == case["token_ids"]
        found = answer.finish(ready, [np.array(rows, np.float32) for rows in case["outputs"]])
        if case["answer"] is None:
            assert found is None
        else:
            assert (found.text, found.start, found.end) == tuple(
                case["answer"][key] for key in ("text", "start", "end")
            )
            assert found.score == pytest.approx(case["answer"]["score"], abs=1e-9)
