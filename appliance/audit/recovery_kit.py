"""The recovery kit: a key on paper that unlocks the keystore when nothing else does, and opens every backup.

    key = random_key()
    text = kit_text(key)                     # 14 groups of 4 letters, to be printed once
    parse_kit(text) == key                   # spaces, hyphens and case do not matter; 0, 1 and 8 are read as O, I, B
    slot = add_recovery_slot(home, root_key, key)      # only after somebody typed it back
    access = backup_access(home, root_key)   # what seals a backup, and the slots that travel with it

The key is nowhere on the machine: its slot in the keystore wraps the root key under it, and a backup carries a copy of
that slot. So backups are made without the kit, and opened with nothing but the kit. Whoever has the kit and a backup
can read the log: the paper belongs into a safe, and not beside the backups.

Text: RFC 4648 base32 of the key (32 bytes) and three bytes of SHA-256("cloister-recovery-kit/1" || key), which is 56
characters without padding. A letter that was typed wrong is found with a chance of all but one in 16 million.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field

from appliance.audit.key_slots import (
    RECOVERY,
    add_file_slot,
    keystore_file,
    list_slots,
    slot_use,
    unlock_slot,
)
from appliance.audit.wrapped_keys import FORMAT, slot_id, unwrapped
from appliance.config import Home
from appliance.crypto import keys
from appliance.crypto.secrets import constant_time_equal
from appliance.errors import Conflict, InvalidRequest, WrongKey
from appliance.storage import key_rows
from appliance.storage.database import reading

GROUPS, GROUP_CHARS = 14, 4
TEXT_CHARS_MAX = 400
BACKUP_LABEL = FORMAT + b"/backup"
_CHECK_LABEL = b"cloister-recovery-kit/1"
_CHECK_BYTES = 3
_READ_AS = str.maketrans("018", "OIB")


@dataclass(frozen=True, slots=True)
class RecoverySlot:
    """What a backup carries so that the kit opens it: the root key, wrapped by the kit's."""

    number: int
    wrapped: bytes
    kcv: bytes


@dataclass(frozen=True, slots=True)
class BackupAccess:
    """What seals backups of one keystore. `key` stays the same until the root key is replaced."""

    key: bytes = field(repr=False)
    slots: tuple[RecoverySlot, ...]


def kit_text(key: bytes) -> str:
    """The key as it is printed, in two lines of seven groups."""
    letters = base64.b32encode(key + _check(key)).decode()
    groups = [letters[at : at + GROUP_CHARS] for at in range(0, len(letters), GROUP_CHARS)]
    half = GROUPS // 2
    return "-".join(groups[:half]) + "\n" + "-".join(groups[half:])


def parse_kit(text: str) -> bytes:
    """The key that somebody typed. Raises `InvalidRequest`, which says what is wrong and never what was typed."""
    if len(text) > TEXT_CHARS_MAX:
        raise _not_a_kit("it is too long")
    letters = re.sub(r"[\s-]", "", text).upper().translate(_READ_AS)
    if len(letters) != GROUPS * GROUP_CHARS:
        raise _not_a_kit(f"it has {len(letters)} letters, a kit has {GROUPS * GROUP_CHARS}")
    try:
        content = base64.b32decode(letters)
    except ValueError:
        raise _not_a_kit("only letters and the digits 2 to 7 are in a kit") from None
    key, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
    if not constant_time_equal(_check(key), check):
        raise _not_a_kit("at least one letter is wrong")
    return key


def add_recovery_slot(home: Home, root_key: bytes, kit_key: bytes) -> int:
    """Let the kit unlock the keystore; returns the slot. Raises `Conflict` where there is a kit already."""
    refuse_second_kit(home)
    return add_file_slot(home, root_key, kit_key, use=RECOVERY)


def refuse_second_kit(home: Home) -> None:
    """Raise `Conflict` where a recovery kit exists: one that nobody remembers is one that somebody else may have."""
    for slot in list_slots(home):
        if slot.use == RECOVERY:
            raise Conflict(
                f"there is a recovery kit already (slot {slot.number})",
                hint="`appliance recovery-kit create --replace` makes another and ends that one",
            )


def backup_access(home: Home, root_key: bytes) -> BackupAccess:
    """What seals a backup. Raises `WrongKey`, and `Conflict` where there is no recovery kit to open it with."""
    with keystore_file(home.keystore, "ro") as engine, reading(engine) as connection:
        rows = key_rows.read_slots(connection)
        _, root = unlock_slot(rows, root_key)
    slots = tuple(RecoverySlot(row.slot, row.wrapped, row.kcv) for row in rows if slot_use(row) == RECOVERY)
    if not slots:
        raise Conflict(
            "there is no recovery kit, and without one nobody could open a backup on another machine",
            hint="make it: appliance recovery-kit create",
        )
    return BackupAccess(keys.derive_subkey(root, BACKUP_LABEL), slots)


def backup_key_from_kit(slots: tuple[RecoverySlot, ...], kit_key: bytes) -> bytes:
    """The key that sealed the backup these slots came with. Raises `WrongKey`, `KeystoreInvalid`."""
    for slot in slots:
        if constant_time_equal(keys.key_check_value(kit_key, slot_id(slot.number)), slot.kcv):
            root = unwrapped(kit_key, slot.wrapped, slot_id(slot.number), f"slot {slot.number}")
            return keys.derive_subkey(root, BACKUP_LABEL)
    raise WrongKey(
        "this recovery kit does not belong to this backup",
        hint="take the kit that was valid when the backup was made; nothing was changed",
    )


def _check(key: bytes) -> bytes:
    return hashlib.sha256(_CHECK_LABEL + key).digest()[:_CHECK_BYTES]


def _not_a_kit(why: str) -> InvalidRequest:
    return InvalidRequest(f"this is no recovery kit: {why}", hint="type its 14 groups of 4 letters again")
