"""Redaction: every character outside the spans stays exactly as it was and the offsets prove it, for any Unicode text
and any spans; labels and surrogates are consistent per person and value; no surrogate equals its original; dates all
move by one offset and keep their format; the seed decides everything.
"""

import re
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import InvalidRequest, UnknownOption
from appliance.specialists.deid.persons import link
from appliance.specialists.deid.redaction import MASK, STYLES, redact
from appliance.specialists.deid.surrogate_dates import shift, writes_day_first
from appliance.types import Span

SEED = bytes(range(32))
LABELS = ["NAME", "DATE", "AGE", "LOCATION", "ORGANIZATION", "PHONE", "EMAIL", "SSN", "MRN", "URL", "IP", "ACCOUNT"]


def marked(template):
    """A text and its spans from "Seen by {NAME:Ana Lima}."."""
    text, spans, place = "", [], 0
    for match in re.finditer(r"\{([A-Z_]+):([^}]+)\}", template):
        text += template[place : match.start()]
        spans.append(Span(len(text), len(text) + len(match[2]), match[1], 1.0))
        text += match[2]
        place = match.end()
    return text + template[place:], tuple(spans)


def replaced(template, style, seed=SEED):
    text, spans = marked(template)
    return [replacement.replacement for replacement in redact(text, spans, style, seed).replacements]


@st.composite
def texts_with_spans(draw):
    text = draw(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=80))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=10)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    return text, [Span(start, end, draw(st.sampled_from(LABELS)), 1.0) for start, end in pairs]


@given(texts_with_spans(), st.sampled_from(STYLES), st.binary(min_size=16, max_size=32))
@settings(max_examples=300, deadline=None)
def test_everything_outside_the_spans_is_unchanged_and_offsets_are_exact(case, style, seed):
    text, spans = case
    redaction = redact(text, spans, style, seed)
    assert [(done.start, done.end) for done in redaction.replacements] == [(span.start, span.end) for span in spans]
    old = new = 0
    for done in redaction.replacements:
        assert redaction.text[new : done.new_start] == text[old : done.start]
        assert redaction.text[done.new_start : done.new_end] == done.replacement
        old, new = done.end, done.new_end
    assert redaction.text[new:] == text[old:]


@given(texts_with_spans(), st.binary(min_size=16, max_size=32))
@settings(max_examples=300, deadline=None)
def test_no_surrogate_equals_its_original_and_the_seed_decides(case, seed):
    text, spans = case
    redaction = redact(text, spans, "surrogate", seed)
    assert redaction == redact(text, list(reversed(spans)), "surrogate", seed)
    for done in redaction.replacements:
        assert done.replacement.casefold() != text[done.start : done.end].casefold()


@given(texts_with_spans())
@settings(max_examples=100, deadline=None)
def test_mask_keeps_length_and_line_breaks(case):
    text, spans = case
    masked = redact(text, spans, "mask").text
    assert len(masked) == len(text)
    assert masked.splitlines(keepends=True)[:0] == []
    assert [len(line) for line in masked.splitlines()] == [len(line) for line in text.splitlines()]


def test_one_person_has_one_number_however_the_name_is_written():
    writings = ("O'NEILL, MARGARET J.", "Margaret O’Neill", "O'Neill", "M. O'Neill", "Margaret", "M.O.")
    template = "; ".join(f"{{NAME:{name}}}" for name in writings)
    assert set(replaced(template, "label")) == {"[NAME 1]"}


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (("Margaret O'Neill", "John O'Neill", "O'Neill", "Margaret", "O'Neill"), (0, 1, 1, 0, 0)),
        (("Okafor", "Ngozi Okafor, MD", "OKAFOR NGOZI"), (0, 0, 0)),
        (("Ana Lima", "Ana Costa"), (0, 1)),
        (("José Núñez", "JOSE NUNEZ"), (0, 0)),
        (("Ruth Roe", "Doe", "doe"), (0, 1, 1)),
        (("김민준", "김민준", "이서연"), (0, 0, 1)),
        (("", "-", "-"), (0, 1, 2)),
    ],
)
def test_mentions_are_linked_to_persons(names, numbers):
    assert link(names) == numbers


def test_same_value_has_the_same_number_whatever_its_separators():
    assert replaced("{PHONE:617-555-0123} {PHONE:(617) 555 0123} {PHONE:617-555-0199}", "label") == [
        "[PHONE 1]",
        "[PHONE 1]",
        "[PHONE 2]",
    ]


def test_surrogate_name_is_consistent_in_parts_case_and_order():
    last_first, whole, family, initial = replaced(
        "{NAME:O'NEILL, MARGARET} {NAME:Margaret O'Neill} {NAME:O'Neill} {NAME:M. O'Neill}", "surrogate"
    )
    given_name, family_name = whole.split()
    assert last_first == f"{family_name}, {given_name}".upper()
    assert family == family_name
    assert initial.endswith(f". {family_name}")


def test_family_shares_a_surrogate_surname_and_surrogates_differ_between_people():
    mother, son, other = replaced("{NAME:Ana Lima} {NAME:Joao Lima} {NAME:Ngozi Okafor}", "surrogate")
    assert mother.split()[1] == son.split()[1] != other.split()[1]
    assert mother.split()[0] != son.split()[0]


def test_another_seed_gives_other_surrogates():
    template = "{NAME:Ana Lima} {MRN:12345678} {DATE:03/14/2019} {LOCATION:Salem}"
    assert replaced(template, "surrogate", bytes(32)) != replaced(template, "surrogate", SEED)


