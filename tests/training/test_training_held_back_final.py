"""The final held-back collection: guaranteed is what the development collection guarantees (exact, sorted, disjoint
marks on whole words; the same texts for the same seed; every label; no mark in a clean query; titles outside; only
words of its own lists), and that the two share no template, long line, pattern of organisation or carrier note. On
lists in memory.
"""

import random
from collections import Counter
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.training import evaluation
from appliance.training.held_back import layout
from appliance.training.held_back.collection import COLLECTIONS, DEVELOPMENT, FINAL, carriers_of
from appliance.training.held_back.generator import generate_from, names_from
from appliance.training.held_back.names import LISTED, ORIGINS, NamePool, Pools
from appliance.training.held_back.places import read_organizations
from appliance.training.held_back.scene import Cast, Scene
from appliance.training.held_back.templates import read_queries, read_skeletons, render

LABELS = set(
    """NAME DATE AGE LOCATION ORGANIZATION PHONE FAX EMAIL SSN MRN HEALTH_PLAN ACCOUNT LICENSE VEHICLE DEVICE URL IP
    BIOMETRIC OTHER_ID""".split()
)
SHARED_LINE_MAX = 30
GIVEN = ("Nadezhda", "Tomislav", "Ingeborg", "Casimir", "Philippa", "Renske", "Eluned", "Zoltan", "Hedwig", "Sixten")
FAMILY = ("Quist", "Ferencz", "Brannigan", "Zdunek", "Achterberg", "Lovelock", "Tregarth", "Halvorsen", "Ossian")
PLACES = ("Wexcombe", "Lindal", "Port Arrow")
POOLS = Pools({origin: NamePool(GIVEN, FAMILY) for origin in (*ORIGINS, LISTED)}, PLACES, FAMILY)
CARRIERS = [f"Visit number {number}: denies pain, cough, leg swelling and loss of weight." for number in range(60)]


@pytest.fixture(scope="module")
def cast():
    return Cast.of(POOLS, FINAL.organizations)


@pytest.fixture(scope="module")
def texts(cast):
    return generate_from(cast, CARRIERS, 1, FINAL)


def lines_of(texts):
    return {line.strip() for text in texts for line in text.text.splitlines() if len(line.strip()) > SHARED_LINE_MAX}


def written_lines(collection):
    """The lines of its files, and the passages, headings and endings cut into theirs."""
    files = (collection.skeletons, collection.queries, collection.organizations)
    written = [path.read_text(encoding="utf-8").replace("\\n", "\n") for path in files]
    written.extend((*collection.headings, *collection.endings))
    lines = {line.strip() for text in written for line in text.splitlines()}
    return {line for line in lines if len(line) > SHARED_LINE_MAX}


def test_marks_are_exact_sorted_and_apart(texts):
    for text in texts:
        end = 0
        for span in text.spans:
            assert end <= span.start < span.end <= len(text.text)
            written = text.text[span.start : span.end]
            assert written == written.strip()
            assert span.label in LABELS
            end = span.end


def test_no_mark_touches_a_letter_outside_of_it(texts):
    for text in texts:
        for span in text.spans:
            before, after = span.start - 1, span.end
            aside = {place for stretch in text.optional for place in range(*stretch)}  # the x before an extension
            for place in {before, after} - aside - {-1, len(text.text)}:
                assert not text.text[place].isalnum(), text.text[max(before - 20, 0) : after + 20]


def test_same_seed_same_texts_and_another_seed_others(cast, texts):
    assert generate_from(cast, CARRIERS, 1, FINAL) == texts
    assert generate_from(cast, CARRIERS, 2, FINAL) != texts


def test_every_label_and_kind_of_document_occurs(texts):
    assert {span.label for text in texts for span in text.spans} == LABELS
    skeletons = read_skeletons(FINAL.skeletons)
    kinds = Counter(text.kind for text in texts)
    assert {f"note/{skeleton.kind}" for skeleton in skeletons} < set(kinds)
    assert len({skeleton.kind for skeleton in skeletons}) == len(skeletons) >= 40
    assert kinds["query/clean"] >= 120
    assert kinds["query/identifying"] >= 60
    assert kinds["note/carrier"] == len(carriers_of(FINAL, CARRIERS))


