"""Find what a multi-label classifier knows in a long document: the best passages of each label, exact offsets. Pure.

    prepared = prepare(contract, manifest, wordpiece, config.specialists)
    outputs = await engine.encode(key, prepared.inputs)
    findings = finish(prepared, outputs, per_label=5)       # findings["Governing Law"][0].start, .end, .score

A document is cut into passages: its paragraphs, and where one is longer than `PASSAGE_WORDS_MAX` its sentences, as many
together as fit. A heading stands with what follows it. Passages never overlap; `text[start:end]` is what was judged.
Ranking shows a label's best passages whatever their score; `assigned` says which of them reach the label's threshold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.config import SpecialistsConfig
from appliance.errors import InputTooLong, UnknownOption
from appliance.specialists.manifest import Manifest
from appliance.specialists.tasks import classify
from appliance.specialists.tasks.tag import check_outputs
from appliance.specialists.tokenization import WordPiece
from appliance.types import EncodeInput, Task

PASSAGE_WORDS_MAX = 80  # about the window that clause specialists are trained with
HEADING_WORDS_MAX = 5
PASSAGES_MAX = 4096

_PARAGRAPH = re.compile(r"\S[^\n]*(?:\n(?![ \t]*\n)[^\n]*\S[^\n]*)*")
_WORD = re.compile(r"\S+")
_SENTENCE_END = re.compile(r"(?<=[.;:?!])[\"')\]”’]*\s+(?=[\"'(\[“‘]*[A-Z0-9(])")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Z]|Inc|Corp|Ltd|Co|No|Nos|Sec|Art|Mr|Mrs|Ms|Dr|St|vs|e\.g|i\.e|U\.S)\.$")


@dataclass(frozen=True, slots=True)
class Passage:
    """`text[start:end]`, in code points; without white space around it."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A passage that may be of a type, its score, and whether the score reaches the type's threshold."""

    start: int
    end: int
    label: str
    score: float
    assigned: bool


@dataclass(frozen=True, slots=True)
class PreparedFind:
    """Passages, and for each what the engine takes: `inputs[first:stop]` of `places`."""

    manifest: Manifest
    passages: tuple[Passage, ...]
    inputs: tuple[EncodeInput, ...]
    places: tuple[tuple[int, int], ...]
    parts: tuple[classify.PreparedClassify, ...]


def prepare(text: str, manifest: Manifest, wordpiece: WordPiece, config: SpecialistsConfig) -> PreparedFind:
    """Passages and inputs of a whole document.

    Raises `UnknownOption` for a specialist that is not a multi-label classifier of texts, `InputTooLong` for more than
    `PASSAGES_MAX` passages or characters than the manifest takes.
    """
    check_finder(manifest)
    found = passages(text)
    if len(found) > PASSAGES_MAX:
        raise InputTooLong(f"the text has {len(found)} passages; at most {PASSAGES_MAX}", hint="split the document")
    parts = [classify.prepare(text[passage.start : passage.end], manifest, wordpiece, config) for passage in found]
    inputs: list[EncodeInput] = []
    places = []
    for part in parts:
        places.append((len(inputs), len(inputs) + len(part.inputs)))
        inputs += part.inputs
    return PreparedFind(manifest, found, tuple(inputs), tuple(places), tuple(parts))


