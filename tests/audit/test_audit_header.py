"""A record header and its 200 bytes determine each other, and nothing that no writer makes is taken for one.

Non-malleability is what lets a hash over the bytes stand for the fields: whatever decodes encodes to the same bytes.
"""

import dataclasses

import pytest
from audit_vectors import load
from hypothesis import assume, given
from hypothesis import strategies as st

from appliance.audit import auditverify
from appliance.audit.header import (
    HEADER_BYTES,
    NO_KEY,
    NO_NONCE,
    SHA256_OF_NOTHING,
    RecordHeader,
    RecordKind,
    aad,
    log_id_of,
)
from appliance.crypto.merkle import leaf_hash

VECTORS = load("header")
NAMES = {"class": "record_class"}


def bytes_of(size):
    return st.binary(min_size=size, max_size=size)


@st.composite
def headers(draw):
    """Any header that a writer may make."""
    public = draw(st.booleans())
    content = not public and draw(st.booleans())
    return RecordHeader(
        log_id=draw(bytes_of(8)),
        seq=draw(st.integers(0, 2**63 - 1)),
        t_commit_ms=draw(st.integers(0, 2**63 - 1)),
        record_class=0 if public else draw(st.integers(0, 255)),
        month=0 if public else draw(st.integers(0, 65535)),
        kind=RecordKind.PUBLIC if public else RecordKind.SEALED,
        record_id=draw(bytes_of(16)),
        env_key=NO_KEY if public else draw(bytes_of(16).filter(any)),
        con_scope=draw(bytes_of(16).filter(any)) if content else NO_KEY,
        env_nonce=NO_NONCE if public else draw(bytes_of(24)),
        con_nonce=draw(bytes_of(24)) if content else NO_NONCE,
        env_length=draw(st.integers(1, 2**32 - 1)),
        con_length=draw(st.integers(1, 2**32 - 1)) if content else 0,
        env_sha256=draw(bytes_of(32)),
        con_sha256=draw(bytes_of(32)) if content else SHA256_OF_NOTHING,
    )


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["name"])
def test_vectors_decode_to_their_fields_and_encode_back(case):
    encoded = bytes.fromhex(case["header"])
    header = RecordHeader.decode(encoded)
    for name, value in case["fields"].items():
        found = getattr(header, NAMES.get(name, name))
        assert (found.hex() if isinstance(found, bytes) else found) == value, name
    assert header.encode() == encoded and len(encoded) == HEADER_BYTES == 200
    assert leaf_hash(encoded).hex() == case["leaf"]


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["why"])
def test_what_is_not_a_header_is_refused_by_reader_and_verifier(case):
    encoded = bytes.fromhex(case["header"])
    with pytest.raises(ValueError):
        RecordHeader.decode(encoded)
    seq = int.from_bytes(encoded[12:20], "big")
    fault, _ = auditverify.check_header(encoded, seq, encoded[4:12])
    assert fault is not None or case["why"] == "seq of 2^63", "the verifier compares numbers with their place instead"


@given(headers())
def test_what_is_encoded_decodes_to_itself_and_satisfies_the_verifier(header):
    encoded = header.encode()
    assert RecordHeader.decode(encoded) == header
    fault, fields = auditverify.check_header(encoded, header.seq, header.log_id)
    assert fault is None and fields is not None


@given(headers(), st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_what_decodes_encodes_to_the_same_bytes_and_every_byte_counts(header, at, change):
    encoded = bytearray(header.encode())
    encoded[at] ^= change
    try:
        decoded = RecordHeader.decode(bytes(encoded))
    except ValueError:
        return
    assert decoded != header
    assert decoded.encode() == bytes(encoded)


@given(st.binary(max_size=220))
def test_noise_is_no_header(noise):
    assume(not noise.startswith(b"AUD1"))
    with pytest.raises(ValueError):
        RecordHeader.decode(noise)


@pytest.mark.parametrize(
    "change",
    [{"seq": -1}, {"seq": 2**63}, {"month": 65536}, {"record_class": 256}, {"env_length": 2**32}, {"log_id": b"short"}],
)
def test_a_header_with_fields_that_do_not_fit_is_not_made(change):
    header = RecordHeader.decode(bytes.fromhex(VECTORS["valid"][2]["header"]))
    with pytest.raises(ValueError):
        dataclasses.replace(header, **change).encode()


def test_associated_data_is_that_of_the_format_and_differs_for_every_place():
    (case,) = VECTORS["aad"]
    log_id, record_id, key_id = (bytes.fromhex(case[name]) for name in ("log_id", "record_id", "key_id"))
    bound = aad(log_id, record_id, case["part"], key_id, case["class"], case["month"])
    assert bound.hex() == case["aad"] and len(bound) == 50
    others = {
        aad(bytes(8), record_id, "con", key_id, 2, 672),
        aad(log_id, bytes(16), "con", key_id, 2, 672),
        aad(log_id, record_id, "env", key_id, 2, 672),
        aad(log_id, record_id, "con", bytes(16), 2, 672),
        aad(log_id, record_id, "con", key_id, 1, 672),
        aad(log_id, record_id, "con", key_id, 2, 671),
    }
    assert len(others | {bound}) == 7


def test_the_log_id_follows_from_the_origin():
    assert log_id_of(VECTORS["origin"]).hex() == VECTORS["log_id"]
