"""The ways to unlock the keystore: key files and passphrases, each in a slot of its own that wraps the one root key.

    list_slots(home)                                           # needs no key
    slot = add_passphrase_slot(home, root_key, "four words that nobody says")
    root_key = root_key_from_passphrase(home, "four words that nobody says")
    remove_slot(home, root_key, 0)

A systemd credential is a key file that lies somewhere else. What unlocks a slot is called `root_key` everywhere outside
the keystore; the root key inside is the same for all slots, and adding or changing one re-wraps nothing but it.

What a caller may rely on: who cannot unlock changes nothing; the slot that a change was authorised with stays, so that
a keystore that opens now can be opened by the same means afterwards; what a slot held is overwritten when it goes.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.audit.wrapped_keys import damaged, slot_id, unwrapped
from appliance.config import Home
from appliance.crypto import keys
from appliance.crypto.secrets import constant_time_equal
from appliance.errors import Conflict, InputTooLong, InvalidRequest, KeystoreInvalid, NotFound, WrongKey
from appliance.storage import key_rows
from appliance.storage.database import Engine, Mode, erasing, open_database, reading, writing
from appliance.storage.key_rows import SlotKind, SlotRow
from appliance.storage.revisions import require_current

FIRST_SLOT = 0
SLOTS_MAX = 64
PASSPHRASE_CHARS_MIN = 12
PASSPHRASE_CHARS_MAX = 1024
Use = Literal["recovery"]
RECOVERY: Use = "recovery"
_NAME_THE_KEY = "name the key that was made with this data folder; nothing was changed"


@dataclass(frozen=True, slots=True)
class PassphraseCost:
    """What one guess at a passphrase costs (Argon2id)."""

    memory_kib: int = 256 * 1024
    iterations: int = 3
    lanes: int = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """One way to unlock, without anything that helps to. `cost` None: a key file. `replaces`: see `rotate_root_key`."""

    number: int
    kind: SlotKind
    created_ms: int
    cost: PassphraseCost | None
    replaces: int | None = None
    use: Use | None = None  # what a key file is for, where it is not for every start


class _Parameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is stored with a slot, with the bounds within which it is believed."""

    kdf: Literal["argon2id"] | None = None
    memory_kib: Annotated[int, msgspec.Meta(ge=8, le=1024 * 1024)] = 8
    iterations: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    lanes: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    replaces: Annotated[int, msgspec.Meta(ge=0)] | None = None
    use: Use | None = None


def list_slots(home: Home) -> list[Slot]:
    """Every slot, lowest first."""
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        return [_view(row) for row in key_rows.read_slots(connection)]


def slot_of(home: Home, root_key: bytes) -> int:
    """The slot that this key opens. Raises `WrongKey`; writes nothing."""
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        return unlock_slot(key_rows.read_slots(connection), root_key)[0].slot


def root_key_from_passphrase(home: Home, passphrase: str) -> bytes:
    """The key of the slot that this passphrase opens, for `open_keystore`. Raises `WrongKey`. Takes seconds.

    Counts no failure: `root_source.unlock` does, for those who let people guess.
    """
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        slots = [row for row in key_rows.read_slots(connection) if row.kind == "passphrase"]
    if not slots:
        raise WrongKey(
            "no slot of this keystore takes a passphrase", hint="unlock it with its key file: keys.source = 'file'"
        )
    found = _opened_by(passphrase, slots)
    if found is None:
        raise _wrong_key(slots, "the passphrase")
    return found[1]


def add_passphrase_slot(home: Home, root_key: bytes, passphrase: str, *, cost: PassphraseCost | None = None) -> int:
    """Let a passphrase unlock the keystore too; returns the slot. `root_key` proves the right to do so.

    Raises `Conflict` if it does already: changed or removed in one slot, it would go on to open the other.
    """
    check_passphrase(passphrase)
    _refuse_known_passphrase(home, root_key, passphrase)
    cost = cost or PassphraseCost()
    salt = keys.random_id()
    return _add(home, root_key, passphrase_key(passphrase, salt, cost), salt, cost)


def add_file_slot(home: Home, root_key: bytes, new_key: bytes, *, use: Use | None = None) -> int:
    """Let another key file unlock the keystore too; returns the slot. Raises `Conflict` if it does already."""
    return _add(home, root_key, new_key, None, None, use)


