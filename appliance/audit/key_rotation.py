"""Replaces the keys above the keys of records: the wrapping key, and the root key with what unlocks it.

    rotate_wrapping_key(home, root_key)                  # a new generation; every key re-wrapped; the old one is gone
    root_key = rotate_root_key(home, root_key, key_file=path)
    finish_rotation(home, root_key)                      # at a start: what an interruption left

Nothing that is recorded changes: records name the ids of keys, and those keep their keys. Every transaction leaves a
keystore that opens with the same means as before it. What is replaced is overwritten in the file.

A wrapping key is rotated while others work: keys are re-wrapped a few thousand at a time, both generations stand side
by side, and the old one goes when nothing names it. A replaced root key locks out processes that run, which is why its
caller holds the server's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from appliance.audit.key_slots import (
    free_slot,
    keystore_file,
    new_slot,
    replaced_by,
    rewrapped_slot,
    settled_slot,
    unlock_slot,
)
from appliance.audit.keystore import OWNER_LABEL
from appliance.audit.root_key import draft_root_key, drop_draft, put_in_place
from appliance.audit.signing_keys import SIGNING_KEYS_MAX
from appliance.audit.wrapped_keys import (
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
from appliance.crypto import keys
from appliance.errors import ApplianceError, Conflict, DecryptionFailed
from appliance.storage import key_rows
from appliance.storage.database import Connection, erasing, reading, writing
from appliance.storage.key_rows import ScopeKeyRow, SlotRow, WrappingKeyRow

# Others wait for the write lock meanwhile: a tenth of a second.
_REWRAPPED_AT_ONCE = 2000


def rotate_wrapping_key(home: Home, root_key: bytes) -> int:
    """A new generation of the wrapping key, and nothing wrapped by an older one any more. Returns its number.

    MAY run while a server records. Interrupted, it leaves several generations, all of which open; `finish_rotation`
    or the next rotation goes on. Raises `WrongKey`, `KeystoreInvalid`.
    """
    with keystore_file(home.keystore, "rw") as engine, writing(engine) as connection:
        protector = _protector(connection, root_key)
        generation = max(row.gen for row in key_rows.read_wrapping_keys(connection)) + 1
        key_rows.insert_wrapping_key(connection, new_generation(protector, generation, keys.random_key()))
    _rewrap_everything(home, root_key)
    return generation


def rotate_root_key(home: Home, root_key: bytes, key_file: Path | None = None) -> bytes:
    """A new root key in the slot that `root_key` opens; returns what opens it now.

    With `key_file`, a new key takes the place of the one in that file; without, passphrase or credential stay as they
    are. The other slots cannot be filled without what unlocks them, therefore there MUST be none (`Conflict`). No
    other process may hold the keystore: what it holds opens nothing new afterwards. Interrupted at any moment, the
    key file that is there opens the keystore.
    """
    new_key = draft_root_key(key_file) if key_file else None
    try:
        _replace_root_key(home, root_key, new_key)
    except ApplianceError:
        if key_file is not None:
            drop_draft(key_file)
        raise
    if key_file is None or new_key is None:
        return root_key
    put_in_place(key_file)
    finish_rotation(home, new_key)
    return new_key


def refuse_root_rotation(home: Home, root_key: bytes) -> None:
    """Raise what `rotate_root_key` would; change nothing."""
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        slots = key_rows.read_slots(connection)
        _abandoned(slots, unlock_slot(slots, root_key)[0])


def read_generations(home: Home) -> tuple[int, ...]:
    """The generations of the wrapping key, oldest first; readable without a key. One, unless a rotation goes on."""
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        rows = key_rows.read_wrapping_keys(connection)
    return tuple(row.gen for row in rows if row.gen != OWNER_GENERATION)


def _abandoned(slots: Sequence[SlotRow], used: SlotRow) -> list[SlotRow]:
    """Slots of an earlier attempt that was interrupted before its key file was in place: those keys opened nothing.

    Raises `Conflict` for any other slot beside the one in use.
    """
    abandoned = [each for each in slots if replaced_by(each) == used.slot]
    others = [each.slot for each in slots if each != used and each not in abandoned]
    if others:
        numbers = ", ".join(str(number) for number in others)
        raise Conflict(
            f"a new root key would lock out slot{'s' if len(others) > 1 else ''} {numbers}",
            hint="remove the other slots first (appliance keys remove-slot) and add them again afterwards",
        )
    return abandoned


def _replace_root_key(home: Home, root_key: bytes, new_key: bytes | None) -> None:
    with keystore_file(home.keystore, "rw") as engine, erasing(engine) as connection:
        slots = key_rows.read_slots(connection)
        row, root = unlock_slot(slots, root_key)
        for each in _abandoned(slots, row):
            key_rows.delete_slot(connection, each.slot)
        new_root = keys.random_key()
        _protect_anew(connection, RootProtector(root), RootProtector(new_root), keys.derive_subkey(root, OWNER_LABEL))
        key_rows.update_slot(connection, rewrapped_slot(row, root_key, new_root))
        if new_key is not None:
            number = free_slot([row])
            key_rows.insert_slot(connection, new_slot(number, new_key, new_root, replaces=row.slot))


def finish_rotation(home: Home, root_key: bytes) -> bool:
    """Complete what an interruption left: whether there was anything. Reads only, if not. MAY run beside a rotation."""
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        slot, _ = unlock_slot(key_rows.read_slots(connection), root_key)
        generations = [row.gen for row in key_rows.read_wrapping_keys(connection) if row.gen != OWNER_GENERATION]
    replaced = replaced_by(slot)
    if replaced is not None:
        # That this slot's key was used says that its file is in place: the key before it is not needed any more.
        with keystore_file(home.keystore, "rw") as engine, erasing(engine) as connection:
            key_rows.delete_slot(connection, replaced)
            key_rows.update_slot(connection, settled_slot(slot))
    if len(generations) > 1:
        _rewrap_everything(home, root_key)
    return replaced is not None or len(generations) > 1


def _rewrap_everything(home: Home, root_key: bytes) -> None:
    """Under the newest generation, and the older ones destroyed."""
    with keystore_file(home.keystore, "rw") as engine:
        done = False
        while not done:
            with writing(engine) as connection:
                done = _rewrap_some(connection, _wrapping_keys(connection, _protector(connection, root_key)))
        with erasing(engine) as connection:
            protector = _protector(connection, root_key)
            wrapping = _wrapping_keys(connection, protector)
            while not _rewrap_some(connection, wrapping):
                pass
            old = sorted(wrapping)[:-1]
            for generation in old:
                key_rows.delete_wrapping_key(connection, generation)
    for generation in old:
        protector.release(generation)


def _rewrap_some(connection: Connection, wrapping: Mapping[int, bytes]) -> bool:
    """Some keys from older generations to the newest; True when none is left."""
    newest = max(wrapping)
    for seed in key_rows.read_signing_keys(connection, SIGNING_KEYS_MAX):
        if seed.kek_gen == newest:
            continue
        wrapped = b""  # the seed was erased: only the row moves
        if seed.wrapped:
            aad = signing_aad(seed.id, seed.kek_gen, seed.origin)
            key = opened(wrapping[seed.kek_gen], seed.wrapped, aad, seed.kcv, signing_id(seed.id))
            wrapped = keys.wrap_key(wrapping[newest], key, signing_aad(seed.id, newest, seed.origin))
        key_rows.update_signing_key(connection, replace(seed, kek_gen=newest, wrapped=wrapped))
    rows = key_rows.read_scope_keys_wrapped_before(connection, newest, _REWRAPPED_AT_ONCE)
    key_rows.rewrap_scope_keys(connection, [_rewrapped(row, wrapping, newest) for row in rows])
    return len(rows) < _REWRAPPED_AT_ONCE


def _rewrapped(row: ScopeKeyRow, wrapping: Mapping[int, bytes], newest: int) -> ScopeKeyRow:
    place = (row.scope_id, row.kind, row.record_class, row.month)
    key = opened(wrapping[row.kek_gen], row.wrapped, scope_aad(*place, row.kek_gen), row.kcv, row.scope_id)
    return replace(row, kek_gen=newest, wrapped=keys.wrap_key(wrapping[newest], key, scope_aad(*place, newest)))


def _protect_anew(connection: Connection, old: Protector, new: Protector, owner_key: bytes) -> None:
    """Every generation under another protector. The key that hashes owners was derived from the old root: kept."""
    rows = key_rows.read_wrapping_keys(connection)
    for row in rows:
        blob = new.protect(row.gen, _revealed(old, row))
        key_rows.update_wrapping_key(connection, replace(row, protector=new.name, blob=blob))
    if OWNER_GENERATION not in {row.gen for row in rows}:
        key_rows.insert_wrapping_key(connection, new_generation(new, OWNER_GENERATION, owner_key))


def _wrapping_keys(connection: Connection, protector: Protector) -> dict[int, bytes]:
    rows = key_rows.read_wrapping_keys(connection)
    return {row.gen: _revealed(protector, row) for row in rows if row.gen != OWNER_GENERATION}


def _revealed(protector: Protector, row: WrappingKeyRow) -> bytes:
    try:
        key = protector.reveal(row.gen, row.blob)
    except DecryptionFailed:
        raise damaged("a wrapping key") from None
    return checked(key, row.kcv, wrapping_id(row.gen))


def _protector(connection: Connection, root_key: bytes) -> Protector:
    return RootProtector(unlock_slot(key_rows.read_slots(connection), root_key)[1])
