"""Ed25519 is that of RFC 8032: deterministic, and strict about what it verifies."""

import pytest
from crypto_vectors import load
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto.signing import generate_seed, public_key, sign, verify

ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group, RFC 8032, 5.1


@pytest.mark.parametrize("case", load("ed25519")["cases"])
def test_vectors_of_rfc_8032_are_reproduced(case):
    seed, public, message, signature = (
        bytes.fromhex(case[name]) for name in ("seed", "public", "message", "signature")
    )
    assert public_key(seed) == public
    assert sign(seed, message) == signature == sign(seed, message)
    assert verify(public, message, signature)


@given(st.binary(max_size=100), st.integers(0, 95), st.integers(0, 7))
def test_a_changed_bit_of_key_or_signature_is_refused(message, at, bit):
    seed = bytes(range(32))
    both = bytearray(sign(seed, message) + public_key(seed))
    both[at] ^= 1 << bit
    assert not verify(bytes(both[64:]), message, bytes(both[:64]))


def test_the_same_signature_written_with_a_larger_number_is_refused():
    seed = bytes(range(32))
    signature = sign(seed, b"text")
    larger = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    assert not verify(public_key(seed), b"text", signature[:32] + larger)


@pytest.mark.parametrize(("public", "signature"), [(b"", bytes(64)), (bytes(31), bytes(64)), (bytes(32), b"")])
def test_malformed_keys_and_signatures_are_not_valid(public, signature):
    assert not verify(public, b"", signature)


def test_seeds_are_fresh():
    assert len({generate_seed() for _ in range(100)}) == 100
    assert len(generate_seed()) == 32
