"""Guaranteed here: every example falls into one part for ever and takes its group along, a text that training saw is
not asked again where that is promised, and each reader keeps labels, contexts and offsets as its collection says.

The collections themselves are not part of the project: each test writes a few lines in the same format."""

import csv
import json
from pathlib import Path

import pytest

from appliance.errors import ConfigInvalid
from appliance.training.collections import READERS, read_collection
from appliance.training.collections.contracts import examples_of, negatives_of, part_of_contract, read_contracts
from appliance.training.collections.labelled import Labelled, normalised, part_of, split, without_repeats

PARTS = ("train", "development", "held_back")


def parts_of(collection) -> dict[str, list[Labelled]]:
    return {part: list(getattr(collection, part)) for part in PARTS}


def test_examples_of_one_group_stay_together_and_none_is_lost() -> None:
    examples = [Labelled(f"text {number}", ("a",), group=f"group {number // 7}") for number in range(700)]
    parts = parts_of(split("any", ["a"], examples))
    groups = [{example.group for example in part} for part in parts.values()]
    assert sum(len(part) for part in parts.values()) == 700
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert 0.03 < len(groups[2]) / 100 < 0.2


def test_texts_that_differ_in_case_and_punctuation_only_fall_into_one_part() -> None:
    assert normalised("Where is my card?") == normalised("where is  MY card")
    pairs = [(f"where is card {number}?", f"Where is Card, {number}") for number in range(200)]
    for one, other in pairs:
        parts = parts_of(split("any", [], [Labelled(one, ()), Labelled(other, ())]))
        assert sorted(len(part) for part in parts.values()) == [0, 0, 2]


def test_the_part_of_a_key_depends_on_the_collection_and_never_changes() -> None:
    known = {key: part_of("banking77", key) for key in ("a", "b", "c", "d", "e", "f", "g", "h")}
    assert known == {key: part_of("banking77", key) for key in known}
    assert known["a"] == "train"
    many = [str(number) for number in range(4000)]
    assert any(part_of("one", key) != part_of("other", key) for key in many)
    wide = sum(part_of("one", key, held_back_percent=20) == "held_back" for key in many) / len(many)
    assert 0.17 < wide < 0.23


def test_stock_phrases_of_training_are_not_asked_again() -> None:
    texts = [Labelled("Stock phrase.", ("a",), group=str(number)) for number in range(200)]
    own = [Labelled(f"own {number}", ("a",), group=str(number)) for number in range(200)]
    parts = parts_of(without_repeats(split("any", ["a"], texts + own)))
    assert any(example.text == "Stock phrase." for example in parts["train"])
    assert parts["development"] and parts["held_back"]
    assert {example.text[:3] for example in parts["development"] + parts["held_back"]} == {"own"}


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_folder_without_the_collection_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=name):
        read_collection(name, tmp_path)


def test_a_collection_nobody_reads_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read_collection("novels", tmp_path)
    assert "banking77" in caught.value.hint


def everything(name: str, data: Path) -> list[Labelled]:
    return [example for part in parts_of(read_collection(name, data)).values() for example in part]


def test_requests_without_an_intent_carry_no_label(tmp_path: Path) -> None:
    folder = tmp_path / "clinc150"
    folder.mkdir()
    parts = {"train": [["book a table", "reserve"]], "val": [], "oos_train": [["why is the sky blue", "oos"]]}
    parts["oos_val"] = []
    (folder / "data_full_train_val.json").write_text(json.dumps(parts))
    (folder / "oos_plus_train.json").write_text(json.dumps([["why is the sky blue", "oos"], ["sing", "oos"]]))
    found = {example.text: example.labels for example in everything("clinc150", tmp_path)}
    assert found == {"book a table": ("reserve",), "why is the sky blue": (), "sing": ()}


