"""Cosignatures (c2sp.org/tlog-cosignature, `cosignature/v1`, Ed25519): a witness says when it saw which tree head.

line = cosign(text, "witness.example/w1", seed, time_s)       # "— name base64(key id || time || signature)\\n"
found = verify_cosignature(note, name, public)                # raises ValueError unless that witness cosigned it
key = verifier_key(name, public)                              # what the owner of the log is given

A cosignature is a line under a checkpoint, beside the log's own. It signs two lines of its own and the whole text of
the checkpoint: as of that time, the largest tree that this witness has seen under this name has this root.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.crypto import note, signing
from appliance.crypto.note import COSIGNATURE, SignatureLine

TIME_MAX = 2**63 - 1
_TIME_BYTES = 8
_SIGNATURE_BYTES = _TIME_BYTES + signing.SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class Cosignature:
    """What a witness said, verified: seconds since 1970 UTC by its clock, and the line to keep with the checkpoint."""

    time_s: int
    line: str


def key_id(name: str, public: bytes) -> bytes:
    """Four bytes that say which key cosigned: the start of SHA-256(name || LF || 0x04 || public)."""
    return note.key_id(name, public, COSIGNATURE)


def verifier_key(name: str, public: bytes) -> str:
    """The witness's public key as text."""
    return note.verifier_key(name, public, COSIGNATURE)


def parse_verifier_key(text: str) -> tuple[str, bytes]:
    """(name, public key) of a witness. Raises `ValueError`, also for the key of a log, which is of another type."""
    return note.parse_verifier_key(text, COSIGNATURE)


def cosigned_message(text: str, time_s: int) -> bytes:
    """What is signed: a header against confusion with notes, the time, the checkpoint's text to its last line feed."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def cosign(text: str, name: str, seed: bytes, time_s: int) -> str:
    """The line of `name` under a checkpoint's text (without signatures).

    The caller MUST have verified the text's origin, signature and consistency, and MUST have that on stable storage.
    """
    if not text.endswith("\n") or not note.is_name(name) or not 0 < time_s <= TIME_MAX:
        raise ValueError("a cosignature needs a checkpoint's text, a signer's name and a time after 1970")
    signature = time_s.to_bytes(_TIME_BYTES, "big") + signing.sign(seed, cosigned_message(text, time_s))
    return str(SignatureLine(name, key_id(name, signing.public_key(seed)), signature))


def verify_cosignature(signed: str, name: str, public: bytes) -> Cosignature:
    """The newest cosignature of `name` under the checkpoint `signed`.

    Lines of other keys are ignored, of the log's key too: that is verified elsewhere. A line of this key with a bad
    signature fails the whole. Raises `ValueError`.
    """
    text, lines = note.split_note(signed)
    wanted = key_id(name, public)
    found = [_verified(text, line, public) for line in lines if (line.name, line.key_id) == (name, wanted)]
    if not found:
        raise ValueError(f"the checkpoint is not cosigned by {name} with this key")
    return max(found, key=lambda cosignature: cosignature.time_s)


def _verified(text: str, line: SignatureLine, public: bytes) -> Cosignature:
    time_s = int.from_bytes(line.signature[:_TIME_BYTES], "big")
    if len(line.signature) != _SIGNATURE_BYTES or time_s > TIME_MAX:
        raise ValueError(f"the cosignature of {line.name} has another form")
    if not signing.verify(public, cosigned_message(text, time_s), line.signature[_TIME_BYTES:]):
        raise ValueError(f"the cosignature of {line.name} is not valid")
    return Cosignature(time_s, str(line))
