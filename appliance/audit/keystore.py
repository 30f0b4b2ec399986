"""The keys of the log, wrapped, in a database file of their own.

    create_keystore(home, root_key, origin="site.example/audit")   # once; the tables exist already
    keystore = open_keystore(home, root_key)
    keystore.env_key(record_class, month)            # ScopeKey(id, key), made when the month begins

    slot key (key file, or passphrase by Argon2id)
      └─ root key ─ wrapping key, generation n ─┬─ env keys  (class, month)          who, what, when
                                                ├─ con keys  (class, month, owner)   what was typed and answered
                                                └─ signing seed (Ed25519)

What a caller may rely on: a key that does not fit is `WrongKey` and nothing was written; a wrapped key that was
altered is `KeystoreInvalid`; a key is on the disk before it is returned, so no record can be sealed with a key that
a power cut takes away. Names never enter the file: the owner of a content key is stored as a keyed hash.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

import msgspec

from appliance.audit import store
from appliance.audit.header import LOG_ID_BYTES
from appliance.audit.store import ScopeKeyRow, ScopeKind, SigningKeyRow, SlotRow, WrappingKeyRow
from appliance.config import Home
from appliance.crypto import keys, signing
from appliance.crypto.note import verifier_key
from appliance.crypto.secrets import constant_time_equal
from appliance.errors import DecryptionFailed, HomeExists, KeystoreInvalid, WrongKey
from appliance.storage.database import Connection, Engine, Mode, open_database, reading, writing
from appliance.storage.revisions import require_current

FORMAT = b"cloister/keystore/1"
ORIGIN_DEFAULT = "cloister.local/audit"
FILE_SLOT = 0
FIRST_GENERATION = 1
_CACHED_KEYS_MAX = 4096


@dataclass(frozen=True, slots=True, repr=False)
class ScopeKey:
    """A key and the random id by which records name it."""

    id: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class PassphraseCost:
    """What one guess at a passphrase costs (Argon2id)."""

    memory_kib: int = 256 * 1024
    iterations: int = 3
    lanes: int = 2


class _StoredCost(msgspec.Struct, frozen=True):
    """The cost of a guess as it is stored, with the bounds within which it is believed."""

    kdf: Literal["argon2id"]
    memory_kib: Annotated[int, msgspec.Meta(ge=8, le=1024 * 1024)]
    iterations: Annotated[int, msgspec.Meta(ge=1, le=64)]
    lanes: Annotated[int, msgspec.Meta(ge=1, le=64)]


def create_keystore(home: Home, root_key: bytes, *, origin: str = ORIGIN_DEFAULT) -> None:
    """Fill an empty keystore: a root key in slot 0, the first wrapping key, a signing key for a new log.

    The log's own origin is `<origin>/<random id>/e1`; two logs never share one. MUST be called once per data folder;
    a keystore that has keys is `HomeExists` and stays as it is.
    """
    now = time.time_ns() // 1_000_000
    master, wrapping, seed = keys.random_key(), keys.random_key(), signing.generate_seed()
    log_origin = f"{origin}/{uuid.uuid4()}/e1"
    with _database(home.keystore, "rw") as engine, writing(engine) as connection:
        if store.read_slots(connection):
            raise HomeExists(f"{home.keystore} has keys already", hint="nothing was changed")
        store.insert_slot(connection, _slot(FILE_SLOT, root_key, master, now))
        store.insert_wrapping_key(connection, _wrapping_key(master, wrapping, now))
        store.insert_signing_key(connection, _signing_key(wrapping, seed, log_origin, now))


def open_keystore(home: Home, root_key: bytes) -> Keystore:
    """Unlock with the key of any slot. Raises `WrongKey`, `KeystoreInvalid` or a `HomeError`; writes nothing."""
    with _database(home.keystore, "ro") as engine, reading(engine) as connection:
        master = _unlock(store.read_slots(connection), root_key)
        return Keystore(home.keystore, connection, master)


def add_passphrase_slot(home: Home, root_key: bytes, passphrase: str, *, cost: PassphraseCost | None = None) -> int:
    """Let a passphrase unlock the keystore too; returns the slot. `root_key` proves the right to do so."""
    cost = cost or PassphraseCost()
    salt = keys.random_id()
    slot_key = _derive(passphrase, salt, cost)
    with _database(home.keystore, "rw") as engine, writing(engine) as connection:
        slots = store.read_slots(connection)
        master = _unlock(slots, root_key)
        number = max(row.slot for row in slots) + 1
        now = time.time_ns() // 1_000_000
        store.insert_slot(connection, _slot(number, slot_key, master, now, salt=salt, cost=cost))
    return number


def root_key_from_passphrase(home: Home, passphrase: str) -> bytes:
    """The key of the slot that this passphrase opens, for `open_keystore`. Raises `WrongKey`. Takes seconds."""
    with _database(home.keystore, "ro") as engine, reading(engine) as connection:
        slots = [row for row in store.read_slots(connection) if row.kind == "passphrase"]
    for row in slots:
        slot_key = _derive(passphrase, row.salt or b"", _cost(row))
        if constant_time_equal(keys.key_check_value(slot_key, _slot_id(row.slot)), row.kcv):
            return slot_key
    raise _wrong_key(slots, "the passphrase")


class Keystore:
    """An unlocked keystore; made by `open_keystore`. Safe to use from several threads and several processes."""

    def __init__(self, path: Path, connection: Connection, master: bytes) -> None:
        self._path = path
        self._owner_key = keys.derive_subkey(master, FORMAT + b"/owner")
        self._wrapping = {
            row.gen: _opened(master, row.blob, _wrapping_aad(row.gen), row.kcv, _wrapping_id(row.gen))
            for row in store.read_wrapping_keys(connection)
        }
        row = store.read_signing_key(connection)
        if not self._wrapping or row is None:
            raise KeystoreInvalid(f"{path} is incomplete", hint="restore it from its backup")
        self._signing = row
        self._by_purpose: dict[tuple[ScopeKind, int, int, bytes], ScopeKey] = {}
        self._by_id: dict[bytes, bytes] = {}
        self._lock = Lock()
        if signing.public_key(self.signing_seed()) != row.public:
            raise _damaged("signing key")

    @property
    def origin(self) -> str:
        """Name of the log, and of the key that signs it."""
        return self._signing.origin

    @property
    def log_id(self) -> bytes:
        """Eight bytes that name the log in every header, derived from the origin."""
        return hashlib.sha256(self.origin.encode()).digest()[:LOG_ID_BYTES]

    @property
    def public_key(self) -> bytes:
        """Ed25519 public key of the log."""
        return self._signing.public

    @property
    def verifier_key(self) -> str:
        """The public key in the form that `auditverify --pub` takes."""
        return verifier_key(self.origin, self.public_key)

    def signing_seed(self) -> bytes:
        """The private signing key; given to the sequencer and to nobody else."""
        row = self._signing
        aad = _signing_aad(row.id, row.kek_gen, row.origin)
        return _opened(self._wrapping_key(row.kek_gen), row.wrapped, aad, row.kcv, _signing_id(row.id))

    def env_key(self, record_class: int, month: int) -> ScopeKey:
        """The key for envelopes of this class and month."""
        return self._for_purpose("env", record_class, month, b"")

    def content_key(self, record_class: int, month: int, owner: str) -> ScopeKey:
        """The key for contents of this class and month that belong to `owner`; destroying it destroys just those."""
        return self._for_purpose("con", record_class, month, keys.keyed_hash(self._owner_key, owner.encode()))

    def key_by_id(self, scope_id: bytes) -> bytes:
        """The key a record names. Raises `DecryptionFailed` when there is none (any more)."""
        with self._lock:
            found = self._by_id.get(scope_id)
        if found is not None:
            return found
        with _database(self._path, "ro") as engine, reading(engine) as connection:
            row = store.read_scope_key(connection, scope_id)
        if row is None:
            raise DecryptionFailed("the key of this record is not in the keystore: it was destroyed, or never here")
        return self._remember(row).key

    def _for_purpose(self, kind: ScopeKind, record_class: int, month: int, owner: bytes) -> ScopeKey:
        purpose = (kind, record_class, month, owner)
        with self._lock:
            found = self._by_purpose.get(purpose)
        if found is not None:
            return found
        with _database(self._path, "rw") as engine, writing(engine) as connection:
            # Looked up under the write lock: of two processes that need the month's first key, one makes it.
            row = store.find_scope_key(connection, *purpose)
            if row is None:
                row = self._new_scope_key(*purpose)
                store.insert_scope_key(connection, row)
        return self._remember(row)

    def _new_scope_key(self, kind: ScopeKind, record_class: int, month: int, owner: bytes) -> ScopeKeyRow:
        generation = max(self._wrapping)
        scope_id, key = keys.random_id(), keys.random_key()
        wrapped = keys.wrap_key(
            self._wrapping_key(generation), key, _scope_aad(scope_id, kind, record_class, month, generation)
        )
        kcv = keys.key_check_value(key, scope_id)
        now = time.time_ns() // 1_000_000
        return ScopeKeyRow(scope_id, kind, record_class, month, owner, generation, wrapped, kcv, now)

    def _remember(self, row: ScopeKeyRow) -> ScopeKey:
        aad = _scope_aad(row.scope_id, row.kind, row.record_class, row.month, row.kek_gen)
        key = _opened(self._wrapping_key(row.kek_gen), row.wrapped, aad, row.kcv, row.scope_id)
        found = ScopeKey(row.scope_id, key)
        with self._lock:
            if len(self._by_id) >= _CACHED_KEYS_MAX:
                self._by_id.clear()
                self._by_purpose.clear()
            self._by_id[row.scope_id] = key
            self._by_purpose[row.kind, row.record_class, row.month, row.owner] = found
        return found

    def _wrapping_key(self, generation: int) -> bytes:
        try:
            return self._wrapping[generation]
        except KeyError:
            raise KeystoreInvalid(
                f"wrapping key {generation} is missing from {self._path}", hint="restore it from its backup"
            ) from None


@contextmanager
def _database(path: Path, mode: Mode) -> Iterator[Engine]:
    """Open for one use: keys are read and made a few times a month, and an open file could outlive a restore."""
    engine = open_database(path, mode=mode, journal="delete", connections=1)
    try:
        require_current(engine, path)
        yield engine
    finally:
        engine.dispose()


# Every wrapped key is bound to its place: moved to another row, or re-labelled, it does not open.


def _slot_id(slot: int) -> bytes:
    return FORMAT + b"/slot" + slot.to_bytes(4, "big")


def _wrapping_id(generation: int) -> bytes:
    return FORMAT + b"/kek" + generation.to_bytes(4, "big")


def _wrapping_aad(generation: int) -> bytes:
    return _wrapping_id(generation)


def _signing_id(number: int) -> bytes:
    return FORMAT + b"/sign" + number.to_bytes(4, "big")


def _signing_aad(number: int, generation: int, origin: str) -> bytes:
    return _signing_id(number) + generation.to_bytes(4, "big") + origin.encode()


def _scope_aad(scope_id: bytes, kind: ScopeKind, record_class: int, month: int, generation: int) -> bytes:
    place = record_class.to_bytes(1, "big") + month.to_bytes(2, "big") + generation.to_bytes(4, "big")
    return FORMAT + b"/scope" + scope_id + kind.encode() + place


def _slot(
    slot: int,
    slot_key: bytes,
    master: bytes,
    now: int,
    *,
    salt: bytes | None = None,
    cost: PassphraseCost | None = None,
) -> SlotRow:
    parameters = msgspec.json.encode(_StoredCost("argon2id", **asdict(cost))).decode() if cost else "{}"
    wrapped = keys.wrap_key(slot_key, master, _slot_id(slot))
    kcv = keys.key_check_value(slot_key, _slot_id(slot))
    return SlotRow(slot, "passphrase" if cost else "file", parameters, salt, wrapped, kcv, now)


def _wrapping_key(master: bytes, wrapping: bytes, now: int) -> WrappingKeyRow:
    blob = keys.wrap_key(master, wrapping, _wrapping_aad(FIRST_GENERATION))
    kcv = keys.key_check_value(wrapping, _wrapping_id(FIRST_GENERATION))
    return WrappingKeyRow(FIRST_GENERATION, "root", blob, kcv, now)


def _signing_key(wrapping: bytes, seed: bytes, origin: str, now: int) -> SigningKeyRow:
    wrapped = keys.wrap_key(wrapping, seed, _signing_aad(1, FIRST_GENERATION, origin))
    kcv = keys.key_check_value(seed, _signing_id(1))
    return SigningKeyRow(1, origin, signing.public_key(seed), FIRST_GENERATION, wrapped, kcv, now)


def _unlock(slots: Sequence[SlotRow], slot_key: bytes) -> bytes:
    """The root key of the slot whose check value fits. A wrong key is told apart from a damaged keystore here."""
    for row in slots:
        if constant_time_equal(keys.key_check_value(slot_key, _slot_id(row.slot)), row.kcv):
            return _unwrapped(slot_key, row.wrapped, _slot_id(row.slot), f"slot {row.slot}")
    if not slots:
        raise KeystoreInvalid("the keystore has no keys yet", hint="create the data folder with `appliance init`")
    raise _wrong_key([row for row in slots if row.kind == "file"] or slots, "the key file")


def _opened(wrapping: bytes, blob: bytes, aad: bytes, kcv: bytes, key_id: bytes) -> bytes:
    key = _unwrapped(wrapping, blob, aad, "a wrapped key")
    if not constant_time_equal(keys.key_check_value(key, key_id), kcv):
        raise _damaged("check value of a key")
    return key


def _unwrapped(wrapping: bytes, blob: bytes, aad: bytes, what: str) -> bytes:
    try:
        return keys.unwrap_key(wrapping, blob, aad)
    except DecryptionFailed:
        raise _damaged(what) from None


def _derive(passphrase: str, salt: bytes, cost: PassphraseCost) -> bytes:
    return keys.derive_root_from_passphrase(passphrase, salt, cost)


def _cost(row: SlotRow) -> PassphraseCost:
    """The stored cost, bounded: an altered row must not make the process take all memory."""
    try:
        stored = msgspec.json.decode(row.parameters, type=_StoredCost)
    except msgspec.DecodeError:
        raise _damaged(f"slot {row.slot}") from None
    return PassphraseCost(stored.memory_kib, stored.iterations, stored.lanes)


def _wrong_key(slots: Sequence[SlotRow], which: str) -> WrongKey:
    numbers = ", ".join(str(row.slot) for row in slots)
    plural = "s" if len(slots) > 1 else ""
    return WrongKey(
        f"wrong key (slot{plural} {numbers}): {which} does not belong to this data folder",
        hint="name the key that was made with this data folder; nothing was changed",
    )


def _damaged(what: str) -> KeystoreInvalid:
    return KeystoreInvalid(f"the keystore is damaged: its {what} does not open", hint="restore it from its backup")
