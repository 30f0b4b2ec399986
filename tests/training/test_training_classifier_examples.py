"""Guaranteed here: a classifier is trained on the very tokens that serving sends, each segment gets the target it
should, every example is seen once an epoch, and padding belongs to nobody."""

import dataclasses

import numpy as np
import pytest

from appliance.config import SpecialistsConfig
from appliance.specialists.manifest import Base, Manifest
from appliance.specialists.tasks import classify
from appliance.specialists.tokenization import WordPiece
from appliance.training.classifier_examples import (
    ClassifierEncoding,
    document_of,
    epoch,
    example_of,
    hidden,
    pad,
    repeats,
    target,
    twice,
)
from appliance.training.collections.labelled import Labelled
from appliance.types import Task

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDPIECE = WordPiece.from_tokens(
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS))
)
LABELS = ("one", "two", "three")
ENCODING = ClassifierEncoding(WORDPIECE, LABELS, window_tokens=16, label_smoothing=0.3)


def manifest(**fields) -> Manifest:
    digest = "0" * 64
    base = Base(name="tiny", weights_sha256=digest, vocabulary_sha256=digest)
    common = {"id": "some", "version": "1.0.0", "task": Task.CLASSIFY, "name": "Some", "summary": "", "labels": LABELS}
    return Manifest(base=base, window_tokens=16, licence="none", created="2026-01-01", **common, **fields)


@pytest.mark.parametrize(
    ("text", "entity"),
    [("ab cd", ""), ("ab cd", "xyz"), ("a" * 9, "b" * 3), ("", ""), ("ab cd ab", "AB"), ("xaab", "a")],
)
def test_a_text_is_trained_as_it_is_served(text: str, entity: str) -> None:
    context = {"context": "optional", "context_name": "entity"}
    served = classify.prepare(text, manifest(**context), WORDPIECE, SpecialistsConfig(), context=entity)
    trained = example_of(Labelled(text, ("one",), entity), ENCODING)
    assert trained.token_ids.tolist() == served.inputs[0].token_ids.tolist()
    assert set(trained.segments.tolist()) == {0}


def test_the_sentences_of_a_document_are_trained_as_they_are_served() -> None:
    sentences = ["ab cd", "efgh", "i", "jklm nop"]
    served = classify.prepare_sentences(sentences, manifest(unit="sentence"), WORDPIECE, SpecialistsConfig())
    trained = list(document_of([Labelled(text, ("one",)) for text in sentences], ENCODING))
    assert [example.token_ids.tolist() for example in trained] == [one.token_ids.tolist() for one in served.inputs]
    places = [
        (
            number,
            int(np.flatnonzero(example.segments == segment)[0]),
            int(np.flatnonzero(example.segments == segment)[-1]) + 1,
        )
        for number, example in enumerate(trained)
        for segment in range(len(example.targets))
    ]
    assert places == list(served.places)


def test_targets_say_what_should_be_said() -> None:
    assert target(("two",), ENCODING) == pytest.approx([0.1, 0.8, 0.1])
    assert target((), ENCODING) == pytest.approx([1 / 3] * 3)
    several = dataclasses.replace(ENCODING, multi_label=True)
    assert target(("one", "three"), several).tolist() == [1, 0, 1]
    assert target((), several).tolist() == [0, 0, 0]


def test_an_epoch_holds_every_example_once_whatever_the_order() -> None:
    examples = [example_of(Labelled("a" * (1 + number % 9), ("one",)), ENCODING) for number in range(70)]
    marked = [dataclasses.replace(example, targets=np.full((1, 3), number)) for number, example in enumerate(examples)]
    batches = list(epoch(marked, batch_size=8, rng=np.random.default_rng(3)))
    assert sorted(int(row[0]) for batch in batches for row in batch.targets) == list(range(70))
    assert max(len(batch.token_ids) for batch in batches) == 8
    wasted = sum(int(batch.token_ids.size - batch.lengths.sum()) for batch in batches)
    assert wasted / sum(batch.token_ids.size for batch in batches) < 0.2


def test_padding_belongs_to_no_segment_and_states_travel_with_their_example() -> None:
    short, long = (example_of(Labelled(text, ("one",)), ENCODING) for text in ("a", "abcdef"))
    with_states = [
        dataclasses.replace(example, states=np.full((len(example.token_ids), 2), number + 1, dtype=np.float16))
        for number, example in enumerate((short, long))
    ]
    batch = pad(with_states)
    assert batch.segments.tolist() == [[0, 0, 0, -1, -1, -1, -1, -1], [1] * 8]
    assert batch.states is not None
    assert batch.states[:, :, 0].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [2] * 8]
    assert pad([short, long]).states is None


def test_rare_labels_are_shown_more_often_and_nothing_less_than_once() -> None:
    common = [example_of(Labelled("a", ("one",)), ENCODING) for _ in range(99)]
    rare = example_of(Labelled("b", ("two",)), ENCODING)
    counts = np.bincount(repeats([*common, rare], 0.16, np.random.default_rng(1)), minlength=100)
    assert counts[:99].tolist() == [1] * 99
    assert counts[99] == 4  # the root of .16 / .01
    assert (
        sum(
            len(batch.targets)
            for batch in epoch([*common, rare], batch_size=8, rng=np.random.default_rng(1), rare_below=0.16)
        )
        == 103
    )


def test_a_share_of_the_words_is_hidden_and_nothing_that_holds_the_sequence_together() -> None:
    batch = pad([example_of(Labelled("abcdefgh", ("one",)), ENCODING) for _ in range(300)])
    special = (WORDPIECE.cls_id, WORDPIECE.sep_id)
    found = hidden(batch, 0.25, special, WORDPIECE.mask_id, np.random.default_rng(2)).token_ids
    changed = found != batch.token_ids
    assert set(found[changed].tolist()) == {WORDPIECE.mask_id}
    assert not changed[:, 0].any()
    assert not changed[:, -1].any()
    assert changed[:, 1:-1].mean() == pytest.approx(0.25, abs=0.03)


def test_a_batch_shown_twice_is_two_batches_with_segments_of_their_own() -> None:
    batch = pad([example_of(Labelled(text, ("one",)), ENCODING) for text in ("a", "bcd")])
    both = twice(batch)
    assert both.segments.tolist() == [
        *batch.segments.tolist(),
        *np.where(batch.segments >= 0, batch.segments + 2, -1).tolist(),
    ]
    for name in ("token_ids", "lengths", "targets"):
        assert getattr(both, name).tolist() == 2 * getattr(batch, name).tolist()
