"""Which specialists are installed, as the cards that people choose by. Every reading is recorded first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.audit.log import AuditLog
from appliance.config import Config
from appliance.errors import SpecialistNotFound
from appliance.service.events import record_reading
from appliance.service.rooms import open_app_database
from appliance.specialists.registry import Registry, SpecialistEntry
from appliance.specialists.router_evidence import routing_evidence
from appliance.types import Principal


@contextmanager
def open_registry(config: Config) -> Iterator[Registry]:
    """The registry of specialists alone."""
    with open_app_database(config) as engine:
        yield Registry(engine, config.home, config.specialists)


async def list_cards(registry: Registry, log: AuditLog, principal: Principal) -> list[dict[str, Any]]:
    """Every active specialist. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_LIST)
    await record_reading(log, principal, "specialist.list")
    return [card(entry) for entry in await asyncio.to_thread(registry.list)]


async def show_card(registry: Registry, log: AuditLog, principal: Principal, specialist: str) -> dict[str, Any]:
    """One specialist. `routing`: how well the router finds it, None where that was not measured.

    Raises `PermissionDenied`, `SpecialistNotFound`.
    """
    authorize(principal, Action.SPECIALIST_LIST)
    entry = await asyncio.to_thread(registry.get, specialist)
    await record_reading(log, principal, "specialist.show", {"specialist": entry.ref.id})
    found = await asyncio.to_thread(routing_evidence, entry.ref.id, entry.manifest.base.weights_sha256)
    return card(entry) | {"routing": found}


async def list_versions(
    registry: Registry, log: AuditLog, principal: Principal, specialist: str | None = None
) -> list[dict[str, Any]]:
    """Every installed version of one specialist, or of all (None), the latest installation first.

    Raises `PermissionDenied`, `SpecialistNotFound` for an id of which nothing is installed.
    """
    authorize(principal, Action.SPECIALIST_LIST)
    await record_reading(log, principal, "specialist.versions", {"specialist": specialist[:64]} if specialist else None)
    if specialist is None:
        return [version_card(entry) for entry in await asyncio.to_thread(registry.every_version)]
    entries = await asyncio.to_thread(registry.versions, specialist)
    if not entries:
        raise SpecialistNotFound(
            f"no version of {specialist[:64]!r} is installed", hint="`appliance specialists list` shows what is"
        )
    return [version_card(entry) for entry in entries]


def card(entry: SpecialistEntry) -> dict[str, Any]:
    """What the file's manifest says of itself, the hash that pins it, and who let it in."""
    return {"sha256": entry.sha256} | msgspec.to_builtins(entry.manifest) | _life(entry)


def version_card(entry: SpecialistEntry) -> dict[str, Any]:
    """One installed version without its manifest."""
    manifest = entry.manifest
    named = {"id": manifest.id, "version": manifest.version, "name": manifest.name, "task": manifest.task.value}
    return named | {"sha256": entry.sha256, "size_bytes": entry.size_bytes} | _life(entry)


def _life(entry: SpecialistEntry) -> dict[str, Any]:
    row = entry.row
    return {
        "state": entry.state,
        "admitted": entry.admitted,
        "signed": row.signer is not None,
        "signer": row.signer,
        "reason": row.reason,
        "installed_by": row.installed_by.partition(":")[2],
        "installed_at": _time(row.installed_ms),
        "approved_by": row.approved_by,
        "approved_at": _time(row.approved_ms),
        "promoted_by": row.promoted_by,
        "promoted_at": _time(row.promoted_ms),
    }


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
