"""Labelled texts to padded batches for a classifier: tokens, segments, targets. NumPy only, no PyTorch.

    for batch in epoch(examples, encoding, batch_size=32, rng=rng):
        batch.token_ids, batch.lengths, batch.segments, batch.targets

A *segment* is what gets one prediction: a whole text (with what it is asked about), or one sentence of an abstract. The
same tokenizer and the same layout as in serving (`specialists/tasks/`), so that what is trained is what will run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.specialists.tokenization import WordPiece
from appliance.training.collections.labelled import Labelled

NO_SEGMENT = -1
CONTEXT_TOKENS_MAX = 64


@dataclass(frozen=True, slots=True)
class ClassifierEncoding:
    """How text becomes numbers. `multi_label`: targets are independent; otherwise they sum to one."""

    wordpiece: WordPiece
    labels: tuple[str, ...]
    window_tokens: int
    multi_label: bool = False
    label_smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class ClassifierExample:
    """One sequence: ids (T,), for each token its segment or -1 (T,), and the targets (segments, labels).

    `states` (T, S), half precision: what enters the first layer that is trained, where that was computed beforehand.
    """

    token_ids: np.ndarray
    segments: np.ndarray
    targets: np.ndarray
    states: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class ClassifierBatch:
    """Padded ids and segments (B, T), lengths (B,), targets (segments, labels), states (B, T, S) if every example has
    them. Segments count over the batch."""

    token_ids: np.ndarray
    lengths: np.ndarray
    segments: np.ndarray
    targets: np.ndarray
    states: np.ndarray | None = None


def example_of(labelled: Labelled, encoding: ClassifierEncoding) -> ClassifierExample:
    """One text as one segment; what it is asked about stands before it."""
    wordpiece = encoding.wordpiece
    ids = [wordpiece.cls_id]
    text = wordpiece.encode(labelled.text).ids
    if labelled.context:
        before = wordpiece.encode(labelled.context).ids[:CONTEXT_TOKENS_MAX]
        ids += [*before.tolist(), wordpiece.sep_id]
    room = encoding.window_tokens - len(ids) - 1
    ids += [*text[:room].tolist(), wordpiece.sep_id]
    segments = np.zeros(len(ids), dtype=np.int64)
    return ClassifierExample(np.array(ids, dtype=np.int64), segments, target(labelled.labels, encoding)[None, :])


def document_of(sentences: Sequence[Labelled], encoding: ClassifierEncoding) -> Iterator[ClassifierExample]:
    """The sentences of one document as segments of as few sequences as hold them, each ended by a separator."""
    wordpiece = encoding.wordpiece
    targets: list[np.ndarray] = []
    ids, segments = [wordpiece.cls_id], [NO_SEGMENT]
    for sentence in sentences:
        pieces = wordpiece.encode(sentence.text).ids[: encoding.window_tokens - 2].tolist()
        pieces.append(wordpiece.sep_id)
        if targets and len(ids) + len(pieces) > encoding.window_tokens:
            yield _document(ids, segments, targets)
            ids, segments, targets = [wordpiece.cls_id], [NO_SEGMENT], []
        ids += pieces
        segments += [len(targets)] * len(pieces)
        targets.append(target(sentence.labels, encoding))
    if targets:
        yield _document(ids, segments, targets)


def target(labels: Sequence[str], encoding: ClassifierEncoding) -> np.ndarray:
    """What the head should say (labels,): smoothed shares, or zeros and ones; without a label, nothing."""
    count = len(encoding.labels)
    values = np.zeros(count, dtype=np.float32)
    for label in labels:
        values[encoding.labels.index(label)] = 1.0
    if encoding.multi_label:
        return values
    if not labels:
        return np.full(count, 1.0 / count, dtype=np.float32)
    return values * (1.0 - encoding.label_smoothing) + encoding.label_smoothing / count


def epoch(
    examples: Sequence[ClassifierExample], *, batch_size: int, rng: np.random.Generator, rare_below: float = 0.0
) -> Iterator[ClassifierBatch]:
    """Every example once (see `repeats` for more), in random batches of similar length."""
    order = rng.permutation(repeats(examples, rare_below, rng) if rare_below else len(examples))
    pool = batch_size * 16
    for start in range(0, len(order), pool):
        chosen = sorted(order[start : start + pool].tolist(), key=lambda index: len(examples[index].token_ids))
        groups = [chosen[first : first + batch_size] for first in range(0, len(chosen), batch_size)]
        rng.shuffle(groups)
        for group in groups:
            yield pad([examples[index] for index in group])


def repeats(examples: Sequence[ClassifierExample], rare_below: float, rng: np.random.Generator) -> list[int]:
    """Places of the examples that one epoch shows: all of them, those with a rare label by its factor more often.

    The factor of a label is sqrt(rare_below / its share of the segments), at least 1; an example takes the largest of
    its labels', and what is left of it after the point by chance.
    """
    targets = np.stack([example.targets.max(axis=0) > 0.5 for example in examples])
    shares = targets.mean(axis=0)
    factors = np.sqrt(np.maximum(rare_below / np.maximum(shares, 1e-9), 1.0))
    wanted = np.where(targets, factors, 1.0).max(axis=1)
    counts = np.floor(wanted + rng.random(len(examples))).astype(int)
    return np.repeat(np.arange(len(examples)), counts).tolist()


def hidden(
    batch: ClassifierBatch, share: float, special: Sequence[int], mask_id: int, rng: np.random.Generator
) -> ClassifierBatch:
    """The batch with a `share` of its tokens, `special` ones excepted, replaced by the mask token."""
    chosen = (rng.random(batch.token_ids.shape) < share) & (batch.segments >= 0) & ~np.isin(batch.token_ids, special)
    return dataclasses.replace(batch, token_ids=np.where(chosen, mask_id, batch.token_ids))


def twice(batch: ClassifierBatch) -> ClassifierBatch:
    """The batch and the batch again, for two passes in one: segments of the second half count on."""
    count = len(batch.targets)
    again = np.where(batch.segments >= 0, batch.segments + count, NO_SEGMENT)
    return ClassifierBatch(
        np.concatenate((batch.token_ids, batch.token_ids)),
        np.concatenate((batch.lengths, batch.lengths)),
        np.concatenate((batch.segments, again)),
        np.concatenate((batch.targets, batch.targets)),
        None if batch.states is None else np.concatenate((batch.states, batch.states)),
    )


def pad(examples: Sequence[ClassifierExample]) -> ClassifierBatch:
    """One array each; segments are numbered through the batch, padding belongs to none."""
    lengths = np.array([len(example.token_ids) for example in examples], dtype=np.int64)
    shape = (len(examples), int(lengths.max()))
    token_ids, segments = np.zeros(shape, dtype=np.int64), np.full(shape, NO_SEGMENT, dtype=np.int64)
    given = [example.states for example in examples if example.states is not None]
    states = np.zeros((*shape, given[0].shape[1]), dtype=np.float32) if len(given) == len(examples) else None
    first = 0
    for row, example in enumerate(examples):
        size = lengths[row]
        if states is not None:
            states[row, :size] = example.states
        token_ids[row, :size] = example.token_ids
        segments[row, :size] = np.where(example.segments >= 0, example.segments + first, NO_SEGMENT)
        first += len(example.targets)
    targets = np.concatenate([example.targets for example in examples])
    return ClassifierBatch(token_ids, lengths, segments, targets, states)


def _document(ids: list[int], segments: list[int], targets: list[np.ndarray]) -> ClassifierExample:
    return ClassifierExample(np.array(ids, dtype=np.int64), np.array(segments, dtype=np.int64), np.stack(targets))
