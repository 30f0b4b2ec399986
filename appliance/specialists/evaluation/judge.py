"""From what contenders said about labelled items to a report: figures with intervals, by label, side by side. Pure.

    mine = judge(Contender("phi-deid 0.2.0", "specialist"), manifest, items, predictions, seed=0)
    differences(manifest, items, predictions, those_of_another, seed=0)

Intervals are 95 % and come from drawing the items again (`metrics/intervals.py`); the difference of two contenders is
of the same items. An item that failed, or whose reply could not be read, counts as wrong and never as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np

from appliance.specialists.evaluation.gold import GoldItem, gold_labels
from appliance.specialists.manifest import Manifest
from appliance.specialists.metrics import classification, quotes, spans
from appliance.specialists.metrics.classification import NO_LABEL, Bin, Labels, LabelSets
from appliance.specialists.metrics.intervals import (
    Difference,
    Interval,
    Measure,
    bootstrap,
    paired_differences,
    paired_gap_p_value,
    wilson,
)
from appliance.types import Findings, Task

PER_DOCUMENTS = 1000


@dataclass(frozen=True, slots=True)
class Contender:
    """Who is judged: an installed specialist with its version, or a generalist that is asked by prompt."""

    name: str
    kind: Literal["specialist", "generalist"]
    version: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a contender said of one item. `findings` None: nothing that can be read, or an error, whose code is `error`.

    `seconds` from handing the item over to having the findings, one item at a time. `scored`: scores are probabilities.
    """

    findings: Findings | None
    seconds: float
    error: str = ""
    scored: bool = True


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval; nan where it does not exist."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts by true label (rows) and by what was said (columns); the last of each is none."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds per item, one at a time, and seconds of this machine for 1,000 documents."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    seconds_per_1000: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything about one contender."""

    contender: Contender
    figures: dict[str, Figure]
    labels: dict[str, dict[str, float]]
    confusion: Confusion | None
    reliability: tuple[Bin, ...]
    latency: Latency
    failed: int


@dataclass(frozen=True, slots=True)
class GroupRecall:
    """Names of one origin: how many were covered entirely, with the interval of the share."""

    origin: str
    found: int
    names: int
    recall: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class SwappedNames:
    """The same texts with names of every origin. `p_value`: chance of such a gap if origins made no difference."""

    groups: tuple[GroupRecall, ...]
    texts: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation. It holds no text of the data, only numbers, labels and the hash of the file."""

    specialist: str
    version: str
    task: str
    items: int
    data_sha256: str
    seed: int
    judgements: tuple[Judgement, ...]
    differences: dict[str, Difference] = field(default_factory=dict)
    swapped: SwappedNames | None = None
    machine: str = ""
    created: str = ""


@dataclass(frozen=True, slots=True)
class _Measured:
    measure: Measure
    labels: dict[str, dict[str, float]]
    confusion: Confusion | None = None
    reliability: tuple[Bin, ...] = ()


def judge(
    contender: Contender, manifest: Manifest, items: Sequence[GoldItem], predictions: Sequence[Prediction], *, seed: int
) -> Judgement:
    """One contender on all items, at least one. `manifest` is of the specialist whose task it is."""
    measured = _measured(manifest, items, predictions)
    values = measured.measure(np.ones(len(items), dtype=np.int64))
    intervals = bootstrap(measured.measure, len(items), seed=seed)
    figures = {name: Figure(value, intervals[name]) for name, value in values.items()}
    failed = sum(prediction.findings is None for prediction in predictions)
    return Judgement(
        contender,
        figures,
        measured.labels,
        measured.confusion,
        measured.reliability,
        latency_of([prediction.seconds for prediction in predictions]),
        failed,
    )


def differences(
    manifest: Manifest,
    items: Sequence[GoldItem],
    mine: Sequence[Prediction],
    theirs: Sequence[Prediction],
    *,
    seed: int,
) -> dict[str, Difference]:
    """Mine minus theirs, of every figure that both have, drawn with the same items."""
    here, there = (_measured(manifest, items, said).measure for said in (mine, theirs))
    return paired_differences(here, there, len(items), seed=seed)


def swapped_names(outcomes: Mapping[str, Sequence[tuple[int, int]]], *, seed: int) -> SwappedNames:
    """From (covered, all) names per text, for every origin the same texts in the same order."""
    groups = []
    for origin, texts in outcomes.items():
        found, names = (sum(column) for column in zip(*texts, strict=True))
        groups.append(GroupRecall(origin, found, names, found / max(names, 1), wilson(found, names)))
    return SwappedNames(tuple(groups), len(next(iter(outcomes.values()))), paired_gap_p_value(outcomes, seed=seed))


def latency_of(seconds: Sequence[float]) -> Latency:
    """Percentiles of single items, and the sum scaled to a thousand."""
    p50, p95, p99 = (float(value) * 1000 for value in np.quantile(seconds, (0.5, 0.95, 0.99)))
    return Latency(round(p50, 2), round(p95, 2), round(p99, 2), round(float(np.mean(seconds)) * PER_DOCUMENTS, 2))


def report_json(report: Report) -> dict[str, Any]:
    """The report as JSON data; a figure that does not exist is null."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(report))
    return found


