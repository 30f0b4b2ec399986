"""From a table to a specialist file with its evidence: check, divide, embed, choose, fit, measure, write.

    checked = check(content, options)                     # what a person should know before
    taught = await teach(content, options, progress)      # the file and the report

Settings (the strength of the penalty, temperature, abstention, thresholds) are chosen on a part of what is learned
from; the held-out part is read once, for the report. What was measured is what is written: nothing is fitted again on
the held-out texts afterwards.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.config import EngineConfig
from appliance.errors import InvalidRequest, TableRefused
from appliance.specialists.base_model import MINILM
from appliance.specialists.file_format import write_specialist
from appliance.specialists.manifest import Base, Calibration, Evaluation, Manifest, Source
from appliance.specialists.tokenization import WordPiece
from appliance.training.teaching.language import language_finding
from appliance.training.teaching.lesson import Lesson, Options, Progress, Taught, calibrated
from appliance.training.teaching.linear import LinearHead, fit_targets
from appliance.training.teaching.measures import measured
from appliance.training.teaching.parts import alike, divide
from appliance.training.teaching.table import (
    Columns,
    Example,
    Finding,
    Table,
    examples_of,
    guess_columns,
    labels_in,
    read_table,
)
from appliance.training.teaching.vectors import embedding
from appliance.types import Head, Task

SEPARATOR = ";"
PENALTIES = (3e-3, 3e-2, 3e-1)
WINDOW_TOKENS = 128
TEXTS_MIN = 10
LABELS_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Checked:
    """A table that was read: what a person confirms, and what may be learned from it."""

    table: Table
    columns: Columns
    examples: tuple[Example, ...]
    findings: tuple[Finding, ...]
    sha256: str

    @property
    def ready(self) -> bool:
        """Whether anything can be learned from it."""
        return not any(finding.severity == "refusal" for finding in self.findings)

    def report(self, separator: str) -> dict[str, Any]:
        """As the API shows it: never a text."""
        sizes = Counter(label for one in self.examples for label in labels_in(one.label, separator))
        return {
            "columns": list(self.table.columns),
            "text_column": self.table.columns[self.columns.text],
            "label_column": self.table.columns[self.columns.label],
            "encoding": self.table.encoding,
            "rows": len(self.table.rows),
            "texts": len(self.examples),
            "labels": [{"label": label, "rows": rows} for label, rows in sizes.most_common(LABELS_SHOWN)],
            "problems": [
                {
                    "code": one.code,
                    "severity": one.severity,
                    "message": one.message,
                    "rows": one.count,
                    "lines": list(one.lines),
                }
                for one in self.findings
            ],
            "ready": self.ready,
            "sha256": self.sha256,
        }


def check(content: bytes, options: Options) -> Checked:
    """Read a table and say what is odd about it. Raises `InvalidRequest` and its kinds for what is no table."""
    table = read_table(content, bytes_max=options.bytes_max)
    columns = _columns(table, options)
    examples, findings = examples_of(table, columns, separator=_separator(options))
    found = list(findings)
    if examples:
        spoken = language_finding(
            [one.text for one in examples],
            [one.line for one in examples],
            WordPiece.from_vocab(Path(options.vocabulary)),
        )
        found += [spoken] if spoken else []
    if 0 < len(examples) < TEXTS_MIN:
        message = f"the table has {len(examples)} different texts; at least {TEXTS_MIN} are needed to learn and to test"
        found.append(Finding("too_few_texts", "refusal", message, len(examples)))
    if len(examples) > options.texts_max:
        message = f"of {len(examples)} texts a sample of {options.texts_max} is learned from"
        found.append(Finding("sampled", "note", message, len(examples) - options.texts_max))
    return Checked(table, columns, examples, tuple(found), hashlib.sha256(content).hexdigest())


async def teach(content: bytes, options: Options, progress: Progress) -> dict[str, Any]:
    """Write the specialist file to `options.out` and return the report. Raises `TableRefused` for what cannot teach."""
    progress(0.0, "reading the table")
    checked = check(content, options)
    refusal = next((one for one in checked.findings if one.severity == "refusal"), None)
    if refusal is not None:
        raise TableRefused(refusal.message, hint="look at the findings of the table, then correct it")
    examples = _sampled(checked.examples, options.texts_max)
    labels = tuple(sorted({label for one in examples for label in labels_in(one.label, _separator(options))}))
    texts = tuple(one.text for one in examples)
    groups = alike(texts)
    parts = divide(groups, [one.label for one in examples], seed=checked.sha256)
    if not len(parts.held_out) or not len(parts.choose):
        raise TableRefused("no label has enough texts to hold some out", hint="give each label at least five texts")
    findings = [*checked.findings, *_leak_findings(groups)]
    draft = _manifest(options, checked, labels, len(examples), Calibration(), ())
    lesson = Lesson(texts, _targets(examples, labels, _separator(options)), labels, parts, draft)
    taught = await _taught(lesson, options, progress)
    progress(0.97, "measuring")
    report = measured(
        taught.held_out_logits,
        lesson.targets[parts.held_out],
        labels,
        taught.calibration,
        multi_label=options.multi_label,
    )
    write(options, checked, labels, len(examples), report, taught)
    progress(1.0, "done")
    shown = checked.report(_separator(options))["problems"]
    extra = [
        {"code": f.code, "severity": f.severity, "message": f.message, "rows": f.count, "lines": list(f.lines)}
        for f in findings[len(checked.findings) :]
    ]
    return (
        report
        | {
            "id": options.id,
            "version": options.version,
            "learned_from": taught.learned_from,
            "held_out": len(parts.held_out),
            "abstain_below": taught.calibration.abstain_below,
            "table_sha256": checked.sha256,
            "method": taught.method,
            "problems": shown + extra,
        }
        | dict(taught.about)
    )


async def _taught(lesson: Lesson, options: Options, progress: Progress) -> Taught:
    if options.lora:
        # PyTorch is an extra: whoever teaches without adapters needs none.
        from appliance.training.teaching.lora import adapted

        return await adapted(lesson, options, progress)
    return await linear_head(lesson, options, progress)


async def linear_head(lesson: Lesson, options: Options, progress: Progress) -> Taught:
    """The base as it is and a linear head over the mean of its token states."""
    engine = EngineConfig(**options.engine)
    runtime, vocabulary = Path(options.runtime), Path(options.vocabulary)
    async with embedding(engine, Path(options.base), options.base_sha256, vocabulary, runtime) as embed:
        read = lesson.texts, lesson.draft
        vectors = await embed(*read, lambda done: progress(0.05 + 0.7 * done, "reading the texts"))
    progress(0.75, "choosing settings")
    penalty, calibration = _chosen(vectors, lesson, options.multi_label, progress)
    progress(0.9, "learning")
    parts = lesson.parts
    learned = np.concatenate((parts.fit, parts.choose))
    head = fit_targets(vectors[learned], lesson.targets[learned], l2=penalty, multi_label=options.multi_label)
    logits = _logits(head, vectors[parts.held_out])
    made = Head("pooled", 0, None, None, head.weight, head.bias)
    method = "linear head over the frozen base"
    return Taught(made, None, calibration, logits, len(learned), method, (("penalty", penalty),))


def write(
    options: Options,
    checked: Checked,
    labels: Sequence[str],
    texts: int,
    report: dict[str, Any],
    taught: Taught,
) -> None:
    """The specialist file with its evidence."""
    metrics = {name: metric[part] for name, metric in report["metrics"].items() for part in ("value",)}
    bounds = {f"{name}_{part}": metric[part] for name, metric in report["metrics"].items() for part in ("low", "high")}
    evaluation = Evaluation(
        name="Held-out part",
        dataset=f"table {checked.sha256[:16]}, texts that were not learned from",
        items=report["items"],
        metrics=dict(sorted((metrics | bounds).items())),
        command=f"appliance specialists teach {options.id} TABLE" + (" --lora" if options.lora else ""),
        note="A fifth of every label with five texts or more; texts that share a passage stay on one side.",
    )
    manifest = _manifest(options, checked, labels, texts, taught.calibration, (evaluation,))
    write_specialist(Path(options.out), manifest, taught.head, taught.adapter)


def _columns(table: Table, options: Options) -> Columns:
    """Those that were named, the others guessed."""
    places = []
    for named in (options.text_column, options.label_column):
        if named is not None and named not in table.columns:
            raise InvalidRequest(
                f"the table has no column {named[:64]!r}", hint=f"its columns are {', '.join(table.columns)[:300]}"
            )
        places.append(None if named is None else table.columns.index(named))
    if None in places:
        guessed = guess_columns(table)
        places = [guessed.text if places[0] is None else places[0], guessed.label if places[1] is None else places[1]]
    text, label = places
    assert text is not None and label is not None
    if text == label:
        raise InvalidRequest(
            "the texts and the labels cannot be the same column", hint="name both columns; no two may be called alike"
        )
    return Columns(text, label)


def _separator(options: Options) -> str:
    return SEPARATOR if options.multi_label else ""


def _sampled(examples: tuple[Example, ...], texts_max: int) -> tuple[Example, ...]:
    """At most so many, chosen by the hash of each text and kept in order; a label keeps its share."""
    if len(examples) <= texts_max:
        return examples
    ranked = sorted(range(len(examples)), key=lambda at: hashlib.sha256(examples[at].text.encode()).digest())
    return tuple(examples[at] for at in sorted(ranked[:texts_max]))


def _targets(examples: Sequence[Example], labels: Sequence[str], separator: str) -> np.ndarray:
    column = {label: at for at, label in enumerate(labels)}
    targets = np.zeros((len(examples), len(labels)), dtype=np.float32)
    for row, one in enumerate(examples):
        for label in labels_in(one.label, separator):
            targets[row, column[label]] = 1.0
    return targets


def _leak_findings(groups: np.ndarray) -> list[Finding]:
    sizes = Counter(groups.tolist())
    shared = sum(size for size in sizes.values() if size > 1)
    if not shared:
        return []
    message = f"{shared} texts share a passage with another; they stay on one side, so that nothing leaks into the test"
    return [Finding("shared_passages", "note", message, shared)]


def _chosen(vectors: np.ndarray, lesson: Lesson, multi_label: bool, progress: Progress) -> tuple[float, Calibration]:
    """The penalty under which the texts to choose on are likeliest, and the calibration of that head on them."""
    best: tuple[float, float, np.ndarray] | None = None
    parts, targets = lesson.parts, lesson.targets
    truth = targets[parts.choose]
    for step, penalty in enumerate(PENALTIES, start=1):
        head = fit_targets(vectors[parts.fit], targets[parts.fit], l2=penalty, multi_label=multi_label)
        logits = _logits(head, vectors[parts.choose])
        surprise = _surprise(logits, truth, multi_label)
        if best is None or surprise < best[0]:
            best = surprise, penalty, logits
        progress(0.75 + 0.15 * step / len(PENALTIES), "choosing settings")
    assert best is not None
    return best[1], calibrated(best[2], lesson, multi_label)


def _surprise(logits: np.ndarray, truth: np.ndarray, multi_label: bool) -> float:
    if multi_label:
        return float((np.logaddexp(0.0, logits) - truth * logits).sum(axis=1).mean())
    return float((np.logaddexp.reduce(logits, axis=1) - (truth * logits).sum(axis=1)).mean())


def _logits(head: LinearHead, vectors: np.ndarray) -> np.ndarray:
    return vectors @ head.weight + head.bias


def _manifest(
    options: Options,
    checked: Checked,
    labels: Sequence[str],
    texts: int,
    calibration: Calibration,
    evaluation: tuple[Evaluation, ...],
) -> Manifest:
    kinds = "labels, several at once" if options.multi_label else "labels"
    return Manifest(
        id=options.id,
        version=options.version,
        task=Task.CLASSIFY,
        name=options.name,
        summary=f"Taught on this appliance from {texts} of the site's own texts: {len(labels)} {kinds}.",
        labels=tuple(labels),
        base=Base(name=MINILM.name, weights_sha256=MINILM.weights_sha256, vocabulary_sha256=MINILM.vocabulary_sha256),
        window_tokens=WINDOW_TOKENS,
        calibration=calibration,
        multi_label=options.multi_label,
        licence="the site's own",
        sources=(
            Source(
                name=f"table {checked.sha256[:16]}",
                licence="the site's own",
                attribution="rows that the site labelled",
                use=f"{texts} texts; SHA-256 of the table {checked.sha256}",
            ),
        ),
        evaluation=evaluation,
        intended_use="Texts like those of the table that it was taught from.",
        limits="It knows only the labels of its table, and only as well as the held-out part says.",
        created=options.created,
    )
