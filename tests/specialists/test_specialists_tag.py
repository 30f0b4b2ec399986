"""Task `tag`: whatever the logits and the text, spans are sorted, disjoint, inside the text and cut no word; offsets
are exact for combining marks, right-to-left scripts and emoji; windows make no difference; "deid" adds patterns, policy
and propagation and "none" does not. Logits are written by hand: no model is needed to test what is done with them.
"""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import SpecialistsConfig
from appliance.errors import InputTooLong, ModelFileRefused, SpecialistFileInvalid
from appliance.specialists.manifest import Base, Calibration, Manifest
from appliance.specialists.tasks import bio, tag
from appliance.specialists.tokenization import WordPiece
from appliance.types import Task

LABELS = ("NAME", "DATE", "AGE", "LOCATION", "MRN")
CHARACTERS = [chr(code) for code in range(33, 127)] + list("éñ김민준שלוםनम世界")
VOCABULARY = tuple(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *CHARACTERS, *("##" + c for c in CHARACTERS)]))
WORDPIECE = WordPiece.from_tokens(VOCABULARY)
CONFIG = SpecialistsConfig(window_tokens=32, window_overlap_tokens=8)


def manifest(**changes):
    return Manifest(
        **{
            "id": "phi-deid",
            "version": "0.1.0",
            "task": Task.TAG,
            "name": "De-identification",
            "summary": "",
            "labels": LABELS,
            "base": Base(name="minilm", weights_sha256="0" * 64, vocabulary_sha256="0" * 64),
            "licence": "Apache-2.0",
            "created": "2026-01-01",
            **changes,
        }
    )


def logits_for(prepared, marks, strength=12.0):
    """Logits that say "label of character range" for each (start, end, label) in `marks`, window by window."""
    columns = bio.class_count(len(LABELS))
    everything = np.zeros((len(prepared.tokens), columns), dtype=np.float32)
    everything[:, 0] = strength
    for start, end, label in marks:
        inside = (prepared.tokens.starts >= start) & (prepared.tokens.ends <= end)
        numbers = np.flatnonzero(inside)
        everything[numbers, 0] = 0.0
        everything[numbers, 2 * LABELS.index(label) + 2] = strength
        everything[numbers[0], :] = 0.0
        everything[numbers[0], 2 * LABELS.index(label) + 1] = strength
    return [np.pad(everything[window.start : window.stop], ((1, 1), (0, 0))) for window in prepared.windows]


def tagged(text, marks, **changes):
    prepared = tag.prepare(text, manifest(**changes), WORDPIECE, CONFIG)
    spans = tag.finish(
        prepared,
        logits_for(prepared, [(text.index(part), text.index(part) + len(part), label) for part, label in marks]),
    )
    return [(span.label, text[span.start : span.end]) for span in spans]


@given(st.text(max_size=120), st.integers(0, 2**32 - 1), st.sampled_from(["none", "deid"]))
@settings(max_examples=150, deadline=None)
def test_any_text_and_any_logits_give_sorted_disjoint_spans_of_whole_words(text, seed, post):
    prepared = tag.prepare(text, manifest(post=post), WORDPIECE, CONFIG)
    random = np.random.default_rng(seed)
    outputs = [
        random.normal(scale=4, size=(len(window.token_ids), bio.class_count(len(LABELS)))).astype(np.float32)
        for window in prepared.inputs
    ]
    end = 0
    for span in tag.finish(prepared, outputs):
        assert end <= span.start < span.end <= len(text)
        assert not text[span.start].isspace()
        assert not text[span.end - 1].isspace()
        if post == "none":
            assert not (span.start and text[span.start - 1].isalnum() and text[span.start].isalnum())
            assert not (span.end < len(text) and text[span.end - 1].isalnum() and text[span.end].isalnum())
        end = span.end


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seen by Ana Lima today", "Ana Lima"),
        ("\N{GRINNING FACE} Ana \N{FAMILY} Lima", "Lima"),
        ("E\u0301mile ran", "E\u0301mile"),
        ("שלום עולם", "שלום"),
        ("김민준 님", "김민준"),
        ("世界 here", "世界"),
    ],
)
def test_offsets_are_exact_in_any_script(text, part):
    assert tagged(text, [(part, "NAME")]) == [("NAME", part)]


