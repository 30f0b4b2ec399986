"""Administering what unlocks the log and the keys above its keys. Every change is recorded before it is made.

    async with open_keys(config) as opened:
        slot = await add_passphrase(opened, principal, passphrase)
        await rotate(opened, principal, "kek", "scheduled")
    await rotate_root(config, principal, "scheduled")           # while no server runs

A change leaves two records: `accepted` before anything is touched, then how it ended. One that has no end was cut off
and may have been made or not; the list of slots and generations says which, and doing it again is safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from appliance.accounts.actions import Action, authorize
from appliance.audit import key_rotation, key_slots
from appliance.audit.key_slots import Slot, list_slots
from appliance.audit.keystore import PublicKey, open_keystore, public_material
from appliance.audit.log import AuditLog
from appliance.audit.root_key import create_root_key, read_root_key
from appliance.audit.root_source import cost_of, key_file, unlock, unlock_with
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.service.events import code_of, new_event, record_looking
from appliance.service.home import check_home, hold_server_lock
from appliance.service.rooms import open_log
from appliance.types import AttributeValue, Outcome, Principal

T = TypeVar("T")
Level = Literal["kek", "signing"]
Reason = Literal["scheduled", "compromised"]


@dataclass(frozen=True, slots=True)
class OpenKeys:
    """An unlocked data folder: its log, and the key that unlocked it."""

    config: Config
    log: AuditLog
    root_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeysView:
    """What there is, without anything that opens it. More than one generation: a rotation goes on."""

    slots: tuple[Slot, ...]
    generations: tuple[int, ...]
    signing_keys: tuple[PublicKey, ...]


@asynccontextmanager
async def open_keys(config: Config) -> AsyncIterator[OpenKeys]:
    """Unlock once, for the log and for changes to what unlocks it."""
    check_home(config.home)
    root_key = unlock(config)
    async with open_log(config, root_key) as log:
        yield OpenKeys(config, log, root_key)


async def list_keys(config: Config, principal: Principal) -> KeysView:
    """Slots, generations and signing keys; readable without unlocking. Raises `PermissionDenied`."""
    authorize(principal, Action.KEYS_MANAGE)
    slots = await asyncio.to_thread(list_slots, config.home)
    generations = await asyncio.to_thread(key_rotation.read_generations, config.home)
    material = await asyncio.to_thread(public_material, config.home)
    await _record_looking(config, principal, "key.list", {})
    return KeysView(tuple(slots), generations, material.keys)


async def check_key(
    config: Config, principal: Principal, *, path: Path | None = None, passphrase: str | None = None
) -> int:
    """The slot that a key file, a passphrase, or else the configured source opens. Changes no key.

    Raises `WrongKey`, `KeystoreInvalid`, `KeystoreLocked`. Wrong passphrases are counted, and recorded at the next
    unlocking; a wrong key file is no key of this log, and leaves no record.
    """
    authorize(principal, Action.KEYS_MANAGE)

    def look() -> int:
        if passphrase is not None:
            return key_slots.slot_of(config.home, unlock_with(config, passphrase))
        return key_slots.slot_of(config.home, read_root_key(path) if path else unlock(config))

    slot = await asyncio.to_thread(look)
    await _record_looking(config, principal, "key.checked", {"slot": slot})
    return slot


async def add_passphrase(opened: OpenKeys, principal: Principal, passphrase: str) -> int:
    """Another passphrase opens the keystore; returns its slot. Raises `InvalidRequest` for one that is too short."""
    config = opened.config
    authorize(principal, Action.KEYS_MANAGE)
    key_slots.check_passphrase(passphrase)

    def add() -> int:
        return key_slots.add_passphrase_slot(config.home, opened.root_key, passphrase, cost=cost_of(config))

    about: dict[str, AttributeValue] = {"kind": "passphrase"}
    return await _recorded(opened, principal, "key.slot_added", about, add, lambda slot: {"slot": slot})


async def add_file(opened: OpenKeys, principal: Principal, path: Path) -> int:
    """Another key file opens the keystore: the one at `path`, made if there is none. Returns its slot."""
    authorize(principal, Action.KEYS_MANAGE)

    def add() -> int:
        made = not path.exists()
        new_key = create_root_key(path) if made else read_root_key(path)
        try:
            return key_slots.add_file_slot(opened.config.home, opened.root_key, new_key)
        except ApplianceError:
            if made:
                path.unlink()
            raise

    about: dict[str, AttributeValue] = {"kind": "file"}
    return await _recorded(opened, principal, "key.slot_added", about, add, lambda slot: {"slot": slot})


async def change_passphrase(opened: OpenKeys, principal: Principal, old: str, new: str) -> int:
    """`new` instead of `old`; returns the slot. Raises `WrongKey`, `KeystoreLocked`, `InvalidRequest`."""
    config = opened.config
    authorize(principal, Action.KEYS_MANAGE)
    key_slots.check_passphrase(new)
    old_key = await asyncio.to_thread(unlock_with, config, old)
    slot = await asyncio.to_thread(key_slots.slot_of, config.home, old_key)

    def change() -> int:
        return key_slots.change_passphrase(config.home, old_key, new, cost=cost_of(config))

    return await _recorded(opened, principal, "key.slot_changed", {"slot": slot}, change)


async def remove_slot(opened: OpenKeys, principal: Principal, number: int) -> None:
    """Slot `number` opens nothing any more. Raises `NotFound`, `Conflict` for the slot in use, so for the last one."""
    home = opened.config.home
    authorize(principal, Action.KEYS_MANAGE)
    used = await asyncio.to_thread(key_slots.slot_of, home, opened.root_key)
    key_slots.refuse_removal(await asyncio.to_thread(list_slots, home), used, number)

    def remove() -> None:
        key_slots.remove_slot(home, opened.root_key, number)

    await _recorded(opened, principal, "key.slot_removed", {"slot": number}, remove)


async def rotate(opened: OpenKeys, principal: Principal, level: Level, reason: Reason) -> None:
    """A new wrapping key (`kek`) or signing key (`signing`), while others work. No record changes."""
    authorize(principal, Action.KEYS_MANAGE)
    home = opened.config.home
    about: dict[str, AttributeValue] = {"level": level, "reason": reason}
    async with _announced(opened.log, principal, "key.rotated", about):
        if level == "kek":
            about["generation"] = await asyncio.to_thread(key_rotation.rotate_wrapping_key, home, opened.root_key)
        else:
            await opened.log.rotate_signing_key(reason)
            if reason == "compromised":
                keystore = await asyncio.to_thread(open_keystore, home, opened.root_key)
                await asyncio.to_thread(keystore.distrust_signing_keys)


async def distrust(opened: OpenKeys, principal: Principal) -> None:
    """The signing key was stolen: a new one signs, the old one is recorded as proving nothing from here on."""
    await rotate(opened, principal, "signing", "compromised")


async def rotate_root(config: Config, principal: Principal, reason: Reason) -> None:
    """A new root key and, where it comes from a key file, a new key in that file. No server may run (`HomeInUse`).

    Raises `Conflict` while there are other slots. The change locks out whoever holds the old root key, our own log
    included: that is why it is closed meanwhile.
    """
    authorize(principal, Action.KEYS_MANAGE)
    check_home(config.home)
    about: dict[str, AttributeValue] = {"level": "root", "reason": reason}
    path = key_file(config) if config.keys.source == "file" else None
    with hold_server_lock(config.home):
        async with open_keys(config) as opened:
            await asyncio.to_thread(key_rotation.refuse_root_rotation, config.home, opened.root_key)
            await opened.log.append(new_event("key.rotated", principal.id, Outcome.ACCEPTED, about))
            root_key = opened.root_key
        failed: ApplianceError | None = None
        try:
            root_key = await asyncio.to_thread(key_rotation.rotate_root_key, config.home, root_key, path)
        except ApplianceError as error:
            failed, root_key = error, unlock(config)  # the file holds the old key or the new one; it opens
        async with open_log(config, root_key) as log, _outcome(log, principal, "key.rotated", about):
            if failed is not None:
                raise failed


async def _record_looking(config: Config, principal: Principal, event: str, about: dict[str, AttributeValue]) -> None:
    """Record a look that needs no key of its own, unless somebody had to be asked for one or the log does not open:
    what unlocks it is looked at most of all when it does not.
    """
    if config.keys.source == "passphrase":
        return
    with suppress(ApplianceError):
        async with open_log(config) as log:
            await record_looking(log, principal, event, about)


async def _recorded(
    opened: OpenKeys,
    principal: Principal,
    event: str,
    about: dict[str, AttributeValue],
    work: Callable[[], T],
    result: Callable[[T], dict[str, AttributeValue]] = lambda _: {},
) -> T:
    async with _announced(opened.log, principal, event, about):
        done = await asyncio.to_thread(work)
        about |= result(done)
    return done


@asynccontextmanager
async def _announced(
    log: AuditLog, principal: Principal, event: str, about: dict[str, AttributeValue]
) -> AsyncIterator[None]:
    """Record that it begins, and how it ended."""
    await log.append(new_event(event, principal.id, Outcome.ACCEPTED, dict(about)))
    async with _outcome(log, principal, event, about):
        yield


@asynccontextmanager
async def _outcome(
    log: AuditLog, principal: Principal, event: str, about: dict[str, AttributeValue]
) -> AsyncIterator[None]:
    """Record how it ended; `about` may have grown meanwhile."""
    try:
        yield
    except ApplianceError as error:
        await log.append(new_event(event, principal.id, Outcome.FAILED, {**about, "error": code_of(error)}))
        raise
    await log.append(new_event(event, principal.id, Outcome.COMPLETED, about))
