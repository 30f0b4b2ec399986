"""How keys are wrapped in the keystore: each bound to its place, each with a check value; and who wraps the wrappers.

    protector = RootProtector(root_key)
    blob = protector.protect(2, wrapping_key)                 # generation 2 of the wrapping key
    aad = scope_aad(scope_id, "con", 1, 687, 2)
    key = opened(wrapping_key, row.wrapped, aad, row.kcv, scope_id)

A wrapped key that is moved to another row, or whose row is re-labelled, does not open. A key that opens and does not
fit its check value is damage, too: AES-GCM alone does not commit to its key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal, Protocol

from appliance.crypto import keys
from appliance.crypto.secrets import constant_time_equal
from appliance.errors import DecryptionFailed, KeystoreInvalid
from appliance.storage.key_rows import ScopeKind, WrappingKeyRow

FORMAT = b"cloister/keystore/1"
# Not a wrapping key: the key that hashes owners, from when the root key that it was derived from is replaced.
OWNER_GENERATION = 0
FIRST_GENERATION = 1


class Protector(Protocol):
    """What the wrapping keys are protected by. Everything else in the keystore is protected by a wrapping key.

    Grade B: whoever gets hold of an old copy of the keystore and of what unlocks it has the keys of that time. Grade A:
    hardware holds something without which a generation does not open, and `release` destroys it there.
    """

    @property
    def name(self) -> str:
        """As it is stored beside the generation."""
        ...

    @property
    def grade(self) -> Literal["A", "B"]:
        """How final it is that a generation was released."""
        ...

    def protect(self, generation: int, key: bytes) -> bytes:
        """The key as it may be stored."""
        ...

    def reveal(self, generation: int, blob: bytes) -> bytes:
        """The key. Raises `DecryptionFailed`."""
        ...

    def release(self, generation: int) -> None:
        """No row needs this generation any more: destroy what is held for it outside the keystore."""
        ...


@dataclass(frozen=True, slots=True)
class RootProtector:
    """Wraps under the root key, in software. Everything it needs is in the file, so that nothing is to be released."""

    root: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return "root"

    @property
    def grade(self) -> Literal["A", "B"]:
        return "B"

    def protect(self, generation: int, key: bytes) -> bytes:
        return keys.wrap_key(self.root, key, wrapping_id(generation))

    def reveal(self, generation: int, blob: bytes) -> bytes:
        return keys.unwrap_key(self.root, blob, wrapping_id(generation))

    def release(self, generation: int) -> None:
        """The row was all there was."""


def new_generation(protector: Protector, generation: int, key: bytes) -> WrappingKeyRow:
    """A wrapping key as it is stored."""
    blob, kcv = protector.protect(generation, key), keys.key_check_value(key, wrapping_id(generation))
    return WrappingKeyRow(generation, protector.name, blob, kcv, time.time_ns() // 1_000_000)


def slot_id(slot: int) -> bytes:
    """Names a slot in its check value and binds the root key in it."""
    return FORMAT + b"/slot" + slot.to_bytes(4, "big")


def wrapping_id(generation: int) -> bytes:
    """Names a generation of the wrapping key and binds it."""
    return FORMAT + b"/kek" + generation.to_bytes(4, "big")


def signing_id(number: int) -> bytes:
    """Names a signing key."""
    return FORMAT + b"/sign" + number.to_bytes(4, "big")


def signing_aad(number: int, generation: int, origin: str) -> bytes:
    """Binds a signing seed to its number, the generation that wraps it and the log that it signs."""
    return signing_id(number) + generation.to_bytes(4, "big") + origin.encode()


def scope_aad(scope_id: bytes, kind: ScopeKind, record_class: int, month: int, generation: int) -> bytes:
    """Binds a key for records to its id, what it is for and the generation that wraps it."""
    place = record_class.to_bytes(1, "big") + month.to_bytes(2, "big") + generation.to_bytes(4, "big")
    return FORMAT + b"/scope" + scope_id + kind.encode() + place


def opened(wrapping: bytes, blob: bytes, aad: bytes, kcv: bytes, key_id: bytes) -> bytes:
    """The key in `blob`, checked. Raises `KeystoreInvalid`."""
    return checked(unwrapped(wrapping, blob, aad, "a wrapped key"), kcv, key_id)


def checked(key: bytes, kcv: bytes, key_id: bytes) -> bytes:
    """`key`, if its check value fits. Raises `KeystoreInvalid`."""
    if not constant_time_equal(keys.key_check_value(key, key_id), kcv):
        raise damaged("check value of a key")
    return key


def unwrapped(wrapping: bytes, blob: bytes, aad: bytes, what: str) -> bytes:
    """The key in `blob`, without a check value. Raises `KeystoreInvalid` naming `what`."""
    try:
        return keys.unwrap_key(wrapping, blob, aad)
    except DecryptionFailed:
        raise damaged(what) from None


def damaged(what: str) -> KeystoreInvalid:
    """The error for rows that do not open under the right key."""
    return KeystoreInvalid(f"the keystore is damaged: its {what} does not open", hint="restore it from its backup")
