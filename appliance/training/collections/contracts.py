"""Clauses of contracts and their types (CUAD), and paragraphs that are none.

A clause may be of several types at once; a paragraph without any carries no label. The contracts of one filer are one
group, because amendments repeat what they amend, and stock phrases that training saw are not asked again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.training.collections.labelled import Collection, Labelled, Part, part_of, split, without_repeats

NAME = "contract-clauses"
HELD_BACK_PERCENT, DEVELOPMENT_PERCENT = 20, 10
WORDS_MIN = 6  # shorter spans are names and dates without their sentence
NEGATIVES_PER_CONTRACT = 5
_PARAGRAPH = re.compile(r"\S[^\n]*(?:\n(?![ \t]*\n)[^\n]+)*")


@dataclass(frozen=True, slots=True)
class Clause:
    """One annotated span of a contract, in code points of its text."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Contract:
    """A whole contract and what is marked in it."""

    name: str
    text: str
    clauses: tuple[Clause, ...]

    @property
    def filer(self) -> str:
        """Whose contract it is: what stands first in the name of its file."""
        return self.name.partition("_")[0]


def read_clauses(data: Path) -> Collection:
    """Clauses of `WORDS_MIN` words or more, and some paragraphs of every contract that touch no clause."""
    contracts = list(read_contracts(data))
    labels = sorted({clause.label for contract in contracts for clause in contract.clauses})
    examples = [example for contract in contracts for example in examples_of(contract)]
    # Some types occur in a dozen contracts: a tenth and a twentieth would hold none of them.
    return without_repeats(
        split(NAME, labels, examples, held_back_percent=HELD_BACK_PERCENT, development_percent=DEVELOPMENT_PERCENT)
    )


def part_of_contract(contract: Contract) -> Part:
    """Which part all clauses of a contract belong to."""
    return part_of(NAME, contract.filer, HELD_BACK_PERCENT, DEVELOPMENT_PERCENT)


def read_contracts(data: Path) -> Iterator[Contract]:
    """Every contract of the collection, in the order of its file of spans."""
    spans: dict[str, list[Clause]] = {}
    for line in (data / "cuad" / "clause_spans_train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["start"] is not None:  # two rows hold a full stop and no place
            spans.setdefault(row["contract"], []).append(Clause(row["start"], row["end"], row["category"]))
    for name, clauses in spans.items():
        text = (data / "cuad" / "full_contract_txt" / name).read_text(encoding="utf-8")
        yield Contract(name, text, tuple(clauses))


def examples_of(contract: Contract) -> Iterator[Labelled]:
    """Every clause text once with all its types, then the paragraphs without one."""
    types: dict[str, set[str]] = {}
    for clause in contract.clauses:
        text = " ".join(contract.text[clause.start : clause.end].split())
        if len(text.split()) >= WORDS_MIN:
            types.setdefault(text, set()).add(clause.label)
    for text, found in types.items():
        yield Labelled(text, tuple(sorted(found)), group=contract.filer)
    for text in negatives_of(contract):
        yield Labelled(text, (), group=contract.filer)


def negatives_of(contract: Contract) -> Sequence[str]:
    """Paragraphs that no clause touches: those whose hashes come first, so that the choice is the same every time."""
    free = []
    for found in _PARAGRAPH.finditer(contract.text):
        if any(clause.start < found.end() and found.start() < clause.end for clause in contract.clauses):
            continue
        text = " ".join(found.group().split())
        if len(text.split()) >= WORDS_MIN:
            free.append(text)
    return sorted(set(free), key=lambda text: hashlib.sha256(text.encode()).digest())[:NEGATIVES_PER_CONTRACT]
