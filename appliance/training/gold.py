"""Held-back parts of the collections as labelled lines, as `appliance evaluate` takes them.

    python -m appliance.training.gold --data DATA --out FOLDER [--items 300]

Writes FOLDER/<specialist>.jsonl for each specialist whose collection is read here. The texts are what no training and
no tuning saw; the same data give the same lines.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.errors import ApplianceError
from appliance.training.collections import read_collection
from appliance.training.collections.biomedical import LABELS, read_biomedical, text_of
from appliance.training.collections.labelled import Labelled
from appliance.training.collections.questions import read_questions
from appliance.training.held_back.generator import generate
from appliance.types import Span

ITEMS = 300
_SEED = 4
Line = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what can be read; a collection that is missing ends it."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.gold")
    parser.add_argument("--data", type=Path, required=True, help="folder with the collections")
    parser.add_argument("--out", type=Path, required=True, help="folder for the labelled lines")
    parser.add_argument("--items", type=int, default=ITEMS, help="lines for each specialist at most")
    parser.add_argument("--specialist", choices=tuple(LINES), action="append", help="only this one; may be repeated")
    options = parser.parse_args(arguments)
    try:
        for specialist in options.specialist or LINES:
            lines = sample(LINES[specialist](options.data), options.items)
            write(options.out / f"{specialist}.jsonl", lines)
            print(f"{specialist}: {len(lines)} lines")
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    return 0


def sample(lines: Iterable[Line], count: int) -> list[Line]:
    """At most `count` of them, drawn once for ever, in the order in which they came."""
    listed = list(lines)
    chance = random.Random(_SEED)  # noqa: S311 - test text, not a secret
    return [listed[place] for place in sorted(chance.sample(range(len(listed)), min(count, len(listed))))]


def write(path: Path, lines: Iterable[Line]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def spans_of(text: str, spans: Iterable[Span]) -> Line:
    """A line of a tagger."""
    return {"text": text, "spans": [{"start": one.start, "end": one.end, "label": one.label} for one in spans]}


def _notes(data: Path) -> Iterable[Line]:
    return (spans_of(text.text, text.spans) for text in generate(1, data, "final"))


def _sentences(data: Path) -> Iterable[Line]:
    """Without those of the collection in which nobody marked chemicals: finding one would count as an error."""
    for sentence in read_biomedical(data).held_back:
        text = text_of([sentence], spaced=False)
        if not set(text.unmarked) & set(LABELS):
            yield spans_of(text.text, text.spans)


def _labelled(name: str, context: str = "") -> Callable[[Path], Iterable[Line]]:
    def lines(data: Path) -> Iterable[Line]:
        for row in read_collection(name, data).held_back:
            about = {context: row.context} if context and row.context else {}
            yield {"text": row.text, "label": row.labels[0] if row.labels else None} | about

    return lines


def _several(name: str, context: str = "") -> Callable[[Path], Iterable[Line]]:
    def lines(data: Path) -> Iterable[Line]:
        for row in read_collection(name, data).held_back:
            about = {context: row.context} if context else {}
            yield {"text": row.text, "labels": list(row.labels)} | about

    return lines


def _abstracts(data: Path) -> Iterable[Line]:
    articles: dict[str, list[Labelled]] = {}
    for sentence in read_collection("abstract-sections", data).held_back:
        articles.setdefault(sentence.group, []).append(sentence)
    for sentences in articles.values():
        yield {"sentences": [one.text for one in sentences], "labels": [one.labels[0] for one in sentences]}


def _questions(data: Path) -> Iterable[Line]:
    for asked in read_questions(data).held_back:
        answers = [asked.context[start:end] for start, end in asked.answers]
        yield {"question": asked.question, "context": asked.context, "answers": answers}


LINES: Mapping[str, Callable[[Path], Iterable[Line]]] = {
    "phi-deid": _notes,
    "biomed-ner": _sentences,
    "bank-intent": _labelled("banking77"),
    "assistant-intent": _labelled("clinc150"),
    "fin-sentiment": _labelled("financial-sentiment", "entity"),
    "contract-clause": _several("contract-clauses"),
    "abstract-sections": _abstracts,
    "doc-answer": _questions,
    "assertion": _several("assertion", "concept"),
}


if __name__ == "__main__":
    sys.exit(main())