def _measured(manifest: Manifest, items: Sequence[GoldItem], predictions: Sequence[Prediction]) -> _Measured:
    if manifest.task is Task.TAG:
        return _of_spans(manifest, items, predictions)
    if manifest.task is Task.ANSWER:
        return _of_quotes(items, predictions)
    if manifest.multi_label:
        return _of_sets(manifest, items, predictions)
    return _of_labels(manifest, items, predictions)


def _of_spans(manifest: Manifest, items: Sequence[GoldItem], predictions: Sequence[Prediction]) -> _Measured:
    tagged = [
        (item.material.text or "", item.spans, said.findings.spans if said.findings else ())
        for item, said in zip(items, predictions, strict=True)
    ]
    counts = spans.span_counts(tagged, manifest.labels)
    return _Measured(spans.spans_measure(counts), spans.span_label_figures(counts))


def _of_quotes(items: Sequence[GoldItem], predictions: Sequence[Prediction]) -> _Measured:
    judged = []
    for item, said in zip(items, predictions, strict=True):
        context = item.material.context or ""
        if said.findings is None:  # wrong either way: no answer where there is one, an empty one where there is none
            judged.append(quotes.JudgedQuote(bool(item.answers), not item.answers, 0.0, 0.0, 0.0))
            continue
        quote = said.findings.quote
        judged.append(
            quotes.judge_quote(context, item.answers, quote.text if quote else None, quote.start if quote else None)
        )
    return _Measured(quotes.quotes_measure(judged), {})


def _of_sets(manifest: Manifest, items: Sequence[GoldItem], predictions: Sequence[Prediction]) -> _Measured:
    labels = manifest.labels
    truth = np.array([[label in item.labels for label in labels] for item in items])
    said = np.zeros_like(truth)
    for row, (item, prediction) in enumerate(zip(items, predictions, strict=True)):
        if prediction.findings is None:  # wrong everywhere: what is true was missed, what is not was not avoided
            said[row] = ~truth[row]
            continue
        given = {one.label for one in prediction.findings.labels}
        said[row] = [label in given for label in labels]
        assert len(item.labels) == truth[row].sum()
    outcomes = LabelSets(labels, truth, said)
    return _Measured(classification.sets_measure(outcomes), classification.set_figures(outcomes))


def _of_labels(manifest: Manifest, items: Sequence[GoldItem], predictions: Sequence[Prediction]) -> _Measured:
    by_sentence = manifest.unit == "sentence"
    labels = manifest.labels
    number = {label: place for place, label in enumerate(labels)}
    truth, said, answered, scores = [], [], [], []
    lengths = []
    for item, prediction in zip(items, predictions, strict=True):
        true = item.labels if by_sentence else (item.labels or (None,))[:1]
        lengths.append(len(true))
        for place, label in enumerate(true):
            best, answers = _said(prediction.findings, place, by_sentence)
            truth.append(NO_LABEL if label is None else number[label])
            said.append(number.get(best[0], NO_LABEL) if best else NO_LABEL)
            # What cannot be read is no abstention: it is an answer, and a wrong one.
            answered.append(answers or prediction.findings is None)
            scores.append(best[1] if best else 0.0)
    scored = all(prediction.scored for prediction in predictions)
    outcomes = Labels(
        labels,
        np.array(truth),
        np.array(said),
        np.array(answered),
        np.array(scores) if scored and not by_sentence else None,
    )
    measure = classification.labels_measure(outcomes)
    inside = (outcomes.truth != NO_LABEL) & (outcomes.said != NO_LABEL)
    bins: tuple[Bin, ...] = ()
    if outcomes.scores is not None and inside.any():
        bins = tuple(classification.reliability(outcomes.scores[inside], (outcomes.said == outcomes.truth)[inside]))
    counts = classification.confusion(outcomes)
    matrix = Confusion((*labels, ""), tuple(tuple(row) for row in counts.tolist()))
    return _Measured(_by_item(measure, lengths), classification.label_figures(outcomes), matrix, bins)


def _said(findings: Findings | None, place: int, by_sentence: bool) -> tuple[tuple[str, float] | None, bool]:
    """The best label and its score, and whether it was given as the answer."""
    if findings is None:
        return None, False
    if by_sentence:
        one = findings.sentences[place] if place < len(findings.sentences) else None
        return (None, False) if one is None else ((one.label, one.score), True)
    best = findings.best
    return (None if best is None else (best.label, best.score)), bool(findings.labels)


def _by_item(measure: Measure, lengths: Sequence[int]) -> Callable[[np.ndarray], Mapping[str, float]]:
    """Whole documents are drawn again, not their sentences, which are not independent."""
    if all(length == 1 for length in lengths):
        return measure
    return lambda weights: measure(np.repeat(weights, lengths))


def labels_in(items: Sequence[GoldItem]) -> int:
    """How many different labels the data has."""
    return len(gold_labels(items))
