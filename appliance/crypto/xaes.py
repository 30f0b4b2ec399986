"""XAES-256-GCM: AES-256-GCM with a 192-bit nonce that may be random for every message, for ever.

    sealed = seal(key, nonce24, plaintext, aad)
    plaintext = open_sealed(key, nonce24, sealed, aad)

Specification: c2sp.org/XAES-256-GCM. The first twelve nonce bytes derive a key of their own by the CMAC-based KDF of
NIST SP 800-108r1; the last twelve are the nonce under that key. Built from approved primitives only. With random
nonces, 2^80 messages under one key collide with probability 2^-32; plain AES-GCM reaches that after 2^32.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import DecryptionFailed

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16
_HALF = 12
_BLOCK = 16


def seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Ciphertext and tag, 16 bytes longer than `plaintext`.

    The caller MUST take `nonce` (24 bytes) from the operating system's random source. Never a counter: a restored or
    forked process repeats a counter, and one repeated nonce gives away GCM's authentication key.
    """
    return AESGCM(_derive(key, nonce)).encrypt(nonce[_HALF:], plaintext, aad)


def open_sealed(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext. Raises `DecryptionFailed`, the same for every cause, so that nobody can ask which it was."""
    try:
        return AESGCM(_derive(key, nonce)).decrypt(nonce[_HALF:], sealed, aad)
    except (InvalidTag, ValueError):
        raise DecryptionFailed(
            "a sealed value could not be opened: it was altered, or sealed with another key",
            hint="verify the log with `appliance audit verify`",
        ) from None


def _derive(key: bytes, nonce: bytes) -> bytes:
    """The message key, from the first half of the nonce (SP 800-108r1 counter mode over CMAC, two blocks)."""
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError(f"XAES-256-GCM takes a key of {KEY_BYTES} and a nonce of {NONCE_BYTES} bytes")
    # ECB of single blocks is the raw block cipher, which is what CMAC is made of; no message is encrypted with it.
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    subkey = _double(block.update(bytes(_BLOCK)))
    # The KDF input is exactly one block, counter 1 or 2, label "X", so CMAC is one encryption of input XOR subkey.
    first = b"\x00\x01X\x00" + nonce[:_HALF]
    second = b"\x00\x02X\x00" + nonce[:_HALF]
    return block.update(_xor(first, subkey) + _xor(second, subkey))


def _double(value: bytes) -> bytes:
    """Multiplication by x in GF(2^128), as CMAC (SP 800-38B) makes its subkey."""
    shifted = int.from_bytes(value, "big") << 1
    if shifted >> 128:
        shifted = (shifted & (1 << 128) - 1) ^ 0x87
    return shifted.to_bytes(_BLOCK, "big")


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(_BLOCK, "big")
