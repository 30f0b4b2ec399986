"""How well the de-identification tagger does on held-back text, through the code that serves it.

    python -m appliance.training.evaluation --data DATA --home HOME                  # the installed specialist
    python -m appliance.training.evaluation --data DATA --file phi-deid.gguf --base models/minilm
    python -m appliance.training.evaluation --data DATA --patterns-only              # the floor: no model at all

`--json OUT` writes the figures, `--errors OUT` what leaked and what was redacted in vain (the texts are made up, so
they may be read: those of `--collection development`, to correct rules; the final collection is for reporting only).
Measures are pure functions of a `Judged` text; the texts are `appliance.training.held_back`.

A character is a letter or a digit: white space and punctuation identify nobody. Optional stretches count nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.config import EngineConfig, Home, SpecialistsConfig
from appliance.engine.client import Engine
from appliance.errors import ApplianceError
from appliance.specialists.base_model import BaseModel, open_base_model
from appliance.specialists.deid import patterns, policy, propagation
from appliance.specialists.file_format import read_specialist
from appliance.specialists.manifest import Manifest
from appliance.specialists.metrics.intervals import Interval, gap_p_value, wilson
from appliance.specialists.registry import Registry
from appliance.specialists.tasks import tag
from appliance.specialists.tokenization import WordPiece
from appliance.storage.database import open_database
from appliance.training.held_back.collection import COLLECTIONS
from appliance.training.held_back.generator import generate, names_by_origin
from appliance.training.held_back.labelled import LabelledText
from appliance.types import Adapter, Span

RESAMPLES = 1000
CONTEXT_CHARACTERS = 40
Figures = dict[str, object]


@dataclass(frozen=True, slots=True)
class Judged:
    """A text with its true spans, and the spans that were predicted for it."""

    truth: LabelledText
    predicted: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Characters of one or more texts: truly identifying and redacted, identifying and left, redacted in vain."""

    found: int
    missed: int
    wrong: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.found + other.found, self.missed + other.missed, self.wrong + other.wrong)

    @property
    def recall(self) -> float:
        return self.found / max(self.found + self.missed, 1)

    @property
    def precision(self) -> float:
        return self.found / max(self.found + self.wrong, 1)


# Measures.


def character_counts(judged: Judged, *, strict: bool = False) -> Counts:
    """What was found, missed and redacted in vain; `strict` asks for the right label too."""
    truth, guess, counted = _masks(judged)
    right = (truth != "") & (guess != "") & counted
    if strict:
        right &= truth == guess
    return Counts(
        found=int(right.sum()),
        missed=int(((truth != "") & counted).sum() - right.sum()),
        wrong=int(((guess != "") & counted).sum() - right.sum()),
    )


def total_counts(texts: Iterable[Judged], *, strict: bool = False) -> Counts:
    """The sum over texts."""
    return sum((character_counts(judged, strict=strict) for judged in texts), Counts(0, 0, 0))


