"""Chemicals and diseases in abstracts (BC5CDR, NCBI Disease): tokens with BIO tags, back to text with spans.

    for text in stream(read_biomedical(data).train, seed=1): ...      # without end, spacing varied

The collections are tokens without the spaces between them. Serving sees ordinary prose, evaluations often see tokens
joined by spaces; training therefore writes each sentence either way, and now and then several as one text.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.training.collections.labelled import Part, normalised, part_of
from appliance.types import Span

LABELS = ("Chemical", "Disease")
_SPACED_SHARE = 0.5
_JOINED_MAX = 4
_CLOSING = frozenset(".,;:!?)]}%'")
_OPENING = frozenset("([{")
_TIGHT = frozenset("-/")


@dataclass(frozen=True, slots=True)
class Sentence:
    """Tokens and their BIO tags; `chemicals` False where the collection marks diseases only."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class TaggedText:
    """A text and its spans, as the examples of a tagger take it. `unmarked`: labels that nobody looked for here."""

    text: str
    spans: tuple[Span, ...]
    unmarked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaggedCollection:
    """Sentences in three parts."""

    labels: tuple[str, ...]
    train: tuple[Sentence, ...]
    development: tuple[Sentence, ...]
    held_back: tuple[Sentence, ...]


def read_biomedical(data: Path) -> TaggedCollection:
    """All four files; sentences that are equal stay together."""
    parts: dict[Part, list[Sentence]] = {"train": [], "development": [], "held_back": []}
    for folder in ("bc5cdr", "ncbi_disease"):
        for name in ("train.tsv", "devel.tsv"):
            for sentence in read_sentences(data / folder / name, folder):
                parts[part_of("biomedical", normalised("".join(sentence.tokens)))].append(sentence)
    return TaggedCollection(LABELS, tuple(parts["train"]), tuple(parts["development"]), tuple(parts["held_back"]))


def read_sentences(path: Path, source: str) -> Iterator[Sentence]:
    """Sentences of a file of `token<TAB>tag` lines with an empty line between sentences."""
    tokens: list[str] = []
    tags: list[str] = []
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if line.strip():
            token, _, tag = line.rpartition("\t")
            tokens.append(token)
            tags.append(tag)
        elif tokens:
            yield Sentence(tuple(tokens), tuple(tags), source)
            tokens, tags = [], []


def text_of(sentences: Sequence[Sentence], *, spaced: bool) -> TaggedText:
    """Sentences of one collection as one text: every token apart (`spaced`), or as a person would write it."""
    pieces: list[str] = []
    spans: list[Span] = []
    place = 0
    before = ""
    for sentence in sentences:
        label, start, end = "", 0, 0
        for token, tag in zip(sentence.tokens, sentence.tags, strict=True):
            gap = " " if before and (spaced or _apart(before, token)) else ""
            pieces += [gap, token]
            place += len(gap)
            if label and not tag.startswith("I-"):
                spans.append(Span(start, end, label, 1.0))
                label = ""
            if tag.startswith("B-") or (tag.startswith("I-") and not label):
                label, start = tag[2:], place
            place += len(token)
            end = place
            before = token
        if label:
            spans.append(Span(start, end, label, 1.0))
    unmarked = ("Chemical",) if sentences[0].source == "ncbi_disease" else ()
    return TaggedText("".join(pieces), tuple(spans), unmarked)


def stream(sentences: Sequence[Sentence], seed: int) -> Iterator[TaggedText]:
    """Texts without end: each sentence once in a round, alone or with those that follow it in its collection."""
    rng = random.Random(seed)  # noqa: S311  # not for secrets
    while True:
        first = 0
        texts = []
        while first < len(sentences):
            count = rng.choice((1, 1, 2, rng.randint(1, _JOINED_MAX)))
            group = [s for s in sentences[first : first + count] if s.source == sentences[first].source]
            texts.append(text_of(group, spaced=rng.random() < _SPACED_SHARE))
            first += len(group)
        rng.shuffle(texts)
        yield from texts


def _apart(before: str, token: str) -> bool:
    """Whether prose has a space between two tokens."""
    if token[0] in _CLOSING or before[-1] in _OPENING:
        return False
    return before[-1] not in _TIGHT and token[0] not in _TIGHT
