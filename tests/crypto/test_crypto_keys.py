"""Keys are fresh, wrapped to one place, told from wrong ones, and derived the same way for ever.

Derivations are pinned by value: they are a format, because keys that are on disks today follow from them.
"""

import hashlib
import hmac
from dataclasses import dataclass

import pytest
from argon2.low_level import Type, hash_secret_raw

from appliance.crypto.keys import (
    derive_root_from_passphrase,
    derive_subkey,
    key_check_value,
    keyed_hash,
    random_id,
    random_key,
    random_nonce,
    unwrap_key,
    wrap_key,
)
from appliance.crypto.secrets import constant_time_equal, hash_api_secret, new_api_secret
from appliance.errors import DecryptionFailed

KEY, KEK = bytes(range(32)), bytes(range(32, 64))


@dataclass(frozen=True)
class Cost:
    iterations: int = 1
    memory_kib: int = 64
    lanes: int = 2


def test_keys_ids_and_nonces_are_fresh_and_of_their_length():
    for make, length in ((random_key, 32), (random_id, 16), (random_nonce, 24)):
        made = {make() for _ in range(1000)}
        assert len(made) == 1000 and {len(value) for value in made} == {length}


def test_a_wrapped_key_opens_only_in_its_place_and_under_its_key():
    wrapped = wrap_key(KEK, KEY, b"place")
    assert len(wrapped) == 24 + 32 + 16
    assert unwrap_key(KEK, wrapped, b"place") == KEY
    for attempt in (
        (KEY, wrapped, b"place"),
        (KEK, wrapped, b"other"),
        (KEK, b"", b"place"),
        (KEK, wrapped[:40], b"place"),
    ):
        with pytest.raises(DecryptionFailed):
            unwrap_key(*attempt)
    for at in range(len(wrapped)):
        with pytest.raises(DecryptionFailed):
            unwrap_key(KEK, wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], b"place")


def test_wrapping_twice_gives_different_bytes():
    assert wrap_key(KEK, KEY, b"place") != wrap_key(KEK, KEY, b"place")


def test_a_check_value_tells_keys_and_ids_apart_and_is_pinned():
    value = key_check_value(KEY, b"id")
    assert value == hashlib.sha256(b"kcv" + KEY + b"id").digest()[:16]
    assert len({value, key_check_value(KEK, b"id"), key_check_value(KEY, b"di")}) == 3


def test_derivations_are_pinned():
    assert derive_subkey(KEY, b"label") == hmac.digest(KEY, b"cloister-subkey-1\0label", "sha256")
    assert keyed_hash(KEY, b"user:7") == hmac.digest(KEY, b"user:7", "sha256")[:16]
    assert derive_subkey(KEY, b"a") != derive_subkey(KEY, b"b")


def test_a_passphrase_derives_what_another_argon2id_derives():
    salt = bytes(16)
    expected = hash_secret_raw("größe".encode(), salt, 1, 64, 2, 32, Type.ID)
    assert derive_root_from_passphrase("größe", salt, Cost()) == expected
    assert derive_root_from_passphrase("größe", salt, Cost(iterations=2)) != expected
    assert derive_root_from_passphrase("größe", b"\x01" * 16, Cost()) != expected


def test_api_secrets_are_fresh_and_stored_as_a_hash():
    secrets = {new_api_secret() for _ in range(100)}
    assert len(secrets) == 100 and all(len(secret) == 43 and secret.isascii() for secret in secrets)
    assert hash_api_secret("s") == hashlib.sha256(b"cloister-api-secret-1\0s").digest()


@pytest.mark.parametrize(("left", "right", "equal"), [(b"a", b"a", True), (b"a", b"b", False), (b"a", b"ab", False)])
def test_comparison_is_of_bytes(left, right, equal):
    assert constant_time_equal(left, right) is equal
