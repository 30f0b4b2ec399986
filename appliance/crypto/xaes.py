"""XAES-256-GCM: AES-256-GCM with a 192-bit nonce that may be random for every message, for ever.

    sealed = seal(key, nonce24, plaintext, aad)
    plaintext = open_sealed(key, nonce24, sealed, aad)

Specification: c2sp.org/XAES-256-GCM. The first twelve nonce bytes derive a key of their own by the CMAC-based KDF of
NIST SP 800-108r1; the last twelve are the nonce under that key. Built from approved primitives only. With random
nonces, 2^80 messages under one key collide with probability 2^-32; plain AES-GCM reaches that after 2^32.

It does not commit to its key: whoever chooses both keys can make one ciphertext that opens under two. Where that
matters, a key is compared with its check value before it is used (`keys.py`), and its id is in the associated data.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from appliance.errors import DecryptionFailed

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16
_HALF = 12


def seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Ciphertext and tag, 16 bytes longer than `plaintext`.

    The caller MUST take `nonce` (24 bytes) from the operating system's random source. Never a counter: a restored or
    forked process repeats a counter, and one repeated nonce gives away GCM's authentication key.
    """
    return AESGCM(_derive(key, nonce)).encrypt(nonce[_HALF:], plaintext, aad)


def open_sealed(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext. Raises `DecryptionFailed`, the same for every cause, so that nobody can ask which it was.

    Nothing of the plaintext is released before the tag over all of it was checked.
    """
    try:
        return AESGCM(_derive(key, nonce)).decrypt(nonce[_HALF:], sealed, aad)
    except (InvalidTag, ValueError):
        raise DecryptionFailed(
            "a sealed value could not be opened: it was altered, or sealed with another key",
            hint="verify the log with `appliance audit verify`",
        ) from None


def _derive(key: bytes, nonce: bytes) -> bytes:
    """The message key, from the first half of the nonce.

    SP 800-108r1 in counter mode over CMAC-AES256: label "X", a zero byte, context the twelve nonce bytes, a counter of
    sixteen bits in front and no length field. Each CMAC input is exactly one block, which is what makes the KDF safe
    against the key control attack of SP 800-108r1, section 6.7, and as fast as two encryptions.
    """
    # AES accepts shorter keys too: a key of sixteen bytes would silently be AES-128 here.
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError(f"XAES-256-GCM takes a key of {KEY_BYTES} and a nonce of {NONCE_BYTES} bytes")
    derivation = KBKDFCMAC(
        AES,
        mode=Mode.CounterMode,
        length=KEY_BYTES,
        rlen=2,
        llen=None,
        location=CounterLocation.BeforeFixed,
        label=None,
        context=None,
        fixed=b"X\x00" + nonce[:_HALF],
    )
    return derivation.derive(key)
