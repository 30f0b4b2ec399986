"""How a conversation is sealed: a head and turns, each bound to its owner, conversation and place. Pure but for nonces.

    place = Place(conversation_id, "user:7", created_ms)
    sealed = seal_turn(key, place, 3, Turn(role="user", text="…", time_ms=now))
    turn = open_turn(key, place, 3, *sealed)
    head = open_head(key, place, *sealed_head)           # which counts the turns and hashes them in order

The format is in README.md, "Conversations". A turn that is altered, moved, swapped, left out or put back does not fit
its place or the head; a whole conversation that is put back from an older copy does, and only the log says otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from appliance.crypto.keys import derive_subkey, random_nonce
from appliance.crypto.padding import pad, unpad
from appliance.crypto.xaes import open_sealed, seal
from appliance.errors import DecryptionFailed

MAGIC = b"CNV1"
SUBJECT_LABEL = b"conversation/1/subject"
_HEAD, _TURN = b"\0", b"\1"
T = TypeVar("T")


class Turn(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One message. Of an answer also who gave it, why it ended, and which record of the log covers it.

    `finish`: `stop` and `length` as the model says it, `stopped` by the person, `failed`. `about`: what else the
    service said of it: marks of the guard, how the model was chosen.
    """

    role: Literal["user", "assistant"]
    text: str
    time_ms: int
    model: str = ""
    finish: str = ""
    record_id: str = ""
    seq: int = -1
    about: Mapping[str, Any] = {}
    v: Literal[1] = 1


class Settings(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What its owner chose for a conversation. None: as the model or the API has it."""

    title: str
    model: str
    system: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


class Head(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a conversation says of itself. `digest` (hex) binds its turns and their order."""

    settings: Settings
    turns: int
    digest: str
    subject: str = ""
    v: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Place:
    """What every sealed part of one conversation is bound to."""

    id: bytes
    owner: str
    created_ms: int


Sealed = tuple[bytes, bytes]  # nonce and ciphertext


def conversation_owner(id_: bytes) -> str:
    """How the keystore knows a conversation; no actor and no subject is named like that."""
    return f"conversation:{id_.hex()}"


def sealing_key(conversation_key: bytes, subject_key: bytes | None) -> bytes:
    """The key of the parts. With a subject it needs both keys, so that destroying either destroys the conversation."""
    return conversation_key if subject_key is None else derive_subkey(conversation_key, SUBJECT_LABEL + subject_key)


def seal_head(key: bytes, place: Place, head: Head, nonce: bytes | None = None) -> Sealed:
    """`nonce` is for vectors: it MUST be random otherwise."""
    return _seal(key, _aad(place, _HEAD, 0), head, nonce)


def open_head(key: bytes, place: Place, nonce: bytes, sealed: bytes) -> Head:
    """Raises `DecryptionFailed`."""
    return _open(key, _aad(place, _HEAD, 0), nonce, sealed, Head)


def seal_turn(key: bytes, place: Place, position: int, turn: Turn, nonce: bytes | None = None) -> Sealed:
    """`nonce` is for vectors: it MUST be random otherwise."""
    return _seal(key, _aad(place, _TURN, position), turn, nonce)


def open_turn(key: bytes, place: Place, position: int, nonce: bytes, sealed: bytes) -> Turn:
    """Raises `DecryptionFailed`."""
    return _open(key, _aad(place, _TURN, position), nonce, sealed, Turn)


def digest_of(id_: bytes, turns: Iterable[Sealed]) -> str:
    """The chain over the turns as they are stored, in order (hex)."""
    digest = hashlib.sha256(MAGIC + id_).digest()
    for nonce, sealed in turns:
        digest = hashlib.sha256(digest + nonce + sealed).digest()
    return digest.hex()


def altered() -> DecryptionFailed:
    """The one error for a conversation whose parts do not fit together or do not open."""
    return DecryptionFailed(
        "this conversation was altered outside of the appliance, so it is not shown",
        hint="delete it; what was asked and answered is in the audit log",
    )


def _aad(place: Place, part: bytes, position: int) -> bytes:
    numbers = position.to_bytes(4, "big") + place.created_ms.to_bytes(8, "big")
    return MAGIC + part + place.id + numbers + place.owner.encode()


def _seal(key: bytes, aad: bytes, value: Head | Turn, nonce: bytes | None) -> Sealed:
    nonce = nonce or random_nonce()
    return nonce, seal(key, nonce, pad(msgspec.json.encode(value, order="sorted")), aad)


def _open(key: bytes, aad: bytes, nonce: bytes, sealed: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(unpad(open_sealed(key, nonce, sealed, aad)), type=kind)
    except (DecryptionFailed, msgspec.DecodeError, UnicodeDecodeError):
        raise altered() from None
