"""Control records say one thing in one form, and reader and verifier agree on every body.

A body that is not canonical authorises nothing, so a tombstone cannot mean one thing here and another there.
"""

import json

import pytest
from audit_vectors import load
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import auditverify, control
from appliance.audit.header import NUMBER_MAX

VECTORS = load("control")
EVERY_BODY = [
    control.genesis(bytes(8), "clinic.example/audit/e1", bytes(32), "0.1.0"),
    control.started("0.1.0", ["the clock is not synchronised", "größe"]),
    control.started("0.1.0", []),
    control.stopped(),
    control.heartbeat(),
    control.clock_anomaly(-3_600_000),
    control.key_rotation(bytes(32), b"\x01" * 32, "scheduled"),
    control.backup_made("nightly", 1042, 1_798_761_600_000),
    control.tombstone("content", [(5, 9), (12, 12)], "retention", "a,b"),
    control.epoch_begun("origin\n5\nroot\n\n— origin sig\n", 6, 9),
]


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["fields"]["event"])
def test_vectors_parse_to_their_fields(case):
    assert control.parse_control(case["body"].encode()) == case["fields"]
    assert auditverify.parse_control(case["body"].encode()) == case["fields"]


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["why"])
def test_other_forms_are_refused(case):
    with pytest.raises(ValueError):
        control.parse_control(case["body"].encode())
    assert (auditverify.parse_control(case["body"].encode()) or {}).get("event") in (None, 1)


@pytest.mark.parametrize("body", EVERY_BODY, ids=lambda body: json.loads(body)["event"])
def test_every_body_that_is_made_parses_for_both(body):
    fields = control.parse_control(body)
    assert fields == json.loads(body) == auditverify.parse_control(body)
    assert fields["v"] == 1


def test_the_genesis_names_log_and_key():
    fields = control.parse_control(EVERY_BODY[0])
    assert (fields["log_id"], fields["origin"], fields["public_key"]) == (
        "00" * 8,
        "clinic.example/audit/e1",
        "00" * 32,
    )


@given(st.binary(max_size=200))
def test_noise_has_no_second_form(noise):
    try:
        fields = control.parse_control(noise)
    except ValueError:
        return
    assert json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == noise


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b" " * 70_000, b'{"event":"x","n":' + b"9" * 5000 + b',"v":1}', b"\xff"]
)
def test_hostile_bodies_are_refused(body):
    with pytest.raises(ValueError):
        control.parse_control(body)
    assert auditverify.parse_control(body) is None


def test_a_body_beyond_its_bound_is_not_made():
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        control.started("0.1.0", ["x" * 70_000])


@pytest.mark.parametrize("case", VECTORS["ranges"], ids=lambda case: case["text"])
def test_ranges_have_one_form(case):
    ranges = [tuple(pair) for pair in case["ranges"]]
    assert control.format_ranges(ranges) == case["text"]
    assert control.parse_ranges(case["text"]) == ranges == auditverify.parse_ranges(case["text"])


@pytest.mark.parametrize("text", VECTORS["invalid_ranges"])
def test_other_ranges_name_nothing(text):
    with pytest.raises(ValueError):
        control.parse_ranges(text)
    assert auditverify.parse_ranges(text) in ([], [(NUMBER_MAX + 1, NUMBER_MAX + 1)])


@given(st.lists(st.tuples(st.integers(2, 50), st.integers(0, 50)), min_size=1, max_size=20))
def test_ranges_that_are_written_are_read_by_both(gaps):
    ranges, end = [], -2
    for gap, length in gaps:
        first = end + gap
        end = first + length
        ranges.append((first, end))
    text = control.format_ranges(ranges)
    assert control.parse_ranges(text) == ranges == auditverify.parse_ranges(text)
