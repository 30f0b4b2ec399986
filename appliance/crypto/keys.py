"""Keys: made, derived, wrapped under another key, and told apart from wrong ones.

    wrapped = wrap_key(kek, key, aad)              # random nonce in front; bound to its place by `aad`
    key = unwrap_key(kek, wrapped, aad)
    key_check_value(key, key_id)                   # stored beside it: "wrong key" is not "tampered"

AES-GCM does not commit to its key: one ciphertext can open under two keys. The check value, compared before a key is
used, closes that.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Protocol

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from appliance.crypto.xaes import NONCE_BYTES, open_sealed, seal

KEY_BYTES = 32
ID_BYTES = 16
CHECK_BYTES = 16


class Cost(Protocol):
    """How expensive one guess at a passphrase is: Argon2id (RFC 9106) passes, memory in KiB, lanes."""

    @property
    def iterations(self) -> int: ...
    @property
    def memory_kib(self) -> int: ...
    @property
    def lanes(self) -> int: ...


def random_key() -> bytes:
    """A new key of 32 bytes."""
    return secrets.token_bytes(KEY_BYTES)


def random_id() -> bytes:
    """A new identifier of 16 bytes, which says nothing of time or place."""
    return secrets.token_bytes(ID_BYTES)


def random_nonce() -> bytes:
    """A new XAES nonce of 24 bytes."""
    return secrets.token_bytes(NONCE_BYTES)


def key_check_value(key: bytes, key_id: bytes) -> bytes:
    """16 bytes that tell whether a key is the right one, and nothing else about it."""
    return hashlib.sha256(b"kcv" + key + key_id).digest()[:CHECK_BYTES]


def derive_subkey(key: bytes, label: bytes) -> bytes:
    """A key for one purpose (32 bytes): HMAC-SHA-256 under a key of full entropy, one label a purpose."""
    return hmac.digest(key, b"cloister-subkey-1\0" + label, "sha256")


def keyed_hash(key: bytes, value: bytes) -> bytes:
    """A pseudonym of `value` (16 bytes) that only holders of `key` can make or check."""
    return hmac.digest(key, value, "sha256")[:ID_BYTES]


def wrap_key(kek: bytes, key: bytes, aad: bytes) -> bytes:
    """`key` sealed under `kek`, the random nonce in front. `aad` MUST name the place it belongs to."""
    nonce = random_nonce()
    return nonce + seal(kek, nonce, key, aad)


def unwrap_key(kek: bytes, wrapped: bytes, aad: bytes) -> bytes:
    """The key. Raises `DecryptionFailed` when it was altered, moved to another place, or `kek` is another."""
    return open_sealed(kek, wrapped[:NONCE_BYTES].ljust(NONCE_BYTES, b"\0"), wrapped[NONCE_BYTES:], aad)


def derive_root_from_passphrase(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    """A key of 32 bytes from something a person remembers, by Argon2id (RFC 9106)."""
    derivation = Argon2id(
        salt=salt,
        length=KEY_BYTES,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    )
    return derivation.derive(passphrase.encode())
