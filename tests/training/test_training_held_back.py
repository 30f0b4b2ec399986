"""The held-back texts: guaranteed are exact, sorted, disjoint marks that hold no stray blank; the same texts for the
same seed; words only from the held-back side; check digits that pass; every label and kind; no mark in a clean query;
and that no way of typing moves a mark off its words. All on lists in memory: neither the data folder nor Faker is
needed.
"""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import UnknownOption
from appliance.specialists.deid import checksums
from appliance.training.held_back import layout
from appliance.training.held_back.carriers import is_clean, read_carriers
from appliance.training.held_back.collection import DEVELOPMENT
from appliance.training.held_back.generator import generate_from, names_from
from appliance.training.held_back.labelled import OPTIONAL, Piece, join
from appliance.training.held_back.names import LISTED, ORIGINS, NamePool, Pools, held_back, without_accents
from appliance.training.held_back.numbers import read_numbers
from appliance.training.held_back.scene import Cast, Scene
from appliance.training.held_back.templates import read_queries, read_skeletons, render
from appliance.training.partition import partition

LABELS = set(
    """NAME DATE AGE LOCATION ORGANIZATION PHONE FAX EMAIL SSN MRN HEALTH_PLAN ACCOUNT LICENSE VEHICLE DEVICE URL IP
    BIOMETRIC OTHER_ID""".split()
)
GIVEN = ("Orsolya", "Béla", "Anneke", "Tuva", "Jarmila")
FAMILY = ("Quist", "Ferencz", "Brannigan", "Løvold", "Zdunek", "Achterberg")
POOLS = Pools(
    people={origin: NamePool(GIVEN, FAMILY) for origin in (*ORIGINS, LISTED)},
    places=("Wexcombe", "Lindal", "Port Arrow"),
    surnames=FAMILY,
)
CARRIERS = ["The patient denies chest pain.", "No fever, chills or cough since discharge."]


@pytest.fixture(scope="module")
def cast():
    return Cast.of(POOLS)


@pytest.fixture(scope="module")
def texts(cast):
    return generate_from(cast, CARRIERS, seed=1)


def test_marks_are_exact_sorted_and_apart(texts):
    for text in texts:
        end = 0
        for span in text.spans:
            assert end <= span.start < span.end <= len(text.text)
            written = text.text[span.start : span.end]
            assert written == written.strip()
            assert span.label in LABELS
            end = span.end


def test_same_seed_same_texts_and_another_seed_others(cast, texts):
    assert generate_from(cast, CARRIERS, seed=1) == texts
    assert generate_from(cast, CARRIERS, seed=2) != texts


def test_every_label_and_kind_of_document_occurs(texts):
    assert {span.label for text in texts for span in text.spans} == LABELS
    kinds = Counter(text.kind for text in texts)
    assert {f"note/{skeleton.kind}" for skeleton in read_skeletons(DEVELOPMENT.skeletons)} < set(kinds)
    assert kinds["query/clean"] >= 150
    assert kinds["query/identifying"] >= 80
    assert len(read_skeletons(DEVELOPMENT.skeletons)) >= 45


def test_clean_queries_carry_no_mark_and_the_others_do(texts):
    for text in texts:
        if text.kind.startswith("query/"):
            assert bool(text.spans) == (text.kind == "query/identifying"), text.text


def test_no_slot_or_choice_is_left_open(texts):
    for text in texts:
        assert "{" not in text.text
        assert "}" not in text.text


def test_titles_stay_outside_of_names(texts):
    for text in texts:
        for span in text.spans:
            if span.label == "NAME":
                first = text.text[span.start : span.end].split()[0].rstrip(".").casefold()
                assert first not in {"dr", "mr", "mrs", "ms", "miss", "doctor"}


def test_a_value_is_the_same_wherever_its_slot_stands(cast):
    scene = Scene(cast, random.Random(4))
    assert scene.value("mrn") == scene.value("mrn")
    assert scene.value("pt.full").text.endswith(scene.value("pt.last").text)


def test_ages_are_marked_from_ninety_on_only(cast):
    for seed in range(50):
        scene = Scene(cast, random.Random(seed))
        old, age = scene.value("pt.old"), scene.value("pt.age")
        assert old.label == "AGE"
        assert int(old.text) >= 90
        assert age.label is None
        assert int(age.text) < 90