def change_passphrase(home: Home, root_key: bytes, passphrase: str, *, cost: PassphraseCost | None = None) -> int:
    """Replace the passphrase from which `root_key` came; the old one opens nothing any more. Returns the slot.

    Raises `Conflict` for one that opens a slot already.
    """
    check_passphrase(passphrase)
    _refuse_known_passphrase(home, root_key, passphrase)
    cost = cost or PassphraseCost()
    salt = keys.random_id()
    slot_key = passphrase_key(passphrase, salt, cost)
    with keystore_file(home.keystore, "rw") as engine, erasing(engine) as connection:
        row, root = unlock_slot(key_rows.read_slots(connection), root_key)
        if row.kind != "passphrase":
            raise Conflict(f"slot {row.slot} is a key file, not a passphrase", hint="give the passphrase to be changed")
        changed = new_slot(row.slot, slot_key, root, salt=salt, cost=cost)
        key_rows.update_slot(connection, changed)
    return row.slot


def remove_slot(home: Home, root_key: bytes, number: int) -> None:
    """What unlocked slot `number` opens nothing any more. Raises `NotFound`, `Conflict` for the slot of `root_key`.

    Copies of the keystore from before still open with it: replace the root key too if it was stolen.
    """
    with keystore_file(home.keystore, "rw") as engine, erasing(engine) as connection:
        slots = key_rows.read_slots(connection)
        used, _ = unlock_slot(slots, root_key)
        refuse_removal(slots, used.slot, number)
        key_rows.delete_slot(connection, number)


def refuse_removal(slots: Sequence[SlotRow] | Sequence[Slot], used: int, number: int) -> None:
    """Raise what `remove_slot` would. The slot in use stays: it is the only one that is known to open."""
    numbers = {slot.slot if isinstance(slot, SlotRow) else slot.number for slot in slots}
    if number not in numbers:
        raise NotFound(f"there is no slot {number}", hint="list them with `appliance keys list`")
    if number == used:
        last = len(numbers) == 1
        raise Conflict(
            f"slot {number} is the only one"
            if last
            else f"slot {number} is the one that unlocked the keystore just now",
            hint="add another way to unlock first" if last else "unlock with another slot (keys.source) to remove this",
        )


def check_passphrase(passphrase: str) -> None:
    """Raise `InvalidRequest` or `InputTooLong` for a passphrase that must not become one."""
    if len(passphrase) > PASSPHRASE_CHARS_MAX:
        raise InputTooLong(f"a passphrase has at most {PASSPHRASE_CHARS_MAX} characters", hint="choose a shorter one")
    if len(passphrase) < PASSPHRASE_CHARS_MIN:
        raise InvalidRequest(
            f"a passphrase has at least {PASSPHRASE_CHARS_MIN} characters", hint="four or five words are easy to keep"
        )


def new_slot(
    number: int,
    slot_key: bytes,
    root: bytes,
    *,
    salt: bytes | None = None,
    cost: PassphraseCost | None = None,
    replaces: int | None = None,
    use: Use | None = None,
) -> SlotRow:
    """A slot in which `slot_key` wraps the root key."""
    parameters = _Parameters(replaces=replaces, use=use)
    if cost is not None:
        parameters = _Parameters("argon2id", **asdict(cost), replaces=replaces)
    return SlotRow(
        number,
        "passphrase" if cost else "file",
        msgspec.json.encode(parameters).decode(),
        salt,
        keys.wrap_key(slot_key, root, slot_id(number)),
        keys.key_check_value(slot_key, slot_id(number)),
        time.time_ns() // 1_000_000,
    )


def rewrapped_slot(row: SlotRow, slot_key: bytes, root: bytes) -> SlotRow:
    """The same slot with another root key in it."""
    return replace(row, wrapped=keys.wrap_key(slot_key, root, slot_id(row.slot)))


def unlock_slot(slots: Sequence[SlotRow], slot_key: bytes) -> tuple[SlotRow, bytes]:
    """The slot whose check value fits, and the root key in it. Raises `WrongKey`, `KeystoreInvalid`."""
    for row in slots:
        if constant_time_equal(keys.key_check_value(slot_key, slot_id(row.slot)), row.kcv):
            return row, unwrapped(slot_key, row.wrapped, slot_id(row.slot), f"slot {row.slot}")
    if not slots:
        raise KeystoreInvalid("the keystore has no keys yet", hint="create the data folder with `appliance init`")
    raise _wrong_key([row for row in slots if row.kind == "file" and slot_use(row) is None] or slots, "the key file")


def free_slot(slots: Sequence[SlotRow]) -> int:
    """The number for a new slot. Raises `Conflict` when there are too many."""
    if len(slots) >= SLOTS_MAX:
        raise Conflict(f"a keystore has at most {SLOTS_MAX} slots", hint="remove one: appliance keys remove-slot")
    return max((row.slot for row in slots), default=FIRST_SLOT - 1) + 1


