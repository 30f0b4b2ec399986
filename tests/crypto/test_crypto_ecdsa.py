"""Guaranteed here: a signature verifies under its own key and message only, and what is no such key is refused.

The keys and the signature of `openssl` in the vectors were made by another implementation.
"""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from appliance.crypto import ecdsa

VECTORS = json.loads((Path(__file__).parent / "vectors" / "ecdsa-openssl.json").read_text())


def private_of(curve, encryption=None):
    key = ec.generate_private_key(curve)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["curve"])
def test_signatures_of_openssl_verify(vector):
    signature = bytes.fromhex(vector["signature"])
    assert ecdsa.verify(vector["public"], vector["message"].encode(), signature)
    assert not ecdsa.verify(vector["public"], vector["message"].encode() + b".", signature)
    assert ecdsa.fingerprint(vector["public"]) == vector["fingerprint"]


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_is_signed_verifies_and_nothing_else(curve):
    private, other = private_of(curve), private_of(curve)
    public = ecdsa.public_of(private)
    signature = ecdsa.sign(private, b"model")
    assert ecdsa.verify(public, b"model", signature)
    assert not ecdsa.verify(public, b"models", signature)
    assert not ecdsa.verify(ecdsa.public_of(other), b"model", signature)
    assert not ecdsa.verify(public, b"model", signature[:-1])
    assert not ecdsa.verify(public, b"model", b"")


def test_a_key_has_one_spelling():
    public = ecdsa.public_of(ecdsa.generate())
    assert ecdsa.public_pem("\n  " + public.replace("\n", "\r\n")) == public
    assert ecdsa.fingerprint(public.replace("\n", "\r\n")) == ecdsa.fingerprint(public)


def test_a_passphrase_opens_its_key_and_no_other_does():
    private = private_of(ec.SECP256R1(), BestAvailableEncryption(b"open sesame"))
    assert ecdsa.verify(ecdsa.public_of(private, "open sesame"), b"m", ecdsa.sign(private, b"m", "open sesame"))
    for wrong in (None, "", "open Sesame"):
        with pytest.raises(ValueError):
            ecdsa.sign(private, b"m", wrong)
    with pytest.raises(ValueError):
        ecdsa.sign(ecdsa.generate(), b"m", "a passphrase too many")


def other_kinds():
    ed = ed25519.Ed25519PrivateKey.generate()
    koblitz = ec.generate_private_key(ec.SECP256K1())
    for key in (ed, koblitz):
        yield key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    yield from ("", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "x" * 20_000, ecdsa.generate())


@pytest.mark.parametrize("text", list(other_kinds()), ids=lambda text: text[:20])
def test_what_is_no_such_public_key_is_refused(text):
    with pytest.raises(ValueError):
        ecdsa.public_pem(text)


def test_envelope_message_is_the_example_of_the_specification():
    made = ecdsa.envelope_message("http://example.com/HelloWorld", b"hello world")
    assert made == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