def test_unknown_slot_is_named(cast):
    with pytest.raises(UnknownOption, match="nonsense"):
        Scene(cast, random.Random(1)).value("nonsense")


@pytest.mark.parametrize(
    ("slot", "check"),
    [
        ("npi", checksums.is_npi),
        ("dea", checksums.is_dea),
        ("vin", checksums.is_vin),
        ("iban", checksums.is_iban),
        ("card", checksums.is_card),
        ("routing", checksums.is_routing_number),
        ("nhs", checksums.is_nhs_number),
    ],
)
def test_numbers_with_check_digits_pass_the_check(slot, check):
    chance = random.Random(slot)
    _, draw = read_numbers()[slot]
    assert all(check(draw(chance)) for _ in range(40))


def test_names_of_every_origin_come_in_the_same_passages(cast):
    texts = names_from(cast, seed=3)
    counts = Counter(text.kind for text in texts)
    assert set(counts) == {f"names/{origin}" for origin in ORIGINS}
    assert len(set(counts.values())) == 1
    assert all(text.spans and {span.label for span in text.spans} == {"NAME"} for text in texts)


@settings(max_examples=60, deadline=None)
@given(st.integers(), st.sampled_from([skeleton.body for skeleton in read_skeletons(DEVELOPMENT.skeletons)]))
def test_no_way_of_typing_moves_a_mark_off_its_words(seed, body):
    chance = random.Random(seed)
    pieces = render(body, Scene(Cast.of(POOLS), chance), chance)
    for change in (layout.all_capitals, layout.all_lower, layout.wrapped, layout.scanned, layout.unpunctuated):
        changed = change(pieces, chance)
        assert [piece.label for piece in changed] == [piece.label for piece in pieces]
        for before, after in zip(pieces, changed, strict=True):
            if before.label is not None:
                assert "".join(after.text.split()).casefold() == "".join(before.text.split()).casefold()


def test_optional_pieces_are_kept_apart_from_marks():
    text = join([Piece("Lindal", "LOCATION"), Piece(", "), Piece("OH", OPTIONAL)], "note/x")
    assert [text.text[span.start : span.end] for span in text.spans] == ["Lindal"]
    assert text.optional == ((8, 10),)


def test_held_back_keeps_a_word_only_if_each_of_its_spellings_and_parts_is_held_back():
    words = [f"Xa{first}{second}ö" for first in "bcdfgklmnprst" for second in "aeiou"]
    kept = held_back([*words, *(f"{word}-{other}" for word in words[:8] for other in words[:8]), "李", "x"])
    assert kept
    for word in kept:
        assert partition(word) == partition(without_accents(word)) == "held_back"
        assert all(partition(without_accents(part)) == "held_back" for part in word.split("-"))


@pytest.mark.parametrize(
    "text",
    [
        "She was seen by Dr. Kumar last week and is doing very well on the present treatment.",
        "Status post reduction 10/10/2020, with a lump along the left side noticed since then.",
        "He fell at the ABC Store and received physical therapy for one to two visits after that.",
        "The patient saw Ruth about the lump and was advised to perform massages every evening.",
        "Since August the patient has had two more spells of dizziness on standing, no syncope.",
    ],
)
def test_carrier_that_may_hold_an_identifier_is_not_used(text):
    assert not is_clean(text)


def test_carriers_are_taken_from_the_held_back_rows_alone(tmp_path):
    folder = tmp_path / "clinical_note_carriers"
    folder.mkdir()
    sentence = "The patient denies chest pain, shortness of breath and leg swelling since visit number"
    rows = {str(number): f"{sentence} {number}." for number in range(60)}
    for name, key, column in (
        ("aci_train.csv", "encounter_id", "note"),
        ("mts_dialog_train.csv", "ID", "section_text"),
        ("mts_dialog_valid.csv", "ID", "section_text"),
    ):
        lines = [f"{key},{column}", *(f'{number},"{text}"' for number, text in rows.items())]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    wanted = [text for number, text in rows.items() if partition(number) == "held_back"]
    assert read_carriers(tmp_path) == wanted


def test_file_without_a_kind_line_is_refused(tmp_path):
    (tmp_path / "broken.txt").write_text("no kind here")
    with pytest.raises(UnknownOption, match="=== kind"):
        read_skeletons(tmp_path / "broken.txt")


def test_no_query_is_listed_twice():
    for lines in read_queries(DEVELOPMENT.queries).values():
        assert len(set(lines)) == len(lines)
