"""Guaranteed here: a passage is whole sentences that hold the answer, offsets move with it, no document is in two
parts, and each reader keeps quotes as its collection marks them. Each test writes a few lines in its format."""

import csv
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.training.collections import questions
from appliance.training.collections.questions import passage_around, sentence_spans

LONG = " ".join(f"Sentence number {number} says little." for number in range(200))


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def asked(question: str, *answers: tuple[str, int], impossible: bool = False) -> dict:
    marked = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": question, "question": question, "answers": marked, "is_impossible": impossible}


@given(st.text(st.sampled_from("aB. !?\n(9"), max_size=60))
def test_sentences_are_in_order_and_every_visible_character_is_in_one(text: str) -> None:
    spans = sentence_spans(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    covered = {place for start, end in spans for place in range(start, end)}
    assert all(place in covered for place, character in enumerate(text) if not character.isspace())


@pytest.mark.parametrize("place", [0, 700, 3000, len(LONG) - 12])
def test_a_passage_holds_its_answer_in_whole_sentences_and_is_no_longer_than_it_may_be(place: int) -> None:
    start, end = place, place + 10
    spans = sentence_spans(LONG)
    first, last = passage_around(spans, start, end)
    assert first <= start and end <= last <= first + questions.PASSAGE_CHARS
    assert first in {span[0] for span in spans} and last in {span[1] for span in spans}
    assert last - first > questions.PASSAGE_CHARS * 0.8


def test_an_article_keeps_every_place_of_its_answers_without_the_blanks_around_them(tmp_path: Path) -> None:
    context = "It rained in Paris. We left."
    paragraph = {"context": context, "qas": [asked("where?", (" Paris", 12), ("Paris", 13), ("in Paris", 10))]}
    paragraph["qas"] += [asked("why?", impossible=True), asked("who?", ("nobody", 3))]
    write(
        tmp_path / "squad_dev" / "squad_dev_train_part.json", {"data": [{"title": "Rain", "paragraphs": [paragraph]}]}
    )
    where, why = questions.read_squad(tmp_path)  # an answer that does not stand there is no answer, nor is its question
    assert [context[start:end] for start, end in where.answers] == ["Paris", "in Paris"]
    assert (why.answers, where.group) == ((), "Rain")


def test_a_paper_is_cut_to_the_passage_around_its_answer(tmp_path: Path) -> None:
    start = LONG.index("number 150")
    paper = {"document_id": 1, "paragraphs": [{"context": LONG, "qas": [asked("which?", ("number 150", start))]}]}
    write(tmp_path / "covidqa" / "covidqa_train.json", {"data": [paper]})
    (only,) = questions.read_covidqa(tmp_path)
    ((first, last),) = only.answers
    assert only.context[first:last] == "number 150" and len(only.context) <= questions.PASSAGE_CHARS


def test_a_report_gives_the_questions_that_its_text_answers(tmp_path: Path) -> None:
    def question(answer: list[str], kind: str = "span", place: str = "text") -> dict:
        return {"question": "how much?", "answer": answer, "answer_type": kind, "answer_from": place}

    report = {
        "table": {"uid": "t1"},
        "paragraphs": [{"text": "Sales rose by 4 %."}, {"text": "Costs fell."}],
        "questions": [
            question(["4 %"]),
            question(["5"], kind="arithmetic"),
            question(["4 %", "Costs"]),
            question(["4 %"], place="table"),
            question(["9 %"]),
        ],
    }
    write(tmp_path / "tatqa" / "tatqa_dataset_dev.json", [report])
    (only,) = questions.read_tatqa(tmp_path)
    assert only.context[slice(*only.answers[0])] == "4 %" and "Costs fell." in only.context


def test_a_contract_is_asked_for_clauses_that_it_has_and_for_some_that_it_has_not(tmp_path: Path) -> None:
    text = "This agreement is governed by the law of Ohio. It ends on June 1."
    law = text.index("the law of Ohio")
    clauses = [
        {"contract": "a.txt", "category": "Law", "text": "the law of Ohio", "start": law, "end": law + 15},
        {"contract": "a.txt", "category": "Cap", "text": "lost", "start": None, "end": None},
    ]
    write(tmp_path / "cuad" / "clause_spans_train.jsonl", "\n".join(map(json.dumps, clauses)))
    write(tmp_path / "cuad" / "full_contract_txt" / "a.txt", text)
    rows = [
        ["Category", "Description", "Answer Format", "Group"],
        ["Category: Law", "Description: Which law governs? Name the state.", "", ""],
        ["Category: Cap", "Description: Is there a cap?", "", ""],
        ["Category: Names", "Description: The name of the contract.", "", ""],
    ]
    with (tmp_path / "cuad" / "category_descriptions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    has, lacks = questions.read_cuad(tmp_path)
    assert (has.question, has.context[slice(*has.answers[0])]) == ("Which law governs?", "the law of Ohio")
    assert (lacks.question, lacks.answers) == ("What is the name of the contract?", ())


def test_documents_stay_together_and_every_question_falls_into_one_part(tmp_path: Path) -> None:
    context = "It rained in Paris."
    articles = [
        {"title": f"Title {number}", "paragraphs": [{"context": context, "qas": [asked("where?", ("Paris", 13))] * 3}]}
        for number in range(100)
    ]
    write(tmp_path / "squad_dev" / "squad_dev_train_part.json", {"data": articles})
    write(tmp_path / "covidqa" / "covidqa_train.json", {"data": []})
    write(tmp_path / "tatqa" / "tatqa_dataset_dev.json", [])
    write(tmp_path / "cuad" / "clause_spans_train.jsonl", "")
    write(tmp_path / "cuad" / "category_descriptions.csv", "Category,Description\n")
    parts = questions.read_questions(tmp_path)
    groups = [{one.group for one in part} for part in (parts.train, parts.development, parts.held_back)]
    assert sum(map(len, groups)) == 100 and all(groups)
    assert len(parts.train) + len(parts.development) + len(parts.held_back) == 300
