"""A CEF event says what the record says under any reader of CEF:0. The reader here is written from the format."""

import json
import re

import pytest
from audit_records import HOSTILE, LONG, ORIGIN, has_raw_danger, paired, record_of, records
from hypothesis import given

from appliance import __version__
from appliance.audit.formats.cef import checkpoint_line, to_line
from appliance.audit.formats.entry import restored


def parse(line):
    """The seven header fields and the extension. Fails where an unescaped character would end a field."""
    text = line.decode()
    assert text.endswith("\n") and text.startswith("CEF:0|")
    header, rest = [], text[6:-1]
    for _ in range(6):
        field = re.match(r"((?:[^|\\]|\\[|\\])*)\|", rest)
        assert field, rest[:60]
        header.append(restored(re.sub(r"\\([|\\])", r"\1", field[1])))
        rest = rest[field.end() :]
    extension, at = {}, 0
    starts = [
        found for found in re.finditer(r"(?:^| )([A-Za-z0-9]+)=", rest) if found.start() == 0 or _bare(rest, found)
    ]
    for found, following in zip(starts, [*starts[1:], None], strict=True):
        assert found[1] not in extension, "a key twice"
        value = rest[found.end() : following.start() if following else len(rest)]
        assert not re.search(r"(?<!\\)(?:\\\\)*=", value), "an unescaped equals sign"
        extension[found[1]] = restored(re.sub(r"\\(.)", lambda e: {"n": "\n", "r": "\r"}.get(e[1], e[1]), value))
        at = found.end()
    assert at
    return header, extension


def _bare(rest, found):
    return rest[found.end() - 2] != "\\"


@given(records())
def test_any_record_is_one_line_and_comes_back(record):
    line = to_line(record)
    assert not has_raw_danger(line.decode()[:-1])
    header, extension = parse(line)
    assert header[:4] == ["Cloister", "Appliance", __version__, record.event]
    assert 0 <= int(header[5]) <= 10
    assert (extension["cn1"], extension["cs1"]) == (str(record.seq), record.leaf.hex())
    assert extension.get("suser", "") == record.actor
    if record.attributes:
        assert set(json.loads(extension["cs6"])) == {paired(name) for name in record.attributes}


@pytest.mark.parametrize("text", HOSTILE + LONG, ids=lambda text: ascii(text[:20]))
def test_hostile_text_comes_back_wherever_it_stands(text):
    header, extension = parse(to_line(record_of(event=text, actor=text, exchange_id=text, attributes={text: text})))
    assert header[3] == text
    assert (extension.get("suser", ""), extension.get("cs2", "")) == (text, text)
    assert json.loads(extension["cs6"]) == {paired(text): paired(text)}


@pytest.mark.parametrize(
    ("said", "severity"),
    [
        ({"outcome": "completed"}, 2),
        ({"outcome": "refused"}, 6),
        ({"outcome": "failed"}, 7),
        ({"event": "audit.paused", "public": True}, 9),
        ({"event": "heartbeat", "public": True}, 0),
    ],
)
def test_severity_table(said, severity):
    assert parse(to_line(record_of(**said)))[0][5] == str(severity)


@pytest.mark.parametrize(
    ("address", "fields"),
    [
        ("10.0.0.7", {"src": "10.0.0.7"}),
        ("2001:db8::1", {"c6a2": "2001:db8::1", "c6a2Label": "source"}),
        ("box", {}),
        (7, {}),
    ],
)
def test_addresses_go_where_siems_look_for_them(address, fields):
    _, extension = parse(to_line(record_of(attributes={"address": address})))
    assert {name: extension[name] for name in extension if name in ("src", "c6a2", "c6a2Label")} == fields


def test_the_last_line_carries_the_checkpoint():
    note = f"{ORIGIN}\n9\nAA=\n\n— k s=\n"
    header, extension = parse(checkpoint_line(ORIGIN, note, 9, 5))
    assert (header[3], extension["msg"], extension["cn1"]) == ("checkpoint", note, "9")
