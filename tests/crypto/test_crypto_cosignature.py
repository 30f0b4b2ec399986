"""Cosignatures are those of c2sp.org/tlog-cosignature, byte for byte, and have one reading.

The vector is what a public witness said about a public log; the specification's own example shows the framing.
"""

import pytest
from crypto_vectors import load
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto import note
from appliance.crypto.cosignature import (
    TIME_MAX,
    cosign,
    cosigned_message,
    key_id,
    parse_verifier_key,
    verifier_key,
    verify_cosignature,
)
from appliance.crypto.signing import public_key

VECTOR = load("cosignature")
EXAMPLE = VECTOR["example"]
NAME, PUBLIC = parse_verifier_key(VECTOR["verifier_key"])
TEXT, LINE = VECTOR["text"], VECTOR["line"]
SEED, OURS = bytes(range(32)), "witness.example/w1"


def test_a_public_witness_is_believed():
    assert key_id(NAME, PUBLIC).hex() == "a3e00fe2"
    assert verifier_key(NAME, PUBLIC) == VECTOR["verifier_key"]
    found = verify_cosignature(f"{TEXT}\n{VECTOR['log_line']}{LINE}", NAME, PUBLIC)
    assert (found.time_s, found.line) == (VECTOR["time_s"], LINE)


def test_the_framing_is_that_of_the_specifications_example():
    text, lines = note.split_note(EXAMPLE["note"])
    line = lines[1]
    assert (line.name, line.key_id.hex(), len(line.signature)) == (EXAMPLE["signer"], EXAMPLE["key_id"], 8 + 64)
    assert int.from_bytes(line.signature[:8], "big") == EXAMPLE["time_s"]
    assert cosigned_message(text, EXAMPLE["time_s"]) == EXAMPLE["message"].encode()
    assert str(line) == EXAMPLE["note"].splitlines(keepends=True)[-1]


@given(st.integers(1, TIME_MAX))
def test_what_is_cosigned_verifies_with_its_time(time_s):
    line = cosign(TEXT, OURS, SEED, time_s)
    assert verify_cosignature(f"{TEXT}\n{line}", OURS, public_key(SEED)).time_s == time_s
    assert cosign(TEXT, OURS, SEED, time_s) == line


def test_every_changed_byte_is_refused():
    signed = f"{TEXT}\n{LINE}".encode()
    for at in range(len(signed)):
        changed = signed[:at] + bytes([signed[at] ^ 1 << at % 7]) + signed[at + 1 :]
        with pytest.raises(ValueError):
            verify_cosignature(changed.decode(errors="surrogateescape"), NAME, PUBLIC)


def test_others_are_ignored_and_a_bad_line_of_the_known_key_fails_the_whole():
    stranger = cosign(TEXT, OURS, SEED, 1)
    namesake = cosign(TEXT, NAME, SEED, 1)
    assert verify_cosignature(f"{TEXT}\n{stranger}{namesake}{LINE}", NAME, PUBLIC).line == LINE
    with pytest.raises(ValueError, match="not cosigned by"):
        verify_cosignature(f"{TEXT}\n{stranger}{namesake}", NAME, PUBLIC)
    elsewhere = cosign("another\n1\nAAAA\n", OURS, SEED, 1)
    with pytest.raises(ValueError, match="not valid"):
        verify_cosignature(f"{TEXT}\n{stranger}{elsewhere}", OURS, public_key(SEED))


def test_the_newest_of_several_counts():
    lines = "".join(cosign(TEXT, OURS, SEED, time_s) for time_s in (5, 9, 7))
    assert verify_cosignature(f"{TEXT}\n{lines}", OURS, public_key(SEED)).time_s == 9


def test_a_logs_signature_is_no_cosignature_and_the_reverse():
    signed = note.sign_note(TEXT, OURS, SEED)
    with pytest.raises(ValueError, match="not cosigned by"):
        verify_cosignature(signed, OURS, public_key(SEED))
    with pytest.raises(ValueError, match="is not signed by"):
        note.verify_note(f"{TEXT}\n{cosign(TEXT, OURS, SEED, 1)}", OURS, public_key(SEED))
    with pytest.raises(ValueError, match="verifier key of type 04"):
        parse_verifier_key(note.verifier_key(OURS, public_key(SEED)))
    with pytest.raises(ValueError, match="verifier key of type 01"):
        note.parse_verifier_key(verifier_key(OURS, public_key(SEED)))


@pytest.mark.parametrize(
    ("text", "name", "time_s"), [("a", OURS, 1), ("a\n", "a b", 1), (TEXT, OURS, 0), (TEXT, OURS, 2**63)]
)
def test_what_could_not_be_read_back_is_not_cosigned(text, name, time_s):
    with pytest.raises(ValueError):
        cosign(text, name, SEED, time_s)
