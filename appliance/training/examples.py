"""Labelled notes to padded batches: tokens, word shapes, windows, BIO classes. NumPy only, no PyTorch.

    for batch in batches(notes, encoding, batch_tokens=2048, pool_notes=400, rng=rng):
        batch.token_ids, batch.features, batch.lengths, batch.classes

The same tokenizer, features and windows as in serving, so that what is trained is what will run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from appliance.specialists import windows
from appliance.specialists.tokenization import Tokens, WordPiece
from appliance.specialists.word_shapes import FEATURE_COUNT, features
from appliance.training.recipe import Augmentation
from appliance.types import Span

IGNORED_CLASS = -100  # padding and special tokens: no loss
UNMARKED_CLASS = -2  # outside every span of a text in which some labels were not marked: it may be one of those


class LabelledText(Protocol):
    """What a generator or a reader of a data set yields."""

    @property
    def text(self) -> str: ...
    @property
    def spans(self) -> Sequence[Span]: ...
    @property
    def unmarked(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Encoding:
    """How text becomes numbers."""

    wordpiece: WordPiece
    labels: tuple[str, ...]
    window_tokens: int
    overlap_tokens: int


@dataclass(frozen=True, slots=True)
class Example:
    """One window: ids and classes (T,), features (T, F), special tokens included."""

    token_ids: np.ndarray
    features: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows padded to one length: (B, T) ids and classes, (B, T, F) features, (B,) lengths."""

    token_ids: np.ndarray
    features: np.ndarray
    lengths: np.ndarray
    classes: np.ndarray


def bio_classes(tokens: Tokens, spans: Iterable[Span], labels: Sequence[str]) -> np.ndarray:
    """Class per token (T,): 0 outside, 2k+1 begins label k, 2k+2 continues it. A touched token belongs to the span."""
    classes = np.zeros(len(tokens), dtype=np.int64)
    number = {label: index for index, label in enumerate(labels)}
    for span in spans:
        first = int(np.searchsorted(tokens.ends, span.start, side="right"))
        stop = int(np.searchsorted(tokens.starts, span.end, side="left"))
        if first < stop:
            classes[first:stop] = 2 * number[span.label] + 2
            classes[first] -= 1
    return classes


def examples_of(note: LabelledText, encoding: Encoding, replaced: PieceReplacement | None = None) -> Iterator[Example]:
    """The windows of one note."""
    tokens = encoding.wordpiece.encode(note.text)
    if not len(tokens):
        return
    rows = features(note.text, tokens)
    classes = bio_classes(tokens, note.spans, encoding.labels)
    if replaced is not None:
        tokens = replaced.apply(tokens, classes)
    if note.unmarked:
        classes = np.where(classes == 0, UNMARKED_CLASS, classes)
    for window in windows.plan(
        len(tokens), window_tokens=encoding.window_tokens, overlap_tokens=encoding.overlap_tokens
    ):
        cut = windows.cut(window, tokens, rows, cls_id=encoding.wordpiece.cls_id, sep_id=encoding.wordpiece.sep_id)
        assert cut.features is not None
        inner = np.pad(classes[window.start : window.stop], 1, constant_values=IGNORED_CLASS)
        yield Example(cut.token_ids, cut.features, inner)


def batches(
    notes: Iterable[LabelledText],
    encoding: Encoding,
    *,
    batch_tokens: int,
    pool_notes: int,
    rng: np.random.Generator,
    replaced: PieceReplacement | None = None,
) -> Iterator[Batch]:
    """Batches of windows of similar length, in random order within each pool of notes."""
    stream = iter(notes)
    while pool := list(islice(stream, pool_notes)):
        examples = [example for note in pool for example in examples_of(note, encoding, replaced)]
        rng.shuffle(examples)
        examples.sort(key=lambda example: len(example.token_ids))
        groups = list(_groups(examples, batch_tokens))
        rng.shuffle(groups)
        for group in groups:
            yield pad(group)


def _groups(examples: Sequence[Example], batch_tokens: int) -> Iterator[list[Example]]:
    """Runs of examples whose padded size stays within `batch_tokens`; `examples` are sorted by length."""
    group: list[Example] = []
    for example in examples:
        if group and (len(group) + 1) * len(example.token_ids) > batch_tokens:
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def pad(examples: Sequence[Example]) -> Batch:
    """One array each; padding carries zeros and `IGNORED_CLASS`."""
    longest = max(len(example.token_ids) for example in examples)
    shape = (len(examples), longest)
    batch = Batch(
        np.zeros(shape, dtype=np.int64),
        np.zeros((*shape, FEATURE_COUNT), dtype=np.float32),
        np.array([len(example.token_ids) for example in examples], dtype=np.int64),
        np.full(shape, IGNORED_CLASS, dtype=np.int64),
    )
    for row, example in enumerate(examples):
        size = len(example.token_ids)
        batch.token_ids[row, :size] = example.token_ids
        batch.features[row, :size] = example.features
        batch.classes[row, :size] = example.classes
    return batch


class PieceReplacement:
    """Words no list has: in a share of the name spans, every letter piece becomes a random piece of its kind.

    The encoder then has to find the name by its surroundings and its shape, which is all there is for a name it has
    never seen. The same happens to a share of the words outside, or it would learn that an odd word is a name.
    Owns the random state it was given.
    """

    def __init__(
        self, augmentation: Augmentation, labels: Sequence[str], vocabulary: Mapping[str, int], rng: np.random.Generator
    ) -> None:
        self._share, self._share_outside = augmentation.replaced_names, augmentation.replaced_others
        self._begins = {2 * labels.index(label) + 1 for label in augmentation.replaced_labels}
        self._rng = rng
        size = max(vocabulary.values()) + 1
        self._kind = np.zeros(size, dtype=np.uint8)  # 1: starts a word, 2: continues one, 0: not letters
        for piece, number in vocabulary.items():
            letters = piece.removeprefix("##")
            if letters.isascii() and letters.isalpha():
                self._kind[number] = 2 if piece.startswith("##") else 1
        self._pieces = {kind: np.flatnonzero(self._kind == kind) for kind in (1, 2)}

    def apply(self, tokens: Tokens, classes: np.ndarray) -> Tokens:
        """The tokens with some names replaced; offsets stay."""
        ids = tokens.ids.copy()
        for first in np.flatnonzero(np.isin(classes, list(self._begins))).tolist():
            if self._rng.random() >= self._share:
                continue
            stop = first + 1
            while stop < len(classes) and classes[stop] == classes[first] + 1:
                stop += 1
            self._replace(ids, np.arange(first, stop))
        outside = classes == 0
        word = np.cumsum(self._kind[ids] != 2)  # a continuing piece belongs to the word before it
        chosen = self._rng.random(int(word[-1]) + 1 if len(word) else 1) < self._share_outside
        self._replace(ids, np.flatnonzero(outside & chosen[word]))
        return Tokens(ids, tokens.starts, tokens.ends)

    def _replace(self, ids: np.ndarray, positions: np.ndarray) -> None:
        for kind, pieces in self._pieces.items():
            places = positions[self._kind[ids[positions]] == kind]
            ids[places] = self._rng.choice(pieces, size=len(places))