def test_clean_queries_carry_no_mark_and_the_others_do(texts):
    for text in texts:
        if text.kind.startswith("query/"):
            assert bool(text.spans) == (text.kind == "query/identifying"), text.text


def test_no_slot_is_left_open(texts):
    assert not [text.text for text in texts if "{" in text.text or "}" in text.text]


def test_titles_stay_outside_of_names(texts):
    for text in texts:
        for span in text.spans:
            if span.label == "NAME":
                first = text.text[span.start : span.end].split()[0].rstrip(".").casefold()
                assert first not in {"dr", "mr", "mrs", "ms", "miss", "doctor", "pastor"}


def test_names_are_those_of_the_lists_given(texts):
    known = {word.casefold() for word in (*GIVEN, *FAMILY)}
    for text in texts:
        for span in text.spans:
            if span.label == "NAME" and not text.kind.startswith("note/"):
                words = text.text[span.start : span.end].replace(",", " ").replace("-", " ").split()
                long = [word.casefold() for word in words if len(word) > 5 and "'" not in word]
                assert all(word.removeprefix("mc") in known for word in long), words


def test_no_template_writes_a_name_behind_a_title():
    """Only slots are marked: a name in the template itself would stand unmarked."""
    for path in (FINAL.skeletons, FINAL.queries):
        plain = path.read_text(encoding="utf-8").replace("{", " {")
        for title in ("Dr. ", "Dr ", "Mr. ", "Mrs. ", "Ms. "):
            for behind in plain.split(title)[1:]:
                assert not behind[:1].isupper(), behind[:30]


def test_names_of_every_origin_come_in_the_same_passages(cast):
    texts = names_from(cast, 3, FINAL)
    counts = Counter(text.kind for text in texts)
    assert set(counts) == {f"names/{origin}" for origin in ORIGINS}
    assert len(set(counts.values())) == 1
    assert all(text.spans and {span.label for span in text.spans} == {"NAME"} for text in texts)


@settings(max_examples=60, deadline=None)
@given(st.integers(), st.sampled_from([skeleton.body for skeleton in read_skeletons(FINAL.skeletons)]))
def test_no_way_of_typing_moves_a_mark_off_its_words(seed, body):
    chance = random.Random(seed)
    pieces = render(body, Scene(Cast.of(POOLS, FINAL.organizations), chance), chance)
    for change in (layout.all_capitals, layout.all_lower, layout.wrapped, layout.scanned, layout.unpunctuated):
        changed = change(pieces, chance)
        assert [piece.label for piece in changed] == [piece.label for piece in pieces]


def test_collections_share_no_long_line_as_written():
    shared = written_lines(DEVELOPMENT) & written_lines(FINAL)
    assert not shared


def test_collections_share_no_long_line_as_generated(texts):
    development = generate_from(Cast.of(POOLS, DEVELOPMENT.organizations), CARRIERS, 1, DEVELOPMENT)
    shared = lines_of(development) & lines_of(texts)
    assert not shared


def test_collections_share_no_pattern_of_an_organisation():
    of_development, of_final = (read_organizations(each.organizations) for each in (DEVELOPMENT, FINAL))
    assert set(of_development) <= set(of_final)
    assert not {*chain(*of_development.values())} & {*chain(*of_final.values())}


def test_each_carrier_belongs_to_exactly_one_collection():
    parts = [carriers_of(collection, CARRIERS) for collection in COLLECTIONS.values()]
    assert sorted(chain(*parts)) == sorted(CARRIERS)
    assert all(parts)


def test_no_query_is_listed_twice():
    for lines in read_queries(FINAL.queries).values():
        assert len(set(lines)) == len(lines)


def test_final_collection_is_what_is_reported_unless_another_is_asked_for(tmp_path, capsys):
    for options in ([], ["--collection", "final"], ["--collection", "development"]):
        assert evaluation.main(["--data", str(tmp_path), "--patterns-only", *options]) == 1
        assert "holds no folder name_lists" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluation.main(["--data", str(tmp_path), "--patterns-only", "--collection", "another"])