def finish(
    prepared: PreparedFind, outputs: Sequence[np.ndarray], *, per_label: int, labels: Sequence[str] = ()
) -> dict[str, tuple[Finding, ...]]:
    """For each label, in the manifest's order, its `per_label` best passages, best first; `labels` narrows them.

    Raises `UnknownOption` for a label that the specialist does not have, `SpecialistFileInvalid` for foreign logits.
    """
    manifest = prepared.manifest
    check_outputs(manifest, outputs, len(manifest.labels))
    wanted = check_labels(manifest, labels)
    scores = np.array(
        [
            _scores(part, outputs[first:stop], manifest)
            for part, (first, stop) in zip(prepared.parts, prepared.places, strict=True)
        ]
    ).reshape(len(prepared.passages), len(manifest.labels))
    findings = {}
    for label in wanted:
        column = manifest.labels.index(label)
        threshold = manifest.calibration.thresholds.get(label, classify.MULTI_LABEL_THRESHOLD)
        order = np.argsort(-scores[:, column], kind="stable")[:per_label]
        findings[label] = tuple(
            Finding(
                prepared.passages[place].start,
                prepared.passages[place].end,
                label,
                float(scores[place, column]),
                bool(scores[place, column] >= threshold),
            )
            for place in order.tolist()
        )
    return findings


def passages(text: str) -> tuple[Passage, ...]:
    """The passages of a text, in order; together they hold every character that is not white space."""
    found: list[Passage] = []
    heading: Passage | None = None
    for paragraph in _PARAGRAPH.finditer(text):
        for passage in _pieces(text, paragraph.start(), paragraph.end()):
            whole = passage if heading is None else Passage(heading.start, passage.end)
            heading = None
            if _words(text, passage) <= HEADING_WORDS_MAX:
                heading = whole
            else:
                found.append(whole)
    if heading is not None:
        found.append(heading)
    return tuple(found)


def check_finder(manifest: Manifest) -> None:
    """Only a classifier that may say several things of a text, or nothing, can look for them in a document."""
    if manifest.task is not Task.CLASSIFY or not manifest.multi_label or manifest.unit != "text":
        raise UnknownOption(f"specialist {manifest.id!r} labels whole texts", hint="run it on the text instead")
    classify.check_context(manifest, "")


def check_labels(manifest: Manifest, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels to look for: all, or those that were asked for. Raises `UnknownOption` with the known ones."""
    for label in labels:
        if label not in manifest.labels:
            raise UnknownOption(
                f"{manifest.id} has no label {label[:80]!r}", hint=f"its labels are {', '.join(manifest.labels)}"
            )
    return tuple(label for label in manifest.labels if not labels or label in labels)


def _scores(part: classify.PreparedClassify, outputs: Sequence[np.ndarray], manifest: Manifest) -> np.ndarray:
    logits = np.average(np.stack(outputs).astype(np.float64), axis=0, weights=part.weights)
    return 0.5 * (1.0 + np.tanh(0.5 * logits / manifest.calibration.temperature))


def _pieces(text: str, start: int, end: int) -> Iterator[Passage]:
    """A paragraph whole, or its sentences in groups of at most `PASSAGE_WORDS_MAX` words; a long sentence is cut."""
    first = start
    words = 0
    for sentence in _sentences(text, start, end):
        size = _words(text, sentence)
        if words and words + size > PASSAGE_WORDS_MAX:
            yield _stripped(text, first, sentence.start)
            first, words = sentence.start, 0
        words += size
        while words > PASSAGE_WORDS_MAX:
            cut = _after_words(text, first, PASSAGE_WORDS_MAX)
            yield _stripped(text, first, cut)
            first, words = cut, words - PASSAGE_WORDS_MAX
    if words:
        yield _stripped(text, first, end)


def _sentences(text: str, start: int, end: int) -> Iterator[Passage]:
    first = start
    for gap in _SENTENCE_END.finditer(text, start, end):
        if _ABBREVIATION.search(text, max(first, gap.start() - 8), gap.start()):
            continue
        yield Passage(first, gap.end())
        first = gap.end()
    if first < end:
        yield Passage(first, end)


def _words(text: str, passage: Passage) -> int:
    return len(text[passage.start : passage.end].split())


def _after_words(text: str, start: int, count: int) -> int:
    """The offset where the word after the next `count` ones begins."""
    for number, word in enumerate(_WORD.finditer(text, start)):
        if number == count:
            return word.start()
    return len(text)


def _stripped(text: str, start: int, end: int) -> Passage:
    while start < end and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    return Passage(start, end)
