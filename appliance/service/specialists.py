"""Which specialists are installed, as the cards that people choose by."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.specialists.registry import Registry, SpecialistEntry
from appliance.types import Principal


def list_cards(registry: Registry, principal: Principal) -> list[dict[str, Any]]:
    """Every active specialist. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_LIST)
    return [card(entry) for entry in registry.list()]


def show_card(registry: Registry, principal: Principal, specialist: str) -> dict[str, Any]:
    """One specialist. Raises `PermissionDenied`, `SpecialistNotFound`."""
    authorize(principal, Action.SPECIALIST_LIST)
    return card(registry.get(specialist))


def card(entry: SpecialistEntry) -> dict[str, Any]:
    """What the file's manifest says of itself, and the hash that pins it."""
    return {"sha256": entry.sha256} | msgspec.to_builtins(entry.manifest)
