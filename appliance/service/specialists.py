"""Which specialists are installed, as the cards that people choose by. Every reading is recorded first."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.audit.log import AuditLog
from appliance.service.events import record_reading
from appliance.specialists.registry import Registry, SpecialistEntry
from appliance.types import Principal


async def list_cards(registry: Registry, log: AuditLog, principal: Principal) -> list[dict[str, Any]]:
    """Every active specialist. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_LIST)
    await record_reading(log, principal, "specialist.list")
    return [card(entry) for entry in await asyncio.to_thread(registry.list)]


async def show_card(registry: Registry, log: AuditLog, principal: Principal, specialist: str) -> dict[str, Any]:
    """One specialist. Raises `PermissionDenied`, `SpecialistNotFound`."""
    authorize(principal, Action.SPECIALIST_LIST)
    entry = await asyncio.to_thread(registry.get, specialist)
    await record_reading(log, principal, "specialist.show", {"specialist": entry.ref.id})
    return card(entry)


def card(entry: SpecialistEntry) -> dict[str, Any]:
    """What the file's manifest says of itself, and the hash that pins it."""
    return {"sha256": entry.sha256} | msgspec.to_builtins(entry.manifest)
