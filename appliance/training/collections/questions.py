"""Questions with their contexts and quotes (SQuAD development part, COVID-QA, TAT-QA, CUAD), one shape for all.

    parts = read_questions(data)
    parts.train, parts.development, parts.held_back      # tuples of Question; no document is in two parts

Papers and contracts are far longer than anybody's question needs: they are cut into passages of whole sentences, and a
question comes with the passage that holds its answer. A clause that a contract does not have is a question without an
answer, as are those of SQuAD that were written to have none.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from appliance.training.collections.labelled import Part, part_of

PASSAGE_CHARS = 1000
CLAUSES_OF_A_CONTRACT = 4  # more would drown the other collections
CLAUSE_CHARS_MAX = 400
UNANSWERABLE_CLAUSES = 2  # of one contract
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(\[A-Z0-9])|\n+")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a context. `answers`: (start, end) of every quote that is right; none: there is no answer."""

    question: str
    context: str
    answers: tuple[tuple[int, int], ...]
    source: str
    group: str


@dataclass(frozen=True, slots=True)
class QuestionParts:
    """All collections in three parts."""

    train: tuple[Question, ...]
    development: tuple[Question, ...]
    held_back: tuple[Question, ...]


def read_questions(data: Path) -> QuestionParts:
    """Every collection, split by document."""
    parts: dict[Part, list[Question]] = {"train": [], "development": [], "held_back": []}
    for read in (read_squad, read_covidqa, read_tatqa, read_cuad):
        for question in read(data):
            parts[part_of(question.source, question.group)].append(question)
    return QuestionParts(tuple(parts["train"]), tuple(parts["development"]), tuple(parts["held_back"]))


def read_squad(data: Path) -> Iterator[Question]:
    """Paragraphs of articles. An article is a document."""
    content = json.loads((data / "squad_dev" / "squad_dev_train_part.json").read_text(encoding="utf-8"))
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = () if asked["is_impossible"] else _located(paragraph["context"], asked["answers"])
                if answers or asked["is_impossible"]:
                    yield Question(asked["question"], paragraph["context"], answers, "SQuAD", article["title"])


def read_covidqa(data: Path) -> Iterator[Question]:
    """Passages of papers."""
    content = json.loads((data / "covidqa" / "covidqa_train.json").read_text(encoding="utf-8"))
    for number, document in enumerate(content["data"]):
        for paragraph in document["paragraphs"]:
            for asked in paragraph["qas"]:
                for answer in _located(paragraph["context"], asked["answers"])[:1]:
                    where = "COVID-QA", f"paper {number}"
                    yield _in_passage(asked["question"], paragraph["context"], answer, where)


def read_tatqa(data: Path) -> Iterator[Question]:
    """Paragraphs around a table of a report; only quotes from the text."""
    content = json.loads((data / "tatqa" / "tatqa_dataset_dev.json").read_text(encoding="utf-8"))
    for document in content:
        text = "\n".join(paragraph["text"] for paragraph in document["paragraphs"])
        for asked in document["questions"]:
            if asked["answer_type"] != "span" or asked["answer_from"] != "text" or len(asked["answer"]) != 1:
                continue
            start = text.find(asked["answer"][0])
            if start >= 0:
                answer = start, start + len(asked["answer"][0])
                yield _in_passage(asked["question"], text, answer, ("TAT-QA", document["table"]["uid"]))


def read_cuad(data: Path) -> Iterator[Question]:
    """Short clauses of contracts, asked for by the description of their category; and clauses that are not there."""
    questions = _clause_questions(data / "cuad" / "category_descriptions.csv")
    clauses: dict[str, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for line in (data / "cuad" / "clause_spans_train.jsonl").read_text(encoding="utf-8").splitlines():
        clause = json.loads(line)
        places = clauses[clause["contract"]][clause["category"]]
        if clause["start"] is not None:  # a clause that could not be located is there all the same
            places.append((clause["start"], clause["end"]))
    for contract in sorted(clauses):
        text = (data / "cuad" / "full_contract_txt" / contract).read_text(encoding="utf-8")
        present: list[Question] = []
        for category, spans in sorted(clauses[contract].items()):
            short = [span for span in spans if span[1] - span[0] <= CLAUSE_CHARS_MAX]
            if short:
                present.append(_in_passage(questions[category], text, short[0], ("CUAD", contract)))
        present = present[:: max(len(present) // CLAUSES_OF_A_CONTRACT, 1)][:CLAUSES_OF_A_CONTRACT]
        yield from present
        absent = [category for category in sorted(questions) if category not in clauses[contract]]
        for category in absent[:: max(len(absent) // UNANSWERABLE_CLAUSES, 1)][:UNANSWERABLE_CLAUSES]:
            if present:
                yield Question(questions[category], present[-1].context, (), "CUAD", contract)


@lru_cache(maxsize=4)  # a paper or a contract is asked about many times in a row
def sentence_spans(text: str) -> tuple[tuple[int, int], ...]:
    """(start, end) of each sentence, blanks around it left out; a rule of thumb that never loses a character of one.

    >>> sentence_spans("It rained. We left.")
    ((0, 10), (11, 19))
    """
    spans = []
    place = 0
    for gap in [*_SENTENCE_END.finditer(text), None]:
        end = gap.start() if gap else len(text)
        stripped = text[place:end].strip()
        if stripped:
            start = text.index(stripped, place)
            spans.append((start, start + len(stripped)))
        place = gap.end() if gap else end
    return tuple(spans)


def passage_around(sentences: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """(start, end) of the whole sentences around characters `start` to `end`, up to `PASSAGE_CHARS` of them."""
    inside = [number for number, (first, last) in enumerate(sentences) if first < end and start < last]
    low, high = inside[0], inside[-1]
    grown = True
    while grown:  # one sentence before, one after, in turn: an answer is not always in the middle
        grown = False
        if low > 0 and sentences[high][1] - sentences[low - 1][0] <= PASSAGE_CHARS:
            low, grown = low - 1, True
        if high + 1 < len(sentences) and sentences[high + 1][1] - sentences[low][0] <= PASSAGE_CHARS:
            high, grown = high + 1, True
    return min(sentences[low][0], start), max(sentences[high][1], end)


def _in_passage(question: str, text: str, answer: tuple[int, int], group: tuple[str, str]) -> Question:
    start, end = answer
    first, last = passage_around(sentence_spans(text), start, end)
    return Question(question, text[first:last], ((start - first, end - first),), *group)


def _located(context: str, answers: Iterable[dict[str, object]]) -> tuple[tuple[int, int], ...]:
    """Distinct places of the answers, without the blanks around them."""
    found: dict[tuple[int, int], None] = {}
    for answer in answers:
        text, start = str(answer["text"]), int(str(answer["answer_start"]))
        stripped = text.strip()
        start += len(text) - len(text.lstrip())
        if stripped and context[start : start + len(stripped)] == stripped:
            found[start, start + len(stripped)] = None
    return tuple(found)


def _clause_questions(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {row[0].removeprefix("Category: ").strip(): _asked(row[1].removeprefix("Description: ")) for row in rows}


def _asked(description: str) -> str:
    asked, mark, _ = " ".join(description.split()).partition("?")
    return asked + mark if mark else f"What is {asked[0].lower()}{asked[1:].rstrip('.')}?"
