"""Signed notes (c2sp.org/signed-note): a text and one signature line for each signer.

note = sign_note(text, name, seed)            # "text\\n\\n— name base64(key id || signature)\\n"
text = verify_note(note, name, public)        # raises ValueError unless that signer's signature is good
verifier_key(name, public)                    # "name+hash+base64", what an auditor is given
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from appliance.crypto import signing

NOTE_BYTES_MAX = 1_000_000
SIGNATURES_MAX = 100
_ED25519 = b"\x01"
_ID_BYTES = 4
_DASH = "— "


def key_id(name: str, public: bytes) -> bytes:
    """Four bytes that say which key signed: the start of SHA-256(name || LF || 0x01 || public)."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_ID_BYTES]


def verifier_key(name: str, public: bytes) -> str:
    """The public key as text."""
    return f"{name}+{key_id(name, public).hex()}+{base64.b64encode(_ED25519 + public).decode()}"


def parse_verifier_key(text: str) -> tuple[str, bytes]:
    """(name, public key) of a verifier key. Raises `ValueError` when its parts do not fit each other."""
    name, _, rest = text.strip().partition("+")
    identifier, _, encoded = rest.partition("+")
    material = _decode(encoded)
    if not _is_name(name) or len(material) != 1 + signing.PUBLIC_BYTES or material[:1] != _ED25519:
        raise ValueError("not an Ed25519 verifier key")
    if key_id(name, material[1:]).hex() != identifier:
        raise ValueError("the verifier key's hash does not match its key")
    return name, material[1:]


def sign_note(text: str, name: str, seed: bytes) -> str:
    """`text`, which ends in a line feed, with one signature by `name`."""
    if not text.endswith("\n") or _has_control(text):
        raise ValueError("a note's text ends in a line feed and has no other control character")
    if not _is_name(name):
        raise ValueError("a signer's name has no spaces, no control characters and no plus sign")
    public = signing.public_key(seed)
    signature = key_id(name, public) + signing.sign(seed, text.encode())
    return f"{text}\n{_DASH}{name} {base64.b64encode(signature).decode()}\n"


def verify_note(note: str, name: str, public: bytes) -> str:
    """The text of a note that `name` signed with `public`.

    Lines of unknown signers are ignored, as the specification asks, so keys can rotate and witnesses can join. A
    line of the known key with a bad signature fails the note, whatever else it carries. Raises `ValueError`.
    """
    if len(note.encode()) > NOTE_BYTES_MAX:
        raise ValueError(f"a note is at most {NOTE_BYTES_MAX} bytes")
    text, separator, signatures = note.rpartition("\n\n")
    lines = signatures.split("\n")
    if not separator or not signatures.endswith("\n") or not 1 < len(lines) <= SIGNATURES_MAX + 1 or _has_control(note):
        raise ValueError("not a signed note")
    signed, wanted, good = text + "\n", key_id(name, public), False
    for line in lines[:-1]:
        signer, material = _signature_line(line)
        if signer != name or material[:_ID_BYTES] != wanted:
            continue
        if not signing.verify(public, signed.encode(), material[_ID_BYTES:]):
            raise ValueError(f"the signature of {name} is not valid")
        good = True
    if not good:
        raise ValueError(f"the note is not signed by {name} with this key")
    return signed


def _signature_line(line: str) -> tuple[str, bytes]:
    if not line.startswith(_DASH):
        raise ValueError("not a signature line")
    signer, _, encoded = line.removeprefix(_DASH).partition(" ")
    material = _decode(encoded)
    if not _is_name(signer) or len(material) <= _ID_BYTES:
        raise ValueError("not a signature line")
    return signer, material


def _is_name(name: str) -> bool:
    return (
        bool(name) and "+" not in name and not any(character.isspace() for character in name) and not _has_control(name)
    )


def _has_control(text: str) -> bool:
    """Whether there is one below U+0020 besides the line feed: terminals and parsers would disagree about the text."""
    return any(character < " " and character != "\n" for character in text)


def _decode(encoded: str) -> bytes:
    """Strict base64: one encoding for each value, so that a note has one reading."""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if base64.b64encode(decoded).decode() != encoded:
        raise ValueError("not canonical base64")
    return decoded
