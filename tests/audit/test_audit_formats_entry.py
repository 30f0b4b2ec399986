"""Whatever a record says, the shared rules write it in one line, visibly, without the beginning of a formula, and
give the original back."""

import json

import pytest
from audit_records import (
    HOSTILE,
    LONG,
    ORIGIN,
    formula_cells,
    has_raw_danger,
    header_of,
    hostile,
    paired,
    record_of,
    view_of,
)
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.formats.entry import (
    ascii_json,
    exported,
    restored,
    severity_of,
    timestamp,
    value_text,
    visible,
)
from appliance.crypto.merkle import leaf_hash


@given(hostile)
def test_visible_text_is_one_visible_line_and_comes_back(text):
    written = visible(text)
    assert restored(written) == text
    assert not has_raw_danger(written)
    assert not formula_cells(written)


@pytest.mark.parametrize("text", HOSTILE + LONG, ids=lambda text: ascii(text[:20]))
def test_every_text_of_the_list_comes_back(text):
    assert restored(visible(text)) == text
    assert restored(visible(text, keep="\r\n")) == text
    assert json.loads(ascii_json({"x": text})) == {"x": paired(text)}


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "Po", "Zs"], exclude_characters="@\\"), max_size=40))
def test_ordinary_text_is_left_alone(text):
    assert visible(text) == text


def test_escapes_are_as_they_are_written_down():
    assert visible("a\nb") == "a\\u{a}b"
    assert visible("-5") == "-5"  # a number is no formula
    assert visible("-5+1") == "\\u{2d}5+1"
    assert visible("=1") == "\\u{3d}1"
    assert visible("x,  @y") == "x,  \\u{40}y"
    assert visible("\\u{a}") == "\\u{5c}u{a}"
    assert visible("C:\\temp") == "C:\\temp"
    assert visible("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("text", ["\\u{00a}", "\\u{110000}"])
def test_an_escape_that_is_never_written_is_refused(text):
    with pytest.raises(ValueError):
        restored(text)


@given(st.dictionaries(hostile, st.one_of(hostile, st.integers(), st.booleans()), max_size=4))
def test_json_is_ascii_without_formulas_and_every_reader_gets_the_original(value):
    line = ascii_json({"first": value, "last": "x"})
    original = {paired(name): paired(said) if isinstance(said, str) else said for name, said in value.items()}
    assert json.loads(line) == {"first": original, "last": "x"}
    assert line.isascii() and not has_raw_danger(line)
    assert not formula_cells(line)


def test_a_header_of_another_record_is_refused():
    with pytest.raises(ValueError, match="not that of record 8"):
        exported(ORIGIN, header_of(7).encode(), view_of(header_of(8)))


def test_a_record_carries_what_proves_it():
    record = record_of(7, content=b"text")
    assert (record.leaf, record.log_id) == (leaf_hash(record.header), record.header[4:12].hex())
    assert record.content_state == "exported"
    assert record_of(7).content_state == "none"
    assert (
        exported(ORIGIN, header_of(content=True).encode(), view_of(header_of(content=True))).content_state == "sealed"
    )
    unreadable = record_of(7, readable=False, event="", outcome="", actor="", attributes={})
    assert unreadable.event == "unreadable"


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_767_225_600_123, "2026-01-01T00:00:00.123Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (2**63 - 1, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_exact_to_the_millisecond(time_ms, text):
    assert timestamp(time_ms) == text


@pytest.mark.parametrize(
    ("said", "severity"),
    [
        ({"outcome": "completed"}, 6),
        ({"outcome": "cancelled"}, 5),
        ({"outcome": "refused"}, 4),
        ({"outcome": "failed"}, 3),
        ({"outcome": "odd"}, 4),
        ({"event": "clock.anomaly"}, 4),
        ({"event": "audit.paused"}, 2),
        ({"readable": False}, 3),
    ],
)
def test_severity_follows_the_event_and_then_the_outcome(said, severity):
    assert severity_of(record_of(**said)) == severity


def test_values_as_text():
    assert [value_text(value) for value in (True, False, 5, -1.5, "x")] == ["true", "false", "5", "-1.5", "x"]
