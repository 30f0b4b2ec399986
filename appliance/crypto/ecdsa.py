"""ECDSA on the NIST curves (FIPS 186-5), for signatures of model files: keys arrive and leave as PEM texts.

    key = public_pem(text)                       # the one spelling of a public key; raises ValueError for no such key
    fingerprint(key)                             # SHA-256 of that spelling, in hex: what a bundle calls the hint
    verify(key, message, signature)              # signature: DER, as every tool writes it
    sign(private, message, passphrase=None)

P-256 with SHA-256, P-384 with SHA-384, P-521 with SHA-512, and nothing else. Also the message that a DSSE envelope
signs (`envelope_message`), which is neither JSON nor base64 and so has one form.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

PEM_BYTES_MAX = 16 * 1024
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


def public_pem(text: str) -> str:
    """The public key in its one spelling (SubjectPublicKeyInfo, PEM). Raises `ValueError`, also for a private key."""
    return _public(text).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def fingerprint(public: str) -> str:
    """Which key: SHA-256 over the PEM text, 64 hex digits, as OpenSSF Model Signing identifies it."""
    return hashlib.sha256(public_pem(public).encode()).hexdigest()


def verify(public: str, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is one of `message` under `public`. A malformed signature is simply not."""
    key = _public(public)
    try:
        key.verify(signature, message, ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature:
        return False
    return True


def sign(private: str, message: bytes, passphrase: str | None = None) -> bytes:
    """The signature of `message`, DER. Raises `ValueError` for what is no private key, or not under that passphrase."""
    key = _private(private, passphrase)
    return key.sign(message, ec.ECDSA(_HASHES[key.curve.name]))


def public_of(private: str, passphrase: str | None = None) -> str:
    """The public half of a private key."""
    return (
        _private(private, passphrase)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def generate() -> str:
    """A new private key on P-256, PKCS #8 without a passphrase."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def envelope_message(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE envelope signs: type and payload with their lengths (PAE of DSSE 1.0).

    >>> envelope_message("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _public(text: str) -> ec.EllipticCurvePublicKey:
    if len(text) > PEM_BYTES_MAX:
        raise ValueError("longer than a public key")
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise ValueError("not a key on P-256, P-384 or P-521")
    return key


def _private(text: str, passphrase: str | None) -> ec.EllipticCurvePrivateKey:
    if len(text) > PEM_BYTES_MAX:
        raise ValueError("longer than a private key")
    try:
        key = load_pem_private_key(text.encode(), passphrase.encode() if passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # TypeError: a passphrase is missing, or there is one too many.
        raise ValueError("not a private key in PEM, or not under this passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise ValueError("not a key on P-256, P-384 or P-521")
    return key
