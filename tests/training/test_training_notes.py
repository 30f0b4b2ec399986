"""The note generator: guaranteed are exact, trimmed, sorted spans for any seed; the same notes for the same seed; every
label and every kind; no word of the held-back side in a name; and enough text that identifies nobody. All on the lists
written for this project (`Sources.tiny`), so neither the data folder nor Faker is needed."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.training.notes import documents, injection, noise, prose, word_lists
from appliance.training.notes.generator import LABELS, Note, Sources, generate_from
from appliance.training.notes.pieces import Piece, assemble, join_names, split
from appliance.training.notes.slots import SLOTS
from appliance.training.partition import partition

SEED = 20


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources.tiny()


@pytest.fixture(scope="module")
def notes(sources: Sources) -> list[Note]:
    return list(generate_from(sources, SEED, 1500))


def test_same_seed_gives_the_same_notes(sources: Sources) -> None:
    assert list(generate_from(sources, 3, 30)) == list(generate_from(sources, 3, 30))
    assert list(generate_from(sources, 3, 30)) != list(generate_from(sources, 4, 30))


def test_a_shorter_run_is_the_beginning_of_a_longer_one(sources: Sources) -> None:
    assert list(generate_from(sources, 5, 40))[:10] == list(generate_from(sources, 5, 10))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_spans_are_in_bounds_sorted_apart_and_trimmed(seed: int) -> None:
    for note in generate_from(Sources.tiny(), seed, 8):
        at = 0
        for span in note.spans:
            covered = note.text[span.start : span.end]
            assert at <= span.start < span.end <= len(note.text)
            assert covered == covered.strip(" \t\n.,;:")
            assert span.label in LABELS
            assert span.score == 1.0
            at = span.end


def test_every_label_and_every_kind_occurs(notes: list[Note]) -> None:
    assert {span.label for note in notes for span in note.spans} == set(LABELS)
    assert {note.kind for note in notes} == {name for name, _, _ in documents.KINDS}


def test_no_name_holds_a_held_back_word(notes: list[Note]) -> None:
    names = [note.text[s.start : s.end] for note in notes for s in note.spans if s.label == "NAME"]
    words = {word for name in names for word in re.findall(r"[^\W\d_]{2,}", name)}
    initials = {word for word in words if len(word) <= 4}  # three capitals of a dictation footer are drawn, not listed
    assert [word for word in words - initials if partition(word) != "train"] == []


def test_a_fifth_of_the_notes_are_short_questions_that_identify_nobody(notes: list[Note]) -> None:
    kinds = Counter(note.kind for note in notes)
    assert kinds["query_clean"] >= 0.2 * len(notes)
    assert all(not note.spans for note in notes if note.kind in ("query_clean", "abstract", "negative_note"))


def test_a_third_of_all_lines_identify_nobody(notes: list[Note]) -> None:
    clean = total = 0
    for note in notes:
        for match in re.finditer(r"[^.\n]+", note.text):
            total += 1
            clean += all(span.end <= match.start() or span.start >= match.end() for span in note.spans)
    assert clean >= 0.3 * total


def test_every_slot_of_every_template_can_be_filled() -> None:
    slots = {
        slot
        for table in (word_lists.templates(), word_lists.queries())
        for lines in table.values()
        for line in lines
        for slot in re.findall(r"\{(\w+)\}", line)
    }
    assert slots <= set(SLOTS) | set(word_lists.vocabulary())


def test_there_are_at_least_250_templates() -> None:
    assert sum(len(lines) for lines in word_lists.templates().values()) >= 250


def test_splitting_undoes_assembling(notes: list[Note]) -> None:
    for note in notes[:100]:
        assert assemble(split(note.text, note.spans)) == (note.text, note.spans)


def test_names_side_by_side_are_one_and_names_in_a_list_are_not() -> None:
    ada, obi = Piece("Ada", "NAME"), Piece("Obi", "NAME")
    assert join_names([ada, Piece(" "), obi]) == [Piece("Ada Obi", "NAME")]
    assert join_names([ada, Piece(", "), obi]) == [ada, Piece(", "), obi]


def test_surrounding_punctuation_is_outside_a_span() -> None:
    text, spans = assemble([Piece("By "), Piece("John Okafor Jr.", "NAME"), Piece(" today")])
    assert [text[s.start : s.end] for s in spans] == ["John Okafor Jr"]


def test_noise_keeps_the_label_of_every_piece() -> None:
    pieces = [Piece("seen by Dr. "), Piece("Adaeze Eze", "NAME"), Piece(" on "), Piece("3 March 2020", "DATE")]
    for change, _share in noise._CHANGES:
        assert [label for _, label in change(pieces, random.Random(1))] == [None, "NAME", None, "DATE"]


class TestCarriers:
    """Names, dates and great ages in other people's prose become slots; what is not understood goes."""

    known = prose.Lexicon.build(
        ["he she is a year old lives in was seen by on the patient has pain woman"] * 25, ["paris"]
    )

    def test_titled_names_and_dates_become_slots(self) -> None:
        cleaned = prose.clean_carrier("He was seen by Dr. Kumar on 10/13/92.", self.known)
        assert cleaned == "He was seen by Dr. {doctor} on {date}."

    def test_a_sentence_with_an_unknown_capitalised_word_is_dropped(self) -> None:
        assert prose.clean_carrier("He has pain. He lives in Zanesville.", self.known) == "He has pain."

    def test_the_known_patient_becomes_a_slot(self) -> None:
        marked = prose.mark_patient("Ada Obi has pain. Ms. Obi is old.", "ada", "obi")
        assert prose.clean_carrier(marked, self.known) == "{patient} has pain. Ms. {patient_last} is old."

    def test_ages_of_ninety_and_over_become_slots_and_younger_stay(self) -> None:
        cleaned = prose.clean_carrier("She is a 93-year-old woman.\nHe is a 73-year-old.", self.known)
        assert cleaned == "She is a {age90}-year-old woman.\nHe is a 73-year-old."

    @pytest.mark.parametrize("query", ["is paris old", "seen on march 3rd", "pain 2019-03"])
    def test_a_query_with_a_name_or_a_date_is_not_clean(self, query: str) -> None:
        assert not prose.clean_query(query, self.known)


def test_prose_without_room_for_identifiers_stays_as_it_is() -> None:
    prose_without = "Lungs are clear to auscultation. No edema."
    assert injection.inject(prose_without, random.Random(1), share=1.0) == prose_without


def test_every_slot_put_into_prose_can_be_filled() -> None:
    prose_with = "The patient saw her cardiologist last week. Her daughter works as a nurse. He is a 50-year-old."
    for seed in range(50):
        slotted = injection.inject(prose_with, random.Random(seed), share=1.0)
        assert slotted != prose_with
        assert set(re.findall(r"\{(\w+)\}", slotted)) <= set(SLOTS)


def test_a_title_does_not_end_a_sentence() -> None:
    assert prose.sentences("Seen by Dr. {doctor} today. He is well.") == ["Seen by Dr. {doctor} today.", "He is well."]


def test_a_title_is_not_given_twice_to_a_known_patient() -> None:
    assert prose.mark_patient("Ms. Ada Obi is here.", "Ada", "Obi") == "Ms. {patient_full} is here."
