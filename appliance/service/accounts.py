"""Signing in and administering: each change and its audit record together or not at all.

    account = await create_account(directory, log, principal, "ana", password, ["user"])

The functions take the two rooms they need instead of the whole appliance: an administrator at a terminal should not
have to wait for an engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.accounts.api_keys import ApiKeyView
from appliance.accounts.change import Change
from appliance.accounts.directory import Directory
from appliance.accounts.sessions import SessionView, SignedIn
from appliance.accounts.views import AccountView
from appliance.audit.log import AuditLog
from appliance.errors import ApplianceError
from appliance.service.events import code_of, new_event
from appliance.types import AttributeValue, Outcome, Principal

T = TypeVar("T")
ANONYMOUS = "anonymous"


async def sign_in(directory: Directory, log: AuditLog, name: str, password: str, address: str) -> SignedIn:
    """A new browser session. Both the success and the refusal are recorded before the caller learns of either."""
    try:
        signed_in = await asyncio.to_thread(directory.sign_in, name, password, address)
    except ApplianceError as error:
        # The name that was typed may be a password in the wrong field: it is not recorded.
        await log.append(
            new_event("session.sign_in", ANONYMOUS, Outcome.REFUSED, {"error": error.code, "address": address})
        )
        raise
    principal = signed_in.session.principal
    try:
        await log.append(new_event("session.sign_in", principal.id, Outcome.COMPLETED, {"address": address}))
    except ApplianceError:
        await asyncio.to_thread(directory.sign_out, signed_in.secret)
        raise
    return signed_in


async def sign_out(directory: Directory, log: AuditLog, session: SessionView, secret: str) -> None:
    """End a browser session. It ends even if the end cannot be recorded."""
    await asyncio.to_thread(directory.sign_out, secret)
    await log.append(new_event("session.sign_out", session.principal.id, Outcome.COMPLETED))


async def create_setup_link(directory: Directory, log: AuditLog, principal: Principal, *, recover: bool = False) -> str:
    """The token of a one-time link that makes an administrator. Raises `Conflict` while there is one."""
    authorize(principal, Action.ACCOUNTS_MANAGE)
    return await _recorded(
        directory, log, principal.id, "setup.link_created", lambda change: change.create_setup_link(recover=recover)
    )


async def set_up(directory: Directory, log: AuditLog, token: str, name: str, password: str) -> AccountView:
    """Use the one-time link: the administrator that it was made for. Raises `SetupLinkInvalid`."""
    return await _recorded(
        directory, log, ANONYMOUS, "setup.link_used", lambda change: change.use_setup_link(token, name, password)
    )


async def create_account(
    directory: Directory, log: AuditLog, principal: Principal, name: str, password: str, roles: Sequence[str]
) -> AccountView:
    """A new account. Raises `PermissionDenied`, `InvalidRequest`, `AccountExists`."""
    return await _administered(
        directory,
        log,
        principal,
        "account.created",
        lambda change: change.create_account(name, password, roles),
        {"account": name[:64], "roles": " ".join(sorted(roles))[:64]},
    )


async def list_accounts(directory: Directory, principal: Principal) -> tuple[AccountView, ...]:
    """Every account. Raises `PermissionDenied`."""
    authorize(principal, Action.ACCOUNTS_MANAGE)
    return tuple(await asyncio.to_thread(directory.list_accounts))


async def disable_account(directory: Directory, log: AuditLog, principal: Principal, name: str) -> AccountView:
    """The account may do nothing any more, at once. Raises `PermissionDenied`, `AccountNotFound`, `Conflict`."""
    work: Callable[[Change], AccountView] = lambda change: change.disable_account(name)  # noqa: E731
    return await _administered(directory, log, principal, "account.disabled", work, {"account": name[:64]})


async def enable_account(directory: Directory, log: AuditLog, principal: Principal, name: str) -> AccountView:
    """A disabled account works again. Raises `PermissionDenied`, `AccountNotFound`."""
    work: Callable[[Change], AccountView] = lambda change: change.enable_account(name)  # noqa: E731
    return await _administered(directory, log, principal, "account.enabled", work, {"account": name[:64]})


async def create_api_key(
    directory: Directory,
    log: AuditLog,
    principal: Principal,
    owner: str,
    name: str,
    scopes: Sequence[str],
    days: int | None,
) -> tuple[ApiKeyView, str]:
    """A new key and its text, shown once: one's own, or an administrator's for anybody."""
    _authorize_keys(principal, owner)
    return await _recorded(
        directory,
        log,
        principal.id,
        "api_key.created",
        lambda change: change.create_api_key(owner, name, scopes, days),
        {"account": owner[:64], "scopes": " ".join(sorted(scopes))[:512]},
    )


async def list_api_keys(directory: Directory, principal: Principal) -> tuple[ApiKeyView, ...]:
    """An administrator sees every key, everybody else their own; secrets nobody. Raises `PermissionDenied`."""
    owner = None if Action.API_KEYS_MANAGE in actions_of(principal) else principal.name
    if owner is not None:
        authorize(principal, Action.API_KEYS_OWN)
    return tuple(await asyncio.to_thread(directory.list_api_keys, owner=owner))


async def revoke_api_key(directory: Directory, log: AuditLog, principal: Principal, key_id: int) -> ApiKeyView:
    """The key is refused at once. Raises `PermissionDenied`, `NotFound` (also for another's key)."""
    owner = None if Action.API_KEYS_MANAGE in actions_of(principal) else principal.name
    _authorize_keys(principal, owner)
    return await _recorded(
        directory,
        log,
        principal.id,
        "api_key.revoked",
        lambda change: change.revoke_api_key(key_id, owner=owner),
        {"api_key": key_id},
    )


def _authorize_keys(principal: Principal, owner: str | None) -> None:
    own = owner is not None and owner.casefold() == principal.name.casefold()
    authorize(principal, Action.API_KEYS_OWN if own else Action.API_KEYS_MANAGE)


async def _administered(
    directory: Directory,
    log: AuditLog,
    principal: Principal,
    event: str,
    work: Callable[[Change], T],
    attributes: dict[str, AttributeValue],
) -> T:
    authorize(principal, Action.ACCOUNTS_MANAGE)
    return await _recorded(directory, log, principal.id, event, work, attributes)


async def _recorded(
    directory: Directory,
    log: AuditLog,
    actor: str,
    event: str,
    work: Callable[[Change], T],
    attributes: dict[str, AttributeValue] | None = None,
) -> T:
    """Do `work`, record it durably, then make it visible. A refusal is recorded too.

    The record comes first: a change without a record cannot happen. If the process dies before the commit, the
    record names a change that is not there; the next start voids it (`service/recovery.py`).
    """
    announced = new_event(event, actor, Outcome.COMPLETED, attributes)
    try:
        with directory.change(announced.record_id, by=actor) as change:
            result = await asyncio.to_thread(work, change)
            await log.append(announced)
            await asyncio.to_thread(change.commit)
    except ApplianceError as error:
        refused: dict[str, AttributeValue] = {"error": code_of(error), **(attributes or {})}
        await log.append(new_event(event, actor, Outcome.REFUSED, refused))
        raise
    return result
