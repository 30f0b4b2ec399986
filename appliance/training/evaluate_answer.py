"""How well a specialist answers the held-back questions, through the code that serves it.

    python -m appliance.training.evaluate_answer --data DATA --file doc-answer.gguf --base HOME/models/minilm

`--part development` for choosing settings; `held_back`, the default, for the evidence of a release. At most `--items`
questions of each collection, spread over its documents. Prints the figures; `--json` writes them as the manifest
states them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from appliance.config import EngineConfig, SpecialistsConfig
from appliance.engine.client import Engine
from appliance.errors import ApplianceError
from appliance.specialists.manifest import Evaluation, Manifest
from appliance.specialists.tasks import answer
from appliance.specialists.tokenization import WordPiece
from appliance.training.answer_scores import Judged, metrics
from appliance.training.collections.questions import Question, read_questions
from appliance.training.evaluation import Subject, subject_of_file

AT_ONCE = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print. Exit code 0 whatever the figures say; a person decides what they mean."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.evaluate_answer")
    parser.add_argument("--data", type=Path, required=True, help="folder with the collections")
    parser.add_argument("--file", type=Path, required=True, help="the specialist file")
    parser.add_argument("--base", type=Path, default=Path("models/minilm"), help="folder of the converted base")
    parser.add_argument("--part", choices=("held_back", "development"), default="held_back")
    parser.add_argument("--items", type=int, default=1000, help="questions of each collection at most")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        questions = spread(getattr(read_questions(options.data), options.part), options.items)
        subject = subject_of_file(options.file, options.base)
        judged = asyncio.run(judge(questions, subject, EngineConfig(threads=options.threads)))
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    evaluations = evaluations_of(judged, subject.manifest, options.part, options.items)
    for evaluation in evaluations:
        print(f"{evaluation.name}: {evaluation.items} questions")
        print(*(f"  {name:<24}{value:.4f}" for name, value in evaluation.metrics.items()), sep="\n")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(evaluations, order="sorted")) + b"\n")
    return 0


def spread(questions: Iterable[Question], items: int) -> list[Question]:
    """Every so-many-th question of each collection."""
    by_source: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_source[question.source].append(question)
    return [one for group in by_source.values() for one in group[:: max(-(-len(group) // items), 1)]]


async def judge(questions: Sequence[Question], subject: Subject, config: EngineConfig) -> list[Judged]:
    """Through the engine's worker and the task's own preparing and finishing, as in serving."""
    wordpiece, settings = WordPiece.from_vocab(subject.base.vocabulary), SpecialistsConfig()
    with tempfile.TemporaryDirectory(prefix="evaluation-") as runtime:
        engine = await Engine.start(config, subject.base.path, subject.base.sha256, Path(runtime))

        async def one(question: Question) -> Judged:
            case = answer.prepare(question.question, question.context, subject.manifest, wordpiece, settings)
            outputs = await engine.encode(subject.adapter.key, case.inputs) if case.inputs else []
            return Judged(question, answer.best_candidate(case, outputs))

        try:
            await engine.load(subject.adapter)
            judged: list[Judged] = []
            for first in range(0, len(questions), AT_ONCE):
                judged += await asyncio.gather(*map(one, questions[first : first + AT_ONCE]))
            return judged
        finally:
            await engine.close()


def evaluations_of(judged: Sequence[Judged], manifest: Manifest, part: str, items: int) -> tuple[Evaluation, ...]:
    """What the manifest states: all collections together, and each."""
    groups: dict[str, list[Judged]] = {"All": list(judged)}
    for one in judged:
        groups.setdefault(one.question.source, []).append(one)
    which = "documents that neither training nor tuning saw" if part == "held_back" else "what settings were chosen on"
    command = f"python -m appliance.training.evaluate_answer --data DATA --file FILE --base BASE --part {part}"
    return tuple(
        Evaluation(
            name=name,
            dataset=f"questions about {which}",
            items=len(chosen),
            metrics=metrics(chosen, manifest.calibration),
            command=f"{command} --items {items}",
            note="Measured through the serving path. f1, exact and sentence_hit over questions that have an answer.",
        )
        for name, chosen in groups.items()
        if any(one.question.answers for one in chosen)
    )


if __name__ == "__main__":
    sys.exit(main())
