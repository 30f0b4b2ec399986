"""How well a tagger of chemicals and diseases does on held-back sentences, through the code that serves it.

    python -m appliance.training.evaluate_tagger --data DATA --file biomed-ner.gguf --base HOME/models/minilm

`--part development` for choosing settings; `held_back`, the default, for the evidence of a release. An entity is
right if its label and both of its ends are. Each sentence is read as prose and with a blank between all tokens, as
evaluations often write it; a label that a collection does not mark is not counted there. `--json` writes the figures
as the manifest states them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from appliance.config import EngineConfig, SpecialistsConfig
from appliance.engine.client import Engine
from appliance.errors import ApplianceError
from appliance.specialists.manifest import Evaluation
from appliance.specialists.tasks import tag
from appliance.specialists.tokenization import WordPiece
from appliance.training.collections.biomedical import Sentence, TaggedText, read_biomedical, text_of
from appliance.training.evaluation import Subject, subject_of_file
from appliance.types import Span

AT_ONCE = 16
RESAMPLES = 500
NAMES = {"bc5cdr": "BC5CDR", "ncbi_disease": "NCBI Disease"}


@dataclass(frozen=True, slots=True)
class Tagged:
    """A text with its true entities, what was marked, and where it comes from (`BC5CDR, prose`)."""

    truth: TaggedText
    marked: tuple[Span, ...]
    group: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print. Exit code 0 whatever the figures say; a person decides what they mean."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.evaluate_tagger")
    parser.add_argument("--data", type=Path, required=True, help="folder with bc5cdr and ncbi_disease")
    parser.add_argument("--file", type=Path, required=True, help="the specialist file")
    parser.add_argument("--base", type=Path, default=Path("models/minilm"), help="folder of the converted base")
    parser.add_argument("--part", choices=("held_back", "development"), default="held_back")
    parser.add_argument("--recall-bias", type=float, help="instead of the file's own, to choose one")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        sentences = getattr(read_biomedical(options.data), options.part)
        subject = subject_of_file(options.file, options.base)
        tagged = asyncio.run(judge(sentences, subject, options.recall_bias, EngineConfig(threads=options.threads)))
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    evaluations = evaluations_of(tagged, options.part)
    for evaluation in evaluations:
        print(f"{evaluation.name}: {evaluation.items} sentences")
        print(*(f"  {name:<24}{value:.4f}" for name, value in evaluation.metrics.items()), sep="\n")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(evaluations, order="sorted")) + b"\n")
    return 0


async def judge(
    sentences: Sequence[Sentence], subject: Subject, recall_bias: float | None, config: EngineConfig
) -> list[Tagged]:
    """Through the engine's worker and the task's own preparing and finishing, as in serving."""
    wordpiece, settings = WordPiece.from_vocab(subject.base.vocabulary), SpecialistsConfig()
    manifest = subject.manifest
    if recall_bias is not None:
        chosen = msgspec.structs.replace(manifest.calibration, recall_bias=recall_bias)
        manifest = msgspec.structs.replace(manifest, calibration=chosen)
    with tempfile.TemporaryDirectory(prefix="evaluation-") as runtime:
        engine = await Engine.start(config, subject.base.path, subject.base.sha256, Path(runtime))

        async def one(sentence: Sentence, spaced: bool) -> Tagged:
            truth = text_of([sentence], spaced=spaced)
            prepared = tag.prepare(truth.text, manifest, wordpiece, settings)
            outputs = await engine.encode(subject.adapter.key, prepared.inputs) if prepared.inputs else []
            group = f"{NAMES[sentence.source]}, {'tokens' if spaced else 'prose'}"
            return Tagged(truth, tag.finish(prepared, outputs), group)

        try:
            await engine.load(subject.adapter)
            tagged: list[Tagged] = []
            asked = [(sentence, spaced) for sentence in sentences for spaced in (False, True)]
            for first in range(0, len(asked), AT_ONCE):
                tagged += await asyncio.gather(*(one(*item) for item in asked[first : first + AT_ONCE]))
            return tagged
        finally:
            await engine.close()


def evaluations_of(tagged: Sequence[Tagged], part: str) -> tuple[Evaluation, ...]:
    """What the manifest states: each collection, as prose and as tokens."""
    groups: dict[str, list[Tagged]] = {}
    for one in tagged:
        groups.setdefault(one.group, []).append(one)
    which = "sentences that neither training nor tuning saw" if part == "held_back" else "what settings were chosen on"
    return tuple(
        Evaluation(
            name=name,
            dataset=which,
            items=len(chosen),
            metrics=metrics(chosen),
            command=f"python -m appliance.training.evaluate_tagger --data DATA --file FILE --base BASE --part {part}",
            note="Measured through the serving path: whole entities with exact ends. Other sentences of the same "
            "abstracts were trained on, so figures on new abstracts are lower.",
        )
        for name, chosen in sorted(groups.items())
    )


def metrics(tagged: Sequence[Tagged]) -> dict[str, float]:
    """Precision, recall and F1 of each label that is marked, with bootstrap intervals of F1 over sentences."""
    found: dict[str, float] = {}
    labels = sorted({span.label for one in tagged for span in one.truth.spans})
    for label in labels:
        rows = np.array([_counts(one, label) for one in tagged])
        right, said, there = rows.sum(axis=0)
        rng = np.random.default_rng(0)
        drawn = [f1_of(*rows[rng.integers(len(rows), size=len(rows))].sum(axis=0)) for _ in range(RESAMPLES)]
        found[f"{label}_f1"] = f1_of(right, said, there)
        found[f"{label}_f1_low"], found[f"{label}_f1_high"] = np.quantile(drawn, (0.025, 0.975)).tolist()
        found[f"{label}_precision"] = float(right / max(said, 1))
        found[f"{label}_recall"] = float(right / max(there, 1))
    return {name: round(value, 4) for name, value in found.items()}


def f1_of(right: int, said: int, there: int) -> float:
    """F1 of counts.

    >>> f1_of(right=2, said=4, there=2)
    0.6666666666666666
    """
    return float(2 * right / max(said + there, 1))


def _counts(one: Tagged, label: str) -> tuple[int, int, int]:
    if label in one.truth.unmarked:
        return 0, 0, 0
    said = Counter((span.start, span.end) for span in one.marked if span.label == label)
    there = Counter((span.start, span.end) for span in one.truth.spans if span.label == label)
    return (said & there).total(), said.total(), there.total()


if __name__ == "__main__":
    sys.exit(main())
