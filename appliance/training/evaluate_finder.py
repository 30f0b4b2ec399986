"""How well a clause specialist finds clauses in whole contracts that neither training nor tuning saw.

    python -m appliance.training.evaluate_finder --data DATA --file FILE --base HOME/models/minilm

Every contract is cut into passages and ranked as `tasks/find.py` does when serving. Asked is, for every type that a
contract has a clause of: is one of its clauses among the first 1, 5, 10 passages? A passage counts as a clause where
the two share at least half of the shorter one. `--json` writes the figures as the manifest states them.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from appliance.config import EngineConfig, SpecialistsConfig
from appliance.engine.client import Engine
from appliance.errors import ApplianceError, ConfigInvalid
from appliance.specialists.manifest import Evaluation
from appliance.specialists.tasks import find
from appliance.specialists.tasks.find import Finding
from appliance.specialists.tokenization import WordPiece
from appliance.training.collections.contracts import Clause, Contract, part_of_contract, read_contracts
from appliance.training.evaluation import Subject, subject_of_file, wilson

RANKS = (1, 5, 10)
SHARED_MIN = 0.5
CONTRACTS = 25  # of the held-back ones: about 1.3 million characters


@dataclass(frozen=True, slots=True)
class Sought:
    """One type in one contract, and the rank of the first passage that is such a clause (0: none was ranked)."""

    label: str
    rank: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print. Exit code 0 whatever the figures say; a person decides what they mean."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.evaluate_finder")
    parser.add_argument("--data", type=Path, required=True, help="folder with the collections")
    parser.add_argument("--file", type=Path, required=True, help="the specialist file")
    parser.add_argument("--base", type=Path, default=Path("models/minilm"), help="folder of the converted base")
    parser.add_argument("--part", choices=("held_back", "development"), default="held_back")
    parser.add_argument("--contracts", type=int, default=CONTRACTS, help="how many, in the order of their hashes")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        subject = subject_of_file(options.file, options.base)
        contracts = chosen(read_contracts(options.data), options.part, options.contracts)
        sought = asyncio.run(search(contracts, subject, EngineConfig(threads=options.threads)))
        evaluation = evaluation_of(sought, contracts, options.part)
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    print(*report(sought, evaluation), sep="\n")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode((evaluation,), order="sorted")) + b"\n")
    return 0


def chosen(contracts: Iterable[Contract], part: str, count: int) -> list[Contract]:
    """The first `count` contracts of a part, in the order of their hashes: the same every time, no filer preferred."""
    inside = [contract for contract in contracts if part_of_contract(contract) == part]
    if not inside:
        raise ConfigInvalid(f"the collection has no {part} contract")
    return sorted(inside, key=lambda contract: hashlib.sha256(contract.name.encode()).digest())[:count]


async def search(contracts: Sequence[Contract], subject: Subject, config: EngineConfig) -> list[Sought]:
    """Through the engine's worker and the task's own preparing and finishing, as in serving."""
    wordpiece, settings = WordPiece.from_vocab(subject.base.vocabulary), SpecialistsConfig()
    with tempfile.TemporaryDirectory(prefix="evaluation-") as runtime:
        engine = await Engine.start(config, subject.base.path, subject.base.sha256, Path(runtime))
        try:
            await engine.load(subject.adapter)
            sought: list[Sought] = []
            for contract in contracts:
                prepared = find.prepare(contract.text, subject.manifest, wordpiece, settings)
                outputs = await engine.encode(subject.adapter.key, prepared.inputs)
                sought += ranks_in(contract, find.finish(prepared, outputs, per_label=max(RANKS)))
            return sought
        finally:
            await engine.close()


def ranks_in(contract: Contract, findings: dict[str, tuple[Finding, ...]]) -> Iterator[Sought]:
    """For each type that the contract has, the rank of its first right passage."""
    for label, ranked in findings.items():
        clauses = [clause for clause in contract.clauses if clause.label == label]
        if clauses:
            right = (rank for rank, found in enumerate(ranked, start=1) if any(is_clause(found, c) for c in clauses))
            yield Sought(label, next(right, 0))


def is_clause(found: Finding, clause: Clause) -> bool:
    """Whether a passage and a clause share at least half of the shorter one."""
    shared = min(found.end, clause.end) - max(found.start, clause.start)
    return shared >= SHARED_MIN * min(found.end - found.start, clause.end - clause.start) and shared > 0


def evaluation_of(sought: Sequence[Sought], contracts: Sequence[Contract], part: str) -> Evaluation:
    """What the manifest states: the share of types found within each rank, 95 % intervals, and the mean by type."""
    metrics: dict[str, float] = {"contracts": float(len(contracts))}
    for rank in RANKS:
        hits = np.array([0 < one.rank <= rank for one in sought])
        low, high = wilson(int(hits.sum()), len(hits))
        metrics |= {f"found_in_{rank}": float(hits.mean()), f"found_in_{rank}_low": low, f"found_in_{rank}_high": high}
        by_label = [
            np.mean([0 < one.rank <= rank for one in sought if one.label == label]) for label in _labels(sought)
        ]
        metrics[f"found_in_{rank}_mean_by_type"] = float(np.mean(by_label))
    return Evaluation(
        name="Finder",
        dataset=f"whole contracts of CUAD, {'held back' if part == 'held_back' else 'development part'}, by filer",
        items=len(sought),
        metrics={name: round(value, 4) for name, value in metrics.items()},
        command=f"python -m appliance.training.evaluate_finder --data DATA --file FILE --base BASE --part {part}",
        note="An item is a type that a contract has a clause of: is one among the first passages? As served.",
    )


def report(sought: Sequence[Sought], evaluation: Evaluation) -> Iterator[str]:
    """The figures as lines a person reads, by type at the end."""
    yield f"{evaluation.name}: {evaluation.items} items of {evaluation.dataset}"
    yield from (f"  {name:<30}{value:.4f}" for name, value in evaluation.metrics.items())
    for label in _labels(sought):
        ranks = [one.rank for one in sought if one.label == label]
        yield f"  {label:<44}{len(ranks):>4} contracts, in 5: {sum(0 < rank <= 5 for rank in ranks)}"


def _labels(sought: Sequence[Sought]) -> list[str]:
    return sorted({one.label for one in sought})


if __name__ == "__main__":
    sys.exit(main())
