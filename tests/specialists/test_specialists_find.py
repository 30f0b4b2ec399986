"""Guaranteed here: the passages of a document hold every visible character once, in order and with exact offsets; each
label's best passages come first, and only what reaches a label's threshold counts as assigned."""

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import SpecialistsConfig
from appliance.errors import InputTooLong, SpecialistFileInvalid, UnknownOption
from appliance.specialists.manifest import Base, Calibration, Manifest
from appliance.specialists.tasks import find
from appliance.specialists.tasks.find import PASSAGE_WORDS_MAX, PASSAGES_MAX, passages
from appliance.specialists.tokenization import WordPiece
from appliance.types import Task

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDPIECE = WordPiece.from_tokens(
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS))
)
CONTRACT = (
    "SUPPLY AGREEMENT\n\n1. LAW.\n\nThis agreement is governed by the laws of Ohio and of no other place.\n\n"
    "The headings are for convenience only and mean nothing. No. 7 of the schedule, e.g. the price, may change."
)


def manifest(**fields) -> Manifest:
    digest = "0" * 64
    base = Base(name="tiny", weights_sha256=digest, vocabulary_sha256=digest)
    common = {"id": "clauses", "version": "1.0.0", "task": Task.CLASSIFY, "name": "Some", "summary": ""}
    wanted = {"labels": ("law", "price"), "multi_label": True, **fields}
    return Manifest(base=base, window_tokens=32, licence="none", created="2026-01-01", **common, **wanted)


def visible(text: str) -> str:
    return "".join(text.split())


@given(st.text(alphabet="ab.;?! \n\t(A1é🙂\u00a0", max_size=400))
def test_passages_hold_every_visible_character_once_and_in_order(text: str) -> None:
    found = passages(text)
    assert "".join(visible(text[passage.start : passage.end]) for passage in found) == visible(text)
    assert all(one.end <= other.start for one, other in pairwise(found))
    for passage in found:
        piece = text[passage.start : passage.end]
        assert piece and piece == piece.strip()


def test_a_heading_stands_with_what_follows_and_abbreviations_end_no_sentence() -> None:
    found = [CONTRACT[passage.start : passage.end] for passage in passages(CONTRACT)]
    assert found == [
        "SUPPLY AGREEMENT\n\n1. LAW.\n\nThis agreement is governed by the laws of Ohio and of no other place.",
        "The headings are for convenience only and mean nothing. No. 7 of the schedule, e.g. the price, may change.",
    ]


def test_a_long_paragraph_is_cut_between_sentences_and_a_long_sentence_between_words() -> None:
    sentence = "The " + "word " * 38 + "end. "
    found = passages(sentence * 5)
    assert [len((sentence * 5)[one.start : one.end].split()) for one in found] == [80, 80, 40]
    endless = "word " * 205
    assert [len(endless[one.start : one.end].split()) for one in passages(endless)] == [80, 80, 45]


def outputs_of(prepared: find.PreparedFind, logits: list[list[float]]) -> list[np.ndarray]:
    """One row for every input of a passage: the passage's logits."""
    rows = []
    for (first, stop), values in zip(prepared.places, logits, strict=True):
        rows += [np.array(values, dtype=np.float32)] * (stop - first)
    return rows


def test_the_best_passages_come_first_with_their_offsets() -> None:
    settings = manifest(calibration=Calibration(thresholds={"law": 0.9}))
    prepared = find.prepare(CONTRACT, settings, WORDPIECE, SpecialistsConfig())
    findings = find.finish(prepared, outputs_of(prepared, [[2.0, -1.0], [-3.0, 1.0]]), per_label=5)
    assert list(findings) == ["law", "price"]
    best = findings["law"][0]
    assert CONTRACT[best.start : best.end].endswith("of no other place.")
    assert best.score == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert [found.assigned for found in findings["law"]] == [False, False]  # .88 stays under its threshold of .9
    assert [found.assigned for found in findings["price"]] == [True, False]
    assert [found.score for found in findings["price"]] == sorted((f.score for f in findings["price"]), reverse=True)


def test_labels_and_the_number_of_passages_can_be_narrowed() -> None:
    prepared = find.prepare(CONTRACT, manifest(), WORDPIECE, SpecialistsConfig())
    outputs = outputs_of(prepared, [[2.0, -1.0], [-3.0, 1.0]])
    findings = find.finish(prepared, outputs, per_label=1, labels=["price"])
    assert [(label, len(ranked)) for label, ranked in findings.items()] == [("price", 1)]
    with pytest.raises(UnknownOption, match="weather"):
        find.finish(prepared, outputs, per_label=1, labels=["weather"])


def test_a_text_without_passages_has_findings_of_nothing() -> None:
    prepared = find.prepare(" \n ", manifest(), WORDPIECE, SpecialistsConfig())
    assert find.finish(prepared, [], per_label=3) == {"law": (), "price": ()}


@pytest.mark.parametrize(
    "fields",
    [{"multi_label": False}, {"unit": "sentence"}, {"task": Task.TAG}],
    ids=["one label of many", "sentences", "tagger"],
)
def test_only_a_multi_label_classifier_of_texts_looks_for_anything(fields: dict) -> None:
    settings = manifest(**{name: value for name, value in fields.items() if name != "task"})
    if "task" in fields:
        settings = msgspec.structs.replace(settings, task=fields["task"])
    with pytest.raises(UnknownOption):
        find.prepare(CONTRACT, settings, WORDPIECE, SpecialistsConfig())


def test_more_passages_than_allowed_are_refused_before_anything_runs() -> None:
    text = "one two three four five six.\n\n" * (PASSAGES_MAX + 1)
    with pytest.raises(InputTooLong, match=str(PASSAGES_MAX)):
        find.prepare(text, manifest(), WORDPIECE, SpecialistsConfig())
    assert PASSAGE_WORDS_MAX * PASSAGES_MAX > 300_000


def test_logits_of_another_head_are_refused() -> None:
    prepared = find.prepare(CONTRACT, manifest(), WORDPIECE, SpecialistsConfig())
    foreign = [np.zeros(3, dtype=np.float32) for _ in prepared.inputs]
    with pytest.raises(SpecialistFileInvalid):
        find.finish(prepared, foreign, per_label=1)
