"""The keys that sign the log: which there are and were, their public halves, and what may be read without unlocking.

    material = public_material(home)               # needs no key
    material.verifier_keys                         # of the log in use, newest first

`Keystore` (keystore.py) rotates them and hands out seeds.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.audit.header import LOG_ID_BYTES
from appliance.audit.key_slots import keystore_file
from appliance.audit.wrapped_keys import signing_aad, signing_id
from appliance.config import Home
from appliance.crypto import keys, signing
from appliance.crypto.note import verifier_key
from appliance.errors import KeystoreInvalid
from appliance.storage import key_rows
from appliance.storage.database import reading
from appliance.storage.key_rows import SigningKeyRow

SIGNING_KEYS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a signing key. `retired_ms` None: it signs today."""

    origin: str
    public: bytes
    created_ms: int
    retired_ms: int | None

    @property
    def verifier_key(self) -> str:
        """In the form that `auditverify --pub` takes."""
        return verifier_key(self.origin, self.public)


@dataclass(frozen=True, slots=True)
class PublicMaterial:
    """What a keystore says without being unlocked: the log in use and every key that ever signed, newest first."""

    origin: str
    keys: tuple[PublicKey, ...]

    @property
    def verifier_keys(self) -> tuple[str, ...]:
        """Keys of the log in use, newest first."""
        return tuple(key.verifier_key for key in self.keys if key.origin == self.origin)


def public_material(home: Home) -> PublicMaterial:
    """What can be read without a key: enough to verify the log. Raises `KeystoreInvalid` or a `HomeError`.

    Nothing vouches for it but the folder it lies in: an auditor uses the keys that were given to them elsewhere.
    """
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        rows = key_rows.read_signing_keys(connection, SIGNING_KEYS_MAX)
    return PublicMaterial(signing_now(rows, home.keystore).origin, tuple(public_half(row) for row in rows))


def log_id_of(origin: str) -> bytes:
    """Eight bytes that name a log in every header, derived from its origin."""
    return hashlib.sha256(origin.encode()).digest()[:LOG_ID_BYTES]


def signing_now(rows: Sequence[SigningKeyRow], path: Path) -> SigningKeyRow:
    """The newest key that is not retired."""
    for row in rows:
        if row.retired_ms is None:
            return row
    raise KeystoreInvalid(f"{path} is incomplete: it has no signing key", hint="restore it from its backup")


def public_half(row: SigningKeyRow) -> PublicKey:
    """What anybody may know of a signing key."""
    return PublicKey(row.origin, row.public, row.created_ms, row.retired_ms)


def new_signing_key(number: int, origin: str, generation: int, wrapping: bytes) -> SigningKeyRow:
    """A new signing key for the log `origin`, wrapped by this generation of the wrapping key."""
    seed = signing.generate_seed()
    wrapped = keys.wrap_key(wrapping, seed, signing_aad(number, generation, origin))
    kcv = keys.key_check_value(seed, signing_id(number))
    return SigningKeyRow(
        number, origin, signing.public_key(seed), generation, wrapped, kcv, time.time_ns() // 1_000_000
    )