def test_offsets_hold_far_into_a_text_of_many_windows():
    text = "lorem ipsum, dolor. " * 40 + "Ana Lima " + "sit amet. " * 40
    prepared = tag.prepare(text, manifest(), WORDPIECE, CONFIG)
    assert len(prepared.inputs) > 20
    assert tagged(text, [("Ana Lima", "NAME")]) == [("NAME", "Ana Lima")]


def test_span_over_part_of_a_word_takes_the_word_and_drops_punctuation():
    assert tagged("call (Okafor), now", [("(Oka", "NAME")]) == [("NAME", "Okafor")]


def test_word_claimed_twice_is_one_span():
    assert tagged("Okafor", [("Oka", "NAME"), ("for", "LOCATION")]) == [("NAME", "Okafor")]


def test_features_have_zero_rows_for_special_tokens():
    (window,) = tag.prepare("Ana Lima", manifest(feature_version=1), WORDPIECE, CONFIG).inputs
    assert window.features.shape[0] == window.token_ids.shape[0]
    assert not window.features[0].any()
    assert not window.features[-1].any()
    assert window.token_ids[0] == WORDPIECE.cls_id
    assert window.token_ids[-1] == WORDPIECE.sep_id


def test_deid_adds_patterns_policy_and_propagation():
    text = "Dr. Okafor saw her on Monday, 72 years old. MRN 1234567. Okafor"
    marks = [("Dr. Okafor", "NAME"), ("Monday", "DATE"), ("72", "AGE")]
    assert tagged(text, marks, post="deid") == [("NAME", "Okafor"), ("MRN", "1234567"), ("NAME", "Okafor")]


def test_generic_tagger_keeps_exactly_what_the_model_said():
    text = "Dr. Okafor saw her on Monday, 72 years old. MRN 1234567. Okafor"
    marks = [("Dr. Okafor", "NAME"), ("Monday", "DATE"), ("72", "AGE")]
    assert tagged(text, marks) == [("NAME", "Dr. Okafor"), ("DATE", "Monday"), ("AGE", "72")]


def test_label_threshold_drops_doubtful_spans():
    calibration = Calibration(thresholds={"NAME": 0.9999999})
    assert tagged("Okafor", [("Okafor", "NAME")], calibration=calibration) == []


def test_text_without_tokens_still_has_its_patterns_looked_at():
    prepared = tag.prepare(" \n\t ", manifest(post="deid"), WORDPIECE, CONFIG)
    assert prepared.inputs == ()
    assert tag.finish(prepared, []) == ()


def test_text_beyond_the_specialists_limit_is_refused():
    with pytest.raises(InputTooLong, match="phi-deid takes 10"):
        tag.prepare("x" * 11, manifest(input_chars_max=10), WORDPIECE, CONFIG)


def test_head_trained_on_other_features_is_refused():
    with pytest.raises(ModelFileRefused, match="word shapes of version 99"):
        tag.prepare("x", manifest(feature_version=99), WORDPIECE, CONFIG)


@pytest.mark.parametrize("spoil", ["columns", "nan"])
def test_foreign_logits_are_refused(spoil):
    prepared = tag.prepare("Ana", manifest(), WORDPIECE, CONFIG)
    outputs = logits_for(prepared, [])
    outputs = [rows[:, :-2] for rows in outputs] if spoil == "columns" else [rows * np.nan for rows in outputs]
    with pytest.raises(SpecialistFileInvalid, match="unusable logits"):
        tag.finish(prepared, outputs)


def test_one_word_of_100000_characters_is_handled_quickly():
    text = "a" * 100_000
    started = time.process_time()
    prepared = tag.prepare(text, manifest(post="deid"), WORDPIECE, CONFIG)
    assert tag.finish(prepared, logits_for(prepared, [(0, len(text), "NAME")]))[0].end == len(text)
    assert time.process_time() - started < 5