def label_figures(texts: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Per label: characters, recall under any label and under its own, precision likewise."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for judged in texts:
        truth, guess, counted = _masks(judged)
        for label in {*truth[counted], *guess[counted]} - {""}:
            mine, said = (truth == label) & counted, (guess == label) & counted
            totals[label].update(
                characters=int(mine.sum()),
                found=int((mine & (guess != "")).sum()),
                own=int((mine & said).sum()),
                said=int(said.sum()),
                any=int((said & (truth != "")).sum()),
            )
    return {
        label: {
            "characters": count["characters"],
            "recall": count["found"] / max(count["characters"], 1),
            "recall_own_label": count["own"] / max(count["characters"], 1),
            "precision": count["any"] / max(count["said"], 1),
            "precision_own_label": count["own"] / max(count["said"], 1),
        }
        for label, count in sorted(totals.items())
    }


def leaks(judged: Judged) -> tuple[Span, ...]:
    """The true spans of which at least one character was left."""
    _, guess, counted = _masks(judged)
    left = (guess == "") & counted
    return tuple(span for span in judged.truth.spans if left[span.start : span.end].any())


def in_vain(judged: Judged) -> tuple[Span, ...]:
    """The predicted spans that redact a character of no identifier."""
    truth, _, counted = _masks(judged)
    needless = (truth == "") & counted
    return tuple(span for span in judged.predicted if needless[span.start : span.end].any())


def whole_spans(texts: Iterable[Judged], label: str) -> tuple[int, int]:
    """(entirely redacted, all) spans of a label."""
    found = count = 0
    for judged in texts:
        of_label = sum(span.label == label for span in judged.truth.spans)
        count += of_label
        found += of_label - sum(span.label == label for span in leaks(judged))
    return found, count


def share_without_leak(texts: Sequence[Judged]) -> float:
    """Texts of which every identifying character was redacted."""
    return sum(not leaks(judged) for judged in texts) / max(len(texts), 1)


def share_touched(texts: Sequence[Judged]) -> float:
    """Texts with any redaction in vain; of clean texts, this is over-redaction."""
    return sum(bool(in_vain(judged)) for judged in texts) / max(len(texts), 1)


def bootstrap(texts: Sequence[Judged], measure: Callable[[np.ndarray], float], seed: int = 0) -> Interval:
    """95 % interval of `measure` of the summed columns (found, missed, wrong, leaking, 1), texts drawn again."""
    rows = np.array([_row(judged) for judged in texts], dtype=np.int64)
    drawn = np.random.default_rng(seed).integers(len(rows), size=(RESAMPLES, len(rows)))
    values = [measure(rows[chosen].sum(axis=0)) for chosen in drawn]
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def origin_figures(texts: Sequence[Judged]) -> Figures:
    """Share of name mentions entirely redacted per origin, with intervals, and the p-value of the gap."""
    groups: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for judged in texts:
        groups[judged.truth.kind.partition("/")[2]].append(whole_spans([judged], "NAME"))
    by_origin = {}
    for origin, people in groups.items():
        found, count = (sum(column) for column in zip(*people, strict=True))
        by_origin[origin] = {"recall": found / max(count, 1), "interval": wilson(found, count), "names": count}
    return {"by_origin": by_origin, "p_value_of_gap": gap_p_value(groups)} if groups else {}


def figures(texts: Sequence[Judged]) -> Figures:
    """Everything that is reported, from the judged texts of all kinds."""
    kinds = defaultdict(list)
    for judged in texts:
        part = judged.truth.kind.split("/")
        kinds["/".join(part) if part[0] == "query" else part[0]].append(judged)
    notes, clean, asking = kinds["note"], kinds["query/clean"], kinds["query/identifying"]
    return {
        "notes": _note_figures(notes) if notes else {},
        "labels": label_figures([*notes, *asking]),
        "queries": {
            "identifying": len(asking),
            "recall": total_counts(asking).recall,
            "without_leak": share_without_leak(asking),
            "clean": len(clean),
            "over_redaction": share_touched(clean),
            "over_redaction_interval": wilson(sum(bool(in_vain(judged)) for judged in clean), len(clean)),
        },
        "names": origin_figures(kinds["names"]),
    }


def _note_figures(notes: Sequence[Judged]) -> Figures:
    counts, strict = total_counts(notes), total_counts(notes, strict=True)
    names_found, names = whole_spans(notes, "NAME")
    return {
        "count": len(notes),
        "recall": counts.recall,
        "recall_interval": bootstrap(notes, lambda row: row[0] / max(row[0] + row[1], 1)),
        "precision": counts.precision,
        "precision_interval": bootstrap(notes, lambda row: row[0] / max(row[0] + row[2], 1)),
        "recall_own_label": strict.recall,
        "precision_own_label": strict.precision,
        "names_characters": label_figures(notes).get("NAME", {}).get("recall", 1.0),
        "names_whole": names_found / max(names, 1),
        "names_whole_interval": wilson(names_found, names),
        "without_leak": share_without_leak(notes),
        "without_leak_interval": bootstrap(notes, lambda row: 1 - row[3] / row[4]),
    }


def _row(judged: Judged) -> tuple[int, int, int, int, int]:
    counts = character_counts(judged)
    return counts.found, counts.missed, counts.wrong, int(counts.missed > 0), 1


def _masks(judged: Judged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per character: true label or "", predicted label or "", and whether it counts."""
    text = judged.truth.text
    counted = np.array([character.isalnum() for character in text], dtype=bool)
    for start, end in judged.truth.optional:
        counted[start:end] = False
    return _labels(judged.truth.spans, len(text)), _labels(judged.predicted, len(text)), counted


def _labels(spans: Iterable[Span], length: int) -> np.ndarray:
    labels = np.full(length, "", dtype="U32")
    for span in spans:
        labels[span.start : span.end] = span.label
    return labels


# Taggers: from texts to predicted spans.


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated: a specialist and the base it runs on."""

    manifest: Manifest
    adapter: Adapter
    base: BaseModel


def by_patterns(texts: Sequence[LabelledText]) -> list[Judged]:
    """What serving would answer if the model found nothing."""
    judged = []
    for truth in texts:
        kept = policy.apply(truth.text, patterns.merge(truth.text, (), patterns.structured_spans(truth.text)))
        judged.append(Judged(truth, policy.apply(truth.text, propagation.propagate(truth.text, kept))))
    return judged


async def by_specialist(texts: Sequence[LabelledText], subject: Subject, config: EngineConfig) -> list[Judged]:
    """Through the engine's worker and the task's own preparing and finishing, as in serving."""
    wordpiece, settings = WordPiece.from_vocab(subject.base.vocabulary), SpecialistsConfig()
    with tempfile.TemporaryDirectory(prefix="evaluation-") as runtime:
        engine = await Engine.start(config, subject.base.path, subject.base.sha256, Path(runtime))
        try:
            await engine.load(subject.adapter)
            judged = []
            for truth in texts:
                prepared = tag.prepare(truth.text, subject.manifest, wordpiece, settings)
                outputs = await engine.encode(subject.adapter.key, prepared.inputs) if prepared.inputs else []
                judged.append(Judged(truth, tag.finish(prepared, outputs)))
            return judged
        finally:
            await engine.close()


def subject_of_home(root: Path, specialist_id: str, opened: ExitStack) -> Subject:
    """The active version in a data folder."""
    home = Home(root)
    database = open_database(home.database, mode="ro")
    opened.callback(database.dispose)
    entry = Registry(database, home).get(specialist_id)
    return Subject(entry.manifest, entry.adapter(), open_base_model(home))


def subject_of_file(path: Path, base_folder: Path) -> Subject:
    """A specialist file that is not installed; `base_folder` is the `models/minilm` of some data folder."""
    file = read_specialist(path, bytes_max=SpecialistsConfig().file_bytes_max)
    place = path.resolve() if file.has_adapter else None  # the worker has a working folder of its own
    merge = place is not None and file.manifest.id in SpecialistsConfig().merged  # as it is served
    adapter = Adapter(file.sha256, place, file.sha256 if place else None, file.head, merge)
    return Subject(file.manifest, adapter, open_base_model(Home(base_folder.resolve().parent.parent)))


# The command.


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print. Exit code 0 whatever the figures say; a person decides what they mean."""
    options = _parser().parse_args(arguments)
    try:
        with ExitStack() as opened:
            subject = _subject(options, opened)
            texts = _texts(options)
            engine = EngineConfig(threads=options.threads)
            judged = by_patterns(texts) if subject is None else asyncio.run(by_specialist(texts, subject, engine))
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    result = figures(judged)
    print(table(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.errors is not None:
        options.errors.write_text(error_report(judged), encoding="utf-8")
    return 0


def table(result: Figures) -> str:
    """The figures as lines a person reads."""
    lines: list[str] = []
    for part, values in result.items():
        lines.append(f"{part}")
        lines.extend(_lines(values, "  "))
    return "\n".join(lines)


def error_report(texts: Sequence[Judged]) -> str:
    """Worst texts first: what leaked (-) and what was redacted in vain (+), each with the words around it."""
    ranked = sorted(texts, key=lambda judged: -character_counts(judged).missed - character_counts(judged).wrong)
    lines: list[str] = []
    for judged in ranked:
        marked = [("-", span) for span in leaks(judged)] + [("+", span) for span in in_vain(judged)]
        if marked:
            lines.append(f"== {judged.truth.kind}")
            lines.extend(f"{sign} {_in_context(judged.truth.text, span)}" for sign, span in marked)
    return "\n".join(lines) + "\n"


def _texts(options: argparse.Namespace) -> tuple[LabelledText, ...]:
    chosen = options.seed, options.data, options.collection
    return *generate(*chosen), *names_by_origin(*chosen)


def _subject(options: argparse.Namespace, opened: ExitStack) -> Subject | None:
    if options.patterns_only:
        return None
    if options.file is not None:
        return subject_of_file(options.file, options.base)
    return subject_of_home(options.home, options.specialist, opened)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m appliance.training.evaluation", description="evaluate a tagger")
    parser.add_argument("--data", type=Path, required=True, help="folder with name_lists and clinical_note_carriers")
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--home", type=Path, help="data folder with the specialist installed")
    subject.add_argument("--file", type=Path, help="a specialist file; needs --base")
    subject.add_argument("--patterns-only", action="store_true", help="no model: the floor")
    parser.add_argument("--base", type=Path, default=Path("models/minilm"), help="folder of the converted base")
    parser.add_argument("--specialist", default="phi-deid")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--collection", choices=tuple(COLLECTIONS), default="final", help="final to report, development to find faults"
    )
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--errors", type=Path)
    return parser


def _lines(values: object, indent: str) -> Iterable[str]:
    if not isinstance(values, dict):
        return
    for name, value in values.items():
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            yield f"{indent}{name}"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, dict):
            yield f"{indent}{name:<24}" + "  ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
        else:
            yield f"{indent}{name:<24}{_shown(value)}"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(inner) for inner in value) + "]"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _in_context(text: str, span: Span) -> str:
    before = text[max(0, span.start - CONTEXT_CHARACTERS) : span.start]
    after = text[span.end : span.end + CONTEXT_CHARACTERS]
    return f"{span.label:<12} {before}[[{text[span.start : span.end]}]]{after}".replace("\n", " / ")


if __name__ == "__main__":
    sys.exit(main())
