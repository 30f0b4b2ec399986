"""A JSON line is one line of ASCII, gives back the record that was written, and agrees with the header it carries."""

import json

import pytest
from audit_records import HOSTILE, LONG, ORIGIN, formula_cells, has_raw_danger, paired, record_of, records
from hypothesis import given

from appliance.audit.formats.jsonl import first_line, last_line, parse_line, to_line

ORDER = (
    "seq record_id time kind class event outcome actor exchange_id attributes readable content_state leaf header"
).split()


@given(records())
def test_any_record_is_one_clean_line_that_any_json_reader_understands(record):
    line = to_line(record).decode("ascii")
    assert line.endswith("\n") and line.count("\n") == 1
    assert not has_raw_danger(line[:-1]) and not formula_cells(line)
    said = json.loads(line)
    assert list(said) == ORDER
    assert (said["event"], said["actor"]) == (paired(record.event), paired(record.actor))


@pytest.mark.parametrize("text", HOSTILE + LONG, ids=lambda text: ascii(text[:20]))
def test_hostile_text_comes_back_wherever_it_stands(text):
    record = record_of(actor=text, event=text, exchange_id=text, attributes={text: text, "n": 5, "b": True, "f": 1.5})
    assert parse_line(to_line(record), ORIGIN) == record


def test_contents_are_text_where_they_can_be_and_base64_otherwise():
    for content in (b"a note\n=1", "ü\u202e".encode(), b"\xff\xfe\x00", b""):
        record = record_of(content=content)
        said = json.loads(to_line(record))
        assert ("content" in said) is (content != b"\xff\xfe\x00")
        assert parse_line(to_line(record), ORIGIN).content == content
    assert "content" not in json.loads(to_line(record_of()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seq":7', b'"seq":8'),
        (b'"class":"exchange"', b'"class":"administration"'),
        (b".123Z", b".124Z"),
        (b'"leaf":"', b'"leaf":"00'),
        (b'"event"', b'"events"'),
        (b'{"seq"', b'{ "seq"'),
        (b'"header":"41', b'"header":"42'),
        (b"{", b"["),
    ],
)
def test_a_line_that_contradicts_its_header_is_refused(old, new):
    line = to_line(record_of())
    assert old in line
    with pytest.raises(ValueError):
        parse_line(line.replace(old, new, 1), ORIGIN)


@pytest.mark.parametrize("line", [b"", b"null\n", b"[]\n", b"5\n", b'"x"\n', b"{}\n", b"[" * 100_000, b"\xff\n"])
def test_what_is_no_record_is_refused(line):
    with pytest.raises(ValueError):
        parse_line(line, ORIGIN)


def test_first_and_last_line_say_what_the_file_is():
    assert json.loads(first_line(ORIGIN, "note\n", 0, None, content=False)) == {
        "format": "cloister-audit-jsonl/1",
        "origin": ORIGIN,
        "checkpoint": "note\n",
        "from": "1970-01-01T00:00:00.000Z",
        "to": None,
        "content": False,
    }
    assert last_line(2, 7, 8) == b'{"count":2,"first_seq":7,"last_seq":8}\n'
