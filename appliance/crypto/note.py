"""Signed notes (c2sp.org/signed-note): a text and one signature line for each signer.

note = sign_note(text, name, seed)            # "text\\n\\n— name base64(key id || signature)\\n"
text = verify_note(note, name, public)        # raises ValueError unless that signer's signature is good
verifier_key(name, public)                    # "name+hash+base64", what an auditor is given
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from appliance.crypto import signing

NOTE_BYTES_MAX = 1_000_000
SIGNATURES_MAX = 100
ED25519 = b"\x01"  # signature types of the specification
COSIGNATURE = b"\x04"
_ID_BYTES = 4
_DASH = "— "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One line under a note's text: who, which key, and the signature, whose form depends on the key's type."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


def key_id(name: str, public: bytes, kind: bytes = ED25519) -> bytes:
    """Four bytes that say which key signed: the start of SHA-256(name || LF || type || public)."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:_ID_BYTES]


def verifier_key(name: str, public: bytes, kind: bytes = ED25519) -> str:
    """The public key as text."""
    return f"{name}+{key_id(name, public, kind).hex()}+{base64.b64encode(kind + public).decode()}"


def parse_verifier_key(text: str, kind: bytes = ED25519) -> tuple[str, bytes]:
    """(name, public key) of a verifier key of that type. Raises `ValueError` when its parts do not fit each other."""
    name, _, rest = text.strip().partition("+")
    identifier, _, encoded = rest.partition("+")
    material = _decode(encoded)
    if not is_name(name) or len(material) != 1 + signing.PUBLIC_BYTES or material[:1] != kind:
        raise ValueError(f"not a verifier key of type {kind.hex()} (Ed25519)")
    if key_id(name, material[1:], kind).hex() != identifier:
        raise ValueError("the verifier key's hash does not match its key")
    return name, material[1:]


def sign_note(text: str, name: str, seed: bytes) -> str:
    """`text`, which ends in a line feed, with one signature by `name`."""
    return f"{text}\n{NoteSigner(name, seed).line(text)}"


class NoteSigner:
    """One signer made ready once, for whoever signs often. Holds the seed's key as long as it lives."""

    def __init__(self, name: str, seed: bytes) -> None:
        if not is_name(name):
            raise ValueError("a signer's name has no spaces, no control characters and no plus sign")
        self._name = name
        self._key = signing.SigningKey(seed)
        self._key_id = key_id(name, self._key.public)

    @property
    def public(self) -> bytes:
        """The public key."""
        return self._key.public

    def line(self, text: str) -> SignatureLine:
        """The signature line to be put under `text`, which ends in a line feed."""
        if not text.endswith("\n") or _has_control(text):
            raise ValueError("a note's text ends in a line feed and has no other control character")
        return SignatureLine(self._name, self._key_id, self._key.sign(text.encode()))


def verify_note(note: str, name: str, public: bytes) -> str:
    """The text of a note that `name` signed with `public`.

    Lines of unknown signers are ignored, as the specification asks, so keys can rotate and witnesses can join. A
    line of the known key with a bad signature fails the note, whatever else it carries. Raises `ValueError`.
    """
    text, lines = split_note(note)
    wanted, good = key_id(name, public), False
    for line in lines:
        if (line.name, line.key_id) != (name, wanted):
            continue
        if not signing.verify(public, text.encode(), line.signature):
            raise ValueError(f"the signature of {name} is not valid")
        good = True
    if not good:
        raise ValueError(f"the note is not signed by {name} with this key")
    return text


def split_note(note: str) -> tuple[str, tuple[SignatureLine, ...]]:
    """The text and the signature lines of a note, none of them verified. Raises `ValueError` for another form."""
    if len(note.encode()) > NOTE_BYTES_MAX:
        raise ValueError(f"a note is at most {NOTE_BYTES_MAX} bytes")
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or _has_control(note):
        raise ValueError("not a signed note")
    return text + "\n", signature_lines(signatures)


def signature_lines(text: str) -> tuple[SignatureLine, ...]:
    """The lines of `text`, which has nothing else, none of them verified. Raises `ValueError`."""
    lines = text.split("\n")
    if not text.endswith("\n") or not 1 < len(lines) <= SIGNATURES_MAX + 1 or _has_control(text):
        raise ValueError("not a signed note")
    return tuple(_signature_line(line) for line in lines[:-1])


def _signature_line(line: str) -> SignatureLine:
    if not line.startswith(_DASH):
        raise ValueError("not a signature line")
    signer, _, encoded = line.removeprefix(_DASH).partition(" ")
    material = _decode(encoded)
    if not is_name(signer) or len(material) <= _ID_BYTES:
        raise ValueError("not a signature line")
    return SignatureLine(signer, material[:_ID_BYTES], material[_ID_BYTES:])


def is_name(name: str) -> bool:
    """Whether a signer may be called that: not empty, no spaces, no plus sign, no control character."""
    return (
        bool(name) and "+" not in name and not any(character.isspace() for character in name) and not _has_control(name)
    )


def _has_control(text: str) -> bool:
    """Whether there is one below U+0020 besides the line feed: terminals and parsers would disagree about the text."""
    return _CONTROL.search(text) is not None


def _decode(encoded: str) -> bytes:
    """Strict base64: one encoding for each value, so that a note has one reading."""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if base64.b64encode(decoded).decode() != encoded:
        raise ValueError("not canonical base64")
    return decoded
