"""A syslog message says what the record says under any reader of RFC 5424, fits into 8 KiB and never loses its place.

The reader here was written from the RFC and shares nothing with the writer but `restored`, the documented escape.
"""

import base64
import re
from urllib.parse import unquote

import pytest
from audit_records import HOSTILE, LONG, ORIGIN, has_raw_danger, record_of, records
from hypothesis import given

from appliance.audit.formats.entry import restored, value_text
from appliance.audit.formats.syslog import (
    BOM,
    MESSAGE_BYTES_MAX,
    Sender,
    checkpoint_message,
    frame,
    to_line,
    to_message,
)

SENDER = Sender(host="box.clinic.example", enterprise=32473, checkpoint="9:AAAA")
HEADER = re.compile(
    r"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) "
)


def parse(message):
    """Priority, header fields, elements as lists of pairs, and text. Fails where RFC 5424's grammar does."""
    text = message.decode()
    head = HEADER.match(text)
    assert head, text[:80]
    elements, at = {}, head.end()
    while text[at] == "[":
        name = re.compile(r"[!#-<>-\\^-~]{1,32}").match(text, at + 1)
        at, fields = name.end(), []
        while text[at] == " ":
            key = re.compile(r'([!#-<>-\\^-~]{1,32})="').match(text, at + 1)
            at, value = key.end(), ""
            while text[at] != '"':
                assert text[at] != "]", "an unescaped bracket"
                if text[at] == "\\" and text[at + 1] in '"\\]':
                    at += 1
                value += text[at]
                at += 1
            at += 1
            fields.append((key[1], restored(value)))
        assert text[at] == "]"
        at += 1
        elements[name[0]] = fields
    assert text[at] == " " and text[at + 1] == BOM
    return int(head[1]), head.groups()[1:], elements, text[at + 2 :]


def attributes_of(fields):
    found = {}
    for name, value in fields:
        if name == "other":
            encoded, _, value = value.partition("=")
            name = unquote(encoded, errors="surrogatepass")
        found[name] = value
    return found


def said(record):
    fields = {
        "seq": str(record.seq),
        "leaf": record.leaf.hex(),
        "log": record.log_id,
        "record": record.record_id,
        "event": record.event,
        "outcome": record.outcome,
        "actor": record.actor,
        "exchange": record.exchange_id,
        "class": "public" if record.kind == "public" else "exchange",
        "cp": "9:AAAA",
    }
    return {name: value for name, value in fields.items() if value}


@given(records())
def test_any_record_is_one_message_and_comes_back(record):
    message = to_message(record, SENDER)
    assert len(message) <= MESSAGE_BYTES_MAX
    assert not has_raw_danger(message.decode().replace(BOM, "", 1))
    priority, _, elements, _ = parse(message)
    fields = dict(elements["audit@32473"])
    assert 13 * 8 <= priority < 14 * 8
    if "truncated" not in fields:
        assert fields == said(record)
        expected = {name: value_text(value) for name, value in record.attributes.items()}
        assert attributes_of(elements.get("said@32473", [])) == expected


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_hostile_text_comes_back_wherever_it_stands(text):
    record = record_of(event=text, actor=text, exchange_id=text, attributes={text: text, "other": text})
    _, _, elements, _ = parse(to_message(record, SENDER))
    assert dict(elements["audit@32473"]) == said(record)
    assert attributes_of(elements["said@32473"]) == {text: text, "other": text}


@pytest.mark.parametrize("text", LONG, ids=lambda text: ascii(text[:20]))
def test_what_is_too_long_is_dropped_and_said_so_but_never_the_place_in_the_log(text):
    record = record_of(event=text, outcome=text, actor=text, exchange_id=text, attributes={"a": text, "b": text})
    message = to_message(record, SENDER)
    assert len(message) <= MESSAGE_BYTES_MAX
    fields = dict(parse(message)[2]["audit@32473"])
    assert fields == {name: said(record)[name] for name in "seq leaf log record class cp".split()} | {"truncated": "1"}


def test_the_longest_attribute_goes_first_and_no_more_than_needed():
    record = record_of(attributes={"a": "x" * 5000, "b": "y" * 4000, "c": "z"})
    _, _, elements, text = parse(to_message(record, SENDER))
    assert attributes_of(elements["said@32473"]) == {"b": "y" * 4000, "c": "z"}
    assert dict(elements["audit@32473"])["truncated"] == "1"
    assert text == "session.sign_in completed by user:7, record 7"


@pytest.mark.parametrize(("outcome", "severity"), [("completed", 6), ("refused", 4), ("failed", 3)])
def test_facility_is_log_audit_and_severity_follows_the_outcome(outcome, severity):
    assert parse(to_message(record_of(outcome=outcome), SENDER))[0] == 13 * 8 + severity


def test_header_fields_are_printable_and_bounded():
    sender = Sender(host="höst name" * 60, process="")
    _, (_, host, app, process, msgid), _, _ = parse(to_message(record_of(event="ä b" * 30), sender))
    assert (len(host), app, process, len(msgid)) == (255, "cloister", "-", 32)


def test_a_checkpoint_is_a_message_that_carries_the_whole_note():
    note = f"{ORIGIN}\n9\nAAAA\n\n— key sig\n"
    priority, (_, _, _, _, msgid), elements, text = parse(checkpoint_message(ORIGIN, note, 9, 0, SENDER))
    fields = dict(elements["audit@32473"])
    assert (msgid, fields["size"], fields["origin"]) == ("checkpoint", "9", ORIGIN)
    assert base64.b64decode(fields["note"]).decode() == note
    assert (priority, text) == (13 * 8 + 5, "signed checkpoint of 9 records")


def test_framing_counts_octets_and_not_characters():
    message = to_message(record_of(actor="ü"), SENDER)
    assert frame(message) == str(len(message)).encode() + b" " + message
    assert len(message) > len(message.decode())
    assert to_line(record_of(), SENDER).count(b"\n") == 1
