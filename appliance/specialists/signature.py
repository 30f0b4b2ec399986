"""Detached signatures of specialist files in the OpenSSF Model Signing format, with keys, offline. Pure.

    signature = read_signature(content)          # a Sigstore bundle; raises SignatureInvalid
    check_signed_file(signature, sha256)         # it speaks about this very file
    key = signer_of(signature, trusted)          # whose it is; raises SignerUntrusted, SignatureInvalid
    content = write_signature(private_pem, name="router.gguf", sha256=sha256)

The format is written in this room's README. Reading and writing agree with the reference library (`model-signing`),
which the tests compare with; the library itself is not used when serving, because it brings a network client along.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from appliance.crypto import ecdsa
from appliance.errors import InvalidRequest, SignatureInvalid, SignerUntrusted

SIGNATURE_BYTES_MAX = 64 * 1024
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_SAID_OF_KEY_CHARS = 16
_Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key whose signatures count here. `name` is whom this site says it belongs to."""

    name: str
    fingerprint: str
    public_pem: str


@dataclass(frozen=True, slots=True)
class Signature:
    """A bundle that was read and not yet verified. `hint` names the key, empty in files of earlier tools."""

    hint: str
    payload: bytes
    signature: bytes
    file_sha256: str


class _PublicKey(msgspec.Struct):
    hint: str | None = None


class _Material(msgspec.Struct, rename="camel"):
    public_key: _PublicKey | None = None


class _EnvelopeSignature(msgspec.Struct):
    sig: str


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_EnvelopeSignature]


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


class _Digest(msgspec.Struct):
    sha256: _Hex


class _Subject(msgspec.Struct):
    name: str
    digest: _Digest


class _Resource(msgspec.Struct):
    name: str
    algorithm: str
    digest: _Hex


class _Serialization(msgspec.Struct):
    method: str
    hash_type: str


class _Predicate(msgspec.Struct):
    serialization: _Serialization
    resources: list[_Resource]


class _Statement(msgspec.Struct, rename={"type_": "_type", "predicate_type": "predicateType"}):
    type_: str
    subject: list[_Subject]
    predicate_type: str
    predicate: _Predicate


def read_signature(content: bytes) -> Signature:
    """Read a signature file. Raises `SignatureInvalid`, naming what is wrong with it."""
    if len(content) > SIGNATURE_BYTES_MAX:
        raise SignatureInvalid(f"the signature file is larger than {SIGNATURE_BYTES_MAX} bytes", hint=_FORMAT_HINT)
    bundle = _decoded(content, _Bundle, "a Sigstore bundle")
    if bundle.media_type != MEDIA_TYPE or bundle.verification_material.public_key is None:
        raise SignatureInvalid("the signature file is not a bundle signed with a key", hint=_FORMAT_HINT)
    envelope = bundle.dsse_envelope
    if envelope.payload_type != PAYLOAD_TYPE or len(envelope.signatures) != 1:
        raise SignatureInvalid("the signature's envelope is not one signature over an in-toto statement")
    payload = _base64(envelope.payload)
    statement = _decoded(payload, _Statement, "an in-toto statement of model signing 1.0")
    return Signature(
        bundle.verification_material.public_key.hint or "",
        payload,
        _base64(envelope.signatures[0].sig),
        _file_sha256(statement),
    )


def check_signed_file(signature: Signature, sha256: str) -> None:
    """Raise `SignatureInvalid` unless the signature is of the file with this hash."""
    if signature.file_sha256 != sha256:
        raise SignatureInvalid(
            f"the signature is of another file: it signs SHA-256 {signature.file_sha256[:16]}…, this file has "
            f"{sha256[:16]}…",
            hint="the file was changed after it was signed, or the signature belongs to another version",
        )


def signer_of(signature: Signature, trusted: Iterable[TrustedKey]) -> TrustedKey:
    """The trusted key that made it. Raises `SignerUntrusted`, or `SignatureInvalid` where a trusted key did not."""
    named = [key for key in trusted if signature.hint in ("", key.fingerprint)]
    message = ecdsa.envelope_message(PAYLOAD_TYPE, signature.payload)
    for key in named:
        if ecdsa.verify(key.public_pem, message, signature.signature):
            return key
    if named and signature.hint:
        raise SignatureInvalid(
            f"the signature does not verify under the key of {named[0].name!r} that it names",
            hint="ask for the file and its signature again, and find out who changed them",
        )
    which = f"the key {signature.hint[:_SAID_OF_KEY_CHARS]}" if signature.hint else "a key that it does not name"
    raise SignerUntrusted(
        f"the file is signed with {which}, which is not trusted here",
        hint="trust the key: `appliance specialists trust`; or let an administrator admit the file and say why",
    )


def write_signature(private_pem: str, *, name: str, sha256: str, passphrase: str | None = None) -> bytes:
    """The signature file of a specialist file called `name`. Raises `InvalidRequest` for what is no such key."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": hashlib.sha256(bytes.fromhex(sha256)).hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            # A single file has no path below itself: the reference library calls it ".".
            "resources": [{"name": ".", "algorithm": "sha256", "digest": sha256}],
        },
    }
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    try:
        signed = ecdsa.sign(private_pem, ecdsa.envelope_message(PAYLOAD_TYPE, payload), passphrase)
        hint = ecdsa.fingerprint(ecdsa.public_of(private_pem, passphrase))
    except ValueError as error:
        raise InvalidRequest(
            f"the signing key cannot be used: {error}",
            hint="make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem",
        ) from None
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signed).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle, sort_keys=True).encode() + b"\n"


def trusted_key(name: str, pem: str) -> TrustedKey:
    """A key to be trusted, in its one spelling. Raises `InvalidRequest`."""
    name = name.strip()
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise InvalidRequest("the name of a signer has 1 to 64 printable characters", hint="name whose key it is")
    try:
        public = ecdsa.public_pem(pem)
    except ValueError as error:
        raise InvalidRequest(
            f"this key cannot be trusted: it is {error}",
            hint="give the public half in PEM: openssl ec -in key.pem -pubout",
        ) from None
    return TrustedKey(name, ecdsa.fingerprint(public), public)


_FORMAT_HINT = "sign it with a key: `appliance specialists sign`, or `model_signing sign key`"


def _file_sha256(statement: _Statement) -> str:
    """The hash of the one file that is signed, after a check that the statement agrees with itself."""
    if statement.type_ != STATEMENT_TYPE or statement.predicate_type != PREDICATE_TYPE:
        raise SignatureInvalid("the signature states something else than a signed model", hint=_FORMAT_HINT)
    predicate = statement.predicate
    if predicate.serialization.method != "files" or predicate.serialization.hash_type != "sha256":
        raise SignatureInvalid("the signature counts in other units than files with SHA-256", hint=_FORMAT_HINT)
    if len(statement.subject) != 1 or len(predicate.resources) != 1 or predicate.resources[0].algorithm != "sha256":
        raise SignatureInvalid(
            f"the signature is of {len(predicate.resources)} files", hint="sign the specialist file alone"
        )
    digest = predicate.resources[0].digest
    if hashlib.sha256(bytes.fromhex(digest)).hexdigest() != statement.subject[0].digest.sha256:
        raise SignatureInvalid("the signature's statement does not agree with itself", hint=_FORMAT_HINT)
    return digest


def _decoded(content: bytes, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise SignatureInvalid(f"the signature file is not {what}", hint=_FORMAT_HINT) from None


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureInvalid("the signature file has broken base64", hint=_FORMAT_HINT) from None