def test_every_entity_of_a_headline_is_judged_by_itself_even_with_an_apostrophe_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "sentfin").mkdir()
    (tmp_path / "twitter_financial_news").mkdir()
    with (tmp_path / "sentfin" / "SEntFiN_train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("S No.", "Title", "Decisions", "Words"))
        rows.writerow((1, "Acme up, Dr Reddy's down", "{'Acme': 'positive', 'Dr Reddy's': 'negative'}", 4))
    (tmp_path / "twitter_financial_news" / "sent_train.csv").write_text("text,label\n$X beats https://t.co/a,1\n")
    found = {
        (example.text, example.context): example.labels[0] for example in everything("financial-sentiment", tmp_path)
    }
    assert found == {
        ("Acme up, Dr Reddy's down", "Acme"): "positive",
        ("Acme up, Dr Reddy's down", "Dr Reddy's"): "negative",
        ("$X beats https://t.co/a", ""): "positive",
    }


def test_a_finding_may_be_denied_and_past_at_once(tmp_path: Path) -> None:
    (tmp_path / "negex_context").mkdir()
    lines = [
        "n\tcondition\tsentence\tnegation\ttemporality\texperiencer",
        '1\t"chest pain"\tNever had CHEST PAIN.\tNegated\tHistorical\tPatient',
        "2\tcough\tHas a COUGH.\tAffirmed\tRecent\tPatient",
    ]
    (tmp_path / "negex_context" / "train.tsv").write_text("\n".join(lines) + "\n")
    found = {example.context: example.labels for example in everything("assertion", tmp_path)}
    assert found == {"chest pain": ("negated", "historical"), "cough": ()}


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    folder = tmp_path / "cuad" / "full_contract_txt"
    folder.mkdir(parents=True)
    law = "This Agreement shall be governed by the laws of Ohio."
    text = (
        f"SUPPLY AGREEMENT\n\n{law}\n\nThe headings of this Agreement are for convenience only.\n\nSigned: two names.\n"
    )
    rows = []
    for name in ("Acme_1999_supply.txt", "Acme_2001_amendment.txt"):
        (folder / name).write_text(text)
        start = text.index(law)
        for label, first, last in (("Governing Law", start, start + len(law)), ("Document Name", 0, 16)):
            rows.append({"contract": name, "category": label, "text": text[first:last], "start": first, "end": last})
        rows.append({"contract": name, "category": "Exclusivity", "text": law, "start": start, "end": start + len(law)})
        rows.append({"contract": name, "category": "Parties", "text": ".", "start": None, "end": None})
    (tmp_path / "cuad" / "clause_spans_train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return tmp_path


def test_a_clause_has_all_its_types_and_a_paragraph_without_a_clause_has_none(contracts: Path) -> None:
    first, second = read_contracts(contracts)
    law = first.clauses[0]
    assert law.label == "Governing Law"
    assert first.text[law.start : law.end] == "This Agreement shall be governed by the laws of Ohio."
    assert {example.text: example.labels for example in examples_of(first)} == {
        "This Agreement shall be governed by the laws of Ohio.": ("Exclusivity", "Governing Law"),
        "The headings of this Agreement are for convenience only.": (),
    }
    assert negatives_of(first) == ["The headings of this Agreement are for convenience only."]
    assert part_of_contract(first) == part_of_contract(second)


def test_contracts_of_one_filer_are_one_group(contracts: Path) -> None:
    assert {example.group for example in everything("contract-clauses", contracts)} == {"Acme"}


def test_all_sentences_of_an_article_are_one_group_and_its_objective_is_background(tmp_path: Path) -> None:
    (tmp_path / "rct_abstracts").mkdir()
    sections = [
        {"heading": "AIM", "label": "OBJECTIVE", "sentences": ["To see."]},
        {"heading": "METHODS", "label": "METHODS", "sentences": ["We looked.", "Twice."]},
    ]
    line = json.dumps({"pmcid": "7", "licence": "CC BY", "title": "t", "sections": sections})
    (tmp_path / "rct_abstracts" / "train.jsonl").write_text(line + "\n")
    (tmp_path / "rct_abstracts" / "dev.jsonl").write_text("")
    found = everything("abstract-sections", tmp_path)
    assert [(example.text, example.labels[0], example.group) for example in found] == [
        ("To see.", "BACKGROUND", "7"),
        ("We looked.", "METHODS", "7"),
        ("Twice.", "METHODS", "7"),
    ]