@pytest.mark.parametrize(
    ("label", "original", "shape"),
    [
        ("MRN", "A-12345", r"[A-Z]-\d{5}"),
        ("SSN", "078-05-1120", r"9\d{2}-\d{2}-\d{4}"),
        ("SSN", "XXX-XX-1120", r"XXX-XX-\d{4}"),
        ("PHONE", "(617) 867-5309 x12", r"\([2-9]\d{2}\) 555-01\d{2} x\d{2}"),
        ("PHONE", "1-617-867-5309", r"1-[2-9]\d{2}-555-01\d{2}"),
        ("PHONE", "+44 20 7946 0958", r"\+44 \d{2} \d{4} \d{4}"),
        ("EMAIL", "m.oneill@mail.com", r"[a-z.]+@example\.org"),
        ("URL", "https://x.org/a", r"https://www\.example\.org/[0-9a-f]{8}"),
        ("IP", "10.0.0.1", r"(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d{1,3}"),
        ("IP", "fe80::1:2", r"2001:db8::[0-9a-f]{4}:[0-9a-f]{4}"),
        ("LOCATION", "12 Elm Street, Apt 4B, Salem, MA 01970", r"\d{2} [\w ]+ Street, Apt \dB, [\w ]+, MA \d{5}"),
        ("LOCATION", "SALEM", r"[A-Z ]+"),
        ("LOCATION", "01970-1234", r"\d{5}-\d{4}"),
        ("LOCATION", "P.O. Box 123", r"P\.O\. Box \d{3}"),
        ("ORGANIZATION", "Salem General Hospital", r"[\w ]+ General Hospital"),
        ("AGE", "93", r"9\d"),
        ("BIOMETRIC", "IMG_20391.jpg", r"[A-Z]{3}_\d{5}\.jpg"),
    ],
)
def test_surrogate_keeps_the_format(label, original, shape):
    (made,) = replaced(f"{{{label}:{original}}}", "surrogate")
    assert re.fullmatch(shape, made), made


@pytest.mark.parametrize(
    ("written", "moved"),
    [
        ("2019-03-14", "2019-01-31"),
        ("2019-03-14T10:22:00Z", "2019-01-31T10:22:00Z"),
        ("3/14/1931", "1/31/1931"),
        ("03/14/31", "01/31/31"),
        ("14.03.1931", "31.01.1931"),
        ("14 March 1931", "31 January 1931"),
        ("March 14, 1931", "January 31, 1931"),
        ("MARCH 14TH, 1931", "JANUARY 31ST, 1931"),
        ("Mar. 14", "Jan. 31"),
        ("14-Mar-31", "31-Jan-31"),
        ("14MAR1931", "31JAN1931"),
        ("3/14", "1/31"),
        ("the 4th of March", "the 21st of January"),
        ("Monday, March 4", "Monday, January 21"),
        ("03/2019", "02/2019"),
        ("March 30-31", "February 16-17"),
        ("3/4-3/7/19", "1/21-1/24/19"),
        ("193103141022", "193101311022"),
        ("in March", "in February"),
        ("29 February", "18 January"),
    ],
)
def test_date_moves_six_weeks_back_in_its_own_format(written, moved):
    assert shift(written, -42, day_first=False) == moved


@given(st.dates(date(1900, 1, 1), date(2034, 12, 31)), st.binary(min_size=16, max_size=16))
@settings(max_examples=100, deadline=None)
def test_every_date_of_a_document_moves_by_the_same_whole_weeks(day, seed):
    template = f"{{DATE:{day.isoformat()}}} {{DATE:{day:%m/%d/%Y}}} {{DATE:{day:%d %B %Y}}} {{DATE:2020-01-31}}"
    iso, american, textual, anchor = replaced(template, "surrogate", seed)
    moved = date.fromisoformat(iso)
    assert american == f"{moved:%m/%d/%Y}"
    assert textual == f"{moved.day} {moved:%B %Y}".replace(f"{moved.day}", textual.split()[0], 1)
    assert moved - day == date.fromisoformat(anchor) - date(2020, 1, 31)
    assert (moved - day).days % 7 == 0


def test_day_is_first_where_the_document_writes_it_so():
    assert writes_day_first(["14/03/2019", "05/04/2019"])
    assert not writes_day_first(["03/14/2019", "05/04/2019"])
    assert shift("05/04/2019", -42, day_first=True) == "22/02/2019"


def test_unreadable_date_falls_back_to_the_label():
    assert replaced("{DATE:soon after}", "surrogate") == ["[DATE 1]"]


@pytest.mark.parametrize("spans", [[(0, 0)], [(3, 99)], [(-1, 2)], [(0, 3), (2, 5)]])
def test_spans_that_do_not_fit_are_refused(spans):
    with pytest.raises(InvalidRequest):
        redact("some text", [Span(start, end, "NAME", 1.0) for start, end in spans], "label")


def test_unknown_style_is_refused_by_name():
    with pytest.raises(UnknownOption, match="blur"):
        redact("text", [], "blur")


def test_surrogates_without_a_proper_seed_are_refused():
    with pytest.raises(ValueError, match="seed"):
        redact("Ana", [Span(0, 3, "NAME", 1.0)], "surrogate", b"short")


def test_text_without_spans_is_returned_as_it_is():
    for style in STYLES:
        assert redact("e\u0301 🙂 שלום", [], style, SEED).text == "e\u0301 🙂 שלום"


def test_mask_covers_an_emoji_with_one_character():
    assert redact("a🙂b", [Span(1, 2, "NAME", 1.0)], "mask").text == f"a{MASK}b"
