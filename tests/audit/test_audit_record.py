"""What was sealed opens again, whole and only in its place; nothing about it shows but a padded length.

The keys are those of a real keystore. Contents and attributes are drawn by hypothesis.
"""

import dataclasses
import json
import secrets

import msgspec
import pytest
from audit_home import an_event
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit.clock import ClockReading
from appliance.audit.drafts import RecordMalformed, check_record, sealed_header
from appliance.audit.header import RecordHeader
from appliance.audit.keystore import ScopeKey
from appliance.audit.protocol import SealedRecord
from appliance.audit.record import (
    ENVELOPE_BYTES_MAX,
    Moment,
    RecordClass,
    SealingKeys,
    encode_envelope,
    month_of,
    open_content,
    open_envelope,
    place_of,
    seal,
)
from appliance.errors import DecryptionFailed, InputNotText, InputTooLong

MOMENT = Moment(ClockReading(1_767_225_600_000, 512), "boot")
KEYS = SealingKeys(
    b"log-id-8",
    RecordClass.EXCHANGE,
    month_of(MOMENT.clock.wall_ms),
    ScopeKey(secrets.token_bytes(16), secrets.token_bytes(32)),
    ScopeKey(secrets.token_bytes(16), secrets.token_bytes(32)),
)
ATTRIBUTES = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.integers(-(2**53), 2**53) | st.booleans(),
    max_size=8,
)


def sealed(event):
    record = seal(event, KEYS, MOMENT)
    check_record(record)
    return record, RecordHeader.decode(sealed_header(record, KEYS.log_id, 3, 4).encode())


@settings(max_examples=50, deadline=None)
@given(ATTRIBUTES, st.none() | st.binary(max_size=3000))
def test_what_was_sealed_opens_again(attributes, content):
    event = dataclasses.replace(an_event(content=content), attributes=attributes)
    record, header = sealed(event)
    envelope = open_envelope(header, record.env_ct, KEYS.env.key)
    assert (envelope.event, envelope.actor, envelope.outcome) == (event.event, event.actor, "accepted")
    assert envelope.attributes == attributes
    assert (envelope.wall_ms, envelope.monotonic_ms, envelope.boot_id) == (1_767_225_600_000, 512, "boot")
    if content is None:
        assert record.con_ct is None
    else:
        assert open_content(header, record.con_ct, KEYS.con.key) == content


@pytest.mark.parametrize("field", ["record_id", "log_id", "env_key", "con_scope", "month", "record_class"])
def test_a_part_that_is_moved_elsewhere_does_not_open(field):
    record, header = sealed(an_event(content=b"text"))
    value = getattr(header, field)
    moved = dataclasses.replace(
        header, **{field: value + 1 if isinstance(value, int) else bytes(len(value) - 1) + b"x"}
    )
    if field != "con_scope":
        with pytest.raises(DecryptionFailed):
            open_envelope(moved, record.env_ct, KEYS.env.key)
    if field != "env_key":
        with pytest.raises(DecryptionFailed):
            open_content(moved, record.con_ct, KEYS.con.key)


def test_an_envelope_does_not_pass_for_a_content():
    record, header = sealed(an_event(content=b"text"))
    same = dataclasses.replace(header, con_scope=header.env_key, con_nonce=header.env_nonce)
    with pytest.raises(DecryptionFailed):
        open_content(same, record.env_ct, KEYS.env.key)


def test_sealing_twice_shares_no_nonce_and_no_ciphertext():
    event = an_event(content=b"text")
    first, second = seal(event, KEYS, MOMENT), seal(event, KEYS, MOMENT)
    nonces = {first.env_nonce, first.con_nonce, second.env_nonce, second.con_nonce}
    assert len(nonces) == 4 and first.env_ct != second.env_ct


def test_lengths_say_only_the_bucket():
    lengths = {len(sealed(an_event(content=bytes(size)))[0].con_ct) for size in range(0, 255, 17)}
    assert lengths == {256 + 16}


def test_the_envelope_is_canonical_json():
    event = dataclasses.replace(an_event(), attributes={"z": 1, "ä": "ß", "a": True})
    encoded = encode_envelope(event, MOMENT)
    assert encoded == json.dumps(json.loads(encoded), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8"
    )
    assert "ä".encode() in encoded


def test_attributes_that_cannot_be_recorded_are_refused():
    with pytest.raises(InputNotText):
        encode_envelope(dataclasses.replace(an_event(), attributes={"a": "\ud800"}), MOMENT)
    with pytest.raises(InputTooLong):
        encode_envelope(dataclasses.replace(an_event(), attributes={"a": "x" * ENVELOPE_BYTES_MAX}), MOMENT)


def test_the_month_counts_from_1970_and_the_class_from_the_exchange():
    assert (month_of(0), month_of(31 * 86_400_000), month_of(-5)) == (0, 1, 0)
    assert place_of(an_event(), MOMENT) == (RecordClass.EXCHANGE, 56 * 12)
    assert place_of(dataclasses.replace(an_event(), exchange_id=""), MOMENT)[0] == RecordClass.ADMINISTRATION


@pytest.mark.parametrize(
    "wrong",
    [
        {"env_ct": b""},
        {"env_key": bytes(16)},
        {"con_ct": b""},
        {"con_ct": None},
        {"con_scope": bytes(16)},
        {"con_nonce": bytes(24)},
        {"record_id": b"short"},
        {"month": 70_000},
        {"tokens": (b"short",)},
        {"tokens": tuple(bytes([i]) * 12 for i in range(7))},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_record_that_no_header_can_describe_is_refused_before_the_writer_sees_it(wrong):
    whole = SealedRecord(b"r" * 16, 1, 2, b"e" * 16, b"c" * 16, b"n" * 24, b"m" * 24, b"sealed", b"sealed")
    check_record(whole)
    with pytest.raises(RecordMalformed):
        check_record(msgspec.structs.replace(whole, **wrong))
