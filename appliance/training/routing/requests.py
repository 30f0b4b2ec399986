"""Requests for every bundled specialist and for none of them, in a development and a held-back part.

    requests = read_requests(data, "held_back")
    requests[0].text, requests[0].specialist, requests[0].kind

Half are a text alone, as a program would send it; the others begin with an instruction or are one. Texts come from the
held-back and development parts of the collections (`collections/`, `held_back/`), instructions from `instructions.txt`;
neither part shares a text, a contract, an article or an instruction with the router's examples. The same data give the
same requests. `none`: nobody's; `none/assistant`: CLINC150's own out-of-scope requests, which nobody may claim either
but which sound like `assistant-intent`, whose own abstention would catch them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.training.collections import read_collection
from appliance.training.collections.biomedical import read_biomedical, text_of
from appliance.training.collections.labelled import Labelled, part_of
from appliance.training.held_back.generator import generate

NONE = "none"
ASSISTANT_NONE = "none/assistant"
PER_KIND = 60
INSTRUCTIONS = Path(__file__).with_name("instructions.txt")
_SEED = 20
_PASSAGE_CHARS = 700
Part = Literal["development", "held_back"]
Kind = Literal["text", "instruction and text", "instruction"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request and who should get it: a specialist's id, `none` or `none/assistant`."""

    text: str
    specialist: str
    kind: Kind


def read_requests(data: Path, part: Part) -> tuple[Request, ...]:
    """All requests of a part. Raises `ConfigInvalid` for a folder without the collections."""
    chance = random.Random(f"{_SEED} {part}")  # noqa: S311 - test text, not a secret
    instructions = read_instructions(INSTRUCTIONS.read_text(encoding="utf-8"))
    found: list[Request] = []
    for specialist, texts_of in TEXTS.items():
        texts = sorted(set(texts_of(data, part)))
        chosen = chance.sample(texts, min(2 * PER_KIND, len(texts)))
        asked = instructions[specialist, part]
        half = len(chosen) // 2
        found += [Request(text, specialist, "text") for text in chosen[:half]]
        found += [
            Request(f"{asked[number % len(asked)]}\n\n{text}", specialist, "instruction and text")
            for number, text in enumerate(chosen[half:])
        ]
        found += [Request(line, specialist, "instruction") for line in asked]
    found += [Request(line, NONE, "instruction") for line in instructions[NONE, part]]
    outside = sorted({row.text for row in getattr(read_collection("clinc150", data), part) if not row.labels})
    found += [Request(text, ASSISTANT_NONE, "text") for text in chance.sample(outside, min(PER_KIND, len(outside)))]
    return tuple(found)


def read_instructions(content: str) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Lines by (specialist, part), from `[specialist part]` headings."""
    found: dict[tuple[str, str], list[str]] = {}
    lines: list[str] = []
    for line in content.splitlines():
        if line.startswith("[") and line.endswith("]") and line.count(" ") == 1:
            specialist, part = line[1:-1].split(" ")
            lines = found.setdefault((specialist, part), [])
        elif line.strip() and not line.startswith("#"):
            lines.append(line.strip())
    return {heading: tuple(below) for heading, below in found.items()}


def _notes(data: Path, part: Part) -> Iterable[str]:
    collection: Literal["final", "development"] = "final" if part == "held_back" else "development"
    for text in generate(1, data, collection):
        if text.kind != "query/clean":
            yield text.text


def _sentences(data: Path, part: Part) -> Iterable[str]:
    for sentence in getattr(read_biomedical(data), part):
        if any(tag != "O" for tag in sentence.tags):
            yield text_of([sentence], spaced=False).text


def _labelled(
    name: str, wanted: Callable[[Labelled], bool] = lambda row: True
) -> Callable[[Path, Part], Iterable[str]]:
    def texts(data: Path, part: Part) -> Iterable[str]:
        return (row.text for row in getattr(read_collection(name, data), part) if row.labels and wanted(row))

    return texts


def _abstracts(data: Path, part: Part) -> Iterable[str]:
    articles: dict[str, list[str]] = {}
    for sentence in getattr(read_collection("abstract-sections", data), part):
        articles.setdefault(sentence.group, []).append(sentence.text)
    return (" ".join(sentences) for sentences in articles.values())


def _clauses(data: Path, part: Part) -> Iterable[str]:
    for line in (data / "cuad" / "clause_spans_train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if part_of("router-clauses", row["contract"]) == part and len(row["text"].split()) >= 12:
            yield " ".join(row["text"].split())


def _findings(data: Path, part: Part) -> Iterable[str]:
    return (row.text for row in getattr(read_collection("assertion", data), part))


def _questions(data: Path, part: Part) -> Iterable[str]:
    """Questions, each before the passage that answers it."""
    papers = json.loads((data / "covidqa" / "covidqa_train.json").read_text(encoding="utf-8"))["data"]
    for paragraph in (paragraph for paper in papers for paragraph in paper["paragraphs"]):
        if part_of("router-questions", str(paragraph["document_id"])) == part:
            for question in paragraph["qas"]:
                start = max(0, question["answers"][0]["answer_start"] - _PASSAGE_CHARS // 2)
                yield f"{question['question']}\n\n{paragraph['context'][start : start + _PASSAGE_CHARS]}"
    reports = json.loads((data / "tatqa" / "tatqa_dataset_dev.json").read_text(encoding="utf-8"))
    for report in reports:
        if part_of("router-questions", report["table"]["uid"]) == part:
            by_order = {str(paragraph["order"]): paragraph["text"] for paragraph in report["paragraphs"]}
            for question in report["questions"]:
                if question["answer_type"] == "span" and question["answer_from"] == "text":
                    passage = " ".join(by_order[order] for order in question["rel_paragraphs"])
                    yield f"{question['question']}\n\n{passage[:_PASSAGE_CHARS]}"


TEXTS: Mapping[str, Callable[[Path, Part], Iterable[str]]] = {
    "phi-deid": _notes,
    "biomed-ner": _sentences,
    "bank-intent": _labelled("banking77"),
    "assistant-intent": _labelled("clinc150"),
    "fin-sentiment": _labelled("financial-sentiment"),
    "contract-clause": _clauses,
    "abstract-sections": _abstracts,
    "doc-answer": _questions,
    "assertion": _findings,
}