def settled_slot(row: SlotRow) -> SlotRow:
    """The same slot after it replaced another."""
    stored = msgspec.structs.replace(_parameters(row), replaces=None)
    return replace(row, parameters=msgspec.json.encode(stored).decode())


def passphrase_key(passphrase: str, salt: bytes, cost: PassphraseCost) -> bytes:
    """The key that a passphrase gives. One form for what keyboards write as one character or as two."""
    return keys.derive_root_from_passphrase(unicodedata.normalize("NFC", passphrase), salt, cost)


@contextmanager
def keystore_file(path: Path, mode: Mode) -> Iterator[Engine]:
    """Open for one use."""
    engine = open_keystore_file(path, mode)
    try:
        yield engine
    finally:
        engine.dispose()


def open_keystore_file(path: Path, mode: Mode) -> Engine:
    """Open to be kept. Raises a `HomeError`."""
    engine = open_database(path, mode=mode, journal="delete", connections=1)
    try:
        require_current(engine, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


def replaced_by(row: SlotRow) -> int | None:
    """The slot that `row` is about to replace, if a replacement of the root key was interrupted."""
    return _parameters(row).replaces


def slot_use(row: SlotRow) -> Use | None:
    """What a slot is for, where it is not for every start."""
    return _parameters(row).use


def _add(
    home: Home,
    root_key: bytes,
    slot_key: bytes,
    salt: bytes | None,
    cost: PassphraseCost | None,
    use: Use | None = None,
) -> int:
    with keystore_file(home.keystore, "rw") as engine, writing(engine) as connection:
        slots = key_rows.read_slots(connection)
        _, root = unlock_slot(slots, root_key)
        _refuse_second(slots, slot_key)
        number = free_slot(slots)
        key_rows.insert_slot(connection, new_slot(number, slot_key, root, salt=salt, cost=cost, use=use))
    return number


def _refuse_second(slots: Sequence[SlotRow], slot_key: bytes) -> None:
    for row in slots:
        if constant_time_equal(keys.key_check_value(slot_key, slot_id(row.slot)), row.kcv):
            raise Conflict(f"this key opens slot {row.slot} already", hint="nothing was changed")


def _refuse_known_passphrase(home: Home, root_key: bytes, passphrase: str) -> None:
    """Before the write lock is taken: a derivation takes seconds, for which nobody else is to wait."""
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        slots = key_rows.read_slots(connection)
    unlock_slot(slots, root_key)
    found = _opened_by(passphrase, [row for row in slots if row.kind == "passphrase"])
    if found is not None:
        raise Conflict(f"this passphrase opens slot {found[0].slot} already", hint="nothing was changed")


def _opened_by(passphrase: str, slots: Sequence[SlotRow]) -> tuple[SlotRow, bytes] | None:
    """The slot that a passphrase opens, and the key of it."""
    for row in slots:
        slot_key = passphrase_key(passphrase, row.salt or b"", _cost(row))
        if constant_time_equal(keys.key_check_value(slot_key, slot_id(row.slot)), row.kcv):
            return row, slot_key
    return None


def _view(row: SlotRow) -> Slot:
    cost = _cost(row) if row.kind == "passphrase" else None
    return Slot(row.slot, row.kind, row.created_ms, cost, replaced_by(row), slot_use(row))


def _cost(row: SlotRow) -> PassphraseCost:
    """The stored cost, bounded: an altered row must not make the process take all memory."""
    stored = _parameters(row)
    if stored.kdf is None or stored.memory_kib < 8 * stored.lanes:
        raise damaged(f"slot {row.slot}")
    return PassphraseCost(stored.memory_kib, stored.iterations, stored.lanes)


def _parameters(row: SlotRow) -> _Parameters:
    try:
        return msgspec.json.decode(row.parameters, type=_Parameters)
    except (msgspec.DecodeError, UnicodeError):
        raise damaged(f"slot {row.slot}") from None


def _wrong_key(slots: Sequence[SlotRow], which: str) -> WrongKey:
    typed = slots[0].kind == "passphrase"
    hint = "type it again; nothing was changed" if typed else _NAME_THE_KEY
    numbers = ", ".join(str(row.slot) for row in slots)
    plural = "s" if len(slots) > 1 else ""
    return WrongKey(
        f"wrong key (slot{plural} {numbers}): {which} does not belong to this data folder",
        hint=hint,
    )
