"""XAES-256-GCM is the one of the specification, and opens nothing that was altered, moved or sealed otherwise.

Checked against the published vectors and the accumulated hash over 10,000 random cases, so that no length of message
or associated data is left out; the rest by hypothesis.
"""

import hashlib

import pytest
from crypto_vectors import load
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto.xaes import TAG_BYTES, open_sealed, seal
from appliance.errors import DecryptionFailed

VECTORS = load("xaes")


@pytest.mark.parametrize("case", VECTORS["cases"])
def test_published_vectors_are_reproduced(case):
    key, nonce, plaintext, aad, sealed = (
        bytes.fromhex(case[name]) for name in ("key", "nonce", "plaintext", "aad", "sealed")
    )
    assert seal(key, nonce, plaintext, aad) == sealed
    assert open_sealed(key, nonce, sealed, aad) == plaintext


def test_ten_thousand_random_cases_have_the_published_hash():
    stream = hashlib.shake_128(b"").digest(3_200_000)
    digest, at = hashlib.shake_128(), 0

    def read(length):
        nonlocal at
        at += length
        return stream[at - length : at]

    for _ in range(VECTORS["accumulated"]["iterations"]):
        key, nonce = read(32), read(24)
        plaintext, aad = read(read(1)[0]), read(read(1)[0])
        sealed = seal(key, nonce, plaintext, aad)
        assert open_sealed(key, nonce, sealed, aad) == plaintext
        digest.update(sealed)
    assert at <= len(stream)
    assert digest.hexdigest(32) == VECTORS["accumulated"]["shake128"]


@given(st.binary(max_size=200), st.binary(max_size=50), st.integers(0, 10_000), st.integers(0, 7))
def test_any_changed_bit_anywhere_is_refused(plaintext, aad, position, bit):
    key, nonce = bytes(range(32)), bytes(range(24))
    sealed = seal(key, nonce, plaintext, aad)
    assert len(sealed) == len(plaintext) + TAG_BYTES
    parts = [key, nonce, sealed, aad]
    which = position % len(parts)
    if parts[which]:
        at = position // len(parts) % len(parts[which])
        changed = bytearray(parts[which])
        changed[at] ^= 1 << bit
        parts[which] = bytes(changed)
        with pytest.raises(DecryptionFailed):
            open_sealed(*parts)


def test_every_failure_says_the_same():
    key, nonce = bytes(32), bytes(24)
    sealed = seal(key, nonce, b"text", b"place")
    said = set()
    for attempt in (
        (b"\x01" * 32, nonce, sealed, b"place"),
        (key, nonce, sealed, b"other"),
        (key, nonce, b"", b"place"),
    ):
        with pytest.raises(DecryptionFailed) as caught:
            open_sealed(*attempt)
        said.add(caught.value.message)
    assert len(said) == 1


@pytest.mark.parametrize(("key", "nonce"), [(bytes(16), bytes(24)), (bytes(31), bytes(24)), (bytes(32), bytes(12))])
def test_a_key_or_nonce_of_another_length_seals_nothing(key, nonce):
    with pytest.raises(ValueError, match="32 and a nonce of 24"):
        seal(key, nonce, b"", b"")
