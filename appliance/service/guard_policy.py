"""The policies about identifiers in chats: shown with how good the detector was measured to be, changed by an
administrator, each change recorded before it is visible.

    view = await show_guard(directory, registry, log, principal)
    await set_guard_policy(directory, log, principal, "cardiology", "mask")
    await assign_workspace(directory, log, principal, "ana", "cardiology")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.accounts.change import Change
from appliance.accounts.directory import Directory
from appliance.accounts.guard_rules import GuardRules
from appliance.audit.log import AuditLog
from appliance.errors import SpecialistNotFound
from appliance.service.accounts import recorded_change
from appliance.service.events import record_reading
from appliance.service.guard import DETECTOR, account_of
from appliance.specialists.registry import Registry
from appliance.types import AttributeValue, Principal

_SEES_ALL = frozenset({Action.GUARD_MANAGE, Action.AUDIT_READ_ALL})


@dataclass(frozen=True, slots=True)
class Measured:
    """The detector that is installed, and every measurement in its file; None where none is installed."""

    specialist: str
    version: str
    evaluations: tuple[dict[str, Any], ...]
    limits: str


@dataclass(frozen=True, slots=True)
class GuardView:
    """`rules` of everybody for an administrator or an auditor, else None; `workspace` and `policy` of the caller."""

    workspace: str
    policy: str
    rules: GuardRules | None
    measured: Measured | None


async def show_guard(directory: Directory, registry: Registry, log: AuditLog, principal: Principal) -> GuardView:
    """The caller's policy, and for an administrator or an auditor everybody's. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_LIST)
    await record_reading(log, principal, "guard.shown")
    rules = await asyncio.to_thread(directory.guard_rules)
    workspace, policy = rules.policy_of(account_of(principal))
    everything = rules if _SEES_ALL & actions_of(principal) else None
    return GuardView(workspace, policy, everything, await asyncio.to_thread(_measured, registry))


async def set_guard_policy(
    directory: Directory, log: AuditLog, principal: Principal, workspace: str, policy: str
) -> GuardRules:
    """What happens to identifiers in a workspace. Raises `PermissionDenied`, `InvalidRequest`, `Conflict`."""
    about: dict[str, AttributeValue] = {"workspace": workspace[:32], "policy": policy[:32]}
    return await _changed(
        directory, log, principal, "guard.policy_set", lambda change: change.set_guard_policy(workspace, policy), about
    )


async def assign_workspace(
    directory: Directory, log: AuditLog, principal: Principal, account: str, workspace: str
) -> GuardRules:
    """In which workspace an account works. Raises `PermissionDenied`, `InvalidRequest`, `AccountNotFound`."""
    about: dict[str, AttributeValue] = {"workspace": workspace[:32], "account": account[:64]}
    return await _changed(
        directory, log, principal, "guard.member_set", lambda change: change.assign_workspace(account, workspace), about
    )


async def _changed(
    directory: Directory,
    log: AuditLog,
    principal: Principal,
    event: str,
    work: Callable[[Change], GuardRules],
    about: dict[str, AttributeValue],
) -> GuardRules:
    authorize(principal, Action.GUARD_MANAGE)
    return await recorded_change(directory, log, principal.id, event, work, about, urgent=True)


def _measured(registry: Registry) -> Measured | None:
    try:
        manifest = registry.get(DETECTOR).manifest
    except SpecialistNotFound:
        return None
    evaluations = tuple(msgspec.to_builtins(one) for one in manifest.evaluation)
    return Measured(manifest.id, manifest.version, evaluations, manifest.limits)
