"""The keys of the log, wrapped, in a database file of their own.

    create_keystore(home, root_key, origin="site.example/audit")   # once; the tables exist already
    keystore = open_keystore(home, root_key)
    keystore.env_key(record_class, month)            # ScopeKey(id, key), made when the month begins
    keystore.destroy(scope_ids)                      # what they sealed opens nowhere any more (grade B)

    slot key (key file, or passphrase by Argon2id)   key_slots.py
      └─ root key ─ wrapping key, generation n ─┬─ env keys  (class, month)          who, what, when
                                                ├─ con keys  (class, month, owner)   what was typed and answered
                                                ├─ idx keys  (month)                 blind tokens of the search index
                                                └─ signing seeds (Ed25519)           one log each, oldest retired

What a caller may rely on: a key that does not fit is `WrongKey` and nothing was written; a wrapped key that was
altered is `KeystoreInvalid`; a key is on the disk before it is returned, so no record can be sealed with a key that
a power cut takes away; when `destroy` returns, the wrapped keys are nowhere in the file or beside it, and no process
opens anything with them. Names never enter the file: the owner of a content key is stored as a keyed hash.

Several processes hold one keystore. What one of them rotates or destroys the others notice at their next use: a
`stat` says that the file changed, and a look into it what.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock, RLock
from typing import TypeVar

from appliance.audit.key_slots import (
    FIRST_SLOT,
    PassphraseCost,
    keystore_file,
    new_slot,
    open_keystore_file,
    unlock_slot,
)
from appliance.audit.signing_keys import (
    SIGNING_KEYS_MAX,
    PublicKey,
    PublicMaterial,
    log_id_of,
    new_signing_key,
    public_half,
    public_material,
    signing_now,
)
from appliance.audit.wrapped_keys import (
    FIRST_GENERATION,
    FORMAT,
    OWNER_GENERATION,
    Protector,
    RootProtector,
    checked,
    damaged,
    new_generation,
    opened,
    scope_aad,
    signing_aad,
    signing_id,
    wrapping_id,
)
from appliance.config import Home
from appliance.crypto import keys, signing
from appliance.crypto.note import verifier_key
from appliance.errors import DecryptionFailed, HomeExists, KeystoreInvalid, KeystoreLocked
from appliance.storage import key_rows
from appliance.storage.database import Connection, Engine, Mode, erasing, reading, writing
from appliance.storage.key_rows import ScopeKeyInfo, ScopeKeyRow, ScopeKind, SigningKeyRow, WrappingKeyRow

__all__ = [
    "Keystore",
    "PublicKey",
    "PublicMaterial",
    "ScopeKey",
    "ScopeKeyInfo",
    "create_keystore",
    "log_id_of",
    "open_keystore",
    "public_material",
]

Purpose = tuple[ScopeKind, int, int, bytes]  # kind, class, month, owner
Place = TypeVar("Place")
Kept = TypeVar("Kept")

ORIGIN_DEFAULT = "cloister.local/audit"
SIGNING_OVERLAP_S = 86400.0
OWNER_LABEL = FORMAT + b"/owner"
FILE_LABEL = FORMAT + b"/file"
INDEX_CLASS = 0  # index keys belong to a month, not to a class of records
MONTHS_MAX = 100_000
_PAGE = 1000
_CACHED_KEYS_MAX = 4096
_MADE_AT_ONCE = 256
_IDS_PER_STATEMENT = 500
# A file system may give two changes one time stamp; a younger one is looked at again.
_SETTLED_NS = 100_000_000


@dataclass(frozen=True, slots=True, repr=False)
class ScopeKey:
    """A key and the random id by which records name it."""

    id: bytes
    key: bytes


def create_keystore(
    home: Home,
    root_key: bytes,
    *,
    origin: str = ORIGIN_DEFAULT,
    salt: bytes | None = None,
    cost: PassphraseCost | None = None,
) -> None:
    """Fill an empty keystore: a root key in slot 0, the first wrapping key, a signing key for a new log.

    The log's own origin is `<origin>/<random id>/e1`; two logs never share one. `salt` and `cost` are those of a
    `root_key` that was derived from a passphrase. MUST be called once per data folder; a keystore that has keys is
    `HomeExists` and stays as it is.
    """
    root, wrapping = keys.random_key(), keys.random_key()
    log_origin = f"{origin}/{uuid.uuid4()}/e1"
    with keystore_file(home.keystore, "rw") as engine, writing(engine) as connection:
        if key_rows.read_slots(connection):
            raise HomeExists(f"{home.keystore} has keys already", hint="nothing was changed")
        key_rows.insert_slot(connection, new_slot(FIRST_SLOT, root_key, root, salt=salt, cost=cost))
        key_rows.insert_wrapping_key(connection, new_generation(RootProtector(root), FIRST_GENERATION, wrapping))
        key_rows.insert_signing_key(connection, new_signing_key(1, log_origin, FIRST_GENERATION, wrapping))


def open_keystore(home: Home, root_key: bytes) -> Keystore:
    """Unlock with the key of any slot. Raises `WrongKey`, `KeystoreInvalid` or a `HomeError`; writes nothing."""
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        _, root = unlock_slot(key_rows.read_slots(connection), root_key)
        return Keystore(home.keystore, connection, RootProtector(root), keys.derive_subkey(root, OWNER_LABEL))


class Keystore:
    """An unlocked keystore; made by `open_keystore`. Safe to use from several threads and several processes."""

    def __init__(self, path: Path, connection: Connection, protector: Protector, owner_key: bytes) -> None:
        self._path = path
        self._protector = protector
        self._owner_key = owner_key
        self._lock = RLock()
        self._making = Lock()
        self._opening = Lock()
        self._engines: dict[Mode, tuple[tuple[int, int], Engine]] = {}
        self._wanted: set[Purpose] = set()
        self._seen: tuple[int, ...] | None = None
        self._destructions = key_rows.read_destructions(connection)
        self._wrapping: dict[int, bytes] = {}
        self._generations: tuple[WrappingKeyRow, ...] = ()
        self._by_purpose: dict[Purpose, ScopeKey] = {}
        self._by_id: dict[bytes, bytes] = {}
        rows = key_rows.read_signing_keys(connection, SIGNING_KEYS_MAX)
        current = signing_now(rows, path)
        self._origin = current.origin
        self._signing = tuple(rows)
        self._load(connection)
        if signing.public_key(self._seed(current)) != current.public:
            raise damaged("signing key")

    # --- the log that is signed

    @property
    def origin(self) -> str:
        """Name of the log, and of the key that signs it. Stays what it was when this keystore was opened."""
        return self._origin

    @property
    def log_id(self) -> bytes:
        """Eight bytes that name the log in every header, derived from the origin."""
        return log_id_of(self._origin)

    @property
    def public_key(self) -> bytes:
        """Ed25519 public key that signs the log now."""
        return self._current().public

    @property
    def verifier_key(self) -> str:
        """That key in the form that `auditverify --pub` takes."""
        return verifier_key(self._origin, self.public_key)

    def public_keys(self) -> list[PublicKey]:
        """Every key that ever signed this log or one before it, newest first."""
        self._refresh()
        return [public_half(row) for row in self._signing]

    def origin_history(self) -> list[str]:
        """The origins of this log and of those before it, oldest first."""
        self._refresh()
        return list(dict.fromkeys(row.origin for row in reversed(self._signing)))

    def signing_seed(self) -> bytes:
        """The private signing key; given to the sequencer and to nobody else."""
        return self._seed(self._current())

    def signing_seeds(self, overlap_s: float = SIGNING_OVERLAP_S) -> list[bytes]:
        """The seeds that sign today, newest first: the one in use, and those retired less than `overlap_s` ago."""
        self._refresh()
        since = _now() - overlap_s * 1000
        own = [row for row in self._signing if row.origin == self._origin and row.wrapped]
        return [self._seed(row) for row in own if row.retired_ms is None or row.retired_ms > since]

    def rotate_signing_key(self, overlap_s: float = SIGNING_OVERLAP_S) -> PublicKey:
        """A new key signs from now on, the one before it beside it for `overlap_s`. Durable when it returns.

        The seeds of keys retired longer ago are overwritten: nobody can sign with them again, whoever breaks in.
        """
        return self._retire_and_sign(self._origin, lambda retired_ms: retired_ms <= _now() - overlap_s * 1000)

    def distrust_signing_keys(self) -> None:
        """Overwrite the seeds of all retired keys now: a compromised key signs nothing any more, not even beside."""
        with keystore_file(self._path, "rw") as engine, erasing(engine) as connection:
            self._load(connection)
            self._erase_seeds(connection, lambda _: True)
            self._load(connection)

    def begin_epoch(self, base_origin: str) -> str:
        """A new log in place of this one: its origin, `<base_origin>/<same id>/e<n + 1>`. Durable when it returns.

        The seeds of the old origin are overwritten, so that nothing can be signed under its name again.
        """
        try:
            _, log_uuid, epoch = self._origin.rsplit("/", 2)
            origin = f"{base_origin}/{log_uuid}/e{int(epoch.removeprefix('e')) + 1}"
        except ValueError:
            raise KeystoreInvalid(f"{self._origin} names no epoch", hint="restore the keystore from a backup") from None
        self._retire_and_sign(origin, lambda _: True)
        self._origin = origin
        return origin

    # --- keys for records

    def env_key(self, record_class: int, month: int) -> ScopeKey:
        """The key for envelopes of this class and month."""
        return self._for_purpose("env", record_class, month, b"")

    def content_key(self, record_class: int, month: int, owner: str) -> ScopeKey:
        """The key for contents of this class and month that belong to `owner`; destroying it destroys just those."""
        return self._for_purpose("con", record_class, month, self.owner_id(owner))

    def index_key(self, month: int) -> ScopeKey:
        """The key of the blind index for this month."""
        return self._for_purpose("idx", INDEX_CLASS, month, b"")

    def owner_id(self, owner: str) -> bytes:
        """How `owner` is named in the keystore: 16 bytes that say nothing without the root key."""
        return keys.keyed_hash(self._owner_key, owner.encode())

    def file_key(self, label: bytes) -> bytes:
        """The key of a file of the data folder that is sealed; one label a file. Replacing the root key keeps it.

        Derived twice: a name that `owner_id` hashes may be anything, and 16 bytes of what it gives are stored.
        """
        return keys.derive_subkey(keys.derive_subkey(self._owner_key, FILE_LABEL), label)

    def key_by_id(self, scope_id: bytes) -> bytes:
        """The key a record names. Raises `DecryptionFailed` when there is none (any more)."""
        found = self._remembered(self._by_id, scope_id)
        if found is not None:
            return found
        with reading(self._engine("ro")) as connection:
            self._load(connection)
            row, known = key_rows.read_scope_key(connection, scope_id), self._destructions
        if row is None:
            raise DecryptionFailed("the key of this record is not in the keystore: it was destroyed, or never here")
        return self._remember(row, known).key

    # --- what there is, and its end

    def scopes_of_owner(self, owner: bytes) -> list[ScopeKeyInfo]:
        """The keys for contents of one owner (see `owner_id`), by id."""
        return self._paged(lambda connection, after: key_rows.read_scopes_of_owner(connection, owner, after, _PAGE))

    def scopes(self, scope_ids: Iterable[bytes]) -> list[ScopeKeyInfo]:
        """What the keys with these ids are for; those that are not there any more are left out."""
        with reading(self._engine("ro")) as connection:
            rows = [key_rows.read_scope_key(connection, scope_id) for scope_id in scope_ids]
        return [ScopeKeyInfo(row.scope_id, row.kind, row.record_class, row.month, row.owner) for row in rows if row]

    def scopes_of(self, record_class: int, month: int) -> list[ScopeKeyInfo]:
        """The keys of one class and month, by id; the index key of a month has class 0."""
        return self._paged(
            lambda connection, after: key_rows.read_scopes_of_month(connection, record_class, month, after, _PAGE)
        )

    def months(self) -> list[tuple[int, int]]:
        """Classes and months that have keys for records, ascending."""
        with reading(self._engine("ro")) as connection:
            return key_rows.read_months(connection, MONTHS_MAX)

    def destroy(self, scope_ids: Iterable[bytes]) -> int:
        """Destroy keys; returns how many were there. Again for the same ids changes nothing, and completes a cut.

        When it returns, their wrapped bytes are in no page of the file, nor in its journal, and no process has them.
        Grade B: an older copy of the keystore together with what unlocked it has them until it is destroyed, and the
        disk may keep traces that no program reaches. See `grade`.
        """
        ids = list(scope_ids)
        with keystore_file(self._path, "rw") as engine, erasing(engine) as connection:
            destroyed = 0
            for first in range(0, len(ids), _IDS_PER_STATEMENT):
                destroyed += key_rows.delete_scope_keys(connection, ids[first : first + _IDS_PER_STATEMENT])
            key_rows.count_destruction(connection)
        self._forget()
        return destroyed

    @property
    def grade(self) -> str:
        """How final `destroy` is: `A` where hardware protects the wrapping keys, `B` in software."""
        return self._protector.grade

    @property
    def generations(self) -> tuple[int, ...]:
        """The generations of the wrapping key, oldest first; more than one: a rotation goes on, or was interrupted."""
        self._refresh()
        return tuple(sorted(self._wrapping))

    # --- inside

    def _for_purpose(self, kind: ScopeKind, record_class: int, month: int, owner: bytes) -> ScopeKey:
        purpose: Purpose = (kind, record_class, month, owner)
        found = self._remembered(self._by_purpose, purpose)
        if found is not None:
            return found
        with self._lock:
            self._wanted.add(purpose)
        with self._making:
            # Whoever is first makes the keys of all who wait: one transaction, however many subjects arrive at once.
            found = self._remembered(self._by_purpose, purpose)
            return found or self._make(purpose)

    def _make(self, purpose: Purpose) -> ScopeKey:
        with self._lock:
            wanted = (self._wanted | {purpose}) if len(self._wanted) <= _MADE_AT_ONCE else {purpose}
            self._wanted -= wanted
        with writing(self._engine("rw")) as connection:
            # Looked up under the write lock: of two processes that need the month's first key, one makes it; and a
            # generation that another process just replaced is never used again.
            self._load(connection)
            rows = [self._find_or_insert(connection, each) for each in sorted(wanted)]
            known = self._destructions
        made = {_purpose_of(row): self._remember(row, known) for row in rows}
        return made[purpose]

    def _find_or_insert(self, connection: Connection, purpose: Purpose) -> ScopeKeyRow:
        row = key_rows.find_scope_key(connection, *purpose)
        if row is None:
            row = self._new_scope_key(*purpose)
            key_rows.insert_scope_key(connection, row)
        return row

    def _new_scope_key(self, kind: ScopeKind, record_class: int, month: int, owner: bytes) -> ScopeKeyRow:
        generation, scope_id, key = max(self._wrapping), keys.random_id(), keys.random_key()
        aad = scope_aad(scope_id, kind, record_class, month, generation)
        wrapped = keys.wrap_key(self._wrapping[generation], key, aad)
        kcv = keys.key_check_value(key, scope_id)
        return ScopeKeyRow(scope_id, kind, record_class, month, owner, generation, wrapped, kcv, _now())

    def _remember(self, row: ScopeKeyRow, known: int) -> ScopeKey:
        aad = scope_aad(row.scope_id, row.kind, row.record_class, row.month, row.kek_gen)
        key = opened(self._wrapping_key(row.kek_gen), row.wrapped, aad, row.kcv, row.scope_id)
        found = ScopeKey(row.scope_id, key)
        with self._lock:
            if known != self._destructions:
                return found  # keys were destroyed since it was read, this one perhaps among them
            if len(self._by_id) >= _CACHED_KEYS_MAX:
                self._forget()
            self._by_id[row.scope_id] = key
            self._by_purpose[_purpose_of(row)] = found
        return found

    def _remembered(self, cache: dict[Place, Kept], place: Place) -> Kept | None:
        """What is in memory, unless another process destroyed it meanwhile."""
        if place in cache:
            self._refresh()
        with self._lock:
            return cache.get(place)

    def _forget(self) -> None:
        with self._lock:
            self._by_id.clear()
            self._by_purpose.clear()

    def _refresh(self) -> None:
        """Take over what another process changed."""
        state = self._path.stat()
        seen = (state.st_ino, state.st_mtime_ns, state.st_size)
        if seen == self._seen:
            return
        with reading(self._engine("ro")) as connection:
            self._load(connection)
        settled = time.time_ns() - state.st_mtime_ns > _SETTLED_NS
        self._seen = seen if settled else None

    def _load(self, connection: Connection) -> None:
        """What the file says now, under the caller's transaction: destructions, generations, signing keys."""
        # Read first: whoever waits for the file here must not hold what the one that has the file waits for.
        destructions = key_rows.read_destructions(connection)
        generations = tuple(key_rows.read_wrapping_keys(connection))
        signing_keys = tuple(key_rows.read_signing_keys(connection, SIGNING_KEYS_MAX))
        with self._lock:
            if destructions < self._destructions:
                return  # another thread read it later and was here before
            if destructions != self._destructions:
                self._forget()
                self._destructions = destructions
            if generations != self._generations:
                self._unwrap_generations(generations)
            self._signing = signing_keys

    def _engine(self, mode: Mode) -> Engine:
        """The file, opened once: anew after a fork, and when another file was put in its place."""
        place = (os.getpid(), self._path.stat().st_ino)
        with self._opening:  # not `_lock`: opening may wait for one who has the file and waits for that
            kept = self._engines.get(mode)
            if kept is None or kept[0] != place:
                kept = (place, open_keystore_file(self._path, mode))
                self._engines[mode] = kept
            return kept[1]

    def _unwrap_generations(self, generations: tuple[WrappingKeyRow, ...]) -> None:
        wrapping = {}
        for row in generations:
            try:
                key = self._protector.reveal(row.gen, row.blob)
            except DecryptionFailed:
                if self._generations:
                    raise KeystoreLocked(
                        "the root key of this data folder was replaced while this process ran", hint="start it again"
                    ) from None
                raise damaged("a wrapping key") from None
            wrapping[row.gen] = checked(key, row.kcv, wrapping_id(row.gen))
        self._owner_key = wrapping.pop(OWNER_GENERATION, self._owner_key)
        if not wrapping:
            raise KeystoreInvalid(f"{self._path} is incomplete", hint="restore it from its backup")
        self._wrapping, self._generations = wrapping, generations

    def _wrapping_key(self, generation: int) -> bytes:
        try:
            return self._wrapping[generation]
        except KeyError:
            raise KeystoreInvalid(
                f"wrapping key {generation} is missing from {self._path}", hint="restore it from its backup"
            ) from None

    def _current(self) -> SigningKeyRow:
        self._refresh()
        return signing_now([row for row in self._signing if row.origin == self._origin], self._path)

    def _seed(self, row: SigningKeyRow) -> bytes:
        aad = signing_aad(row.id, row.kek_gen, row.origin)
        return opened(self._wrapping_key(row.kek_gen), row.wrapped, aad, row.kcv, signing_id(row.id))

    def _retire_and_sign(self, origin: str, spent: Callable[[int], bool]) -> PublicKey:
        """Retire the key in use, overwrite the seeds that are `spent` (by when they retired), begin a new key."""
        with keystore_file(self._path, "rw") as engine, erasing(engine) as connection:
            self._load(connection)
            generation = max(self._wrapping)
            current = signing_now(list(self._signing), self._path)
            made = new_signing_key(self._signing[0].id + 1, origin, generation, self._wrapping[generation])
            key_rows.update_signing_key(connection, replace(current, retired_ms=_now()))
            key_rows.insert_signing_key(connection, made)
            self._load(connection)
            self._erase_seeds(connection, spent)
            self._load(connection)
        return public_half(made)

    def _erase_seeds(self, connection: Connection, spent: Callable[[int], bool]) -> None:
        for row in self._signing:
            if row.retired_ms is not None and row.wrapped and spent(row.retired_ms):
                key_rows.update_signing_key(connection, replace(row, wrapped=b""))

    def _paged(self, read: Callable[[Connection, bytes], list[ScopeKeyInfo]]) -> list[ScopeKeyInfo]:
        found: list[ScopeKeyInfo] = []
        with reading(self._engine("ro")) as connection:
            while page := read(connection, found[-1].scope_id if found else b""):
                found += page
        return found


def _purpose_of(row: ScopeKeyRow) -> Purpose:
    return row.kind, row.record_class, row.month, row.owner


def _now() -> int:
    return time.time_ns() // 1_000_000
