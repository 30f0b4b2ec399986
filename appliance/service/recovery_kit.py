"""The recovery kit as a person meets it: printed once, typed back, and used when nothing else unlocks.

    draft = new_kit()                                     # text to print; the key exists nowhere else yet
    slot = await keep_kit(opened, principal, draft, typed)    # only what was typed back right unlocks anything
    slot = await check_kit(config, principal, kit_key)
    path = await use_kit(config, principal, kit_key, path)    # a new key file where the old one is lost

`audit/recovery_kit.py` has the format and what the key is good for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from appliance.accounts.actions import Action, authorize
from appliance.audit import key_slots
from appliance.audit.key_slots import RECOVERY, list_slots
from appliance.audit.recovery_kit import add_recovery_slot, kit_text, parse_kit, refuse_second_kit
from appliance.audit.root_key import create_root_key
from appliance.audit.root_source import key_file
from appliance.config import Config
from appliance.crypto.keys import random_key
from appliance.crypto.secrets import constant_time_equal
from appliance.errors import ApplianceError, ConfigInvalid, HomeExists, InvalidRequest
from appliance.service.events import announced, record_reading
from appliance.service.home import check_home
from appliance.service.keys import OpenKeys
from appliance.service.rooms import open_log
from appliance.types import AttributeValue, Principal

KIND: AttributeValue = "recovery kit"


@dataclass(frozen=True, slots=True)
class KitDraft:
    """A kit that is printed and unlocks nothing until it was typed back."""

    text: str = field(repr=False)


def new_kit() -> KitDraft:
    """A new kit. Its text is shown once and stored nowhere."""
    return KitDraft(kit_text(random_key()))


async def refuse_kit(opened: OpenKeys, principal: Principal, *, replace: bool) -> None:
    """Raise `PermissionDenied`, or `Conflict` where there is a kit that shall not be replaced; before one is shown."""
    authorize(principal, Action.KEYS_MANAGE)
    if not replace:
        await asyncio.to_thread(refuse_second_kit, opened.config.home)


def typed_right(draft: KitDraft, typed: str) -> bool:
    """Whether what was typed is the kit that was shown."""
    try:
        return constant_time_equal(parse_kit(typed), parse_kit(draft.text))
    except InvalidRequest:
        return False


async def keep_kit(
    opened: OpenKeys, principal: Principal, draft: KitDraft, typed: str, *, replace: bool = False
) -> int:
    """Let the kit unlock the keystore, once it was typed back; returns its slot. With `replace` kits before it end.

    Raises `InvalidRequest` where something else was typed, and `Conflict`; nothing has changed then.
    """
    authorize(principal, Action.KEYS_MANAGE)
    kit_key, home = parse_kit(draft.text), opened.config.home
    async with announced(opened.log, principal.id, "key.slot_added", {"kind": KIND}) as step:
        if not typed_right(draft, typed):
            raise InvalidRequest("what was typed is not the kit that was shown", hint="nothing was kept; begin again")
        before = [slot.number for slot in await asyncio.to_thread(list_slots, home) if slot.use == RECOVERY]
        if replace:
            number = await asyncio.to_thread(
                lambda: key_slots.add_file_slot(home, opened.root_key, kit_key, use=RECOVERY)
            )
        else:
            number = await asyncio.to_thread(add_recovery_slot, home, opened.root_key, kit_key)
        step.attributes["slot"] = number
    for old in before:
        async with announced(opened.log, principal.id, "key.slot_removed", {"slot": old, "kind": KIND}):
            await asyncio.to_thread(key_slots.remove_slot, home, opened.root_key, old)
    return number


async def check_kit(config: Config, principal: Principal, kit_key: bytes) -> int:
    """The slot that a kit opens. Changes nothing. Raises `WrongKey`."""
    authorize(principal, Action.KEYS_MANAGE)
    slot = await asyncio.to_thread(key_slots.slot_of, config.home, kit_key)
    async with open_log(config, kit_key) as log:
        await record_reading(log, principal, "key.checked", {"slot": slot, "kind": KIND})
    return slot


async def use_kit(config: Config, principal: Principal, kit_key: bytes, path: Path | None = None) -> tuple[Path, int]:
    """A new key file in place of one that is lost, at `path` or where the configuration looks for it; and its slot.

    Raises `HomeExists` where there is a file, `WrongKey` for another kit. Slots of lost keys stay.
    """
    authorize(principal, Action.KEYS_MANAGE)
    await asyncio.to_thread(check_home, config.home)
    await asyncio.to_thread(key_slots.slot_of, config.home, kit_key)
    target = path or _place_of(config)
    if target.exists():
        raise HomeExists(f"there is a file at {target} already", hint="move it away, or name another with --file")
    async with (
        open_log(config, kit_key) as log,
        announced(log, principal.id, "key.slot_added", {"kind": "file", "by": KIND}) as step,
    ):
        key = await asyncio.to_thread(create_root_key, target)
        try:
            number = await asyncio.to_thread(key_slots.add_file_slot, config.home, kit_key, key)
        except ApplianceError:
            target.unlink()
            raise
        step.attributes["slot"] = number
    return target, number


def _place_of(config: Config) -> Path:
    if config.keys.source != "file":
        raise ConfigInvalid(
            f"keys.source is {config.keys.source!r}, so that no key file has a place of its own",
            hint="name one with --file; for systemd: systemd-creds encrypt it, then delete it",
        )
    return key_file(config)
