"""How well a classifier does on the held-back part of its collection, through the code that serves it.

    python -m appliance.training.evaluate_classifier RECIPE --data DATA --file FILE --base HOME/models/minilm

`--part development` for choosing settings; `held_back`, the default, for the evidence of a release. Prints the figures
with 95 % intervals, per label and the most frequent confusions; `--json` writes them as the manifest states them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from appliance.config import EngineConfig, SpecialistsConfig
from appliance.engine.client import Engine
from appliance.errors import ApplianceError
from appliance.specialists.manifest import Evaluation, Manifest
from appliance.specialists.tasks import classify
from appliance.specialists.tasks.classify import Decision
from appliance.specialists.tokenization import WordPiece
from appliance.training.calibration import expected_calibration_error, f1
from appliance.training.classifier_recipe import ClassifierRecipe, read_classifier_recipe
from appliance.training.collections import read_collection
from appliance.training.collections.labelled import Labelled
from appliance.training.evaluation import Subject, subject_of_file, wilson

CONFUSIONS_SHOWN = 10
RESAMPLES = 1000
TOGETHER = 16  # requests in flight, so that the engine fills its batches as it does in serving


@dataclass(frozen=True, slots=True)
class Judged:
    """A labelled text and what the specialist decided."""

    truth: Labelled
    decision: Decision


@dataclass(frozen=True, slots=True)
class LabelRow:
    """How one label fares; `items` carry it."""

    label: str
    items: int
    precision: float
    recall: float
    f1: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print. Exit code 0 whatever the figures say; a person decides what they mean."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.evaluate_classifier")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the collections")
    parser.add_argument("--file", type=Path, required=True, help="the specialist file")
    parser.add_argument("--base", type=Path, default=Path("models/minilm"), help="folder of the converted base")
    parser.add_argument("--part", choices=("held_back", "development"), default="held_back")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        recipe = read_classifier_recipe(options.recipe).recipe
        collection = read_collection(recipe.collection, options.data)
        texts: tuple[Labelled, ...] = getattr(collection, options.part)
        subject = subject_of_file(options.file, options.base)
        judged = asyncio.run(judge(texts, subject, recipe, EngineConfig(threads=options.threads)))
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    evaluations = evaluations_of(judged, subject.manifest, recipe, options.part)
    print(*report(judged, evaluations, subject.manifest), sep="\n")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(evaluations, order="sorted")) + b"\n")
    return 0


async def judge(
    texts: Sequence[Labelled], subject: Subject, recipe: ClassifierRecipe, config: EngineConfig
) -> list[Judged]:
    """Through the engine's worker and the task's own preparing and finishing, as in serving."""
    wordpiece, settings = WordPiece.from_vocab(subject.base.vocabulary), SpecialistsConfig()
    with tempfile.TemporaryDirectory(prefix="evaluation-") as runtime:
        engine = await Engine.start(config, subject.base.path, subject.base.sha256, Path(runtime))
        try:
            await engine.load(subject.adapter)

            async def decide(group: list[Labelled]) -> Sequence[Decision]:
                if recipe.unit == "sentence":
                    wanted = [text.text for text in group]
                    sentences = classify.prepare_sentences(wanted, subject.manifest, wordpiece, settings)
                    outputs = await engine.encode(subject.adapter.key, sentences.inputs)
                    return classify.finish_sentences(sentences, outputs)
                prepared = classify.prepare(
                    group[0].text, subject.manifest, wordpiece, settings, context=group[0].context
                )
                return (classify.finish(prepared, await engine.encode(subject.adapter.key, prepared.inputs)),)

            judged: list[Judged] = []
            groups = list(_documents(texts)) if recipe.unit == "sentence" else [[text] for text in texts]
            for first in range(0, len(groups), TOGETHER):
                chosen = groups[first : first + TOGETHER]
                for group, decisions in zip(chosen, await asyncio.gather(*map(decide, chosen)), strict=True):
                    judged += [Judged(text, decision) for text, decision in zip(group, decisions, strict=True)]
            return judged
        finally:
            await engine.close()


def evaluations_of(
    judged: Sequence[Judged], manifest: Manifest, recipe: ClassifierRecipe, part: str
) -> tuple[Evaluation, ...]:
    """What the manifest states: the whole part and, where a context is optional, texts with and without one."""
    groups = [("Held-back part" if part == "held_back" else "Development part", list(judged))]
    if recipe.context == "optional":
        named = recipe.context_name
        groups.append((f"With {named}", [one for one in judged if one.truth.context]))
        groups.append((f"Without {named}", [one for one in judged if not one.truth.context]))
    command = (
        f"python -m appliance.training.evaluate_classifier appliance/training/recipes/{recipe.id}.toml --data DATA "
        f"--file appliance/bundled/{recipe.id}/{recipe.id}.gguf --base HOME/models/minilm --part {part}"
    )
    seen = "the part that settings were chosen on"
    dataset = f"{recipe.collection}, {'the part that neither training nor tuning saw' if part == 'held_back' else seen}"
    found = [
        Evaluation(
            name=name,
            dataset=dataset,
            items=len(chosen),
            metrics=multi_label_metrics(chosen, manifest.labels) if manifest.multi_label else metrics(chosen),
            command=command,
            note="Measured through the serving path.",
        )
        for name, chosen in groups
        if chosen
    ]
    by_label = {f"f1_{row.label}": round(row.f1, 4) for row in label_rows(judged, manifest) if row.items}
    note = "Measured through the serving path, whatever the score. Labels with few items have wide intervals."
    return (
        *found,
        Evaluation(name="By label", dataset=dataset, items=len(judged), metrics=by_label, command=command, note=note),
    )


def label_rows(judged: Sequence[Judged], manifest: Manifest) -> list[LabelRow]:
    """Precision, recall and F1 of each label, the worst first; out-of-scope texts count if answered."""
    rows = []
    for label in manifest.labels:
        truth = np.array([label in one.truth.labels for one in judged])
        said = np.array([label in _said(one, manifest) for one in judged])
        right = int((truth & said).sum())
        precision, recall = right / max(int(said.sum()), 1), right / max(int(truth.sum()), 1)
        rows.append(LabelRow(label, int(truth.sum()), precision, recall, f1(truth, said)))
    return sorted(rows, key=lambda row: (row.f1, row.label))


def _said(one: Judged, manifest: Manifest) -> tuple[str, ...]:
    if manifest.multi_label:
        return tuple(given.label for given in one.decision.labels)
    return (one.decision.best.label,) if one.truth.labels or not one.decision.abstains else ()


def metrics(judged: Sequence[Judged]) -> dict[str, float]:
    """Accuracy in scope whatever the score, macro-F1, calibration; with abstention also what it costs and catches."""
    inside = [one for one in judged if one.truth.labels]
    right = np.array([one.decision.best.label == one.truth.labels[0] for one in inside])
    scores = np.array([one.decision.best.score for one in inside])
    low, high = wilson(int(right.sum()), len(right))
    labels = sorted({one.truth.labels[0] for one in inside})
    truth = np.array([one.truth.labels[0] for one in inside])
    said = np.array([one.decision.best.label for one in inside])
    found = {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": float(np.mean([f1(truth == label, said == label) for label in labels])),
        "calibration_error": expected_calibration_error(scores, right),
    }
    answered = np.array([not one.decision.abstains for one in inside])
    if not answered.all() or len(inside) < len(judged):
        found["answered"] = float(answered.mean())
        found["accuracy_answered_and_right"] = float((right & answered).mean())
    outside = [one for one in judged if not one.truth.labels]
    if outside:
        caught = sum(one.decision.abstains for one in outside)
        low, high = wilson(caught, len(outside))
        found |= {"out_of_scope_recall": caught / len(outside), "out_of_scope_low": low, "out_of_scope_high": high}
        found["out_of_scope_items"] = float(len(outside))
    return {name: round(value, 4) for name, value in found.items()}


def multi_label_metrics(judged: Sequence[Judged], labels: Sequence[str]) -> dict[str, float]:
    """Mean F1 of the labels that occur, with bootstrap intervals, and F1 of all decisions together."""
    truth = np.array([[label in one.truth.labels for label in labels] for one in judged])
    said = np.array(
        [[any(given.label == label for given in one.decision.labels) for label in labels] for one in judged]
    )

    present = np.flatnonzero(truth.any(axis=0))

    def macro(rows: np.ndarray) -> float:
        return float(np.mean([f1(truth[rows, column], said[rows, column]) for column in present]))

    rng = np.random.default_rng(0)
    drawn = [macro(rng.integers(len(judged), size=len(judged))) for _ in range(RESAMPLES)]
    found = {
        "macro_f1": macro(np.arange(len(judged))),
        "macro_f1_low": float(np.quantile(drawn, 0.025)),
        "macro_f1_high": float(np.quantile(drawn, 0.975)),
    }
    found["micro_f1"] = f1(truth.ravel(), said.ravel())
    return {name: round(value, 4) for name, value in found.items()}


def report(judged: Sequence[Judged], evaluations: Iterable[Evaluation], manifest: Manifest) -> Iterable[str]:
    """The figures as lines a person reads, and the most frequent confusions."""
    for evaluation in evaluations:
        if evaluation.name == "By label":
            continue
        yield f"{evaluation.name}: {evaluation.items} items of {evaluation.dataset}"
        yield from (f"  {name:<30}{value:.4f}" for name, value in evaluation.metrics.items())
    yield f"{'label':<44}{'items':>6}{'precision':>11}{'recall':>8}{'f1':>7}"
    yield from (
        f"{row.label:<44}{row.items:>6}{row.precision:>11.3f}{row.recall:>8.3f}{row.f1:>7.3f}"
        for row in label_rows(judged, manifest)
    )
    if manifest.multi_label:
        return
    wrong = Counter(
        (one.truth.labels[0], one.decision.best.label)
        for one in judged
        if one.truth.labels and one.decision.best.label != one.truth.labels[0]
    )
    yield "most frequent confusions (true, said)"
    yield from (f"  {count:>4}  {true}, {said}" for (true, said), count in wrong.most_common(CONFUSIONS_SHOWN))


def _documents(texts: Sequence[Labelled]) -> Iterable[list[Labelled]]:
    documents: dict[str, list[Labelled]] = {}
    for text in texts:
        documents.setdefault(text.group, []).append(text)
    return documents.values()


if __name__ == "__main__":
    sys.exit(main())
